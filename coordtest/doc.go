// Package coordtest runs whole ensembles inside a test: real members over real
// raft, with a network and disks in memory, ready in milliseconds, and with
// faults on demand.
//
//	func TestFailover(t *testing.T) {
//		e := coordtest.NewEnsemble(t, 3)
//		old := e.Leader(t.Context())
//		e.Kill(old)
//		e.Leader(t.Context()) // another member
//		e.Restart(old)
//	}
//
// When the test ends, the ensemble is healed and closed, and the test fails if a
// member's invariants are broken, if members that have applied the same writes
// differ, or if a goroutine is left.
//
// An ensemble works inside a testing/synctest bubble, where hours of its time
// pass in milliseconds. Everything, NewEnsemble included, must then happen inside
// the bubble, and [OnDisk] is not possible. Under the race detector a bubble that
// runs on several threads can crash the process (golang/go#78156, a fault of the
// runtime in Go 1.26); until that is mended, run such tests with one:
//
//	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
//	synctest.Test(t, func(t *testing.T) { ... })
package coordtest
