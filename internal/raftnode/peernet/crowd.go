package peernet

import (
	"slices"
	"sync"

	"coord/internal/replica"
)

// A crowd is the connections that peers have opened, oldest first for each
// peer and purpose.
type crowd struct {
	lim *limits

	mu    sync.Mutex // a leaf
	wires map[crowdKey][]*wire
}

type crowdKey struct {
	peer    replica.MemberID
	purpose Purpose
}

// join enters w, or returns why it is refused. If the peer has too many connections of
// its purpose, the oldest of them is closed, which is one that the peer has lost; but
// calls are all alive, so there the new one is refused. All strangers are one peer.
func (c *crowd) join(w *wire) error {
	key := crowdKey{w.peer.Member, w.peer.Purpose}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wires == nil {
		c.wires = make(map[crowdKey][]*wire)
	}
	wires := c.wires[key]
	if key.peer == 0 {
		if err := c.tooManyStrangers(wires, w); err != nil {
			return err
		}
	} else if most := c.max(key.purpose); len(wires) >= most {
		if key.purpose == ForCall {
			return refuse("it has %d connections for %v already, which is the limit", most, key.purpose)
		}
		wires[0].close()
		wires = slices.Delete(wires, 0, 1)
	}
	c.wires[key] = append(wires, w)
	return nil
}

// tooManyStrangers returns the reason to refuse one more. Nobody gives way to it: what
// those that are there have asked for is being done.
func (c *crowd) tooManyStrangers(wires []*wire, w *wire) error {
	if most := c.lim.strangers; len(wires) >= most {
		return refuse("%d others that are no members are being answered already, which is the limit", most)
	}
	ip, sameIP := remoteIP(w.raw), 0
	for _, other := range wires {
		if remoteIP(other.raw) == ip {
			sameIP++
		}
	}
	if most := c.lim.strangersPerIP; sameIP >= most {
		return refuse("%d others that are no members are being answered at %v already, which is the limit", most, ip)
	}
	return nil
}

func (c *crowd) leave(w *wire) {
	key := crowdKey{w.peer.Member, w.peer.Purpose}
	c.mu.Lock()
	defer c.mu.Unlock()
	wires := c.wires[key]
	if i := slices.Index(wires, w); i >= 0 {
		wires = slices.Delete(wires, i, i+1)
	}
	if len(wires) == 0 {
		delete(c.wires, key)
		return
	}
	c.wires[key] = wires
}

func (c *crowd) max(p Purpose) int {
	switch p {
	case ForRaft:
		return c.lim.raftConns
	case ForSnapshot:
		return c.lim.snapshotConns
	case ForCall:
		return c.lim.callConns
	}
	return 0
}
