package recipes_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func campaign(t *testing.T, c *coord.Coordinator, path, name string) *recipes.Held {
	t.Helper()
	h, err := recipes.Campaign(t.Context(), newSession(t, c), path, []byte(name))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestObserve(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/services/leader"
		ctx, cancel := context.WithCancelCause(t.Context())
		leaders := make(chan recipes.Contender)
		ended := make(chan error, 1)
		go func() {
			for l, err := range recipes.Observe(ctx, e.Member(3), path) {
				if err != nil {
					ended <- err
					return
				}
				leaders <- l
			}
		}()
		expect := func(name string, h *recipes.Held) {
			t.Helper()
			l := <-leaders
			if string(l.Value) != name || h != nil && (l.Fence != h.Fence() || l.Path != h.Path() || l.Session != h.Session().ID()) {
				t.Fatalf("observed %+v, want %q", l, name)
			}
		}
		expect("", nil)
		a := campaign(t, e.Member(1), path, "a")
		expect("a", a)
		if err := a.SetValue(t.Context(), []byte("a2")); err != nil {
			t.Fatal(err)
		}
		expect("a2", a)
		if l, ok, err := recipes.CurrentLeader(t.Context(), e.Member(1), path, coord.Linearizable()); err != nil || !ok || string(l.Value) != "a2" {
			t.Errorf("CurrentLeader = %+v, %t, %v", l, ok, err)
		}
		next := make(chan *recipes.Held)
		go func() { next <- campaign(t, e.Member(2), path, "b") }()
		waiting(t, e.Member(1), path, 2)
		mustRelease(t, a)
		b := <-next
		expect("b", b)
		mustRelease(t, b)
		expect("", nil)
		if _, ok, err := recipes.CurrentLeader(t.Context(), e.Member(1), path, coord.Linearizable()); err != nil || ok {
			t.Errorf("CurrentLeader = %t, %v", ok, err)
		}
		time.Sleep(5 * time.Minute) // the directory vanishes
		c := campaign(t, e.Member(1), path, "c")
		expect("c", c)
		mustRelease(t, c)
		expect("", nil)
		why := errors.New("enough")
		cancel(why)
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("Observe ended with %v", err)
		}
		for _, c := range e.Running() {
			eventually(t, "the watches to be freed", func() bool { return c.Status().Watches == 0 })
		}
	})
}

// CURATOR-15, -645, -653: through loss of sessions, crashes and leader changes,
// somebody leads again, and never two.
func TestRunElected_CURATOR16_CURATOR104_CURATOR653_CURATOR671_Netflix216_druid16528(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/leader"
		ctx, cancel := context.WithCancel(t.Context())
		var leading atomic.Int32
		terms := make(chan *coord.Coordinator, 100)
		ended := make(chan error, 10)
		run := func(c *coord.Coordinator) {
			var here atomic.Int32
			ended <- recipes.RunElected(ctx, c, path, func(ctx context.Context, h *recipes.Held) error {
				if here.Add(1) != 1 {
					t.Error("two terms of one process at a time")
				}
				defer here.Add(-1)
				if leading.Add(1) != 1 {
					t.Error("two leaders")
				}
				terms <- c
				<-ctx.Done()
				leading.Add(-1)
				return errors.New("dropped")
			})
		}
		for _, c := range e.Running() {
			go run(c)
		}
		for range 5 {
			leader := <-terms
			waiting(t, leader, path, 3)
			e.Isolate(leader) // its session expires, and is opened anew
			time.Sleep(30 * time.Second)
			e.Heal()
			time.Sleep(30 * time.Second)
		}
		leader := <-terms
		waiting(t, leader, path, 3)
		e.Kill(leader)
		if err := <-ended; err == nil {
			t.Error("RunElected of a coordinator that was killed returned nil")
		}
		<-terms
		go run(e.Restart(leader))
		waiting(t, e.Leader(t.Context()), path, 3)
		cancel()
		for range 3 {
			if err := <-ended; err == nil || errors.Is(err, coord.ErrClosed) {
				t.Errorf("RunElected ended with %v, though its context was cancelled", err)
			}
		}
	})
}

func TestRunElectedReturns(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		why := errors.New("enough")
		terms := 0
		err := recipes.RunElected(t.Context(), e.Member(1), "/leader", func(ctx context.Context, h *recipes.Held) error {
			if terms++; terms == 1 {
				if err := h.Session().Delete(t.Context(), h.Path()); err != nil {
					t.Error(err)
				}
				<-ctx.Done()
				return nil
			}
			return why
		})
		if !errors.Is(err, why) || terms != 2 {
			t.Errorf("RunElected = %v after %d terms", err, terms)
		}
		waiting(t, e.Member(1), "/leader", 0)
		if err := recipes.RunElected(t.Context(), e.Member(1), "bad", nil); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("RunElected(bad) = %v", err)
		}
	})
}

func campaignInBackground(ctx context.Context, s *coord.Session, path string, priority int) <-chan outcome {
	got := make(chan outcome, 1)
	go func() {
		h, err := recipes.Campaign(ctx, s, path, []byte{'0' + byte(priority)}, recipes.WithPriority(priority))
		got <- outcome{h, err}
	}()
	return got
}

// Of those that wait the one of the highest priority leads next, the first of equals;
// who leads is not driven out.
func TestPriority(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/leader"
		c := e.Member(1)
		h := campaign(t, c, path, "first")
		var next []<-chan outcome
		priorities := []int{0, 1, 0, 3, 2, 3, 0, 1}
		for i, priority := range priorities {
			next = append(next, campaignInBackground(t.Context(), newSession(t, e.Member(i%3+1)), path, priority))
			waiting(t, c, path, i+2)
		}
		waits(t, next...)
		if err := h.Check(); err != nil {
			t.Errorf("Check = %v", err)
		}
		for _, i := range []int{3, 5, 4, 1, 7, 0, 2, 6} {
			mustRelease(t, h)
			last := h
			if h = granted(t, next[i]); h.Fence() <= last.Fence() {
				t.Errorf("fence %v behind %v", h.Fence(), last.Fence())
			}
			if all := contenders(t, c, path); all[0].Priority != priorities[i] || !all[0].Holds || all[0].Path != h.Path() {
				t.Errorf("the leader is %+v", all[0])
			}
			if l, ok, err := recipes.CurrentLeader(t.Context(), c, path, coord.Linearizable()); err != nil || !ok || l.Fence != h.Fence() {
				t.Errorf("CurrentLeader = %+v, %t, %v", l, ok, err)
			}
			for j, got := range next {
				if len(got) > 0 {
					t.Fatalf("candidate %d leads beside %d", j, i)
				}
			}
		}
		mustRelease(t, h)
		noWatches(t, e)
	})
}

// Who comes while others wait is first if its priority is higher, but not before who
// leads.
func TestPriorityOfLatecomers(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/leader"
		c := e.Member(1)
		low := granted(t, campaignInBackground(t.Context(), newSession(t, c), path, 0))
		middle := campaignInBackground(t.Context(), newSession(t, e.Member(2)), path, 1)
		waiting(t, c, path, 2)
		high := campaignInBackground(t.Context(), newSession(t, e.Member(3)), path, 9)
		waiting(t, c, path, 3)
		waits(t, middle, high)
		mustRelease(t, low)
		leader := granted(t, high)
		higher := campaignInBackground(t.Context(), newSession(t, e.Member(3)), path, 1<<31-1)
		waiting(t, c, path, 3)
		waits(t, middle, higher)
		if err := leader.Check(); err != nil {
			t.Errorf("the leader was driven out: %v", err)
		}
		mustRelease(t, leader)
		mustRelease(t, granted(t, higher))
		mustRelease(t, granted(t, middle))
		noWatches(t, e)
	})
}

// Who goes behind takes along what was said of it, and what was asked of it.
func TestRequestReleaseOfACandidateThatGoesBehind(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/leader"
		c := e.Member(1)
		h := campaign(t, c, path, "")
		low := campaignInBackground(t.Context(), newSession(t, e.Member(2)), path, 0)
		waiting(t, c, path, 2)
		high := campaignInBackground(t.Context(), newSession(t, e.Member(3)), path, 1)
		waiting(t, c, path, 3)
		if err := recipes.RequestRelease(t.Context(), c, contenders(t, c, path)[1]); err != nil {
			t.Fatal(err)
		}
		mustRelease(t, h)
		leader := granted(t, high)
		all := expectHolding(t, c, path, "Hw")
		if who := all[1]; !who.ReleaseRequested || string(who.Value) != "0" {
			t.Errorf("who went behind is %+v", who)
		}
		mustRelease(t, leader)
		next := granted(t, low)
		<-next.ReleaseRequested()
		mustRelease(t, next)
	})
}

// Whenever a candidate that lets others go first is cancelled, broken, or cut off, it
// leaves nothing, and somebody leads.
func TestPriorityCutShort(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/leader"
		c := e.Member(1)
		empty := func() {
			t.Helper()
			eventually(t, "nobody to be left", func() bool {
				got := children(t, e.Leader(t.Context()), path)
				return got == "" || got == "none"
			})
			noWatches(t, e)
		}
		for i := range 40 {
			h := campaign(t, c, path, "")
			s := newSession(t, e.Member(2))
			ctx, cancel := context.WithCancel(t.Context())
			low := campaignInBackground(ctx, s, path, 0)
			waiting(t, c, path, 2)
			high := campaignInBackground(t.Context(), newSession(t, e.Member(3)), path, 1)
			waiting(t, c, path, 3)
			at := time.Duration(i/2) * 200 * time.Microsecond // while it goes behind
			ended := make(chan struct{})
			time.AfterFunc(at, func() {
				defer close(ended)
				if i%2 == 0 {
					cancel()
				} else if err := s.Close(); err != nil {
					t.Errorf("Close = %v", err)
				}
			})
			mustRelease(t, h)
			leader := granted(t, high)
			<-ended
			if o := <-low; !errors.Is(o.err, context.Canceled) && !errors.Is(o.err, coord.ErrClosed) {
				t.Errorf("Campaign = %v", o.err)
			}
			cancel()
			mustRelease(t, leader)
			empty()
		}
	})
}

// Through arrivals, resignations and deaths at random, terms do not overlap, fences
// grow, and who leads was one of the highest priority when the place came free.
func TestPriorityAtRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path = "/leader"
		var all sync.WaitGroup
		var leading atomic.Int32
		var fence atomic.Uint64
		for i := range 15 {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			all.Go(func() {
				s := newSession(t, e.Member(i%3+1))
				for range 10 {
					ctx, cancel := context.WithCancel(t.Context())
					if r.IntN(5) == 0 {
						time.AfterFunc(time.Duration(r.IntN(200))*time.Millisecond, cancel)
					}
					h, err := recipes.Campaign(ctx, s, path, nil, recipes.WithPriority(r.IntN(4)))
					cancel()
					if err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Errorf("Campaign = %v", err)
						}
						continue
					}
					if leading.Add(1) != 1 {
						t.Error("two leaders")
					}
					if before := fence.Swap(uint64(h.Fence())); before >= uint64(h.Fence()) {
						t.Errorf("fence %v behind %v", h.Fence(), before)
					}
					time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
					leading.Add(-1)
					if r.IntN(10) == 0 {
						if err := s.Close(); err != nil {
							t.Error(err)
						}
						s = newSession(t, e.Member(r.IntN(3)+1))
					} else if err := h.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		eventually(t, "nobody to be left", func() bool {
			got := children(t, e.Member(1), path)
			return got == "" || got == "none"
		})
		noWatches(t, e)
	})
}

func TestPriorityRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		for _, opts := range [][]recipes.Option{
			{recipes.WithPriority(-1)},
			{recipes.WithPriority(1 << 31)},
			{recipes.WithWeight(1)},
			{recipes.WithPriority(1), recipes.WithLayout(recipes.CuratorLeaderLatch)},
			{recipes.WithPriority(0), recipes.WithLayout(recipes.KazooLock)},
			{recipes.WithLayout(recipes.CuratorReadWriteLock)},
			{recipes.WithLayout("of nobody")},
		} {
			if _, err := recipes.Campaign(t.Context(), s, "/leader", nil, opts...); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Campaign = %v", err)
			}
		}
		for _, value := range []string{"__REVOKE__", "__SHARED__x"} {
			if _, err := recipes.Campaign(t.Context(), s, "/leader", []byte(value)); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Campaign(%q) = %v", value, err)
			}
		}
		if got := children(t, s, "/leader"); got != "none" {
			t.Errorf("left behind: %s", got)
		}
	})
}
