package coordtest

import (
	"errors"
	"net"
	"sync"
)

// A gate is a listener all of whose connections stand still while it is shut, as those of
// a process do that is frozen: the system accepts connections and what is sent on them, and
// the process hears of neither and sends nothing. What is closed meanwhile stays closed.
type gate struct {
	net.Listener

	closing sync.Once
	closed  chan struct{}

	mu     sync.Mutex
	opened chan struct{} // guarded by mu; closed while the gate is open
}

func newGate(ln net.Listener) *gate {
	g := &gate{Listener: ln, closed: make(chan struct{}), opened: make(chan struct{})}
	close(g.opened)
	return g
}

// shut does nothing to a gate that is shut.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
		g.opened = make(chan struct{})
	default:
	}
}

// open does nothing to a gate that is open.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}

// pass waits until the gate is open, or whoever wants to pass is closed.
func (g *gate) pass(closed <-chan struct{}) error {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	select {
	case <-opened:
		return nil
	case <-closed:
		return net.ErrClosed
	}
}

// Accept implements [net.Listener].
func (g *gate) Accept() (net.Conn, error) {
	nc, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if err := g.pass(g.closed); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return &gatedConn{Conn: nc, gate: g, closed: make(chan struct{})}, nil
}

// Close implements [net.Listener].
func (g *gate) Close() error {
	g.closing.Do(func() { close(g.closed) })
	return g.Listener.Close()
}

// A gatedConn is a connection that stands still while the gate is shut.
type gatedConn struct {
	net.Conn

	gate    *gate
	closing sync.Once
	closed  chan struct{}
}

// Read implements [net.Conn].
func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if shut := c.gate.pass(c.closed); shut != nil {
		return 0, shut
	}
	return n, err
}

// Write implements [net.Conn].
func (c *gatedConn) Write(b []byte) (int, error) {
	if err := c.gate.pass(c.closed); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close implements [net.Conn].
func (c *gatedConn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// CloseWrite ends what is written, for whoever reads to the end.
func (c *gatedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
