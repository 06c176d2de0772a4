package coord

import (
	"context"
	"fmt"
	"time"

	"coord/internal/failpoint"
	"coord/internal/private"
	"coord/internal/raftnode"
	"coord/internal/replica"
)

// failpoints returns the points of the member, if it is one of a test.
func (c *Config) failpoints() *failpoint.Set {
	if c.memory == nil {
		return nil
	}
	return c.memory.Failpoints
}

func init() {
	private.SetMemory = func(cfg any, m *raftnode.Memory) { cfg.(*Config).memory = m }
	private.Kill = func(c any) error { return c.(*Coordinator).kill() }
	private.Violations = func(c any) []error {
		var errs []error
		for _, g := range c.(*Coordinator).groups() {
			for err := range g.state().violations() {
				errs = append(errs, fmt.Errorf("group %v: %w", g.id, err))
			}
		}
		return errs
	}
	private.SkipClock = func(c any, d time.Duration) { c.(*Coordinator).root.clock.Skip(d) }
	private.Freeze = func(c any) (thaw func()) {
		clock := c.(*Coordinator).root.clock
		clock.Freeze()
		return clock.Thaw
	}
	private.Expire = func(c any, session uint64) bool {
		g, id := c.(*Coordinator).root, SessionID(session)
		s := g.state()
		ses, lives := s.sessions.get(id)
		if !lives {
			return false
		}
		g.proposeForMember(request{kind: requestExpire, expiries: []expiry{{id, ses.generation, ses.lastTouch(s.members.get(ses.owner))}}})
		return true
	}
	private.Fail = func(c any, err error) { c.(*Coordinator).root.fail(err) }
	private.CheckDisk = func(c any) { c.(*Coordinator).checkSpace() }
	private.Lead = func(c any) {
		g := c.(*Coordinator).root
		// A request that is refused shows in Status; the caller asks again.
		_ = g.host.TransferLeadership(g.ctx, replica.GroupID(g.id), replica.MemberID(g.member))
	}
	private.StopMounted = func(ctx context.Context, c any, path string) error {
		co := c.(*Coordinator)
		m := co.root.state().mounts.at(path)
		if m == nil {
			return fmt.Errorf("%s is no mount", path)
		}
		return co.host.StopGroup(ctx, replica.GroupID(m.group))
	}
	private.Applied = func(c any) uint64 { return c.(*Coordinator).root.pub.Load().index }
	private.Snapshot = func(c any) error {
		g := c.(*Coordinator).root
		_, err := g.host.Snapshot(g.ctx, replica.GroupID(g.id))
		return err
	}
}
