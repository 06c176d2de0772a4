package memnet_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"coord/internal/bubble"
	"coord/internal/raftnode/memnet"
)

// Delays add up for the whole network, the sender and the receiver; messages of a link
// keep their order under jitter; and without a delay all is as before.
func TestDelay(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		n := memnet.New()
		a, b := join(t, n, "a"), join(t, n, "b")
		var mu sync.Mutex
		var order []uint64
		var last time.Time
		b.onBatch = func(batch raftpb.MessageBatch) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, batch.Requests[0].Term)
			last = time.Now()
		}
		c, err := a.GetConnection(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		n.Delay(time.Second, 0)
		n.DelayMember("a", time.Minute, 30*time.Second)
		n.DelayMember("b", time.Hour, 0)
		start := time.Now()
		for term := range uint64(50) {
			if err := c.SendMessageBatch(raftpb.MessageBatch{Requests: []raftpb.Message{{Term: term}}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour + time.Minute + time.Second - 1)
		mu.Lock()
		if len(order) > 0 {
			t.Errorf("%d batches arrived too soon", len(order))
		}
		mu.Unlock()
		time.Sleep(30 * time.Second)
		mu.Lock()
		if len(order) != 50 || last.Sub(start) < time.Hour+time.Minute+15*time.Second {
			t.Errorf("%d of 50 batches arrived, the last after %v", len(order), last.Sub(start))
		}
		for i, term := range order {
			if term != uint64(i) {
				t.Fatalf("batches arrived in the order %v", order)
			}
		}
		mu.Unlock()
		n.Clear()
		a.send(t, "b")
		if b.batches != 51 {
			t.Error("a batch without a delay did not arrive at once")
		}
		closeAll(t, a, b)
	})
}

// A cut swallows what is under way, and so does the end of either side; no goroutine
// is left.
func TestUnderWay(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, n *memnet.Net, a, b *node){
		"cut":      func(_ *testing.T, n *memnet.Net, _, _ *node) { n.Cut("a", "b") },
		"sender":   func(t *testing.T, _ *memnet.Net, a, _ *node) { closeAll(t, a) },
		"receiver": func(t *testing.T, _ *memnet.Net, _, b *node) { closeAll(t, b) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				n := memnet.New()
				a, b := join(t, n, "a"), join(t, n, "b")
				n.Delay(time.Hour, 0)
				a.send(t, "b")
				synctest.Wait()
				end(t, n, a, b)
				time.Sleep(2 * time.Hour)
				if b.batches != 0 || n.Stats() != (memnet.Stats{Lost: 1}) {
					t.Errorf("%d batches arrived, %+v", b.batches, n.Stats())
				}
				closeAll(t, a, b)
			})
		})
	}
}

// What a paused member is sent waits for it, in order and with a bound; what it sends is
// lost.
func TestPause(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		n := memnet.New()
		a, b := join(t, n, "a"), join(t, n, "b")
		n.Pause("b")
		n.Pause("b")
		b.send(t, "a")
		for range 5000 {
			a.send(t, "b")
		}
		chunk := make(chan error, 1)
		c, err := a.GetSnapshotConnection(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		go func() { chunk <- c.SendChunk(raftpb.Chunk{}) }()
		time.Sleep(time.Hour)
		if a.batches+b.batches+b.chunks > 0 {
			t.Errorf("%d batches and %d chunks at a member that is paused, %d from it", b.batches, b.chunks, a.batches)
		}
		n.Resume("b")
		n.Resume("b")
		synctest.Wait()
		if err := <-chunk; err != nil || b.chunks != 1 || b.batches != 4096 {
			t.Errorf("%d batches and %d chunks after the pause, %v; want 4096 and 1", b.batches, b.chunks, err)
		}
		b.send(t, "a")
		if a.batches != 1 {
			t.Error("a member that was resumed is not heard")
		}
		closeAll(t, a, b)
	})
}

// Rejoin and Mend undo one fault and no other.
func TestMendOne(t *testing.T) {
	n := memnet.New()
	a, b := join(t, n, "a"), join(t, n, "b")
	n.Isolate("a")
	n.Cut("a", "b")
	n.Rejoin("a")
	a.send(t, "b")
	n.Mend("a", "b")
	a.send(t, "b")
	b.send(t, "a")
	if b.batches != 1 || a.batches != 0 {
		t.Errorf("%d batches at b and %d at a, want 1 and 0", b.batches, a.batches)
	}
}

func closeAll(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, nd := range nodes {
		if err := nd.Close(); err != nil {
			t.Error(err)
		}
	}
}
