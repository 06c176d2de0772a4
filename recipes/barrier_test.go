package recipes_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// badPaths are no paths.
var badPaths = []string{"", "x", "/x/", "/x//y", "/x\x00"}

// inBackground calls f and returns what becomes of it.
func inBackground(f func() error) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	return ended
}

// other returns a running member that is not c.
func other(e *coordtest.Ensemble, c *coord.Coordinator) *coord.Coordinator {
	for _, o := range e.Running() {
		if o != c {
			return o
		}
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBarrier(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx := t.Context()
		b := recipes.NewBarrier(e.Member(1), "/barriers/b")
		must(t, b.Clear(ctx))
		must(t, b.Wait(ctx))
		must(t, b.Set(ctx))
		must(t, b.Set(ctx))
		var waits []<-chan error
		for i := range 6 {
			var c coord.Client = e.Member(i%3 + 1)
			if i > 2 {
				c = newSession(t, e.Member(i%3+1))
			}
			waits = append(waits, inBackground(func() error { return recipes.NewBarrier(c, "/barriers/b").Wait(ctx) }))
		}
		time.Sleep(time.Minute)
		for _, w := range waits {
			if len(w) > 0 {
				t.Fatalf("Wait = %v, though the barrier is set", <-w)
			}
		}
		must(t, recipes.NewBarrier(e.Member(2), "/barriers/b").Clear(ctx))
		for _, w := range waits {
			must(t, <-w)
		}
		must(t, b.Clear(ctx))
		noWatches(t, e)
		eventually(t, "the directory to vanish", func() bool { return children(t, e.Member(1), "/barriers") == "none" })
	})
}

// etcd#16223: a release between the read and the watch, or right before the next
// Set, is not missed.
func TestBarrierMissesNoRelease_etcd16223(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx := t.Context()
		b := recipes.NewBarrier(e.Member(1), "/b")
		for range 200 {
			must(t, b.Set(ctx))
			a := inBackground(func() error { return recipes.NewBarrier(e.Member(2), "/b").Wait(ctx) })
			must(t, b.Clear(ctx))
			must(t, <-a)
		}
		// However soon it is set again.
		must(t, b.Set(ctx))
		a := inBackground(func() error { return recipes.NewBarrier(e.Member(3), "/b").Wait(ctx) })
		eventually(t, "the wait", func() bool { return e.Member(3).Status().Watches > 0 })
		e.Isolate(e.Member(3))
		must(t, b.Clear(ctx))
		must(t, b.Set(ctx))
		e.Heal()
		must(t, <-a)
	})
}

// etcd#16843: barriers whose names start alike, and those below, are others.
func TestBarrierIsOfOnePath_etcd16843(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		a, a0 := recipes.NewBarrier(c, "/a"), recipes.NewBarrier(c, "/a0")
		must(t, a0.Set(ctx))
		must(t, a.Wait(ctx))
		must(t, a.Set(ctx))
		w := inBackground(func() error { return a.Wait(ctx) })
		must(t, a0.Clear(ctx))
		must(t, a0.Wait(ctx))
		time.Sleep(time.Second)
		if len(w) > 0 {
			t.Errorf("Wait = %v", <-w)
		}
		must(t, a.Clear(ctx))
		must(t, <-w)
	})
}

// What was acknowledged to another member holds up a member that is behind.
func TestBarrierOfAMemberThatIsBehind(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		behind := e.Follower(t.Context())
		e.Isolate(behind)
		b := recipes.NewBarrier(e.Leader(t.Context()), "/b")
		must(t, b.Set(t.Context()))
		w := inBackground(func() error { return recipes.NewBarrier(behind, "/b").Wait(t.Context()) })
		time.Sleep(time.Second)
		e.Heal()
		time.Sleep(30 * time.Second)
		if len(w) > 0 {
			t.Fatalf("Wait = %v, though the barrier is set", <-w)
		}
		// A change of leader ends no wait, and no wait needs a quorum to go on.
		old := other(e, behind)
		e.Lead(t.Context(), old)
		e.Kill(old)
		next := e.Leader(t.Context())
		must(t, recipes.NewBarrier(next, "/b").Clear(t.Context()))
		must(t, <-w)
	})
}

func TestBarrierEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(2)
		must(t, recipes.NewBarrier(c, "/b").Set(t.Context()))
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		s := newSession(t, c)
		wait := func(ctx context.Context, c coord.Client) <-chan error {
			return inBackground(func() error { return recipes.NewBarrier(c, "/b").Wait(ctx) })
		}
		cancelled, closed, killed := wait(ctx, c), wait(t.Context(), s), wait(t.Context(), c)
		time.Sleep(time.Second)
		cancel(why)
		if err := <-cancelled; !errors.Is(err, why) {
			t.Errorf("Wait = %v", err)
		}
		must(t, s.Close())
		if err := <-closed; !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Wait of a session that was closed = %v", err)
		}
		e.Kill(c)
		if err := <-killed; !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Wait of a member that was killed = %v", err)
		}
		for _, c := range []coord.Client{nil, (*coord.Session)(nil), (*coord.Coordinator)(nil), s, c} {
			b := recipes.NewBarrier(c, "/b")
			for i, err := range []error{b.Set(t.Context()), b.Clear(t.Context()), b.Wait(t.Context())} {
				if err == nil {
					t.Errorf("call %d of a dead client returned nil", i)
				}
			}
		}
		b := recipes.NewBarrier(e.Leader(t.Context()), "/b")
		for i, err := range []error{b.Set(ctx), b.Clear(ctx), b.Wait(ctx)} {
			if !errors.Is(err, why) {
				t.Errorf("call %d with an ended context = %v", i, err)
			}
		}
	})
}

func TestBarrierRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		for _, path := range badPaths {
			b := recipes.NewBarrier(c, path)
			for i, err := range []error{b.Set(ctx), b.Clear(ctx), b.Wait(ctx)} {
				if !errors.Is(err, coord.ErrBadArguments) {
					t.Errorf("call %d of %q = %v", i, path, err)
				}
			}
		}
		h := mustLock(t, newSession(t, c), "/lock")
		b := recipes.NewBarrier(c, "/lock")
		for i, err := range []error{b.Set(ctx), b.Clear(ctx), b.Wait(ctx)} {
			if !errors.Is(err, recipes.ErrOtherRecipe) {
				t.Errorf("call %d at a lock = %v", i, err)
			}
		}
		must(t, h.Check())
		mustRelease(t, h)
	})
}

// A barrier that Curator or kazoo has set, with whatever data, is one.
func TestBarrierOfOtherLibraries(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		theirs := recipes.NewBarrier(c, "/barrier", recipes.WithLayout(recipes.CuratorBarrier))
		if _, _, err := c.Create(t.Context(), "/barrier", []byte("192.0.2.1")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := theirs.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v while it is set", err)
		}
		if err := recipes.NewBarrier(c, "/barrier").Wait(t.Context()); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Wait in coord's own layout = %v", err)
		}
		if err := errors.Join(theirs.Set(t.Context()), theirs.Clear(t.Context()), theirs.Wait(t.Context())); err != nil {
			t.Error(err)
		}
		if got := children(t, c, "/"); strings.Contains(got, "barrier") {
			t.Errorf("the root has %s", got)
		}
		for _, opt := range []recipes.Option{recipes.WithLayout(recipes.KazooLock), recipes.WithValue([]byte{}), recipes.WithPriority(0), recipes.WithWeight(1)} {
			b := recipes.NewBarrier(c, "/barrier", opt)
			for _, err := range []error{b.Set(t.Context()), b.Clear(t.Context()), b.Wait(t.Context())} {
				if !errors.Is(err, coord.ErrBadArguments) {
					t.Errorf("with an option that barriers have not: %v", err)
				}
			}
		}
	})
}
