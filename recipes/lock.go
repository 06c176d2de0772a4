package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"coord"
)

// An Option is an option of a recipe that hands out a [Held].
type Option func(*options)

type options struct{ value []byte }

// WithValue puts data into the contender's znode, for others to see who it is.
func WithValue(value []byte) Option { return func(o *options) { o.value = value } }

func optionsOf(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Lock waits until s holds the lock at path, in the order of arrival.
//
// Guarantee: of all that were granted the lock at path, at most one is Held at a
// time, by the clocks of their processes.
// Cost: one write, and one to release. Waiting costs none, and a release wakes one
// waiter.
// Session loss: the wait fails, or the Held ends, with the cause of the session's
// context.
// Pitfall: the lock is not reentrant: who locks twice waits for itself.
//
// It fails with the cause of ctx; at once with [coord.ErrSuspended] while this member
// has no contact with a quorum, but not any more once it waits; with what else reads
// and writes fail with; with [coord.ErrTooManyWatches]; with [ErrLost] if somebody
// deletes the waiter's znode; and with [ErrOtherRecipe] if the directory at path is
// used for something else. What it has left behind is then deleted in the background,
// or ends with the session.
func Lock(ctx context.Context, s *coord.Session, path string, opts ...Option) (*Held, error) {
	h, err := acquire(ctx, s, path, kindLock, opts)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return h, nil
}

// TryLock is Lock for those who do not want to wait: it fails with [ErrTaken] if
// somebody else holds the lock or waits for it, or did so a moment ago as this member
// sees it. It has then cost no write, unless several try at once: of those at most one
// gets the lock, and each of the others has made a znode and deleted it again.
func TryLock(ctx context.Context, s *coord.Session, path string, opts ...Option) (*Held, error) {
	h, err := tryAcquire(ctx, s, path, kindLock, opts)
	if err != nil {
		return nil, fmt.Errorf("try to lock %s: %w", path, err)
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

// acquire contends and waits.
func acquire(ctx context.Context, s *coord.Session, path string, k kind, opts []Option) (*Held, error) {
	if _, err := survey(ctx, s, path, k); err != nil {
		return nil, err
	}
	c, err := enter(ctx, s, path, k, optionsOf(opts).value)
	if err != nil {
		return nil, err
	}
	if err := c.await(ctx); err != nil {
		_ = c.leave(ctx) // goes on in the background
		return nil, err
	}
	return newHeld(c), nil
}

// tryAcquire contends only if it looks as if nobody else did, and does not wait.
func tryAcquire(ctx context.Context, s *coord.Session, path string, k kind, opts []Option) (*Held, error) {
	v, err := survey(ctx, s, path, k)
	if err != nil {
		return nil, err
	}
	first, err := firstContender(v, path, k)
	if first != nil || errors.Is(err, coord.ErrNoAuth) { // of a contender: the directory can be read
		return nil, ErrTaken
	}
	if err != nil {
		return nil, err
	}
	c, err := enter(ctx, s, path, k, optionsOf(opts).value)
	if err != nil {
		return nil, err
	}
	granted, err := c.isFirst(ctx)
	if !granted || err != nil {
		_ = c.leave(ctx) // goes on in the background
		return nil, cmp.Or(err, ErrTaken)
	}
	return newHeld(c), nil
}

// survey looks at a directory before anything is written.
func survey(ctx context.Context, s *coord.Session, path string, k kind) (*coord.View, error) {
	if s == nil {
		return nil, coord.ErrSessionExpired
	}
	v, err := s.View(ctx)
	if err != nil {
		return nil, err
	}
	return v, checkDirectory(v, path, k)
}
