package coord

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A SessionState says how a session stands, as far as this process knows.
//
//	Connected <-> Suspended -> Expired
//	     \____________\______> Closed
type SessionState uint8

// The states of a session. Expired and Closed are terminal.
const (
	// Connected sessions are known to be alive.
	Connected SessionState = iota + 1
	// Suspended sessions have no contact with a quorum, but their deadline has not
	// passed. They become Connected again, or Expired.
	Suspended
	// Expired sessions have ended: the ensemble expired them, or their own deadline
	// has passed.
	Expired
	// Closed sessions were ended by Close.
	Closed
)

// String returns the name of the state in lower case.
func (s SessionState) String() string {
	switch s {
	case Connected:
		return "connected"
	case Suspended:
		return "suspended"
	case Expired:
		return "expired"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("SessionState(%d)", uint8(s))
}

// SessionOptions say how to open a session. The zero value is ready for use.
type SessionOptions struct {
	// Timeout is how long the session outlives the silence of its process. The
	// ensemble grants it between its own bounds ([Config.MinSessionTimeout],
	// [Config.MaxSessionTimeout]). Zero means [Config.SessionTimeout].
	Timeout time.Duration

	_ struct{}
}

// A Session is one liveness shared with the ensemble: the ephemeral znodes that
// are created through it are deleted, all in one write, when it ends. It has the
// same methods as a [Coordinator], is safe for concurrent use, and is made by
// [Coordinator.NewSession].
//
// A session ends when it is closed, when its Coordinator is closed, and when the
// ensemble has heard nothing of its process for the timeout. The handle itself
// ends, by this process's clock, before the ensemble can give its ephemerals
// away: a twentieth of the timeout earlier, counted from the start of the last
// sign of life that was acknowledged.
type Session struct {
	c          *Coordinator
	g          *group // the root group, which keeps the sessions
	id         SessionID
	generation uint64
	timeout    time.Duration
	identities []ID

	ctx    context.Context // ends with the handle
	cancel context.CancelCauseFunc
}

// ID returns the session's id. It is zero for no session that is open.
func (s *Session) ID() SessionID { return s.id }

// Timeout returns the timeout that the ensemble granted.
func (s *Session) Timeout() time.Duration { return s.timeout }

// Context ends with the session; its cause is [ErrSessionExpired] or [ErrClosed].
func (s *Session) Context() context.Context { return s.ctx }

// State returns how the session stands now.
func (s *Session) State() SessionState {
	err := s.alive()
	switch {
	case err == nil && s.g.suspended():
		return Suspended
	case err == nil:
		return Connected
	case s.closedByUser():
		return Closed
	}
	return Expired
}

// deadline returns when the handle ends unless another sign of life is
// acknowledged.
func (s *Session) deadline() time.Time {
	return s.g.touchedAt().Add(s.timeout - driftOf(s.timeout))
}

// alive returns nil while the handle may be used. It compares the clock, so that
// a process that was paused learns of the end before it does anything else.
func (s *Session) alive() error {
	if s.ctx.Err() == nil && s.id != 0 && time.Now().After(s.deadline()) {
		s.g.giveUp(s)
	}
	return context.Cause(s.ctx)
}

func (s *Session) ended() bool { return s.ctx.Err() != nil }

func (s *Session) closedByUser() bool { return errors.Is(context.Cause(s.ctx), ErrClosed) }

// end makes the handle useless. It may be called with locks held.
func (s *Session) end(err error) { s.cancel(err) }

// Close ends the session: its ephemerals are deleted before Close returns nil.
// If no quorum answers within [Config.CloseTimeout], the session is left to
// expire, and the error says so. Further calls do nothing.
func (s *Session) Close() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), s.c.cfg.CloseTimeout, ErrTimeout)
	defer cancel()
	return s.close(ctx)
}

func (s *Session) close(ctx context.Context) error {
	if s.ended() {
		return nil
	}
	s.end(ErrClosed)
	s.g.release(s)
	res, err := s.g.submit(ctx, s.g.ctx, s.closeRequest(), s.c.cfg.CloseTimeout)
	if err == nil {
		err = res.firstError().err()
	}
	if gone := err == nil || errors.Is(err, ErrSessionExpired); gone {
		return nil
	}
	s.g.proposer.silence(s.id)
	return &OpError{Op: "closeSession", Err: fmt.Errorf("session %v is left to expire: %w", s.id, err)}
}

func (s *Session) closeRequest() request {
	return request{kind: requestCloseSession, session: s.id, generation: s.generation}
}

// giveUp ends a handle whose deadline has passed. The session may still be alive
// in the ensemble, which then learns that nobody speaks for it any more.
func (g *group) giveUp(s *Session) {
	g.release(s)
	if s.ctx.Err() != nil {
		return
	}
	s.end(ErrSessionExpired)
	g.log.Warn("session deadline passed", slog.String("session", s.id.String()), slog.Duration("timeout", s.timeout))
	g.proposer.silence(s.id)
	g.closeInBackground(s.closeRequest())
}

// closeInBackground proposes the end of a session that nobody waits for.
func (g *group) closeInBackground(r request) {
	r.timeMS = time.Now().UnixMilli()
	if q, err := g.proposer.trySubmit(r); q == nil || err != nil {
		g.log.Debug("session is left to expire", slog.String("session", r.session.String()), slog.Any("err", err))
	}
}

// openSession opens a session in the group for this process.
func (g *group) openSession(ctx context.Context, c *Coordinator, o SessionOptions) (*Session, error) {
	if g.isLeaving() {
		return nil, &OpError{Op: "openSession", Err: ErrClosed}
	}
	r := request{kind: requestOpenSession, timeoutMS: o.Timeout.Milliseconds()}
	_, _ = rand.Read(r.password[:]) // never fails
	res, err := g.submit(ctx, g.ctx, r, c.cfg.OperationTimeout)
	if unknown, ok := errors.AsType[*OutcomeError](err); ok {
		g.spawn(func() { g.closeOrphan(unknown.p) })
	}
	if err == nil {
		err = res.firstError().err()
	}
	if err != nil {
		return nil, &OpError{Op: "openSession", Err: err}
	}
	s := &Session{c: c, g: g, id: res.session, generation: 1, timeout: time.Duration(res.timeoutMS) * time.Millisecond}
	s.ctx, s.cancel = context.WithCancelCause(g.ctx)
	if err := g.adopt(s); err != nil {
		s.end(err)
		g.closeInBackground(s.closeRequest())
		return nil, &OpError{Op: "openSession", Err: err}
	}
	return s, nil
}

// closeOrphan closes a session that was opened when nobody waited for it any
// more: this process's touches would keep it alive for ever.
func (g *group) closeOrphan(q *pending) {
	select {
	case <-q.done:
	case <-g.ctx.Done():
		return
	}
	if q.err == nil && q.result.code == codeOK {
		g.closeInBackground(request{kind: requestCloseSession, session: q.result.session, generation: 1})
	}
}

// runDeadlines ends the handles whose deadline has passed.
func (g *group) runDeadlines() {
	tick := time.NewTicker(g.timing.expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		for _, s := range g.ownSessions() {
			_ = s.alive() // ends it if its time has come
		}
	}
}
