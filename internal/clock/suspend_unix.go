//go:build linux || darwin

package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// suspended returns the difference of the two clocks of the system, of which only
// what it grows by has a meaning. Both are the real ones also where the clock of
// Go is not, as in a test with virtual time.
//
// The one that counts suspensions is read first: what passes between the two
// readings then makes the result too small, never too large.
func suspended() time.Duration {
	var with, without unix.Timespec
	if unix.ClockGettime(withSuspension, &with) != nil || unix.ClockGettime(withoutSuspension, &without) != nil {
		return 0
	}
	return time.Duration(with.Nano() - without.Nano())
}
