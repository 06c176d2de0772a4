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

// join enters w. If the peer has too many connections of its purpose, the
// oldest of them is closed, which is one that the peer has lost; but calls are
// all alive, so there the new one is refused.
func (c *crowd) join(w *wire) bool {
	key := crowdKey{w.peer.Member, w.peer.Purpose}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wires == nil {
		c.wires = make(map[crowdKey][]*wire)
	}
	wires := c.wires[key]
	if len(wires) >= c.max(key.purpose) {
		if key.purpose == ForCall {
			return false
		}
		wires[0].close()
		wires = slices.Delete(wires, 0, 1)
	}
	c.wires[key] = append(wires, w)
	return true
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
