package coord

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/bubble"
)

// newBareSet returns a set on the hub of a group that has no host. The hub moves
// only when it is told to.
func newBareSet(t *testing.T, cfg Config) (*group, *WatchSet) {
	t.Helper()
	cfg.ID, cfg.ElectionTimeout, cfg.MaxWatches = 1, time.Second, 1000
	cfg.HistoryEvents, cfg.HistoryBytes = 1000, 1<<20
	g := newGroup(rootGroup, &cfg, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { g.cancel(ErrClosed) })
	ws := &WatchSet{s: &Session{c: &Coordinator{cfg: cfg}}, hub: g.hub, regs: map[string]*registration{}, changed: make(chan struct{}, 1)}
	if err := g.hub.admitSet(ws); err != nil {
		t.Fatal(err)
	}
	return g, ws
}

func bareNode() *znode { return &znode{acl: newACLEntry("", OpenACL())} }

// publishBare publishes a write that changed the data of some paths.
func publishBare(g *group, z ZXID, paths ...string) {
	s := newState(rootGroup)
	s.zxid = z
	var changes []change
	for i, path := range paths {
		changes = append(changes, change{typ: NodeDataChanged, index: uint32(i), zxid: z, path: path, node: bareNode()})
	}
	g.publish(&published{state: s.freeze()}, changes)
}

// Registrations and notifications wait for the hub to be level with what is
// published, because a view or an acknowledged write is no older than that.
func TestWatchSetWaitsForTheHub(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		g, ws := newBareSet(t, Config{WatchBuffer: 10})
		publish := func(z ZXID) { publishBare(g, z, "/a") }

		publish(1)
		added := make(chan error, 1)
		go func() { added <- ws.Add(&View{s: g.state()}, Registration{"/a", DataWatcher}) }()
		synctest.Wait()
		if len(added) > 0 {
			t.Fatal("registered before the hub had told what the view shows")
		}
		g.hub.catchUp(nil)
		if err := <-added; err != nil {
			t.Fatal(err)
		}

		publish(2)
		took := make(chan []Event, 1)
		go func() {
			events, err := ws.Take(2)
			if err != nil {
				t.Error(err)
			}
			took <- events
		}()
		synctest.Wait()
		if len(took) > 0 {
			t.Fatal("taken before the hub had told what is published")
		}
		g.hub.catchUp(nil)
		if events := <-took; len(events) != 1 || events[0].ZXID != 2 {
			t.Errorf("told %v, want one change at 2", events)
		}
	})
}

// The reader may take everything between the notification that does not fit and the
// end that it brings.
func TestWatchSetOverrunWhileTaken(t *testing.T) {
	g, ws := newBareSet(t, Config{WatchBuffer: 2})
	if err := ws.Add(&View{s: g.state()}, Registration{"/a", PersistentWatcher}); err != nil {
		t.Fatal(err)
	}
	for z := range ZXID(2) {
		publishBare(g, z+1, "/a")
	}
	g.hub.catchUp(nil)
	c := change{typ: NodeDataChanged, zxid: 3, path: "/a", node: bareNode()}
	var woken []*WatchSet
	g.hub.regs.trigger(&c, 2, func(r *registration, n notice) {
		if r.set.offer(n) {
			woken = append(woken, r.set)
		}
	}, func(*registration) {})
	if events, err := ws.Take(2); err != nil || len(events) != 2 {
		t.Fatalf("Take = %v, %v", events, err)
	}
	if len(woken) != 1 || !woken[0].release() {
		t.Fatal("the set does not end")
	}
	overrun, ok := errors.AsType[*OverrunError](ws.Err())
	if want := positionOf(g.state(), groupPosition{rootGroup, 2, allEvents}); !ok || overrun.Position != want {
		t.Errorf("ended with %v, want an overrun at %v", ws.Err(), want)
	}
}

// It makes no difference whether registrations are made behind a view at once, or
// later and behind the same view.
func TestLateRegistrationsAsEarlyOnes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/d"}
	types := []WatcherType{ChildrenWatcher, DataWatcher, PersistentWatcher, PersistentRecursiveWatcher}
	some := func() (rs []Registration) {
		for range rng.IntN(4) {
			rs = append(rs, Registration{paths[rng.IntN(len(paths))], types[rng.IntN(len(types))]})
		}
		return rs
	}
	for round := range 1000 {
		g, early := newBareSet(t, Config{WatchBuffer: 1000})
		late := &WatchSet{s: early.s, hub: early.hub, regs: map[string]*registration{}, changed: make(chan struct{}, 1)}
		if err := g.hub.admitSet(late); err != nil {
			t.Fatal(err)
		}
		zxid := ZXID(0)
		write := func() {
			zxid++
			s := newState(rootGroup)
			s.zxid = zxid
			var changes []change
			for i := range uint32(rng.IntN(3)) {
				typ := []EventType{NodeCreated, NodeDeleted, NodeDataChanged}[rng.IntN(3)]
				changes = append(changes, change{typ: typ, index: i, zxid: zxid, path: paths[rng.IntN(len(paths))], node: bareNode(), parent: bareNode().acl})
			}
			g.publish(&published{state: s.freeze()}, changes)
			g.hub.catchUp(nil)
		}
		add := func(ws *WatchSet, v *View, rs []Registration) {
			if err := ws.Add(v, rs...); err != nil {
				t.Fatal(err)
			}
		}
		both := func(n int) {
			for range rng.IntN(n) {
				rs := some()
				add(early, &View{s: g.state()}, rs)
				add(late, &View{s: g.state()}, rs)
				write()
			}
		}
		var got, want []string
		collect := func(into *[]string, ws *WatchSet, upTo ZXID) {
			events, err := ws.Take(upTo)
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				*into = append(*into, ev.String())
			}
		}
		both(5)
		v, rs := &View{s: g.state()}, some()
		add(early, v, rs)
		both(5)
		if rng.IntN(2) == 0 {
			collect(&got, late, v.ZXID())
			collect(&want, early, v.ZXID())
		}
		add(late, v, rs)
		if late.lasting != early.lasting || late.ready != early.ready || late.Len() != early.Len() {
			t.Fatalf("round %d: %d lasting of %d in wait, %d paths; want %d of %d, %d paths", round,
				late.lasting, late.ready, late.Len(), early.lasting, early.ready, early.Len())
		}
		both(5)
		collect(&got, late, zxid)
		collect(&want, early, zxid)
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: behind %v, %v were told\n%v, want\n%v", round, v.ZXID(), rs, got, want)
		}
		if late.lasting != 0 || g.hub.count != early.Len()+late.Len() {
			t.Fatalf("round %d: %d lasting, %d counted, want 0 and %d", round, late.lasting, g.hub.count, early.Len()+late.Len())
		}
		early.Close()
		late.Close()
		if g.hub.count != 0 || len(g.hub.regs.byPath) != 0 || g.hub.regs.recursive != 0 || len(g.hub.sets) != 0 {
			t.Fatalf("round %d: %d, %v, %d recursive and %d sets are left", round, g.hub.count, g.hub.regs.byPath, g.hub.regs.recursive, len(g.hub.sets))
		}
	}
}

// Late registrations that missed much of a set that has much in wait.
func BenchmarkLateRegistrations(b *testing.B) {
	const n = 30_000
	missed := make([]notice, n)
	for i := range missed {
		missed[i] = notice{order: uint64(2 * i), zxid: ZXID(i)}
	}
	queued := make([]notice, n)
	for i := range queued {
		queued[i] = notice{order: uint64(2*i + 1), zxid: ZXID(i)}
	}
	for b.Loop() {
		ws := newLooseSet()
		ws.queued = slices.Clone(queued)
		ws.insertMissed(missed)
	}
}
