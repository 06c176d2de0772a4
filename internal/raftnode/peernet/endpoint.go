package peernet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
)

// keepAlive finds out within half a minute that the other end of an idle
// connection has gone without saying so.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4}

// An endpoint is the transport of one NodeHost. Its life is new, running,
// closed.
//
// Every connection is in conns from before its handshake until it is closed,
// and every goroutine in workers, so that Close can end the ones and wait for
// the others.
type endpoint struct {
	net     *Net
	onBatch raftio.MessageHandler
	onChunk raftio.ChunkHandler
	lim     limits

	ctx    context.Context // ends, with cause ErrClosed, when Close is called
	cancel context.CancelCauseFunc

	pending pending
	crowd   crowd

	mu       sync.Mutex
	closed   bool                 // guarded by mu
	listener net.Listener         // guarded by mu; nil before Start
	conns    map[*net.TCPConn]tie // guarded by mu; the zero tie until it is known with whom

	workers sync.WaitGroup // Add only under mu while not closed
}

var _ raftio.ITransport = (*endpoint)(nil)

func newEndpoint(n *Net, onBatch raftio.MessageHandler, onChunk raftio.ChunkHandler) *endpoint {
	ep := &endpoint{
		net:     n,
		onBatch: onBatch,
		onChunk: onChunk,
		lim:     n.lim,
		conns:   make(map[*net.TCPConn]tie),
	}
	ep.ctx, ep.cancel = context.WithCancelCause(context.Background())
	ep.pending.total, ep.pending.perIP = ep.lim.pending, ep.lim.pendingPerIP
	ep.crowd.lim = &ep.lim
	return ep
}

// Name returns the name of the transport for the library's log.
func (ep *endpoint) Name() string { return "peernet" }

// Start listens and makes the endpoint the one of its Net.
func (ep *endpoint) Start() error {
	if err := ep.net.engage(ep); err != nil {
		return err
	}
	l, err := ep.net.listen(ep.ctx, ep.net.cfg.Listen)
	if err != nil {
		ep.net.release(ep)
		return fmt.Errorf("peernet: %w", err)
	}
	ep.mu.Lock()
	ep.listener = l
	ep.mu.Unlock()
	if !ep.work(func() { ep.runAccept(l) }) {
		return errors.Join(ErrClosed, l.Close())
	}
	return nil
}

// Close ends every connection and waits until no handler runs and no goroutine
// is left. Further calls do nothing.
func (ep *endpoint) Close() error {
	ep.cancel(ErrClosed)
	ep.mu.Lock()
	first := !ep.closed
	ep.closed = true
	l := ep.listener
	for raw := range ep.conns {
		_ = raw.Close()
	}
	ep.mu.Unlock()
	var err error
	if first && l != nil {
		err = l.Close()
	}
	ep.workers.Wait()
	ep.net.release(ep)
	return err
}

// work runs f on a goroutine that Close waits for, or returns false if the
// endpoint is closed.
func (ep *endpoint) work(f func()) bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.closed {
		return false
	}
	ep.workers.Go(f)
	return true
}

// open enters a connection, or closes it and returns false if the endpoint is
// closed.
func (ep *endpoint) open(raw *net.TCPConn) bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.closed {
		_ = raw.Close()
		return false
	}
	ep.conns[raw] = tie{}
	return true
}

// forget closes a connection and strikes it off.
func (ep *endpoint) forget(raw *net.TCPConn) {
	_ = raw.Close()
	ep.mu.Lock()
	defer ep.mu.Unlock()
	delete(ep.conns, raw)
}

// closeOn closes a connection when ctx ends before the returned function is
// called, so that whatever waits for the peer ends, too.
func (ep *endpoint) closeOn(ctx context.Context, raw *net.TCPConn) (stop func()) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.closed {
		return func() {} // and raw is closed already
	}
	ep.workers.Add(1)
	cancel := context.AfterFunc(ctx, func() {
		defer ep.workers.Done()
		_ = raw.Close()
	})
	return func() {
		if cancel() {
			ep.workers.Done()
		}
	}
}

// The pauses after an accept that failed.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// runAccept takes in connections until the endpoint is closed. An error, such
// as that of a process without file descriptors left, is waited out.
func (ep *endpoint) runAccept(l net.Listener) {
	pause := minAcceptPause
	for {
		conn, err := l.Accept()
		if ep.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil {
			strangers := ep.net.links.of(0, In)
			strangers.fail(err)
			ep.net.logError(strangers, "accept", err)
			select {
			case <-time.After(pause):
			case <-ep.ctx.Done():
				return
			}
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = minAcceptPause
		if raw, ok := conn.(*net.TCPConn); ok && ep.open(raw) {
			ep.pending.add(raw) // here, so that the oldest is who came first
			if ep.work(func() { ep.serve(raw) }) {
				continue
			}
		}
		_ = conn.Close()
	}
}

// serve handles an accepted connection until it ends.
func (ep *endpoint) serve(raw *net.TCPConn) {
	defer ep.forget(raw)
	w, ok := ep.receive(raw)
	stayed := ep.pending.remove(raw)
	if !ok {
		return
	}
	defer ep.crowd.leave(w)
	if !stayed {
		return
	}
	if !ep.tieAccepted(w) {
		w.close()
		return
	}
	w.link.succeed()
	w.link.connections.Add(1)
	defer w.link.connections.Add(-1)
	var err error
	switch w.peer.Purpose {
	case ForRaft:
		err = ep.serveRaft(w)
	case ForSnapshot:
		err = ep.serveSnapshot(w)
	case ForCall:
		err = ep.serveCall(w)
	}
	if err != nil && !isEnd(err) && !errors.Is(err, errRefused) && ep.ctx.Err() == nil {
		w.link.fail(err)
		ep.net.logError(w.link, "serve "+w.peer.Purpose.String(), err)
	}
}

// engage makes ep the endpoint of n.
func (n *Net) engage(ep *endpoint) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoint != nil {
		return errors.New("peernet: this network serves another host already")
	}
	n.endpoint = ep
	return nil
}

func (n *Net) release(ep *endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoint == ep {
		n.endpoint = nil
	}
}

// errRefused says that one end has refused the other after the handshake, which
// has been counted.
var errRefused = errors.New("refused")

// logRefusal logs that somebody who dialled was refused.
func (n *Net) logRefusal(l *link, from net.Addr, reason string) {
	if !l.refusals.due(n.lim.logEvery) {
		return
	}
	n.log.Warn("peer refused", slog.Uint64("peer", uint64(l.key.peer)), slog.String("from", from.String()),
		slog.String("reason", reason), slog.Uint64("refused", l.refused.Load()))
	if n.cfg.Refused != nil {
		n.cfg.Refused(l.key.peer, from, reason)
	}
}

// logError logs what went wrong while doing something with a peer.
func (n *Net) logError(l *link, doing string, err error) {
	if l.failures.due(n.lim.logEvery) {
		n.log.Warn("peer connection failed", slog.Uint64("peer", uint64(l.key.peer)), slog.String("doing", doing),
			slog.Any("err", err), slog.Uint64("errors", l.errors.Load()))
	}
}
