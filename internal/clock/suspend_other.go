//go:build !linux && !darwin

package clock

import "time"

// suspended reports nothing where there is nobody to ask: the wall clock tells.
func suspended() (least, most time.Duration) { return 0, 0 }
