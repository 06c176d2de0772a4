// What programs do with Curator every day. Prints what a reader would expect of any
// server. Argument: the addresses of the servers, as one connection string.

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.ACLProvider;
import org.apache.curator.framework.api.CuratorEvent;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.PromotedToLock;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCacheEvent;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.cache.TreeCacheEvent;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.BlockingQueueConsumer;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.utils.ZKPaths;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

public class Everyday {
    static final int LONG = 20; // seconds
    static final int SESSION = 10_000; // milliseconds

    static String hosts;
    static ExecutorService threads = Executors.newCachedThreadPool(task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });

    interface Part {
        void run(CuratorFramework one, CuratorFramework two) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        hosts = args[0];
        try (CuratorFramework one = connect(); CuratorFramework two = connect()) {
            part("basics", Everyday::basics, one, two);
            part("background", Everyday::background, one, two);
            part("transactions", Everyday::transactions, one, two);
            part("watches", Everyday::watches, one, two);
            part("locks", Everyday::locks, one, two);
            part("leaders", Everyday::leaders, one, two);
            part("caches", Everyday::caches, one, two);
            part("curator cache", Everyday::curatorCache, one, two);
            part("barriers", Everyday::barriers, one, two);
            part("counters", Everyday::counters, one, two);
            part("nodes", Everyday::nodes, one, two);
            part("queues", Everyday::queues, one, two);
            part("lifetimes", Everyday::lifetimes, one, two);
            part("access", Everyday::access, one, two);
            part("namespaces", Everyday::namespaces, one, two);
            part("lost sessions", Everyday::lostSessions, one, two);
        }
        System.exit(0); // some recipes leave threads that are no daemons
    }

    static void part(String name, Part part, CuratorFramework one, CuratorFramework two) throws Exception {
        print("==", name);
        part.run(one, two);
    }

    static CuratorFramework connect() throws Exception {
        return started(CuratorFrameworkFactory.builder());
    }

    static CuratorFramework started(CuratorFrameworkFactory.Builder builder) throws Exception {
        CuratorFramework client = builder.connectString(hosts).sessionTimeoutMs(SESSION)
            .connectionTimeoutMs(SESSION).retryPolicy(new ExponentialBackoffRetry(50, 10)).build();
        client.start();
        if (!client.blockUntilConnected(LONG, TimeUnit.SECONDS)) {
            throw new AssertionError("no connection");
        }
        return client;
    }

    static void print(String title, Object... values) {
        StringBuilder line = new StringBuilder(title);
        for (Object value : values) {
            line.append(' ').append(value);
        }
        System.out.println(line);
    }

    static void attempt(String title, Callable<?> call) throws Exception {
        try {
            print(title, call.call());
        } catch (KeeperException e) {
            print(title, e.code());
        }
    }

    static void await(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(LONG);
        while (!condition.call()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("never: " + what);
            }
            Thread.sleep(10);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] data) {
        return data == null ? "null" : new String(data, StandardCharsets.UTF_8);
    }

    static <T> TreeSet<T> sorted(Collection<T> values) {
        return new TreeSet<>(values);
    }

    // catchUp has a client see what others have written.
    static void catchUp(CuratorFramework client) throws Exception {
        CountDownLatch done = new CountDownLatch(1);
        client.sync().inBackground((c, event) -> done.countDown()).forPath("/");
        if (!done.await(LONG, TimeUnit.SECONDS)) {
            throw new AssertionError("no answer to sync");
        }
    }

    static void basics(CuratorFramework one, CuratorFramework two) throws Exception {
        attempt("create", () -> one.create().creatingParentsIfNeeded().forPath("/basics/deep/x", bytes("1")));
        attempt("again", () -> one.create().forPath("/basics/deep/x", bytes("1")));
        attempt("no parent", () -> one.create().forPath("/basics/no/parent"));
        attempt("or set", () -> one.create().orSetData().forPath("/basics/deep/x", bytes("22")));
        attempt("sequence", () -> one.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/basics/s-"));
        String guarded = one.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/basics/p-");
        print("protected", guarded.matches("/basics/_c_[-0-9a-f]{36}-p-0000000002"));
        one.delete().guaranteed().forPath(guarded);
        attempt("idempotent", () -> one.create().idempotent().forPath("/basics/same", bytes("1")));
        attempt("idempotent", () -> one.create().idempotent().forPath("/basics/same", bytes("1")));
        attempt("compressed", () -> one.create().compressed().forPath("/basics/zip", bytes("squeezed")));
        catchUp(two);
        print("decompressed", text(two.getData().decompressed().forPath("/basics/zip")));
        Stat stat = new Stat();
        print("get", text(two.getData().storingStatIn(stat).forPath("/basics/deep/x")), stat.getVersion(), stat.getDataLength(), stat.getNumChildren(), stat.getEphemeralOwner());
        attempt("set", () -> one.setData().withVersion(1).forPath("/basics/deep/x", bytes("333")).getVersion());
        attempt("stale", () -> one.setData().withVersion(1).forPath("/basics/deep/x", bytes("333")));
        attempt("stale delete", () -> one.delete().withVersion(1).forPath("/basics/deep/x"));
        attempt("not empty", () -> one.delete().forPath("/basics/deep"));
        attempt("quietly", () -> one.delete().quietly().forPath("/basics/none"));
        attempt("children", () -> sorted(one.getChildren().forPath("/basics")));
        one.delete().guaranteed().deletingChildrenIfNeeded().forPath("/basics");
        attempt("exists", () -> one.checkExists().forPath("/basics"));
        attempt("children", () -> one.getChildren().forPath("/basics"));
        attempt("config", () -> one.getConfig().forEnsemble() != null);
    }

    static void background(CuratorFramework one, CuratorFramework two) throws Exception {
        final int many = 200;
        BlockingQueue<CuratorEvent> answers = new LinkedBlockingQueue<>();
        one.create().forPath("/background");
        for (int i = 0; i < many; i++) {
            one.create().inBackground((c, event) -> answers.add(event)).forPath("/background/" + i);
        }
        one.getChildren().inBackground((c, event) -> answers.add(event)).forPath("/background");
        one.delete().inBackground((c, event) -> answers.add(event)).forPath("/background");
        boolean inOrder = true;
        for (int i = 0; i < many; i++) {
            CuratorEvent event = answers.poll(LONG, TimeUnit.SECONDS);
            inOrder &= event.getResultCode() == 0 && event.getPath().equals("/background/" + i);
        }
        print("in order", inOrder);
        CuratorEvent event = answers.poll(LONG, TimeUnit.SECONDS);
        print("seen behind them", event.getType(), event.getChildren().size());
        event = answers.poll(LONG, TimeUnit.SECONDS);
        print("then", event.getType(), KeeperException.Code.get(event.getResultCode()));
        one.delete().deletingChildrenIfNeeded().forPath("/background");
    }

    static void transactions(CuratorFramework one, CuratorFramework two) throws Exception {
        one.create().forPath("/tx");
        Callable<String> good = () -> {
            StringBuilder results = new StringBuilder();
            for (CuratorTransactionResult r : one.transaction().forOperations(
                one.transactionOp().create().forPath("/tx/a", bytes("1")),
                one.transactionOp().check().withVersion(0).forPath("/tx/a"),
                one.transactionOp().setData().withVersion(0).forPath("/tx/a", bytes("2")),
                one.transactionOp().create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/tx/s-"),
                one.transactionOp().create().withTtl(60_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/tx/ttl"),
                one.transactionOp().create().withMode(CreateMode.CONTAINER).forPath("/tx/container"),
                one.transactionOp().delete().forPath("/tx/container"))) {
                Stat stat = r.getResultStat();
                results.append(r.getType()).append(' ').append(r.getForPath()).append(' ').append(r.getResultPath())
                    .append(' ').append(stat == null ? "-" : stat.getVersion()).append("; ");
            }
            return results.toString();
        };
        attempt("committed", good);
        try {
            one.transaction().forOperations(
                one.transactionOp().create().forPath("/tx/b"),
                one.transactionOp().delete().forPath("/tx/none"),
                one.transactionOp().create().forPath("/tx/c"));
        } catch (KeeperException e) {
            List<Object> codes = new ArrayList<>();
            e.getResults().forEach(r -> codes.add(r instanceof org.apache.zookeeper.OpResult.ErrorResult
                ? KeeperException.Code.get(((org.apache.zookeeper.OpResult.ErrorResult) r).getErr()) : r.getType()));
            print("failed", e.code(), e.getPath(), codes);
        }
        attempt("left", () -> sorted(one.getChildren().forPath("/tx")));
        one.delete().deletingChildrenIfNeeded().forPath("/tx");
    }

    static void watches(CuratorFramework one, CuratorFramework two) throws Exception {
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        one.create().forPath("/watched");
        catchUp(two);
        two.getData().usingWatcher((Watcher) e -> events.add(e.getType() + " " + e.getPath())).forPath("/watched");
        one.setData().forPath("/watched", bytes("1"));
        print("event", events.poll(LONG, TimeUnit.SECONDS));
        two.checkExists().usingWatcher((Watcher) e -> events.add(e.getType() + " " + e.getPath())).forPath("/watched/a");
        one.create().forPath("/watched/a");
        print("event", events.poll(LONG, TimeUnit.SECONDS));
        two.getChildren().usingWatcher((Watcher) e -> events.add(e.getType() + " " + e.getPath())).forPath("/watched");
        one.create().forPath("/watched/b");
        print("event", events.poll(LONG, TimeUnit.SECONDS));
        Watcher persistent = e -> events.add(e.getType() + " " + e.getPath());
        two.watchers().add().withMode(AddWatchMode.PERSISTENT).usingWatcher(persistent).forPath("/watched");
        one.setData().forPath("/watched", bytes("2"));
        one.create().forPath("/watched/c");
        for (int i = 0; i < 2; i++) {
            print("persistent", events.poll(LONG, TimeUnit.SECONDS));
        }
        two.watchers().remove(persistent).forPath("/watched");
        print("removed", events.poll(LONG, TimeUnit.SECONDS));
        // Elsewhere: before 3.9 a server keeps one mode for a path and connection.
        one.create().creatingParentsIfNeeded().forPath("/watched/deep/a");
        catchUp(two);
        try (PersistentWatcher recursive = new PersistentWatcher(two, "/watched/deep", true)) {
            CountDownLatch ready = new CountDownLatch(1);
            recursive.getListenable().addListener(e -> events.add(e.getType() + " " + e.getPath()));
            recursive.getResetListenable().addListener(ready::countDown);
            recursive.start();
            ready.await(LONG, TimeUnit.SECONDS);
            one.create().forPath("/watched/deep/a/b");
            one.setData().forPath("/watched/deep/a", bytes("1"));
            one.delete().deletingChildrenIfNeeded().forPath("/watched/deep");
            for (int i = 0; i < 5; i++) {
                print("recursive", events.poll(LONG, TimeUnit.SECONDS));
            }
        }
        one.delete().deletingChildrenIfNeeded().forPath("/watched");
    }

    static void locks(CuratorFramework one, CuratorFramework two) throws Exception {
        InterProcessMutex mutex = new InterProcessMutex(one, "/locks/mutex");
        InterProcessMutex other = new InterProcessMutex(two, "/locks/mutex");
        mutex.acquire();
        print("re-entrant", mutex.acquire(LONG, TimeUnit.SECONDS));
        print("held", other.acquire(50, TimeUnit.MILLISECONDS));
        Future<Boolean> waiting = threads.submit(() -> {
            boolean got = other.acquire(LONG, TimeUnit.SECONDS);
            other.release();
            return got;
        });
        await("a second participant", () -> mutex.getParticipantNodes().size() == 2);
        mutex.release();
        print("still held", mutex.isAcquiredInThisProcess(), waiting.isDone());
        mutex.release();
        print("handed on", waiting.get());

        InterProcessReadWriteLock rw = new InterProcessReadWriteLock(one, "/locks/rw");
        InterProcessReadWriteLock otherRW = new InterProcessReadWriteLock(two, "/locks/rw");
        rw.readLock().acquire();
        print("two readers", otherRW.readLock().acquire(LONG, TimeUnit.SECONDS));
        otherRW.readLock().release();
        print("writer beside a reader", otherRW.writeLock().acquire(50, TimeUnit.MILLISECONDS));
        rw.readLock().release();
        print("writer", otherRW.writeLock().acquire(LONG, TimeUnit.SECONDS), otherRW.readLock().acquire(LONG, TimeUnit.SECONDS));
        otherRW.writeLock().release();
        otherRW.readLock().release();

        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(one, "/locks/semaphore", 3);
        InterProcessSemaphoreV2 otherSemaphore = new InterProcessSemaphoreV2(two, "/locks/semaphore", 3);
        Collection<Lease> leases = semaphore.acquire(2);
        Lease third = otherSemaphore.acquire(LONG, TimeUnit.SECONDS);
        print("leases", leases.size(), third != null, otherSemaphore.acquire(50, TimeUnit.MILLISECONDS));
        semaphore.returnAll(leases);
        otherSemaphore.returnLease(third);

        InterProcessMultiLock multi = new InterProcessMultiLock(List.of(
            new InterProcessSemaphoreMutex(one, "/locks/m1"), new InterProcessMutex(one, "/locks/m2")));
        print("multi", multi.acquire(LONG, TimeUnit.SECONDS));
        print("part of it", new InterProcessSemaphoreMutex(two, "/locks/m1").acquire(50, TimeUnit.MILLISECONDS));
        multi.release();
    }

    static void leaders(CuratorFramework one, CuratorFramework two) throws Exception {
        LeaderLatch first = new LeaderLatch(one, "/leaders/latch", "first");
        LeaderLatch second = new LeaderLatch(two, "/leaders/latch", "second");
        first.start();
        print("leads", first.await(LONG, TimeUnit.SECONDS));
        second.start();
        await("two participants", () -> first.getParticipants().size() == 2);
        print("leader", second.getLeader().getId(), second.hasLeadership());
        first.close();
        print("then", second.await(LONG, TimeUnit.SECONDS), second.getLeader().getId());
        second.close();

        BlockingQueue<String> led = new LinkedBlockingQueue<>();
        List<LeaderSelector> selectors = new ArrayList<>();
        CountDownLatch end = new CountDownLatch(1);
        for (CuratorFramework client : List.of(one, two)) {
            String name = client == one ? "one" : "two";
            LeaderSelector selector = new LeaderSelector(client, "/leaders/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework c) throws Exception {
                    led.add(name);
                    end.await(LONG, TimeUnit.SECONDS);
                }
            });
            selector.setId(name);
            selector.start();
            selectors.add(selector);
            await("participants", () -> selector.getParticipants().size() == selectors.size());
        }
        print("selected", led.poll(LONG, TimeUnit.SECONDS));
        end.countDown();
        print("selected", led.poll(LONG, TimeUnit.SECONDS));
        selectors.forEach(LeaderSelector::close);
    }

    static void caches(CuratorFramework one, CuratorFramework two) throws Exception {
        one.create().creatingParentsIfNeeded().forPath("/cached/a", bytes("1"));
        catchUp(two);
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        try (PathChildrenCache cache = new PathChildrenCache(two, "/cached", true)) {
            cache.getListenable().addListener((c, e) -> events.add(e.getType() + shown(e)));
            cache.start(PathChildrenCache.StartMode.POST_INITIALIZED_EVENT);
            take("children", events, 2);
            one.create().forPath("/cached/b", bytes("2"));
            take("children", events, 1);
            one.setData().forPath("/cached/a", bytes("3"));
            take("children", events, 1);
            one.delete().forPath("/cached/b");
            take("children", events, 1);
            print("children", cache.getCurrentData().size(), text(cache.getCurrentData("/cached/a").getData()));
        }
        events.clear();
        try (TreeCache cache = new TreeCache(two, "/cached")) {
            cache.getListenable().addListener((c, e) -> events.add(e.getType() + (e.getData() == null ? "" : " " + e.getData().getPath())));
            cache.start();
            take("tree", events, 3);
            one.create().creatingParentsIfNeeded().forPath("/cached/c/d/e", bytes("4"));
            await("all of it", () -> cache.getCurrentData("/cached/c/d/e") != null);
            take("tree", events, 3);
            one.delete().deletingChildrenIfNeeded().forPath("/cached/c");
            await("none of it", () -> cache.getCurrentData("/cached/c") == null);
            print("tree", cache.getCurrentChildren("/cached").keySet());
        }
        try (NodeCache cache = new NodeCache(two, "/cached/a")) {
            cache.start(true);
            print("node", text(cache.getCurrentData().getData()));
            one.setData().forPath("/cached/a", bytes("5"));
            await("node", () -> text(cache.getCurrentData().getData()).equals("5"));
            one.delete().forPath("/cached/a");
            await("no node", () -> cache.getCurrentData() == null);
            one.create().forPath("/cached/a", bytes("6"));
            await("node", () -> cache.getCurrentData() != null);
            print("node", text(cache.getCurrentData().getData()));
        }
        one.delete().deletingChildrenIfNeeded().forPath("/cached");
    }

    static String shown(PathChildrenCacheEvent e) {
        return e.getData() == null ? "" : " " + e.getData().getPath() + " " + text(e.getData().getData());
    }

    // take prints so many events.
    static void take(String title, BlockingQueue<String> events, int n) throws Exception {
        List<String> taken = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            taken.add(events.poll(LONG, TimeUnit.SECONDS));
        }
        print(title, taken);
    }

    // curatorCache is of persistent recursive watches.
    static void curatorCache(CuratorFramework one, CuratorFramework two) throws Exception {
        one.create().creatingParentsIfNeeded().forPath("/tree/a/b", bytes("1"));
        catchUp(two);
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        try (CuratorCache cache = CuratorCache.build(two, "/tree")) {
            CountDownLatch ready = new CountDownLatch(1);
            cache.listenable().addListener(org.apache.curator.framework.recipes.cache.CuratorCacheListener.builder()
                .forInitialized(ready::countDown).forAll((type, before, now) -> {
                    if (ready.getCount() == 0) {
                        events.add(type + " " + (now == null ? before : now).getPath());
                    }
                }).build());
            cache.start();
            print("initialized", ready.await(LONG, TimeUnit.SECONDS), cache.size());
            one.create().forPath("/tree/c");
            take("event", events, 1);
            one.setData().forPath("/tree/a/b", bytes("2"));
            take("event", events, 1);
            one.delete().forPath("/tree/a/b");
            take("event", events, 1);
            TreeMap<String, String> all = new TreeMap<>();
            cache.stream().forEach(d -> all.put(d.getPath(), String.valueOf(d.getStat().getVersion())));
            print("all", all);
        }
        one.delete().deletingChildrenIfNeeded().forPath("/tree");
    }

    static void barriers(CuratorFramework one, CuratorFramework two) throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(one, "/barrier");
        barrier.setBarrier();
        catchUp(two);
        DistributedBarrier other = new DistributedBarrier(two, "/barrier");
        print("closed", other.waitOnBarrier(50, TimeUnit.MILLISECONDS));
        Future<Boolean> waiting = threads.submit(() -> other.waitOnBarrier(LONG, TimeUnit.SECONDS));
        barrier.removeBarrier();
        print("open", waiting.get());
        List<DistributedDoubleBarrier> doubles = List.of(
            new DistributedDoubleBarrier(one, "/double", 2), new DistributedDoubleBarrier(two, "/double", 2));
        print("alone", doubles.get(0).enter(50, TimeUnit.MILLISECONDS));
        one.delete().quietly().deletingChildrenIfNeeded().forPath("/double");
        doubles = List.of(new DistributedDoubleBarrier(one, "/double", 2), new DistributedDoubleBarrier(two, "/double", 2));
        List<Future<Boolean>> steps = new ArrayList<>();
        for (DistributedDoubleBarrier d : doubles) {
            steps.add(threads.submit(() -> d.enter(LONG, TimeUnit.SECONDS)));
        }
        print("enter", steps.get(0).get(), steps.get(1).get());
        steps.clear();
        for (DistributedDoubleBarrier d : doubles) {
            steps.add(threads.submit(() -> d.leave(LONG, TimeUnit.SECONDS)));
        }
        print("leave", steps.get(0).get(), steps.get(1).get());
    }

    static void counters(CuratorFramework one, CuratorFramework two) throws Exception {
        final int callers = 4, each = 25;
        List<Future<Integer>> adding = new ArrayList<>();
        for (int i = 0; i < callers; i++) {
            CuratorFramework client = i % 2 == 0 ? one : two;
            adding.add(threads.submit(() -> {
                DistributedAtomicLong n = new DistributedAtomicLong(client, "/counters/long", new RetryOneTime(1),
                    PromotedToLock.builder().lockPath("/counters/lock").timeout(LONG, TimeUnit.SECONDS).retryPolicy(new RetryNTimes(100, 1)).build());
                int added = 0;
                for (int k = 0; k < each; k++) {
                    added += n.increment().succeeded() ? 1 : 0;
                }
                return added;
            }));
        }
        int added = 0;
        for (Future<Integer> f : adding) {
            added += f.get();
        }
        DistributedAtomicLong n = new DistributedAtomicLong(one, "/counters/long", new RetryOneTime(1));
        print("incremented", added, n.get().postValue());
        AtomicValue<Long> result = n.compareAndSet((long) callers * each, 7L);
        print("compare and set", result.succeeded(), n.compareAndSet(8L, 9L).succeeded(), n.get().postValue(), n.subtract(2L).postValue(), n.initialize(3L));

        try (SharedCount count = new SharedCount(one, "/counters/shared", 5); SharedCount other = new SharedCount(two, "/counters/shared", 0)) {
            count.start();
            catchUp(two);
            other.start();
            print("count", count.getCount(), other.getCount());
            BlockingQueue<Integer> counts = new LinkedBlockingQueue<>();
            other.addListener(new SharedCountListener() {
                @Override
                public void countHasChanged(SharedCountReader reader, int now) {
                    counts.add(now);
                }

                @Override
                public void stateChanged(CuratorFramework client, ConnectionState state) {}
            });
            var before = count.getVersionedValue();
            print("try", count.trySetCount(before, 6), count.trySetCount(before, 7));
            print("told", counts.poll(LONG, TimeUnit.SECONDS));
        }
        try (SharedValue value = new SharedValue(one, "/counters/value", bytes("seed"))) {
            value.start();
            value.setValue(bytes("set"));
            print("value", text(value.getValue()));
        }
    }

    static void nodes(CuratorFramework one, CuratorFramework two) throws Exception {
        one.create().forPath("/nodes");
        try (PersistentNode node = new PersistentNode(one, CreateMode.EPHEMERAL, false, "/nodes/mine", bytes("1"))) {
            node.start();
            print("created", node.waitForInitialCreate(LONG, TimeUnit.SECONDS), node.getActualPath());
            catchUp(two);
            Stat stat = two.checkExists().forPath("/nodes/mine");
            print("owned", stat.getEphemeralOwner() == one.getZookeeperClient().getZooKeeper().getSessionId());
            two.delete().forPath("/nodes/mine");
            await("it is back", () -> {
                Stat now = two.checkExists().forPath("/nodes/mine");
                return now != null && now.getCzxid() > stat.getCzxid();
            });
            node.setData(bytes("2"));
            await("it is set", () -> text(two.getData().forPath("/nodes/mine")).equals("2"));
        }
        await("it is gone", () -> two.checkExists().forPath("/nodes/mine") == null);
        try (PersistentTtlNode node = new PersistentTtlNode(one, "/nodes/ttl", 300, new byte[0])) {
            node.start();
            print("kept", node.waitForInitialCreate(LONG, TimeUnit.SECONDS));
            catchUp(two);
            int version = two.checkExists().forPath("/nodes/ttl").getCversion();
            await("it is touched", () -> two.checkExists().forPath("/nodes/ttl").getCversion() > version + 1 || two.checkExists().forPath("/nodes/ttl/touch") != null);
        }
        GroupMember a = new GroupMember(one, "/nodes/group", "a", bytes("1")), b = new GroupMember(two, "/nodes/group", "b", bytes("2"));
        a.start();
        b.start();
        await("both", () -> a.getCurrentMembers().size() == 2 && b.getCurrentMembers().size() == 2);
        print("group", new TreeMap<>(b.getCurrentMembers()).keySet());
        b.close();
        await("one", () -> a.getCurrentMembers().size() == 1);
        print("group", a.getCurrentMembers().keySet());
        a.close();
    }

    static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] data) {
            return text(data);
        }
    };

    static void queues(CuratorFramework one, CuratorFramework two) throws Exception {
        BlockingQueueConsumer<String> consumer = new BlockingQueueConsumer<>((c, state) -> {});
        try (DistributedQueue<String> in = QueueBuilder.builder(one, null, TEXT, "/queues/plain").buildQueue();
             DistributedQueue<String> out = QueueBuilder.builder(two, consumer, TEXT, "/queues/plain").lockPath("/queues/locks").buildQueue()) {
            in.start();
            for (String item : List.of("a", "b", "c")) {
                in.put(item);
            }
            in.flushPuts(LONG, TimeUnit.SECONDS);
            out.start();
            print("queue", consumer.take(LONG, TimeUnit.SECONDS), consumer.take(LONG, TimeUnit.SECONDS), consumer.take(LONG, TimeUnit.SECONDS));
        }
        BlockingQueueConsumer<String> byPriority = new BlockingQueueConsumer<>((c, state) -> {});
        try (DistributedPriorityQueue<String> in = QueueBuilder.builder(one, null, TEXT, "/queues/priority").buildPriorityQueue(0);
             DistributedPriorityQueue<String> out = QueueBuilder.builder(two, byPriority, TEXT, "/queues/priority").buildPriorityQueue(0)) {
            in.start();
            in.put("late", 9);
            in.put("early", -1);
            in.put("middle", 3);
            in.flushPuts(LONG, TimeUnit.SECONDS);
            out.start();
            print("priority", byPriority.take(LONG, TimeUnit.SECONDS), byPriority.take(LONG, TimeUnit.SECONDS), byPriority.take(LONG, TimeUnit.SECONDS));
        }
        BlockingQueueConsumer<String> delayed = new BlockingQueueConsumer<>((c, state) -> {});
        try (DistributedDelayQueue<String> queue = QueueBuilder.builder(one, delayed, TEXT, "/queues/delay").buildDelayQueue()) {
            queue.start();
            long until = System.currentTimeMillis() + 300;
            queue.put("later", until);
            print("delayed", delayed.take(LONG, TimeUnit.SECONDS), System.currentTimeMillis() >= until);
        }
        SimpleDistributedQueue simple = new SimpleDistributedQueue(one, "/queues/simple");
        print("simple", simple.offer(bytes("1")), simple.offer(bytes("2")), text(simple.peek()), text(simple.take()), text(simple.poll(LONG, TimeUnit.SECONDS)), text(simple.poll()));
    }

    static void lifetimes(CuratorFramework one, CuratorFramework two) throws Exception {
        attempt("container", () -> one.create().creatingParentContainersIfNeeded().forPath("/lifetimes/deep/x"));
        attempt("container", () -> one.create().withMode(CreateMode.CONTAINER).forPath("/lifetimes/c"));
        attempt("ttl", () -> one.create().withTtl(60_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/lifetimes/ttl"));
        attempt("ttl", () -> one.create().withTtl(60_000).withMode(CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL).forPath("/lifetimes/ttl-"));
        attempt("owner", () -> one.checkExists().forPath("/lifetimes/ttl").getEphemeralOwner());
        attempt("ephemeral", () -> one.create().withMode(CreateMode.EPHEMERAL).forPath("/lifetimes/e"));
        attempt("child of it", () -> one.create().forPath("/lifetimes/e/x"));
        one.delete().deletingChildrenIfNeeded().forPath("/lifetimes");
    }

    static void access(CuratorFramework one, CuratorFramework two) throws Exception {
        ACLProvider mine = new ACLProvider() {
            @Override
            public List<ACL> getDefaultAcl() {
                return ZooDefs.Ids.CREATOR_ALL_ACL;
            }

            @Override
            public List<ACL> getAclForPath(String path) {
                return ZooDefs.Ids.CREATOR_ALL_ACL;
            }
        };
        try (CuratorFramework owner = started(CuratorFrameworkFactory.builder().authorization("digest", bytes("owner:secret")).aclProvider(mine))) {
            attempt("create", () -> owner.create().creatingParentsIfNeeded().forPath("/access/x", bytes("mine")));
            catchUp(two);
            attempt("denied", () -> two.getData().forPath("/access/x"));
            attempt("denied", () -> two.setData().forPath("/access/x", bytes("yours")));
            attempt("denied", () -> two.getACL().forPath("/access/x"));
            attempt("acl", () -> owner.getACL().forPath("/access/x"));
            attempt("open", () -> owner.setACL().withACL(ZooDefs.Ids.READ_ACL_UNSAFE).forPath("/access/x").getAversion());
            catchUp(two);
            attempt("read", () -> text(two.getData().forPath("/access/x")));
            attempt("denied", () -> owner.setACL().withACL(ZooDefs.Ids.OPEN_ACL_UNSAFE).forPath("/access/x"));
            attempt("bad acl", () -> two.create().withACL(ZooDefs.Ids.CREATOR_ALL_ACL).forPath("/nobody"));
            owner.delete().deletingChildrenIfNeeded().forPath("/access");
        }
    }

    static void namespaces(CuratorFramework one, CuratorFramework two) throws Exception {
        CuratorFramework inner = one.usingNamespace("space");
        attempt("inner", () -> inner.create().creatingParentsIfNeeded().forPath("/a/b", bytes("in")));
        attempt("outer", () -> text(one.getData().forPath("/space/a/b")));
        ZKPaths.mkdirs(one.getZookeeperClient().getZooKeeper(), "/space/made/too");
        print("children", sorted(inner.getChildren().forPath("/")));
        one.delete().deletingChildrenIfNeeded().forPath("/space");
    }

    // lostSessions ends a session from outside, and has the recipes notice.
    static void lostSessions(CuratorFramework one, CuratorFramework two) throws Exception {
        BlockingQueue<ConnectionState> states = new LinkedBlockingQueue<>();
        try (CuratorFramework mortal = connect()) {
            mortal.getConnectionStateListenable().addListener((c, state) -> states.add(state));
            LeaderLatch latch = new LeaderLatch(mortal, "/lost/latch", "mortal");
            latch.start();
            latch.await(LONG, TimeUnit.SECONDS);
            PersistentNode node = new PersistentNode(mortal, CreateMode.EPHEMERAL, false, "/lost/node", bytes("1"));
            node.start();
            node.waitForInitialCreate(LONG, TimeUnit.SECONDS);
            long before = mortal.getZookeeperClient().getZooKeeper().getSessionId();
            endSession(mortal);
            while (states.poll(LONG, TimeUnit.SECONDS) != ConnectionState.LOST) {
                // It may be suspended and reconnected before.
            }
            print("lost", true);
            await("reconnected", () -> mortal.getZookeeperClient().isConnected());
            print("another session", mortal.getZookeeperClient().getZooKeeper().getSessionId() != before);
            print("leads again", latch.await(LONG, TimeUnit.SECONDS));
            await("the node is back", () -> {
                Stat stat = two.checkExists().forPath("/lost/node");
                return stat != null && stat.getEphemeralOwner() == mortal.getZookeeperClient().getZooKeeper().getSessionId();
            });
            latch.close();
            node.close();
        }
        await("it is gone", () -> two.checkExists().forPath("/lost/node") == null);
    }

    // endSession takes a client's session over, and closes it.
    static void endSession(CuratorFramework client) throws Exception {
        ZooKeeper theirs = client.getZookeeperClient().getZooKeeper();
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper thief = new ZooKeeper(hosts, SESSION, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        }, theirs.getSessionId(), theirs.getSessionPasswd());
        if (!connected.await(LONG, TimeUnit.SECONDS)) {
            throw new AssertionError("the session could not be taken over");
        }
        thief.close();
    }
}
