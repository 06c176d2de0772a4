package coord

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Resume makes a new handle on the session that t is the token of, in this
// process. Its ephemerals stay what they are; the handle that had it until then
// ends with [ErrSessionMoved].
//
// It takes the session over at once if its process is known to be gone, because
// another process runs as the same member; if it was handed over
// ([Session.HandOver]); if it is this process's own; and if it is External, for then its
// user is not the old process but a client who has come here. Otherwise the old process
// may still rely on the session, so Resume claims it and waits: it gets it when the
// ensemble has heard nothing of the old process for the session's timeout, or the
// old process lets go. Of several that claim a session the last one gets it, and
// the others are told at once, with ErrSessionMoved. While the old process lives,
// the wait ends only with ctx, and the claim is withdrawn then:
// [Config.OperationTimeout] bounds what comes before and behind the wait.
//
// What the old handle has read, the new one reads as well, or something newer.
//
// Errors: [ErrSessionExpired] (also while waiting: somebody closed the session),
// [ErrAuthFailed] (the token is of another ensemble, or its password wrong, or the
// session was opened for somebody else, see [SessionOptions.External]),
// [ErrSessionMoved], [ErrBadArguments] (options, the zero Token). If Resume fails
// behind the takeover, the session is released again and the token stays good.
func (c *Coordinator) Resume(ctx context.Context, t Token, o SessionOptions) (*Session, error) {
	s, err := c.resume(ctx, t, o)
	c.auditResult(actResumeSession, err, slog.String("session", t.session.String()), o.audit())
	return s, err
}

func (c *Coordinator) resume(ctx context.Context, t Token, o SessionOptions) (*Session, error) {
	fail := func(err error, detail string) (*Session, error) {
		return nil, &OpError{Op: "resume", Err: err, Detail: detail}
	}
	switch {
	case o.Timeout < 0:
		return fail(ErrBadArguments, fmt.Sprintf("Timeout %v is negative", o.Timeout))
	case t.session == 0:
		return fail(ErrBadArguments, errTokenIsZero.Error())
	case c.ctx.Err() != nil:
		return fail(context.Cause(c.ctx), "")
	}
	if err := c.awaitJoined(ctx); err != nil {
		return fail(err, "")
	}
	if id := c.root.state().id; id != t.ensemble {
		return fail(ErrAuthFailed, fmt.Sprintf("the token is of ensemble %v, this is ensemble %v", t.ensemble, id))
	}
	if c.root.isLeaving() {
		return fail(ErrClosed, "")
	}
	ids, err := o.identities()
	if err != nil {
		return fail(err, "")
	}
	s, err := c.resumeFor(ctx, t, &o, ids)
	if err != nil {
		return fail(err, "")
	}
	return s, nil
}

// resumeFor takes a session over for somebody who has these identities, and pays for
// that.
func (c *Coordinator) resumeFor(ctx context.Context, t Token, o *SessionOptions, ids []ID) (s *Session, err error) {
	m := c.ledger.newMeter(c.root, o, ids)
	if err = c.payForSession(ctx, m); err == nil {
		s, err = c.root.resume(ctx, c, t, o.Timeout, ids, m)
	}
	if err != nil {
		m.leave()
	}
	return s, err
}

// payForSession waits for the turn of a resume, at most for the operation timeout.
func (c *Coordinator) payForSession(ctx context.Context, m *meter) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	return m.pay(ctx, 1, 0)
}

// resume takes a session over, now or later.
func (g *group) resume(ctx context.Context, c *Coordinator, t Token, timeout time.Duration, ids []ID, m *meter) (*Session, error) {
	g.beginResume(t.session)
	// A session that comes here when this call has failed is let go again.
	defer g.endResume(t.session)
	r := request{kind: requestResume, session: t.session, password: t.password.bytes(), timeoutMS: timeout.Milliseconds(), identities: ids}
	claim := uint64(0) // of an earlier round
	for {
		res, err := g.ask(ctx, r, c.cfg.OperationTimeout, g.withdrawLate)
		if err != nil {
			if claim != 0 {
				g.withdraw(t.session, claim)
			}
			return nil, err
		}
		generation, timeoutMS := uint64(res.zxid), res.timeoutMS
		if res.session == 0 {
			var again bool
			timeoutMS, again, err = g.awaitClaim(ctx, t.session, generation)
			if err != nil {
				return nil, err
			}
			if again {
				claim = generation
				continue
			}
		}
		s := g.newSession(c, t.session, generation, timeoutMS)
		s.password = t.password
		s.speakFor(ids, m)
		return g.takeOver(ctx, c, s)
	}
}

// takeOver makes a session that has come to this process one of its handles.
func (g *group) takeOver(ctx context.Context, c *Coordinator, s *Session) (*Session, error) {
	if err := g.adopt(s); err != nil {
		s.end(err)
		return nil, err
	}
	// The log up to the takeover is applied here, so this handle is not behind what
	// the old one has read. The barrier makes that hold however it was routed.
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	err := g.barrier(ctx)
	if err == nil {
		err = s.enterAgain(ctx)
	}
	if err != nil {
		s.end(ErrClosed)
		s.leaveElsewhere()
		g.release(s)
		return nil, err
	}
	if err := s.alive(); err != nil {
		return nil, err
	}
	g.log.Info("session resumed", slog.String("session", s.id.String()), slog.Duration("timeout", s.timeout))
	return s, nil
}

// awaitClaim waits until a claim of this process is granted, and returns the
// timeout that goes with it; or until the session has become free for whoever asks
// again. A claim that is not waited for any more is withdrawn.
func (g *group) awaitClaim(ctx context.Context, id SessionID, claim uint64) (timeoutMS int64, again bool, err error) {
	for {
		changed := g.changedSession(id)
		s := g.state()
		ses, ok := s.sessions.get(id)
		switch {
		case !ok:
			return 0, false, ErrSessionExpired
		case ses.generation == claim:
			return ses.timeoutMS, false, nil
		case ses.claim == nil || ses.claim.generation != claim:
			return 0, false, ErrSessionMoved
		case s.superseded(ses):
			return 0, true, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			g.withdraw(id, claim)
			return 0, false, context.Cause(ctx)
		case <-g.ctx.Done():
			return 0, false, context.Cause(g.ctx)
		}
	}
}

// withdraw takes a claim back that nobody waits for any more. If that is lost, the
// session may come here, and is let go then.
func (g *group) withdraw(id SessionID, claim uint64) {
	g.proposeForMember(request{kind: requestWithdraw, session: id, claim: claim})
}

// withdrawLate takes back what a resume did whose caller has left, if it was a
// claim. A session that it took over at once is let go where it comes here, see
// orphanLocked.
func (g *group) withdrawLate(q *pending) {
	if q.result.session == 0 {
		g.withdraw(q.req.session, uint64(q.result.zxid))
	}
}

func (g *group) beginResume(id SessionID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resuming[id]++
}

// endResume ends what beginResume began, and lets go of the session if it is here
// without a handle.
func (g *group) endResume(id SessionID) {
	g.mu.Lock()
	if g.resuming[id]--; g.resuming[id] == 0 {
		delete(g.resuming, id)
		delete(g.waits, id) // nobody is left who waits
	}
	orphans := g.orphanLocked(id, g.state(), nil)
	g.mu.Unlock()
	g.letGoOf(orphans)
}
