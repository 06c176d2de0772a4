package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4"

	"coord/internal/replica"
)

// Membership returns who was part of g at a moment after the call began, as a quorum
// confirms. It returns replica.ErrNotReady while no leader answers, and
// replica.ErrClosed when the group or the Host ends meanwhile.
func (h *Host) Membership(ctx context.Context, g replica.GroupID) (replica.Membership, error) {
	if ctx.Err() != nil {
		return replica.Membership{}, context.Cause(ctx)
	}
	if !h.enter() {
		return replica.Membership{}, replica.ErrClosed
	}
	gr := h.group(g)
	if gr == nil {
		h.gate.RUnlock()
		return replica.Membership{}, replica.ErrNoGroup
	}
	h.lookups.Add(1)
	h.gate.RUnlock()
	defer h.lookups.Done()
	m, err := h.lookUp(ctx, gr)
	switch {
	case err == nil:
		return membershipOf(m), nil
	case ctx.Err() != nil:
		return replica.Membership{}, context.Cause(ctx)
	case gr.life.Err() != nil:
		return replica.Membership{}, replica.ErrClosed
	case errors.Is(err, dragonboat.ErrTimeout):
		return replica.Membership{}, fmt.Errorf("%w: %w", replica.ErrNotReady, errNoAnswer)
	}
	return replica.Membership{}, refusal(gr, err)
}

// lookUp asks the library, which does both at once: it has a quorum confirm an index,
// and reads the membership when that is applied. There is no other way to the second,
// so it cannot be called under the gate. What it waits for ends with the life of the
// group instead, and Close does not take the library away before it has returned.
func (h *Host) lookUp(ctx context.Context, gr *group) (*dragonboat.Membership, error) {
	// A context of the library's own kind: it wants a deadline and knows only the two
	// errors that contexts of package context have.
	asked, cancel := context.WithTimeout(gr.life, h.timeout(ctx, maxWait))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	return h.nh.SyncGetShardMembership(asked, uint64(gr.id))
}

// membershipOf translates what the library says. There are no witnesses.
func membershipOf(m *dragonboat.Membership) replica.Membership {
	is := replica.Membership{
		Change:  m.ConfigChangeID,
		Members: make(map[replica.MemberID]replica.Standing, len(m.Nodes)+len(m.NonVotings)),
		Removed: make(map[replica.MemberID]bool, len(m.Removed)),
	}
	for id := range m.Nodes {
		is.Members[replica.MemberID(id)] = replica.Voting
	}
	for id := range m.NonVotings {
		is.Members[replica.MemberID(id)] = replica.Learning
	}
	for id := range m.Removed {
		is.Removed[replica.MemberID(id)] = true
	}
	return is
}

// ChangeMember gives a member another standing in g, if the membership is still the
// one whose Change is given. When it returns nil, this member's replica has applied
// the change.
//
// The library would also make what the seam does not allow: a member that votes from
// its first moment, whose vote counts before it has the log. So the change is held
// against the membership first. What is allowed in that one is allowed when it is
// made, because the library makes it only if the membership is still the same.
func (h *Host) ChangeMember(ctx context.Context, g replica.GroupID, change uint64, id replica.MemberID, to replica.Standing) error {
	now, err := h.Membership(ctx, g)
	if err != nil {
		return err
	}
	if now.Change != change {
		return fmt.Errorf("%w: group %d is at change %d, not at %d", replica.ErrMembershipChanged, g, now.Change, change)
	}
	if err := now.Allows(id, to); err != nil {
		return fmt.Errorf("raftnode: group %d: %w", g, err)
	}
	rs, gr, err := h.begin(ctx, g, func(gr *group) (*dragonboat.RequestState, error) {
		return h.requestChange(gr, change, id, to, h.timeout(ctx, maxWait))
	})
	if errors.Is(err, replica.ErrBusy) {
		return fmt.Errorf("%w: this member has another change of group %d under way", replica.ErrMembershipChanged, g)
	}
	if err != nil {
		return err
	}
	result, why := h.await(ctx, gr, rs) // it needs no Release: the library keeps no pool of these
	switch {
	case why != nil:
	case result.Completed():
		return nil
	case result.Rejected():
		return fmt.Errorf("%w: group %d has left change %d behind", replica.ErrMembershipChanged, g, change)
	case result.Dropped():
		return h.droppedChange(g)
	case result.Timeout():
		why = errNoAnswer
	case result.Terminated():
		why = errStopped
	default:
		why = fmt.Errorf("unexpected answer %+v", result)
	}
	return fmt.Errorf("%w: %w", replica.ErrUnknownOutcome, why)
}

// requestChange has the library make a change that the seam allows.
func (h *Host) requestChange(gr *group, change uint64, id replica.MemberID, to replica.Standing, timeout time.Duration) (*dragonboat.RequestState, error) {
	g, member, uuid := uint64(gr.id), uint64(id), memberUUID(h.cfg.Ensemble, id)
	switch to {
	case replica.Learning:
		return h.nh.RequestAddNonVoting(g, member, uuid, change, timeout)
	case replica.Voting:
		return h.nh.RequestAddReplica(g, member, uuid, change, timeout)
	case replica.Gone:
	}
	return h.nh.RequestDeleteReplica(g, member, change, timeout)
}

// droppedChange explains why the local raft did not even append a change: nobody
// leads, or this member does and has another change or a transfer of leadership under
// way.
func (h *Host) droppedChange(g replica.GroupID) error {
	if h.roles.of(g).Leader != h.cfg.Member {
		return replica.ErrNotReady
	}
	return fmt.Errorf("%w: group %d cannot be changed now", replica.ErrMembershipChanged, g)
}

// SetMembers replaces what this member knows of where the others are. Connections to
// and from members that are not in addrs, or at another address than before, end. A
// member that is not in addrs is neither dialled nor listened to. It says nothing of
// who is part of which group.
func (h *Host) SetMembers(addrs map[replica.MemberID]string) error {
	for id, addr := range addrs {
		if id == 0 {
			return errors.New("raftnode: member 0 has no address")
		}
		if err := h.cfg.validAddress(addr); err != nil {
			return fmt.Errorf("raftnode: member %d: %w", id, err)
		}
	}
	h.book.replace(addrs)
	if h.peers != nil {
		h.peers.Refresh()
	}
	return nil
}
