package coord

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A session is the root group's, which opens it. In the group of a mount it resides from
// its first write there. The handle ends as soon as the session has ended in one of its
// groups, and also if it only may have ended, wherever it has something at stake: an
// ephemeral that is anywhere given away must find nobody who still believes to have it.
// A group that has no quorum, and nothing of the session, does not end it.

// A residence is the part that a handle's session has in the group of a mount.
type residence struct {
	g       *group
	entered chan struct{} // closed when err is set
	err     error         // why the session is not in the group
	in      atomic.Bool   // the session is in the group: what happens to that counts for the handle
}

// residences are those of one handle. Most have none, and each call on a handle asks, so
// that to read them takes no lock.
type residences struct {
	mu sync.Mutex                   // a leaf; held to change in
	in atomic.Pointer[[]*residence] // never modified, but replaced; nil is none
}

func (r *residences) all() []*residence {
	if in := r.in.Load(); in != nil {
		return *in
	}
	return nil
}

// of returns the residence in a group, or a new one that somebody has to make true.
func (r *residences) of(g *group) (res *residence, isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, res := range r.all() {
		if res.g == g {
			return res, false
		}
	}
	res = &residence{g: g, entered: make(chan struct{})}
	in := append(slices.DeleteFunc(slices.Clone(r.all()), func(x *residence) bool { return x.g.over() }), res)
	r.in.Store(&in)
	return res, true
}

func (r *residences) drop(res *residence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := slices.DeleteFunc(slices.Clone(r.all()), func(x *residence) bool { return x == res })
	r.in.Store(&in)
}

// groups yields the groups, beside the root group, in which the session lives.
func (r *residences) groups() iter.Seq[*group] {
	return func(yield func(*group) bool) {
		for _, res := range r.all() {
			if res.in.Load() && !res.g.over() && !yield(res.g) {
				return
			}
		}
	}
}

// pledged yields those of groups in which the session has something at stake, or which
// have contact with a quorum, so that nobody has to know whether it has.
//
// What must stay true: a call that may leave an ephemeral in a group begins while there is
// contact, see executing. Until then the group's last sign may be older than the session
// could bear, and nothing is lost by that.
func (s *Session) pledged() iter.Seq[*group] {
	return func(yield func(*group) bool) {
		for g := range s.elsewhere.groups() {
			if (!g.suspended() || g.atStake(s.id)) && !yield(g) {
				return
			}
		}
	}
}

// atStake reports whether a session of this process has an ephemeral in the group, or may
// come to have one by what is under way. The order matters: an answer counts as under way
// until its state is published.
func (g *group) atStake(id SessionID) bool {
	return g.proposer.creates(id) || g.state().sessions.ephemeralCount(id) > 0
}

// over reports whether the group of a mount does nothing any more: it is empty, so no
// session has anything to lose there, and those who have ended it already answer nobody.
func (g *group) over() bool {
	return g.retired.Load() || g.ctx.Err() != nil || g.state().serves.sealed != 0
}

// enter has the session live in g, if it does not yet. It waits for as long as ctx
// lasts; whoever comes next finds what was begun.
func (s *Session) enter(ctx context.Context, g *group) error {
	if g == s.g || s.id == 0 {
		return nil
	}
	for {
		res, isNew := s.elsewhere.of(g)
		if isNew && !g.spawn(func() { s.runEnter(res) }) {
			res.err = context.Cause(g.ctx)
			s.elsewhere.drop(res)
			close(res.entered)
		}
		select {
		case <-res.entered:
			if !errors.Is(res.err, ErrUnknownOutcome) || s.ended() {
				return res.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// runEnter makes a residence true, or takes it back. To enter twice is to enter once, so
// that an attempt whose end is not known is just made again.
func (s *Session) runEnter(res *residence) {
	g := res.g
	r := request{kind: requestEnter, session: s.id, generation: s.generation, timeoutMS: s.timeout.Milliseconds()}
	answer, err := g.submit(s.ctx, g.ctx, r, s.c.cfg.OperationTimeout)
	if err == nil {
		err = answer.firstError().err()
	}
	if err == nil {
		err = g.adopt(s)
	}
	res.in.Store(err == nil)
	switch {
	case err != nil:
		s.elsewhere.drop(res)
	case s.ended(): // meanwhile, when nobody knew that it was here, too
		g.proposer.silence(s.id, s.generation)
		g.release(s)
	}
	if errors.Is(err, ErrSessionExpired) || errors.Is(err, ErrSessionMoved) {
		s.forfeit(err)
	}
	res.err = err
	close(res.entered)
}

// forfeit ends a handle because of what has become of the session in the group of a
// mount. It takes leaf locks alone; the rest is left to the deadlines of the root group.
func (s *Session) forfeit(err error) {
	if s.end(err) && errors.Is(err, ErrSessionExpired) {
		s.hush()
		s.g.lapses.add(s)
		s.g.nudgeDeadlines()
	}
}

// hush has touches extend the session in no group any more.
func (s *Session) hush() {
	s.g.proposer.silence(s.id, s.generation)
	s.hushElsewhere()
}

// hushElsewhere is hush but for the root group. The session runs out there, unless
// whoever has it next comes with a higher generation before.
func (s *Session) hushElsewhere() {
	for g := range s.elsewhere.groups() {
		g.proposer.silence(s.id, s.generation)
	}
}

// leaveElsewhere forgets the handle in all groups but the root group, and has them close
// the session if the root group has closed it.
func (s *Session) leaveElsewhere() {
	closed := s.id.closedIn(s.g.state())
	for g := range s.elsewhere.groups() {
		if closed {
			g.proposeForMember(s.closeRequest())
		}
		g.release(s)
	}
}

// closeElsewhere closes the session in all groups but the root group, as far as they
// answer: for those that do not, the root group's word that it is closed counts, when
// they are back.
func (s *Session) closeElsewhere(ctx context.Context, timeout time.Duration) {
	var closing sync.WaitGroup
	for g := range s.elsewhere.groups() {
		g.proposer.silence(s.id, s.generation)
		if g.suspended() {
			g.release(s)
			continue
		}
		closing.Go(func() {
			defer g.release(s)
			if _, err := g.submit(ctx, g.ctx, s.closeRequest(), timeout); err != nil {
				g.log.Debug("session not closed yet", slog.String("session", s.id.String()), slog.Any("err", err))
			}
		})
	}
	closing.Wait()
}

// sinceSign returns how long ago the last sign of life was sent that every group has
// acknowledged in which something of the session is at stake.
func (s *Session) sinceSign() time.Duration {
	since := s.g.sinceTouch()
	for g := range s.pledged() {
		since = max(since, g.sinceTouch())
	}
	return since
}

// cutOff reports whether there is no contact with a quorum of some group in which
// something of the session is at stake.
func (s *Session) cutOff() bool {
	if s.g.suspended() {
		return true
	}
	for g := range s.pledged() {
		if g.suspended() {
			return true
		}
	}
	return false
}

// enterAgain has a session that was resumed live in the groups in which it did before,
// so that its ephemerals there stay. A group without a quorum does not keep it waiting,
// and spares what it has of the session until the handle comes.
func (s *Session) enterAgain(ctx context.Context) error {
	var entering sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for m := range s.g.state().mounts.all() {
		if m.phase != mountServed {
			continue
		}
		entering.Go(func() {
			g, err := s.c.running(ctx, m.group)
			if err == nil && !g.suspended() {
				err = s.enterIfKnown(ctx, g)
			}
			if err != nil && !errors.Is(err, errUnmounted) {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	entering.Wait()
	return errors.Join(errs...)
}

func (s *Session) enterIfKnown(ctx context.Context, g *group) error {
	if err := g.barrier(ctx); err != nil {
		return err
	}
	if _, known := g.state().sessions.get(s.id); !known {
		return nil
	}
	return s.enter(ctx, g)
}

// spares reports whether the group of a mount leaves a session alone whose time has run
// out: the root group has given it, or is about to give it, to another handle, which
// comes here then.
func (g *group) spares(ses *session) bool {
	if g.parent == nil {
		return false
	}
	now, ok := g.parent.state().sessions.get(ses.id)
	return ok && (now.generation > ses.generation || now.claim != nil)
}
