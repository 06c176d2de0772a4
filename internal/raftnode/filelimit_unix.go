//go:build unix

package raftnode

import (
	"fmt"
	"syscall"
)

// minOpenFiles is what a member needs at the very least: the log database
// keeps some hundred files open, and there is a connection to each peer.
const minOpenFiles = 512

// checkFileLimit refuses to start where file descriptors would run out: the
// log ends the process when it cannot open another file.
func checkFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil //nolint:nilerr // then the limit is not known, which is no reason not to start
	}
	if limit.Cur < minOpenFiles {
		return fmt.Errorf("raftnode: the limit of open files is %d, at least %d are needed (ulimit -n)", limit.Cur, minOpenFiles)
	}
	return nil
}
