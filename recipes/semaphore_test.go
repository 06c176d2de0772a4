package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func mustAcquire(t *testing.T, s *coord.Session, path string, permits int, opts ...recipes.Option) *recipes.Held {
	t.Helper()
	h, err := recipes.Acquire(t.Context(), s, path, permits, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func acquireInBackground(ctx context.Context, s *coord.Session, path string, permits int, opts ...recipes.Option) <-chan outcome {
	got := make(chan outcome, 1)
	go func() {
		h, err := recipes.Acquire(ctx, s, path, permits, opts...)
		got <- outcome{h, err}
	}()
	return got
}

// acquireInLine asks for permits one after the other.
func acquireInLine(t *testing.T, e *coordtest.Ensemble, path string, permits, there int, weights ...int) []<-chan outcome {
	t.Helper()
	var all []<-chan outcome
	for i, weight := range weights {
		all = append(all, acquireInBackground(t.Context(), newSession(t, e.Member(i%3+1)), path, permits, recipes.WithWeight(weight)))
		waiting(t, e.Leader(t.Context()), path, there+i+1)
	}
	return all
}

// CURATOR-279: at most so many hold, first come first served, and it can be told who.
func TestSemaphore_CURATOR279(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, permits = "/pool/permits", 3
		var held []*recipes.Held
		for i := range permits {
			held = append(held, mustAcquire(t, newSession(t, e.Member(i+1)), path, permits, recipes.WithValue([]byte{'a' + byte(i)})))
		}
		next := acquireInLine(t, e, path, permits, 3, 1, 1, 1, 1)
		waits(t, next...)
		all, err := recipes.Contenders(t.Context(), e.Member(2), path, coord.Linearizable())
		if err != nil || len(all) != 7 {
			t.Fatalf("Contenders = %+v, %v", all, err)
		}
		for i, c := range all {
			if c.Holds != (i < permits) || c.Weight != 1 || i < permits && (string(c.Value) != string('a'+byte(i)) || c.Fence != held[i].Fence() || c.Session != held[i].Session().ID()) {
				t.Errorf("contender %d is %+v", i, c)
			}
		}
		mustRelease(t, held[1])
		fourth := granted(t, next[0])
		waits(t, next[1:]...)
		mustRelease(t, fourth)
		mustRelease(t, held[0])
		fifth, sixth := granted(t, next[1]), granted(t, next[2])
		waits(t, next[3])
		mustRelease(t, held[2])
		seventh := granted(t, next[3])
		if fifth.Fence() >= sixth.Fence() || sixth.Fence() >= seventh.Fence() {
			t.Errorf("fences %v, %v, %v", fifth.Fence(), sixth.Fence(), seventh.Fence())
		}
		for _, h := range []*recipes.Held{fifth, sixth, seventh} {
			mustRelease(t, h)
		}
		noWatches(t, e)
		eventually(t, "the directories to vanish", func() bool {
			_, there, err := e.Member(1).Exists(t.Context(), "/pool")
			return err == nil && !there
		})
	})
}

// Many that are released at once, or by the end of a session, let all in for whom there
// is room then: each one that is granted wakes the one behind it.
func TestSemaphoreManyReleasedAtOnce_CURATOR595(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, permits = "/permits", 10
		s := newSession(t, e.Member(1))
		for range permits {
			mustAcquire(t, s, path, permits)
		}
		next := acquireInLine(t, e, path, permits, permits, 1, 2, 3, 1, 2, 5, 1)
		waits(t, next...)
		e.Isolate(e.Member(1)) // its sessions are lost, of the waiters' as well
		var held []*recipes.Held
		for i, got := range next[:6] {
			if i%3 == 0 {
				if o := <-got; !errors.Is(o.err, coord.ErrSessionExpired) {
					t.Errorf("waiter %d of a lost session got %v", i, o.err)
				}
				continue
			}
			if i == 5 {
				waits(t, got)
				continue
			}
			held = append(held, granted(t, got)) // 2, 3 and 2
		}
		e.Heal()
		mustRelease(t, held[0])
		last := granted(t, next[5])
		if o := <-next[6]; !errors.Is(o.err, coord.ErrSessionExpired) {
			t.Errorf("the last waiter got %v", o.err)
		}
		for _, h := range append(held[1:], last) {
			mustRelease(t, h)
		}
		waiting(t, e.Member(2), path, 0)
		noWatches(t, e)
	})
}

// A heavy waiter is not overtaken, and takes what comes free bit by bit.
func TestSemaphoreWeights(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, permits = "/permits", 5
		s := newSession(t, e.Member(1))
		two, three := mustAcquire(t, s, path, permits, recipes.WithWeight(2)), mustAcquire(t, s, path, permits, recipes.WithWeight(3))
		next := acquireInLine(t, e, path, permits, 2, 4, 1, 5)
		mustRelease(t, two)
		waits(t, next...)
		if _, err := recipes.TryAcquire(t.Context(), s, path, permits); !errors.Is(err, recipes.ErrTaken) {
			t.Errorf("TryAcquire of what is free, before those who wait = %v", err)
		}
		mustRelease(t, three)
		four, one := granted(t, next[0]), granted(t, next[1])
		waits(t, next[2])
		mustRelease(t, four)
		waits(t, next[2])
		mustRelease(t, one)
		all, err := recipes.Contenders(t.Context(), e.Member(1), path, coord.Linearizable())
		if err != nil || len(all) != 1 || all[0].Weight != 5 {
			t.Errorf("Contenders = %+v, %v", all, err)
		}
		mustRelease(t, granted(t, next[2]))
		noWatches(t, e)
	})
}

// A waiter that leaves lets those behind it in, if there is room for them; one in the
// middle lets nobody.
func TestSemaphoreWaiterLeaves(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, permits = "/permits", 4
		h := mustAcquire(t, newSession(t, e.Member(1)), path, permits, recipes.WithWeight(2))
		ctx, cancel := context.WithCancel(t.Context())
		heavy := acquireInBackground(ctx, newSession(t, e.Member(2)), path, permits, recipes.WithWeight(3))
		waiting(t, e.Member(1), path, 2)
		dies := newSession(t, e.Member(3))
		middle := acquireInBackground(t.Context(), dies, path, permits)
		waiting(t, e.Member(1), path, 3)
		next := acquireInLine(t, e, path, permits, 3, 1, 1, 1)
		waits(t, append(next, heavy, middle)...)
		if err := dies.Close(); err != nil {
			t.Fatal(err)
		}
		if o := <-middle; !errors.Is(o.err, coord.ErrClosed) {
			t.Errorf("Acquire = %v", o.err)
		}
		waits(t, append(next, heavy)...)
		cancel()
		if o := <-heavy; !errors.Is(o.err, context.Canceled) {
			t.Errorf("Acquire = %v", o.err)
		}
		first, second := granted(t, next[0]), granted(t, next[1])
		waits(t, next[2])
		mustRelease(t, h)
		mustRelease(t, granted(t, next[2]))
		mustRelease(t, first)
		mustRelease(t, second)
		noWatches(t, e)
	})
}

// Who uses a semaphore agrees on the number, whoever comes first; when nobody is
// there, the number may be another one.
func TestSemaphoreOfAnotherCount_CURATOR75(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/permits"
		s, other := newSession(t, e.Member(1)), newSession(t, e.Member(2))
		h := mustAcquire(t, s, path, 2)
		for _, call := range []func(context.Context, *coord.Session, string, int, ...recipes.Option) (*recipes.Held, error){recipes.Acquire, recipes.TryAcquire} {
			for _, n := range []int{1, 3} {
				if _, err := call(t.Context(), other, path, n); !errors.Is(err, recipes.ErrOtherCount) {
					t.Errorf("with another count: %v", err)
				}
			}
		}
		mustRelease(t, h)
		if err := other.Sync(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		mustRelease(t, mustAcquire(t, other, path, 3))

		// All at once: those of one number get in, and the others are told.
		var all sync.WaitGroup
		var mu sync.Mutex
		counts := map[int]int{}
		for i := range 12 {
			s, n := newSession(t, e.Member(i%3+1)), 12+i%2
			all.Go(func() {
				h, err := recipes.Acquire(t.Context(), s, path, n)
				if err != nil {
					if !errors.Is(err, recipes.ErrOtherCount) {
						t.Errorf("Acquire = %v", err)
					}
					return
				}
				mu.Lock()
				counts[n]++
				mu.Unlock()
				time.Sleep(time.Minute)
				if err := h.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(counts) != 1 {
			t.Errorf("holders of each count: %v", counts)
		}
		noWatches(t, e)
	})
}

// A directory that is there already, with znodes of others in it, is used like any
// other; the root is one.
func TestSemaphoreAmongForeignZnodes(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		for _, path := range []string{"/dir", "/dir/README", "/dir/permit-1-0000000000", "/dir/permit-5-0000000009"} {
			if _, _, err := c.Create(t.Context(), path, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range []string{"/dir", "/"} {
			h := mustAcquire(t, s, path, 2)
			if _, err := recipes.TryAcquire(t.Context(), s, path, 3); !errors.Is(err, recipes.ErrOtherCount) {
				t.Errorf("TryAcquire with another count = %v", err)
			}
			second := mustAcquire(t, s, path, 2)
			if _, err := recipes.TryAcquire(t.Context(), s, path, 2); !errors.Is(err, recipes.ErrTaken) {
				t.Errorf("TryAcquire of a third one = %v", err)
			}
			// Whose number was wiped out is not used with another one.
			if _, err := c.SetData(t.Context(), path, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := recipes.TryAcquire(t.Context(), s, path, 3); !errors.Is(err, recipes.ErrOtherCount) {
				t.Errorf("TryAcquire beside two of an unknown count = %v", err)
			}
			mustRelease(t, h)
			mustRelease(t, second)
		}
	})
}

func TestSemaphoreRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, s := e.Member(1), newSession(t, e.Member(1))
		for _, try := range []struct {
			path    string
			permits int
			opts    []recipes.Option
		}{
			{"/x", 0, nil},
			{"/x", -1, nil},
			{"/x", 1 << 31, nil},
			{"", 1, nil},
			{"x", 1, nil},
			{"/x/", 1, nil},
			{"/x", 2, []recipes.Option{recipes.WithWeight(3)}},
			{"/x", 2, []recipes.Option{recipes.WithWeight(0)}},
			{"/x", 2, []recipes.Option{recipes.WithWeight(-1)}},
			{"/x", 2, []recipes.Option{recipes.WithPriority(1)}},
			{"/x", 2, []recipes.Option{recipes.WithLayout(recipes.KazooLock)}},
			{"/x", 2, []recipes.Option{recipes.WithValue([]byte("__REVOKE__"))}},
		} {
			if _, err := recipes.Acquire(t.Context(), s, try.path, try.permits, try.opts...); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Acquire(%q, %d) = %v", try.path, try.permits, err)
			}
			if _, err := recipes.TryAcquire(t.Context(), s, try.path, try.permits, try.opts...); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("TryAcquire(%q, %d) = %v", try.path, try.permits, err)
			}
		}
		lock := mustLock(t, s, "/lock")
		if _, err := recipes.Acquire(t.Context(), s, "/lock", 2); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Acquire where a lock is = %v", err)
		}
		mustRelease(t, lock)
		h := mustAcquire(t, s, "/permits", 2)
		if _, err := recipes.Lock(t.Context(), s, "/permits"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Lock where a semaphore is = %v", err)
		}
		mustRelease(t, h)
		if _, err := recipes.Lock(t.Context(), s, "/permits"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Lock where an unused semaphore is = %v", err)
		}
		for _, data := range []string{"config", "semaphore for ", "semaphore for 0", "semaphore for x", "semaphore for 99999999999"} {
			path, _, err := c.Create(t.Context(), "/data-", []byte(data), coord.PersistentSequential)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := recipes.Acquire(t.Context(), s, path, 2); !errors.Is(err, recipes.ErrOtherRecipe) {
				t.Errorf("Acquire where the data are %q = %v", data, err)
			}
		}
		for _, dead := range []*coord.Session{nil, newSession(t, c)} {
			if dead != nil {
				if err := dead.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := recipes.Acquire(t.Context(), dead, "/permits", 2); !errors.Is(err, coord.ErrClosed) && !errors.Is(err, coord.ErrSessionExpired) {
				t.Errorf("Acquire with a dead session = %v", err)
			}
		}
		noWatches(t, e)
	})
}

// kazoo PR 430: who does not want to wait does not, costs no write, and leaves nothing
// behind; of many that try at once, no more get in than there are permits.
func TestTryAcquire_kazoo430(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, permits = "/permits", 3
		s := newSession(t, e.Member(1))
		h := mustAcquire(t, s, path, permits, recipes.WithWeight(2))
		before := s.Context().Err()
		zxid := e.Leader(t.Context()).Status().ZXID
		if _, err := recipes.TryAcquire(t.Context(), s, path, permits, recipes.WithWeight(2)); !errors.Is(err, recipes.ErrTaken) || before != nil {
			t.Errorf("TryAcquire of more than there are = %v", err)
		}
		if after := e.Leader(t.Context()).Status().ZXID; after != zxid {
			t.Errorf("it cost %d writes", after-zxid)
		}
		mustRelease(t, h)
		for range 5 {
			var won atomic.Int32
			var all sync.WaitGroup
			for i := range 12 {
				s := newSession(t, e.Member(i%3+1))
				all.Go(func() {
					h, err := recipes.TryAcquire(t.Context(), s, path, permits)
					switch {
					case err == nil:
						if won.Add(1) > permits {
							t.Error("more holders than permits")
						}
						time.Sleep(time.Second)
						if err := h.Release(t.Context()); err != nil {
							t.Errorf("Release = %v", err)
						}
					case !errors.Is(err, recipes.ErrTaken):
						t.Errorf("TryAcquire = %v", err)
					}
				})
			}
			all.Wait()
			if won.Load() == 0 {
				t.Error("nobody got in")
			}
			waiting(t, e.Member(1), path, 0)
		}
		noWatches(t, e)
	})
}

// A grant ends the watch of those it waited for: or each release would wake all that
// were granted since.
func TestHoldersOfPermitsWatchNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, permits = "/permits", 10
		s := newSession(t, e.Member(1))
		var held []*recipes.Held
		for range permits {
			held = append(held, mustAcquire(t, s, path, permits))
		}
		next := acquireInBackground(t.Context(), s, path, permits)
		waiting(t, s, path, permits+1)
		eventually(t, "the waiter to watch all holders", func() bool { return e.Member(1).Status().Watches == permits+permits+1 })
		mustRelease(t, held[3])
		held[3] = granted(t, next)
		eventually(t, "the new holder to watch itself alone", func() bool { return e.Member(1).Status().Watches == permits })
		for _, h := range held {
			mustRelease(t, h)
		}
		noWatches(t, e)
	})
}

// Of many that come and go, with any weights, with contexts that end and sessions that
// do, every one that stays is granted in the end, and never are there too many.
func TestSemaphoreAtRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, permits, contenders, rounds = "/permits", 7, 30, 12
		var (
			mu     sync.Mutex
			held   = map[*recipes.Held]int{}
			grants int
			all    sync.WaitGroup
		)
		enter := func(h *recipes.Held, weight int) error {
			mu.Lock()
			defer mu.Unlock()
			grants++
			if h.Check() == nil {
				held[h] = weight
			}
			sum := 0
			for other, weight := range held {
				if other.Check() != nil {
					delete(held, other)
				} else {
					sum += weight
				}
			}
			if sum > permits {
				return fmt.Errorf("%d of %d permits are held", sum, permits)
			}
			return nil
		}
		for i := range contenders {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			all.Go(func() {
				s := newSession(t, e.Member(i%3+1))
				for range rounds {
					weight := 1 + r.IntN(3)
					if r.IntN(10) == 0 {
						weight = permits
					}
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
					quits := r.IntN(4) == 0
					if quits {
						time.AfterFunc(time.Duration(r.IntN(300))*time.Millisecond, cancel)
					}
					h, err := recipes.Acquire(ctx, s, path, permits, recipes.WithWeight(weight))
					cancel()
					if err != nil {
						if !quits || !errors.Is(err, context.Canceled) {
							t.Errorf("Acquire = %v", err)
						}
						continue
					}
					if err := enter(h, weight); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
					switch r.IntN(12) {
					case 0:
						err = s.Close()
						s = newSession(t, e.Member(r.IntN(3)+1))
					case 1: // which it may learn after the next one
						mu.Lock()
						delete(held, h)
						mu.Unlock()
						err = e.Member(1).Delete(t.Context(), h.Path())
					case 2:
						err = recipes.RequestRelease(t.Context(), s, recipes.Contender{Path: h.Path(), Fence: h.Fence()})
						_ = h.Release(t.Context())
					default:
						err = h.Release(t.Context())
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		t.Logf("%d grants", grants)
		eventually(t, "all to be gone", func() bool {
			got := children(t, e.Member(1), path)
			return got == "none" || got == ""
		})
		noWatches(t, e)
	})
}

// The same with members that lose contact: who waits with a session that lives gets
// its permits.
func TestSemaphoreWithFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, permits = "/permits", 5
		var all sync.WaitGroup
		var grants, lost atomic.Int32
		var mu sync.Mutex
		held := map[*recipes.Held]int{}
		for i := range 12 {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			all.Go(func() {
				c := e.Member(i%3 + 1)
				for n := 0; n < 15; {
					s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: 10 * time.Second})
					if err != nil {
						time.Sleep(time.Second)
						continue
					}
					for ; n < 15 && s.Context().Err() == nil; n++ {
						weight := 1 + r.IntN(permits)
						ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
						h, err := recipes.Acquire(ctx, s, path, permits, recipes.WithWeight(weight))
						cancel()
						if err != nil {
							if errors.Is(err, context.DeadlineExceeded) {
								t.Error("not granted within an hour")
							}
							lost.Add(1)
							time.Sleep(time.Second)
							continue
						}
						grants.Add(1)
						mu.Lock()
						held[h] = weight
						sum := 0
						for other, weight := range held {
							if other.Check() != nil {
								delete(held, other)
							} else {
								sum += weight
							}
						}
						mu.Unlock()
						if sum > permits {
							t.Errorf("%d of %d permits are held", sum, permits)
						}
						time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
						release, stop := context.WithTimeout(t.Context(), time.Second)
						_ = h.Release(release)
						stop()
					}
					_ = s.Close()
				}
			})
		}
		r := rand.New(rand.NewPCG(seed, 1000))
		for range 8 {
			cut := e.Member(r.IntN(3) + 1)
			e.Isolate(cut)
			time.Sleep(time.Duration(r.IntN(25)) * time.Second)
			e.Heal()
			time.Sleep(time.Duration(r.IntN(20)) * time.Second)
		}
		all.Wait()
		t.Logf("%d grants, %d lost", grants.Load(), lost.Load())
		eventually(t, "all to be gone", func() bool {
			got := children(t, e.Leader(t.Context()), path)
			return got == "none" || got == ""
		})
		noWatches(t, e)
	})
}
