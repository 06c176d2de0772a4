//go:build deterministic

package deterministic

import (
	"runtime"
	"runtime/debug"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
	_ "unsafe" // for go:linkname
)

// Enabled reports whether this binary is deterministic.
const Enabled = true

//go:linkname simulationSeed runtime.simulationSeed
func simulationSeed(seed uint64)

//go:linkname simulationTrace runtime.simulationTrace
func simulationTrace() (events, hash uint64)

// Start makes what the bubbles of a test do a function of a seed. It is called outside of
// them, by tests that are not parallel.
func Start(t *testing.T, seed uint64) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	before := runtime.GOMAXPROCS(1)
	percent := debug.SetGCPercent(-1)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		runtime.GOMAXPROCS(before)
	})
	runtime.GC()
	simulationSeed(seed)
}

// Trace returns how many decisions were made since Start, and a hash of all of them.
func Trace() (events, hash uint64) { return simulationTrace() }

// collectEvery is how often garbage is collected, in virtual time.
const collectEvery = 5 * time.Second

// Collect has garbage collected while nothing else happens in the bubble, until stop is
// closed: in between the collector is off, since it wakes and stops goroutines. It returns
// at once and is called in the bubble.
func Collect(stop <-chan struct{}) {
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(collectEvery):
			}
			synctest.Wait()
			runtime.GC()
		}
	}()
}
