package zkserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"coord"
)

// ErrServerClosed is returned by [Server.Serve] after [Server.Shutdown] or
// [Server.Close].
var ErrServerClosed = errors.New("zkserver: server closed")

// A Server serves clients of ZooKeeper through one Coordinator. All methods may be called
// concurrently.
type Server struct {
	c   *coord.Coordinator
	o   Options
	log *slog.Logger

	ctx    context.Context // ends with the server
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // every goroutine of the server

	counts serverCounts
	locals locals
	wordState

	tooMany, noTLS complaint

	mu        sync.Mutex
	closed    bool                      // guarded by mu; nothing is begun any more
	listeners map[net.Listener]struct{} // guarded by mu
	conns     map[*conn]net.Listener    // guarded by mu; and where they came from
	perAddr   map[netip.Addr]int        // guarded by mu
	left      chan struct{}             // guarded by mu; closed when a connection has ended
}

// drainTime bounds how long [Server.Serve] lets requests under way be answered when its
// context has ended.
const drainTime = 5 * time.Second

// New returns a Server for the clients of c. It fails with [coord.ErrBadArguments],
// which names all wrong options. The Server closes nothing of c; what it has of c ends
// with c.
func New(c *coord.Coordinator, o Options) (*Server, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		c: c, o: o, log: o.Logger.With(slog.Uint64("member", uint64(c.Status().Member))),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]net.Listener{}, perAddr: map[netip.Addr]int{},
		left: make(chan struct{}), wordState: wordState{started: time.Now()},
	}
	s.ctx, s.cancel = context.WithCancelCause(c.Context())
	s.counts.reset()
	return s, nil
}

// Serve is New, [Server.Serve] until ctx ends, and [Server.Close]. It returns nil if that
// was because ctx has ended.
func Serve(ctx context.Context, ln net.Listener, c *coord.Coordinator, o Options) error {
	s, err := New(c, o)
	if err != nil {
		_ = ln.Close()
		return err
	}
	defer func() { _ = s.Close() }()
	return s.Serve(ctx, ln)
}

// Serve accepts connections until ctx ends, and then has requests under way answered, for
// 5 s at most, closes the connections of this listener, and returns nil. It returns
// [ErrServerClosed] if the server was closed, the reason if the Coordinator was, and the
// listener's error if that is broken. In any case it closes the listener. It may be called
// for several listeners; one of [tls.NewListener] serves TLS alone, whatever the options
// say.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer func() { _ = ln.Close() }()
	if !s.listen(ln) {
		return s.ended()
	}
	defer s.forgetListener(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	stopWith := context.AfterFunc(s.ctx, func() { _ = ln.Close() })
	defer stopWith()
	s.log.Info("serving clients of ZooKeeper", slog.String("addr", ln.Addr().String()))
	err := s.accept(ln)
	switch {
	case s.isClosed() || s.ctx.Err() != nil:
		return s.ended()
	case ctx.Err() != nil:
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		s.drain(bound, ln)
		return nil
	}
	return fmt.Errorf("zkserver: accept on %v: %w", ln.Addr(), err)
}

// mounted reports whether the ensemble has mounts.
func (s *Server) mounted() bool { return len(s.c.Mounts()) > 0 }

func (s *Server) ended() error {
	if err := context.Cause(s.ctx); err != nil && !errors.Is(err, ErrServerClosed) {
		return fmt.Errorf("zkserver: %w", err)
	}
	return ErrServerClosed
}

// Bounds of the pause behind a failure to accept, for lack of file descriptors for
// example.
const (
	firstAcceptPause = 5 * time.Millisecond
	mostAcceptPause  = time.Second
)

// accept begins connections until the listener is closed or broken.
func (s *Server) accept(ln net.Listener) error {
	pause := firstAcceptPause
	for {
		nc, err := ln.Accept()
		if err == nil {
			pause = firstAcceptPause
			s.begin(nc, ln)
			continue
		}
		if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, net.ErrClosed) || !ok || !timeout.Timeout() && !isTemporary(err) {
			return err
		}
		s.log.Warn("accept failed", slog.Any("err", err))
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
		pause = min(2*pause, mostAcceptPause)
	}
}

// begin serves a connection, unless there are too many.
func (s *Server) begin(nc net.Conn, ln net.Listener) {
	c := s.newConn(nc)
	if err := s.enter(c, ln); err != nil {
		if !errors.Is(err, ErrServerClosed) {
			s.complain(&s.tooMany, nc.RemoteAddr(), err)
		}
		s.counts.rejected.Add(1)
		c.cancel(err)
		_ = nc.Close()
		return
	}
	s.wg.Go(func() {
		defer s.leave(c)
		c.run()
	})
}

func (s *Server) enter(c *conn, ln net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrServerClosed
	case s.o.MaxConns > 0 && len(s.conns) >= s.o.MaxConns:
		return fmt.Errorf("%w: %d connections", errRefused, len(s.conns))
	case c.addr.IsValid() && s.o.MaxConnsPerAddr > 0 && s.perAddr[c.addr] >= s.o.MaxConnsPerAddr:
		return fmt.Errorf("%w: %d connections from %v", errRefused, s.perAddr[c.addr], c.addr)
	}
	s.conns[c] = ln
	if c.addr.IsValid() {
		s.perAddr[c.addr]++
	}
	return nil
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.perAddr[c.addr]--; s.perAddr[c.addr] <= 0 {
		delete(s.perAddr, c.addr)
	}
	close(s.left)
	s.left = make(chan struct{})
}

func (s *Server) listen(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[ln] = struct{}{}
	return true
}

func (s *Server) forgetListener(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// of returns the connections that came from a listener, nil being any, and a channel that
// is closed when one has ended.
func (s *Server) of(ln net.Listener) ([]*conn, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var conns []*conn
	for c, from := range s.conns {
		if ln == nil || from == ln {
			conns = append(conns, c)
		}
	}
	return conns, s.left
}

// drain has the requests of connections that came from a listener answered, until ctx
// ends, and closes them.
func (s *Server) drain(ctx context.Context, ln net.Listener) {
	for {
		conns, left := s.of(ln)
		if len(conns) == 0 {
			return
		}
		for _, c := range conns {
			c.drain()
			if ctx.Err() != nil {
				c.end(ErrServerClosed)
			}
		}
		if ctx.Err() != nil {
			<-left
			continue
		}
		select {
		case <-left:
		case <-ctx.Done():
		}
	}
}

// Shutdown accepts nothing more, has requests under way answered, at most until ctx
// ends, and closes all connections. The sessions stay, for their clients to resume them on
// other members. It returns when every goroutine of the server has ended. Call it before
// the Coordinator is closed, which closes the sessions that it has.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	s.mu.Unlock()
	s.drain(ctx, nil)
	s.cancel(ErrServerClosed)
	s.wg.Wait()
	s.locals.close()
	return context.Cause(ctx)
}

// Close closes all listeners and connections at once, and returns when every goroutine
// of the server has ended. The sessions stay, as with Shutdown. Further calls wait for the
// first.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Shutdown(ctx)
	return nil
}

// isTemporary reports whether accepting may succeed later.
func isTemporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary()
}
