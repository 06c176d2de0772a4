// Package crashtest holds tests only. They run members as processes of their
// own, on real disks and real sockets, kill them without warning, damage their
// directories, and hold what is found against what was promised.
//
//	go test ./internal/crashtest                                    # 5 rounds
//	go test ./internal/crashtest -run TestCrash -crash.rounds=50    # make crash
//	go test ./internal/crashtest -run TestCrash -crash.seed=7       # as a failed run printed it
//
// A member is the test binary, run again with its configuration in the
// environment. It takes requests as lines of JSON on its standard input, answers
// on its standard output, and ends when its input does, so that none outlives
// the test.
//
// The parent writes each request into a ledger before it sends it, and what came
// of it behind it: acknowledged, refused, or unknown. After each round all
// members must show the same tree, and a checker explains every znode and every
// number in it by the ledger. What was unknown is settled by what is found then:
// a later round must find the same, for a request that shows up after its
// process was replaced would be one that was executed too late.
//
// The seed decides what is asked, who is killed and for how long is waited
// before; the moment that comes of it is up to the machine.
//
// If a run fails, its directory is kept and named: the members' data and logs
// and the ledger.
package crashtest
