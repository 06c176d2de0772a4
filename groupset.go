package coord

import (
	"cmp"
	"slices"
	"sync"
)

// A groupSet has the groups of mounts that run on this member. The root group is not
// among them.
type groupSet struct {
	mu      sync.Mutex         // a leaf
	byID    map[GroupID]*group // guarded by mu
	changed chan struct{}      // guarded by mu; closed when byID changes; nil if nobody waits
}

// look returns a group, or nil if it does not run here, and a channel that is closed when
// another group starts or one has ended.
func (s *groupSet) look(id GroupID) (*group, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.byID[id], s.changed
}

// changes returns a channel that is closed when another group starts here, when one has
// ended, and when the table of mounts is another.
func (s *groupSet) changes() <-chan struct{} {
	_, changed := s.look(rootGroup)
	return changed
}

// tell wakes who waits for a change.
func (s *groupSet) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellLocked()
}

func (s *groupSet) tellLocked() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// get returns a group, or nil if it does not run here.
func (s *groupSet) get(id GroupID) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

func (s *groupSet) put(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[GroupID]*group{}
	}
	s.byID[g.id] = g
	s.tellLocked()
}

func (s *groupSet) drop(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, g.id)
	s.tellLocked()
}

// all returns the groups that run now, in the order of their ids.
func (s *groupSet) all() []*group {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*group, 0, len(s.byID))
	for _, g := range s.byID {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *group) int { return cmp.Compare(a.id, b.id) })
	return all
}

// groups returns all groups that run on this member, the root group first.
func (c *Coordinator) groups() []*group { return append([]*group{c.root}, c.mounted.all()...) }
