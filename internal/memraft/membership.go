package memraft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"coord/internal/replica"
)

// Membership implements [replica.Host].
func (h *Host) Membership(ctx context.Context, g replica.GroupID) (replica.Membership, error) {
	if err := h.ReadIndex(ctx, g); err != nil {
		return replica.Membership{}, err
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	r := h.replicas[g]
	if r == nil {
		return replica.Membership{}, replica.ErrClosed
	}
	m := r.appliedMembers.view()
	m.Members, m.Removed = maps.Clone(m.Members), maps.Clone(m.Removed)
	return m, nil
}

// ChangeMember implements [replica.Host].
func (h *Host) ChangeMember(ctx context.Context, g replica.GroupID, change uint64, id replica.MemberID, to replica.Standing) error {
	now, err := h.Membership(ctx, g)
	if err != nil {
		return err
	}
	if now.Change != change {
		return fmt.Errorf("%w: group %d is at change %d, not at %d", replica.ErrMembershipChanged, g, now.Change, change)
	}
	if err := now.Allows(id, to); err != nil {
		return fmt.Errorf("memraft: group %d: %w", g, err)
	}
	m := &message{kind: forwardPropose, group: g, change: &memberChange{after: change, id: id, to: to}}
	w, err := h.propose(ctx, m)
	if err == nil && w.rejected {
		return fmt.Errorf("%w: group %d has left change %d behind", replica.ErrMembershipChanged, g, change)
	}
	return err
}

// SetMembers implements [replica.Host]. Members have no addresses here, so only who is
// in it counts.
func (h *Host) SetMembers(addrs map[replica.MemberID]string) error {
	if _, zero := addrs[0]; zero {
		return errors.New("memraft: member 0 has no address")
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.known = map[replica.MemberID]bool{}
	for id := range addrs {
		h.known[id] = true
	}
	return nil
}

// knowsLocked reports whether messages to and from a member are not dropped here.
func (h *Host) knowsLocked(id replica.MemberID) bool {
	return h == nil || h.known == nil || h.known[id]
}

// changingLocked returns why a leader can take no change of members now, or nil. There
// is one at a time (Ongaro §4.1), and none before the leader knows what is committed,
// or two leaders could each believe in a quorum of their own.
func (r *raft) changingLocked() error {
	switch {
	case r.role != leader:
		return nil
	case !r.knowsCommitLocked():
		return replica.ErrNotReady
	case r.disk.members.index > r.commit:
		return fmt.Errorf("%w: group %d cannot be changed now", replica.ErrMembershipChanged, r.group)
	}
	return nil
}

// followMembersLocked takes note of who is part of the group by the log. A leader goes
// on sending to those it has removed until they can know.
func (r *raft) followMembersLocked() {
	r.peers = r.disk.members.others(r.id)
	if r.role != leader {
		return
	}
	for _, id := range r.peers {
		if r.peer[id] == nil {
			r.peer[id] = &progress{next: r.disk.last() + 1, active: true, acked: true}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.peer)) {
		if _, in := r.disk.members.is[id]; in {
			continue
		}
		if r.disk.members.index > r.commit {
			r.peers = append(r.peers, id)
			continue
		}
		r.sendEntriesLocked(id) // the last word, which may get lost
		delete(r.peer, id)
		if r.heir == id {
			r.heir = 0
		}
	}
}

// retireLocked has a leader step down that has removed itself, once that is committed
// (Ongaro §4.2.2).
func (r *raft) retireLocked() {
	if r.role == leader && r.disk.members.index <= r.commit && !r.disk.members.votes(r.id) {
		for _, id := range r.peers {
			r.sendEntriesLocked(id)
		}
		r.becomeFollowerLocked(r.disk.term, 0)
	}
}

// removedLocked stops a replica that has applied its own removal.
func (h *Host) removedLocked(r *raft) {
	r.disk.removed = true
	h.stopLocked(r)
	if h.cfg.OnRemoved != nil {
		h.workers.Go(func() { h.cfg.OnRemoved(r.group) })
	}
}

// countLocked returns how many that vote there are among this member, if it does, and
// those that fit.
func (r *raft) countLocked(fits func(*progress) bool) int {
	n := 0
	if r.disk.members.votes(r.id) {
		n++
	}
	for id, p := range r.peer {
		if r.disk.members.votes(id) && fits(p) {
			n++
		}
	}
	return n
}
