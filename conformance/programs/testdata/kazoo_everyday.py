"""What programs do with kazoo every day. Prints what a reader would expect of any server.

Arguments: the addresses of the servers, as one connection string.
"""

import logging
import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
)
from kazoo.protocol.states import EventType
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.partitioner import SetPartitioner
from kazoo.security import make_acl, make_digest_acl

logging.basicConfig(level=logging.ERROR)
HOSTS = sys.argv[1]
LONG = 20


def connect(**options):
    client = KazooClient(hosts=HOSTS, timeout=10, **options)
    client.start(timeout=LONG)
    return client


def wait(what, condition):
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never: " + what)


def name_of(exception):
    return type(exception).__name__


def attempt(title, call, *args, **kwargs):
    try:
        print(title, call(*args, **kwargs))
    except KazooException as e:
        print(title, name_of(e))


def basics(one, two):
    one.ensure_path("/basics/deep/path")
    attempt("create", one.create, "/basics/x", b"1")
    attempt("again", one.create, "/basics/x", b"1")
    attempt("no parent", one.create, "/basics/no/parent", b"1")
    attempt("makepath", one.create, "/basics/made/for/it", b"", makepath=True)
    attempt("sequence", one.create, "/basics/s-", b"", sequence=True)
    attempt("sequence", one.create, "/basics/s-", b"", sequence=True, ephemeral=True)
    print("with stat", one.create("/basics/stat", b"abc", include_data=True)[1].dataLength)
    two.sync("/")
    data, stat = two.get("/basics/x")
    print("get", data, stat.version, stat.cversion, stat.aversion, stat.dataLength, stat.numChildren, stat.ephemeralOwner)
    print("set", one.set("/basics/x", b"22", version=0).version)
    attempt("stale", one.set, "/basics/x", b"22", version=0)
    attempt("not empty", one.delete, "/basics/deep")
    attempt("bad version", one.delete, "/basics/x", version=7)
    print("children", sorted(one.get_children("/basics")))
    kids, stat = one.get_children("/basics", include_data=True)
    print("cversion", stat.cversion, stat.numChildren)
    one.delete("/basics", recursive=True)
    print("gone", one.exists("/basics"))


def transactions(one, two):
    one.create("/tx")
    tx = one.transaction()
    tx.create("/tx/a", b"1")
    tx.check("/tx/a", 0)
    tx.set_data("/tx/a", b"2", version=0)
    tx.create("/tx/s", b"", sequence=True)
    results = tx.commit()
    print("committed", [r if isinstance(r, (str, bool)) else r.version for r in results])
    tx = one.transaction()
    tx.create("/tx/b")
    tx.delete("/tx/missing")
    tx.create("/tx/c")
    print("failed", [name_of(r) for r in tx.commit()])
    print("left", sorted(one.get_children("/tx")))


def watches(one, two):
    one.create("/watched", b"0")
    seen, kids, events = [], [], []
    two.sync("/")
    two.DataWatch("/watched")(lambda data, stat: seen.append(data))
    two.ChildrenWatch("/watched")(lambda children: kids.append(sorted(children)))
    for n in (b"1", b"2"):
        one.set("/watched", n)
        wait("data", lambda: seen and seen[-1] == n)
    one.create("/watched/a")
    wait("child", lambda: kids[-1] == ["a"])
    one.create("/watched/b")
    wait("children", lambda: kids[-1] == ["a", "b"])
    print("data watch", seen)
    print("children watch", kids)
    two.get("/watched/a", watch=lambda e: events.append((e.type, e.path)))
    two.exists("/watched/c", watch=lambda e: events.append((e.type, e.path)))
    one.create("/watched/c")
    one.delete("/watched/a")
    wait("events", lambda: len(events) == 2)
    print("events", events)
    one.delete("/watched", recursive=True)


def access(one, two):
    owner = connect(auth_data=[("digest", "owner:secret")])
    owner.create("/private", b"mine", acl=[make_digest_acl("owner", "secret", all=True)])
    two.sync("/")
    attempt("get", two.get, "/private")
    attempt("set", two.set, "/private", b"yours")
    attempt("get_acls", two.get_acls, "/private")
    two.add_auth("digest", "owner:secret")
    attempt("get", lambda: two.get("/private")[0])
    acls, stat = two.get_acls("/private")
    print("acls", [(a.perms, a.id.scheme, a.id.id) for a in acls], stat.aversion)
    print("set_acls", owner.set_acls("/private", [make_acl("world", "anyone", read=True), make_acl("auth", "", all=True)]).aversion)
    print("acls", [(a.perms, a.id.scheme, a.id.id) for a in owner.get_acls("/private")[0]])
    owner.delete("/private")
    owner.stop()
    owner.close()


def locks(one, two):
    order, inside = [], []
    lock, other = one.Lock("/lock", "one"), two.Lock("/lock", "two")
    lock.acquire()
    print("tried", other.acquire(blocking=False))

    def contend():
        with other:
            order.append("two")

    thread = threading.Thread(target=contend)
    thread.start()
    wait("contender", lambda: len(lock.contenders()) == 2)
    print("contenders", lock.contenders())
    order.append("one")
    lock.release()
    thread.join(LONG)
    print("order", order)
    readers = [one.ReadLock("/rw", "r1"), two.ReadLock("/rw", "r2")]
    for r in readers:
        r.acquire()
    writer = two.WriteLock("/rw", "w")
    print("writer beside readers", writer.acquire(blocking=False))
    for r in readers:
        r.release()
    print("writer", writer.acquire(timeout=LONG))
    writer.release()
    semaphores = [c.Semaphore("/semaphore", "s", max_leases=2) for c in (one, two, one)]
    print("leases", [s.acquire(blocking=False) for s in semaphores])
    print("holders", semaphores[0].lease_holders())
    for s in semaphores[:2]:
        s.release()


def elections(one, two):
    led = []
    second = threading.Event()
    first = threading.Event()

    def lead_one():
        led.append("one")
        first.set()
        second.wait(LONG)

    election, other = one.Election("/election", "one"), two.Election("/election", "two")
    t1 = threading.Thread(target=election.run, args=(lead_one,))
    t1.start()
    first.wait(LONG)
    t2 = threading.Thread(target=other.run, args=(led.append, "two"))
    t2.start()
    wait("contenders", lambda: len(one.Election("/election", "x").contenders()) == 2)
    second.set()
    t1.join(LONG)
    t2.join(LONG)
    print("led", led)


def queues(one, two):
    queue = one.Queue("/queue")
    for item, priority in ((b"late", 200), (b"first", 1), (b"middle", 100)):
        queue.put(item, priority)
    two.sync("/")
    print("queue", len(two.Queue("/queue")), [two.Queue("/queue").get() for _ in range(4)])
    locking = one.LockingQueue("/locking")
    locking.put_all([b"a", b"b"])
    two.sync("/")
    taker = two.LockingQueue("/locking")
    print("locked", taker.get(LONG), taker.holds_lock(), taker.consume())
    print("left", locking.get(LONG), locking.consume())


def meetings(one, two):
    barrier = one.Barrier("/barrier")
    barrier.create()
    print("closed", two.Barrier("/barrier").wait(0.1))
    barrier.remove()
    print("open", two.Barrier("/barrier").wait(LONG))
    doubles = [one.DoubleBarrier("/double", 2, "one"), two.DoubleBarrier("/double", 2, "two")]
    for step in ("enter", "leave"):
        threads = [threading.Thread(target=getattr(d, step)) for d in doubles]
        for t in threads:
            t.start()
        for t in threads:
            t.join(LONG)
        print(step, [d.participating for d in doubles])
    party = [one.Party("/party", "one"), two.Party("/party", "two")]
    for p in party:
        p.join()
    one.sync("/")
    print("party", sorted(party[0]), len(party[0]))
    party[1].leave()
    one.sync("/")
    print("party", sorted(party[0]))
    partition = SetPartitioner(one, "/partition", set=("p1", "p2"), time_boundary=0.2)
    wait("partition", lambda: partition.state == "ACQUIRED" or partition.wait_for_acquire(1))
    print("partition", sorted(partition))
    partition.finish()


def counting(one, two):
    counter = one.Counter("/counter", default=5)
    counter += 3
    two.sync("/")
    print("counter", two.Counter("/counter", default=5).value)
    counter -= 1
    print("counter", counter.value)
    floats = one.Counter("/floats", default=1.5)
    floats += 2.25
    print("floats", floats.value)


def caches(one, two):
    one.create("/cached/a", b"1", makepath=True)
    two.sync("/")
    events = []
    cache = TreeCache(two, "/cached")
    cache.listen(lambda e: events.append(e.event_type))
    cache.start()
    wait("initialized", lambda: TreeEvent.INITIALIZED in events)
    one.create("/cached/b", b"2")
    one.set("/cached/a", b"3")
    wait("cache", lambda: cache.get_data("/cached/b") and cache.get_data("/cached/a").data == b"3")
    print("cache", sorted(cache.get_children("/cached")), cache.get_data("/cached/a").data)
    one.delete("/cached/b")
    wait("removal", lambda: cache.get_data("/cached/b") is None)
    cache.close()


def sessions(one, two):
    three = connect()
    states = []
    three.add_listener(states.append)
    three.create("/mortal", ephemeral=True)
    two.sync("/")
    print("owner", two.exists("/mortal").ephemeralOwner == three.client_id[0])
    print("password", len(three.client_id[1]))
    gone = threading.Event()
    two.exists("/mortal", watch=lambda e: gone.set())
    three.stop()
    print("gone", gone.wait(LONG))
    three.close()


def chroots(one, two):
    one.ensure_path("/chroot")
    inner = KazooClient(hosts=HOSTS + "/chroot", timeout=10)
    inner.start(timeout=LONG)
    print("inner", inner.create("/x", b"in"))
    print("outer", one.get("/chroot/x")[0])
    inner.stop()
    inner.close()


def main():
    one, two = connect(), connect()
    print("version", one.server_version()[0] >= 3)
    for part in (basics, transactions, watches, access, locks, elections, queues, meetings, counting, caches, sessions, chroots):
        print("==", part.__name__)
        part(one, two)
    for client in (one, two):
        client.stop()
        client.close()


main()
