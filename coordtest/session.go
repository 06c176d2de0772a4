package coordtest

import (
	"context"
	"errors"
	"fmt"

	"coord"
	"coord/internal/private"
)

// ExpireSession has the ensemble expire a session now, as though it had heard nothing
// of its process for the timeout, and waits until it is gone: its ephemerals are
// deleted, and its handle has ended with [coord.ErrSessionExpired], unless its member is
// cut off or paused and cannot know. A session that is over already is left as it is.
func (e *Ensemble) ExpireSession(ctx context.Context, s *coord.Session) {
	e.t.Helper()
	if s == nil || s.ID() == 0 {
		e.t.Fatalf("coordtest: expire a session: it is nil, or none that is open")
	}
	e.trace.add("session %v: is to expire", s.ID())
	e.WaitFor(ctx, fmt.Sprintf("session %v to expire", s.ID()), func() error {
		if private.Expire(e.Leader(ctx), uint64(s.ID())) {
			return errors.New("the leader still has it")
		}
		if e.allWell() && s.Context().Err() == nil {
			return errors.New("its handle is alive")
		}
		return nil
	})
}

// allWell reports whether all members run and are in contact with a quorum.
func (e *Ensemble) allWell() bool {
	running := e.Running()
	for _, c := range running {
		if c.Health() != nil {
			return false
		}
	}
	return len(running) == e.Size()
}
