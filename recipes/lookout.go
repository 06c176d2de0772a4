package recipes

import (
	"context"
	"errors"
	"fmt"
	"math"

	"coord"
)

// A lookout looks at views of a client, one after the other, and waits in between
// for what it registered for. It has no goroutine, and a view and what is registered
// behind it leave no gap.
type lookout struct {
	c   coord.Client
	set *coord.WatchSet
}

// lookUntil has decide look at views of c until it wants no registrations any more
// or fails. The first view is read as how says; the later ones are those of this member,
// which needs no quorum for them.
func lookUntil(ctx context.Context, c coord.Client, how coord.ReadOption, decide func(v *coord.View) ([]coord.Registration, error)) error {
	l := &lookout{c: c}
	defer l.close()
	for {
		waits, err := l.next(ctx, how, decide)
		if err != nil || !waits {
			return err
		}
		if err := l.wait(ctx); err != nil {
			return err
		}
		how = coord.AllowStale()
	}
}

func (l *lookout) close() {
	if l.set != nil {
		l.set.Close()
	}
}

// next has decide look at a view, and registers behind it for what decide returns.
// It reports whether there was anything to register for.
func (l *lookout) next(ctx context.Context, how coord.ReadOption, decide func(v *coord.View) ([]coord.Registration, error)) (waits bool, err error) {
	for {
		if err := l.renew(ctx); err != nil {
			return false, err
		}
		v, err := l.c.View(ctx, how)
		if err != nil {
			return false, err
		}
		regs, err := decide(v)
		if err != nil || len(regs) == 0 {
			return false, err
		}
		if err := l.set.Add(v, regs...); !skipped(err) {
			return err == nil, err
		}
	}
}

// changed receives when there may be news.
func (l *lookout) changed() <-chan struct{} {
	if l.set == nil {
		return nil
	}
	return l.set.Changed()
}

// renew makes a set, or a new one if this member or the set skipped changes.
func (l *lookout) renew(ctx context.Context) (err error) {
	if l.set != nil {
		if _, err = l.set.Take(math.MaxUint64); err == nil || !skipped(err) {
			return err
		}
		l.set.Close()
	}
	l.set, err = l.c.NewWatchSet(ctx)
	return err
}

// skipped reports whether an error of a set says that what is there must be looked at
// anew.
func skipped(err error) bool {
	_, overrun := errors.AsType[*coord.OverrunError](err)
	return overrun || isCompacted(err)
}

// wait returns when there may be news. It fails with the cause of ctx, or of the end
// of the client.
func (l *lookout) wait(ctx context.Context) error {
	life := lifeOf(l.c)
	select {
	case <-l.changed():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-life.Done():
		return context.Cause(life)
	}
}

// lifeOf returns the context that a client ends with, if it has one. A set does not
// end with it.
func lifeOf(c coord.Client) context.Context {
	if c, ok := c.(interface{ Context() context.Context }); ok {
		return c.Context()
	}
	return context.Background()
}

// present fails if there is no client, or no time left.
func present(ctx context.Context, c coord.Client) error {
	switch c := c.(type) {
	case nil:
		return fmt.Errorf("%w: no client", coord.ErrBadArguments)
	case *coord.Session:
		if c == nil {
			return coord.ErrSessionExpired
		}
	case *coord.Coordinator:
		if c == nil {
			return coord.ErrClosed
		}
	}
	return context.Cause(ctx)
}
