package coord

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"coord/internal/bubble"
)

func newBarrier() *sharedBarrier {
	return &sharedBarrier{start: func(f func()) bool {
		go f()
		return true
	}}
}

func TestBarriersAreShared(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		b, ctx := newBarrier(), t.Context()
		const waiters = 1000
		var sent atomic.Int64
		done := make(chan error, waiters)
		for range waiters {
			go func() {
				done <- b.wait(ctx, ctx, func(context.Context) error {
					sent.Add(1)
					time.Sleep(time.Second)
					return nil
				}, time.Minute)
			}()
		}
		begin := time.Now()
		for range waiters {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		// All came in the same instant: to the first, or to the one behind it.
		if d := time.Since(begin); sent.Load() > 2 || d > 2*time.Second {
			t.Errorf("%d waiters sent %d barriers in %v, want the one under way and one for all others", waiters, sent.Load(), d)
		}
	})
}

// A caller must not be answered by a barrier that was sent before it came.
func TestBarrierIsNotJoinedLate(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		b, ctx := newBarrier(), t.Context()
		var sent []time.Time
		readIndex := func(context.Context) error {
			sent = append(sent, time.Now())
			time.Sleep(time.Second)
			return nil
		}
		go func() { _ = b.wait(ctx, ctx, readIndex, time.Minute) }()
		time.Sleep(500 * time.Millisecond)
		came := time.Now()
		if err := b.wait(ctx, ctx, readIndex, time.Minute); err != nil {
			t.Fatal(err)
		}
		if last := sent[len(sent)-1]; last.Before(came) {
			t.Errorf("answered by a barrier sent %v before the call", came.Sub(last))
		}
	})
}

// A ReadIndex that is lost is followed by another, for as long as somebody waits.
func TestLostBarriersAreRepeated(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		b := newBarrier()
		var attempts atomic.Int64
		lost := func(ctx context.Context) error {
			if attempts.Add(1) == 5 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		if err := b.wait(t.Context(), t.Context(), lost, 400*time.Millisecond); err != nil || attempts.Load() != 5 {
			t.Errorf("wait = %v after %d attempts", err, attempts.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		attempts.Store(10)
		if err := b.wait(ctx, t.Context(), lost, 400*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait = %v, want the caller's deadline", err)
		}
		time.Sleep(time.Minute)
		if n := attempts.Load() - 10; n > 4 {
			t.Errorf("%d attempts for a caller that left after a second", n)
		}
	})
}

// An answer that is there at once must not hide that the caller's context is over.
func TestBarrierOfOneWhoHasGivenUp(t *testing.T) {
	b := &sharedBarrier{start: func(f func()) bool {
		f() // answered before the caller waits for it
		return true
	}}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		err := b.wait(over, t.Context(), func(context.Context) error { return nil }, time.Minute)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("a caller whose context was cancelled got %v, want %v", err, context.Canceled)
		}
	}
}
