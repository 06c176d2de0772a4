package coord

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"

	"coord/internal/failpoint"
	"coord/internal/replica"
)

// A Coordinator is one running member of an ensemble, and a [Client] of it with
// a session of its own, which is opened anew when it has expired. All methods may
// be called concurrently.
//
// Lock order: mu before anything of a group. Nothing is waited for under mu.
type Coordinator struct {
	cfg  Config
	log  *slog.Logger
	host replica.Host
	disk *disk
	root *group

	roles *roleBoard

	mounted groupSet // the groups of mounts
	keeper  *keeper  // of mounted

	hosted chan struct{} // closed when host is set, for those whom it calls before
	roll   *rollCall     // of the first start; nil if it needs none

	contacts contactBook
	learning sync.Mutex // held while contacts are put in use, lest older ones follow later ones

	ledger         *ledger // of what sessions with limits use
	auditLog       *slog.Logger
	authenticating chan struct{} // holds a place for each call of an authenticator

	anonymous *Session                // reads, for which no session is needed
	own       atomic.Pointer[Session] // writes; nil until it is open

	logins  throttle
	hashing *hashing // of passwords

	ctx    context.Context // ends, with the reason, on Close or failure
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // every goroutine but those of groups and host

	mu      sync.Mutex
	ownNew  chan struct{} // guarded by mu; closed when own is replaced
	stopped chan struct{} // guarded by mu; made by the first Close, closed when it is done
	stopErr error         // set before stopped is closed
	undrain func()        // guarded by mu; nil unless this member is drained
}

// Open starts a member. It does not wait for other members: [Coordinator.Ready]
// does. ctx bounds the start only; [Coordinator.Close] ends the member.
//
// A member whose directory is new takes no part before all other initial members
// have answered it once, for they know whether it had another directory before. If
// one of them says so, the member fails ([ErrFailed]): with an empty directory it
// has forgotten what it promised, so it has to join under a new id.
//
// Every error names the value it objects to: all wrong fields of cfg at once; a
// directory that is in use, belongs to another member or ensemble, is damaged, or was
// written by a newer binary (see [Coordinator.ActivateVersion]);
// an address that cannot be listened on.
func Open(ctx context.Context, cfg Config) (*Coordinator, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("coord: open: %w", err)
	}
	c := newCoordinator(cfg)
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := c.start(ctx); err != nil {
		c.cancel(err)
		return nil, fmt.Errorf("coord: open %s: %w", cfg.Dir, err)
	}
	return c, nil
}

// newCoordinator returns a member that has nothing to run on yet.
func newCoordinator(cfg Config) *Coordinator { //nolint:gocritic // it is kept
	c := &Coordinator{
		cfg: cfg, log: cfg.newLogger(), auditLog: cfg.newAuditLogger(),
		authenticating: make(chan struct{}, maxAuthenticating), roles: newRoleBoard(), hosted: make(chan struct{}), ownNew: make(chan struct{}), hashing: newHashing(cfg.memory != nil),
	}
	c.ledger = newLedger(&c.cfg)
	return c
}

// start opens directory and host and starts the goroutines. What it has opened
// when it fails, it closes.
func (c *Coordinator) start(ctx context.Context) (err error) {
	// First the directory: it knows who the members are.
	if c.disk, err = openDisk(&c.cfg); err != nil {
		return err
	}
	if err := c.disk.join(ctx, &c.cfg, c.log); err != nil {
		return errors.Join(err, c.disk.close())
	}
	c.log, c.auditLog = c.cfg.newLogger(), c.cfg.newAuditLogger() // which name the member
	// Its members may be reached at other addresses than the configuration names.
	if err := errors.Join(c.cfg.doorFaults()...); err != nil {
		return errors.Join(err, c.disk.close())
	}
	c.root = newGroup(rootGroup, &c.cfg, c.log)
	c.root.onFail = c.fail
	c.root.onRole = func(r replica.Role) { c.roles.show(rootGroup, r) }
	c.keeper = newKeeper(c)
	c.root.heard, c.root.onPublish = c.keeper.heard, c.keeper.follow
	c.root.hub.stateOf = func(path string) *state { return c.serverHere(path).state() }
	c.anonymous = &Session{c: c, g: c.root, ctx: c.ctx, cancel: func(error) {}}
	c.roll = c.disk.firstStart(c, c.root.id)
	if c.host, err = c.disk.openHost(c); err != nil {
		c.root.close(err)
		return errors.Join(err, c.disk.close())
	}
	c.root.host = c.host
	c.useContacts(c.disk.known())
	close(c.hosted)
	if c.roll != nil {
		c.wg.Go(c.runFirstStart)
	} else if err := c.startRoot(); err != nil {
		if failed := c.root.failed(); failed != nil { // which has closed the host that would not start the group
			err = failed
		}
		c.root.close(err)
		return errors.Join(err, c.host.Close(), c.disk.close())
	}
	c.wg.Go(c.runContacts)
	c.wg.Go(c.keeper.run)
	if len(c.cfg.Mounts) > 0 {
		c.wg.Go(c.runMounts)
	}
	c.wg.Go(c.runOwnSession)
	c.wg.Go(c.runDisk)
	return nil
}

// startRoot starts the replica of the root group and what belongs to it.
func (c *Coordinator) startRoot() error {
	first := replica.Bootstrap
	if len(c.cfg.Join) > 0 {
		first = replica.Join
	}
	if err := c.disk.startGroup(c.host, c.root.id, &machine{g: c.root, s: newState(c.root.id)}, first); err != nil {
		return err
	}
	c.root.start(&c.cfg)
	c.root.spawn(c.newReconciler(c.root).run)
	return nil
}

// runFirstStart starts the replica once all other members have answered.
func (c *Coordinator) runFirstStart() {
	err := c.roll.run(c.ctx)
	if err == nil {
		err = c.startRoot()
	}
	if err != nil && c.ctx.Err() == nil {
		c.root.fail(err)
	}
}

// setRole is called by the host for every change of leadership.
func (c *Coordinator) setRole(g replica.GroupID, r replica.Role) {
	if GroupID(g) == c.root.id {
		c.root.setRole(r)
	} else if mounted := c.mounted.get(GroupID(g)); mounted != nil {
		mounted.setRole(r)
	}
}

// Ready waits until this member takes part in the ensemble: it has contact with a
// quorum, has caught up, and its own session is open. A member that starts for the
// first time gets there when all other initial members have answered it once; the
// error names those that have not. It waits at most for [Config.OperationTimeout].
func (c *Coordinator) Ready(ctx context.Context) error {
	_, err := c.session(ctx)
	if err == nil {
		return nil
	}
	if waiting := c.roll.waiting(); waiting != nil && c.ctx.Err() == nil {
		return fmt.Errorf("coord: not ready: %w: %w", err, waiting)
	}
	return fmt.Errorf("coord: not ready: %w", err)
}

// Context ends when the Coordinator is closed, with the cause [ErrClosed], or has
// failed, with a cause that satisfies errors.Is for [ErrFailed].
func (c *Coordinator) Context() context.Context { return c.ctx }

// Session returns the Coordinator's own session, or nil while none is open.
func (c *Coordinator) Session() *Session {
	if s := c.own.Load(); s != nil && s.alive() == nil {
		return s
	}
	return nil
}

// Sessions yields the Coordinator's own session, and each that follows it after it
// has ended, until ctx or the Coordinator ends. The session that a loop is given
// may have ended again by then; its Context says so.
func (c *Coordinator) Sessions(ctx context.Context) iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for ctx.Err() == nil && c.ctx.Err() == nil {
			s, err := c.session(ctx)
			if err != nil {
				continue // it waits at most for the operation timeout
			}
			if !yield(s) {
				return
			}
			select {
			case <-s.ctx.Done():
			case <-ctx.Done():
			}
		}
	}
}

// NewSession opens a session that lives as long as this process speaks for it.
func (c *Coordinator) NewSession(ctx context.Context, o SessionOptions) (*Session, error) {
	s, err := c.newSession(ctx, o)
	if o.External {
		about := []slog.Attr{o.audit()}
		if s != nil {
			about = append(about, slog.String("session", s.id.String()), slog.Duration("timeout", s.timeout))
		}
		c.auditResult(actOpenSession, err, about...)
	}
	return s, err
}

func (c *Coordinator) newSession(ctx context.Context, o SessionOptions) (*Session, error) {
	if o.Timeout < 0 {
		return nil, &OpError{Op: "openSession", Err: ErrBadArguments, Detail: fmt.Sprintf("Timeout %v is negative", o.Timeout)}
	}
	if o.Timeout == 0 {
		o.Timeout = c.cfg.SessionTimeout
	}
	if o.Detached {
		return c.root.detachedSession(c, o)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel() // of joining and opening together
	if err := c.root.awaitJoined(ctx); err != nil {
		return nil, &OpError{Op: "openSession", Err: err}
	}
	return c.root.openSession(ctx, c, o)
}

// awaitJoined waits until this process may read and propose, at most for the
// operation timeout.
func (c *Coordinator) awaitJoined(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	return c.root.awaitJoined(ctx)
}

// govern executes a request of the ensemble's own code that needs no session. One that
// somebody was faster than is made again on what that has left, and audited then.
func (c *Coordinator) govern(ctx context.Context, r request) error {
	err := c.awaitJoined(ctx)
	var res *result
	if err == nil {
		res, err = c.root.submit(ctx, c.root.ctx, r, c.cfg.OperationTimeout)
	}
	if err == nil {
		err = res.code.err()
	}
	if r.kind == requestSettings && errors.Is(err, ErrBadVersion) {
		return err
	}
	act, about := c.auditGoverned(&r)
	c.auditResult(act, err, about...)
	if err != nil {
		return err
	}
	return c.awaitAdopted(ctx)
}

// session returns the own session, which it waits for.
func (c *Coordinator) session(ctx context.Context) (*Session, error) {
	if s := c.own.Load(); s != nil && s.alive() == nil {
		return s, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	for {
		c.mu.Lock()
		changed := c.ownNew
		c.mu.Unlock()
		if s := c.own.Load(); s != nil && s.alive() == nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		}
	}
}

// runOwnSession keeps a session open for this Coordinator.
func (c *Coordinator) runOwnSession() {
	for c.ctx.Err() == nil && !c.root.isLeaving() {
		s, err := c.NewSession(c.ctx, SessionOptions{})
		if err != nil {
			if c.ctx.Err() == nil {
				c.log.Debug("own session not opened", slog.Any("err", err))
				pause(c.ctx, c.root.timing.retry)
			}
			continue
		}
		c.own.Store(s)
		c.mu.Lock()
		close(c.ownNew)
		c.ownNew = make(chan struct{})
		c.mu.Unlock()
		c.log.Info("own session opened", slog.String("session", s.id.String()), slog.Duration("timeout", s.timeout))
		<-s.ctx.Done()
		if c.ctx.Err() == nil && !c.root.isLeaving() {
			c.log.Warn("own session ended", slog.String("session", s.id.String()), slog.Any("err", context.Cause(s.ctx)))
			pause(c.ctx, c.root.timing.retry)
		}
	}
}

// fail is called when a group of this member cannot go on. The host is closed so
// that this member neither votes nor answers for a state it cannot follow.
func (c *Coordinator) fail(err error) {
	c.cancel(err)
	for _, g := range c.mounted.all() {
		g.cancel(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped == nil {
		c.wg.Go(func() { _ = c.host.Close() })
	}
}

// Close ends this member in good order within [Config.CloseTimeout]: it closes
// the sessions of this process, so that their ephemerals vanish at once, and
// hands leadership on. It returns when every goroutine has ended. Further calls
// wait for the first.
func (c *Coordinator) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.CloseTimeout)
	defer cancel()
	return c.Shutdown(ctx)
}

// Shutdown is [Coordinator.Close] with the caller's bound for what is done in good
// order.
func (c *Coordinator) Shutdown(ctx context.Context) error {
	return c.stop(func() {
		c.root.leave()
		c.closeSessions(ctx)
		c.leaveEnsemble(ctx)
		c.handOverAll(ctx)
	})
}

// kill ends this member as a crash would, as far as the others can see. One that was
// frozen has nothing happen before its end.
func (c *Coordinator) kill() error {
	for _, g := range c.groups() {
		g.cancel(ErrClosed)
	}
	c.root.clock.Thaw()
	return c.stop(nil)
}

// stop ends the member after farewell, or without any good order if that is nil.
// Only the first call does anything.
func (c *Coordinator) stop(farewell func()) error {
	c.mu.Lock()
	if done := c.stopped; done != nil {
		c.mu.Unlock()
		<-done
		return c.stopErr
	}
	done := make(chan struct{})
	c.stopped = done
	c.mu.Unlock()
	if farewell != nil && c.ctx.Err() == nil {
		farewell()
	}
	c.cancel(ErrClosed)
	c.root.close(ErrClosed)
	c.wg.Wait()
	for _, g := range c.mounted.all() {
		g.close(ErrClosed)
	}
	c.stopErr = c.host.Close()
	if farewell != nil && c.stopErr == nil {
		c.stopErr = c.disk.seal(c.groups())
	}
	c.stopErr = errors.Join(c.stopErr, c.disk.close())
	close(done)
	return c.stopErr
}

// closeSessions closes the sessions of this process, all at once. It gives up when
// there is no contact with a quorum: nobody would answer.
func (c *Coordinator) closeSessions(ctx context.Context) {
	if c.root.suspended() {
		return
	}
	c.root.points.Hit(failpoint.SessionClose)
	ctx, cancel := context.WithCancelCause(ctx)
	var watching, closing sync.WaitGroup
	watching.Go(func() {
		c.root.awaitSuspended(ctx)
		cancel(ErrSuspended)
	})
	defer watching.Wait()
	defer cancel(nil)
	for _, s := range c.root.ownSessions() {
		closing.Go(func() {
			if err := s.close(ctx); err != nil {
				c.log.Warn("session not closed", slog.String("session", s.id.String()), slog.Any("err", err))
			}
		})
	}
	closing.Wait()
}

// leaveEnsemble removes a member whose directory ends with it.
func (c *Coordinator) leaveEnsemble(ctx context.Context) {
	if c.disk.throwaway == "" || c.root.suspended() {
		return
	}
	if _, err := c.Reconfigure(ctx, Reconfiguration{Remove: []MemberID{c.cfg.ID}}); err != nil {
		c.log.Warn("not removed from the ensemble, which it is left to", slog.Any("err", err))
	}
}

// start starts the goroutines of the group.
func (g *group) start(cfg *Config) {
	g.spawn(g.proposer.run)
	g.spawn(newReaper(g, cfg).run)
	g.spawn(g.runDeadlines)
	if g.parent == nil {
		g.spawn(g.hub.run)
	}
}

// close ends the group and waits for its goroutines.
func (g *group) close(err error) {
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	if g.parent == nil {
		g.hub.close(err) // first, so that a watch that ends can say why
	}
	g.cancel(err)
	g.wg.Wait()
}
