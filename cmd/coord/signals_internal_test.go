package main

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestSecondSignal has a process that does not get to its end be stopped by a second
// signal. The test runs itself as that process.
func TestSecondSignal(t *testing.T) {
	const role = "COORD_TEST_NEVER_ENDS"
	if os.Getenv(role) != "" {
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		_, stop := untilSignal(context.Background(), log) //nolint:usetesting // a process of its own
		defer stop()
		log.Info("waits")
		select {}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSecondSignal$")
	cmd.Env = append(os.Environ(), role+"=1")
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(errs); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), "msg=waits") || strings.Contains(lines.Text(), "msg=stops") {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	exit, ok := errors.AsType[*exec.ExitError](cmd.Wait())
	if !ok || exit.ExitCode() != 1 || !strings.Contains(said[len(said)-1], `msg="exits at once" signal=terminated`) {
		t.Errorf("exit %v, said\n%s", exit, strings.Join(said, "\n"))
	}
}
