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
// Beside the requests of the ledger, others have witnesses of their own:
//
//	grants_test.go     holders of locks: who was told that he holds, with which fence, and the writes that a lock protects
//	items_test.go      a queue: nothing lost, nothing acknowledged twice
//	history_test.go    recorders in all processes, whose streams must agree, of each group by itself, and make the tree that is found
//	registers_test.go  porcupine, which knows nothing of zxids, judges the registers
//
// TestChaos has the members on hosts of a network of their own (package lan), and
// does more to them:
//
//	go test ./internal/crashtest -run TestChaos -chaos.minutes=20   # make chaos
//
// In three of five ensembles registers, numbers, sequential and ephemeral znodes are served
// by raft groups of their own, and registers and numbers move from group to group all the
// time (moves_test.go); in three of five, members are replaced by new ones
// (members_linux_test.go), and observers come and go (visitors_linux_test.go).
//
// It needs root on Linux and the program ip, and is skipped elsewhere.
//
// If a run fails, its directory is kept and named: the members' data and logs
// and the ledger.
package crashtest
