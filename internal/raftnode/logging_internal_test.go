package raftnode

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// A formatted value tells whether it was formatted.
type formatted struct{ n *int }

func (f formatted) String() string { *f.n++; return "value" }

func captured(level slog.Level) (*bytes.Buffer, *slog.Logger) {
	out := new(bytes.Buffer)
	return out, slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
}

func TestLibraryLevels(t *testing.T) {
	lib := new(libraryLog)
	lib.install.Do(func() {}) // the factory of the process is not this test's
	out, l := captured(slog.LevelDebug - 8)
	defer lib.attach(l)()
	raft, transport := &packageLog{lib, "raft"}, &packageLog{lib, "transport"}
	tests := []struct {
		say  func(string, ...any)
		text string
		want string
	}{
		{raft.Debugf, "detail", "level=DEBUG-4"},
		{raft.Infof, "fact", "level=DEBUG "},
		{raft.Warningf, "became candidate at term %d", "level=DEBUG "},
		{raft.Warningf, "had %d LocalTick msgs", "level=WARN "},
		{transport.Warningf, "dropped an invalid snapshot %d", "level=WARN "},
		{raft.Warningf, "deployment id does not match %d, message dropped", "level=WARN "},
		{raft.Warningf, "%d dropped proposal, leader transferring", "level=DEBUG "},
		{raft.Warningf, "%d dropped RequestVote at term 7, leader available", "level=DEBUG "},
		{raft.Warningf, "%d rejected preVote", "level=DEBUG "},
		{raft.Errorf, "broken %d", "level=ERROR "},
		{transport.Errorf, "failed to get a connection to %d", "level=DEBUG "},
		{raft.Warningf, "%d dropped ReadIndex, no leader", "level=DEBUG "},
	}
	for _, tt := range tests {
		out.Reset()
		tt.say(tt.text, 7)
		if got := out.String(); !strings.Contains(got, tt.want) {
			t.Errorf("%q was logged as %q, want %s", tt.text, got, tt.want)
		}
	}
}

func TestLibraryFormatsOnlyWhatIsLogged(t *testing.T) {
	lib := new(libraryLog)
	lib.install.Do(func() {})
	_, l := captured(slog.LevelWarn)
	detach := lib.attach(l)
	p, n := &packageLog{lib, "raft"}, 0
	p.Debugf("%s", formatted{&n})
	p.Infof("%s", formatted{&n})
	detach()
	p.Errorf("%s", formatted{&n})
	if n != 0 {
		t.Errorf("%d messages were formatted that nobody reads", n)
	}
}

// A flood of dropped messages is counted in full and logged now and then.
func TestDroppedMessagesAreCounted(t *testing.T) {
	lib := new(libraryLog)
	lib.install.Do(func() {})
	out, l := captured(slog.LevelWarn)
	defer lib.attach(l)()
	p := &packageLog{lib, "dragonboat"}
	for range 1000 {
		p.Warningf("dropped an incoming message")
	}
	if n := lib.dropped.Load(); n != 1000 {
		t.Errorf("dropped = %d, want 1000", n)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 10 {
		t.Errorf("%d lines logged, want 10: one for each power of two", lines)
	}
}

// The library goes on after a Panicf that returns, and breaks things.
func TestPanicfPanics(t *testing.T) {
	lib := new(libraryLog)
	for name, attach := range map[string]bool{"with a host": true, "without a host": false} {
		t.Run(name, func(t *testing.T) {
			out, l := captured(slog.LevelError)
			if attach {
				lib.install.Do(func() {})
				defer lib.attach(l)()
			}
			defer func() {
				err, _ := recover().(error)
				if p, ok := errors.AsType[*panicfError](err); !ok || p.text != "index 7 is gone" {
					t.Errorf("Panicf panicked with %v", err)
				}
				if attach != strings.Contains(out.String(), "index 7 is gone") {
					t.Errorf("logged %q", out.String())
				}
			}()
			(&packageLog{lib, "raft"}).Panicf("index %d is gone\n", 7)
		})
	}
}

// The oldest open host hears the library; when it closes, the next one does.
func TestLibraryTalksToOldestHost(t *testing.T) {
	lib := new(libraryLog)
	lib.install.Do(func() {})
	out1, l1 := captured(slog.LevelError)
	out2, l2 := captured(slog.LevelError)
	detach1, detach2 := lib.attach(l1), lib.attach(l2)
	p := &packageLog{lib, "raft"}
	p.Errorf("first")
	detach1()
	p.Errorf("second")
	detach2()
	p.Errorf("third")
	if !strings.Contains(out1.String(), "first") || strings.Contains(out1.String(), "second") {
		t.Errorf("the first host heard %q, want only the first message", out1)
	}
	if !strings.Contains(out2.String(), "second") || strings.Contains(out2.String(), "first") {
		t.Errorf("the second host heard %q, want only the second message", out2)
	}
}
