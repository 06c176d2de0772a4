package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"coord/internal/clock"
	"coord/internal/failpoint"
	"coord/internal/replica"
)

// A published is what readers of a group see: one state, how far into the log it
// reaches, and how far into the history of changes. Nothing reachable from it ever
// changes.
type published struct {
	state *state
	index uint64
}

// A group is this member's part in one raft group: the published state, the
// way into the log, the watches, and this member's sessions there.
//
// Lock order: mu before hub.mu before the mu of a watch or a set; proposer.mu and
// history.mu are leaves. Nothing is waited for under any of them.
type group struct {
	id     GroupID
	member MemberID
	host   replica.Host
	log    *slog.Logger
	timing timing
	points *failpoint.Set

	parent  *group      // the root group, of any other group; nil of the root group
	retired atomic.Bool // the table of mounts does not have the group any more

	// highest is shared by all groups of this member; onPublish, of the root group, is
	// called with each published state by the goroutine of the machine.
	highest   *highestZXID
	onPublish func(*state)
	// heard, of the root group, reports whether everything that the group of a mount which
	// is taken back has done is known here.
	heard func(GroupID) bool

	pub      atomic.Pointer[published]
	hub      *hub     // of all groups of this member
	shared   *sharing // by all groups of this member
	proposer *proposer
	reads    sharedBarrier

	ctx    context.Context         // ends, with the reason, when the group is closed or fails
	cancel context.CancelCauseFunc // called by close and fail
	wg     sync.WaitGroup          // every goroutine of the group

	// clock is what deadlines and suspension are measured by. lastTouch is when the
	// first attempt of the last acknowledged touch began, as clock tells it; 0
	// before the first.
	clock     *clock.Clock
	lastTouch atomic.Int64
	born      time.Time

	// warnedQuotas is owned by the goroutine of the machine.
	warnedQuotas quotaWarnings

	// lastMark is when this member last saw group time move, as time since born.
	lastMark atomic.Int64
	// timeStoodStill says that nobody has marked the time since this process
	// joined: the whole ensemble may have been down before.
	timeStoodStill atomic.Bool

	joined  chan struct{}         // closed once this incarnation's hello is applied
	onFail  func(error)           // called once
	onRole  func(replica.Role)    // called for each change; nil: nobody looks
	failure atomic.Pointer[error] // set once; every read asks for it

	mu       sync.Mutex
	closing  bool                         // guarded by mu; no goroutine is started any more
	leaving  bool                         // guarded by mu; no session is opened any more
	sessions map[SessionID]*Session       // guarded by mu; this process's handles
	signs    map[incarnationKey]time.Time // guarded by mu; when a process was last heard of, see expirer
	silences map[SessionID]time.Time      // guarded by mu; when a session fell silent
	role     replica.Role                 // guarded by mu
	// membersChanged is guarded by mu; it is closed, and replaced, when something about
	// the members has changed.
	membersChanged chan struct{}
	membersMoved   bool        // owned by the goroutine of the machine; what is not published yet changes the members
	unmounted      []unmounted // likewise; what is not published yet takes these back
	handleWork
}

// An incarnationKey names one process of a member.
type incarnationKey struct {
	member      MemberID
	incarnation uint64
}

func newGroup(id GroupID, cfg *Config, log *slog.Logger) *group {
	g := &group{
		id: id, member: cfg.ID, log: log.With(slog.Uint64("group", uint64(id))), timing: cfg.timing(), points: cfg.failpoints(),
		clock: clock.New(), born: time.Now(), joined: make(chan struct{}),
		sessions: map[SessionID]*Session{}, signs: map[incarnationKey]time.Time{}, silences: map[SessionID]time.Time{},
		warnedQuotas: newQuotaWarnings(), membersChanged: make(chan struct{}), highest: &highestZXID{},
	}
	g.handleWork = newHandleWork(g.timing.suspendAfter)
	g.pub.Store(&published{state: newState(id).freeze()})
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	g.reads.start = g.spawn
	g.hub, g.shared = newHub(g, cfg), &sharing{}
	g.proposer = newProposer(g, cfg)
	return g
}

// spawn starts a goroutine of the group, unless the group is being closed.
func (g *group) spawn(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return false
	}
	g.wg.Go(f)
	return true
}

// state returns the published state.
func (g *group) state() *state { return g.pub.Load().state }

// publish makes a new state visible together with the changes that led to it.
// Both ways hold: a reader who sees an effect finds its change in the history,
// and a reader who is given an event finds its effect readable.
func (g *group) publish(p *published, changes []change) {
	for i := range g.unmounted {
		u := &g.unmounted[i]
		u.heard = g.heard != nil && g.heard(u.group)
	}
	what := publication{p.state, changes, g.unmounted}
	g.unmounted = nil
	g.points.Hit(failpoint.EventEnqueue)
	g.hub.history.publish(&what, func() { g.pub.Store(p) })
	g.points.Hit(failpoint.Published)
	g.hub.signal()
	g.settle(p.state)
	if g.membersMoved {
		g.membersMoved = false
		g.tellMembers()
	}
	g.published(p.state)
}

// published tells those who follow what this group publishes.
func (g *group) published(s *state) {
	g.highest.raise(s.zxid)
	if g.onPublish != nil {
		g.onPublish(s)
	}
}

// publishSnapshot makes a state visible that skips some changes. Handles end
// before anybody here can read that their ephemerals are gone, as in
// observeSessions, and those that were adopted meanwhile right behind it.
func (g *group) publishSnapshot(p *published) {
	g.retireAll(p.state)
	g.unmounted = nil
	g.hub.history.replace(p.state, func() { g.pub.Store(p) })
	g.hub.signal()
	g.reconcileSessions(p.state)
	g.tellMembers()
	g.published(p.state)
}

// observe takes note of what an entry did, for this member's own purposes. The
// machine calls it; it must not wait.
func (g *group) observe(cmd *command, eff *effects, s *state) {
	if eff.panic != "" {
		g.log.Error("command failed on every member alike", slog.Uint64("proposer", uint64(cmd.member)),
			slog.Uint64("number", cmd.batch.number), slog.String("panic", eff.panic))
	}
	if eff.marked {
		g.lastMark.Store(int64(time.Since(g.born)))
		if cmd.member != g.member {
			g.timeStoodStill.Store(false)
		}
	}
	if eff.touched {
		g.sign(s.members.get(cmd.member))
	}
	if eff.members {
		g.membersMoved = true
	}
	if cmd.batch != nil {
		g.shared.applied(g.id, cmd.batch, time.Now())
	}
	g.unmounted = append(g.unmounted, eff.unmounted...)
	if len(eff.exceeded) > 0 {
		g.warnedQuotas.warn(g.log, time.Since(g.born), eff.exceeded)
	}
	g.observeSessions(cmd, eff, s)
}

// leave has no session opened any more.
func (g *group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaving = true
}

// isLeaving reports whether leave was called.
func (g *group) isLeaving() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leaving
}

// setRole takes note of a change of leadership. The host calls it.
func (g *group) setRole(r replica.Role) {
	g.clock.Await()
	g.mu.Lock()
	was := g.role
	g.role = r
	g.mu.Unlock()
	if was.Leader == r.Leader && was.Term == r.Term {
		return
	}
	if r.Leader == 0 {
		g.log.Info("no leader", slog.Uint64("term", r.Term))
	} else {
		g.log.Info("leader changed", slog.Uint64("leader", uint64(r.Leader)), slog.Uint64("term", r.Term))
	}
	g.proposer.leaderChanged(r)
	if g.onRole != nil {
		g.onRole(r)
	}
}

func (g *group) currentRole() replica.Role {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.role
}

func (g *group) leading() bool { return MemberID(g.currentRole().Leader) == g.member }

// fail stops this member's part in the group for good.
func (g *group) fail(err error) {
	failure := err
	if !errors.Is(err, ErrFailed) { // of another group
		failure = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	if !g.failure.CompareAndSwap(nil, &failure) {
		return
	}
	g.log.Error("group failed on this member", slog.Any("err", err))
	g.hub.close(failure) // first, so that a watch that ends can say why
	g.cancel(failure)
	if g.onFail != nil {
		g.onFail(failure)
	}
}

func (g *group) failed() error {
	if err := g.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// sinceTouch returns how long ago the last acknowledged touch was begun.
func (g *group) sinceTouch() time.Duration {
	last := time.Duration(g.lastTouch.Load())
	return g.clock.Elapsed() - last
}

// sinceMark returns how long ago group time was seen to move.
func (g *group) sinceMark() time.Duration {
	return time.Since(g.born) - time.Duration(g.lastMark.Load())
}

// suspended reports whether this member has no contact with a quorum: its last
// acknowledged touch was begun too long ago.
func (g *group) suspended() bool {
	return g.lastTouch.Load() == 0 || g.sinceTouch() > g.timing.suspendAfter
}

// awaitSuspended returns when this member has no contact with a quorum, or ctx ends.
func (g *group) awaitSuspended(ctx context.Context) {
	for ctx.Err() == nil && !g.suspended() {
		pause(ctx, g.timing.touchEvery)
	}
}

// awaitContact waits until this member has contact with a quorum.
func (g *group) awaitContact(ctx context.Context) error {
	for g.suspended() {
		pause(ctx, g.timing.tick)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case g.ctx.Err() != nil:
			return context.Cause(g.ctx)
		}
	}
	return nil
}

// readable returns the state that a read may be answered from.
func (g *group) readable(ctx context.Context, o readOptions) (*state, error) {
	if err := g.failed(); err != nil {
		return nil, err
	}
	if o.allowStale {
		s := g.state()
		if !s.started() {
			return nil, ErrSuspended // not even the past is known: that nothing is there would be a lie
		}
		return s, nil
	}
	if err := g.awaitJoined(ctx); err != nil {
		return nil, err
	}
	if o.linearizable {
		if err := g.barrier(ctx); err != nil {
			return nil, err
		}
	} else if g.suspended() {
		return nil, ErrSuspended
	}
	return g.state(), nil
}

// hasJoined reports whether this process may read and propose in the group.
func (g *group) hasJoined() bool {
	select {
	case <-g.joined:
		return true
	default:
		return false
	}
}

// awaitJoined waits until this process may read and propose in the group.
func (g *group) awaitJoined(ctx context.Context) error {
	if g.hasJoined() {
		return nil
	}
	select {
	case <-g.joined:
		return nil
	case <-g.ctx.Done():
		return context.Cause(g.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// barrier waits until the published state reflects every write that was
// acknowledged before the call.
func (g *group) barrier(ctx context.Context) error {
	return g.reads.wait(ctx, g.ctx, func(ctx context.Context) error {
		if g.currentRole().Leader == 0 {
			return replica.ErrNotReady // the library would log a warning each time
		}
		return g.host.ReadIndex(ctx, replica.GroupID(g.id))
	}, g.timing.barrierAttempt)
}
