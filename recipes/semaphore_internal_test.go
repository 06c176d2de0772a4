package recipes

import (
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

// Nobody comes into a semaphore that is another one than it has seen: for another
// number by then, or in use by somebody that has come meanwhile.
func TestSemaphoreIsAnotherOneBeforeTheWrite(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second))
		s, ctx := e.Leader(t.Context()).Session(), t.Context()
		admitAt := func(v *coord.View, permits int) []coord.Op {
			t.Helper()
			ticket, err := permitTicket(permits, nil)
			if err != nil {
				t.Fatal(err)
			}
			ops, err := ticket.standFor("/permits", permits)(v)
			if err != nil {
				t.Fatal(err)
			}
			return ops
		}
		view := func() *coord.View {
			t.Helper()
			v, err := s.View(ctx, coord.Linearizable())
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		acquire := func(permits int) *Held {
			t.Helper()
			h, err := Acquire(ctx, s, "/permits", permits)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		release := func(h *Held) {
			t.Helper()
			if err := h.Release(ctx); err != nil {
				t.Fatal(err)
			}
		}
		refused := func(what string, ops []coord.Op) {
			t.Helper()
			if _, err := s.Multi(ctx, ops...); !overtaken(err) {
				t.Errorf("%s: %v", what, err)
			}
		}

		none := view()
		release(acquire(2))
		refused("somebody has made the directory", admitAt(none, 3))

		before := view()
		if err := s.Delete(ctx, "/permits"); err != nil {
			t.Fatal(err)
		}
		release(acquire(3))
		refused("the directory is another one", admitAt(before, 2))
		release(acquire(2))

		empty := view()
		two := acquire(2)
		refused("somebody has come, and the number was to change", admitAt(empty, 3))

		used := view()
		release(two)
		three := acquire(3)
		refused("the number has changed", admitAt(used, 2))
		release(three)
	})
}
