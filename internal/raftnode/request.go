package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4"

	"coord/internal/replica"
)

const (
	// maxWait is how long the library watches a request whose context has no
	// deadline. After it the request is answered with errNoAnswer.
	maxWait = time.Minute

	// maxSnapshotWait is the same for a snapshot, which takes as long as it
	// takes to write the state.
	maxSnapshotWait = time.Hour

	// spareTicks are added to what is left until a context's deadline. The
	// library counts in whole ticks, refuses less than one, and withholds a
	// result that comes after its own timeout: that must come last.
	spareTicks = 10
)

// What becomes of requests that have no result. They stand behind the errors
// of package replica, which say what that means to the caller.
var (
	errNoAnswer = errors.New("the log did not answer")
	errStopped  = errors.New("the group was stopped meanwhile")
)

// timeout returns what to tell the library about how long ctx has.
func (h *Host) timeout(ctx context.Context, most time.Duration) time.Duration {
	left := most
	if deadline, ok := ctx.Deadline(); ok {
		left = min(max(time.Until(deadline), 0), most)
	}
	return left + spareTicks*h.cfg.Tick
}

// A request is a call of the library that answers later.
type request func(gr *group) (*dragonboat.RequestState, error)

// begin makes a request. An error means that nothing was and will be done.
func (h *Host) begin(ctx context.Context, g replica.GroupID, r request) (*dragonboat.RequestState, *group, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if !h.enter() {
		return nil, nil, replica.ErrClosed
	}
	defer h.gate.RUnlock()
	gr := h.group(g)
	if gr == nil {
		return nil, nil, replica.ErrNoGroup
	}
	rs, err := r(gr)
	if err != nil {
		return nil, nil, refusal(gr, err)
	}
	return rs, gr, nil
}

// refusal translates the errors with which the library refuses a request at
// once. None of them leaves anything behind.
func refusal(gr *group, err error) error {
	switch {
	case errors.Is(err, dragonboat.ErrShardNotFound) && gr.is(starting),
		errors.Is(err, dragonboat.ErrShardNotReady),
		errors.Is(err, dragonboat.ErrShardNotInitialized):
		return replica.ErrNotReady
	case errors.Is(err, dragonboat.ErrShardNotFound),
		errors.Is(err, dragonboat.ErrShardClosed),
		errors.Is(err, dragonboat.ErrClosed):
		return replica.ErrClosed
	case errors.Is(err, dragonboat.ErrSystemBusy):
		return replica.ErrBusy
	case errors.Is(err, dragonboat.ErrPayloadTooBig):
		return replica.ErrTooLarge
	}
	return fmt.Errorf("raftnode: group %d: %w", gr.id, err)
}

// await waits for the answer to a request. Without one it returns why.
//
// The library does not answer every request: a read that is queued while its
// group stops can be forgotten. So the end of the group ends the waiting too.
func (h *Host) await(ctx context.Context, gr *group, rs *dragonboat.RequestState) (dragonboat.RequestResult, error) {
	var why error
	select {
	case r := <-rs.AppliedC():
		return r, nil
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-gr.unloaded:
		why = errStopped
	case <-h.ended:
		why = errStopped
	}
	// An answer that came at the same time is worth more.
	select {
	case r := <-rs.AppliedC():
		return r, nil
	default:
		return dragonboat.RequestResult{}, why
	}
}

// Propose appends cmd to the log of g and waits until it is applied on this
// member. When it returns nil, Machine.Apply has returned (R2). The caller may
// reuse cmd then, and also after an error.
//
// Errors that are not replica.ErrUnknownOutcome are refusals by this member
// before anything was appended or sent (R3).
func (h *Host) Propose(ctx context.Context, g replica.GroupID, cmd []byte) error {
	rs, gr, err := h.begin(ctx, g, func(gr *group) (*dragonboat.RequestState, error) {
		return h.nh.Propose(gr.session, cmd, h.timeout(ctx, maxWait))
	})
	if err != nil {
		return err
	}
	result, why := h.await(ctx, gr, rs)
	if why == nil {
		// Only now: what is released earlier gets the answer to another
		// request. What is never released is left to the garbage collector.
		rs.Release()
	}
	switch {
	case why != nil:
	case result.Completed():
		return nil
	case result.Dropped():
		// The local raft refused it: no leader is known, or this member leads
		// and is handing leadership over. It was not sent anywhere.
		return replica.ErrNotReady
	case result.Timeout():
		why = errNoAnswer
	case result.Terminated():
		why = errStopped
	default:
		why = fmt.Errorf("unexpected answer %+v", result)
	}
	return fmt.Errorf("%w: %w", replica.ErrUnknownOutcome, why)
}

// ReadIndex waits until the local machine has caught up with everything that
// was committed before the call (R4). The library answers only when the index
// that a quorum confirmed is at or below the index its replica has applied, and
// it moves that index after Update has returned, so nothing needs to be looked
// up to make the answer count.
func (h *Host) ReadIndex(ctx context.Context, g replica.GroupID) error {
	rs, gr, err := h.begin(ctx, g, func(gr *group) (*dragonboat.RequestState, error) {
		return h.nh.ReadIndex(uint64(gr.id), h.timeout(ctx, maxWait))
	})
	if err != nil {
		return err
	}
	result, err := h.await(ctx, gr, rs)
	if errors.Is(err, errStopped) {
		return replica.ErrClosed
	}
	if err != nil {
		return err
	}
	rs.Release()
	switch {
	case result.Completed():
		return nil
	case result.Terminated():
		return replica.ErrClosed
	case result.Timeout():
		return fmt.Errorf("%w: %w", replica.ErrNotReady, errNoAnswer)
	}
	return replica.ErrNotReady
}

// TransferLeadership asks that to lead g. Under load it is often not met: the
// target does not stand while it has entries to apply, and the leader takes no
// proposals until an election timeout has passed. Ask in a quiet moment.
func (h *Host) TransferLeadership(ctx context.Context, g replica.GroupID, to replica.MemberID) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if to == 0 {
		return errors.New("raftnode: leadership cannot be transferred to member 0")
	}
	if !h.enter() {
		return replica.ErrClosed
	}
	defer h.gate.RUnlock()
	gr := h.group(g)
	if gr == nil {
		return replica.ErrNoGroup
	}
	if err := h.nh.RequestLeaderTransfer(uint64(g), uint64(to)); err != nil {
		return refusal(gr, err)
	}
	return nil
}

// Snapshot has the local replica of g save its state and compact its log, and
// returns the index of the newest snapshot. It is not an error that nothing
// was applied since the last one. It returns replica.ErrSnapshotAborted if the
// machine gave up, and replica.ErrBusy while another one is being saved.
func (h *Host) Snapshot(ctx context.Context, g replica.GroupID) (index uint64, err error) {
	rs, gr, err := h.begin(ctx, g, func(gr *group) (*dragonboat.RequestState, error) {
		return h.nh.RequestSnapshot(uint64(gr.id), dragonboat.DefaultSnapshotOption, h.timeout(ctx, maxSnapshotWait))
	})
	if err != nil {
		return 0, err
	}
	result, err := h.await(ctx, gr, rs)
	switch {
	case errors.Is(err, errStopped):
		return 0, replica.ErrClosed
	case err != nil:
		return 0, err
	case result.Completed():
		return result.SnapshotIndex(), nil
	case result.Rejected():
		return h.newestSnapshot(gr)
	case result.Aborted():
		return 0, replica.ErrSnapshotAborted
	case result.Terminated():
		return 0, replica.ErrClosed
	}
	return 0, errNoAnswer
}

// newestSnapshot returns the index of the newest snapshot that the log knows.
func (h *Host) newestSnapshot(gr *group) (uint64, error) {
	if !h.enter() {
		return 0, replica.ErrClosed
	}
	defer h.gate.RUnlock()
	reader, err := h.nh.GetLogReader(uint64(gr.id))
	if err != nil {
		return 0, replica.ErrClosed // the only reason there is
	}
	snapshot := reader.Snapshot()
	if snapshot.Index == 0 {
		return 0, nil
	}
	// It came with a reference that keeps its file.
	if err := snapshot.Unref(); err != nil {
		return 0, fmt.Errorf("raftnode: group %d: release snapshot: %w", gr.id, err)
	}
	return snapshot.Index, nil
}
