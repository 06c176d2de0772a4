package coord

import (
	"errors"
	"log/slog"
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
	ws := &WatchSet{s: &Session{c: &Coordinator{cfg: cfg}}, hub: &g.hub, regs: map[string]*registration{}, changed: make(chan struct{}, 1)}
	if err := g.hub.admitSet(ws); err != nil {
		t.Fatal(err)
	}
	return g, ws
}

func bareNode() *znode { return &znode{acl: newState(rootGroup).acls.open()} }

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
