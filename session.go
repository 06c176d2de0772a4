package coord

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A SessionState says how a session stands, as far as this process knows.
//
//	Connected <-> Suspended
//	     \____________\______> Expired or Closed
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
	// Closed handles were ended by Close or HandOver, or their session was resumed
	// by another handle.
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
type SessionOptions struct { //nolint:recvcheck // it is printed as a value, too
	// Timeout is how long the session outlives the silence of its process. The
	// ensemble grants it between its own bounds ([Config.MinSessionTimeout],
	// [Config.MaxSessionTimeout]). Zero means [Config.SessionTimeout], and for
	// [Coordinator.Resume] what the session has. A resume can only make it longer,
	// because the process that had the session until then may count on the old one; but
	// if it is External, it can make it shorter as well, at once.
	Timeout time.Duration

	// External says that the session speaks for somebody outside this process, a
	// client of a server for example, who keeps its token and may take it to another
	// server at any time: whoever resumes it has it at once. It has the Identities then, if only to begin
	// with (see [Session.AddAuth]), and not that of the ensemble's own code, which
	// every other session has. What is not proved must not be in Identities:
	// nobody checks them again. An external session can be resumed only as one, and
	// only by whoever has each x509 identity that it was opened with.
	External   bool
	Identities []ID

	// Detached says that there is no session of the ensemble behind the handle: to open
	// it costs no write and needs no quorum. It must be External. Its id is zero, it ends
	// when it is closed or its Coordinator is, and it can neither have ephemeral znodes,
	// which are refused with [ErrSessionExpired], nor be resumed.
	Detached bool

	// Limits are those of this session. The zero Limits are [Config.SessionLimits] if
	// it is External, and otherwise none.
	Limits Limits

	_ struct{}
}

// A Session is one liveness shared with the ensemble: the ephemeral znodes that
// are created through it are deleted, all in one write, when it ends. It has the
// same methods as a [Coordinator], is safe for concurrent use, and is made by
// [Coordinator.NewSession] or, from the token of one that exists, by
// [Coordinator.Resume].
//
// A session ends when it is closed, when its Coordinator is closed, and when the
// ensemble has heard nothing of its process for the timeout. The handle itself
// ends, by this process's clock, before the ensemble can give its ephemerals
// away: a twentieth of the timeout earlier, counted from the start of the last
// sign of life that was acknowledged. That clock counts suspensions of the
// machine, and leaps of the wall clock as well.
type Session struct {
	c          *Coordinator
	g          *group // the root group, which keeps the sessions
	id         SessionID
	generation uint64 // of this handle: another is refused by the ensemble
	password   secret
	timeout    time.Duration
	patience   time.Duration        // the handle ends when the last acknowledged touch is older
	identities atomic.Pointer[[]ID] // nil is the ensemble's own code
	meter      *meter               // nil: it has no limits

	elsewhere residences // in the groups of mounts

	ctx    context.Context // ends with the handle
	cancel context.CancelCauseFunc

	// mu is a leaf, but for the lock inside ctx.
	mu      sync.Mutex
	state   SessionState  // guarded by mu; as of the last look
	changed chan struct{} // guarded by mu; closed when state changes
}

// ID returns the session's id. It is zero for no session that is open.
func (s *Session) ID() SessionID { return s.id }

// Timeout returns the timeout that the ensemble granted.
func (s *Session) Timeout() time.Duration { return s.timeout }

// Token returns what resumes the session, in this process or in another. It is a
// secret.
func (s *Session) Token() Token {
	return Token{ensemble: s.g.state().id, session: s.id, password: s.password}
}

// Context ends with the handle. Its cause is [ErrSessionExpired] when the
// session's time has run out, [ErrSessionMoved] when another handle has resumed
// the session, and [ErrClosed] when it or its Coordinator was closed, or it was
// handed over. It satisfies errors.Is for [ErrFailed] when the member had to stop.
//
// Its methods compare the clock with the session's deadline: a process that was
// paused and asks Err, or Done in a select, learns of the end before it does
// anything else. Contexts derived from it follow as soon as the process gets to
// it; asked directly it is exact.
func (s *Session) Context() context.Context { return sessionContext{s} }

// State returns how the session stands now.
func (s *Session) State() SessionState {
	state, _ := s.look()
	return state
}

// States yields how the session stands, and then each change, until the session
// has ended or ctx has. A reader that is slow may miss states in between, never
// the latest: what it is given was true when it asked.
func (s *Session) States(ctx context.Context) iter.Seq[SessionState] {
	return func(yield func(SessionState) bool) {
		for last := SessionState(0); ; {
			state, changed := s.look()
			if state != last && !yield(state) || state.terminal() {
				return
			}
			last = state
			select {
			case <-changed:
			case <-s.ctx.Done():
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s SessionState) terminal() bool { return s == Expired || s == Closed }

// look returns the present state and a channel that is closed when it changes.
func (s *Session) look() (SessionState, <-chan struct{}) {
	state := Connected
	if err := s.alive(); err != nil {
		state = stateOf(err)
	} else if s.cutOff() {
		state = Suspended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.becomeLocked(state)
	return s.state, s.changed
}

// stateOf returns the state of a handle that ended for a reason.
func stateOf(cause error) SessionState {
	if errors.Is(cause, ErrClosed) || errors.Is(cause, ErrSessionMoved) {
		return Closed
	}
	return Expired
}

// becomeLocked is the only way from one state to another. What is terminal stays.
func (s *Session) becomeLocked(state SessionState) {
	if s.state == state || s.state.terminal() {
		return
	}
	s.state = state
	close(s.changed)
	s.changed = make(chan struct{})
}

// alive returns nil while the handle may be used. It compares the clock, so that
// a process that was paused learns of the end before it does anything else.
func (s *Session) alive() error {
	if s.ctx.Err() == nil {
		if s.id == 0 || s.sinceSign() <= s.patience {
			return nil
		}
		s.lapse()
	}
	return cmp.Or(context.Cause(s.ctx), error(ErrSessionExpired))
}

func (s *Session) ended() bool { return s.ctx.Err() != nil }

func (s *Session) closedByUser() bool { return errors.Is(context.Cause(s.ctx), ErrClosed) }

// end makes the handle useless, and reports whether it was not before. It may be
// called with locks held.
func (s *Session) end(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.terminal() {
		return false
	}
	s.cancel(err)
	s.becomeLocked(stateOf(context.Cause(s.ctx)))
	s.meter.leave()
	return true
}

// Close ends the session: its ephemerals are deleted before Close returns nil.
// If no quorum answers within [Config.CloseTimeout], the session is left to
// expire, and the error says so. Further calls do nothing.
func (s *Session) Close() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), s.c.cfg.CloseTimeout, ErrTimeout)
	defer cancel()
	return s.close(ctx)
}

func (s *Session) close(ctx context.Context) error {
	if s.ended() || !s.end(ErrClosed) || s.id == 0 {
		return nil
	}
	if _, err := s.part(ctx, s.closeRequest(), s.c.cfg.CloseTimeout); err != nil {
		return &OpError{Op: "closeSession", Err: fmt.Errorf("session %v is left to expire: %w", s.id, err)}
	}
	return nil
}

// part proposes the last request of a handle that has ended. Either the session is
// gone from this process then, and code says how; or err says why that is not
// known, and touches do not extend the session any more, so that it runs out.
func (s *Session) part(ctx context.Context, r request, timeout time.Duration) (code Code, err error) {
	defer s.g.release(s) // not before it is known what becomes of the session
	if r.kind == requestCloseSession {
		s.closeElsewhere(ctx, timeout)
	} else {
		s.hushElsewhere()
		s.leaveElsewhere()
	}
	res, err := s.g.submit(ctx, s.g.ctx, r, timeout)
	if err == nil {
		code = res.firstError()
		if code == codeOK || code == ErrSessionExpired || code == ErrSessionMoved {
			return code, nil
		}
		err = code
	}
	s.g.proposer.silence(s.id, s.generation)
	return codeOK, err
}

// HandOver ends the handle and lets go of the session: from then on whoever has
// its token resumes it at once, and its ephemerals stay until then, at most for
// the session's timeout. Calls under way on the handle end.
//
// If the ensemble does not answer in time, the handle has ended all the same, and
// the error says so: the session can be resumed when its timeout has run out. That
// is also what comes of a ctx that is derived from the session's own Context.
func (s *Session) HandOver(ctx context.Context) error {
	if err := s.alive(); err != nil {
		return &OpError{Op: "handOver", Err: err}
	}
	if s.id == 0 {
		return &OpError{Op: "handOver", Err: ErrBadArguments, Detail: "the session is detached"}
	}
	if !s.end(ErrClosed) {
		return &OpError{Op: "handOver", Err: context.Cause(s.ctx)}
	}
	r := request{kind: requestRelease, session: s.id, generation: s.generation}
	code, err := s.part(ctx, r, s.c.cfg.OperationTimeout)
	s.c.auditResult(actHandOver, cmp.Or(err, code.err()), slog.String("session", s.id.String()), auditIDs(s.ids()))
	switch {
	case err != nil:
		return &OpError{Op: "handOver", Err: fmt.Errorf("session %v was not released and waits for its timeout: %w", s.id, err)}
	case code != codeOK:
		return &OpError{Op: "handOver", Err: code}
	}
	return nil
}

func (s *Session) closeRequest() request {
	return request{kind: requestCloseSession, session: s.id, generation: s.generation}
}

// lapse ends a handle whose deadline has passed. It takes leaf locks alone, because
// it may be called with any lock held; what else there is to do is left to yield.
func (s *Session) lapse() {
	s.forfeit(ErrSessionExpired)
}

// yield tells the ensemble that nobody speaks any more for a session whose handle has
// ended, as far as it does not know. It may still be alive there: whoever claims it has
// it, else it ends.
func (g *group) yield(s *Session) {
	defer g.release(s)
	defer s.leaveElsewhere()
	if errors.Is(context.Cause(s.ctx), ErrSessionMoved) || s.id.closedIn(g.state()) {
		return
	}
	g.log.Warn("session deadline passed", slog.String("session", s.id.String()), slog.Duration("timeout", s.timeout))
	r := s.closeRequest()
	r.yield = true
	g.proposeForMember(r)
}

// letGo proposes the end or the release of a session that nobody here uses any
// more, and does not wait for it. The session is silent from the next touch on, or
// touches would keep it alive if this request were lost.
func (g *group) letGo(r request) {
	g.proposer.silence(r.session, r.generation)
	g.proposeForMember(r)
}

// openSession opens a session in the group for this process.
func (g *group) openSession(ctx context.Context, c *Coordinator, o SessionOptions) (*Session, error) {
	if g.isLeaving() {
		return nil, &OpError{Op: "openSession", Err: ErrClosed}
	}
	ids, err := o.identities()
	if err != nil {
		return nil, &OpError{Op: "openSession", Err: err}
	}
	m := c.ledger.newMeter(g, &o, ids)
	if err := m.pay(ctx, 1, 0); err != nil {
		m.leave()
		return nil, &OpError{Op: "openSession", Err: err}
	}
	r := request{kind: requestOpenSession, timeoutMS: o.Timeout.Milliseconds(), identities: ids}
	_, _ = rand.Read(r.password[:]) // never fails
	res, err := g.ask(ctx, r, c.cfg.OperationTimeout, g.closeOrphan)
	if err != nil {
		m.leave()
		return nil, &OpError{Op: "openSession", Err: err}
	}
	s := g.newSession(c, res.session, firstGeneration, res.timeoutMS)
	s.password = newSecret(r.password)
	s.speakFor(ids, m)
	if err := g.adopt(s); err != nil {
		s.end(err)
		g.letGo(s.closeRequest())
		return nil, &OpError{Op: "openSession", Err: err}
	}
	return s, nil
}

// detachedSession returns a handle that has no session of the ensemble.
func (g *group) detachedSession(c *Coordinator, o SessionOptions) (*Session, error) {
	if !o.External {
		return nil, &OpError{Op: "openSession", Err: ErrBadArguments, Detail: "Detached without External"}
	}
	ids, err := o.identities()
	if err == nil && g.isLeaving() {
		err = ErrClosed
	}
	if err != nil {
		return nil, &OpError{Op: "openSession", Err: err}
	}
	s := g.newSession(c, 0, 0, o.Timeout.Milliseconds())
	s.speakFor(ids, c.ledger.newMeter(g, &o, ids))
	return s, nil
}

// speakFor gives a new handle its identities and limits.
func (s *Session) speakFor(ids []ID, m *meter) {
	s.meter = m
	m.opened(s.id)
	if ids != nil {
		s.identities.Store(&ids)
	}
}

// ask proposes a request about a session and waits for its result. If the caller
// leaves before that is known, undo is called with what succeeds later.
func (g *group) ask(ctx context.Context, r request, timeout time.Duration, undo func(*pending)) (*result, error) {
	res, err := g.submit(ctx, g.ctx, r, timeout)
	if unknown, ok := errors.AsType[*OutcomeError](err); ok {
		g.spawn(func() { g.runUndo(unknown.p, undo) })
	}
	if err == nil {
		err = res.firstError().err()
	}
	return res, err
}

// runUndo calls undo when q has succeeded.
func (g *group) runUndo(q *pending, undo func(*pending)) {
	select {
	case <-q.done:
	case <-g.ctx.Done():
		return
	}
	if q.err == nil && q.result.code == codeOK {
		undo(q)
	}
}

// closeOrphan closes a session that was opened when nobody waited for it any
// more: this process's touches would keep it alive for ever.
func (g *group) closeOrphan(q *pending) {
	g.letGo(request{kind: requestCloseSession, session: q.result.session, generation: firstGeneration})
}

// A sessionContext is the context of a handle. What it holds is a pointer, so
// that equal handles have equal contexts.
type sessionContext struct{ s *Session }

// Deadline implements [context.Context]. A session's deadline moves with each
// acknowledged touch, so there is none to tell.
func (c sessionContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done implements [context.Context]. The channel is that of a context of the
// standard library, and Value knows that, so contexts derived from this one need
// no goroutine to follow it.
func (c sessionContext) Done() <-chan struct{} {
	_ = c.s.alive()
	return c.s.ctx.Done()
}

// Err implements [context.Context].
func (c sessionContext) Err() error {
	_ = c.s.alive()
	return c.s.ctx.Err()
}

// Value implements [context.Context]. [context.Cause] asks here, which is why
// the clock is compared.
func (c sessionContext) Value(key any) any {
	_ = c.s.alive()
	return c.s.ctx.Value(key)
}

// String returns for example "session 0x000000000000002a".
func (c sessionContext) String() string { return "session " + c.s.id.String() }
