package coord

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/bubble"
	"coord/internal/replica"
)

// touching has member 2 touch at its interval until the test, or stop, ends.
func (h *scriptedHost) touching(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var touching sync.WaitGroup
	touching.Go(func() {
		tick := time.NewTicker(h.m.g.timing.touchEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.applyFor(2, &touch{})
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		touching.Wait()
	}
}

// lives reports whether a session is in the published state.
func (h *scriptedHost) lives(id SessionID) bool {
	_, ok := h.m.g.state().sessions.get(id)
	return ok
}

// endOf waits until a session is gone, and returns when it went.
func (h *scriptedHost) endOf(id SessionID) time.Time {
	h.tb.Helper()
	for range 10_000 {
		if !h.lives(id) {
			return time.Now()
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.tb.Fatalf("session %v does not end", id)
	return time.Time{}
}

// A new leader expires nobody before it has caught up, however long that takes, and
// then gives every session its full timeout, whatever its process did before.
func TestNewLeaderCatchesUpAndStartsFullTimeouts(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		_, h := scriptedMember(t)
		const timeout = 10 * time.Second
		id := h.openedBy(2, timeout) // and no touch behind that
		time.Sleep(timeout - time.Second)
		h.reading(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		h.lead(1)
		time.Sleep(time.Hour)
		if !h.lives(id) {
			t.Fatal("a leader that has not caught up expired a session")
		}
		h.reading(nil)
		caughtUp := time.Now()
		if d := h.endOf(id).Sub(caughtUp); d < timeout || d > timeout+2*time.Second {
			t.Errorf("the session ended %v behind the catching up, want its timeout of %v", d, timeout)
		}

		// Again for each leadership.
		id = h.openedBy(2, timeout)
		for range 5 {
			time.Sleep(timeout - time.Second)
			h.lead(2)
			h.lead(1)
		}
		last := time.Now()
		if d := h.endOf(id).Sub(last); d < timeout || d > timeout+2*time.Second {
			t.Errorf("the session ended %v behind the last change of leader, want its timeout of %v", d, timeout)
		}
	})
}

// A member that does not lead proposes no expiry.
func TestOnlyTheLeaderExpires(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		_, h := scriptedMember(t)
		id := h.openedBy(2, 10*time.Second)
		time.Sleep(time.Hour)
		if !h.lives(id) {
			t.Error("a follower expired a session")
		}
	})
}

// A leader that sees its own clock jump was paused: what the others said meanwhile
// may wait unread, so every timeout starts anew. A tick that is merely late starts
// nothing anew.
func TestPausedLeaderStartsTimeoutsAnew(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := unstartedMember(t) // only the test ticks
		h.found()
		const timeout = 10 * time.Second
		id := h.openedBy(2, timeout)
		h.lead(1)
		g := c.root
		r := newReaper(g, &c.cfg)
		step := g.timing.expireEvery
		tick := func(wait time.Duration) []expiry {
			time.Sleep(wait)
			r.tick(t.Context())
			return r.due(g.state(), time.Now())
		}
		tick(0)
		for passed := time.Duration(0); passed < timeout-2*time.Second; passed += 3 * step {
			if due := tick(3 * step); len(due) != 0 {
				t.Fatalf("%d sessions are due after %v", len(due), passed)
			}
		}
		if due := tick(time.Minute); len(due) != 0 {
			t.Fatalf("%d sessions are due right behind a pause", len(due))
		}
		resumed := time.Now()
		for len(tick(3*step)) == 0 {
			if d := time.Since(resumed); d > timeout+time.Second {
				t.Fatalf("nothing is due %v behind a pause: late ticks start the timeouts anew", d)
			}
		}
		if d := time.Since(resumed); d < timeout {
			t.Errorf("session %v is due %v behind a pause, want %v", id, d, timeout)
		}
	})
}

// A touch extends the sessions of its own process: not those of an earlier process
// of the same member, not those of other members, not those that are silent.
func TestTouchesExtendTheirOwnProcess(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		h.lead(1)
		const timeout = 10 * time.Second
		s := sessionOn(t, c, timeout) // of another member: this one, whose touches go on
		old := h.openedBy(2, timeout)
		h.hello(2)
		silent, kept := h.openedBy(2, timeout), h.openedBy(2, timeout)
		stop := h.touching(t.Context())
		time.Sleep(timeout - time.Second)
		h.applyFor(2, &touch{silences: []silence{{silent, firstGeneration, true}}})
		fell := time.Now()
		if !h.lives(old) || !h.lives(silent) {
			t.Error("a session ended before its time")
		}
		if d := h.endOf(old).Sub(fell); d > 3*time.Second {
			t.Errorf("the session of an earlier process lives for %v more", d)
		}
		if d := h.endOf(silent).Sub(fell); d < timeout || d > timeout+2*time.Second {
			t.Errorf("a session lives for %v behind falling silent, want %v", d, timeout)
		}
		time.Sleep(time.Minute)
		if !h.lives(kept) || !h.lives(s.ID()) {
			t.Error("a session whose process touches has ended")
		}
		stop()
		begin := time.Now()
		if d := h.endOf(kept).Sub(begin); d < timeout-c.root.timing.touchEvery || d > timeout+2*time.Second {
			t.Errorf("a session lives for %v behind the last touch, want %v", d, timeout)
		}
		if s.State() != Connected {
			t.Errorf("the session of the member that goes on touching is %v", s.State())
		}
	})
}

// An expiry names the touch that its leader counted from. If a touch goes into the
// log before it, the session lives on, for its timeout from there.
func TestExpiryThatATouchOvertookIsVoid(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		_, h := scriptedMember(t)
		h.lead(1)
		const timeout = 10 * time.Second
		id := h.openedBy(2, timeout)
		var overtaken time.Time
		h.script(func(a attempt) fate {
			expires := slices.ContainsFunc(a.cmd.batch.requests, func(r request) bool { return r.kind == requestExpire })
			if !expires || !overtaken.IsZero() {
				return applied
			}
			overtaken = a.at
			return func(ctx context.Context, h *scriptedHost, b []byte) error {
				h.applyFor(2, &touch{})
				return applied(ctx, h, b)
			}
		})
		ended := h.endOf(id)
		if d := ended.Sub(overtaken); overtaken.IsZero() || d < timeout || d > timeout+2*time.Second {
			t.Errorf("the session ended %v behind the touch that overtook its expiry, want %v", d, timeout)
		}
	})
}

// Applying a touch costs the same, however many sessions it extends.
func TestApplyingATouchDoesNotLookAtSessions(t *testing.T) {
	allocs := func(n int) float64 {
		s := idleState(t, n)
		cmd := &command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{incarnation: 2, touch: &touch{}}}
		return testing.AllocsPerRun(100, func() {
			cmd.batch.number = s.members.get(1).number + 1
			s.apply(cmd, 1)
			s.freeze()
		})
	}
	if few, many := allocs(100), allocs(50_000); many > few+5 { // the race detector has some come and go
		t.Errorf("a touch allocates %v times with 100 sessions and %v times with 50000", few, many)
	}
}

// Touches and expiries do not wait behind callers for a place in the queue: a member
// that has more work than it can do neither loses its sessions nor keeps those of
// the dead.
func TestTouchesAndExpiriesPassAFullQueue(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		h.lead(1)
		s, lonely := sessionOn(t, c, 10*time.Second), sessionOn(t, c, 10*time.Second)
		id := h.openedBy(2, 10*time.Second)
		if err := c.root.proposer.space.Acquire(t.Context(), maxQueueBytes-4*minQueuedBytes); err != nil {
			t.Fatal(err)
		}
		h.script(func(attempt) fate {
			return func(ctx context.Context, h *scriptedHost, b []byte) error {
				select {
				case <-time.After(c.root.timing.touchEvery):
					return applied(ctx, h, b)
				case <-ctx.Done():
					return replica.ErrUnknownOutcome
				}
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		for i := range 20 {
			writing.Go(func() {
				for ctx.Err() == nil {
					_, _, _ = s.Create(ctx, fmt.Sprintf("/%d-", i), nil, PersistentSequential)
				}
			})
		}
		begin := time.Now()
		if d := h.endOf(id).Sub(begin); d > 14*time.Second {
			t.Errorf("a session with a timeout of 10s ended after %v", d)
		}
		time.Sleep(time.Minute)
		if s.State() != Connected {
			t.Errorf("a member with a full queue has a session that is %v", s.State())
		}
		lonely.end(ErrSessionExpired) // as its own deadline would
		c.root.release(lonely)
		r := lonely.closeRequest()
		r.yield = true
		c.root.letGo(r)
		begin = time.Now()
		if d := h.endOf(lonely.ID()).Sub(begin); d > 4*time.Second {
			t.Errorf("what was given up ended after %v", d)
		}
		cancel()
		writing.Wait()
	})
}

// An expiry that ends a session goes into the log before the touch that would have
// kept it: by the time the touch is acknowledged its handle has ended.
func TestTouchThatWasTooLateEndsTheHandleFirst(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c, 10*time.Second)
		before := c.root.lastTouch.Load()
		var checked atomic.Bool
		h.script(func(a attempt) fate {
			return func(ctx context.Context, h *scriptedHost, b []byte) error {
				if a.cmd.batch.touch == nil || checked.Load() {
					return applied(ctx, h, b)
				}
				checked.Store(true)
				m := c.root.state().members.get(1)
				h.applyFor(2, nil, request{kind: requestExpire, expiries: []expiry{{s.ID(), firstGeneration, m.touches}}})
				if err := context.Cause(s.Context()); err != ErrSessionExpired || c.root.lastTouch.Load() != before { //nolint:errorlint // exactly that
					t.Errorf("behind the expiry, and before its touch is acknowledged, the handle ended with %v", err)
				}
				return applied(ctx, h, b)
			}
		})
		time.Sleep(time.Second)
		if !checked.Load() || s.State() != Expired {
			t.Errorf("the session is %v", s.State())
		}
	})
}

// A handle's deadline is counted from the start of the first attempt at the touch
// that was acknowledged last, not from that of the attempt that came through, and
// not from the acknowledgement.
func TestDeadlineCountsFromTheFirstAttempt(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		const timeout = 20 * time.Second
		s := sessionOn(t, c, timeout)
		other := sessionOn(t, c, time.Hour)
		time.Sleep(time.Minute + c.root.timing.touchEvery/2)
		synctest.Wait() // no batch is under way
		// Three attempts at one touch are lost, the fourth is answered, and nothing is
		// behind it.
		before := len(h.batches())
		fates := inTurn(lost, lost, lost, applied)
		h.script(func(a attempt) fate {
			if a.n > before+4+2 { // the attempts at init and hello
				return lost
			}
			return fates(a)
		})
		<-s.Context().Done()
		late := time.Now()
		all := h.batches()[before:]
		if len(all) < 5 || all[0].cmd.batch.touch == nil || all[3].cmd.batch.number != all[0].cmd.batch.number {
			t.Fatalf("%d attempts, which are not as they should be", len(all))
		}
		deadline := all[0].at.Add(timeout - driftOf(timeout))
		if d := late.Sub(deadline); d < 0 || d > 2*c.root.timing.expireEvery {
			t.Errorf("the handle ended %v behind its deadline", d)
		}
		if other.Context().Err() != nil {
			t.Error("a handle with a longer timeout has ended")
		}
	})
}

// What Err says does not wait for any goroutine: it compares the clock when it is
// asked, at every moment around the deadline.
func TestErrIsExactAtTheDeadline(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		const timeout = 20 * time.Second
		s := sessionOn(t, c, timeout)
		h.script(func(attempt) fate { return lost })
		touched := time.Duration(c.root.lastTouch.Load())
		left := timeout - driftOf(timeout) - (c.root.clock.Elapsed() - touched)
		synctest.Wait()
		// No virtual time passes from here on, so no goroutine looks after handles.
		c.root.clock.Skip(left - time.Millisecond)
		if s.Context().Err() != nil || context.Cause(s.Context()) != nil {
			t.Fatal("the handle ended before its deadline")
		}
		c.root.clock.Skip(2 * time.Millisecond)
		if s.ctx.Err() != nil {
			t.Error("somebody has looked after the handle, so this test proves nothing")
		}
		if s.Context().Err() == nil {
			t.Error("Err knows nothing of a deadline that has passed")
		}
		select {
		case <-s.ctx.Done():
		default:
			t.Error("Done has not followed Err")
		}
	})
}

// An ended handle's session is never touched again, and its close is proposed. The
// first touch from there on says so as well: if the close is lost, the session is
// silent, and the touches of its process do not keep it.
func TestEndedHandlesAreClosedAndNotTouched(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		const timeout = 10 * time.Second
		s := sessionOn(t, c, timeout)
		time.Sleep(time.Minute + c.root.timing.touchEvery/2)
		synctest.Wait() // no batch is under way
		before := len(h.batches())
		c.root.clock.Skip(timeout)
		if s.Context().Err() == nil {
			t.Fatal("a handle lives behind its deadline")
		}
		begin := time.Now()
		if d := h.endOf(s.ID()).Sub(begin); d > time.Second {
			t.Errorf("it took %v until the session was closed", d)
		}
		time.Sleep(time.Second)
		closed := false
		for _, a := range h.batches()[before:] {
			closed = closed || slices.ContainsFunc(a.cmd.batch.requests, func(r request) bool {
				return r.kind == requestCloseSession && r.session == s.ID() && r.generation == s.generation
			})
			if a.cmd.batch.touch == nil {
				continue
			}
			if !slices.Contains(a.cmd.batch.touch.silences, silence{s.ID(), s.generation, true}) {
				t.Error("the first touch behind the end extends the session")
			}
			break
		}
		if !closed {
			t.Error("nobody proposed to close the session")
		}
	})
}

// Whatever a call waits for, it ends with its session.
func TestCallsEndWithTheirSession(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		const timeout = 10 * time.Second
		s := sessionOn(t, c, timeout)
		at := positionOf(c.root.state(), groupPosition{rootGroup, c.root.state().zxid + 1, allEvents})
		h.reading(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		h.script(func(attempt) fate { return lost })
		calls := map[string]func() error{
			"in the batch":      func() error { _, _, err := s.Create(t.Context(), "/a", nil); return err },
			"in the queue":      func() error { _, _, err := s.Create(t.Context(), "/b", nil); return err },
			"before the queue":  func() error { _, _, err := s.Create(t.Context(), "/c", make([]byte, 10*minQueuedBytes)); return err },
			"linearizable read": func() error { _, _, err := s.Get(t.Context(), "/", Linearizable()); return err },
			"read at least":     func() error { _, err := s.View(t.Context(), AtLeast(at)); return err },
			"sync":              func() error { return s.Sync(t.Context(), "/") },
			"watch":             func() error { _, err := s.Watch(t.Context(), "/", Node, From(at)); return err },
		}
		type answered struct {
			what string
			err  error
		}
		answers := make(chan answered, len(calls))
		start := func(what string) {
			go func() { answers <- answered{what, calls[what]()} }()
			synctest.Wait()
		}
		for _, what := range []string{"in the batch", "in the queue", "linearizable read", "read at least", "sync", "watch"} {
			start(what)
		}
		for c.root.proposer.space.TryAcquire(minQueuedBytes) { // until the queue is full
		}
		start("before the queue")
		time.Sleep(time.Second)
		if len(answers) != 0 {
			t.Fatalf("%d calls were answered too early", len(answers))
		}
		<-s.Context().Done()
		ended := time.Now()
		for range calls {
			a := <-answers
			if d := time.Since(ended); d > time.Second || !errors.Is(a.err, ErrSessionExpired) {
				t.Errorf("%s: %v, %v behind the end of the session", a.what, a.err, d)
			}
			if want := a.what == "in the batch"; errors.Is(a.err, ErrUnknownOutcome) != want {
				t.Errorf("%s: %v, unknown outcome is %v", a.what, a.err, !want)
			}
		}
	})
}

// When a process dies that owned very many sessions, they end one full command after
// the other, without a tick between them.
func TestManyExpiriesFollowEachOther(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		const timeout, commands = 10 * time.Second, 5
		requests := make([]request, commands*maxExpiriesAtOnce)
		for i := range requests {
			requests[i] = request{kind: requestOpenSession, timeoutMS: timeout.Milliseconds()}
		}
		for some := range slices.Chunk(requests, maxRequests) {
			h.applyFor(2, &touch{}, some...)
		}
		h.lead(1)
		begin := time.Now()
		left := func() int { return c.root.state().sessions.byID.len() }
		for all := left(); left() == all; {
			time.Sleep(time.Millisecond)
		}
		first := time.Now()
		for left() > 1 { // the own session
			time.Sleep(time.Millisecond)
			if time.Since(begin) > time.Hour {
				t.Fatalf("%d sessions are left", left())
			}
		}
		if d := time.Since(first); d >= c.root.timing.expireEvery {
			t.Errorf("%d full commands took %v, more than a tick of %v", commands, d, c.root.timing.expireEvery)
		}
	})
}
