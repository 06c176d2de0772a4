// Package bubble runs tests in virtual time, also under the race detector.
package bubble

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Run is synctest.Test, with a way around a fault of the runtime: under the race
// detector the timers of a bubble share one context, and a goroutine that looks at
// the channel of a timer that is due fires it on its own thread, beside the thread
// that advances the bubble's time. Two threads in one context end the process with
// SIGSEGV or a failed CHECK in ThreadSanitizer (golang/go#78156). With one thread at
// a time it cannot happen, and the detector, which orders events and does not wait
// for them to meet, finds the same races.
//
// Because it sets GOMAXPROCS, a test that uses it must not be parallel.
func Run(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if RaceDetector {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	synctest.Test(t, test)
}
