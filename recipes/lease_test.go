package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func mustTakeLease(t *testing.T, c *coord.Coordinator, path string, ttl time.Duration, opts ...recipes.Option) *recipes.Lease {
	t.Helper()
	l, err := recipes.TakeLease(t.Context(), c, path, ttl, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Whoever waits is granted in order, when the time is over and not before, and no two
// leases are valid at a time.
func TestLease(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const ttl = 30 * time.Second
		var fences []coord.ZXID
		var valid []*recipes.Lease
		var mu sync.Mutex
		var wg sync.WaitGroup
		began := time.Now()
		for i := range 6 {
			wg.Go(func() {
				l, err := recipes.TakeLease(t.Context(), e.Running()[i%3], "/lease", ttl, recipes.WithValue(fmt.Append(nil, i)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, other := range valid {
					if other.Check() == nil {
						t.Error("two leases are valid")
					}
				}
				valid, fences = append(valid, l), append(fences, l.Fence())
			})
		}
		wg.Wait()
		if took := time.Since(began); took < 5*ttl || took > 5*ttl+10*time.Second {
			t.Errorf("six leases took %v", took)
		}
		for i, f := range fences[1:] {
			if f <= fences[i] {
				t.Errorf("fences %v", fences)
			}
		}
		last := valid[5]
		<-last.Context().Done()
		if err := last.Check(); !errors.Is(err, recipes.ErrLapsed) {
			t.Errorf("Check = %v", err)
		}
		if err := last.Renew(t.Context()); !errors.Is(err, recipes.ErrLapsed) {
			t.Errorf("Renew = %v", err)
		}
		noWatches(t, e)
		time.Sleep(10 * time.Minute)
		if got := children(t, e.Member(1), "/lease"); got != "none" {
			t.Errorf("the directory has %s", got)
		}
	})
}

// A lease goes on without its session, through renewals, and is released or broken.
func TestLeaseOutlivesSessions(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a, b := e.Member(1), e.Member(2)
		l := mustTakeLease(t, a, "/lease", time.Minute)
		if err := a.Session().Close(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(30 * time.Second)
			if err := l.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := recipes.TryLease(t.Context(), b, "/lease", time.Minute); !errors.Is(err, recipes.ErrTaken) {
				t.Fatalf("TryLease = %v", err)
			}
		}
		for range 2 {
			if err := l.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Check(); !errors.Is(err, recipes.ErrReleased) {
			t.Errorf("Check = %v", err)
		}
		l = mustTakeLease(t, b, "/lease", time.Minute)
		if _, err := a.Multi(t.Context(), l.Guard(), coord.CreateOp("/guarded", nil)); err != nil {
			t.Error(err)
		}
		if err := a.Delete(t.Context(), l.Path()); err != nil {
			t.Fatal(err)
		}
		<-l.Context().Done()
		if err := l.Check(); !errors.Is(err, recipes.ErrLost) {
			t.Errorf("Check = %v", err)
		}
		if _, err := a.Multi(t.Context(), l.Guard(), coord.DeleteOp("/guarded")); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("a guarded write of a broken lease: %v", err)
		}
	})
}

// A holder that is cut off gives up before the others may take over; when its process
// crashes, they wait for the rest of the time.
func TestLeaseOfOneThatIsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		holder := e.Follower(t.Context())
		l := mustTakeLease(t, holder, "/lease", time.Minute)
		e.Isolate(holder)
		other := e.Leader(t.Context())
		next := mustTakeLease(t, other, "/lease", time.Minute)
		if err := l.Check(); !errors.Is(err, recipes.ErrLapsed) {
			t.Errorf("Check = %v", err)
		}
		e.Heal()
		e.Kill(other)
		began := time.Now()
		last := mustTakeLease(t, holder, "/lease", time.Minute)
		if last.Fence() <= next.Fence() || time.Since(began) < 50*time.Second {
			t.Errorf("fence %v after %v, %v later", last.Fence(), next.Fence(), time.Since(began))
		}
	})
}

// The ensemble's time, and that of stats, stands still while nobody leads, and is
// quick afterwards. A lease that is taken or renewed then lasts as long as any other.
func TestLeaseWhenTimeStoodStill(t *testing.T) {
	for name, renewed := range map[string]bool{"taken": false, "renewed": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
				ttl := 30 * time.Second
				holder, other := e.Member(1), e.Member(2)
				var l *recipes.Lease
				if renewed {
					ttl = 3 * time.Minute
					l = mustTakeLease(t, holder, "/lease", ttl)
				}
				for _, c := range e.Running() {
					e.Isolate(c)
				}
				time.Sleep(2 * time.Minute)
				e.Heal()
				eventually(t, "a leader", func() bool { return holder.Sync(t.Context(), "/") == nil })
				if renewed {
					if err := l.Renew(t.Context()); err != nil {
						t.Fatal(err)
					}
				} else {
					l = mustTakeLease(t, holder, "/lease", ttl)
				}
				for taken := time.Now(); time.Since(taken) < ttl*9/10; time.Sleep(ttl / 20) {
					if err := l.Check(); err != nil {
						t.Fatalf("Check = %v after %v", err, time.Since(taken))
					}
					if _, err := recipes.TryLease(t.Context(), other, "/lease", time.Minute); !errors.Is(err, recipes.ErrTaken) {
						t.Fatalf("TryLease = %v while another one is valid", err)
					}
				}
			})
		})
	}
}

// Who gives up waiting leaves nothing, at whatever step.
func TestLeaseCancelledAnywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		l := mustTakeLease(t, e.Member(1), "/lease", time.Hour)
		for d := time.Duration(0); d < 100*time.Millisecond; d += 3 * time.Millisecond {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			if _, err := recipes.TakeLease(ctx, e.Member(2), "/lease", time.Hour); err == nil {
				t.Fatal("taken")
			}
			cancel()
		}
		eventually(t, "the waiters to leave", func() bool { return children(t, e.Member(1), "/lease") == "lease" })
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		for d := time.Duration(0); d < 100*time.Millisecond; d += 3 * time.Millisecond {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			if l, err := recipes.TakeLease(ctx, e.Member(2), "/lease", time.Hour); err == nil {
				if err := l.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
		}
		eventually(t, "the directory to be empty", func() bool {
			got := children(t, e.Member(1), "/lease")
			return got == "" || got == "none"
		})
		noWatches(t, e)
	})
}

func TestLeaseRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		mustLock(t, newSession(t, c), "/lock")
		if _, _, err := c.Create(t.Context(), "/foreign/lease", []byte("?"), coord.WithParents()); err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct {
			c    *coord.Coordinator
			path string
			ttl  time.Duration
			opts []recipes.Option
			want error
		}{
			"no client":      {nil, "/l", time.Minute, nil, coord.ErrClosed},
			"short":          {c, "/l", time.Millisecond, nil, coord.ErrBadArguments},
			"long":           {c, "/l", 1<<40*time.Millisecond + 1, nil, coord.ErrBadArguments},
			"no path":        {c, "l", time.Minute, nil, coord.ErrBadArguments},
			"a lock":         {c, "/lock", time.Minute, nil, recipes.ErrOtherRecipe},
			"foreign":        {c, "/foreign", time.Minute, nil, recipes.ErrOtherRecipe},
			"with priority":  {c, "/l", time.Minute, []recipes.Option{recipes.WithPriority(1)}, coord.ErrBadArguments},
			"with a layout":  {c, "/l", time.Minute, []recipes.Option{recipes.WithLayout(recipes.KazooLock)}, coord.ErrBadArguments},
			"that is no one": {c, "/l", time.Minute, []recipes.Option{recipes.WithLayout("?")}, coord.ErrBadArguments},
		} {
			if _, err := recipes.TakeLease(t.Context(), test.c, test.path, test.ttl, test.opts...); !errors.Is(err, test.want) {
				t.Errorf("%s: TakeLease = %v, want %v", name, err, test.want)
			}
		}
		// The limit is that of the recipe, and what is within it is granted.
		const longest = 1<<39*time.Millisecond - time.Minute
		if _, err := recipes.TakeLease(t.Context(), c, "/l", longest+1); err == nil || !strings.Contains(err.Error(), longest.String()) {
			t.Errorf("TakeLease for too long = %v", err)
		}
		if err := mustTakeLease(t, c, "/l", longest).Release(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := recipes.Lock(t.Context(), newSession(t, c), "/foreign/lease"); err != nil {
			t.Error(err)
		}
	})
}
