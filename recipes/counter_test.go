package recipes_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// Each Add counts once, through loss of messages and changes of leader.
func TestCounter(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, adders, adds = "/counters/n", 9, 40
		ctx := t.Context()
		n := recipes.NewCounter(e.Member(1), path)
		if sum, err := n.Get(ctx); err != nil || sum != 0 {
			t.Errorf("Get = %d, %v", sum, err)
		}
		var mu sync.Mutex
		seen := map[int64]bool{} // guarded by mu
		unknown := 0             // guarded by mu
		var all sync.WaitGroup
		for i := range adders {
			n := recipes.NewCounter(e.Member(i%3+1), path)
			all.Go(func() {
				for range adds {
					sum, err := n.Add(ctx, 1)
					mu.Lock()
					switch {
					case errors.Is(err, coord.ErrUnknownOutcome):
						unknown++
					case err != nil && !errors.Is(err, coord.ErrTimeout):
						t.Errorf("Add = %v", err)
					case err == nil && seen[sum]:
						t.Errorf("Add returned %d twice", sum)
					case err == nil:
						seen[sum] = true
					}
					mu.Unlock()
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		e.Lose(0.1, 1)
		for range 4 {
			time.Sleep(time.Second)
			e.Lead(ctx, other(e, e.Leader(ctx)))
		}
		e.Lose(0, 1)
		all.Wait()
		sum, err := n.Get(ctx, coord.Linearizable())
		if err != nil || sum < int64(len(seen)) || sum > int64(len(seen)+unknown) {
			t.Errorf("the sum is %d, %v after %d that were acknowledged and %d unknown ones", sum, err, len(seen), unknown)
		}
		time.Sleep(10 * time.Minute) // counters do not vanish
		if again, err := n.Get(ctx); err != nil || again != sum {
			t.Errorf("Get = %d, %v", again, err)
		}
	})
}

func TestCounterCosts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		n := recipes.NewCounter(e.Leader(t.Context()), "/a/b/n")
		for want := range int64(3) {
			before := e.Leader(t.Context()).Status().ZXID
			if sum, err := n.Add(t.Context(), 1); err != nil || sum != want+1 {
				t.Fatalf("Add = %d, %v", sum, err)
			}
			if after := e.Leader(t.Context()).Status().ZXID; after != before+1 {
				t.Errorf("it cost %d writes", after-before)
			}
		}
	})
}

func TestCounterRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		n := recipes.NewCounter(c, "/n")
		for _, delta := range []int64{math.MaxInt64, 0} {
			if sum, err := n.Add(ctx, delta); err != nil || sum != math.MaxInt64 {
				t.Fatalf("Add = %d, %v", sum, err)
			}
		}
		if _, err := n.Add(ctx, 1); !errors.Is(err, coord.ErrOverflow) {
			t.Errorf("Add = %v", err)
		}
		if sum, err := n.Add(ctx, math.MinInt64); err != nil || sum != -1 {
			t.Errorf("Add = %d, %v", sum, err)
		}
		if _, err := n.Add(ctx, math.MinInt64); !errors.Is(err, coord.ErrOverflow) {
			t.Errorf("Add = %v", err)
		}
		for _, path := range badPaths {
			n := recipes.NewCounter(c, path)
			if _, err := n.Add(ctx, 1); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Add at %q = %v", path, err)
			}
			if _, err := n.Get(ctx); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Get at %q = %v", path, err)
			}
		}
		s := newSession(t, c)
		h := mustLock(t, s, "/lock")
		must(t, recipes.NewBarrier(c, "/barrier").Set(ctx))
		for _, path := range []string{"/lock", "/barrier", h.Path()} {
			n := recipes.NewCounter(c, path)
			if _, err := n.Add(ctx, 1); !errors.Is(err, recipes.ErrOtherRecipe) {
				t.Errorf("Add at %s = %v", path, err)
			}
			if _, err := n.Get(ctx); !errors.Is(err, recipes.ErrOtherRecipe) {
				t.Errorf("Get at %s = %v", path, err)
			}
		}
		must(t, s.Close())
		ended, cancel := context.WithCancel(ctx)
		cancel()
		for _, c := range []coord.Client{nil, (*coord.Session)(nil), s} {
			if _, err := recipes.NewCounter(c, "/n").Add(ctx, 1); err == nil {
				t.Error("Add of a dead client returned nil")
			}
			if _, err := recipes.NewCounter(c, "/n").Get(ctx); err == nil {
				t.Error("Get of a dead client returned nil")
			}
		}
		if _, err := n.Add(ended, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("Add with an ended context = %v", err)
		}
	})
}

// Whatever is cancelled, lost or not answered, no number comes twice.
func TestIDs(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, takers, takes, block = "/ids", 12, 50, 7
		var mu sync.Mutex
		seen := map[int64]bool{} // guarded by mu
		var all sync.WaitGroup
		for i := range 3 {
			ids := recipes.NewIDs(e.Member(i+1), path, block)
			for j := range takers {
				all.Go(func() {
					last := int64(0)
					for k := range takes {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(j+k)%9)*10*time.Millisecond)
						id, err := ids.Next(ctx)
						cancel()
						time.Sleep(10 * time.Millisecond)
						if err != nil {
							continue
						}
						if id <= last {
							t.Errorf("%d comes behind %d", id, last)
						}
						last = id
						mu.Lock()
						if seen[id] {
							t.Errorf("%d twice", id)
						}
						seen[id] = true
						mu.Unlock()
					}
				})
			}
		}
		for range 3 {
			time.Sleep(100 * time.Millisecond)
			e.Isolate(e.Member(2))
			time.Sleep(100 * time.Millisecond)
			e.Heal()
		}
		all.Wait()
		if len(seen) < takers*takes {
			t.Errorf("%d numbers of %d attempts", len(seen), 3*takers*takes)
		}
	})
}

func TestIDsInBlocks(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Leader(t.Context())
		ids := recipes.NewIDs(c, "/ids", 10)
		before := c.Status().ZXID
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() {
				if _, err := ids.Next(ctx); err != nil {
					t.Errorf("Next = %v", err)
				}
			})
		}
		all.Wait()
		if cost := c.Status().ZXID - before; cost != 3 {
			t.Errorf("30 numbers in blocks of 10 cost %d writes", cost)
		}
		if id, err := ids.Next(ctx); err != nil || id != 31 {
			t.Errorf("Next = %d, %v", id, err)
		}

		// To the end of the range, and not beyond.
		if _, err := recipes.NewCounter(c, "/last").Add(ctx, math.MaxInt64-2); err != nil {
			t.Fatal(err)
		}
		ids = recipes.NewIDs(c, "/last", 2)
		for want := int64(math.MaxInt64 - 1); ; want++ {
			if id, err := ids.Next(ctx); err != nil || id != want {
				t.Errorf("Next = %d, %v", id, err)
			}
			if want == math.MaxInt64 {
				break
			}
		}
		if _, err := ids.Next(ctx); !errors.Is(err, coord.ErrOverflow) {
			t.Errorf("Next = %v", err)
		}
		for _, block := range []int64{0, -1} {
			if _, err := recipes.NewIDs(c, "/ids", block).Next(ctx); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Next of blocks of %d = %v", block, err)
			}
		}
		if _, err := recipes.NewIDs(nil, "/ids", 1).Next(ctx); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Next without a client = %v", err)
		}
		if _, err := recipes.NewIDs(c, "ids", 1).Next(ctx); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Next of a bad path = %v", err)
		}
	})
}
