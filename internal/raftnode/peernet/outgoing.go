package peernet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// An outgoing is a connection that the library sends on. What the peer says on
// it, and that it has closed it, is noticed at once and not by the next write:
// the first bytes to a peer that has gone are accepted without a sign.
type outgoing struct {
	ep   *endpoint
	w    *wire
	stop func() // of the watch over the library's context

	once  sync.Once
	ended chan struct{} // closed when the peer has said its last word
	kept  bool          // the peer has kept the snapshot; set before ended is closed
	err   error         // why it ended otherwise; set before ended is closed
}

// dialTarget connects to a target for the library. Its ctx is the lifetime of
// the library's transport: when it ends, nobody waits for a write any more.
func (ep *endpoint) dialTarget(ctx context.Context, target string, p Purpose) (*outgoing, error) {
	to, addr, err := parseTarget(target)
	if err != nil {
		return nil, fmt.Errorf("peernet: %w", err)
	}
	w, err := ep.dial(ctx, to, addr, p)
	if err != nil {
		ep.net.logError(ep.net.links.of(to, Out), "dial for "+p.String(), err)
		return nil, err
	}
	o := &outgoing{ep: ep, w: w, ended: make(chan struct{})}
	o.stop = ep.closeOn(ctx, w.raw)
	w.link.connections.Add(1)
	if !ep.work(o.runWatch) {
		o.Close()
		return nil, ErrClosed
	}
	return o, nil
}

// Close ends the connection.
func (o *outgoing) Close() {
	o.once.Do(func() {
		o.stop()
		o.ep.forget(o.w.raw)
		o.w.link.connections.Add(-1)
	})
}

// runWatch reads what the acceptor says, which is at most one frame.
func (o *outgoing) runWatch() {
	defer close(o.ended)
	// Whatever it is, nothing more will be read.
	defer o.w.close()
	kind, body, err := o.w.in.next(0)
	switch {
	case err != nil && errors.Is(err, io.EOF):
		o.err = errors.New("the peer has closed the connection")
	case err != nil:
		o.err = err
	case kind == frameKept:
		o.kept = true
	case kind == frameRefusal:
		o.err = &RefusedError{Peer: o.w.peer.Member, ByPeer: true, Reason: cleanReason(string(body))}
	default:
		o.err = fmt.Errorf("%w: kind %d from an acceptor", errBadFrame, kind)
	}
}

// send marshals a message of at most size bytes into a frame and sends it.
func (o *outgoing) send(kind frameKind, size int, m interface{ MarshalTo([]byte) (int, error) }) error {
	n, err := m.MarshalTo(o.w.out.reserve(size))
	if err == nil {
		n, err = o.w.out.flush(kind, n)
	}
	if err != nil {
		return o.broken(err)
	}
	o.w.link.bytes.Add(uint64(n))
	return nil
}

// broken ends the connection after err and returns what is to blame: what the
// peer has said comes before what the network says.
func (o *outgoing) broken(err error) error {
	select {
	case <-o.ended: // soon, if it was the network that failed
	case <-time.After(o.ep.lim.farewell):
		o.w.close()
		<-o.ended
	}
	if o.err != nil && !errors.Is(o.err, net.ErrClosed) {
		err = o.err
	}
	if o.ep.ctx.Err() == nil {
		o.w.link.fail(err)
	}
	return fmt.Errorf("peernet: %v connection to member %d: %w", o.w.peer.Purpose, o.w.peer.Member, err)
}

// A raftConn sends raft messages. If the peer has closed the connection since the last
// batch, as one does that was restarted, the next batch goes over a new one: to the
// library each connection that breaks is a failure, behind which it sends nothing to that
// peer for up to seconds, and a peer that has just come back may be the leader by then.
type raftConn struct {
	*outgoing

	ctx    context.Context // of the library's transport
	target string
}

var _ raftio.IConnection = (*raftConn)(nil)

// GetConnection connects to a target, for raft messages.
func (ep *endpoint) GetConnection(ctx context.Context, target string) (raftio.IConnection, error) {
	o, err := ep.dialTarget(ctx, target, ForRaft)
	if err != nil {
		return nil, err
	}
	return &raftConn{outgoing: o, ctx: ctx, target: target}, nil
}

// SendMessageBatch sends batch. That it returns nil does not say that the batch
// has arrived. The library calls it, and then Close, from one goroutine.
func (c *raftConn) SendMessageBatch(batch raftpb.MessageBatch) error {
	select {
	case <-c.ended:
		if err := c.renew(); err != nil {
			return err
		}
	default:
	}
	if err := c.send(frameBatch, batch.SizeUpperLimit(), &batch); err != nil {
		return err
	}
	c.w.link.batches.Add(1)
	return nil
}

// renew replaces a connection that has ended. One that the peer has ended with a reason is
// not replaced: the library shall take its time. Nor is one that this end has closed because
// the member is elsewhere now, or is none any more.
func (c *raftConn) renew() error {
	if _, refused := errors.AsType[*RefusedError](c.err); refused {
		return c.broken(c.err)
	}
	to, addr, err := parseTarget(c.target)
	if err == nil && !c.ep.net.holds(tie{peer: to, addr: addr}) {
		err = errMoved
	}
	if err != nil {
		return c.broken(err)
	}
	o, err := c.ep.dialTarget(c.ctx, c.target, ForRaft)
	if err != nil {
		return fmt.Errorf("%w (the connection before: %w)", err, c.err)
	}
	c.Close()
	c.outgoing = o
	return nil
}

// A snapshotConn sends the chunks of one snapshot.
type snapshotConn struct{ *outgoing }

var _ raftio.ISnapshotConnection = snapshotConn{}

// GetSnapshotConnection connects to a target, for one snapshot.
func (ep *endpoint) GetSnapshotConnection(ctx context.Context, target string) (raftio.ISnapshotConnection, error) {
	o, err := ep.dialTarget(ctx, target, ForSnapshot)
	if err != nil {
		return nil, err
	}
	return snapshotConn{o}, nil
}

// SendChunk sends chunk. For the last one it returns when the peer has handled
// it, so nil means then that the peer has the whole snapshot.
func (c snapshotConn) SendChunk(chunk raftpb.Chunk) error {
	if err := c.send(frameChunk, chunk.Size(), &chunk); err != nil {
		return err
	}
	c.w.link.chunks.Add(1)
	if !chunk.IsLastChunk() {
		return nil
	}
	return c.verdict()
}

// verdict waits for what the peer says about the snapshot.
func (c snapshotConn) verdict() error {
	patience := time.NewTimer(c.ep.lim.verdict)
	defer patience.Stop()
	select {
	case <-c.ended:
	case <-patience.C:
		return c.broken(fmt.Errorf("no answer to the last chunk of a snapshot within %v", c.ep.lim.verdict))
	}
	if !c.kept {
		return c.broken(c.err)
	}
	return nil
}
