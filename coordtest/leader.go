package coordtest

import (
	"context"
	"errors"
	"fmt"

	"coord"
	"coord/internal/private"
)

// Leader waits for a member that leads and is acknowledged by a quorum, and
// returns it.
func (e *Ensemble) Leader(ctx context.Context) *coord.Coordinator {
	e.t.Helper()
	var leader *coord.Coordinator
	e.WaitFor(ctx, "a leader", func() error {
		for _, c := range e.Running() {
			if c.Status().Role == coord.Leading && c.Sync(ctx, "/") == nil && c.Status().Role == coord.Leading {
				leader = c
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader
}

// Follower returns a running member that follows the present leader. An ensemble of
// one has none.
func (e *Ensemble) Follower(ctx context.Context) *coord.Coordinator {
	e.t.Helper()
	if e.Size() == 1 {
		e.t.Fatalf("coordtest: a follower in an ensemble of 1 member")
	}
	var follower *coord.Coordinator
	e.WaitFor(ctx, "a follower", func() error {
		leader := e.Leader(ctx).Status().Member
		for _, c := range e.Running() {
			if st := c.Status(); st.Role == coord.Following && st.Leader == leader && c.Health() == nil {
				follower = c
				return nil
			}
		}
		return fmt.Errorf("nobody follows member %v", leader)
	})
	return follower
}

// Lead has c lead, and waits until it does.
func (e *Ensemble) Lead(ctx context.Context, c *coord.Coordinator) {
	e.t.Helper()
	m, err := e.runningMember(c)
	if err == nil && m.paused {
		err = fmt.Errorf("member %v is paused", m.id)
	}
	e.must("lead", err)
	e.trace.add("member %v: is to lead", m.id)
	e.WaitFor(ctx, fmt.Sprintf("member %v to lead", m.id), func() error {
		st := c.Status()
		if st.Role == coord.Leading {
			return nil
		}
		private.Lead(c)
		return fmt.Errorf("member %v leads", st.Leader)
	})
}
