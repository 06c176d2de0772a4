"""Has the server that it talks to killed, again and again, and looks at what it keeps.

Arguments: how often, and the addresses of the servers. It prints "kill ADDRESS" and
"start ADDRESS", waits for a line that says that this was done, and prints what a reader
would expect of any server.
"""

import logging
import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.retry import KazooRetry

logging.basicConfig(level=logging.CRITICAL)
ROUNDS, HOSTS = int(sys.argv[1]), sys.argv[2].split(",")
LONG = 60


def connect(hosts):
    client = KazooClient(
        hosts=",".join(hosts),
        timeout=15,
        connection_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5),
        command_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5),
    )
    client.start(timeout=LONG)
    return client


def wait(what, condition):
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never: " + what)


def server_of(client):
    return "%s:%d" % client._connection._socket.getpeername()[:2]


def have(what, server):
    print(what, server, flush=True)
    if sys.stdin.readline().strip() != "done":
        raise AssertionError("nobody does it")


def main():
    client = connect(HOSTS)
    states, data, children = [], [], []
    client.add_listener(states.append)
    client.ensure_path("/kept/children")
    client.DataWatch("/kept")(lambda value, stat: data.append(value))
    client.ChildrenWatch("/kept/children")(lambda names: children.append(sorted(names)))
    client.create("/kept/ephemeral", ephemeral=True)
    lock = client.Lock("/lock", "the client")
    lock.acquire()
    session = client.client_id

    for n in range(ROUNDS):
        print("== round", n)
        killed = server_of(client)
        other = connect([h for h in HOSTS if h != killed])
        waits = client.Lock("/other%d" % n, "the client")
        held = other.Lock("/other%d" % n, "another client")
        held.acquire()
        got = threading.Event()
        contender = threading.Thread(target=lambda: waits.acquire() and got.set())
        contender.start()
        wait("contender", lambda: len(held.contenders()) == 2)
        del states[:]

        have("kill", killed)
        other.retry(other.set, "/kept", b"meanwhile %d" % n)
        other.retry(other.ensure_path, "/kept/children/meanwhile-%d" % n)
        wait("connection", lambda: KazooState.CONNECTED in states)
        print("lost", KazooState.LOST in states)
        print("same session", client.client_id == session)
        print("another server", server_of(client) != killed)
        wait("data", lambda: data[-1] == b"meanwhile %d" % n)
        wait("children", lambda: "meanwhile-%d" % n in children[-1])
        for step in ("later", "and later"):
            other.retry(other.set, "/kept", b"%s %d" % (step.encode(), n))
            wait("data", lambda: data[-1] == b"%s %d" % (step.encode(), n))
            other.retry(other.ensure_path, "/kept/children/%s-%d" % (step, n))
            wait("children", lambda: "%s-%d" % (step, n) in children[-1])
        print("ephemeral", other.retry(other.exists, "/kept/ephemeral").ephemeralOwner == session[0])
        print("lock", lock.is_acquired, other.retry(other.Lock("/lock", "x").contenders))
        print("lock of another", other.retry(other.Lock("/lock", "another client").acquire, blocking=False))
        print("waits", not got.is_set())
        held.release()
        contender.join(LONG)
        print("got what it waited for", got.is_set())
        waits.release()
        have("start", killed)
        other.stop()
        other.close()

    lock.release()
    client.stop()
    client.close()


main()
