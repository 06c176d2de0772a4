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

	// calls are the handlers running. Add is called only under net.mu, while
	// the endpoint is in the table.
	calls sync.WaitGroup
}

var _ raftio.ITransport = (*endpoint)(nil)

func (e *endpoint) Name() string { return "memnet" }

// Start makes the member reachable. A closed endpoint stays closed.
func (e *endpoint) Start() error { return e.net.listen(e) }

// Close makes the member unreachable and waits for messages being delivered to
// it: the library frees what their handlers use right after.
func (e *endpoint) Close() error {
	e.net.forget(e)
	e.calls.Wait()
	return nil
}

func (e *endpoint) GetConnection(_ context.Context, target string) (raftio.IConnection, error) {
	return &conn{net: e.net, link: link{e.addr, target}}, nil
}

func (e *endpoint) GetSnapshotConnection(_ context.Context, target string) (raftio.ISnapshotConnection, error) {
	return &snapshotConn{net: e.net, link: link{e.addr, target}}, nil
}

// A conn carries message batches of one sender to one target. Each is handled
// before SendMessageBatch returns, so they stay in order.
type conn struct {
	net  *Net
	link link
}

func (c *conn) Close() {}

func (c *conn) SendMessageBatch(batch raftpb.MessageBatch) error {
	target := c.net.route(c.link, true)
	if target == nil {
		return nil
	}
	defer target.calls.Done()
	// The sender goes on using the slices of the batch, so the receiver gets a
	// copy made the way a wire would make it.
	data, err := batch.Marshal()
	if err != nil {
		return fmt.Errorf("memnet: %w", err)
	}
	var received raftpb.MessageBatch
	if err := received.Unmarshal(data); err != nil {
		return fmt.Errorf("memnet: %w", err)
	}
	target.onBatch(received)
	return nil
}

// A snapshotConn carries the chunks of one snapshot.
type snapshotConn struct {
	net  *Net
	link link
}

func (c *snapshotConn) Close() {}

func (c *snapshotConn) SendChunk(chunk raftpb.Chunk) error {
	target := c.net.route(c.link, false)
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
	if !target.onChunk(received) {
		return errRejected
	}
	return nil
}
