package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
	"coord/recipes"
)

// inBubble runs a test on an ensemble of three in virtual time, with production
// timeouts. A goroutine that is left fails it.
func inBubble(t *testing.T, test func(t *testing.T, e *coordtest.Ensemble), opts ...coordtest.Option) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) {
		test(t, coordtest.NewEnsemble(t, 3, append(opts, coordtest.WithElectionTimeout(2*time.Second))...))
	})
}

// noWatches waits until nothing is registered at any member.
func noWatches(t *testing.T, e *coordtest.Ensemble) {
	t.Helper()
	for _, c := range e.Running() {
		eventually(t, "the watches to be freed", func() bool { return c.Status().Watches == 0 })
	}
}

func newSession(t *testing.T, c *coord.Coordinator) *coord.Session {
	t.Helper()
	s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustLock(t *testing.T, s *coord.Session, path string, opts ...recipes.Option) *recipes.Held {
	t.Helper()
	h, err := recipes.Lock(t.Context(), s, path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustRelease(t *testing.T, h *recipes.Held) {
	t.Helper()
	if err := h.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// children returns the names below a path, joined, or "none".
func children(t *testing.T, c coord.Client, path string) string {
	t.Helper()
	names, _, err := c.Children(t.Context(), path, coord.Linearizable())
	if errors.Is(err, coord.ErrNoNode) {
		return "none"
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for !cond() {
		if ctx.Err() != nil {
			t.Fatalf("waiting for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// outcome is what a call in the background returned.
type outcome struct {
	h   *recipes.Held
	err error
}

func lockInBackground(ctx context.Context, s *coord.Session, path string) <-chan outcome {
	got := make(chan outcome, 1)
	go func() {
		h, err := recipes.Lock(ctx, s, path)
		got <- outcome{h, err}
	}()
	return got
}

// waiting waits until n contenders are in a directory.
func waiting(t *testing.T, c coord.Client, path string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d contenders", n), func() bool {
		names, _, err := c.Children(t.Context(), path)
		return err == nil && len(names) == n
	})
}
