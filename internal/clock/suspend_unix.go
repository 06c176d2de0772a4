//go:build linux || darwin

package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// suspended returns bounds of the difference of the two clocks of the system, of
// which only what it grows by has a meaning. Both are the real ones also where the
// clock of Go is not, as in a test with virtual time.
//
// The clocks are not read at one moment, and a busy machine may let a tenth of a
// second pass in between. So the one that does not count suspensions is read
// before and behind the other.
func suspended() (least, most time.Duration) {
	var before, with, behind unix.Timespec
	if unix.ClockGettime(withoutSuspension, &before) != nil || unix.ClockGettime(withSuspension, &with) != nil ||
		unix.ClockGettime(withoutSuspension, &behind) != nil {
		return 0, 0
	}
	return time.Duration(with.Nano() - behind.Nano()), time.Duration(with.Nano() - before.Nano())
}
