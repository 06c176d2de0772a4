//go:build !race && !failpoint

package failpoint

// Enabled reports whether points are compiled in.
const Enabled = false

// A Set is the points of one member.
type Set struct{}

// On does nothing in this binary.
func (*Set) On(Point, Action) {}

// Clear does nothing in this binary.
func (*Set) Clear() {}

// Hits returns 0 in this binary.
func (*Set) Hits(Point) int { return 0 }

// Hit does nothing in this binary.
func (*Set) Hit(Point) {}

// Fail returns nil in this binary.
func (*Set) Fail(Point) error { return nil }
