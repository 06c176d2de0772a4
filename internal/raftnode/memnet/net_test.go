package memnet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"coord/internal/bubble"
	"coord/internal/raftnode/memnet"
)

// A node counts what reaches it.
type node struct {
	raftio.ITransport
	batches int
	chunks  int
	refuse  bool                      // snapshot chunks
	onBatch func(raftpb.MessageBatch) // if not nil
}

func join(t *testing.T, n *memnet.Net, addr string) *node {
	t.Helper()
	nd := new(node)
	nd.ITransport = n.Create(config.NodeHostConfig{RaftAddress: addr},
		func(b raftpb.MessageBatch) {
			nd.batches++
			if nd.onBatch != nil {
				nd.onBatch(b)
			}
		},
		func(raftpb.Chunk) bool { nd.chunks++; return !nd.refuse })
	if err := nd.Start(); err != nil {
		t.Fatal(err)
	}
	return nd
}

// send sends one batch, and fails the test unless it looks sent.
func (nd *node) send(t *testing.T, to string) {
	t.Helper()
	c, err := nd.GetConnection(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMessageBatch(raftpb.MessageBatch{Requests: []raftpb.Message{{To: 1}}}); err != nil {
		t.Errorf("send to %s = %v, want a lost packet to look sent", to, err)
	}
}

func TestCuts(t *testing.T) {
	tests := []struct {
		name      string
		cut       func(*memnet.Net)
		ab, ba    int // batches that arrive of one sent
		acArrives int
	}{
		{"whole", func(*memnet.Net) {}, 1, 1, 1},
		{"cut", func(n *memnet.Net) { n.Cut("a", "b") }, 0, 0, 1},
		{"cut one way", func(n *memnet.Net) { n.CutOneWay("a", "b") }, 0, 1, 1},
		{"isolated", func(n *memnet.Net) { n.Isolate("b") }, 0, 0, 1},
		{"isolated sender", func(n *memnet.Net) { n.Isolate("a") }, 0, 0, 0},
		{"healed", func(n *memnet.Net) { n.Cut("a", "b"); n.Isolate("a"); n.Heal() }, 1, 1, 1},
		{"all lost", func(n *memnet.Net) { n.Lose(1, 7) }, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := memnet.New()
			tt.cut(n) // before anybody has joined
			a, b, c := join(t, n, "a"), join(t, n, "b"), join(t, n, "c")
			a.send(t, "b")
			b.send(t, "a")
			a.send(t, "c")
			if b.batches != tt.ab || a.batches != tt.ba || c.batches != tt.acArrives {
				t.Errorf("arrived: a to b %d, b to a %d, a to c %d, want %d, %d, %d",
					b.batches, a.batches, c.batches, tt.ab, tt.ba, tt.acArrives)
			}
			arrived := uint64(tt.ab + tt.ba + tt.acArrives)
			if got, want := n.Stats(), (memnet.Stats{Delivered: arrived, Lost: 3 - arrived}); got != want {
				t.Errorf("Stats = %+v, want %+v", got, want)
			}
		})
	}
}

// The same seed loses the same batches, at about the rate asked for.
func TestLossRepeatsFromSeed(t *testing.T) {
	run := func() (pattern []int) {
		n := memnet.New()
		n.Lose(0.3, 42)
		a, b := join(t, n, "a"), join(t, n, "b")
		for range 1000 {
			a.send(t, "b")
			pattern = append(pattern, b.batches)
		}
		return pattern
	}
	one, two := run(), run()
	for i := range one {
		if one[i] != two[i] {
			t.Fatalf("after batch %d, %d arrived in one run and %d in the other", i, one[i], two[i])
		}
	}
	if got := one[len(one)-1]; got < 620 || got > 780 {
		t.Errorf("%d of 1000 arrived at a loss of 0.3", got)
	}
}

// What is sent to a member that is down is lost; its address is free again
// after Close, which may be called twice.
func TestEndpointLife(t *testing.T) {
	n := memnet.New()
	a, b := join(t, n, "a"), join(t, n, "b")
	twin := n.Create(config.NodeHostConfig{RaftAddress: "b"}, nil, nil)
	if err := twin.Start(); err == nil {
		t.Error("an address was taken twice")
	}
	if err := twin.Close(); err != nil {
		t.Error(err)
	}
	a.send(t, "b") // the twin took nothing away
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	a.send(t, "b")
	a.send(t, "nowhere")
	if b.batches != 1 {
		t.Errorf("%d batches at the closed endpoint, want the 1 from before", b.batches)
	}
	again := join(t, n, "b")
	a.send(t, "b")
	if again.batches != 1 {
		t.Errorf("%d batches at the new endpoint, want 1", again.batches)
	}
	if got, want := n.Stats(), (memnet.Stats{Delivered: 2, Lost: 2}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

// What is received does not share memory with what was sent.
func TestBatchesAreCopied(t *testing.T) {
	n := memnet.New()
	a, b := join(t, n, "a"), join(t, n, "b")
	var got []byte
	b.onBatch = func(batch raftpb.MessageBatch) { got = batch.Requests[0].Entries[0].Cmd }
	c, err := a.GetConnection(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	sent := []byte("abc")
	batch := raftpb.MessageBatch{Requests: []raftpb.Message{{Entries: []raftpb.Entry{{Cmd: sent}}}}}
	if err := c.SendMessageBatch(batch); err != nil {
		t.Fatal(err)
	}
	sent[0] = 'x'
	if string(got) != "abc" {
		t.Errorf("received %q after the sender has changed its own, want abc", got)
	}
}

// Chunks are not lost to the loss rate, but to cuts; a refused one is an error.
func TestSnapshotChunks(t *testing.T) {
	n := memnet.New()
	n.Lose(1, 1)
	a, b := join(t, n, "a"), join(t, n, "b")
	c, err := a.GetSnapshotConnection(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send := func() error { return c.SendChunk(raftpb.Chunk{ShardID: 1}) }
	if err := send(); err != nil || b.chunks != 1 {
		t.Errorf("SendChunk = %v, %d arrived, want 1", err, b.chunks)
	}
	n.Cut("a", "b")
	if err := send(); err != nil || b.chunks != 1 {
		t.Errorf("SendChunk on a cut link = %v, %d arrived, want a silent loss", err, b.chunks)
	}
	n.Heal()
	b.refuse = true
	if err := send(); err == nil {
		t.Error("a refused chunk looked sent")
	}
}

// Close waits for a message that is being delivered.
func TestCloseWaitsForDelivery(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		n := memnet.New()
		a, b := join(t, n, "a"), join(t, n, "b")
		b.onBatch = func(raftpb.MessageBatch) { time.Sleep(time.Minute) }
		c, err := a.GetConnection(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- c.SendMessageBatch(raftpb.MessageBatch{}) }()
		synctest.Wait()
		start := time.Now()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("Close returned after %v, want a minute", d)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}
