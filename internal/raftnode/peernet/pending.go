package peernet

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// pending are the connections whose handshakes are under way, oldest first.
// When there are too many, the oldest gives way: a member's handshake takes
// milliseconds, so it is those that say nothing, or little by little, who go,
// and a flood of them keeps nobody out.
type pending struct {
	total, perIP int

	mu    sync.Mutex // a leaf
	conns []pendingConn
}

type pendingConn struct {
	ip   netip.Addr
	conn net.Conn
}

// add enters a connection, and closes the one that gives way to it.
func (p *pending) add(conn net.Conn) {
	c := pendingConn{remoteIP(conn), conn}
	p.mu.Lock()
	defer p.mu.Unlock()
	sameIP := 0
	for _, other := range p.conns {
		if other.ip == c.ip {
			sameIP++
		}
	}
	switch {
	case sameIP >= p.perIP:
		p.evictLocked(slices.IndexFunc(p.conns, func(other pendingConn) bool { return other.ip == c.ip }))
	case len(p.conns) >= p.total:
		p.evictLocked(0)
	}
	p.conns = append(p.conns, c)
}

func (p *pending) evictLocked(i int) {
	_ = p.conns[i].conn.Close()
	p.conns = slices.Delete(p.conns, i, i+1)
}

// remove strikes off a connection whose handshake has ended. It returns false
// if it had to give way.
func (p *pending) remove(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.conns, func(c pendingConn) bool { return c.conn == conn })
	if i < 0 {
		return false
	}
	p.conns = slices.Delete(p.conns, i, i+1)
	return true
}

func remoteIP(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
