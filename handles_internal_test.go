package coord

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"
)

// claimed starts a resume of the session of t that has to wait.
func (l *loneGroup) claimed(ctx context.Context, t Token) <-chan error {
	l.t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := l.c.Resume(ctx, t, SessionOptions{})
		done <- err
	}()
	l.within(time.Second, "the claim", func(s *state) bool {
		ses, ok := s.sessions.get(t.session)
		return ok && ses.claim != nil
	})
	return done
}

// A session can come to this member in entries that it never sees, because it
// catches up by a snapshot. If nobody here waits for it any more, it is let go like
// any other.
func TestSnapshotBringsWhatNobodyWants(t *testing.T) {
	const timeout = 20 * time.Second
	ways := map[string]func(l *loneGroup, tok Token){
		"a claim is granted": func(l *loneGroup, tok Token) {
			ctx, cancel := context.WithCancel(l.t.Context())
			done := l.claimed(ctx, tok)
			l.fallBehind(true)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				l.t.Errorf("Resume = %v", err)
			}
			l.other(request{kind: requestRelease, session: tok.session, generation: firstGeneration})
		},
		"it is taken over at once": func(l *loneGroup, tok Token) {
			l.other(request{kind: requestRelease, session: tok.session, generation: firstGeneration})
			l.fallBehind(false)
			ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
			defer cancel()
			if _, err := l.c.Resume(ctx, tok, SessionOptions{}); !errors.Is(err, ErrUnknownOutcome) {
				l.t.Errorf("Resume = %v, want an unknown outcome", err)
			}
		},
	}
	for what, come := range ways {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, l *loneGroup) {
				tok := l.otherSession(timeout)
				come(l, tok)
				if ses, ok := l.remote.sessions.get(tok.session); !ok || ses.owner != 1 || ses.silent {
					t.Fatalf("the session did not come here: %+v", ses)
				}
				l.catchUp()
				l.within(2*time.Second, "the session to be let go", func(s *state) bool {
					ses, ok := s.sessions.get(tok.session)
					return ok && ses.released
				})
				l.within(2*timeout, "the session to end", func(s *state) bool { return s.sessions.byID.len() == 0 })
				if err := l.g.idle(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What is there for a reason is not let go: sessions with a handle, and one that is
// just being opened.
func TestSnapshotTakesNothingAway(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		s := l.session(10 * time.Second)
		moved, err := l.c.Resume(t.Context(), s.Token(), SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l.fallBehind(false)
		type opened struct {
			s   *Session
			err error
		}
		done := make(chan opened, 1)
		go func() {
			s, err := l.c.NewSession(t.Context(), SessionOptions{})
			done <- opened{s, err}
		}()
		time.Sleep(time.Second)
		l.catchUp()
		o := <-done
		if o.err != nil {
			t.Fatal(o.err)
		}
		time.Sleep(time.Minute)
		for _, s := range []*Session{moved, o.s} {
			if ses, ok := l.g.state().sessions.get(s.id); !ok || ses.silent || s.State() != Connected {
				t.Errorf("session %v is %v behind the snapshot", s.id, s.State())
			}
		}
	})
}

// Whoever resumes with a wrong password has no say in a session that is just being
// opened, though it has no handle yet.
func TestFailedResumeLeavesOpeningsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		r := request{kind: requestOpenSession, timeoutMS: 10_000, password: [16]byte{1}}
		res, err := l.g.submit(t.Context(), l.g.ctx, r, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		guess := Token{ensemble: l.g.state().id, session: res.session}
		if _, err := l.c.Resume(t.Context(), guess, SessionOptions{}); !errors.Is(err, ErrAuthFailed) {
			t.Errorf("Resume = %v", err)
		}
		time.Sleep(5 * time.Second)
		if ses, ok := l.g.state().sessions.get(res.session); !ok || ses.silent {
			t.Errorf("the session is silent: %+v", ses)
		}
	})
}

// Touches do not extend a session that is silent, so a handle on one must not
// believe that they do.
func TestHandleOfASilentSessionEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		s := l.session(10 * time.Second)
		if err := ReleaseFor(t.Context(), l.c, s); err != nil {
			t.Fatal(err)
		}
		if cause := context.Cause(s.Context()); !errors.Is(cause, ErrSessionExpired) {
			t.Errorf("the handle of a session that nobody vouches for ended with %v", cause)
		}
	})
}

// No handle can be used with a state in which it is void: handles end before a
// snapshot is published.
func TestSnapshotEndsHandlesFirst(t *testing.T) {
	l := newLoneGroup(t)
	s := l.session(time.Minute)
	l.fallBehind(true)
	l.log(&command{kind: commandBatch, group: rootGroup, member: 2, batch: &batchCommand{incarnation: 1, number: 1, requests: []request{
		{kind: requestCloseSession, session: s.id, generation: firstGeneration},
	}}})
	before := l.g.pub.Load()
	l.g.hub.history.mu.Lock() // the snapshot gets no further than there
	caught := make(chan struct{})
	go func() {
		defer close(caught)
		l.catchUp()
	}()
	select {
	case <-s.ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("the handle lives until the snapshot is published")
	}
	if l.g.pub.Load() != before {
		t.Error("the snapshot was published first")
	}
	l.g.hub.history.mu.Unlock()
	<-caught
	if cause := context.Cause(s.Context()); !errors.Is(cause, ErrSessionExpired) {
		t.Errorf("it ended with %v", cause)
	}
}

// A resume that comes too late leaves nothing behind.
func TestWaitsForSessionsThatEndedAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		tok := l.otherSession(10 * time.Second)
		l.other(request{kind: requestCloseSession, session: tok.session, generation: firstGeneration})
		l.g.beginResume(tok.session)
		if _, _, err := l.g.awaitClaim(t.Context(), tok.session, 99); !errors.Is(err, ErrSessionExpired) {
			t.Errorf("awaitClaim = %v", err)
		}
		l.g.endResume(tok.session)
		if err := l.g.idle(); err != nil {
			t.Error(err)
		}
	})
}

// What is known of a silent session is forgotten with it, also if it ended in
// entries that this member never saw.
func TestSnapshotForgetsSilences(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		tok := l.otherSession(time.Hour)
		l.other(request{kind: requestRelease, session: tok.session, generation: firstGeneration})
		l.fallBehind(true)
		l.other(request{kind: requestCloseSession, session: tok.session, generation: firstGeneration})
		l.catchUp()
		if err := l.g.idle(); err != nil {
			t.Error(err)
		}
	})
}

// A claim is withdrawn, too, when the caller leaves while the session is asked for
// again because it has become free.
func TestClaimIsWithdrawnBetweenTwoRounds(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		tok := l.otherSession(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := l.claimed(ctx, tok)
		l.mu.Lock()
		l.cut = true
		l.mu.Unlock()
		time.Sleep(2 * time.Second) // a touch is under way, and whatever follows waits for it
		l.log(&command{kind: commandHello, group: rootGroup, member: 2, hello: &helloCommand{expected: 1, nonce: 3, addr: "two:1"}})
		time.Sleep(time.Second)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("Resume = %v", err)
		}
		l.mu.Lock()
		l.cut = false
		l.mu.Unlock()
		l.within(10*time.Second, "the claim to be withdrawn", func(s *state) bool {
			ses, ok := s.sessions.get(tok.session)
			return ok && ses.claim == nil
		})
	})
}

// A hand-over or close that the ensemble did not answer leaves the session to its
// timeout, whatever the reason looks like: touches must not keep it alive.
func TestUnansweredPartingSilences(t *testing.T) {
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(ErrSessionExpired) // as the context of another session has it
	for what, part := range map[string]func(l *loneGroup, s *Session) error{
		"handOver":     func(_ *loneGroup, s *Session) error { return s.HandOver(gone) },
		"closeSession": func(_ *loneGroup, s *Session) error { return s.close(gone) },
		"defect": func(l *loneGroup, s *Session) error {
			l.breakInvariant(s)
			return s.Close()
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, l *loneGroup) {
				s := l.session(10 * time.Second)
				if err := part(l, s); err == nil || s.State() != Closed {
					t.Errorf("it came to %v, and the handle is %v", err, s.State())
				}
				l.within(time.Second, "the session to be silent", func(st *state) bool {
					ses, ok := st.sessions.get(s.id)
					return !ok || ses.silent
				})
			})
		})
	}
}

// A member that is started again and again leaves nothing behind at the others.
func TestSignsOfOldProcessesAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		time.Sleep(time.Second) // it has begun to lead
		for i := range uint64(50) {
			tok := l.otherSession(10 * time.Second)
			l.log(&command{kind: commandHello, group: rootGroup, member: 2, hello: &helloCommand{expected: i + 1, nonce: i + 3, addr: "two:1"}})
			if i%2 == 0 {
				l.other(request{kind: requestCloseSession, session: tok.session, generation: firstGeneration})
			}
		}
		// The next process comes when nothing is left of the earlier ones.
		l.within(time.Minute, "the sessions to end", func(s *state) bool { return s.sessions.byID.len() == 0 })
		l.log(&command{kind: commandHello, group: rootGroup, member: 2, hello: &helloCommand{expected: 51, nonce: 99, addr: "two:1"}})
		l.g.mu.Lock()
		defer l.g.mu.Unlock()
		if n := len(l.g.signs); n > 2 {
			t.Errorf("signs of %d processes are kept", n)
		}
	})
}

// A statusHandler asks for the status of its member whenever it is given a record,
// as the log of a program may.
type statusHandler struct{ c *atomic.Pointer[Coordinator] }

func (statusHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h statusHandler) Handle(context.Context, slog.Record) error {
	if c := h.c.Load(); c != nil {
		c.Status()
	}
	return nil
}
func (h statusHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h statusHandler) WithGroup(string) slog.Handler      { return h }

// The context of a session may find that its time is over when the hub asks it for
// its channel. Nobody's code is called there.
func TestSessionEndsUnderLocks(t *testing.T) {
	var c atomic.Pointer[Coordinator]
	l := newLoneGroup(t, func(cfg *Config) { cfg.Logger = slog.New(statusHandler{&c}) })
	for range 20 {
		s := l.session(4 * time.Second)
		w, err := s.Watch(s.Context(), "/", Subtree)
		if err != nil {
			t.Fatal(err)
		}
		c.Store(l.c)
		SkipClock(l.c, 4*time.Second)
		closed := make(chan struct{})
		go func() {
			w.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatal("closing a watch hangs: the log was written to under a lock that it needs")
		}
		for s.Context().Err() == nil { // a touch came between
			SkipClock(l.c, 4*time.Second)
		}
		c.Store(nil)
	}
}
