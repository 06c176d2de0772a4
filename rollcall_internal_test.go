package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/bubble"
)

func TestRollCallWaitsForAll(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errors.New("too late"))
		defer cancel()
		began := time.Now()
		r := newRollCall([]MemberID{2, 3, 4}, func(ctx context.Context, id MemberID) error {
			switch id {
			case 2:
				return nil
			case 3:
				if time.Since(began) < time.Minute {
					return errors.New("nobody there")
				}
				return nil
			}
			if time.Since(began) < 2*time.Minute {
				<-ctx.Done() // a network that swallows everything
				return context.Cause(ctx)
			}
			return nil
		}, slog.New(slog.DiscardHandler))
		var done sync.WaitGroup
		done.Go(func() {
			if err := r.run(ctx); err != nil {
				t.Errorf("run = %v", err)
			}
		})
		for _, at := range []struct {
			after time.Duration
			says  string
		}{
			{30 * time.Second, "its first start waits for an answer of member 3 (nobody there), member 4 (operation timed out)"},
			{time.Minute + maxAskPause, "its first start waits for an answer of member 4 (operation timed out)"},
			{2*time.Minute + askTimeout + maxAskPause, ""},
		} {
			time.Sleep(time.Until(began.Add(at.after)))
			synctest.Wait()
			if err := r.waiting(); (err == nil) != (at.says == "") || err != nil && err.Error() != at.says {
				t.Errorf("after %v: %v, want %q", at.after, err, at.says)
			}
		}
		done.Wait()
	})
}

func TestRollCallEndsWithAStrangeDirectory(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		r := newRollCall([]MemberID{2, 3}, func(_ context.Context, id MemberID) error {
			if id == 2 {
				return errors.New("nobody there")
			}
			return fmt.Errorf("%w: as it says", errStrange)
		}, slog.New(slog.DiscardHandler))
		if err := r.run(t.Context()); !errors.Is(err, errStrange) {
			t.Errorf("run = %v", err)
		}
		if r.waiting() == nil {
			t.Error("it waits for nobody")
		}
	})
}

func TestRollCallEndsWithItsContext(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := newRollCall([]MemberID{2, 3}, func(ctx context.Context, id MemberID) error {
			if id == 2 {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return errors.New("nobody there")
		}, slog.New(slog.DiscardHandler))
		time.AfterFunc(time.Minute, func() { cancel(ErrClosed) })
		if err := r.run(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("run = %v", err)
		}
	})
	if newRollCall(nil, nil, nil).waiting() != nil {
		t.Error("a member alone waits")
	}
}
