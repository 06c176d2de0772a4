package memraft

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coord/internal/replica"
)

// maxWait is how long a request without a deadline is waited for.
const maxWait = time.Minute

// maxHops is how often a proposal is passed on to whoever leads by then.
const maxHops = 3

var (
	errNoAnswer = errors.New("the log did not answer")
	errStopped  = errors.New("the group was stopped meanwhile")
)

// A waiter is a request that somebody waits for.
type waiter struct {
	done  chan struct{} // closed when it is answered
	deaf  bool          // the answer gets lost
	index uint64        // of a read: what must be applied first; 0 while that is not known

	rejected bool // a change of members was not made; set before done is closed
}

// await waits for the answer. Without one it returns why.
func (r *raft) await(ctx context.Context, w *waiter) error {
	ctx, cancel := context.WithTimeoutCause(ctx, maxWait, errNoAnswer)
	defer cancel()
	var why error
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-r.ended:
		why = errStopped
	}
	select {
	case <-w.done:
		return nil
	default:
		return why
	}
}

// Propose implements [replica.Host].
func (h *Host) Propose(ctx context.Context, g replica.GroupID, cmd []byte) error {
	_, err := h.propose(ctx, &message{kind: forwardPropose, group: g, cmd: append([]byte{}, cmd...)})
	return err
}

// propose has what m asks for appended to the log, and waits until it is applied here.
func (h *Host) propose(ctx context.Context, m *message) (*waiter, error) {
	m.from, m.to = h.cfg.Member, h.cfg.Member
	w := &waiter{done: make(chan struct{})}
	r, err := h.begin(ctx, m.group, func(r *raft) error {
		if r.leader == 0 || r.heir != 0 {
			return replica.ErrNotReady
		}
		if m.change != nil {
			if err := r.changingLocked(); err != nil {
				return err
			}
		}
		h.proposals++
		m.key = proposalKey{h.cfg.Member, h.process, h.proposals}
		w.deaf = h.net.chanceLocked(h.net.weather.Deaf)
		r.waiters[m.key] = w
		late := time.Duration(0)
		if h.net.chanceLocked(h.net.weather.Stall) {
			late = h.net.betweenLocked(1, h.net.weather.MaxStall)
		}
		h.net.whenAwakeLocked(h.cfg.Member, func() { r.proposeLocked(m, late) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		h.net.mu.Lock()
		defer h.net.mu.Unlock()
		delete(r.waiters, m.key)
	}()
	if why := r.await(ctx, w); why != nil {
		return nil, fmt.Errorf("%w: %w", replica.ErrUnknownOutcome, why)
	}
	return w, nil
}

// proposeLocked appends a proposal, or passes it on to the leader. If there is none, it
// is lost. One that is late is on its way for that long, and outlives its proposer.
func (r *raft) proposeLocked(m *message, late time.Duration) {
	switch {
	case r.stopped || r.leader == 0 || r.role == leader && r.heir != 0 || m.hops == maxHops:
	case r.role == leader && late == 0 && m.change != nil && r.changingLocked() != nil:
	case r.role == leader && late == 0:
		r.appendLocked(m.key, m.cmd, m.change)
	default:
		next := *m
		next.from, next.to, next.hops = r.id, r.leader, m.hops+1
		r.net.sendLocked(&next, late)
	}
}

// ReadIndex implements [replica.Host].
func (h *Host) ReadIndex(ctx context.Context, g replica.GroupID) error {
	w := &waiter{done: make(chan struct{})}
	var read uint64
	r, err := h.begin(ctx, g, func(r *raft) error {
		if r.leader == 0 || r.role == leader && !r.knowsCommitLocked() {
			return replica.ErrNotReady
		}
		r.lastAsk++
		read = r.lastAsk
		r.asked[read] = w
		h.net.whenAwakeLocked(h.cfg.Member, func() { r.askLocked(read) })
		return nil
	})
	if err != nil {
		return err
	}
	defer func() {
		h.net.mu.Lock()
		defer h.net.mu.Unlock()
		delete(r.asked, read)
	}()
	switch why := r.await(ctx, w); {
	case errors.Is(why, errStopped):
		return replica.ErrClosed
	case errors.Is(why, errNoAnswer):
		return fmt.Errorf("%w: %w", replica.ErrNotReady, why)
	default:
		return why
	}
}

// askLocked asks the leader what is committed.
func (r *raft) askLocked(read uint64) {
	switch {
	case r.stopped || r.leader == 0:
	case r.role == leader:
		r.readLocked(r.id, read)
	default:
		r.sendLocked(r.leader, message{kind: forwardRead, read: read})
	}
}

// knowsCommitLocked reports whether a leader has committed an entry of its term, without
// which it may not know all that is committed (Ongaro §6.4).
func (r *raft) knowsCommitLocked() bool {
	term, ok := r.disk.termOf(r.commit)
	return ok && term == r.disk.term
}

// readLocked has a quorum confirm that this leader still leads. A read that comes to
// anybody else is lost.
func (r *raft) readLocked(from replica.MemberID, read uint64) {
	if r.role != leader || !r.knowsCommitLocked() {
		return
	}
	r.round++
	r.reads = append(r.reads, pendingRead{round: r.round, index: r.commit, from: from, read: read})
	for _, id := range r.peers {
		r.sendEntriesLocked(id)
	}
	r.confirmReadsLocked()
}

// confirmReadsLocked answers the reads that a quorum has confirmed.
func (r *raft) confirmReadsLocked() {
	for len(r.reads) > 0 {
		q := r.reads[0]
		if r.countLocked(func(p *progress) bool { return p.round >= q.round }) < r.quorum() {
			return
		}
		r.reads = r.reads[1:]
		if q.from == r.id {
			r.readableLocked(q.read, q.index)
		} else {
			r.sendLocked(q.from, message{kind: readAnswer, read: q.read, index: q.index})
		}
	}
}

// readableLocked answers a read of this member once index is applied.
func (r *raft) readableLocked(read, index uint64) {
	w := r.asked[read]
	if w == nil || w.index != 0 {
		return
	}
	w.index = index
	if r.applied >= index {
		delete(r.asked, read)
		close(w.done)
	}
}

// begin makes a request under the lock. An error means that nothing was and will be
// done.
func (h *Host) begin(ctx context.Context, g replica.GroupID, request func(*raft) error) (*raft, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.closed {
		return nil, replica.ErrClosed
	}
	r := h.replicas[g]
	switch {
	case r == nil:
		return nil, replica.ErrNoGroup
	case !r.loaded:
		return nil, replica.ErrNotReady
	case h.net.chanceLocked(h.net.weather.Refuse):
		return nil, replica.ErrBusy
	}
	return r, request(r)
}

// TransferLeadership implements [replica.Host].
func (h *Host) TransferLeadership(ctx context.Context, g replica.GroupID, to replica.MemberID) error {
	if to == 0 {
		return errors.New("memraft: leadership cannot be transferred to member 0")
	}
	_, err := h.begin(ctx, g, func(r *raft) error {
		h.net.whenAwakeLocked(h.cfg.Member, func() {
			if !r.stopped {
				r.transferLocked(to, 0)
			}
		})
		return nil
	})
	return err
}

// Snapshot implements [replica.Host].
func (h *Host) Snapshot(ctx context.Context, g replica.GroupID) (index uint64, err error) {
	want := &saving{done: make(chan struct{})}
	r, err := h.begin(ctx, g, func(r *raft) error {
		if r.save != nil {
			return replica.ErrBusy
		}
		r.save = want
		r.work.Broadcast()
		return nil
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-want.done:
		return want.index, want.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-r.ended:
		return 0, replica.ErrClosed
	}
}
