package peernet

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"coord/internal/replica"
)

// Close waits for handlers that run, and none runs after it has returned.
func TestCloseWaitsForHandlers(t *testing.T) {
	f := newFabric(t, 2)
	a, b := f.nodes[0], f.nodes[1]
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.onBatch = func(raftpb.MessageBatch) {
		once.Do(func() { close(entered) })
		<-leave
	}
	c := a.mustConnect(b)
	for range 3 {
		if err := c.SendMessageBatch(batch(a, b, nil)); err != nil {
			t.Fatal(err)
		}
	}
	<-entered
	closed := make(chan struct{})
	go func() { defer close(closed); b.stop() }()
	// The network is gone before the handlers are.
	eventually(t, "the connection to end", func() bool { return c.SendMessageBatch(batch(a, b, nil)) != nil })
	select {
	case <-closed:
		t.Error("Close returned while a handler was running")
	default:
	}
	close(leave)
	<-closed
	after := b.received()
	if b.stop(); b.received() != after {
		t.Error("a handler ran after Close")
	}
}

// A peer that was restarted between two batches is sent the second one, and what the
// library has of the connection did not fail.
func TestRaftConnectionOutlivesARestart(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, opts...)
		a, b := f.nodes[0], f.nodes[1]
		c := a.mustConnect(b)
		if err := c.SendMessageBatch(batch(a, b, nil)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the first batch", func() bool { return b.received() == 1 })
		b.stop()
		b.start()
		eventually(t, "the end of the old connection to be noticed", func() bool { return hasEnded(c) })
		if err := c.SendMessageBatch(batch(a, b, nil)); err != nil {
			t.Errorf("SendMessageBatch to a peer that is back = %v", err)
		}
		eventually(t, "the second batch", func() bool { return b.received() == 2 })
		if n := a.link(b.id(), Out).Connections; n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
		b.stop()
		eventually(t, "its end to be noticed", func() bool { return hasEnded(c) })
		if c.SendMessageBatch(batch(a, b, nil)) == nil {
			t.Error("SendMessageBatch to a peer that is down succeeded")
		}
		c.Close()
		if n := a.link(b.id(), Out).Connections; n != 0 {
			t.Errorf("%d connections after Close, want none", n)
		}
	})
}

func hasEnded(c raftio.IConnection) bool {
	select {
	case <-c.(*raftConn).ended:
		return true
	default:
		return false
	}
}

// A peer that reads nothing holds up who sends to it, and nobody else; and the
// end of the library's transport ends the waiting at once.
func TestSlowPeerDelaysNobodyElse(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 3, append(opts, func(_ int, nd *node) { nd.lim.progress = time.Hour })...)
		a, b, c := f.nodes[0], f.nodes[1], f.nodes[2]
		leave := make(chan struct{})
		b.onBatch = func(raftpb.MessageBatch) { <-leave }
		defer close(leave)
		life, end := context.WithCancel(t.Context())
		stuck, err := a.tr.GetConnection(life, b.target())
		if err != nil {
			t.Fatal(err)
		}
		defer stuck.Close()
		ended := make(chan error)
		go func() {
			for {
				if err := stuck.SendMessageBatch(batch(a, b, make([]byte, 1<<20))); err != nil {
					ended <- err
					return
				}
			}
		}()
		// The sender waits when what it has sent grows no more.
		var sent uint64
		eventually(t, "the sender to wait", func() bool {
			before := sent
			sent = a.link(2, Out).Bytes
			return sent > 0 && sent == before
		})
		other := a.mustConnect(c)
		for range 100 {
			if err := other.SendMessageBatch(batch(a, c, make([]byte, 10_000))); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the other member's batches", func() bool { return c.received() == 100 })
		end()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the send failed with %v, want that the connection was closed here", err)
		}
	})
}

// A peer that takes nothing for too long loses its connection.
func TestStuckPeerLosesConnection(t *testing.T) {
	f := newFabric(t, 2, func(i int, nd *node) {
		if i == 0 { // the sender alone: the other end does not give up half a batch before it is stuck
			nd.lim.progress, nd.lim.farewell = 20*time.Millisecond, time.Millisecond
		}
	})
	a, b := f.nodes[0], f.nodes[1]
	leave := make(chan struct{})
	b.onBatch = func(raftpb.MessageBatch) { <-leave }
	defer close(leave)
	c := a.mustConnect(b)
	var err error
	for err == nil {
		err = c.SendMessageBatch(batch(a, b, make([]byte, 1<<20)))
	}
	mustContain(t, "SendMessageBatch", err, "timeout", "member 2")
}

// A member that ends and comes back is noticed without a message being lost
// that looks sent, and is reached again.
func TestPeerRestart(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, opts...)
		a, b := f.nodes[0], f.nodes[1]
		c := a.mustConnect(b)
		b.stop()
		<-c.(*raftConn).ended // without anybody having sent anything
		mustContain(t, "SendMessageBatch", c.SendMessageBatch(batch(a, b, nil)), "member 2", "closed")
		if _, err := a.connect(b); err == nil {
			t.Error("a member that is down was reached")
		}
		b.start()
		if err := a.mustConnect(b).SendMessageBatch(batch(a, b, nil)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the batch", func() bool { return b.received() == 1 })
	})
}

// A member that is removed is not heard any more, on connections that it has
// either, and is told why.
func TestRemovedMember(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, opts...)
		a, b := f.nodes[0], f.nodes[1]
		c := a.mustConnect(b)
		if err := c.SendMessageBatch(batch(a, b, nil)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the batch", func() bool { return b.received() == 1 })
		f.mu.Lock()
		delete(f.addrs, 1)
		f.mu.Unlock()
		var err error
		eventually(t, "the connection to end", func() bool {
			err = c.SendMessageBatch(batch(a, b, nil))
			return err != nil
		})
		refusedBy(t, err, 2, true)
		if n := b.received(); n != 1 {
			t.Errorf("%d messages arrived, want the 1 from before", n)
		}
	})
}

// A link is refusing from a refusal until a handshake succeeds, and not again when
// the peer is merely down.
func TestRefusingEnds(t *testing.T) {
	var strange atomic.Bool
	f := newFabric(t, 2, on(2, func(nd *node) {
		nd.cfg.Admit = func(Hello) error {
			if strange.Load() {
				return errors.New("strange")
			}
			return nil
		}
	}))
	a, b := f.nodes[0], f.nodes[1]
	for _, refuses := range []bool{false, true, false} {
		strange.Store(refuses)
		c, err := a.connect(b)
		if (err != nil) != refuses {
			t.Fatal(err)
		}
		if err == nil {
			c.Close()
		}
		eventually(t, "the acceptor to count", func() bool { return b.link(1, In).Refusing == refuses })
		if l := a.link(2, Out); l.Refusing != refuses {
			t.Errorf("link is %+v, want it refusing: %t", l, refuses)
		}
	}
	b.stop()
	if _, err := a.connect(b); err == nil {
		t.Error("a member that is down was reached")
	}
	if l := a.link(2, Out); l.Refusing || l.LastRefusal != "strange" {
		t.Errorf("link is %+v, want it not refusing any more", l)
	}
}

// One Net serves one host after the other, and not two at a time.
func TestOneHostAtATime(t *testing.T) {
	f := newFabric(t, 1)
	a := f.nodes[0]
	second := a.net.Create(config.NodeHostConfig{}, a.handleBatch, a.handleChunk)
	if err := second.Start(); err == nil {
		t.Error("a second endpoint started")
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if a.net.running() == nil {
		t.Error("the first endpoint was ended by the second")
	}
	a.stop()
	third := a.net.Create(config.NodeHostConfig{}, a.handleBatch, a.handleChunk)
	if err := third.Start(); err != nil {
		t.Fatal(err)
	}
	a.tr = third
}

// An address that is taken is an error of Start, after which the Net is free.
func TestAddressInUse(t *testing.T) {
	f := newFabric(t, 2, on(2, func(nd *node) { nd.cfg.Directory = directoryOf(2) }))
	cfg := f.nodes[1].cfg
	cfg.Addr = f.nodes[0].cfg.Addr
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		tr := n.Create(config.NodeHostConfig{}, nil, nil)
		mustContain(t, "Start", tr.Start(), cfg.Addr, "in use")
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What is dialled ends with the context that it is dialled under, and with the
// endpoint.
func TestDiallingEnds(t *testing.T) {
	f := newFabric(t, 1, func(_ int, nd *node) { nd.lim.handshake = time.Hour })
	reached, silent := make(chan struct{}), make(chan struct{})
	addr := rawListen(t, func(conn net.Conn) { _, _ = readOpening(conn); close(reached); <-silent })
	defer close(silent)
	a := f.nodes[0]
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := a.tr.GetConnection(ctx, Target(2, addr))
		failed <- err
	}()
	<-reached
	cancel()
	if err := <-failed; err == nil {
		t.Error("connected to somebody who says nothing")
	}
	go func() {
		_, err := a.tr.GetConnection(t.Context(), Target(2, addr))
		failed <- err
	}()
	a.stop()
	if err := <-failed; err == nil {
		t.Error("connected to somebody who says nothing")
	}
	if _, err := a.tr.GetConnection(t.Context(), Target(2, addr)); !errors.Is(err, ErrClosed) {
		t.Errorf("GetConnection after Close = %v, want ErrClosed", err)
	}
	if _, err := a.net.Call(t.Context(), replica.MemberID(2), "x", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Call after Close = %v, want ErrClosed", err)
	}
}
