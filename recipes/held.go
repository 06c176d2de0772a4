package recipes

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"coord"
)

// A Held is something that one holder has and others wait for. It is granted by a
// recipe and ends when it is released, when its session ends, and when somebody
// deletes its znode.
//
// It outlives the context that it was asked for with: that bounds the wait alone.
//
// Pitfall: it ends with the handle of its session, its znode with the session itself.
// A session that is handed over or resumed keeps the znode, which others wait for and
// nobody holds: release before [coord.Session.HandOver], and let who resumes a session
// whose process has crashed delete what [coord.Session.Ephemerals] finds.
type Held struct {
	c      *contender
	family *family
	ctx    context.Context // ends with the Held, or when the session's own does
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when guardZnode has returned

	asked   chan struct{} // closed when somebody has asked for a release
	askedOf sync.Once

	releasing atomic.Bool   // by the first Release
	gone      chan struct{} // closed when it is given back
}

// newHeld hands out what a contender has got.
func newHeld(c *contender, f *family) *Held {
	h := &Held{c: c, family: f, done: make(chan struct{}), asked: make(chan struct{}), gone: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancelCause(c.s.Context())
	go h.guardZnode()
	return h
}

// guardZnode ends h when its znode is deleted, and tells of what is written into it.
// Until it returns, the contender is its own.
func (h *Held) guardZnode() {
	defer close(h.done)
	defer func() { h.c.set.Close() }() // of the set that is the last one by then
	for {
		if err := h.read(); err != nil {
			h.cancel(err)
			return
		}
		select {
		case <-h.c.set.Changed():
		case <-h.ctx.Done():
			return
		}
	}
}

// read fails if the znode is gone, and registers for changes of it.
func (h *Held) read() error {
	return h.c.register(h.ctx, func(v *coord.View) ([]string, error) {
		if data, _, err := v.Get(h.c.path); err == nil && parseNote(data).revoked {
			h.askedOf.Do(func() { close(h.asked) })
		}
		return nil, nil
	})
}

// Context ends with h. Its cause is [ErrReleased], [ErrLost], that of the session's
// context, or what keeps this member from watching the znode: behind a change of it,
// [coord.ErrTooManyWatches]. If nobody interferes, that is before anyone else can be granted
// the same: Err, and Done in a select, compare the session's clock. Who breaks a
// grant by deleting its znode does not wait for the holder: guard what must not
// happen then.
func (h *Held) Context() context.Context { return grantContext{h.ctx, h.c.s} }

// Check returns nil while h is held, by this process's clock, and otherwise the
// cause of its end. It asks nobody.
func (h *Held) Check() error { return context.Cause(h.Context()) }

// Fence returns the czxid of the znode that stands for the grant: a number that is
// larger for each later grant of the same path. Show it to resources that are not in
// the tree, and have them refuse a smaller one than they have seen.
func (h *Held) Fence() coord.ZXID { return h.c.czxid }

// Guard returns an operation that makes a Multi fail with [coord.ErrNoNode] or
// [coord.ErrBadVersion] unless h is held at that moment. It is exact, whatever this
// process's clock says and however long it was paused.
func (h *Held) Guard() coord.Op { return coord.CheckOp(h.c.path, coord.WithCzxid(h.c.czxid)) }

// Path returns the path of the znode that stands for the grant.
func (h *Held) Path() string { return h.c.path }

// Session returns the session that h ends with.
func (h *Held) Session() *coord.Session { return h.c.s }

// SetValue replaces what was said with [WithValue]. It costs one write, and wakes the
// waiter behind h. It fails with [coord.ErrBadArguments] if the value begins with
// "__REVOKE__" or "__SHARED__", and as [coord.Session.SetData] does, with
// [coord.ErrNoNode] or [coord.ErrBadVersion] when the znode is gone.
func (h *Held) SetValue(ctx context.Context, value []byte) error {
	if err := checkValue(value); err != nil {
		return err
	}
	return h.c.rewrite(ctx, func(n note) note { n.value = value; return n })
}

// ReleaseRequested returns a channel that is closed when somebody has asked for a release, see
// [RequestRelease]. It costs the holder nothing to ignore that; who asked may go on to
// [Break].
func (h *Held) ReleaseRequested() <-chan struct{} { return h.asked }

// Release gives back what is held, in one write. If the ensemble does not answer
// before ctx ends, Release returns why and goes on in the background until it has
// succeeded or the session has ended: h is over in any case. That is also what comes
// of a ctx that is derived from h's own Context. With a session that has ended there
// is nothing to give back, and Release returns nil. Further calls wait until it is given
// back, as long as their own ctx allows.
func (h *Held) Release(ctx context.Context) error {
	if h.releasing.CompareAndSwap(false, true) {
		return h.release(ctx)
	}
	select {
	case <-h.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *Held) release(ctx context.Context) error {
	h.cancel(ErrReleased)
	<-h.done
	err := h.c.remove(ctx)
	if err != nil && h.c.s.Context().Err() == nil {
		go func() {
			defer close(h.gone)
			h.c.removeInBackground()
		}()
		return err
	}
	close(h.gone) // or it ends with the session
	return nil
}

// bind returns a context with the values and the end of ctx, that also ends with h.
func (h *Held) bind(ctx context.Context) (_ context.Context, unbind func()) {
	both, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(h.ctx, func() { cancel(context.Cause(h.ctx)) })
	return boundContext{both, ctx, h, cancel}, func() { stop(); cancel(context.Canceled) }
}

// A grantContext is the context of what a session was granted. Its methods look at the
// session's clock first, which ends it if the time is up.
type grantContext struct {
	ctx context.Context
	s   *coord.Session
}

func (c grantContext) look() context.Context {
	_ = c.s.Context().Err()
	return c.ctx
}

// Deadline implements [context.Context]. It moves, so there is none to tell.
func (c grantContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements [context.Context].
func (c grantContext) Done() <-chan struct{} { return c.look().Done() }

// Err implements [context.Context].
func (c grantContext) Err() error { return c.look().Err() }

// Value implements [context.Context].
func (c grantContext) Value(key any) any { return c.look().Value(key) }

// A boundContext also ends with a Held. It asks both where it comes from, which may
// compare clocks, before it answers.
type boundContext struct {
	context.Context

	parent context.Context
	h      *Held
	cancel context.CancelCauseFunc
}

func (c boundContext) look() context.Context {
	_ = c.parent.Err()
	if err := c.h.Check(); err != nil {
		c.cancel(err)
	}
	return c.Context
}

// Done implements [context.Context].
func (c boundContext) Done() <-chan struct{} { return c.look().Done() }

// Err implements [context.Context].
func (c boundContext) Err() error { return c.look().Err() }

// Value implements [context.Context].
func (c boundContext) Value(key any) any { return c.look().Value(key) }
