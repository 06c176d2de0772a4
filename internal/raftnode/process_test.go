package raftnode_test

import (
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/lni/dragonboat/v4/logger"

	"coord/internal/raftnode"
)

func stderrLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// A programmer's own logger factory for the library stays in place.
func TestForeignLoggerFactory(t *testing.T) {
	if isChild() {
		said := 0
		logger.SetLoggerFactory(func(pkg string) logger.ILogger {
			said++
			return logger.CreateCapnsLog(pkg)
		})
		e := open(t, inMemory(1), 1)
		e.propose(0, 1, "x")
		if said == 0 {
			t.Error("the program's own factory was not asked")
		}
		return
	}
	if out, ok := runChild(t, "run"); !ok {
		t.Errorf("failed:\n%s", out)
	}
}

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
