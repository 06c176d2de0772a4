package raftnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/raftio"
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

	// life ends with that of the Host, or when the machine is unloaded.
	life context.Context
	end  context.CancelFunc

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
//
// A replica that never ran here starts as first says. Whether it joined is kept by
// the log, in the record that starts it, and so is known ever after: one that joined
// is told to the library as not voting at each start, also when it has been promoted
// since. The log says that it was, and the library ends the process when it reads
// there that a member which votes was added as one that does not.
//
// A replica that was removed from its group is refused with replica.ErrRemoved, as soon as
// this member knows. One that learns of it only from its log stops, and
// Config.OnRemoved is told.
func (h *Host) StartGroup(g replica.GroupID, m replica.Machine, first replica.First) error {
	if g == 0 || m == nil {
		return errors.New("raftnode: a group needs an id and a machine")
	}
	if !h.enter() {
		return replica.ErrClosed
	}
	h.starts.Add(1)
	gr := &group{id: g, session: h.nh.GetNoOPSession(uint64(g)), unloaded: make(chan struct{})}
	gr.life, gr.end = context.WithCancel(h.life)
	h.gate.RUnlock()
	defer h.starts.Done()

	if err := h.admit(gr); err != nil {
		return err
	}
	if err := h.startReplica(gr, m, first); err != nil {
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

// admit makes room for a group that is going to be started.
func (h *Host) admit(gr *group) error {
	marked := h.cfg.Removed != nil && h.cfg.Removed(gr.id)
	h.mu.Lock()
	defer h.mu.Unlock()
	if marked || h.removed[gr.id] {
		return fmt.Errorf("raftnode: start group %d: %w: member %d is not part of it any more", gr.id, replica.ErrRemoved, h.cfg.Member)
	}
	if h.groups[gr.id] != nil {
		return fmt.Errorf("raftnode: group %d runs already", gr.id)
	}
	h.groups[gr.id] = gr
	h.roles.admit(gr.id)
	return nil
}

// startReplica has the library load the replica. It does not hold the gate,
// since loading may take long and Close must be able to cut it short: the
// library checks under its own lock that it is not closed, and then waits on
// nothing that Close takes away.
func (h *Host) startReplica(gr *group, m replica.Machine, first replica.First) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError(r)
		}
	}()
	o, err := h.origin(gr.id, first)
	if err != nil {
		return err
	}
	create := func(uint64, uint64) statemachine.IConcurrentStateMachine {
		if h.cfg.MarkInitialised != nil && !h.cfg.Initialised(gr.id) {
			if err := h.mark(gr.id); err != nil {
				// The only way out of here; it is recovered above. The library
				// has not kept anything of the replica yet.
				panic(fmt.Errorf("mark the group as initialised: %w", err))
			}
		}
		return &machine{group: gr.id, user: m, log: h.log, points: h.cfg.Failpoints, unloaded: func() { h.letGo(gr) }}
	}
	h.noteStored(gr.id, true)
	return h.untilUnloaded(func() error {
		h.fuse.starting.Add(1)
		defer h.fuse.starting.Add(-1)
		return h.nh.StartConcurrentReplica(o.members, o.join, create, h.cfg.replicaConfig(gr.id, o.joined))
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

// An origin is what the library is told about where a replica comes from.
type origin struct {
	members map[uint64]string // of a bootstrap
	join    bool              // this is the first start of one that joins
	joined  bool              // it joined, now or at its first start
}

// origin says how a replica is to be started: as the log remembers, or as first says
// if the log does not know it.
func (h *Host) origin(g replica.GroupID, first replica.First) (origin, error) {
	if !h.enter() {
		return origin{}, replica.ErrClosed
	}
	defer h.gate.RUnlock()
	// A replica restarted without its bootstrap record is a panic, so ask.
	record, err := h.logs.made.GetBootstrapInfo(uint64(g), uint64(h.cfg.Member))
	switch {
	case err == nil:
		return origin{joined: record.Join}, nil
	case !errors.Is(err, raftio.ErrNoBootstrapInfo):
		return origin{}, err
	case h.cfg.Initialised != nil && h.cfg.Initialised(g):
		return origin{}, fmt.Errorf("%w: the log of group %d is gone from %s, where member %d has kept it before; "+
			"if it cannot be brought back, remove the member and add a new one under a new id",
			ErrLogGone, g, h.cfg.Dir, h.cfg.Member)
	case first.Joins:
		return origin{join: true, joined: true}, nil
	}
	voters := first.Voters
	if len(voters) == 0 {
		voters = slices.Sorted(maps.Keys(h.cfg.Members))
	}
	if !slices.Contains(voters, h.cfg.Member) || slices.Contains(voters, 0) {
		return origin{}, fmt.Errorf("member %d cannot start it with the voters %d", h.cfg.Member, voters)
	}
	return origin{members: h.cfg.namesOf(voters)}, nil
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

// letGo is called when the library has let go of a machine. Unless this member has
// asked for that, it was removed from the group: the library stops a replica by itself
// for no other reason.
func (h *Host) letGo(gr *group) {
	if !gr.is(stopping) && h.life.Err() == nil {
		h.mu.Lock()
		h.removed[gr.id] = true
		h.mu.Unlock()
		// Close waits for the workers after the library is closed, and so after this.
		h.workers.Go(func() { h.reportRemoval(gr.id) })
	}
	h.unloaded(gr)
}

// reportRemoval is the goroutine that writes a removal down and tells of it.
func (h *Host) reportRemoval(g replica.GroupID) {
	if h.cfg.MarkRemoved != nil {
		if err := h.cfg.MarkRemoved(g); err != nil {
			// It will be noticed again when the group is started the next time.
			h.log.Warn("removal not written down", slog.Uint64("group", uint64(g)), slog.Any("err", err))
		}
	}
	if h.cfg.OnRemoved != nil {
		h.cfg.OnRemoved(g)
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
		gr.end()
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
	// Before the library can let go of the machine, which would be a removal otherwise.
	was := gr.phase.Swap(int32(stopping))
	err := h.nh.StopShard(uint64(g))
	if err != nil {
		gr.phase.Store(was)
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

// Stored implements [replica.Host].
func (h *Host) Stored() []replica.GroupID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Sorted(maps.Keys(h.stored))
}

// readStored asks the log which groups it has, once: nobody else adds or removes one.
func (h *Host) readStored() error {
	replicas, err := h.logs.made.ListNodeInfo()
	if err != nil {
		return fmt.Errorf("raftnode: list groups: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range replicas {
		if r.ReplicaID == uint64(h.cfg.Member) {
			h.stored[replica.GroupID(r.ShardID)] = true
		}
	}
	return nil
}

func (h *Host) noteStored(g replica.GroupID, stored bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stored {
		h.stored[g] = true
	} else {
		delete(h.stored, g)
	}
}

// RemoveGroup implements [replica.Host]. The mark that the group has lived here goes
// first: with it, and without a log, the directory could not be opened again. The space
// comes free when the log database compacts, and the empty directory of the group's
// snapshots is removed by the next start; until then the library refuses by it what other
// members may still send. Close may cut it short.
//
// The log is asked here and not by the library, which would hold a lock that its Close
// needs: a log that cannot be written stops whoever meets it until then.
func (h *Host) RemoveGroup(ctx context.Context, g replica.GroupID) error {
	if !h.enter() {
		return replica.ErrClosed
	}
	h.starts.Add(1)
	h.gate.RUnlock()
	defer h.starts.Done()
	if h.group(g) != nil {
		return fmt.Errorf("raftnode: remove group %d: it runs", g)
	}
	if h.cfg.Forget != nil {
		if err := h.cfg.Forget(g); err != nil {
			return fmt.Errorf("raftnode: remove group %d: %w", g, err)
		}
	}
	// Its machine was unloaded, which is the last thing that a replica does.
	if err := h.logs.made.remove(g, h.cfg.Member); err != nil {
		return fmt.Errorf("raftnode: remove group %d: %w", g, err)
	}
	ctx, cancel := context.WithTimeout(ctx, unloadPatience) // the library wants a deadline
	defer cancel()
	err := noPanic(func() error { return h.nh.SyncRemoveData(ctx, uint64(g), uint64(h.cfg.Member)) })
	switch {
	case errors.Is(err, dragonboat.ErrClosed):
		return replica.ErrClosed
	case err != nil:
		return fmt.Errorf("raftnode: remove the snapshots of group %d: %w", g, err)
	}
	h.noteStored(g, false)
	return nil
}

// group returns the group, or nil if this Host does not run it.
func (h *Host) group(g replica.GroupID) *group {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.groups[g]
}
