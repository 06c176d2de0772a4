package coordtest

import (
	"fmt"
	"time"

	"coord"
	"coord/internal/private"
)

// SkipClock has the clock of a member leap ahead by d, as that of a machine does that
// was suspended for so long and does not know it yet. Whatever the member's process
// holds by a session with a shorter timeout is over, and every call says so from now
// on; the ensemble finds it out when the session is closed or has run out. d must be
// positive: the clock that deadlines are measured by never goes back, whatever is done
// to that of the wall.
func (e *Ensemble) SkipClock(c *coord.Coordinator, d time.Duration) {
	e.t.Helper()
	e.must("skip the clock", e.skipClock(c, d))
}

// skipClock is behind [Ensemble.SkipClock].
func (e *Ensemble) skipClock(c *coord.Coordinator, d time.Duration) error {
	m, err := e.runningMember(c)
	if err != nil {
		return err
	}
	if d <= 0 {
		return fmt.Errorf("by %v: it must be more than nothing, for this clock never goes back", d)
	}
	e.trace.add("member %v: the clock leaps by %v", m.id, d)
	private.SkipClock(c, d)
	return nil
}
