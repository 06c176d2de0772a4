// Package sim simulates ensembles: members with production timeouts over
// coord/internal/memraft, in virtual time, under faults and under load through the
// public API, and checks the guarantees of package coord by their numbers.
// docs/SIMULATION.md says how to run it, what it checks and what it does not.
// A second simulation has clients use package recipes in the same worlds.
//
// All of it is in the tests:
//
//	sim_test.go        flags, runs, the summary
//	world_test.go      the members, and what is done to them
//	seats_test.go      who sits where: members that are replaced, their hosts
//	faults_test.go     the schedule of faults
//	ledger_test.go     what clients asked and were told
//	clients_test.go    clients that read and write
//	sessions_test.go   clients of sessions: ephemerals, resuming, closing
//	watchers_test.go   watches, and the recorders that write the history down
//	history_test.go    what has happened, as all members tell it
//	vanishing_test.go  containers, znodes with a time to live, a quota, and their checker
//	outsiders_test.go  access control lists, and theirs
//	check*_test.go     the checkers
//	lies_test.go, accesslies_test.go  that the checkers find what is wrong
//
//	recipes_test.go    the runs of recipes, and what holds at their end
//	grants_test.go     the checker of whatever has holders: locks, elections
//	contenders_test.go those who are granted something, and observers
//	meetings_test.go   double barriers and barriers, with their checkers
//	numbers_test.go    counters, ids and values, with their checkers
//	queues_test.go     queues, with their checkers
//	topics_test.go     topics, with theirs
//	shares_test.go     partitions, tasks, names and numbers, with theirs
//	jobs_test.go       tasks that processes run together
//	grantlies_test.go  that these checkers find what is wrong
//	queuelies_test.go  and those of queues, topics and shares
package sim
