package recipes_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// entry is what an Enter in the background returned.
type entry struct {
	e   *recipes.Entered
	err error
}

func enterInBackground(ctx context.Context, s *coord.Session, path string, n int) <-chan entry {
	got := make(chan entry, 1)
	go func() {
		e, err := recipes.Enter(ctx, s, path, n)
		got <- entry{e, err}
	}()
	return got
}

func leaveInBackground(t *testing.T, got entry) <-chan error {
	t.Helper()
	must(t, got.err)
	return inBackground(func() error { return got.e.Leave(t.Context()) })
}

// Round after round, all enter before anybody passes, and all are done before
// anybody is through.
func TestDoubleBarrier(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, n, rounds = "/double/b", 12, 6
		var entered, working [rounds]atomic.Int32
		var all sync.WaitGroup
		for i := range n {
			s := newSession(t, e.Member(i%3+1))
			all.Go(func() {
				for r := range rounds {
					time.Sleep(time.Duration(i*r) * time.Millisecond)
					entered[r].Add(1)
					working[r].Add(1)
					h, err := recipes.Enter(t.Context(), s, path, n)
					for errors.Is(err, recipes.ErrFull) { // others have not left the last round
						time.Sleep(time.Millisecond)
						h, err = recipes.Enter(t.Context(), s, path, n)
					}
					if err != nil {
						t.Errorf("Enter = %v", err)
						return
					}
					if got := entered[r].Load(); got != n {
						t.Errorf("passed when %d had come", got)
					}
					working[r].Add(-1)
					if err := h.Leave(t.Context()); err != nil {
						t.Errorf("Leave = %v", err)
					}
					if got := working[r].Load(); got != 0 {
						t.Errorf("left when %d worked", got)
					}
				}
			})
		}
		all.Wait()
		noWatches(t, e)
		eventually(t, "the directories to vanish", func() bool { return children(t, e.Member(1), "/double") == "none" })
	})
}

// etcd#14603, etcd#14604: of many that come at once, n enter, and the others are
// refused.
func TestDoubleBarrierRefusesTheExcess_etcd14603_etcd14604(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n, comers = 4, 20
		var all []<-chan entry
		for i := range comers {
			all = append(all, enterInBackground(t.Context(), newSession(t, e.Member(i%3+1)), "/b", n))
		}
		var inside []entry
		for _, c := range all {
			switch got := <-c; {
			case got.err == nil:
				inside = append(inside, got)
			case !errors.Is(got.err, recipes.ErrFull):
				t.Errorf("Enter = %v", got.err)
			}
		}
		if len(inside) != n {
			t.Fatalf("%d entered, want %d", len(inside), n)
		}
		s := newSession(t, e.Member(1))
		if _, err := recipes.Enter(t.Context(), s, "/b", n); !errors.Is(err, recipes.ErrFull) {
			t.Errorf("Enter = %v", err)
		}
		if _, err := recipes.Enter(t.Context(), s, "/b", n+1); !errors.Is(err, recipes.ErrOtherCount) {
			t.Errorf("Enter = %v", err)
		}
		var leaves []<-chan error
		for i, got := range inside {
			for _, l := range leaves {
				if len(l) > 0 {
					t.Errorf("Leave = %v, when %d had left", <-l, i)
				}
			}
			leaves = append(leaves, leaveInBackground(t, got))
			time.Sleep(time.Second)
		}
		for _, l := range leaves {
			must(t, <-l)
		}
		must(t, inside[0].e.Leave(t.Context()))
		// The next round may be for another number.
		got := <-enterInBackground(t.Context(), s, "/b", 1)
		must(t, <-leaveInBackground(t, got))
	})
}

// curator GH-1290: nothing but a full barrier lets anybody pass, whatever wakes it:
// changes of the directory and of the entrants, faults of the network, new leaders.
func TestDoubleBarrierPassesNobodyEarly_curator1290(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		first := enterInBackground(t.Context(), newSession(t, c), "/b", 3)
		waiting(t, c, "/b", 1)
		second := enterInBackground(t.Context(), newSession(t, other(e, c)), "/b", 3)
		waiting(t, c, "/b", 2)
		names, _, err := c.Children(t.Context(), "/b")
		must(t, err)
		for range 3 {
			for _, path := range []string{"/b", "/b/" + names[0], "/b/" + names[1]} {
				data, _, err := c.Get(t.Context(), path)
				must(t, err)
				_, err = c.SetData(t.Context(), path, data)
				must(t, err)
			}
			e.Isolate(c)
			time.Sleep(4 * time.Second) // less than the timeout of a session
			e.Heal()
			e.Lead(t.Context(), other(e, e.Leader(t.Context())))
			time.Sleep(20 * time.Second)
		}
		if len(first)+len(second) > 0 {
			t.Fatal("somebody passed, with two of three")
		}
		third := <-enterInBackground(t.Context(), newSession(t, c), "/b", 3)
		all := []<-chan error{leaveInBackground(t, third), leaveInBackground(t, <-first)}
		time.Sleep(time.Second)
		if len(all[0])+len(all[1]) > 0 {
			t.Error("somebody was through before the last one left")
		}
		all = append(all, leaveInBackground(t, <-second))
		for _, l := range all {
			must(t, <-l)
		}
	})
}

// Before the barrier is full, one that is lost makes room; behind that, it has left.
func TestDoubleBarrierLosesSessions(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		lost := e.Follower(t.Context())
		c := other(e, lost)
		gone := enterInBackground(t.Context(), newSession(t, lost), "/b", 3)
		waiting(t, c, "/b", 1)
		closed := newSession(t, c)
		gone2 := enterInBackground(t.Context(), closed, "/b", 3)
		waiting(t, c, "/b", 2)
		must(t, closed.Close())
		if got := <-gone2; !errors.Is(got.err, coord.ErrClosed) {
			t.Errorf("Enter of a session that was closed = %v", got.err)
		}
		e.Isolate(lost)
		if got := <-gone; !errors.Is(got.err, coord.ErrSessionExpired) {
			t.Errorf("Enter of a session that expired = %v", got.err)
		}
		waiting(t, c, "/b", 0)
		e.Heal()
		time.Sleep(20 * time.Second)
		dying := newSession(t, lost)
		d := enterInBackground(t.Context(), dying, "/b", 3)
		a := enterInBackground(t.Context(), newSession(t, c), "/b", 3)
		waiting(t, c, "/b", 2)
		time.Sleep(time.Minute)
		if len(a)+len(d) > 0 {
			t.Fatal("somebody passed, with two of three")
		}
		b := enterInBackground(t.Context(), newSession(t, c), "/b", 3)
		inside := <-d
		must(t, inside.err)
		leaves := []<-chan error{leaveInBackground(t, <-a), leaveInBackground(t, <-b)}
		waiting(t, c, "/b", 1)
		e.Isolate(lost)
		for _, l := range leaves {
			must(t, <-l)
		}
		if err := inside.e.Leave(t.Context()); err != nil && !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Leave of a session that expired = %v", err)
		}
		e.Heal()
		noWatches(t, e)
	})
}

// Those who take the last places at once, each on a member that does not show the
// other, make the barrier full all the same.
func TestDoubleBarrierWhenTheLastComeAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const rounds, n = 30, 4
		var sessions []*coord.Session
		for i := range n {
			sessions = append(sessions, newSession(t, e.Member(i%3+1)))
		}
		for range rounds {
			all := []<-chan entry{enterInBackground(t.Context(), sessions[0], "/b", n)}
			for i := range e.Size() {
				waiting(t, e.Member(i+1), "/b", 1)
			}
			for _, s := range sessions[1:] {
				all = append(all, enterInBackground(t.Context(), s, "/b", n))
			}
			var leaves []<-chan error
			for _, got := range all {
				leaves = append(leaves, leaveInBackground(t, <-got))
			}
			for _, l := range leaves {
				must(t, <-l)
			}
		}
	})
}

// Whenever Enter is given up or not answered, nothing stays behind.
func TestDoubleBarrierLeavesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		s := newSession(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		got := enterInBackground(ctx, s, "/b", 2)
		waiting(t, c, "/b", 1)
		cancel()
		if got := <-got; !errors.Is(got.err, context.Canceled) {
			t.Errorf("Enter = %v", got.err)
		}
		waiting(t, c, "/b", 0)
		for i := range 200 { // at any step; those before may still be about to go
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond)
			if _, err := recipes.Enter(ctx, s, "/b", 1000); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Enter = %v", err)
			}
			cancel()
		}
		waiting(t, c, "/b", 0)
		e.Isolate(c)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := recipes.Enter(ctx, s, "/b", 1); !errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("Enter without a quorum = %v", err)
		}
		e.Heal()
		eventually(t, "the entrant to go", func() bool {
			names := children(t, e.Leader(t.Context()), "/b")
			return names == "" || names == "none"
		})
		time.Sleep(5 * time.Second)
		if names := children(t, e.Leader(t.Context()), "/b"); names != "" && names != "none" {
			t.Errorf("left behind: %s", names)
		}

		// A leave that is not answered goes on, and can be waited for again.
		inside := <-enterInBackground(t.Context(), s, "/b", 1)
		must(t, inside.err)
		e.Isolate(c)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := inside.e.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Leave without a quorum = %v", err)
		}
		e.Heal()
		must(t, inside.e.Leave(t.Context()))
		waiting(t, e.Leader(t.Context()), "/b", 0)
		noWatches(t, e)
	})
}

func TestDoubleBarrierRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		s := newSession(t, c)
		for _, path := range badPaths {
			if _, err := recipes.Enter(ctx, s, path, 2); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Enter(%q) = %v", path, err)
			}
		}
		for _, n := range []int{-1, 0, 1 << 40} {
			if _, err := recipes.Enter(ctx, s, "/b", n); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Enter of %d = %v", n, err)
			}
		}
		h := mustLock(t, s, "/lock")
		must(t, recipes.NewBarrier(c, "/barrier").Set(ctx))
		for _, path := range []string{"/lock", "/barrier"} {
			if _, err := recipes.Enter(ctx, s, path, 1); !errors.Is(err, recipes.ErrOtherRecipe) {
				t.Errorf("Enter at %s = %v", path, err)
			}
		}
		mustRelease(t, h)

		// Who deletes an entrant's znode puts it out.
		got := enterInBackground(ctx, s, "/b", 2)
		waiting(t, c, "/b", 1)
		must(t, c.Delete(ctx, "/b/"+children(t, c, "/b")))
		if got := <-got; !errors.Is(got.err, recipes.ErrLost) {
			t.Errorf("Enter of one that was put out = %v", got.err)
		}
		if err := recipes.NewBarrier(c, "/b").Clear(ctx); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Clear of a double barrier = %v", err)
		}
		must(t, s.Close())
		for _, dead := range []*coord.Session{s, nil} {
			if _, err := recipes.Enter(ctx, dead, "/b", 1); !errors.Is(err, coord.ErrClosed) && !errors.Is(err, coord.ErrSessionExpired) {
				t.Errorf("Enter of a dead session = %v", err)
			}
		}
		noWatches(t, e)
	})
}
