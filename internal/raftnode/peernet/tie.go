package peernet

import (
	"errors"
	"net"

	"coord/internal/replica"
)

// A tie says with whom a connection is, and where this end took that member to be when
// it was made.
type tie struct {
	peer replica.MemberID
	addr string
	said string // where a member that has dialled says it is
}

// errMoved says that a member has moved or is unknown since it was dialled, or since it
// has dialled.
var errMoved = errors.New("the member is not there any more, or is none any more")

// holds reports whether the member is still where it was, or where it said it was
// before that was known here.
func (n *Net) holds(t tie) bool {
	addr, known := n.cfg.AddrOf(t.peer)
	return known && (addr == t.addr || addr == t.said)
}

// tie takes note of with whom a connection is. It returns false if that does not hold
// any more: a change of AddrOf is seen either here or by closeMoved.
func (ep *endpoint) tie(raw *net.TCPConn, t tie) bool {
	ep.mu.Lock()
	if _, open := ep.conns[raw]; open {
		ep.conns[raw] = t
	}
	ep.mu.Unlock()
	return ep.net.holds(t)
}

// tieAccepted is tie for a connection that a member has dialled. Others are not tied.
func (ep *endpoint) tieAccepted(w *wire) bool {
	if w.peer.Member == 0 {
		return true
	}
	addr, known := ep.net.cfg.AddrOf(w.peer.Member)
	return known && ep.tie(w.raw, tie{peer: w.peer.Member, addr: addr, said: w.peer.Addr})
}

// closeMoved closes the connections whose ties do not hold any more.
func (ep *endpoint) closeMoved() {
	ep.mu.Lock()
	ties := make(map[*net.TCPConn]tie)
	for raw, t := range ep.conns {
		if t.peer != 0 {
			ties[raw] = t
		}
	}
	ep.mu.Unlock()
	for raw, t := range ties {
		if !ep.net.holds(t) {
			_ = raw.Close() // its owner strikes it off
		}
	}
}
