package sim_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"coord"
)

// maxSession is the longest timeout of a session.
const maxSession = 40 * time.Second

// A session is one liveness, with all the handles that were made on it.
type session struct {
	id      coord.SessionID
	timeout time.Duration
	handles []*handle         // guarded by world.mu
	claims  map[*process]bool // guarded by world.mu; who was asked to resume it
	claimed int               // guarded by world.mu; how often
}

// A handle is one coord.Session.
type handle struct {
	w      *world
	sess   *session
	number int // among those of the session
	p      *process
	s      *coord.Session
	since  coord.ZXID // the session was this handle's by then; 0 if it has never been

	crashed time.Duration // when its process did while it was connected; 0 if not. Set before that

	letGo atomic.Bool  // its user closed it or handed it over
	ended atomic.Int64 // when, as world.now tells it; 0 while it lives
	cause error        // set before ended
}

func (h *handle) String() string {
	return fmt.Sprintf("handle %d of session %v (timeout %v) on member %v", h.number, h.sess.id, h.sess.timeout, h.p.member)
}

// adopt enters a handle, and waits for its end.
func (w *world) adopt(sess *session, p *process, s *coord.Session) *handle {
	h := &handle{w: w, sess: sess, p: p, s: s}
	if v, err := p.c.View(context.Background(), coord.AllowStale()); err == nil && s.Context().Err() == nil {
		h.since = v.ZXID()
	}
	w.mu.Lock()
	if sess.id == 0 {
		sess.id = s.ID()
		w.sessions = append(w.sessions, sess)
	}
	sess.timeout = s.Timeout()
	h.number = len(sess.handles)
	sess.handles = append(sess.handles, h)
	if alive := sess.alive(); len(alive) > 1 {
		w.violate("G17: several handles are alive at once: %v", alive)
	}
	w.mu.Unlock()
	w.trace.add("%v was made", h)
	w.watching.Go(func() {
		<-s.Context().Done()
		h.cause = context.Cause(s.Context())
		h.ended.Store(max(int64(w.now()), 1))
		w.trace.add("%v ended: %v", h, h.cause)
	})
	return h
}

// alive returns the handles that are not over.
func (s *session) alive() []*handle {
	var alive []*handle
	for _, h := range s.handles {
		if h.p.killed.Load() == 0 && h.s.Context().Err() == nil {
			alive = append(alive, h)
		}
	}
	return alive
}

// over reports whether a handle has ended.
func (h *handle) over() bool { return h.ended.Load() != 0 }

// runSessions is one user of sessions: one after another.
func (w *world) runSessions(id int) {
	if !w.joins(uint64(id)) {
		return
	}
	c := w.newClient(id)
	for !w.stopping.Load() {
		c.p = w.any(c.dice)
		if c.p == nil {
			sleep(time.Second)
			continue
		}
		c.session()
		sleep(between(c.dice, 0, 2*time.Second))
	}
}

// session opens a session and lives with it, through its resumes, until its end.
func (c *client) session() {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	s, err := c.p.c.NewSession(ctx, coord.SessionOptions{Timeout: between(c.dice, 0, maxSession)})
	cancel()
	if err != nil {
		return
	}
	h := c.w.adopt(&session{}, c.p, s)
	for h != nil {
		c.sess, c.gen, c.p, c.api = h.sess, h.number, h.p, h.s
		c.live(h)
		h = c.part(h)
	}
}

// live works with a handle for a while.
func (c *client) live(h *handle) {
	until := c.w.now() + between(c.dice, 0, 20*time.Second)
	for c.w.now() < until && !h.over() && !c.w.stopping.Load() {
		if c.dice.IntN(3) == 0 {
			c.act(c.ephemeral)
		} else {
			c.act(c.step)
		}
		sleep(between(c.dice, 0, 2*time.Second))
	}
}

func (c *client) ephemeral() {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	defer cancel()
	q := c.begin(createEphemeral, ephDir)
	path, stat, err := c.api.Create(ctx, ephDir+"/e-", []byte(q.data()), coord.EphemeralSequential)
	if err == nil {
		q.path = path
		if stat.EphemeralOwner != q.sess.id {
			c.w.violate("G9: %v made an ephemeral of session %v", q, stat.EphemeralOwner)
		}
	}
	c.wrote(q, stat, err)
}

// part ends the use of a handle: the session is closed, left to expire, or resumed;
// then the new handle is returned.
func (c *client) part(h *handle) *handle {
	if c.w.stopping.Load() && c.dice.IntN(2) == 0 {
		return nil // it is to live to the end
	}
	switch c.dice.IntN(8) {
	case 0:
		h.letGo.Store(true)
		if err := h.s.Close(); err == nil {
			c.w.trace.add("%v was closed", h)
		}
		return nil
	case 1, 2:
		ctx, cancel := context.WithTimeout(context.Background(), c.patience())
		defer cancel()
		h.letGo.Store(true)
		_ = h.s.HandOver(ctx)
		return c.resume(h)
	case 3:
		if h.over() && h.p.killed.Load() == 0 {
			return nil
		}
	}
	return c.resume(h)
}

// resume takes the session over in some process, which may be the same.
func (c *client) resume(old *handle) *handle {
	for range 3 {
		p := c.w.any(c.dice)
		if p == nil {
			sleep(time.Second)
			continue
		}
		c.w.claim(old.sess, p)
		if c.dice.IntN(4) == 0 {
			c.w.working.Go(func() { c.w.rival(old) })
		}
		ctx, cancel := context.WithTimeout(context.Background(), between(c.dice, 0, 90*time.Second))
		s, err := p.c.Resume(ctx, old.s.Token(), coord.SessionOptions{})
		cancel()
		if err == nil {
			at := c.w.now()
			h := c.w.adopt(old.sess, p, s)
			c.checkTaken(old, h, at)
			c.useOld(old)
			return h
		}
		if errors.Is(err, coord.ErrSessionExpired) {
			return nil
		}
		c.w.checkRefused(old.sess, p, err)
		sleep(between(c.dice, 0, time.Second))
	}
	return nil
}

// claim takes note that a process is asked to resume a session.
func (w *world) claim(s *session, p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.claims == nil {
		s.claims = map[*process]bool{}
	}
	s.claims[p] = true
	s.claimed++
}

// checkRefused checks that nobody is told that another has a session whom nobody else
// has claimed.
func (w *world) checkRefused(s *session, p *process, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, coord.ErrSessionMoved) && s.claimed == 1 {
		w.violate("G17: member %v was refused session %v, which nobody else has claimed: %v", p.member, s.id, err)
	}
}

// rival tries to take a session over, too, and lets go of it at once, or later.
func (w *world) rival(old *handle) {
	dice := w.dice(forRivals + uint64(old.sess.id)<<8 + uint64(old.number))
	sleep(between(dice, 0, 2*time.Second))
	p := w.any(dice)
	if p == nil {
		return
	}
	w.claim(old.sess, p)
	ctx, cancel := context.WithTimeout(context.Background(), between(dice, 0, 60*time.Second))
	defer cancel()
	s, err := p.c.Resume(ctx, old.s.Token(), coord.SessionOptions{})
	if err != nil {
		return
	}
	h := w.adopt(old.sess, p, s)
	sleep(between(dice, 0, 10*time.Second))
	h.letGo.Store(true)
	_ = h.s.HandOver(ctx)
}

// checkTaken checks that a session was not taken from somebody who may rely on it.
func (c *client) checkTaken(old, h *handle, at time.Duration) {
	lived := old.p.killed.Load() == 0 || time.Duration(old.p.killed.Load()) > at
	if old.p == h.p {
		if !old.over() && old.s.Context().Err() == nil {
			c.w.violate("G16: %v is alive though %v has followed it", old, h)
		}
		return
	}
	c.w.mu.Lock()
	mayLetGo := old.letGo.Load() || old.sess.claims[old.p] // a process may take it from itself, and let go
	c.w.mu.Unlock()
	if !lived || mayLetGo {
		return
	}
	// The old process lives: its handle must have ended by itself.
	if old.s.Context().Err() == nil {
		c.w.violate("G17: %v is alive though %v has followed it at %v", old, h, at)
		return
	}
	if cause := context.Cause(old.s.Context()); errors.Is(cause, coord.ErrSessionMoved) {
		c.w.violate("G17: %v was taken by %v from a process that was alive: %v", old, h, cause)
	}
}

// useOld writes through a handle that another has followed.
func (c *client) useOld(old *handle) {
	now := c.p
	c.sess, c.gen, c.p, c.api = old.sess, old.number, old.p, old.s
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	defer cancel()
	q := c.begin(setRegister, register(c.dice.IntN(nRegisters)))
	stat, err := c.api.SetData(ctx, q.path, []byte(q.data()))
	c.wrote(q, stat, err)
	if q.outcome == acked {
		c.w.violate("G16: %v was acknowledged through %v, which another handle has followed", q, old)
	}
	c.p = now
}
