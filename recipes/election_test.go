package recipes_test

import (
	"context"
	"errors"
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
func TestRunElected(t *testing.T) {
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
