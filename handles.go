package coord

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// handleWork is what a group keeps for the handles of this process beside the
// handles themselves.
type handleWork struct {
	// vigil is how old the last acknowledged touch may be before any handle needs a
	// look: no handle's deadline, nor suspension, comes sooner.
	vigil  time.Duration // guarded by group.mu
	nudge  chan struct{} // holds 1: vigil may have become shorter, or a handle has lapsed
	lapses lapses

	waits    map[SessionID]chan struct{} // guarded by group.mu; closed when the session has changed
	resuming map[SessionID]int           // guarded by group.mu; calls of Resume under way

	// Owned by the goroutine of the machine: what was applied and is not yet
	// published.
	unsettled []SessionID // sessions that ended or moved
	succeeded bool        // a member has a new process
}

func newHandleWork(vigil time.Duration) handleWork {
	return handleWork{
		vigil: vigil, nudge: make(chan struct{}, 1),
		waits: map[SessionID]chan struct{}{}, resuming: map[SessionID]int{},
	}
}

// newSession returns a handle of this process, which is not yet adopted.
func (g *group) newSession(c *Coordinator, id SessionID, generation uint64, timeoutMS int64) *Session {
	s := &Session{c: c, g: g, id: id, generation: generation, timeout: time.Duration(timeoutMS) * time.Millisecond}
	s.patience = s.timeout - driftOf(s.timeout)
	s.state, s.changed = Connected, make(chan struct{})
	s.ctx, s.cancel = context.WithCancelCause(g.ctx)
	return s
}

// adopt makes ses one of the handles that this process speaks for, unless the
// session has ended or moved meanwhile, or this process is about to leave.
func (g *group) adopt(ses *Session) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := ses.fate(g.state()); err != nil {
		return err
	}
	if g.leaving {
		return ErrClosed
	}
	if old := g.sessions[ses.id]; old != nil {
		old.end(ErrSessionMoved)
	}
	g.sessions[ses.id] = ses
	g.vigil = min(g.vigil, ses.patience)
	g.nudgeDeadlines()
	return nil
}

// nudgeDeadlines has runDeadlines look at what has changed.
func (g *group) nudgeDeadlines() {
	select {
	case g.nudge <- struct{}{}:
	default:
	}
}

// lapses are the handles whose deadlines have passed, or that have ended in some groups
// and not in others, until runDeadlines gets to them. Whoever asks a handle finds that out, with any lock held: the hub asks
// contexts for their channels under its own.
type lapses struct {
	mu  sync.Mutex // a leaf
	all []*Session // guarded by mu
}

func (l *lapses) add(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
}

func (l *lapses) take() []*Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// release forgets a handle that has ended.
func (g *group) release(ses *Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sessions[ses.id] == ses {
		delete(g.sessions, ses.id)
	}
}

// ownSessions returns the handles of this process in the order of their ids.
func (g *group) ownSessions() []*Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.sessions), func(a, b *Session) int { return cmp.Compare(a.id, b.id) })
}

// fate returns why a handle is void by the state s, or nil.
func (s *Session) fate(st *state) error {
	ses, ok := st.sessions.get(s.id)
	switch {
	case !ok:
		return ErrSessionExpired
	case ses.generation > s.generation:
		return ErrSessionMoved
	case ses.silent && ses.generation == s.generation:
		return ErrSessionExpired // touches do not extend it any more
	}
	return nil
}

// retireLocked ends the handle on a session, if there is one and it is void by s.
func (g *group) retireLocked(id SessionID, s *state) {
	if h, ok := g.sessions[id]; ok {
		if err := h.fate(s); err != nil {
			delete(g.sessions, id)
			g.void(h, err)
		}
	}
}

// void ends a handle for what has become of its session in g.
func (g *group) void(h *Session, err error) {
	switch {
	case g.parent != nil:
		h.forfeit(err)
	case h.end(err) && len(h.elsewhere.all()) > 0:
		h.hushElsewhere()
		g.lapses.add(h)
		g.nudgeDeadlines()
	}
}

// observeSessions takes note of what an entry did to sessions. Handles are ended
// before anybody here can read that their ephemerals are gone.
func (g *group) observeSessions(cmd *command, eff *effects, s *state) {
	if cmd.kind == commandHello {
		g.succeeded = true
		g.dropSigns(s)
	}
	if len(eff.ended)+len(eff.moved)+len(eff.silenced) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for _, id := range eff.silenced {
		g.silences[id] = now
		g.retireLocked(id, s)
	}
	for _, id := range slices.Concat(eff.ended, eff.moved) {
		if ses, ok := s.sessions.get(id); !ok || !ses.silent {
			delete(g.silences, id)
		}
		g.retireLocked(id, s)
		g.unsettled = append(g.unsettled, id)
	}
}

// settle does what is due when a state was published: it ends the handles that
// were adopted between apply and now, wakes those who wait for a session, and lets
// go of sessions that came here when nobody wanted them any more.
func (g *group) settle(s *state) {
	if len(g.unsettled) == 0 && !g.succeeded {
		return
	}
	var orphans []request
	g.mu.Lock()
	for _, id := range g.unsettled {
		g.retireLocked(id, s)
		g.wakeLocked(id)
		orphans = g.orphanLocked(id, s, orphans)
	}
	if g.succeeded {
		g.wakeAllLocked()
	}
	g.mu.Unlock()
	g.unsettled, g.succeeded = g.unsettled[:0], false
	g.letGoOf(orphans)
}

// retireAll ends the handles that are void by s, which skips what led to it.
func (g *group) retireAll(s *state) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retireAllLocked(s)
}

func (g *group) retireAllLocked(s *state) {
	for id := range g.sessions {
		g.retireLocked(id, s)
	}
}

// reconcileSessions does what settle does when the state that was published skips
// what led to it, so that nothing is known of the sessions that have changed.
func (g *group) reconcileSessions(s *state) {
	g.mu.Lock()
	g.retireAllLocked(s)
	g.wakeAllLocked()
	for id := range g.silences {
		if ses, ok := s.sessions.get(id); !ok || !ses.silent {
			delete(g.silences, id)
		}
	}
	var orphans []request
	for id := range s.vouchedFor(g.member) {
		orphans = g.orphanLocked(id, s, orphans)
	}
	g.mu.Unlock()
	g.letGoOf(orphans)
}

// changedSession returns a channel that is closed when a session has ended, moved,
// or may be taken over.
func (g *group) changedSession(id SessionID) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	ch, ok := g.waits[id]
	if !ok {
		ch = make(chan struct{})
		g.waits[id] = ch
	}
	return ch
}

func (g *group) wakeLocked(id SessionID) {
	if ch, ok := g.waits[id]; ok {
		close(ch)
		delete(g.waits, id)
	}
}

func (g *group) wakeAllLocked() {
	for id := range g.waits {
		g.wakeLocked(id)
	}
}

// orphanLocked appends the release of a session if this process owns it and
// nobody here wants it: its touches would keep it alive for ever. What has not been
// resumed yet is no orphan: whoever opened it here looks after it, and may not have
// made its handle yet. In the group of a mount nothing is: a session ends there when the
// root group has ended it.
func (g *group) orphanLocked(id SessionID, s *state, orphans []request) []request {
	ses, ok := s.sessions.get(id)
	if !ok || g.parent != nil || !g.hasJoined() || g.sessions[id] != nil || g.resuming[id] > 0 ||
		ses.generation == firstGeneration || ses.silent || ses.owner != g.member || s.superseded(ses) {
		return orphans
	}
	return append(orphans, request{kind: requestRelease, session: id, generation: ses.generation})
}

// letGoOf proposes the release of sessions that nobody here wants.
func (g *group) letGoOf(orphans []request) {
	for _, r := range orphans {
		g.letGo(r)
	}
}

// runDeadlines tells the handles how they stand when nobody asks them, and ends
// those whose deadline has passed.
func (g *group) runDeadlines() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	dimmed := false
	for {
		select {
		case <-timer.C:
		case <-g.nudge:
		case <-g.ctx.Done():
			return
		}
		var next time.Duration
		next, dimmed = g.lookAfterHandles(dimmed)
		timer.Reset(next)
	}
}

// lookAfterHandles has a look at the handles if one of them may need it, does what
// is left to do for those that have lapsed, and returns when the next look is due
// and whether handles are suspended. While touches are acknowledged it costs the
// same for any number of handles.
func (g *group) lookAfterHandles(dimmed bool) (next time.Duration, stillDimmed bool) {
	since := g.sinceTouch()
	next = g.timing.expireEvery
	soon := func(at time.Duration) {
		if at >= since {
			next = min(next, at-since+1)
		}
	}
	g.mu.Lock()
	soon(g.vigil)
	var handles []*Session
	if since > g.vigil || dimmed {
		handles = slices.Collect(maps.Values(g.sessions))
	}
	g.mu.Unlock()
	soon(g.timing.suspendAfter)
	for _, s := range handles {
		soon(s.patience)
		if state, _ := s.look(); state == Suspended {
			stillDimmed = true
		}
	}
	for _, s := range g.lapses.take() {
		g.yield(s)
	}
	// Many deadlines that are close together are one look's work.
	return max(next, g.timing.tick), stillDimmed
}
