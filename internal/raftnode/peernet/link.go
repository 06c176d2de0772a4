package peernet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coord/internal/replica"
)

// A Direction says which end opened the connections of a [Link].
type Direction uint8

// The directions.
const (
	Out Direction = iota + 1 // this member dialled; raft and snapshots go to the peer
	In                       // the peer dialled; raft and snapshots come from it
)

func (d Direction) String() string {
	switch d {
	case Out:
		return "out"
	case In:
		return "in"
	}
	return fmt.Sprintf("direction %d", uint8(d))
}

// A Link is the state of all connections of one direction between this member
// and a peer, and counts what they have carried since [New].
type Link struct {
	// Peer is the other end. 0 stands for all those who dialled and were not
	// known to be members: strangers, and whoever did not get as far.
	Peer      replica.MemberID
	Direction Direction

	Connections int    // open now, after their handshakes
	Handshakes  uint64 // that succeeded
	Refused     uint64 // handshakes that either end refused
	Errors      uint64 // handshakes and connections that broke or failed otherwise

	Bytes   uint64 // of frames, with their headers: sent on Out, received on In
	Batches uint64 // of raft messages
	Chunks  uint64 // of snapshots
	Calls   uint64

	// Dropped counts raft messages that the peer may not send: from another
	// member, to another one, or of a type that never leaves a member.
	Dropped uint64

	LastRefusal string // the reason, "" if there was none
	LastError   string // the text, "" if there was none

	// Refusing says that no handshake has succeeded since the last refusal.
	Refusing bool
}

// A linkKey names a link.
type linkKey struct {
	peer replica.MemberID
	dir  Direction
}

// A link is a Link that is being counted.
type link struct {
	key linkKey

	connections                   atomic.Int64
	handshakes, refused, errors   atomic.Uint64
	bytes, batches, chunks, calls atomic.Uint64
	dropped                       atomic.Uint64
	lastRefusal, lastError        atomic.Pointer[string]
	refusing                      atomic.Bool

	// Of each kind there are lines of its own, so that nobody can hide the one behind
	// the other.
	refusals, failures pace
}

// A pace says when there was last a line of the log, in Unix nanoseconds: who dials
// again and again would otherwise fill it.
type pace struct{ last atomic.Int64 }

// due reports whether enough time has passed for another one.
func (p *pace) due(every time.Duration) bool {
	now, last := time.Now().UnixNano(), p.last.Load()
	return now-last >= int64(every) && p.last.CompareAndSwap(last, now)
}

// succeed counts a handshake.
func (l *link) succeed() {
	l.handshakes.Add(1)
	l.refusing.Store(false)
}

// refuse counts a refused handshake.
func (l *link) refuse(reason string) {
	l.refused.Add(1)
	l.lastRefusal.Store(&reason)
	l.refusing.Store(true)
}

// fail counts an error.
func (l *link) fail(err error) {
	text := err.Error()
	l.errors.Add(1)
	l.lastError.Store(&text)
}

func (l *link) read() Link {
	text := func(p *atomic.Pointer[string]) string {
		if s := p.Load(); s != nil {
			return *s
		}
		return ""
	}
	return Link{
		Peer:        l.key.peer,
		Direction:   l.key.dir,
		Connections: int(l.connections.Load()),
		Handshakes:  l.handshakes.Load(),
		Refused:     l.refused.Load(),
		Errors:      l.errors.Load(),
		Bytes:       l.bytes.Load(),
		Batches:     l.batches.Load(),
		Chunks:      l.chunks.Load(),
		Calls:       l.calls.Load(),
		Dropped:     l.dropped.Load(),
		LastRefusal: text(&l.lastRefusal),
		LastError:   text(&l.lastError),
		Refusing:    l.refusing.Load(),
	}
}

// links are the links by name. There is one of each direction for each member
// and one for strangers, so what peers say cannot make it grow.
type links struct {
	mu sync.Mutex
	m  map[linkKey]*link // guarded by mu
}

// of returns the link, which is made if it is new.
func (ls *links) of(peer replica.MemberID, dir Direction) *link {
	key := linkKey{peer, dir}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.m[key]
	if l == nil {
		if ls.m == nil {
			ls.m = make(map[linkKey]*link)
		}
		l = &link{key: key}
		ls.m[key] = l
	}
	return l
}

// retain forgets the links of members that are not to be kept. What is being counted
// on them goes nowhere.
func (ls *links) retain(keep func(replica.MemberID) bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	maps.DeleteFunc(ls.m, func(key linkKey, _ *link) bool { return !keep(key.peer) })
}

func (ls *links) list() []Link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	out := make([]Link, 0, len(ls.m))
	for _, l := range ls.m {
		out = append(out, l.read())
	}
	slices.SortFunc(out, func(a, b Link) int {
		return cmp.Or(cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.Direction, b.Direction))
	})
	return out
}
