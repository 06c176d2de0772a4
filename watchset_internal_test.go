package coord

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/bubble"
)

// Registrations and notifications wait for the hub to be level with what is
// published, because a view or an acknowledged write is no older than that.
func TestWatchSetWaitsForTheHub(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		cfg := Config{ID: 1, ElectionTimeout: time.Second, WatchBuffer: 10, MaxWatches: 10, HistoryEvents: 100, HistoryBytes: 1 << 20}
		g := newGroup(rootGroup, &cfg, slog.New(slog.DiscardHandler))
		defer g.cancel(ErrClosed)
		ws := &WatchSet{s: &Session{c: &Coordinator{cfg: cfg}}, hub: &g.hub, regs: map[string]*registration{}, changed: make(chan struct{}, 1)}
		if err := g.hub.admitSet(ws); err != nil {
			t.Fatal(err)
		}
		node := &znode{acl: newState(rootGroup).acls.open()}
		publish := func(z ZXID) {
			s := newState(rootGroup)
			s.zxid = z
			g.publish(&published{state: s.freeze()}, []change{{typ: NodeDataChanged, zxid: z, path: "/a", node: node}})
		}

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
