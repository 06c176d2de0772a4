package clock

import "golang.org/x/sys/unix"

// Of these two clocks of the system one counts suspensions and the other does not.
const (
	withSuspension    = unix.CLOCK_BOOTTIME
	withoutSuspension = unix.CLOCK_MONOTONIC
)
