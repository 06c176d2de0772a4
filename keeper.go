package coord

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/btree"

	"coord/internal/replica"
)

// A keeper has the groups of mounts run on this member as the root group's table says,
// and takes those steps of mounts that are this member's: as the leader of the root
// group, which mounts and unmounts, and as the leader of a mount's group, which keeps
// that group's copy of the decrees.
//
// It only ever looks at published states and proposes what comes next there. Every step
// is a compare-and-set, so two members that both believe to lead do no harm, and one
// that begins finds by the states alone how far the others came.
//
// What nothing else is said of is owned by the keeper's goroutine.
type keeper struct {
	c     *Coordinator
	nudge chan struct{} // holds 1: the root group's table or decrees have changed

	stepping *pending                        // the last step; another is proposed when it is done
	catching map[GroupID]*pending            // likewise, of each group that this member leads
	sweeping map[GroupID]time.Duration       // when each was last swept
	leading  map[GroupID]time.Duration       // since when this member leads a group, or has last tried to have another lead it
	sealed   map[GroupID]map[MemberID]uint64 // the touches that there were when a group was seen to be sealed
	retiring map[GroupID]time.Duration       // when a group was seen to be in the table no more, as the clock of the member tells it

	// Of the root group, when it was published last; owned by the goroutine of its
	// machine.
	mounts  *btree.BTreeG[mountItem]
	decrees uint64
}

var errUnmounted = errors.New("unmounted")

func newKeeper(c *Coordinator) *keeper {
	return &keeper{
		c: c, nudge: make(chan struct{}, 1), catching: map[GroupID]*pending{}, sweeping: map[GroupID]time.Duration{},
		leading: map[GroupID]time.Duration{}, retiring: map[GroupID]time.Duration{},
		sealed: map[GroupID]map[MemberID]uint64{},
	}
}

// run is the keeper's goroutine. While nothing is mounted it sleeps.
func (k *keeper) run() {
	ctx := k.c.ctx
	if err := k.c.root.awaitJoined(ctx); err != nil {
		return // before, the table may be an old one
	}
	k.removeLeftovers()
	tick := time.NewTicker(k.c.root.timing.touchEvery)
	defer tick.Stop()
	for {
		due := tick.C
		if !k.look() {
			due = nil
		}
		select {
		case <-due:
		case <-k.nudge:
		case <-ctx.Done():
			return
		}
	}
}

// removeLeftovers removes what this member keeps of groups whose mounts are gone: it was
// away when they ended, or crashed while it removed them. The ids of groups are never used
// again, and the table is at least as new as any that this directory has seen, for this
// process has joined the root group: whatever is not in it has ended.
func (k *keeper) removeLeftovers() {
	there := map[GroupID]bool{rootGroup: true}
	for m := range k.c.root.state().mounts.all() {
		there[m.group] = true
	}
	for _, id := range k.c.host.Stored() {
		if !there[GroupID(id)] {
			k.remove(GroupID(id))
		}
	}
}

// remove removes what this member keeps of a group that has ended. If it cannot, the next
// process does.
func (k *keeper) remove(id GroupID) {
	ctx, cancel := context.WithTimeout(k.c.ctx, k.c.root.timing.suspendAfter)
	defer cancel()
	if err := k.c.host.RemoveGroup(ctx, replica.GroupID(id)); err != nil && k.c.ctx.Err() == nil {
		k.c.log.Warn("group that has ended not removed from the disk", slog.Uint64("group", uint64(id)), slog.Any("err", err))
	}
}

// wake has the keeper look again.
func (k *keeper) wake() {
	select {
	case k.nudge <- struct{}{}:
	default:
	}
}

// look does what there is to do now. It reports whether it has to be called again
// though nobody wakes the keeper.
func (k *keeper) look() bool {
	k.c.root.clock.Await()
	s := k.c.root.state()
	wanted := map[GroupID]bool{}
	for m := range s.mounts.all() {
		wanted[m.group] = true
		if k.c.mounted.get(m.group) == nil && k.c.ctx.Err() == nil {
			k.start(m)
		}
	}
	if k.c.root.leading() {
		k.step(s)
	}
	for _, g := range k.c.mounted.all() {
		switch {
		case !wanted[g.id]:
			k.retire(g)
		case g.leading() && g.hasJoined():
			k.catchUp(g, s)
			k.spread(g)
		default:
			delete(k.leading, g.id)
		}
	}
	return len(k.c.mounted.all()) > 0
}

// start starts this member's replica of the group of a mount.
func (k *keeper) start(m *mount) {
	c := k.c
	g := newGroup(m.group, &c.cfg, c.log)
	g.parent, g.onPublish = c.root, k.follower()
	g.hub, g.shared = c.root.hub, c.root.shared
	g.shared.mounts.Add(1)
	g.host, g.clock, g.highest = c.host, c.root.clock, c.root.highest
	g.onRole = func(r replica.Role) { c.roles.show(g.id, r) }
	g.onFail = c.root.fail // a member that cannot follow one log has no place in the others
	g.proposer.initial, g.proposer.seeded = nil, func() *initCommand { return c.root.state().initOf(g.id) }
	g.log.Info("group of a mount starts", slog.String("path", m.path))
	c.mounted.put(g)
	if err := c.disk.startGroup(c.host, g.id, &machine{g: g, s: newState(g.id)}, m.first(c.cfg.ID)); err != nil {
		if c.ctx.Err() == nil {
			g.fail(err)
		}
		return
	}
	g.start(&c.cfg)
	g.spawn(c.newReconciler(g).run)
}

// first returns how a member's replica of the mount's group comes to be: as one of those
// that the group starts with, or as one that came later.
func (m *mount) first(member MemberID) replica.First {
	var voters []replica.MemberID
	joins := true
	for i := range m.members {
		voters = append(voters, replica.MemberID(m.members[i].id))
		joins = joins && m.members[i].id != member
	}
	if joins {
		return replica.Join
	}
	return replica.First{Voters: voters}
}

// initOf returns the command that starts the group of a mount, or nil if that is not
// this member's to propose any more: the mount was flipped, so others have started it.
func (s *state) initOf(group GroupID) *initCommand {
	seed, m, ok := s.seedOf(group)
	if !ok {
		return nil
	}
	return &initCommand{
		version: s.version, ensemble: s.ensemble, id: s.id, timeMS: s.timeMS, settings: s.settings, members: m.members, seed: seed,
	}
}

// step proposes the next step of a mount or an unmount, if one is due.
func (k *keeper) step(s *state) {
	if k.stepping != nil && !k.stepping.isDone() {
		return
	}
	for m := range s.mounts.all() {
		g := k.c.mounted.get(m.group)
		if g == nil || !g.hasJoined() || !k.heardOut(g) {
			continue
		}
		if st := nextStep(s, m, g.state()); st != nil {
			k.stepping = k.c.root.proposeForMember(request{kind: requestMountStep, step: st})
			return
		}
	}
}

// heardOut reports whether a group that is sealed may be ended as far as others know it:
// every member that is there has touched twice since this one saw the seal. The second time
// it had applied its first, and so the seal; its watches miss nothing of the group then.
func (k *keeper) heardOut(g *group) bool {
	s := g.state()
	if s.serves.sealed == 0 {
		return true
	}
	since := k.sealed[g.id]
	if since == nil {
		since = map[MemberID]uint64{}
		for _, m := range s.members {
			since[m.id] = m.touches
		}
		k.sealed[g.id] = since
	}
	for _, m := range s.members {
		if !m.removed && s.heardOf(m) && m.touches < since[m.id]+2 {
			return false
		}
	}
	return true
}

// nextStep returns the step of a mount that is due in the root group when this is what
// the mount's group has come to, or nil.
func nextStep(root *state, m *mount, of *state) *mountStep {
	st := &mountStep{path: m.path, group: m.group}
	switch {
	case m.phase == mountSealed && of.decrees >= root.decreed():
		st.kind = stepFlip
		return st
	case m.phase == mountServed && of.serves.sealed != 0:
		st.kind, st.zxid = stepTakeBack, of.serves.sealed
		st.back, _ = of.imageAt(m.path)
		return st
	}
	return nil
}

// catchUp has a group that this member leads follow the root group: the version in force,
// what was decreed, and which sessions have ended.
func (k *keeper) catchUp(g *group, s *state) {
	if last := k.catching[g.id]; last != nil && !last.isDone() {
		return
	}
	if r, due := toFollow(s, g.state()); due {
		k.catching[g.id] = g.proposeForMember(r)
	} else if now := g.clock.Elapsed(); now-k.sweeping[g.id] >= k.c.cfg.ReapInterval {
		k.sweeping[g.id] = now
		k.catching[g.id] = k.sweep(g, s)
	}
}

// toFollow returns the request by which the group of a mount follows the root group, if
// one is due: the version first, because what follows may need it.
func toFollow(root, of *state) (r request, due bool) {
	if of.version < root.version {
		return request{kind: requestActivate, version: root.version}, true
	}
	if d := root.decreeFor(of, maxDecreeBytes); d != nil {
		return request{kind: requestAdopt, decree: d}, true
	}
	return request{}, false
}

// sweep closes the sessions of a group that the root group has closed, and forgets the
// tombstones of such: nobody can bring these sessions back any more. It returns the last
// request, or nil.
func (k *keeper) sweep(g *group, root *state) (last *pending) {
	s := g.state()
	closed := 0
	for ses := range s.sessions.byID.all() {
		if closed < maxReapsPerTick && ses.id.closedIn(root) {
			last = g.proposeForMember(request{kind: requestCloseSession, session: ses.id, generation: ses.generation})
			closed++
		}
	}
	var forgotten []SessionID
	for id := range s.sessions.tombstones.all() {
		if len(forgotten) < maxExpiriesAtOnce && id.closedIn(root) {
			forgotten = append(forgotten, id)
		}
	}
	if len(forgotten) > 0 {
		last = g.proposeForMember(request{kind: requestForget, forgotten: forgotten})
	}
	return last
}

// spread hands the leadership of a group to the member that is to have it, so that not
// all groups are led by one. It waits until that member was there for a while, and tries
// again only after as long.
func (k *keeper) spread(g *group) {
	now, patience := g.clock.Elapsed(), 4*g.timing.suspendAfter
	since, noted := k.leading[g.id]
	if !noted {
		k.leading[g.id] = now
		return
	}
	to := g.state().leaderToBe(2 * g.timing.touchEvery)
	if now-since < patience || to == 0 || to == g.member || g.isLeaving() || k.c.root.isLeaving() {
		return
	}
	k.leading[g.id] = now
	ctx, cancel := context.WithTimeout(k.c.ctx, g.timing.barrierAttempt)
	defer cancel()
	if err := k.c.host.TransferLeadership(ctx, replica.GroupID(g.id), replica.MemberID(to)); err != nil {
		g.log.Debug("leadership not handed over", slog.Any("err", err))
	}
}

// leaderToBe returns the voter that is to lead the group, each voter in turn by the ids
// of the groups; 0 if its last touch is older than current.
func (s *state) leaderToBe(current time.Duration) MemberID {
	var voters []*memberRecord
	for _, m := range s.members {
		if m.role == Voter && !m.removed {
			voters = append(voters, m)
		}
	}
	if len(voters) == 0 {
		return 0
	}
	m := voters[uint64(s.group)%uint64(len(voters))]
	if m.touches == 0 || s.timeMS-m.touchedMS > current.Milliseconds() {
		return 0
	}
	return m.id
}

// retire ends this member's part in a group whose mount is gone, and removes it from the
// disk. Members that are
// behind can learn from this one that the group is sealed, for as long as one waits for
// a quorum.
func (k *keeper) retire(g *group) {
	since, noted := k.retiring[g.id]
	if !noted {
		g.retired.Store(true)
		since = g.clock.Elapsed()
		k.retiring[g.id] = since
	}
	if g.clock.Elapsed()-since < 2*g.timing.suspendAfter {
		return
	}
	g.close(errUnmounted)
	ctx, cancel := context.WithTimeout(k.c.ctx, g.timing.suspendAfter)
	defer cancel()
	if err := k.c.host.StopGroup(ctx, replica.GroupID(g.id)); err != nil && !errors.Is(err, replica.ErrNoGroup) {
		g.log.Warn("group of a mount not stopped yet", slog.Any("err", err))
		return
	}
	g.log.Info("group of a mount ended")
	g.shared.mounts.Add(-1)
	k.c.mounted.drop(g)
	k.c.root.hub.history.stopped(g.id)
	k.remove(g.id)
	delete(k.retiring, g.id)
	delete(k.catching, g.id)
	delete(k.sweeping, g.id)
	delete(k.sealed, g.id)
}

// follower returns what is to be called with what the group of a mount publishes. It has
// the keeper take at once the step that this makes due, and wakes who waits for it.
func (k *keeper) follower() func(*state) {
	var decrees uint64
	var started, sealed bool
	return func(s *state) {
		if s.decrees != decrees || s.started() != started || (s.serves.sealed != 0) != sealed {
			decrees, started, sealed = s.decrees, s.started(), s.serves.sealed != 0
			k.c.mounted.tell()
			k.wake()
		}
	}
}

// heard reports whether this member knows everything that the group of a mount has done,
// because it has applied the seal.
func (k *keeper) heard(id GroupID) bool {
	g := k.c.mounted.get(id)
	return g != nil && g.state().serves.sealed != 0
}

// follow wakes the keeper if what the root group publishes concerns it. The goroutine of
// the machine calls it.
func (k *keeper) follow(s *state) {
	if s.mounts.byPath.tree != k.mounts || s.decrees != k.decrees {
		k.mounts, k.decrees = s.mounts.byPath.tree, s.decrees
		k.c.mounted.tell()
		k.wake()
	}
}
