package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// While there is no session, Err says so.
func TestRegistrationErrWithoutASession(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		r := mustRegister(t, c, "/r", "x")
		e.Isolate(c)
		<-c.Session().Context().Done()
		time.Sleep(time.Second)
		if err := r.Err(); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Err = %v", err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Registered(short); !errors.Is(err, coord.ErrSessionExpired) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Registered = %v", err)
		}
		e.Heal()
		if incarnation(t, r); r.Err() != nil {
			t.Errorf("Err = %v", r.Err())
		}
		must(t, r.Unregister(t.Context()))
		noWatches(t, e)
	})
}

// An Update that gets its turn is made, also if its context has ended.
func TestUpdateWithAnEndedContextIsMade(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		r := mustRegister(t, c, "/r", "x")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 20 {
			if err := r.Update(ended, fmt.Sprint(i)); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Update = %v", err)
			}
			want := fmt.Sprintf(`"%d"`, i)
			eventually(t, "the update", func() bool { return value(t, c, "/r") == want })
		}
		must(t, r.Unregister(t.Context()))
	})
}

// What is seen at the path by a member that is behind may be gone: Register makes sure
// before it gives up.
func TestRegisterIsNotRefusedByTheStale(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c, l := t.Context(), e.Follower(t.Context()), e.Leader(t.Context())
		for i := range 100 {
			path := fmt.Sprintf("/r%d", i)
			_, _, err := l.Create(ctx, path, nil)
			must(t, err)
			must(t, c.Sync(ctx, "/"))
			must(t, l.Delete(ctx, path))
			r, err := recipes.Register(ctx, c, path, "x", coord.JSON[string]())
			must(t, err)
			must(t, r.Unregister(ctx))
		}
	})
}
