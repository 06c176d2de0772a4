package invariants_test

import (
	"testing"

	"coord/internal/invariants"
)

func TestAssert(t *testing.T) {
	invariants.Assert(true, "holds")
	defer func() {
		v := recover()
		if want := any("coord: assertion failed: 1 is not 2"); invariants.Enabled && v != want {
			t.Errorf("Assert(false) panicked with %v, want %v", v, want)
		}
		if !invariants.Enabled && v != nil {
			t.Errorf("Assert(false) panicked with %v, though assertions are off", v)
		}
	}()
	invariants.Assert(false, "%d is not %d", 1, 2)
}
