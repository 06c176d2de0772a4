// Package memraft implements package replica in memory, for simulations: several
// members in one process share a [Net], which is their network and keeps their
// disks. It is a small raft of its own (Ongaro, "Consensus: Bridging Theory and
// Practice", ch. 3, with pre-vote, check-quorum, leadership transfer and ReadIndex
// of ch. 6, 9 and 10), so that what is above it meets what real raft does to it,
// and not what somebody thought of:
//
//	net := memraft.NewNet(seed)
//	host, err := net.Open(memraft.Config{Member: 1, Members: []replica.MemberID{1, 2, 3}, Election: time.Second})
//	…
//	net.Isolate(1)
//	net.Pause(2)
//	net.SetWeather(memraft.Weather{Loss: 0.1, MaxDelay: time.Second})
//
// Everything waits by timers, so inside a bubble of testing/synctest time is
// virtual. Chance comes from the seed; which of two goroutines runs first does not.
//
// # What it shows
//
//   - elections that take 1 to 2 election timeouts, or more when votes split; a
//     leader that does not know for as long that it has lost its quorum;
//   - proposals that are refused, lost with and without having been committed,
//     committed long after their proposer gave up or was restarted
//     ([Weather].Stall), and answers that never come ([Weather].Deaf);
//   - members that apply late, each in batches of its own;
//   - reads that are refused, delayed, or lost;
//   - members that catch up by a snapshot, because logs are cut;
//   - members that crash and come back with what is on their disks; that are cut
//     off from all or some, in both directions or in one; that are paused, with
//     everything that was sent to them coming at once when they are not;
//   - members that are added, first as learners, promoted and removed, one at a time
//     and through the log (Ongaro §4.1); a change that is lost with its leader; a
//     removed member that never hears of it;
//   - messages that are lost, late, and overtake each other.
//
// # Guarantees
//
// Those of package replica. R1, R6, R7 and R8 are raft's; the goroutine of a replica that
// applies is the only one that calls its machine, but for Save (R5), and answers
// what waits only behind Apply (R2, R4); only what was never appended or sent is
// refused without replica.ErrUnknownOutcome (R3).
//
// # What it does not show
//
// Disks neither fail nor forget: what was written is there after a crash. A paused
// member's raft stands still, its user does not.
package memraft
