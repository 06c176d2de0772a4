package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// outcomeAll is what a LockAll in the background returned.
type outcomeAll struct {
	h   *recipes.HeldAll
	err error
}

func lockAllInBackground(ctx context.Context, s *coord.Session, paths ...string) <-chan outcomeAll {
	got := make(chan outcomeAll, 1)
	go func() {
		h, err := recipes.LockAll(ctx, s, paths)
		got <- outcomeAll{h, err}
	}()
	return got
}

// Several locks are held together, or none of them; they are guarded together, and
// end together.
func TestLockAll(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		zxid := e.Leader(t.Context()).Status().ZXID
		h, err := recipes.LockAll(t.Context(), s, []string{"/b", "/a", "/c/d"}, recipes.WithValue([]byte("me")))
		if err != nil {
			t.Fatal(err)
		}
		if after := e.Leader(t.Context()).Status().ZXID; after != zxid+1 {
			t.Errorf("it cost %d writes", after-zxid)
		}
		held := h.Held()
		if len(held) != 3 || held[0].Path() != "/b/lock-0000000000" || held[1].Path() != "/a/lock-0000000000" || held[2].Path() != "/c/d/lock-0000000000" {
			t.Errorf("Held = %v", held)
		}
		for _, path := range []string{"/a", "/b", "/c/d"} {
			if _, err := recipes.TryLock(t.Context(), s, path); !errors.Is(err, recipes.ErrTaken) {
				t.Errorf("TryLock(%s) = %v", path, err)
			}
		}
		if _, err := s.Multi(t.Context(), append(h.Guards(), coord.CreateOp("/fresh", nil))...); err != nil {
			t.Errorf("a guarded write = %v", err)
		}
		if h.Check() != nil || h.Context().Err() != nil {
			t.Errorf("Check = %v", h.Check())
		}
		if err := h.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("a second Release = %v", err)
		}
		if err := h.Check(); !errors.Is(err, recipes.ErrReleased) {
			t.Errorf("Check = %v", err)
		}
		if _, err := s.Multi(t.Context(), append(h.Guards(), coord.CreateOp("/stale", nil))...); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("a guarded write of what was released = %v", err)
		}
		for _, path := range []string{"/a", "/b", "/c/d"} {
			waiting(t, c, path, 0)
		}
		noWatches(t, e)
	})
}

// One that is broken, or released alone, ends all; and so it does while LockAll waits
// for others.
func TestLockAllIsBroken(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		for i, paths := range [][]string{{"/a"}, {"/a", "/b"}, {"/a", "/b", "/c"}} {
			for broken := range paths {
				h, err := recipes.LockAll(t.Context(), s, paths)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Delete(t.Context(), h.Held()[broken].Path()); err != nil {
					t.Fatal(err)
				}
				<-h.Context().Done()
				if err := h.Check(); !errors.Is(err, recipes.ErrLost) {
					t.Errorf("%d, %d: Check = %v", i, broken, err)
				}
				if _, err := s.Multi(t.Context(), h.Guards()...); !errors.Is(err, coord.ErrNoNode) {
					t.Errorf("%d, %d: a guarded write = %v", i, broken, err)
				}
				if err := h.Release(t.Context()); err != nil {
					t.Errorf("Release = %v", err)
				}
			}
		}
		h, err := recipes.LockAll(t.Context(), s, []string{"/a", "/b"})
		if err != nil {
			t.Fatal(err)
		}
		mustRelease(t, h.Held()[1])
		if err := h.Check(); !errors.Is(err, recipes.ErrReleased) {
			t.Errorf("Check = %v", err)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("Release = %v", err)
		}

		for _, broken := range []string{"/a", "/b", "/c"} {
			other := mustLock(t, s, "/b")
			got := lockAllInBackground(t.Context(), newSession(t, e.Member(2)), "/a", "/b", "/c")
			waiting(t, c, "/c", 1)
			all, err := recipes.Contenders(t.Context(), c, broken, coord.Linearizable())
			if err != nil {
				t.Fatal(err)
			}
			if err := recipes.Break(t.Context(), c, all[len(all)-1]); err != nil {
				t.Fatal(err)
			}
			if broken == "/c" {
				mustRelease(t, other) // it looks there when it has what comes before
			}
			if o := <-got; !errors.Is(o.err, recipes.ErrLost) || !strings.Contains(o.err.Error(), ": lock "+broken+": ") {
				t.Errorf("%s was broken: LockAll = %v", broken, o.err)
			}
			mustRelease(t, other)
			for _, path := range []string{"/a", "/b", "/c"} {
				waiting(t, c, path, 0)
			}
		}
		noWatches(t, e)
	})
}

// Curator's InterProcessMultiLock has no order: two with the same locks in opposite
// orders hold one each for ever. Here no set of paths and no order does that.
func TestLockAllInAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		paths := []string{"/a", "/b", "/c", "/d", "/e"}
		holders := map[string]*recipes.HeldAll{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 12 {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			s := newSession(t, e.Member(i%3+1))
			all.Go(func() {
				for range 12 {
					mine := slices.Clone(paths)
					r.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
					mine = mine[:1+r.IntN(len(mine))]
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					h, err := recipes.LockAll(ctx, s, mine)
					cancel()
					if err != nil {
						t.Errorf("LockAll(%q) = %v", mine, err)
						return
					}
					mu.Lock()
					for _, path := range mine {
						if other := holders[path]; other != nil && other.Check() == nil {
							t.Errorf("two hold %s", path)
						}
						holders[path] = h
					}
					mu.Unlock()
					time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
					if err := h.Release(t.Context()); err != nil {
						t.Errorf("Release = %v", err)
					}
				}
			})
		}
		all.Wait()
		noWatches(t, e)
	})
}

// Wherever it is cut short, it leaves nothing in any line.
func TestLockAllIsCutShort(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		empty := func(paths ...string) {
			t.Helper()
			eventually(t, "all lines to be empty", func() bool {
				for _, path := range paths {
					if got := children(t, e.Leader(t.Context()), path); got != "" && got != "none" {
						return false
					}
				}
				return true
			})
			noWatches(t, e)
		}
		paths := []string{"/a", "/b", "/c"}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := recipes.LockAll(ctx, newSession(t, c), paths); !errors.Is(err, context.Canceled) {
			t.Errorf("LockAll = %v", err)
		}
		empty(paths...)

		// While it waits for the first, the second and the third.
		for _, taken := range paths {
			h := mustLock(t, newSession(t, c), taken)
			ctx, cancel := context.WithCancel(t.Context())
			s := newSession(t, e.Member(2))
			got := lockAllInBackground(ctx, s, paths...)
			waiting(t, c, taken, 2)
			time.Sleep(time.Second)
			cancel()
			if o := <-got; !errors.Is(o.err, context.Canceled) {
				t.Errorf("LockAll = %v", o.err)
			}
			waiting(t, c, taken, 1)
			got = lockAllInBackground(t.Context(), s, paths...)
			waiting(t, c, taken, 2)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if o := <-got; !errors.Is(o.err, coord.ErrClosed) {
				t.Errorf("LockAll = %v", o.err)
			}
			mustRelease(t, h)
			empty(paths...)
		}

		// At any moment.
		var all sync.WaitGroup
		for i := range 60 {
			s := newSession(t, e.Member(i%3+1))
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*10*time.Microsecond)
				defer cancel()
				h, err := recipes.LockAll(ctx, s, paths)
				if err == nil {
					_ = h.Release(ctx) // goes on
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("LockAll = %v", err)
				}
			})
		}
		all.Wait()
		empty(paths...)

		// And when it is not known whether it got in.
		leader := e.Leader(t.Context())
		s, err := leader.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		e.Isolate(leader)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := recipes.LockAll(ctx, s, paths); !errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("LockAll without a quorum = %v", err)
		}
		e.Heal()
		time.Sleep(10 * time.Second)
		if s.Context().Err() != nil {
			t.Error("the session has ended, so this shows nothing")
		}
		empty(paths...)
	})
}

func TestLockAllRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		for _, paths := range [][]string{nil, {}, {"/a", "/a"}, {"/a", "/b", "/a"}, {"/a", ""}, {"/a", "b"}, {"/a", "/a/"}} {
			if _, err := recipes.LockAll(t.Context(), s, paths); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("LockAll(%q) = %v", paths, err)
			}
		}
		if _, err := recipes.LockAll(t.Context(), s, []string{"/a"}, recipes.WithWeight(1)); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("LockAll with a weight = %v", err)
		}
		if _, err := recipes.LockAll(t.Context(), nil, []string{"/a"}); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("LockAll without a session = %v", err)
		}
		leader := campaign(t, c, "/leader", "")
		if _, err := recipes.LockAll(t.Context(), s, []string{"/a", "/leader"}); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("LockAll where an election is = %v", err)
		}
		mustRelease(t, leader)
		if got := children(t, c, "/a"); got != "none" {
			t.Errorf("left behind: %s", got)
		}

		var paths []string
		for i := range 100 {
			paths = append(paths, fmt.Sprintf("/many/%d", i))
		}
		h, err := recipes.LockAll(t.Context(), s, paths)
		if err != nil {
			t.Fatal(err)
		}
		next := lockAllInBackground(t.Context(), newSession(t, e.Member(2)), paths...)
		waiting(t, c, paths[99], 2)
		if err := h.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		o := <-next
		if o.err != nil {
			t.Fatal(o.err)
		}
		if err := o.h.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		noWatches(t, e)
	})
}
