package coord

import (
	"fmt"
	"time"
)

// A Role says what a member does in a group at the moment.
type Role uint8

// The roles of a member, in ZooKeeper's words.
const (
	Looking   Role = iota // no leader is known
	Leading               // this member leads
	Following             // another member leads
	Observing             // another member leads, and this one does not vote
)

// String returns the role in lower case.
func (r Role) String() string {
	switch r {
	case Looking:
		return "looking"
	case Leading:
		return "leading"
	case Following:
		return "following"
	case Observing:
		return "observing"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// A Status is what one member knows of itself and its ensemble at one moment.
type Status struct {
	Ensemble string
	// EnsembleID is zero before this member has caught up.
	EnsembleID EnsembleID
	Member     MemberID
	Role       Role
	Leader     MemberID // 0: none is known
	Term       uint64   // of raft

	// HasQuorum says that a quorum has acknowledged this member's last sign of
	// life in time.
	HasQuorum bool

	// Lag is how old the state that this member serves can be: it has every write that
	// was acknowledged anywhere that long ago. Negative before this member has joined.
	Lag time.Duration

	ZXID     ZXID // of the last write this member has applied
	Members  []MemberState
	Groups   []GroupStatus // in the order of their ids
	Znodes   int
	Sessions int
	Watches  int // open on this member, the registrations of each [WatchSet] included

	// The settings of the ensemble, see [Config]. Zero before this member has
	// caught up.
	MaxDataBytes                         int
	MinSessionTimeout, MaxSessionTimeout time.Duration

	// FormatVersion is the format version in force, zero before this member has caught
	// up. OldestFormat and NewestFormat are the ends of what its binary reads. See
	// [Coordinator.ActivateVersion].
	FormatVersion              FormatVersion
	OldestFormat, NewestFormat FormatVersion

	// Health is the text of what [Coordinator.Health] returns, empty for nil.
	Health string
}

// A MemberState is what a member knows of one, itself included, from the log.
type MemberState struct {
	ID   MemberID
	Addr string
	Role MemberRole

	// SinceTouch is the time since its last sign of life, in the time of the root
	// group, which goes by the leader's clock and stands still without one. Negative if
	// there was none, or the member that tells this does not say (coord's before
	// version 2 of their status do not).
	SinceTouch time.Duration
}

// A GroupStatus is how a member stands in one group.
type GroupStatus struct {
	Group     GroupID
	Role      Role
	Leader    MemberID      // 0: none is known
	Term      uint64        // of raft
	HasQuorum bool          // as in Status
	ZXID      ZXID          // of the last write there that this member has applied
	Lag       time.Duration // as in Status
}

// Status returns how this member stands. It asks nobody and never waits.
func (c *Coordinator) Status() Status {
	s := c.root.state()
	role := c.root.currentRole()
	st := Status{
		Ensemble: c.cfg.Name, EnsembleID: s.id, Member: c.cfg.ID, Leader: MemberID(role.Leader), Term: role.Term,
		HasQuorum: c.ctx.Err() == nil && !c.root.suspended(),
		Lag:       c.root.lag(), ZXID: s.zxid, Znodes: s.tree.nodes.len(), Sessions: s.sessions.byID.len(), Watches: c.root.hub.open(),
		MaxDataBytes:      int(s.settings.maxDataBytes),
		MinSessionTimeout: time.Duration(s.settings.minSessionTimeoutMS) * time.Millisecond,
		MaxSessionTimeout: time.Duration(s.settings.maxSessionTimeoutMS) * time.Millisecond,
		FormatVersion:     s.version, OldestFormat: oldestFormat, NewestFormat: formatVersion,
	}
	if err := c.Health(); err != nil {
		st.Health = err.Error()
	}
	for _, m := range s.members {
		if !m.removed {
			st.Members = append(st.Members, MemberState{ID: m.id, Addr: m.addr, Role: m.role, SinceTouch: s.sinceTouch(m)})
		}
	}
	for _, g := range c.groups() {
		st.Groups = append(st.Groups, c.groupStatus(g))
		if of := g.state(); g != c.root && of.started() {
			st.Znodes += of.tree.nodes.len() - len(of.tree.tops) // whose stubs are counted
		}
	}
	st.Role = c.roleOf(s, st.Leader)
	return st
}

// groupStatus returns how this member stands in a group.
func (c *Coordinator) groupStatus(g *group) GroupStatus {
	role := g.currentRole()
	return GroupStatus{
		Group: g.id, Role: c.roleOf(c.root.state(), MemberID(role.Leader)), Leader: MemberID(role.Leader), Term: role.Term,
		HasQuorum: c.ctx.Err() == nil && !g.suspended(), ZXID: g.state().zxid, Lag: g.lag(),
	}
}

// lag returns how long ago the last acknowledged touch was begun: it was behind every
// write that was acknowledged before, and all of them are applied here. Negative before
// the first one.
func (g *group) lag() time.Duration {
	if g.lastTouch.Load() == 0 {
		return -1
	}
	return g.sinceTouch()
}

// sinceTouch returns how long ago m has touched, in group time. Negative if it never
// has.
func (s *state) sinceTouch(m *memberRecord) time.Duration {
	if m.touches == 0 {
		return -1
	}
	return time.Duration(s.timeMS-m.touchedMS) * time.Millisecond
}

// Health returns nil while this member can do its work: it has joined the
// ensemble, has contact with a quorum, and did not fail. Otherwise the error says
// what is wrong; it satisfies errors.Is for [ErrFailed] if this process must be
// restarted, for [ErrSuspended] if contact may come back, and for [ErrClosed]. It
// names the members that refuse this one, with their reasons, and those that its
// first start waits for.
func (c *Coordinator) Health() error {
	if err := c.root.failed(); err != nil {
		return fmt.Errorf("coord: member %v: %w", c.cfg.ID, err)
	}
	if err := c.ctx.Err(); err != nil {
		return fmt.Errorf("coord: member %v: %w", c.cfg.ID, ErrClosed)
	}
	if err := c.roll.waiting(); err != nil {
		return fmt.Errorf("coord: member %v: %w: %w", c.cfg.ID, err, ErrSuspended)
	}
	select {
	case <-c.root.joined:
	default:
		return fmt.Errorf("coord: member %v has not joined the ensemble since its start: %w%s", c.cfg.ID, ErrSuspended, c.refusals())
	}
	if c.root.suspended() {
		return fmt.Errorf("coord: member %v: %w%s", c.cfg.ID, ErrSuspended, c.refusals())
	}
	return nil
}
