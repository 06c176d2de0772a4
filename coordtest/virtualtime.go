package coordtest

import (
	"bytes"
	"runtime"
	"testing"

	"coord/internal/bubble"
)

// VirtualTime runs a test in a time of its own, which starts at midnight of 1 January
// 2000, UTC, and goes on to the next timer whenever all goroutines of the test wait:
// a minute with sessions of 30 s and elections of 2 s passes in some milliseconds,
// and a time.Sleep is exact. It is [testing/synctest.Test], and what its documentation
// says holds:
//
//   - Everything of the test happens inside, with the t that test is given: NewEnsemble,
//     and every goroutine and channel. There is no t.Run, t.Parallel and t.Deadline.
//   - All goroutines must have ended when test returns. Those of ensembles do.
//   - Time stands still while a goroutine waits for something real: a socket, a
//     process, a [sync.Mutex].
//
// Under the race detector it uses one thread, because the detector crashes otherwise
// (golang/go#78156, in Go 1.26), and finds the same races. The test must not be
// parallel.
func VirtualTime(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	bubble.Run(t, test)
}

// inBubble reports whether the time of this goroutine is virtual. Package synctest
// does not say, but the runtime does, in the first line of a stack:
//
//	goroutine 7 [running, synctest bubble 1]:
func inBubble() bool {
	var stack [128]byte
	first, _, _ := bytes.Cut(stack[:runtime.Stack(stack[:], false)], []byte("\n"))
	return bytes.Contains(first, []byte("synctest bubble"))
}
