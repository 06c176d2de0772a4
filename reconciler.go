package coord

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"coord/internal/replica"
)

// A reconciler is the leader's duty of one group to have raft's membership become what
// the configuration says, one step at a time. A step names the membership that it
// follows, and is refused if that has moved, so two members that both believe to lead
// do no harm; and whoever leads next goes on from what is there.
//
// The configuration that counts is the group's own: the root group decides it, and all
// others adopt it. The root group comes last where somebody goes, for who has left that
// ends, and another group may still need its vote. So it is settled there when it is
// settled everywhere.
type reconciler struct {
	g     *group
	grace time.Duration // after which an observer that came by itself is removed; 0 in groups that do not decide it

	offer func(context.Context, []MemberID) // asks one of these members to lead
	done  func(*state) bool                 // reports whether all other groups whose turn is first are as this state says
}

func (c *Coordinator) newReconciler(g *group) *reconciler {
	r := &reconciler{
		g: g, offer: func(ctx context.Context, to []MemberID) { c.offer(ctx, g, to, 0) },
		done: func(*state) bool { return true },
	}
	if g == c.root {
		r.grace, r.done = c.cfg.ObserverGrace, c.mountsSettled
	}
	return r
}

// mountsSettled reports whether the groups of all mounts are as the root group's state
// says, as far as this member knows.
func (c *Coordinator) mountsSettled(root *state) bool {
	for m := range root.mounts.all() {
		g := c.mounted.get(m.group)
		if g == nil {
			return false
		}
		if conf := g.state().configuration(); !conf.Settled || conf.ZXID < root.configured {
			return false
		}
	}
	return true
}

// run is the reconciler's goroutine.
func (r *reconciler) run() {
	ctx := r.g.ctx
	tick := time.NewTicker(r.g.timing.touchEvery)
	defer tick.Stop()
	for {
		changed := r.g.membersChange()
		if r.g.leading() {
			if r.grace > 0 {
				r.removeSilent(ctx)
			}
			if r.reconcile(ctx) {
				continue // with the next step
			}
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// reconcile makes one step, and reports whether there may be another one at once.
func (r *reconciler) reconcile(ctx context.Context) (more bool) {
	s := r.g.state()
	if !s.started() || s.configuration().Settled {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, r.g.timing.proposeAttempt)
	defer cancel()
	is, err := r.g.host.Membership(ctx, replica.GroupID(r.g.id))
	if err != nil {
		r.g.log.Debug("membership is not known", slog.Any("err", err))
		return false
	}
	id, to, done := r.next(s, is)
	switch {
	case id == r.g.member && r.handOn(ctx):
		return false // who leads next removes this one
	case (done || id != 0 && to == replica.Gone) && !r.done(s):
		return false // until the other groups are
	case done:
		return r.settle(ctx, s)
	case id == 0:
		return false // until the next is ready
	}
	err = r.g.host.ChangeMember(ctx, replica.GroupID(r.g.id), is.Change, replica.MemberID(id), to)
	if err != nil {
		r.g.log.Debug("membership not changed", slog.Uint64("peer", uint64(id)), slog.Any("err", err))
		return errors.Is(err, replica.ErrUnknownOutcome)
	}
	r.g.log.Info("membership changed", slog.Uint64("peer", uint64(id)), slog.String("to", to.String()))
	return true
}

// handOn asks another member to lead, because this one is to be removed, and reports
// whether there is one. If there is none, this one removes itself.
func (r *reconciler) handOn(ctx context.Context) bool {
	next, err := r.g.successors()
	if err != nil || len(next) == 0 {
		return false
	}
	r.g.log.Info("hands leadership on, to be removed")
	r.offer(ctx, next)
	return true
}

// next returns the next step: whom, and what to. Members come before others go. No
// member and not done means that somebody who is to vote is not ready yet.
func (r *reconciler) next(s *state, is replica.Membership) (id MemberID, to replica.Standing, done bool) {
	done = true
	for _, m := range s.members {
		now := is.Members[replica.MemberID(m.id)]
		switch {
		case m.removed || now == wantedStanding(m):
		case now == replica.Gone:
			return m.id, replica.Learning, false
		case r.ready(s, m):
			return m.id, replica.Voting, false
		default:
			done = false
		}
	}
	for _, m := range s.members {
		if m.removed && is.Members[replica.MemberID(m.id)] != replica.Gone {
			return m.id, replica.Gone, false
		}
	}
	return 0, replica.Gone, done
}

func wantedStanding(m *memberRecord) replica.Standing {
	switch {
	case m.removed:
		return replica.Gone
	case m.role == Observer:
		return replica.Learning
	}
	return replica.Voting
}

// ready reports whether a member may begin to vote: it runs, has caught up so far that
// its touches are current, and its directory is written down by whoever has this state.
func (r *reconciler) ready(s *state, m *memberRecord) bool {
	return m.directory != "" && m.incarnation > 0 && s.heardOf(m)
}

// settle tells the ensemble that raft is what the configuration says.
func (r *reconciler) settle(ctx context.Context, s *state) bool {
	_, err := r.g.submit(ctx, r.g.ctx, request{kind: requestSettle, settled: s.configured}, r.g.timing.proposeAttempt)
	if err != nil {
		r.g.log.Debug("configuration not settled", slog.Any("err", err))
	}
	return err == nil
}

// removeSilent removes observers that came by themselves and have not been heard of for
// the grace, by group time: nobody else would.
func (r *reconciler) removeSilent(ctx context.Context) {
	s := r.g.state()
	rc := &reconfiguration{follows: anyConfiguration, force: true}
	for _, m := range s.members {
		if m.passing && !m.removed && s.timeMS-m.touchedMS > r.grace.Milliseconds() {
			rc.changes = append(rc.changes, memberChange{id: m.id, remove: true})
		}
	}
	if len(rc.changes) == 0 {
		return
	}
	r.g.log.Info("removing observers that are gone", slog.Int("count", len(rc.changes)))
	_, err := r.g.submit(ctx, r.g.ctx, request{kind: requestReconfigure, reconfiguration: rc}, r.g.timing.proposeAttempt)
	if err != nil {
		r.g.log.Debug("observers not removed", slog.Any("err", err))
	}
}
