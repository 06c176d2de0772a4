package raftnode_test

import (
	"log/slog"
	"os"
	"testing"

	"github.com/lni/dragonboat/v4/logger"
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
