//go:build race || failpoint

package failpoint

import "sync"

// Enabled reports whether points are compiled in.
const Enabled = true

// A Set is the points of one member. The zero value is ready; a nil Set is never
// hit. All methods may be called concurrently.
type Set struct {
	mu      sync.Mutex // a leaf: no action runs under it
	actions map[Point]Action
	hits    map[Point]int
}

// On has a happen whenever p is hit, in place of what was set before; nil is
// nothing.
func (s *Set) On(p Point, a Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.actions == nil {
		s.actions = map[Point]Action{}
	}
	s.actions[p] = a
}

// Clear takes all actions away. Those that run go on.
func (s *Set) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.actions = nil
}

// Hits returns how often p was hit.
func (s *Set) Hits(p Point) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[p]
}

// Hit is called at a point whose step cannot fail.
func (s *Set) Hit(p Point) { _ = s.Fail(p) }

// Fail is called at a point whose step fails with the error that it returns.
func (s *Set) Fail(p Point) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	if s.hits == nil {
		s.hits = map[Point]int{}
	}
	s.hits[p]++
	a := s.actions[p]
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	return a(p)
}
