package coordtest

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// A trace is what was done to an ensemble, in order.
type trace struct {
	mu    sync.Mutex
	start time.Time // guarded by mu; of the first line
	lines []string  // guarded by mu
}

func (t *trace) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.start.IsZero() {
		t.start = now
	}
	t.lines = append(t.lines, fmt.Sprintf("%12v  ", now.Sub(t.start).Round(time.Microsecond))+fmt.Sprintf(format, args...))
}

func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// maxLogs is how many lines of its members' logs an ensemble keeps.
const maxLogs = 100

// logs are the newest lines of what the members of an ensemble have logged.
type logs struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (l *logs) handler() slog.Handler {
	return slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo})
}

// Write implements [io.Writer] for one line.
func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == maxLogs {
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
