"""Talks to a server by TLS. Prints what a reader would expect of any server.

Arguments: the address of a server for clients with and without TLS, and files: the
authority, a client's certificate, and its key.
"""

import logging
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.retry import KazooRetry
from kazoo.security import make_acl

logging.basicConfig(level=logging.CRITICAL)
ADDRESS, AUTHORITY, CERTIFICATE, KEY = sys.argv[1:]


def connect(seconds=20, **options):
    client = KazooClient(hosts=ADDRESS, timeout=10, connection_retry=KazooRetry(max_tries=2, delay=0.1), **options)
    client.start(timeout=seconds)
    return client


def main():
    known = connect(use_ssl=True, verify_certs=True, ca=AUTHORITY, certfile=CERTIFICATE, keyfile=KEY)
    print("create", known.create("/tls", b"x" * 100000, acl=[make_acl("auth", "", all=True)]))
    print("acl", [(a.id.scheme, a.id.id) for a in known.get_acls("/tls")[0]])
    print("data", len(known.get("/tls")[0]))
    plain = connect()
    try:
        plain.sync("/tls")
        plain.get("/tls")
    except NoAuthError:
        print("without a certificate: not allowed")
    try:
        connect(seconds=2, use_ssl=True, verify_certs=True, ca=AUTHORITY)
    except Exception:
        print("TLS without a certificate: no connection")
    for client in (known, plain):
        client.stop()
        client.close()


main()
