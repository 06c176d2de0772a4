package memraft

import (
	"math/rand/v2"
	"sync"
	"time"

	"coord/internal/replica"
)

// A Net is the network between the members of one simulated ensemble, and the
// place where their disks are: a [Host] that is opened again as the same member
// finds what the last one left.
//
// One lock guards the whole of raft on all members. Nothing is waited for under
// it, and no code of users runs there.
type Net struct {
	mu      sync.Mutex
	rng     *rand.Rand                         // guarded by mu
	weather Weather                            // guarded by mu
	cuts    map[link]bool                      // guarded by mu
	paused  map[replica.MemberID]bool          // guarded by mu
	held    map[replica.MemberID][]func()      // guarded by mu; what a paused member does when it goes on
	arrival map[link]time.Time                 // guarded by mu; of the last message sent
	hosts   map[replica.MemberID]*Host         // guarded by mu; those that are open
	opened  map[replica.MemberID]uint64        // guarded by mu; how often
	disks   map[place]*disk                    // guarded by mu
	lags    map[replica.MemberID]time.Duration // guarded by mu
	stats   Stats                              // guarded by mu
}

// A link is one direction between two members.
type link struct{ from, to replica.MemberID }

// A place is where one replica is.
type place struct {
	member replica.MemberID
	group  replica.GroupID
}

// Weather is what happens to messages and requests by chance. The zero Weather has
// messages arrive at once, in order, without loss.
type Weather struct {
	Loss               float64       // share of messages that get lost
	MinDelay, MaxDelay time.Duration // of a message
	Reorder            bool          // messages of one link overtake each other

	Stall    float64       // share of proposals that arrive very late
	MaxStall time.Duration // how late
	Deaf     float64       // share of proposals whose answer is lost
	Refuse   float64       // share of requests that are refused at once
}

// Stats counts what has happened in a Net.
type Stats struct {
	Messages, Lost     uint64
	Elections          uint64 // won
	Entries            uint64 // appended by leaders
	Installs, Restores uint64 // snapshots sent to others; restored, also at a start
}

// NewNet returns a network in calm weather, without members.
func NewNet(seed uint64) *Net {
	return &Net{
		rng:     rand.New(rand.NewPCG(seed, seed)),
		cuts:    map[link]bool{},
		paused:  map[replica.MemberID]bool{},
		held:    map[replica.MemberID][]func(){},
		arrival: map[link]time.Time{},
		hosts:   map[replica.MemberID]*Host{},
		opened:  map[replica.MemberID]uint64{},
		disks:   map[place]*disk{},
		lags:    map[replica.MemberID]time.Duration{},
	}
}

// Stats returns what has happened until now.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// SetWeather changes what happens by chance, from now on.
func (n *Net) SetWeather(w Weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = w
}

// SetApplyLag has a member take up to d before it applies what is committed.
func (n *Net) SetApplyLag(m replica.MemberID, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lags[m] = d
}

// Cut has messages from one member to another get lost, also those under way. The
// other direction is left alone.
func (n *Net) Cut(from, to replica.MemberID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[link{from, to}] = true
}

// Isolate cuts a member off from all others that are open, in both directions.
func (n *Net) Isolate(m replica.MemberID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other := range n.opened {
		if other != m {
			n.cuts[link{m, other}] = true
			n.cuts[link{other, m}] = true
		}
	}
}

// Heal undoes every Cut and Isolate.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
}

// Pause freezes a member: its raft neither ticks, sends, receives nor applies.
func (n *Net) Pause(m replica.MemberID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paused[m] = true
}

// Resume ends a Pause. What was sent to the member meanwhile comes at once.
func (n *Net) Resume(m replica.MemberID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.paused, m)
	held := n.held[m]
	delete(n.held, m)
	for _, f := range held {
		f()
	}
	if h := n.hosts[m]; h != nil {
		for _, r := range h.replicas {
			r.work.Broadcast()
		}
	}
}

// whenAwakeLocked calls f, with the lock held, now or when m is no longer paused.
func (n *Net) whenAwakeLocked(m replica.MemberID, f func()) {
	if n.paused[m] {
		n.held[m] = append(n.held[m], f)
		return
	}
	f()
}

// chanceLocked rolls the dice.
func (n *Net) chanceLocked(share float64) bool { return share > 0 && n.rng.Float64() < share }

// betweenLocked returns a random duration from least to most.
func (n *Net) betweenLocked(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(n.rng.Int64N(int64(most-least)+1))
}

// sendLocked puts a message on its way. late comes on top of the usual delay.
func (n *Net) sendLocked(m *message, late time.Duration) {
	l := link{m.from, m.to}
	n.stats.Messages++
	if n.cuts[l] || !n.hosts[m.from].knowsLocked(m.to) || n.chanceLocked(n.weather.Loss) {
		n.stats.Lost++
		return
	}
	at := time.Now().Add(n.betweenLocked(n.weather.MinDelay, n.weather.MaxDelay))
	if last := n.arrival[l]; !n.weather.Reorder && !at.After(last) {
		at = last.Add(1) // timers of one moment fire in any order
	}
	if late == 0 {
		n.arrival[l] = at
	}
	time.AfterFunc(time.Until(at)+late, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.cuts[l] {
			n.stats.Lost++
			return
		}
		n.whenAwakeLocked(m.to, func() { n.arriveLocked(m) })
	})
}

// arriveLocked hands a message to the replica that it is for, if that runs.
func (n *Net) arriveLocked(m *message) {
	if h := n.hosts[m.to]; h != nil && h.knowsLocked(m.from) {
		if r := h.replicas[m.group]; r != nil {
			r.stepLocked(m)
		}
	}
}

// diskLocked returns the disk of a replica, which is empty at first.
func (n *Net) diskLocked(p place) *disk {
	d := n.disks[p]
	if d == nil {
		d = &disk{members: nobody, cutMembers: nobody}
		n.disks[p] = d
	}
	return d
}
