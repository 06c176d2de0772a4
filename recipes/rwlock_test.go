package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func mustRLock(t *testing.T, s *coord.Session, path string, opts ...recipes.Option) *recipes.Held {
	t.Helper()
	h, err := recipes.RLock(t.Context(), s, path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func rlockInBackground(ctx context.Context, s *coord.Session, path string) <-chan outcome {
	got := make(chan outcome, 1)
	go func() {
		h, err := recipes.RLock(ctx, s, path)
		got <- outcome{h, err}
	}()
	return got
}

// granted waits for what was asked for in the background.
func granted(t *testing.T, got <-chan outcome) *recipes.Held {
	t.Helper()
	select {
	case o := <-got:
		if o.err != nil {
			t.Fatal(o.err)
		}
		return o.h
	case <-time.After(time.Minute):
		t.Fatal("not granted")
		return nil
	}
}

// waits fails if something asked for in the background is there already.
func waits(t *testing.T, got ...<-chan outcome) {
	t.Helper()
	time.Sleep(time.Second)
	for i, g := range got {
		if len(g) > 0 {
			o := <-g
			t.Fatalf("waiter %d got %v, %v", i, o.h, o.err)
		}
	}
}

// kazoo#649: readers hold together; a writer waits for the readers before it and no
// others, and readers for the writers before them and no others.
func TestReadersAndWriters_kazoo649(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/lock"
		c := e.Member(1)
		s := func(i int) *coord.Session { return newSession(t, e.Member(i)) }
		r1, r2 := mustRLock(t, s(1), path), mustRLock(t, s(2), path)
		w1 := lockInBackground(t.Context(), s(3), path)
		waiting(t, c, path, 3)
		r3 := rlockInBackground(t.Context(), s(1), path)
		waiting(t, c, path, 4)
		r4 := rlockInBackground(t.Context(), s(2), path)
		waiting(t, c, path, 5)
		w2 := lockInBackground(t.Context(), s(3), path)
		waiting(t, c, path, 6)
		r5 := rlockInBackground(t.Context(), s(1), path)
		waiting(t, c, path, 7)

		waits(t, w1, r3, r4, w2, r5)
		mustRelease(t, r2)
		waits(t, w1, r3, r4, w2, r5)
		mustRelease(t, r1)
		hw1 := granted(t, w1)
		waits(t, r3, r4, w2, r5)
		mustRelease(t, hw1) // all readers up to the next writer, and no more
		hr3, hr4 := granted(t, r3), granted(t, r4)
		waits(t, w2, r5)
		mustRelease(t, hr4)
		waits(t, w2, r5)
		mustRelease(t, hr3)
		hw2 := granted(t, w2)
		waits(t, r5)
		mustRelease(t, hw2)
		mustRelease(t, granted(t, r5))
		noWatches(t, e)
	})
}

// A waiter in the middle that leaves, or whose session ends, lets those behind it go
// on to what was before it.
func TestWriterInTheMiddleLeaves(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/lock"
		r1 := mustRLock(t, newSession(t, e.Member(1)), path)
		ctx, cancel := context.WithCancel(t.Context())
		w1 := lockInBackground(ctx, newSession(t, e.Member(2)), path)
		waiting(t, e.Member(1), path, 2)
		dies := newSession(t, e.Member(3))
		w2 := lockInBackground(t.Context(), dies, path)
		waiting(t, e.Member(1), path, 3)
		r2 := rlockInBackground(t.Context(), newSession(t, e.Member(1)), path)
		waiting(t, e.Member(1), path, 4)
		waits(t, r2)
		cancel()
		if o := <-w1; !errors.Is(o.err, context.Canceled) {
			t.Errorf("Lock = %v", o.err)
		}
		waits(t, w2, r2)
		if err := dies.Close(); err != nil {
			t.Fatal(err)
		}
		if o := <-w2; !errors.Is(o.err, coord.ErrClosed) {
			t.Errorf("Lock = %v", o.err)
		}
		mustRelease(t, granted(t, r2))
		mustRelease(t, r1)

		// The other way: what is between two writers.
		first := mustLock(t, newSession(t, e.Member(1)), path)
		w3 := lockInBackground(t.Context(), newSession(t, e.Member(2)), path)
		waiting(t, e.Member(1), path, 2)
		r3 := rlockInBackground(t.Context(), newSession(t, e.Member(3)), path)
		waiting(t, e.Member(1), path, 3)
		all, err := recipes.Contenders(t.Context(), e.Member(1), path)
		if err != nil || len(all) != 3 {
			t.Fatalf("Contenders = %+v, %v", all, err)
		}
		if err := recipes.Break(t.Context(), e.Member(1), all[1]); err != nil {
			t.Fatal(err)
		}
		if o := <-w3; !errors.Is(o.err, recipes.ErrLost) {
			t.Errorf("Lock = %v", o.err)
		}
		waits(t, r3)
		mustRelease(t, first)
		mustRelease(t, granted(t, r3))
		noWatches(t, e)
	})
}

// etcd#16221: nobody acquires after its own session died, though what it waited for
// comes free.
func TestNobodyAcquiresWithADeadSession_etcd16221(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		w := mustLock(t, newSession(t, e.Leader(t.Context())), "/lock")
		reader := rlockInBackground(t.Context(), newSession(t, c), "/lock")
		writer := lockInBackground(t.Context(), newSession(t, c), "/lock")
		waiting(t, e.Leader(t.Context()), "/lock", 3)
		e.Isolate(c)
		mustRelease(t, w)
		time.Sleep(time.Minute)
		e.Heal()
		for _, got := range []<-chan outcome{reader, writer} {
			if o := <-got; !errors.Is(o.err, coord.ErrSessionExpired) {
				t.Errorf("a waiter of a dead session got %v", o.err)
			}
		}
		mustRelease(t, mustLock(t, newSession(t, c), "/lock"))
		noWatches(t, e)
	})
}

func TestTryRLock(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		r, err := recipes.TryRLock(t.Context(), s, "/lock")
		if err != nil {
			t.Fatal(err)
		}
		r2, err := recipes.TryRLock(t.Context(), s, "/lock")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := recipes.TryLock(t.Context(), s, "/lock"); !errors.Is(err, recipes.ErrTaken) {
			t.Errorf("TryLock beside readers = %v", err)
		}
		w := lockInBackground(t.Context(), s, "/lock")
		waiting(t, s, "/lock", 3)
		if _, err := recipes.TryRLock(t.Context(), s, "/lock"); !errors.Is(err, recipes.ErrTaken) {
			t.Errorf("TryRLock behind a writer = %v", err)
		}
		mustRelease(t, r)
		mustRelease(t, r2)
		mustRelease(t, granted(t, w))
		for _, try := range []func(context.Context, *coord.Session, string, ...recipes.Option) (*recipes.Held, error){recipes.TryLock, recipes.TryRLock} {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := try(ctx, s, "/lock"); !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled try = %v", err)
			}
			if _, err := try(t.Context(), nil, "/lock"); !errors.Is(err, coord.ErrSessionExpired) {
				t.Errorf("a try without a session = %v", err)
			}
		}
		waiting(t, s, "/lock", 0)
		noWatches(t, e)
	})
}

// CURATOR-621, -211, -307: who goes from writing to reading lets readers in, not the
// writer that waits, and keeps writers out until it releases.
func TestDowngrade_CURATOR621(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/lock"
		c := e.Member(1)
		h := mustLock(t, newSession(t, c), path, recipes.WithValue([]byte("me")))
		r1 := rlockInBackground(t.Context(), newSession(t, e.Member(2)), path)
		waiting(t, c, path, 2)
		r2 := rlockInBackground(t.Context(), newSession(t, e.Member(3)), path)
		waiting(t, c, path, 3)
		w := lockInBackground(t.Context(), newSession(t, e.Member(2)), path)
		waiting(t, c, path, 4)
		r3 := rlockInBackground(t.Context(), newSession(t, e.Member(3)), path)
		waiting(t, c, path, 5)
		waits(t, r1, r2, w, r3)
		for range 2 {
			if err := h.Downgrade(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, stat, err := h.Session().Get(t.Context(), h.Path()); err != nil || stat.Version != 1 {
			t.Errorf("to downgrade twice made it version %d, %v", stat.Version, err)
		}
		if all := contenders(t, c, path); string(all[0].Value) != "me" || !all[0].Shared {
			t.Errorf("who was downgraded is %+v", all[0])
		}
		h1, h2 := granted(t, r1), granted(t, r2)
		waits(t, w, r3)
		if err := h.Check(); err != nil {
			t.Errorf("Check = %v", err)
		}
		if err := h.SetValue(t.Context(), []byte("still me")); err != nil {
			t.Fatal(err)
		}
		if all, err := recipes.Contenders(t.Context(), c, path, coord.Linearizable()); err != nil || len(all) != 5 || !all[0].Shared || !all[0].Holds || string(all[0].Value) != "still me" || all[3].Holds || all[4].Holds {
			t.Errorf("Contenders = %+v, %v", all, err)
		}
		mustRelease(t, h1)
		mustRelease(t, h2)
		waits(t, w, r3)
		mustRelease(t, h)
		hw := granted(t, w)
		waits(t, r3)
		if err := hw.Downgrade(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustRelease(t, granted(t, r3))
		mustRelease(t, hw)
		noWatches(t, e)
	})
}

// Readers that come behind one that was downgraded hold with it, and who holds by
// RLock writes nothing.
func TestDowngradeAndLaterReaders(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		h := mustLock(t, newSession(t, e.Member(1)), "/lock")
		if err := h.Downgrade(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := mustRLock(t, newSession(t, e.Member(2)), "/lock")
		if err := r.Downgrade(t.Context()); err != nil {
			t.Error(err)
		}
		if data, stat, err := r.Session().Get(t.Context(), r.Path()); err != nil || stat.Version != 0 {
			t.Errorf("a reader's downgrade wrote %q, %v", data, err)
		}
		if _, err := recipes.TryLock(t.Context(), newSession(t, e.Member(3)), "/lock"); !errors.Is(err, recipes.ErrTaken) {
			t.Errorf("TryLock = %v", err)
		}
		mustRelease(t, h)
		mustRelease(t, r)
	})
}

func TestDowngradeRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, s := e.Member(1), newSession(t, e.Member(1))
		leader := campaign(t, c, "/leader", "")
		foreign := mustLock(t, s, "/foreign", recipes.WithLayout(recipes.KazooLock))
		permit, err := recipes.Acquire(t.Context(), s, "/permits", 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []*recipes.Held{leader, foreign, permit} {
			if err := h.Downgrade(t.Context()); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Downgrade of %s = %v", h.Path(), err)
			}
			mustRelease(t, h)
		}
		released := mustLock(t, s, "/lock")
		mustRelease(t, released)
		if err := released.Downgrade(t.Context()); !errors.Is(err, recipes.ErrReleased) {
			t.Errorf("Downgrade of what was released = %v", err)
		}
		broken := mustLock(t, s, "/lock")
		if err := c.Delete(t.Context(), broken.Path()); err != nil {
			t.Fatal(err)
		}
		<-broken.Context().Done()
		if err := broken.Downgrade(t.Context()); !errors.Is(err, recipes.ErrLost) {
			t.Errorf("Downgrade of what was broken = %v", err)
		}
		h := mustLock(t, s, "/lock")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.Downgrade(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Downgrade with a cancelled context = %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := h.Downgrade(t.Context()); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Downgrade with a dead session = %v", err)
		}
		noWatches(t, e)
	})
}

// A downgrade that is not answered may be done again, and readers get in.
func TestDowngradeThatIsNotAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		h := mustLock(t, s, "/lock")
		other := e.Follower(t.Context())
		patient, err := other.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		r := rlockInBackground(t.Context(), patient, "/lock")
		waiting(t, c, "/lock", 2)
		e.Isolate(c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Downgrade(ctx); !errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("Downgrade without a quorum = %v", err)
		}
		e.Heal()
		if err := h.Downgrade(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustRelease(t, granted(t, r))
		mustRelease(t, h)
	})
}

// Whatever readers and writers do, and whoever dies, no writer holds with anybody
// else, by their own clocks, and everybody is granted in the end.
func TestReadersAndWritersAtRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		var (
			mu      sync.Mutex
			readers = map[*recipes.Held]bool{}
			writers = map[*recipes.Held]bool{}
			grants  atomic.Int32
			all     sync.WaitGroup
		)
		note := func(h *recipes.Held, write bool) error {
			mu.Lock()
			defer mu.Unlock()
			for _, others := range []map[*recipes.Held]bool{readers, writers} {
				for other := range others {
					if other.Check() != nil {
						delete(others, other)
					}
				}
			}
			if h.Check() != nil {
				return nil
			}
			if len(writers) > 0 || write && len(readers) > 0 {
				return fmt.Errorf("%d writers and %d readers, and one more", len(writers), len(readers))
			}
			if write {
				writers[h] = true
			} else {
				readers[h] = true
			}
			return nil
		}
		for i := range 20 {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			all.Go(func() {
				s := newSession(t, e.Member(i%3+1))
				for range 15 {
					write := r.IntN(3) == 0
					lock := recipes.RLock
					if write {
						lock = recipes.Lock
					}
					ctx, cancel := context.WithCancel(t.Context())
					if r.IntN(4) == 0 {
						time.AfterFunc(time.Duration(r.IntN(100))*time.Millisecond, cancel)
					}
					h, err := lock(ctx, s, "/lock")
					cancel()
					if err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Errorf("lock = %v", err)
						}
						continue
					}
					grants.Add(1)
					if err := note(h, write); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
					if write && r.IntN(2) == 0 {
						mu.Lock()
						delete(writers, h)
						readers[h] = true
						mu.Unlock()
						if err := h.Downgrade(t.Context()); err != nil {
							t.Error(err)
						}
						time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
					}
					if r.IntN(10) == 0 {
						if err := s.Close(); err != nil {
							t.Error(err)
						}
						s = newSession(t, e.Member(r.IntN(3)+1))
						continue
					}
					_ = h.Release(t.Context())
				}
			})
		}
		all.Wait()
		if grants.Load() < 100 {
			t.Errorf("only %d grants", grants.Load())
		}
		eventually(t, "all to be gone", func() bool {
			got := children(t, e.Member(1), "/lock")
			return got == "none" || strings.TrimSpace(got) == ""
		})
		noWatches(t, e)
	})
}
