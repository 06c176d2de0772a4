package coord_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/invariants"
)

func mustSession(t *testing.T, c *coord.Coordinator, timeout time.Duration) *coord.Session {
	t.Helper()
	s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: timeout})
	if err != nil {
		t.Fatalf("NewSession = %v", err)
	}
	return s
}

func mustResume(t *testing.T, c *coord.Coordinator, tok coord.Token) *coord.Session {
	t.Helper()
	s, err := c.Resume(t.Context(), tok, coord.SessionOptions{})
	if err != nil {
		t.Fatalf("Resume = %v", err)
	}
	return s
}

// resumption is what a Resume that runs beside the test came to.
type resumption struct {
	s   *coord.Session
	err error
	at  time.Time
}

// resuming starts a Resume.
func resuming(ctx context.Context, c *coord.Coordinator, tok coord.Token) <-chan resumption {
	done := make(chan resumption, 1)
	go func() {
		s, err := c.Resume(ctx, tok, coord.SessionOptions{})
		done <- resumption{s, err, time.Now()}
	}()
	return done
}

// wantMoved checks that a handle has ended because another took its session.
func wantMoved(t *testing.T, s *coord.Session) {
	t.Helper()
	select {
	case <-s.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("the old handle did not end")
	}
	if cause := context.Cause(s.Context()); !errors.Is(cause, coord.ErrSessionMoved) || s.State() != coord.Closed {
		t.Errorf("the old handle is %v with cause %v, want closed because it moved", s.State(), cause)
	}
	if _, err := s.SetData(t.Context(), "/eph", nil); !errors.Is(err, coord.ErrSessionMoved) {
		t.Errorf("SetData through the old handle = %v, want moved", err)
	}
	if err := coord.WriteThrough(t.Context(), s, "/eph"); !errors.Is(err, coord.ErrSessionMoved) {
		t.Errorf("the ensemble says %v to the old handle, want moved", err)
	}
}

// wantKept checks that s has its ephemeral from before.
func wantKept(t *testing.T, s *coord.Session, st coord.Stat) {
	t.Helper()
	now, err := s.SetData(t.Context(), "/eph", []byte("resumed"))
	if err != nil || now.Czxid != st.Czxid || now.EphemeralOwner != s.ID() {
		t.Errorf("SetData through the resumed handle = %+v, %v; it was created at %v", now, err, st.Czxid)
	}
	if paths, err := s.Ephemerals(t.Context(), "/"); err != nil || len(paths) != 1 {
		t.Errorf("Ephemerals = %v, %v", paths, err)
	}
}

func TestG16ResumedSessionsKeepTheirEphemerals(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		old := e.Follower(t.Context())
		s := mustSession(t, old, 30*time.Second)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)

		// Another handle of the same process.
		again := mustResume(t, old, s.Token())
		wantMoved(t, s)
		wantKept(t, again, st)

		// The process died and was started again: its ghost is its own, at once.
		e.Kill(old)
		time.Sleep(3 * time.Second)
		restarted := e.Restart(old)
		begin := time.Now()
		back := mustResume(t, restarted, s.Token())
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("it took %v to resume after a restart", d)
		}
		if back.ID() != s.ID() || back.Token() != s.Token() || back.Timeout() != s.Timeout() {
			t.Errorf("session %v with %v, want %v with %v", back.ID(), back.Timeout(), s.ID(), s.Timeout())
		}
		wantKept(t, back, st)

		// The process died and was started again, and another member takes over.
		e.Kill(restarted)
		if err := e.Restart(restarted).Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		begin = time.Now()
		elsewhere := mustResume(t, e.Leader(t.Context()), s.Token())
		if d := time.Since(begin); d > time.Second {
			t.Errorf("it took %v to resume what was left by a process that was followed by another", d)
		}
		wantKept(t, elsewhere, st)
		if err := elsewhere.Close(); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := e.Leader(t.Context()).Exists(t.Context(), "/eph", coord.Linearizable()); ok || err != nil {
			t.Errorf("Exists = %v, %v behind the close", ok, err)
		}
	})
}

func TestRestartOnDiskResumes(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.OnDisk())
	c := e.Follower(t.Context())
	s := mustSession(t, c, time.Minute)
	_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
	text := s.Token().Text() // what a process would have written to a file
	e.Kill(c)
	c = e.Restart(c)
	tok, err := coord.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	wantKept(t, mustResume(t, c, tok), st)
}

func TestG17ResumeWaitsForAProcessThatMayLive(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const timeout = 10 * time.Second
		leader, owner := e.Leader(t.Context()), e.Follower(t.Context())
		s := mustSession(t, owner, timeout)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		done := resuming(t.Context(), leader, s.Token())
		time.Sleep(time.Minute) // the owner lives
		select {
		case r := <-done:
			t.Fatalf("Resume = %v while the owner lives", r.err)
		default:
		}
		if _, err := s.SetData(t.Context(), "/eph", nil); err != nil {
			t.Errorf("SetData of a session that is claimed = %v", err)
		}
		var ended time.Time
		handle := make(chan struct{})
		go func() {
			<-s.Context().Done()
			ended = time.Now()
			close(handle)
		}()
		e.Isolate(owner)
		cut := time.Now()
		r := <-done
		<-handle
		if r.err != nil {
			t.Fatalf("Resume = %v", r.err)
		}
		if waited := r.at.Sub(cut); waited < timeout-2*time.Second || waited > timeout+2*time.Second {
			t.Errorf("taken over after %v, want about %v", waited, timeout)
		}
		if margin := r.at.Sub(ended); margin <= 0 {
			t.Errorf("the old handle ended %v after the new one was made", -margin)
		}
		if !errors.Is(context.Cause(s.Context()), coord.ErrSessionExpired) {
			t.Errorf("the old handle ended with %v", context.Cause(s.Context()))
		}
		wantKept(t, r.s, st)

		// The old owner comes back: what it says does not count.
		e.Heal()
		eventually(t, "the old owner to come back", func() bool { return owner.Health() == nil })
		if err := coord.WriteThrough(t.Context(), s, "/eph"); !errors.Is(err, coord.ErrSessionMoved) {
			t.Errorf("the ensemble says %v to the old handle, want moved", err)
		}
		time.Sleep(time.Minute)
		wantKept(t, r.s, st)

		// Its touches do not extend: with the new owner gone, the session ends.
		e.Kill(leader)
		eventually(t, "the session to end", func() bool {
			_, ok, err := owner.Exists(t.Context(), "/eph")
			return err == nil && !ok
		})
	})
}

func TestOfTwoClaimantsTheLastWins(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		owner := e.Follower(t.Context())
		s := mustSession(t, owner, 10*time.Second)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		var others []*coord.Coordinator
		for _, c := range e.Running() {
			if c != owner {
				others = append(others, c)
			}
		}
		var losers []<-chan resumption
		for i := range 5 {
			losers = append(losers, resuming(t.Context(), others[i%2], s.Token()))
			time.Sleep(time.Second)
		}
		last := losers[4]
		begin := time.Now()
		for _, l := range losers[:4] {
			if r := <-l; !errors.Is(r.err, coord.ErrSessionMoved) || r.at.After(begin) {
				t.Errorf("an earlier claim came to %v at %v", r.err, r.at.Sub(begin))
			}
		}
		e.Kill(owner)
		r := <-last
		if r.err != nil {
			t.Fatalf("the last claim came to %v", r.err)
		}
		wantKept(t, r.s, st)
	})
}

func TestClaimantsRaceForTheDead(t *testing.T) {
	races := 10
	if invariants.Enabled { // the race detector takes 2 s for each
		races = 3
	}
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		for range races {
			owner := e.Follower(t.Context())
			s := mustSession(t, owner, 5*time.Second)
			mustCreate(t, s, "/eph", "", coord.Ephemeral)
			e.Kill(owner)
			if err := e.Restart(owner).Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			// All may have it at once: who comes first does, and the rest claims it from
			// that one, who lives.
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			var all []<-chan resumption
			for range 3 {
				for _, c := range e.Running() {
					all = append(all, resuming(ctx, c, s.Token()))
				}
			}
			var live []*coord.Session
			var got []*coord.Session
			for _, ch := range all {
				if r := <-ch; r.err == nil {
					got = append(got, r.s)
				} else if !errors.Is(r.err, coord.ErrSessionMoved) && !errors.Is(r.err, context.DeadlineExceeded) {
					t.Errorf("Resume = %v, want the session, or moved, or no end of waiting", r.err)
				}
			}
			cancel()
			time.Sleep(time.Minute)
			for _, h := range got {
				if h.State() == coord.Connected {
					live = append(live, h)
				}
			}
			if len(live) != 1 {
				t.Fatalf("%d of %d handles live on one session", len(live), len(got))
			}
			for _, h := range live {
				if err := h.Close(); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the ephemeral to vanish", func() bool {
				_, ok, err := e.Leader(t.Context()).Exists(t.Context(), "/eph")
				return err == nil && !ok
			})
		}
	})
}

func TestClaimOutlivesItsLeader(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		owner, claimant := e.Member(1), e.Member(2)
		e.Lead(t.Context(), e.Member(3))
		s := mustSession(t, owner, 10*time.Second)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		e.Kill(owner)
		done := resuming(t.Context(), claimant, s.Token())
		time.Sleep(5 * time.Second)
		e.Lead(t.Context(), claimant)
		changed := time.Now()
		r := <-done
		if r.err != nil {
			t.Fatalf("Resume = %v", r.err)
		}
		if d := r.at.Sub(changed); d < 9*time.Second {
			t.Errorf("taken over %v after a change of leader, want the whole timeout", d)
		}
		wantKept(t, r.s, st)
	})
}

// A claim is in the snapshot by which a member catches up that then leads.
func TestClaimOutlivesASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, late := e.Member(1), e.Member(2)
		e.Lead(t.Context(), c)
		owner := e.Member(3)
		s := mustSession(t, owner, 40*time.Second)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		e.Kill(late)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := resuming(ctx, c, s.Token())
		for range 200 {
			mustCreate(t, c, "/n-", "", coord.PersistentSequential)
		}
		late = e.Restart(late)
		if err := late.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.Kill(owner)
		e.Lead(t.Context(), late)
		r := <-done
		if r.err != nil {
			t.Fatalf("Resume = %v", r.err)
		}
		wantKept(t, r.s, st)
	}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 30 }))
}

// A handle learns from a snapshot, too, that its session has moved.
func TestMoveIsLearntFromASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		owner := e.Follower(t.Context())
		s := mustSession(t, owner, time.Minute)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		// It is handed over by somebody who speaks for it, while it is cut off.
		e.Isolate(owner)
		if err := coord.ReleaseFor(t.Context(), c, s); err != nil {
			t.Fatal(err)
		}
		there := mustResume(t, c, s.Token())
		for range 200 {
			mustCreate(t, c, "/n-", "", coord.PersistentSequential)
		}
		if s.Context().Err() != nil {
			t.Fatalf("the cut-off handle knows already: %v", context.Cause(s.Context()))
		}
		e.Heal()
		wantMoved(t, s)
		wantKept(t, there, st)
	}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 30 }))
}

func TestHandOver(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a, b := e.Member(1), e.Member(2)
		s := mustSession(t, a, 10*time.Second)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		if err := s.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(context.Cause(s.Context()), coord.ErrClosed) || s.State() != coord.Closed {
			t.Errorf("handed over: %v, %v", s.State(), context.Cause(s.Context()))
		}
		if err := s.HandOver(t.Context()); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("second HandOver = %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close behind HandOver = %v", err)
		}
		time.Sleep(5 * time.Second)
		begin := time.Now()
		there := mustResume(t, b, s.Token())
		if d := time.Since(begin); d > time.Second {
			t.Errorf("it took %v to resume what was handed over", d)
		}
		wantKept(t, there, st)

		// To somebody who waits.
		waiting := resuming(t.Context(), a, s.Token())
		time.Sleep(time.Second)
		begin = time.Now()
		if err := there.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := <-waiting
		if r.err != nil || r.at.Sub(begin) > time.Second {
			t.Fatalf("Resume = %v, %v behind the hand-over", r.err, r.at.Sub(begin))
		}
		wantKept(t, r.s, st)

		// To nobody: it lives for its timeout.
		if err := r.s.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Second)
		if _, ok, err := b.Exists(t.Context(), "/eph"); !ok || err != nil {
			t.Errorf("Exists = %v, %v before the timeout", ok, err)
		}
		time.Sleep(4 * time.Second)
		if _, ok, err := b.Exists(t.Context(), "/eph"); ok || err != nil {
			t.Errorf("Exists = %v, %v behind the timeout", ok, err)
		}
		if _, err := a.Resume(t.Context(), s.Token(), coord.SessionOptions{}); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Resume of an expired session = %v", err)
		}
	})
}

// A hand-over that nobody acknowledged still ends the handle.
func TestHandOverWithoutAQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s := mustSession(t, c, 10*time.Second)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		e.Isolate(c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.HandOver(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waits for its timeout") {
			t.Errorf("HandOver = %v", err)
		}
		if s.Context().Err() == nil {
			t.Error("the handle lives")
		}
		r := <-resuming(t.Context(), e.Leader(t.Context()), s.Token())
		if r.err != nil {
			t.Fatalf("Resume = %v", r.err)
		}
		e.Heal()
		eventually(t, "the old owner to come back", func() bool { return c.Health() == nil })
		time.Sleep(20 * time.Second)
		wantKept(t, r.s, st)
	})
}

// Whoever is the next process of the owner's member makes the session free, also
// for one who has claimed it before.
func TestClaimIsGrantedWhenTheOwnerRestarts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		owner := e.Follower(t.Context())
		s := mustSession(t, owner, time.Hour)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		e.Kill(owner)
		done := resuming(t.Context(), e.Leader(t.Context()), s.Token())
		time.Sleep(time.Minute)
		if err := e.Restart(owner).Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := <-done
		if r.err != nil || time.Since(r.at) > 10*time.Second {
			t.Fatalf("Resume = %v", r.err)
		}
		wantKept(t, r.s, st)
	})
}

func TestClaimIsWithdrawn(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		owner, claimant := e.Follower(t.Context()), e.Leader(t.Context())
		s := mustSession(t, owner, 10*time.Second)
		mustCreate(t, s, "/eph", "", coord.Ephemeral)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := claimant.Resume(ctx, s.Token(), coord.SessionOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Resume = %v", err)
		}
		e.Kill(owner)
		time.Sleep(13 * time.Second)
		if _, ok, err := claimant.Exists(t.Context(), "/eph"); ok || err != nil {
			t.Errorf("Exists = %v, %v: nobody wanted it any more", ok, err)
		}
	})
}

// What comes to a process where nobody waits is let go: its touches would keep it
// alive for ever.
func TestNobodysSessionIsLetGo(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		owner, claimant := e.Follower(t.Context()), e.Leader(t.Context())
		s := mustSession(t, owner, 10*time.Second)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		if err := coord.ClaimOnly(t.Context(), claimant, s.Token()); err != nil {
			t.Fatal(err)
		}
		e.Kill(owner)
		time.Sleep(14 * time.Second)
		back := mustResume(t, claimant, s.Token()) // released, so there is no wait
		wantKept(t, back, st)
		if err := back.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := coord.ClaimOnly(t.Context(), claimant, s.Token()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(14 * time.Second)
		if _, ok, err := claimant.Exists(t.Context(), "/eph"); ok || err != nil {
			t.Errorf("Exists = %v, %v: it lives without anybody", ok, err)
		}
	})
}

// A holder that gives up by its own clock leaves the session to who waits for it.
func TestGivenUpSessionGoesToTheClaimant(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		owner := e.Follower(t.Context())
		s := mustSession(t, owner, 10*time.Second)
		_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
		done := resuming(t.Context(), e.Leader(t.Context()), s.Token())
		time.Sleep(time.Second)
		e.Isolate(owner) // or it may be told that the session lives still, before it looks
		coord.SkipClock(owner, time.Minute)
		if s.Context().Err() == nil {
			t.Fatal("the handle lives though its time is over")
		}
		e.Heal()
		begin := time.Now()
		r := <-done
		// What was proposed while the member was isolated is lost, and proposed again after
		// an ElectionTimeout of 2 s. The session's own time would have run for 10 s.
		if r.err != nil || r.at.Sub(begin) > 5*time.Second {
			t.Fatalf("Resume = %v after %v", r.err, r.at.Sub(begin))
		}
		wantKept(t, r.s, st)
	})
}

func TestResumeRefusesBadInput(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, other := e.Member(1), e.Member(2)
		s := mustSession(t, c, 10*time.Second)
		tok := s.Token()
		before := c.Status().ZXID
		for _, b := range []struct {
			what string
			tok  coord.Token
			o    coord.SessionOptions
			want error
			text string
		}{
			{"negative timeout", tok, coord.SessionOptions{Timeout: -time.Second}, coord.ErrBadArguments, "Timeout -1s is negative"},
			{"zero token", coord.Token{}, coord.SessionOptions{}, coord.ErrBadArguments, "zero Token"},
			{"other ensemble", coord.ForgedToken(tok, "ensemble"), coord.SessionOptions{}, coord.ErrAuthFailed, "this is ensemble " + c.Status().EnsembleID.String()},
		} {
			_, err := other.Resume(t.Context(), b.tok, b.o)
			if !errors.Is(err, b.want) || !strings.Contains(err.Error(), b.text) {
				t.Errorf("%s: Resume = %v, want %v with %q", b.what, err, b.want, b.text)
			}
		}
		if now := c.Status().ZXID; now != before {
			t.Errorf("what is refused at once took zxids: %v, was %v", now, before)
		}
		for what, want := range map[string]error{"password": coord.ErrAuthFailed, "session": coord.ErrSessionExpired} {
			if _, err := other.Resume(t.Context(), coord.ForgedToken(tok, what), coord.SessionOptions{}); !errors.Is(err, want) {
				t.Errorf("wrong %s: Resume = %v, want %v", what, err, want)
			}
		}
		if s.State() != coord.Connected {
			t.Errorf("the session is %v after all that", s.State())
		}

		// A timeout is granted within the bounds, and never becomes shorter.
		long, err := c.Resume(t.Context(), tok, coord.SessionOptions{Timeout: 1 << 62})
		if err != nil || long.Timeout() != 7*24*time.Hour {
			t.Fatalf("Resume for ever = %v, %v", long, err)
		}
		short, err := c.Resume(t.Context(), tok, coord.SessionOptions{Timeout: time.Millisecond})
		if err != nil || short.Timeout() != 7*24*time.Hour {
			t.Fatalf("Resume for a moment = %v, %v", short, err)
		}
		if err := short.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Resume(t.Context(), tok, coord.SessionOptions{}); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Resume of a closed session = %v", err)
		}
		if _, _, err := short.Create(t.Context(), "/x", nil); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Create through a closed session = %v", err)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Resume(canceled, tok, coord.SessionOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("Resume with a context that has ended = %v", err)
		}
		left := mustSession(t, c, 10*time.Second)
		e.Stop(c)
		for range 2 {
			if _, err := c.Resume(t.Context(), left.Token(), coord.SessionOptions{}); !errors.Is(err, coord.ErrClosed) {
				t.Errorf("Resume on a closed Coordinator = %v", err)
			}
		}
	})
}

func TestTokensOfAnotherEnsembleAreRefused(t *testing.T) {
	one, two := coordtest.NewEnsemble(t, 1), coordtest.NewEnsemble(t, 1)
	s := mustSession(t, one.Member(1), time.Minute)
	_, err := two.Member(1).Resume(t.Context(), s.Token(), coord.SessionOptions{})
	a, b := one.Member(1).Status().EnsembleID, two.Member(1).Status().EnsembleID
	if !errors.Is(err, coord.ErrAuthFailed) || !strings.Contains(err.Error(), a.String()) || !strings.Contains(err.Error(), b.String()) || a == b {
		t.Errorf("Resume = %v, want the ids %v and %v", err, a, b)
	}
}

func TestG19ResumedHandlesReadNothingOlder(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		mustCreate(t, e.Leader(t.Context()), "/n", "")
		at := e.Member(1)
		s := mustSession(t, at, 30*time.Second)
		for i := range 40 {
			writer := e.Member(i%3 + 1)
			if _, err := writer.SetData(t.Context(), "/n", nil); err != nil {
				t.Fatal(err)
			}
			if err := s.Sync(t.Context(), "/"); err != nil {
				t.Fatal(err)
			}
			_, seen := mustGet(t, s, "/n")
			if err := s.HandOver(t.Context()); err != nil {
				t.Fatal(err)
			}
			at = e.Member((i+1)%3 + 1)
			s = mustResume(t, at, s.Token())
			if _, now := mustGet(t, s, "/n"); now.Version < seen.Version {
				t.Fatalf("version %d behind version %d", now.Version, seen.Version)
			}
		}
	})
}
