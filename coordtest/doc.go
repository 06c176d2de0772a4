// Package coordtest runs whole ensembles inside a test: real members over real
// raft, with a network and disks in memory, ready in some 20 milliseconds, and with
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
// [New] is an ensemble of one for tests that are about no faults. [VirtualTime] runs a
// test in a time of its own, with the timeouts of production, where minutes pass in
// milliseconds. [OnDisk] and [OnSockets] take away what is in memory. A [Nemesis] has
// everything go wrong by a seed while the test's own work goes on. [ServeZooKeeper]
// gives addresses for clients of ZooKeeper. [TestCodec],
// [TestAuthenticator] and [TestClient] test what programs write for coord; for package
// discovery there is discoverytest. docs/TESTING.md is the guide to all of it.
//
// # Faults
//
//	processes   Kill, Stop, Restart, Pause, Resume
//	machines    PowerCut, SkipClock
//	disks       SlowDisk, FillDisk, FreeDisk, FailDisk
//	network     Isolate, Cut, CutOneWay, Split, Delay, Lose, Heal
//	raft        Lead
//	sessions    ExpireSession
//
// # Checks
//
// When the test ends, the ensemble is healed, paused members are resumed, and the test
// fails if a member's invariants are broken, if a member had to stop itself though its
// disk was neither full nor failed, if running members that have applied the same writes
// differ, or if a goroutine of a member is left. Members that are down are not started
// for that.
//
// A test that fails, for whatever reason, is told what was done to the ensemble and
// when, what its members logged last, the seed, and the command that repeats it.
package coordtest
