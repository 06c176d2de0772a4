//go:build !linux

package bubble

import "time"

// lastResort does nothing here: the other alarms have to do.
func lastResort(time.Duration) (stop func()) { return func() {} }
