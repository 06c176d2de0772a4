//go:build !race && !invariants

// Package invariants holds assertions for what cannot be. They are compiled in
// under the race detector and with the build tag invariants, and cost nothing
// otherwise.
package invariants

// Enabled reports whether this binary checks assertions.
const Enabled = false

// Assert does nothing in this binary.
func Assert(bool, string, ...any) {}
