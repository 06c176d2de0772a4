package memnet

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// errRejected ends a snapshot whose receiver does not want its chunks.
var errRejected = errors.New("memnet: snapshot chunk was rejected")

// An endpoint is one member's transport. Its life is new, listening, closed.
type endpoint struct {
	net     *Net
	addr    string
	onBatch raftio.MessageHandler
	onChunk raftio.ChunkHandler

	// calls are the handlers running, and lines the goroutines that deliver late
	// what this member has sent. Add is called only under net.mu, while the endpoint
	// is in the table.
	calls, lines sync.WaitGroup

	closing sync.Once
	closed  chan struct{} // closed by Close
}

var _ raftio.ITransport = (*endpoint)(nil)

func (e *endpoint) Name() string { return "memnet" }

// Start makes the member reachable. A closed endpoint stays closed.
func (e *endpoint) Start() error { return e.net.listen(e) }

// Close makes the member unreachable and waits for messages being delivered to
// it: the library frees what their handlers use right after.
func (e *endpoint) Close() error {
	e.net.forget(e)
	e.closing.Do(func() { close(e.closed) })
	e.calls.Wait()
	e.lines.Wait()
	return nil
}

func (e *endpoint) GetConnection(_ context.Context, target string) (raftio.IConnection, error) {
	return &conn{from: e, to: target}, nil
}

func (e *endpoint) GetSnapshotConnection(_ context.Context, target string) (raftio.ISnapshotConnection, error) {
	return &snapshotConn{from: e, to: target}, nil
}

// A conn carries message batches of one sender to one target. Each is handled, or
// put on the line behind those before it, before SendMessageBatch returns, so they
// stay in order.
type conn struct {
	from *endpoint
	to   string
}

func (c *conn) Close() {}

func (c *conn) SendMessageBatch(batch raftpb.MessageBatch) error {
	// The sender goes on using the slices of the batch, so the receiver gets a
	// copy made the way a wire would make it.
	data, err := batch.Marshal()
	if err != nil {
		return fmt.Errorf("memnet: %w", err)
	}
	c.from.net.send(c.from, c.to, func(target *endpoint) {
		var received raftpb.MessageBatch
		if err := received.Unmarshal(data); err == nil { // it was marshalled just now
			target.onBatch(received)
		}
	})
	return nil
}

// A snapshotConn carries the chunks of one snapshot.
type snapshotConn struct {
	from *endpoint
	to   string
}

func (c *snapshotConn) Close() {}

// SendChunk waits for the receiver, whose answer it returns, and so for its delay.
func (c *snapshotConn) SendChunk(chunk raftpb.Chunk) error {
	target := c.from.net.routeChunk(c.from, c.to)
	if target == nil {
		return nil
	}
	defer target.calls.Done()
	data, err := chunk.Marshal()
	if err != nil {
		return fmt.Errorf("memnet: %w", err)
	}
	var received raftpb.Chunk
	if err := received.Unmarshal(data); err != nil {
		return fmt.Errorf("memnet: %w", err)
	}
	return target.receive(received)
}

// receive hands a part of a snapshot over. The library panics when it cannot write
// it; that must end neither the process nor the sender, here as in package peernet.
func (e *endpoint) receive(chunk raftpb.Chunk) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("memnet: the receiver cannot take a snapshot: %v", r)
		}
	}()
	if !e.onChunk(chunk) {
		return errRejected
	}
	return nil
}

// routeChunk waits until a chunk arrives, and returns the endpoint that gets it, or
// nil when it is lost.
func (n *Net) routeChunk(from *endpoint, to string) *endpoint {
	l := link{from.addr, to}
	n.mu.Lock()
	delay, resumed := n.delayLocked(l), n.paused[to]
	n.mu.Unlock()
	if delay > 0 || resumed != nil {
		from.sleep(delay, resumed)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cutLocked(l) {
		n.stats.Lost++
		return nil
	}
	return n.targetLocked(to)
}
