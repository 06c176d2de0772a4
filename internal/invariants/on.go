//go:build race || invariants

// Package invariants holds assertions for what cannot be. They are compiled in
// under the race detector and with the build tag invariants, and cost nothing
// otherwise.
package invariants

import "fmt"

// Enabled reports whether this binary checks assertions.
const Enabled = true

// Assert panics with the message unless cond holds. An argument that is costly
// to compute belongs behind Enabled.
func Assert(cond bool, format string, args ...any) {
	if !cond {
		panic("coord: assertion failed: " + fmt.Sprintf(format, args...))
	}
}
