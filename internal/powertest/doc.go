// Package powertest holds tests only. They cut the power of members of a whole
// ensemble, in memory and in virtual time, at any moment and at every failpoint,
// and hold what is left against the promise that an acknowledged write survives.
//
//	go test ./internal/powertest                            # 30 cuts each
//	go test ./internal/powertest -run TestPowerCuts -power.cuts=5000
//	go test -tags failpoint ./internal/powertest -run TestPowerCutAtFailpoints
//	… -power.seed=7                                         # as a failed run printed it
//
// The seed decides what is cut, after how much time, and what of the unsynced
// changes is lost. The order in which goroutines run is not decided by it.
//
// The log database of a member in memory is tan. It takes a sector that is lost before
// one that was kept for corruption, and does not start; so what is lost here is always
// the end of what was written. Package crashtest cuts the power of processes on the disk,
// where the log database is pebble and sectors are lost at random.
package powertest
