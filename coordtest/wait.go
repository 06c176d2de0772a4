package coordtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"coord"
)

// settleTimeout is how long an ensemble may take for what it always does in the
// end: elect a leader, catch up, stop. It is far more than it needs.
const settleTimeout = 60 * time.Second

// How long to wait between two looks at a condition: at first, and at most.
const (
	firstLook = time.Millisecond
	lastLook  = 20 * time.Millisecond
)

// WaitFor asks done until it returns nil, and fails the test if it does not before ctx
// ends, or within 60 s. The failure says what was waited for, what done returned last,
// and how the members stand. Use it in place of sleeping.
func (e *Ensemble) WaitFor(ctx context.Context, what string, done func() error) {
	e.t.Helper()
	ctx, cancel := context.WithTimeoutCause(ctx, settleTimeout, fmt.Errorf("not within %v", settleTimeout))
	defer cancel()
	look := firstLook
	timer := time.NewTimer(look)
	defer timer.Stop()
	for {
		err := done()
		if err == nil {
			return
		}
		select {
		case <-timer.C:
			look = min(look*3/2, lastLook)
			timer.Reset(look)
		case <-ctx.Done():
			e.t.Fatalf("coordtest: waiting for %s: %v: %v\n%s", what, context.Cause(ctx), err, e.describe())
		}
	}
}

// Converged waits until all running members have applied the same writes.
func (e *Ensemble) Converged(ctx context.Context) {
	e.t.Helper()
	e.WaitFor(ctx, "the members to converge", func() error {
		seen := map[coord.ZXID]bool{}
		for _, c := range e.Running() {
			if err := c.Sync(ctx, "/"); err != nil {
				return err
			}
			seen[c.Status().ZXID] = true
		}
		if len(seen) > 1 {
			return errors.New("they are at different zxids")
		}
		return nil
	})
}

// ready waits until c is.
func (e *Ensemble) ready(c *coord.Coordinator) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		e.t.Fatalf("coordtest: member %v: %v\n%s", c.Status().Member, err, e.describe())
	}
}

// describe says how each member stands.
func (e *Ensemble) describe() string {
	var b strings.Builder
	for _, id := range e.ids() {
		e.mu.Lock()
		m := e.place(id)
		c, up, paused := m.running, m.up(), m.paused
		e.mu.Unlock()
		switch {
		case !up:
			fmt.Fprintf(&b, "  member %v: down\n", id)
		case paused: // it does not answer
			fmt.Fprintf(&b, "  member %v: paused\n", id)
		default:
			st := c.Status()
			fmt.Fprintf(&b, "  member %v: %v, leader %v, term %d, zxid %v, %d znodes, %d sessions, health: %v\n",
				id, st.Role, st.Leader, st.Term, st.ZXID, st.Znodes, st.Sessions, c.Health())
		}
	}
	return b.String()
}
