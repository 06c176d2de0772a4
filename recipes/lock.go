package recipes

import (
	"context"
	"fmt"
	"path"

	"coord"
)

// Lock waits until s holds the lock at path alone, in the order of arrival.
//
// Guarantee: of all that were granted the lock at path by Lock, at most one is Held at
// a time, by the clocks of their processes, and none with one by [RLock].
// Cost: one write, and one to release. Waiting costs none, and a release wakes one
// waiter, or the readers that come next.
// Session loss: the wait fails, or the Held ends, with the cause of the session's
// context.
// Pitfall: the lock is not reentrant: who locks twice waits for itself.
//
// It fails with the cause of ctx; at once with [coord.ErrSuspended] while this member
// has no contact with a quorum, but not any more once it waits; with what else reads
// and writes fail with; with [coord.ErrTooManyWatches]; with [ErrLost] if somebody
// deletes the waiter's znode; with [ErrOtherRecipe] if the directory at path is used
// for something else; and with [coord.ErrBadArguments] for options that it does not
// have. What it has left behind is then deleted in the background, or ends with the
// session.
func Lock(ctx context.Context, s *coord.Session, path string, opts ...Option) (*Held, error) {
	h, err := lock(ctx, s, path, false, opts)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return h, nil
}

// RLock waits until s holds the lock at path together with others that hold it by
// RLock.
//
// Guarantee: none is Held together with one by [Lock], by the clocks of their
// processes. The lock is fair: a reader waits for the writers that came before it, and
// they for the readers that came before them.
// Cost, session loss, errors: as of Lock. A writer's release wakes all readers up to
// the next writer, and a reader's the writer behind it.
// Pitfall: a reader cannot become a writer: two that tried would wait for each other.
// [Held.Downgrade] is the way there is.
func RLock(ctx context.Context, s *coord.Session, path string, opts ...Option) (*Held, error) {
	h, err := lock(ctx, s, path, true, opts)
	if err != nil {
		return nil, fmt.Errorf("lock %s for reading: %w", path, err)
	}
	return h, nil
}

// TryLock is Lock for those who do not want to wait: it fails with [ErrTaken] if
// somebody else holds the lock or waits for it, or did so a moment ago as this member
// sees it. It has then cost no write, unless several try at once: of those at most one
// gets the lock, and each of the others has made a znode and deleted it again.
func TryLock(ctx context.Context, s *coord.Session, path string, opts ...Option) (*Held, error) {
	h, err := tryLock(ctx, s, path, false, opts)
	if err != nil {
		return nil, fmt.Errorf("try to lock %s: %w", path, err)
	}
	return h, nil
}

// TryRLock is RLock as TryLock is Lock: it fails with [ErrTaken] if somebody holds the
// lock alone, or waits to.
func TryRLock(ctx context.Context, s *coord.Session, path string, opts ...Option) (*Held, error) {
	h, err := tryLock(ctx, s, path, true, opts)
	if err != nil {
		return nil, fmt.Errorf("try to lock %s for reading: %w", path, err)
	}
	return h, nil
}

// WithLock calls f while s holds the lock at path, and releases it. f's context has
// the values of ctx and ends with it, or with the Held. WithLock returns the error
// of Lock or of f; a release that is not answered, or that ctx has no time for, goes on
// in the background. If f panics, so does WithLock, having released.
func WithLock(ctx context.Context, s *coord.Session, path string, f func(ctx context.Context, h *Held) error, opts ...Option) error {
	h, err := Lock(ctx, s, path, opts...)
	if err != nil {
		return err
	}
	defer func() { _ = h.Release(ctx) }() // goes on in the background
	bound, unbind := h.bind(ctx)
	defer unbind()
	return f(bound, h)
}

func lock(ctx context.Context, s *coord.Session, path string, shared bool, opts []Option) (*Held, error) {
	t, err := lockTicket(shared, opts)
	if err != nil {
		return nil, err
	}
	return t.acquire(ctx, s, path, t.standIn(path))
}

func tryLock(ctx context.Context, s *coord.Session, path string, shared bool, opts []Option) (*Held, error) {
	t, err := lockTicket(shared, opts)
	if err != nil {
		return nil, err
	}
	return t.tryAcquire(ctx, s, path, t.standIn(path))
}

func lockTicket(shared bool, opts []Option) (ticket, error) {
	t, err := ticketOf("lock", oneOrMany, opts)
	if err == nil && shared && t.family.shared == "" {
		return ticket{}, fmt.Errorf("%w: the layout %q has no readers", coord.ErrBadArguments, t.family.layout)
	}
	t.shared = shared
	return t, err
}

// oneOrMany is the rule of what has one holder, or several that share it. Who shares
// is behind all that do not and came before.
func oneOrMany(l *line, place int) verdict {
	if !l.shares(l.all[place]) {
		return alone(l, place)
	}
	before, ok := l.lastBefore(place, func(e entrant) bool { return !l.shares(e) })
	if !ok {
		return verdict{granted: true}
	}
	return verdict{waitFor: []string{before.path}}
}

// Downgrade has h go on together with readers, see [RLock], without anybody else
// having had it alone in between. It costs one write and wakes who waits behind h. To
// downgrade twice, or what is held by RLock, does nothing.
//
// It fails with the cause of h's end; with [coord.ErrBadArguments] if h is no lock, or
// of a layout that has no such thing; and as [coord.Session.SetData] does, with
// [coord.ErrNoNode] or [coord.ErrBadVersion] when the znode is gone. After an error that
// satisfies errors.Is for [coord.ErrUnknownOutcome] it may be called again.
func (h *Held) Downgrade(ctx context.Context) error {
	if h.family != familyLock {
		return fmt.Errorf("downgrade %s: %w: it is not held by Lock in coord's own layout", h.Path(), coord.ErrBadArguments)
	}
	if err := h.Check(); err != nil {
		return fmt.Errorf("downgrade %s: %w", h.Path(), err)
	}
	if e, ok := h.family.parse(h.c.dir, path.Base(h.Path())); ok && e.shared {
		return nil
	}
	err := h.c.rewrite(ctx, func(n note) note { n.shared = true; return n })
	if err != nil {
		return fmt.Errorf("downgrade %s: %w", h.Path(), err)
	}
	return nil
}
