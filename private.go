package coord

import (
	"time"

	"coord/internal/private"
	"coord/internal/raftnode"
	"coord/internal/replica"
)

func init() {
	private.SetMemory = func(cfg any, m *raftnode.Memory) { cfg.(*Config).memory = m }
	private.Kill = func(c any) error { return c.(*Coordinator).kill() }
	private.Violations = func(c any) []error {
		var errs []error
		for err := range c.(*Coordinator).root.state().violations() {
			errs = append(errs, err)
		}
		return errs
	}
	private.SkipClock = func(c any, d time.Duration) { c.(*Coordinator).root.clock.Skip(d) }
	private.Lead = func(c any) {
		g := c.(*Coordinator).root
		// A request that is refused shows in Status; the caller asks again.
		_ = g.host.TransferLeadership(g.ctx, replica.GroupID(g.id), replica.MemberID(g.member))
	}
	private.Applied = func(c any) uint64 { return c.(*Coordinator).root.pub.Load().index }
	private.Snapshot = func(c any) error {
		g := c.(*Coordinator).root
		_, err := g.host.Snapshot(g.ctx, replica.GroupID(g.id))
		return err
	}
}
