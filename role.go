package coord

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"coord/internal/replica"
)

// A GroupRole says who leads a group, as this member sees it: a hint, not a fact, for
// another member may know better already.
type GroupRole struct {
	Group  GroupID
	Role   Role     // of this member
	Leader MemberID // 0: none is known
	Term   uint64   // of raft; it grows with every election
}

// Roles yields who leads each group of which this member has a part, in the order of
// their ids, and then each change, until ctx or the Coordinator ends. It yields
// nothing of a group of which no leader was ever known here. A reader that is slow may
// miss leaders in between, never the latest: what it is given was true when it asked.
// Of a group of which this member has no part any more it yields once that nobody leads,
// in term 0. Whoever stops the loop ends it. Any number of loops may run at the same time.
//
// That this member becomes a voter changes no leader, so it is not told: [Role] is
// what it was when the leader changed.
func (c *Coordinator) Roles(ctx context.Context) iter.Seq[GroupRole] {
	return func(yield func(GroupRole) bool) {
		told := map[GroupID]replica.Role{}
		for {
			roles, changed := c.roles.look()
			for id := range told {
				if _, ok := roles[id]; !ok {
					roles[id] = replica.Role{} // so that what is gone is told, as no role
				}
			}
			for _, id := range slices.Sorted(maps.Keys(roles)) {
				if told[id] == roles[id] {
					continue
				}
				if ctx.Err() != nil || c.ctx.Err() != nil || !yield(c.roleIn(id, roles[id])) {
					return
				}
				told[id] = roles[id]
				if told[id] == (replica.Role{}) {
					delete(told, id)
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-c.ctx.Done():
				return
			}
		}
	}
}

// roleIn returns what r means for this member.
func (c *Coordinator) roleIn(id GroupID, r replica.Role) GroupRole {
	return GroupRole{Group: id, Role: c.roleOf(c.root.state(), MemberID(r.Leader)), Leader: MemberID(r.Leader), Term: r.Term}
}

// roleOf returns what this member does in a group with such a leader, by the root
// group's state.
func (c *Coordinator) roleOf(s *state, leader MemberID) Role {
	me := s.members.get(c.cfg.ID)
	switch {
	case leader == 0 || c.ctx.Err() != nil:
		return Looking
	case leader == c.cfg.ID:
		return Leading
	case me != nil && me.role == Observer:
		return Observing
	}
	return Following
}

// A roleBoard shows the newest role of each group to whoever waits for a change.
type roleBoard struct {
	mu      sync.Mutex // a leaf
	shown   map[GroupID]replica.Role
	changed chan struct{} // closed when shown changes
}

func newRoleBoard() *roleBoard {
	return &roleBoard{shown: map[GroupID]replica.Role{}, changed: make(chan struct{})}
}

// show takes note of a role.
func (b *roleBoard) show(id GroupID, r replica.Role) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown[id] == r {
		return
	}
	if r == (replica.Role{}) {
		delete(b.shown, id) // the host's word for a group that it does not run
	} else {
		b.shown[id] = r
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// look returns the roles of now, and a channel that is closed when one changes.
func (b *roleBoard) look() (map[GroupID]replica.Role, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.shown), b.changed
}
