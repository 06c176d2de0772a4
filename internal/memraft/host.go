package memraft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"coord/internal/replica"
)

// Config says who a member is and how its [Host] works.
type Config struct {
	Member  replica.MemberID
	Members []replica.MemberID // those whom a group starts with, this one included; none if it joins all

	// Election is how long a follower hears nothing before it stands for election;
	// it takes up to twice as long. Zero means 1 s.
	Election time.Duration
	// Heartbeat is how often a leader shows that it is there. Zero means a tenth of
	// Election.
	Heartbeat time.Duration

	// SnapshotEntries is the number of log entries between two snapshots. Zero
	// means that only [Host.Snapshot] makes any.
	SnapshotEntries uint64
	// CompactionOverhead is how many entries may be kept behind a snapshot: how many
	// are, is up to chance.
	CompactionOverhead uint64

	// OnRole is called on each change of this member's view of who leads a group,
	// from one goroutine of the Host and never after Close has returned. Of several
	// changes that wait only the last is reported.
	OnRole func(replica.GroupID, replica.Role)

	// OnRemoved is called when this member has applied its own removal from a group,
	// once, on a goroutine of its own and never after Close has returned.
	OnRemoved func(replica.GroupID)
}

// A Host runs the replicas of one member of a [Net].
type Host struct {
	net     *Net
	cfg     Config
	process uint64 // counts the hosts of the member

	replicas  map[replica.GroupID]*raft        // guarded by Net.mu
	proposals uint64                           // guarded by Net.mu
	closed    bool                             // guarded by Net.mu
	known     map[replica.MemberID]bool        // guarded by Net.mu; nil: all
	roles     map[replica.GroupID]replica.Role // guarded by Net.mu
	changed   []replica.GroupID                // guarded by Net.mu; not yet reported
	news      *sync.Cond                       // there is something in changed, or closed

	closing sync.Once
	workers sync.WaitGroup
}

var _ replica.Host = (*Host)(nil)

// Open starts a member, which must not run. It starts no group.
func (n *Net) Open(cfg Config) (*Host, error) {
	if cfg.Election == 0 {
		cfg.Election = time.Second
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = cfg.Election / 10
	}
	if cfg.Member == 0 || len(cfg.Members) > 0 && !slices.Contains(cfg.Members, cfg.Member) {
		return nil, fmt.Errorf("memraft: member %d is not among %v", cfg.Member, cfg.Members)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[cfg.Member] != nil {
		return nil, fmt.Errorf("memraft: member %d runs", cfg.Member)
	}
	n.opened[cfg.Member]++
	h := &Host{
		net: n, cfg: cfg, process: n.opened[cfg.Member],
		replicas: map[replica.GroupID]*raft{}, roles: map[replica.GroupID]replica.Role{}, news: sync.NewCond(&n.mu),
	}
	n.hosts[cfg.Member] = h
	h.workers.Go(h.runRoles)
	return h, nil
}

// StartGroup implements [replica.Host].
func (h *Host) StartGroup(g replica.GroupID, m replica.Machine, first replica.First) error {
	if g == 0 || m == nil {
		return errors.New("memraft: a group needs an id and a machine")
	}
	h.net.mu.Lock()
	if h.closed {
		h.net.mu.Unlock()
		return replica.ErrClosed
	}
	if h.replicas[g] != nil {
		h.net.mu.Unlock()
		return fmt.Errorf("memraft: group %d runs already", g)
	}
	if err := h.beginLocked(g, first); err != nil {
		h.net.mu.Unlock()
		return fmt.Errorf("memraft: start group %d: %w", g, err)
	}
	r := newRaftLocked(h, g, m)
	h.replicas[g] = r
	r.runTimerLocked()
	h.net.mu.Unlock()
	if err := r.load(); err != nil {
		h.net.mu.Lock()
		h.stopLocked(r)
		h.net.mu.Unlock()
		close(r.ended)
		if errors.Is(err, replica.ErrSnapshotStopped) {
			return replica.ErrClosed
		}
		return fmt.Errorf("memraft: start group %d: %w", g, err)
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if r.stopped {
		close(r.ended)
		return replica.ErrClosed
	}
	h.workers.Go(r.runApply)
	return nil
}

// beginLocked makes the log of a replica that never ran.
func (h *Host) beginLocked(g replica.GroupID, first replica.First) error {
	d := h.net.diskLocked(place{h.cfg.Member, g})
	switch {
	case d.removed:
		return fmt.Errorf("%w: member %d is not part of it any more", replica.ErrRemoved, h.cfg.Member)
	case d.began:
	case first.Joins:
		d.begin(nil)
	default:
		voters := first.Voters
		if len(voters) == 0 {
			voters = h.cfg.Members
		}
		if !slices.Contains(voters, h.cfg.Member) || slices.Contains(voters, 0) {
			return fmt.Errorf("member %d cannot start it with the voters %d", h.cfg.Member, voters)
		}
		d.begin(voters)
	}
	return nil
}

// stopLocked stops a replica. Its machine may still be in use.
func (h *Host) stopLocked(r *raft) {
	if r.stopped {
		return
	}
	r.stopped = true
	close(r.stop)
	r.timer.Stop()
	r.work.Broadcast()
	delete(h.replicas, r.group)
	h.roleLocked(r.group, replica.Role{})
}

// StopGroup implements [replica.Host].
func (h *Host) StopGroup(ctx context.Context, g replica.GroupID) error {
	h.net.mu.Lock()
	r := h.replicas[g]
	switch {
	case h.closed:
		h.net.mu.Unlock()
		return replica.ErrClosed
	case r == nil:
		h.net.mu.Unlock()
		return replica.ErrNoGroup
	}
	h.stopLocked(r)
	h.net.mu.Unlock()
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stored implements [replica.Host].
func (h *Host) Stored() []replica.GroupID {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	var groups []replica.GroupID
	for p, d := range h.net.disks {
		if p.member == h.cfg.Member && d.began {
			groups = append(groups, p.group)
		}
	}
	slices.Sort(groups)
	return groups
}

// RemoveGroup implements [replica.Host].
func (h *Host) RemoveGroup(_ context.Context, g replica.GroupID) error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	switch {
	case h.closed:
		return replica.ErrClosed
	case h.replicas[g] != nil:
		return fmt.Errorf("memraft: remove group %d: it runs", g)
	}
	delete(h.net.disks, place{h.cfg.Member, g})
	return nil
}

// Close implements [replica.Host]. For the other members it is a crash.
func (h *Host) Close() error {
	h.closing.Do(func() {
		h.net.mu.Lock()
		h.closed = true
		var ending []*raft
		for _, r := range h.replicas {
			ending = append(ending, r)
			h.stopLocked(r)
		}
		delete(h.net.hosts, h.cfg.Member)
		delete(h.net.held, h.cfg.Member)
		h.news.Broadcast()
		h.net.mu.Unlock()
		for _, r := range ending {
			<-r.ended
		}
	})
	h.workers.Wait()
	return nil
}

// Role implements [replica.Host].
func (h *Host) Role(g replica.GroupID) replica.Role {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.roles[g]
}

// roleLocked takes note of who leads a group, to be reported.
func (h *Host) roleLocked(g replica.GroupID, role replica.Role) {
	if h.roles[g] == role {
		return
	}
	h.roles[g] = role
	if !slices.Contains(h.changed, g) {
		h.changed = append(h.changed, g)
	}
	h.news.Broadcast()
}

// runRoles reports who leads until the host is closed.
func (h *Host) runRoles() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for {
		for len(h.changed) == 0 && !h.closed {
			h.news.Wait()
		}
		if h.closed {
			return
		}
		g := h.changed[0]
		h.changed = h.changed[1:]
		role := h.roles[g]
		if h.cfg.OnRole != nil {
			h.net.mu.Unlock()
			h.cfg.OnRole(g, role)
			h.net.mu.Lock()
		}
	}
}
