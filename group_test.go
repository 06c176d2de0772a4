package coord_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"coord"
	"coord/coordtest"
)

// A member that meets a command of a newer format must not skip it: it stops,
// says why, and keeps what it had.
func TestNewerCommandStopsTheMember(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/before", "")
		w, err := c.Watch(t.Context(), "/", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		before := c.Status().ZXID
		if err := coord.ProposeRaw(t.Context(), c, coord.NewerCommand()); err != nil {
			t.Fatal(err)
		}
		// The last one may never learn that the command is committed, because those
		// who know have stopped.
		eventually(t, "every member to stop, or to be alone", func() bool {
			for _, c := range e.Running() {
				if err := c.Health(); !errors.Is(err, coord.ErrFailed) && !errors.Is(err, coord.ErrSuspended) {
					return false
				}
			}
			return errors.Is(c.Health(), coord.ErrFailed)
		})
		err = c.Health()
		if !strings.Contains(err.Error(), fmt.Sprintf("version %d, this binary knows %d to %d", coord.NewestFormat+1, coord.OldestFormat, coord.NewestFormat)) {
			t.Errorf("Health = %v, want both versions", err)
		}
		if !errors.Is(context.Cause(c.Context()), coord.ErrFailed) {
			t.Errorf("Context ended with %v", context.Cause(c.Context()))
		}
		if _, err := take(t, w, 1); !errors.Is(err, coord.ErrFailed) {
			t.Errorf("the watch ended with %v", err)
		}
		if _, _, err := c.Create(t.Context(), "/after", nil); !errors.Is(err, coord.ErrFailed) {
			t.Errorf("Create = %v", err)
		}
		if _, _, err := c.Get(t.Context(), "/before"); !errors.Is(err, coord.ErrFailed) {
			t.Errorf("Get = %v", err)
		}
		if z := c.Status().ZXID; z != before {
			t.Errorf("zxid %v, want %v: something was published behind the command", z, before)
		}
		for _, c := range e.Running() {
			e.Stop(c)
		}
	})
}

// A second process with the same id takes the incarnation; the first must notice
// and stop, because its sessions are no longer its own.
func TestSupersededProcessStops(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		mustCreate(t, c, "/eph", "", coord.Ephemeral)
		other := e.Leader(t.Context())
		if err := coord.ProposeRaw(t.Context(), other, coord.HelloOf(c)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the first process to stop", func() bool { return errors.Is(c.Health(), coord.ErrFailed) })
		if err := c.Health(); !strings.Contains(err.Error(), "another process runs as member") {
			t.Errorf("Health = %v", err)
		}
		e.Stop(c)
		eventually(t, "its ephemeral to vanish", func() bool {
			_, ok, err := other.Exists(t.Context(), "/eph")
			return err == nil && !ok
		})
		if err := e.Restart(c).Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
