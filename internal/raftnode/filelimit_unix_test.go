//go:build unix

package raftnode_test

import (
	"strings"
	"syscall"
	"testing"

	"coord/internal/raftnode"
)

// Where file descriptors would run out, Open says so.
func TestTooFewFiles(t *testing.T) {
	if isChild() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 100, Max: 100}); err != nil {
			t.Skip(err)
		}
		_, err := raftnode.Open(onDisk(t, 1)[0])
		if err == nil || !strings.Contains(err.Error(), "limit of open files is 100") {
			t.Errorf("Open = %v, want an error about the limit of open files", err)
		}
		return
	}
	if out, ok := runChild(t, "run"); !ok {
		t.Errorf("failed:\n%s", out)
	}
}
