package raftnode

import (
	"slices"
	"sync"

	"github.com/lni/dragonboat/v4/raftio"

	"coord/internal/replica"
)

// roles remembers who leads each group and reports changes. The library's
// event goroutine must never wait, so it only leaves the newest role of a
// group here; one goroutine of the Host takes the changes to the callback. The
// queue cannot grow beyond the number of groups, because a group is in it at
// most once.
type roles struct {
	report func(replica.GroupID, replica.Role) // nil: nobody listens
	wake   chan struct{}                       // holds one token while there is work
	stop   chan struct{}

	mu       sync.Mutex // a leaf
	current  map[replica.GroupID]replica.Role
	reported map[replica.GroupID]replica.Role
	changed  []replica.GroupID // in the order of the first unreported change
}

var _ raftio.IRaftEventListener = (*roles)(nil)

func newRoles(report func(replica.GroupID, replica.Role)) *roles {
	return &roles{
		report:   report,
		wake:     make(chan struct{}, 1),
		stop:     make(chan struct{}),
		current:  make(map[replica.GroupID]replica.Role),
		reported: make(map[replica.GroupID]replica.Role),
	}
}

// admit makes room for a group. Roles of groups not admitted are ignored: an
// event may come late, when the group is stopped already.
func (r *roles) admit(g replica.GroupID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.current[g]; !ok {
		r.current[g] = replica.Role{}
	}
}

// dismiss forgets a group's role, and reports that it has none if it had one.
func (r *roles) dismiss(g replica.GroupID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.current[g]; ok {
		r.changeLocked(g, replica.Role{})
		delete(r.current, g)
	}
}

// LeaderUpdated is called by the library, for replicas of this member only.
func (r *roles) LeaderUpdated(info raftio.LeaderInfo) {
	g := replica.GroupID(info.ShardID)
	role := replica.Role{Leader: replica.MemberID(info.LeaderID), Term: info.Term}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.current[g]; ok {
		r.changeLocked(g, role)
	}
}

func (r *roles) changeLocked(g replica.GroupID, role replica.Role) {
	if r.current[g] == role {
		return
	}
	r.current[g] = role
	if r.report == nil {
		return
	}
	if !slices.Contains(r.changed, g) {
		r.changed = append(r.changed, g)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// of returns the newest role of a group.
func (r *roles) of(g replica.GroupID) replica.Role {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current[g]
}

// next takes the oldest change out of the queue. A group that is back where it
// was last reported has not changed.
func (r *roles) next() (g replica.GroupID, role replica.Role, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.changed) > 0 {
		g = r.changed[0]
		r.changed = r.changed[1:]
		role = r.current[g] // the zero Role if it was dismissed
		if r.reported[g] == role {
			continue
		}
		if role == (replica.Role{}) {
			delete(r.reported, g)
		} else {
			r.reported[g] = role
		}
		return g, role, true
	}
	return 0, replica.Role{}, false
}

// run takes changes to the callback until stop is closed. What is still queued
// then is not reported.
func (r *roles) run() {
	for {
		select {
		case <-r.stop:
			return
		case <-r.wake:
		}
		for {
			g, role, ok := r.next()
			if !ok {
				break
			}
			select {
			case <-r.stop:
				return
			default:
				r.report(g, role)
			}
		}
	}
}
