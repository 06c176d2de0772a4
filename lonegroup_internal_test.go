package coord

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"coord/internal/bubble"
	"coord/internal/replica"
)

// A loneGroup is member 1 of an ensemble of two whose log is a slice: what the log
// holds, what this member has applied of it, and what becomes of its proposals is
// up to the test. Member 2 is whatever the test has it propose.
type loneGroup struct {
	t *testing.T
	c *Coordinator
	g *group
	replica.Host

	mu      sync.Mutex // held while something is applied
	m       *machine
	remote  *state // of a member that has applied the whole log
	index   uint64
	lagging bool           // this member applies nothing
	cut     bool           // its proposals are lost
	before  func(*command) // called with each proposal, without mu
}

// inBubble runs a test on a lone group in virtual time.
func inBubble(t *testing.T, test func(t *testing.T, l *loneGroup)) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) { test(t, newLoneGroup(t)) })
}

// newLoneGroup starts the group and waits until it has joined.
func newLoneGroup(t *testing.T, change ...func(*Config)) *loneGroup {
	t.Helper()
	cfg := Config{
		ID: 1, Dir: "none", Logger: slog.New(slog.DiscardHandler),
		InitialMembers: []Member{{ID: 1, Addr: "one:1"}, {ID: 2, Addr: "two:1"}}, Insecure: true,
	}
	for _, f := range change {
		f(&cfg)
	}
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	c := newCoordinator(cfg)
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(t.Context()))
	s := newState(rootGroup)
	g := newGroup(s.group, &cfg, c.log)
	c.root, g.onFail = g, c.cancel
	l := &loneGroup{t: t, c: c, g: g, m: &machine{g: g, s: s}, remote: newState(rootGroup)}
	g.host, c.host = l, l
	g.setRole(replica.Role{Leader: 1, Term: 1})
	g.start(&cfg)
	t.Cleanup(func() {
		c.cancel(ErrClosed)
		g.close(ErrClosed)
	})
	if err := g.awaitJoined(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.log(&command{kind: commandHello, group: rootGroup, member: 2, hello: &helloCommand{nonce: 2, addr: "two:1"}})
	return l
}

// Propose implements [replica.Host].
func (l *loneGroup) Propose(ctx context.Context, _ replica.GroupID, b []byte) error {
	cmd, err := decodeCommand(b)
	if err != nil {
		l.t.Errorf("a command that no member can read: %v", err)
	}
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		before(cmd)
	}
	l.mu.Lock()
	if !l.cut {
		l.appendLocked(b)
	}
	lost := l.lagging || l.cut
	l.mu.Unlock()
	if !lost {
		return nil
	}
	<-ctx.Done()
	return replica.ErrUnknownOutcome
}

// ReadIndex implements [replica.Host].
func (l *loneGroup) ReadIndex(ctx context.Context, _ replica.GroupID) error {
	l.mu.Lock()
	lagging := l.lagging
	l.mu.Unlock()
	if lagging {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (l *loneGroup) appendLocked(b []byte) {
	l.index++
	if cmd, err := decodeCommand(b); err == nil {
		l.remote.apply(cmd, digestOf(b))
	}
	if !l.lagging {
		l.m.Apply([]replica.Entry{{Index: l.index, Cmd: b}})
	}
}

// log puts a command into the log.
func (l *loneGroup) log(cmd *command) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := newEncoder()
	e.command(cmd, formatVersion)
	l.appendLocked(e.buf.Bytes())
}

// other has member 2 propose a request, and returns its result.
func (l *loneGroup) other(r request) result {
	l.t.Helper()
	m := l.remote.members.get(2)
	l.log(&command{kind: commandBatch, group: rootGroup, member: 2, batch: &batchCommand{
		incarnation: m.incarnation, number: m.number + 1, touch: &touch{}, requests: []request{r},
	}})
	res := l.remote.members.get(2).results[0]
	if code := res.firstError(); code != codeOK {
		l.t.Fatalf("member 2 was told %v", code)
	}
	return res
}

// otherSession has member 2 open a session.
func (l *loneGroup) otherSession(timeout time.Duration) Token {
	l.t.Helper()
	t := Token{ensemble: l.g.state().id, password: newSecret([16]byte{1})}
	t.session = l.other(request{kind: requestOpenSession, password: t.password.bytes(), timeoutMS: timeout.Milliseconds()}).session
	return t
}

// fallBehind has this member apply nothing any more. If its proposals are lost as
// well, the log does not have them.
func (l *loneGroup) fallBehind(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lagging, l.cut = true, cut
}

// catchUp has this member install a snapshot of the whole log.
func (l *loneGroup) catchUp() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var image bytes.Buffer
	err := writeSnapshot(l.remote.freeze(), &image, nil)
	if err == nil {
		err = l.m.Restore(&image, nil)
	}
	if err != nil {
		l.t.Errorf("install a snapshot: %v", err)
	}
	l.lagging, l.cut = false, false
}

// within waits for a condition, in virtual time.
func (l *loneGroup) within(d time.Duration, what string, cond func(*state) bool) {
	l.t.Helper()
	for until := time.Now().Add(d); !cond(l.g.state()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			l.t.Fatalf("waited %v for %s", d, what)
		}
	}
}

// session opens a session on this member.
func (l *loneGroup) session(timeout time.Duration) *Session {
	l.t.Helper()
	s, err := l.c.NewSession(l.t.Context(), SessionOptions{Timeout: timeout})
	if err != nil {
		l.t.Fatalf("NewSession = %v", err)
	}
	return s
}

// idle checks that nothing is kept for sessions that are gone.
func (g *group) idle() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.state()
	if n, w, r, q := len(g.sessions), len(g.waits), len(g.resuming), len(g.silences); n+w+r+q > 0 {
		return fmt.Errorf("%d handles, %d waits, %d resumes and %d silences are left", n, w, r, q)
	}
	if n := s.sessions.byID.len() + s.sessions.byOwner.len() + s.sessions.ephemerals.len(); n > 0 {
		return errors.New("sessions are left in the state")
	}
	return nil
}
