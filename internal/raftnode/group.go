package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/statemachine"

	"coord/internal/failpoint"
	"coord/internal/replica"
)

// ErrLogGone says that a replica has lived in a directory which knows nothing
// of it any more. It must not start there again under its old member id.
var ErrLogGone = errors.New("the log is gone")

// A phase is where a group is in its life: starting, running, stopping, in
// this order. A group whose start failed, or whose machine was unloaded, is
// not in Host.groups any more.
type phase int32

const (
	starting phase = iota // StartGroup has not returned yet
	running
	stopping // StopGroup was called; the machine may still be in use
)

// A group is one replica that this Host runs.
type group struct {
	id      replica.GroupID
	session *client.Session // the library's name for "no session"; may be shared
	phase   atomic.Int32    // a phase; read on every call, without a lock

	// moving is held while the phase changes, together with the call of the
	// library that changes it: a start that is cut short ends as soon as the
	// library has been told, and must not take itself for one that succeeded.
	moving sync.Mutex

	unloadOnce sync.Once
	unloaded   chan struct{} // closed when the machine will not be called again
}

func (gr *group) is(p phase) bool { return phase(gr.phase.Load()) == p }

// StartGroup starts this member's replica of g and returns when the newest
// snapshot is restored, without waiting for other members. It returns
// replica.ErrClosed when StopGroup or Close comes before that.
//
// Whether this is the first start is read from the log, not from the caller:
// a group that the log knows is restarted, any other is bootstrapped with
// Config.Members. The second is deadly if the log has been lost, for the
// replica would vote a second time in terms it has voted in, and its peers
// would trust it to hold what it has forgotten. So a mark outside the log says
// that the group has lived here (Config.MarkInitialised), and a marked group
// without a log is refused with ErrLogGone.
//
// The mark is written when the library has durably recorded the bootstrap and
// has not yet let the replica take part: at the moment it asks for the state
// machine. A crash before it leaves a group that never voted, and next time
// either the log knows it or it is bootstrapped like new. After it, no vote is
// given that a mark does not vouch for. Marking before the library's record
// would condemn a group that lost nothing; marking after the start would leave
// a replica that may have voted unprotected.
func (h *Host) StartGroup(g replica.GroupID, m replica.Machine) error {
	if g == 0 || m == nil {
		return errors.New("raftnode: a group needs an id and a machine")
	}
	if !h.enter() {
		return replica.ErrClosed
	}
	h.starts.Add(1)
	gr := &group{id: g, session: h.nh.GetNoOPSession(uint64(g)), unloaded: make(chan struct{})}
	h.gate.RUnlock()
	defer h.starts.Done()

	h.mu.Lock()
	if h.groups[g] != nil {
		h.mu.Unlock()
		return fmt.Errorf("raftnode: group %d runs already", g)
	}
	h.groups[g] = gr
	h.mu.Unlock()
	h.roles.admit(g)

	if err := h.startReplica(gr, m); err != nil {
		h.unloaded(gr)
		return fmt.Errorf("raftnode: start group %d: %w", g, err)
	}
	// Loading ends early, without an error, when the replica is stopped.
	gr.moving.Lock()
	started := gr.phase.CompareAndSwap(int32(starting), int32(running))
	gr.moving.Unlock()
	if !started || !h.enter() {
		return replica.ErrClosed
	}
	h.gate.RUnlock()
	return nil
}

// startReplica has the library load the replica. It does not hold the gate,
// since loading may take long and Close must be able to cut it short: the
// library checks under its own lock that it is not closed, and then waits on
// nothing that Close takes away.
func (h *Host) startReplica(gr *group, m replica.Machine) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError(r)
		}
	}()
	restart, err := h.hasLived(gr.id)
	if err != nil {
		return err
	}
	members := h.cfg.initialMembers()
	if restart {
		members = nil
	}
	create := func(uint64, uint64) statemachine.IConcurrentStateMachine {
		if h.cfg.MarkInitialised != nil && !h.cfg.Initialised(gr.id) {
			if err := h.mark(gr.id); err != nil {
				// The only way out of here; it is recovered above. The library
				// has not kept anything of the replica yet.
				panic(fmt.Errorf("mark the group as initialised: %w", err))
			}
		}
		return &machine{group: gr.id, user: m, log: h.log, points: h.cfg.Failpoints, unloaded: func() { h.unloaded(gr) }}
	}
	return h.untilUnloaded(func() error {
		h.fuse.starting.Add(1)
		defer h.fuse.starting.Add(-1)
		return h.nh.StartConcurrentReplica(members, false, create, h.cfg.replicaConfig(gr.id))
	})
}

// mark writes down outside the log that a group has lived here.
func (h *Host) mark(g replica.GroupID) error {
	err := h.cfg.Failpoints.Fail(failpoint.StartMark)
	if err == nil {
		err = h.cfg.MarkInitialised(g)
	}
	if err == nil {
		err = h.cfg.Failpoints.Fail(failpoint.StartMarked)
	}
	return err
}

// hasLived reports whether the log knows the replica.
func (h *Host) hasLived(g replica.GroupID) (bool, error) {
	if !h.enter() {
		return false, replica.ErrClosed
	}
	defer h.gate.RUnlock()
	// A replica restarted without its bootstrap record is a panic, so ask.
	if h.nh.HasNodeInfo(uint64(g), uint64(h.cfg.Member)) {
		return true, nil
	}
	if h.cfg.Initialised != nil && h.cfg.Initialised(g) {
		return false, fmt.Errorf("%w: the log of group %d is gone from %s, where member %d has kept it before; "+
			"if it cannot be brought back, remove the member and add a new one under a new id",
			ErrLogGone, g, h.cfg.Dir, h.cfg.Member)
	}
	return false, nil
}

// How long, and how often, StartGroup asks a library that is still unloading
// an earlier replica of the group. StopGroup waits for the machine, but some
// of the library's tables are cleared a moment later.
const (
	unloadPatience = 10 * time.Second
	unloadPoll     = time.Millisecond
)

func (h *Host) untilUnloaded(start func() error) error {
	deadline := time.NewTimer(unloadPatience)
	defer deadline.Stop()
	for {
		err := start()
		switch {
		case errors.Is(err, dragonboat.ErrClosed):
			return replica.ErrClosed
		case !errors.Is(err, dragonboat.ErrShardAlreadyExist):
			return err
		}
		select {
		case <-time.After(unloadPoll):
		case <-h.ended:
			return replica.ErrClosed
		case <-deadline.C:
			return err
		}
	}
}

// unloaded strikes off a group whose machine will not be called again, because
// it was stopped, because it was removed from the group, or because it could
// not start.
func (h *Host) unloaded(gr *group) {
	gr.unloadOnce.Do(func() {
		h.mu.Lock()
		if h.groups[gr.id] == gr {
			delete(h.groups, gr.id)
			h.roles.dismiss(gr.id)
		}
		h.mu.Unlock()
		close(gr.unloaded)
	})
}

// StopGroup stops this member's replica of g and waits until its machine is
// not called any more. When ctx ends first, the replica goes on stopping, and
// StopGroup may be called again to wait for it.
func (h *Host) StopGroup(ctx context.Context, g replica.GroupID) error {
	if !h.enter() {
		return replica.ErrClosed
	}
	gr := h.group(g)
	if gr == nil {
		h.gate.RUnlock()
		return replica.ErrNoGroup
	}
	gr.moving.Lock()
	err := h.nh.StopShard(uint64(g))
	if err == nil {
		gr.phase.Store(int32(stopping))
	}
	gr.moving.Unlock()
	h.gate.RUnlock()
	// Not found means that it is being stopped already, or loaded only now.
	if errors.Is(err, dragonboat.ErrShardNotFound) && gr.is(starting) {
		return fmt.Errorf("%w: group %d is still starting", replica.ErrNotReady, g)
	}
	if err != nil && !errors.Is(err, dragonboat.ErrShardNotFound) {
		return fmt.Errorf("raftnode: stop group %d: %w", g, err)
	}
	select {
	case <-gr.unloaded:
		return nil
	case <-h.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// group returns the group, or nil if this Host does not run it.
func (h *Host) group(g replica.GroupID) *group {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.groups[g]
}
