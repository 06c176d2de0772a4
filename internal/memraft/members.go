package memraft

import (
	"maps"
	"slices"

	"coord/internal/replica"
)

// members is who is part of a group at one place of its log. It is never changed. It
// counts from where its entry is in the log, committed or not (Ongaro §4.1).
type members struct {
	index   uint64 // of the entry that made it; 0 if nothing did
	is      map[replica.MemberID]replica.Standing
	removed map[replica.MemberID]bool
}

// A memberChange is what the entry of a change asks for. It is made if the group is
// still what it was when it was asked for, and if it is possible.
type memberChange struct {
	after uint64 // the index of the members that it follows
	id    replica.MemberID
	to    replica.Standing
}

// nobody is who is part of a group before the first entry of its log.
var nobody = &members{}

// firstMembers returns those whom a group starts with.
func firstMembers(ids []replica.MemberID) *members {
	m := &members{index: 1, is: map[replica.MemberID]replica.Standing{}}
	for _, id := range ids {
		m.is[id] = replica.Voting
	}
	return m
}

// with returns who is part of the group behind an entry: m itself if the entry changes
// nothing.
func (m *members) with(e *entry) *members {
	if e.first != nil {
		return e.first
	}
	c := e.change
	if c == nil || c.after != m.index || m.view().Allows(c.id, c.to) != nil {
		return m
	}
	next := &members{index: e.index, is: maps.Clone(m.is), removed: maps.Clone(m.removed)}
	if c.to != replica.Gone {
		next.is[c.id] = c.to
		return next
	}
	delete(next.is, c.id)
	if next.removed == nil {
		next.removed = map[replica.MemberID]bool{}
	}
	next.removed[c.id] = true
	return next
}

// view returns m as the users of a host see it. The maps are m's own.
func (m *members) view() replica.Membership {
	return replica.Membership{Change: m.index, Members: m.is, Removed: m.removed}
}

func (m *members) votes(id replica.MemberID) bool { return m.is[id] == replica.Voting }

func (m *members) quorum() int {
	voters := 0
	for _, s := range m.is {
		if s == replica.Voting {
			voters++
		}
	}
	return voters/2 + 1
}

// others returns all but one, in order.
func (m *members) others(id replica.MemberID) []replica.MemberID {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.is)), func(other replica.MemberID) bool { return other == id })
}
