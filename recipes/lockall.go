package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"coord"
)

// A HeldAll is several locks that one holder has together.
type HeldAll struct {
	all []*Held // in the order that was asked for
	ctx context.Context
}

// LockAll waits until s holds the locks at all the paths, each as by [Lock]. It stands
// in all the lines by one Multi, so that of any two LockAll one is before the other in
// every line, and none waits for another one that waits for it.
//
// Guarantee: as of Lock, for each path.
// Cost: one write, and one to release each, at the same time. Waiting costs none.
// Session loss: the wait fails, or the HeldAll ends, with the cause of the session's
// context.
// Pitfall: who holds one lock and goes on to LockAll may wait for somebody that waits
// for it, as with any two locks.
//
// It fails with [coord.ErrBadArguments] for no paths, or for one path twice, with
// [coord.ErrCrossMount] for paths of which not all are in the same mount, or outside of
// all, and else as Lock does; it holds none then.
func LockAll(ctx context.Context, s *coord.Session, paths []string, opts ...Option) (*HeldAll, error) {
	h, err := lockAll(ctx, s, paths, opts)
	if err != nil {
		return nil, fmt.Errorf("lock all of %q: %w", paths, err)
	}
	return h, nil
}

func lockAll(ctx context.Context, s *coord.Session, paths []string, opts []Option) (*HeldAll, error) {
	sorted := slices.Sorted(slices.Values(paths))
	if len(paths) == 0 || len(slices.Compact(sorted)) < len(paths) {
		return nil, fmt.Errorf("%w: no paths, or one of them twice", coord.ErrBadArguments)
	}
	t, err := lockTicket(false, opts)
	if err != nil {
		return nil, err
	}
	standers, err := t.standInAll(ctx, s, paths)
	if err != nil {
		return nil, err
	}
	h := &HeldAll{}
	wait := ctx // until one that is held already is broken
	for i, stander := range standers {
		held, err := stander.acquire(wait)
		if err != nil {
			over, why := h.firstOver()
			for _, s := range standers[i+1:] {
				_ = s.leave(ctx) // goes on in the background
			}
			_ = h.Release(ctx) // so does this
			return nil, fmt.Errorf("lock %s: %w", paths[over], cmp.Or(why, err))
		}
		h.all = append(h.all, held)
		var unbind func()
		wait, unbind = held.bind(wait) //nolint:fatcontext // it is to end with each of them
		defer unbind()
	}
	h.ctx = h.all[0].Context()
	for _, held := range h.all[1:] {
		h.ctx, _ = held.bind(h.ctx) //nolint:fatcontext // it is to end with each of them
	}
	if over, why := h.firstOver(); why != nil { // it was broken while others were waited for
		_ = h.Release(ctx)
		return nil, fmt.Errorf("lock %s: %w", paths[over], why)
	}
	return h, nil
}

// firstOver returns which one is the first that is not held any more, and why. If all
// are held, it is the one that comes next.
func (h *HeldAll) firstOver() (int, error) {
	for i, held := range h.all {
		if err := held.Check(); err != nil {
			return i, err
		}
	}
	return len(h.all), nil
}

// standInAll puts a contender into each directory, in one write.
func (t ticket) standInAll(ctx context.Context, s *coord.Session, dirs []string) ([]*stander, error) {
	contenders, err := enterAll(ctx, s, dirs, func(v *coord.View) ([]coord.Op, error) {
		var all []coord.Op
		for _, dir := range dirs {
			ops, err := t.standIn(dir)(v)
			if err != nil {
				return nil, fmt.Errorf("lock %s: %w", dir, err)
			}
			all = append(all, ops...)
		}
		return all, nil
	})
	if err != nil {
		return nil, err
	}
	standers := make([]*stander, len(contenders))
	for i, c := range contenders {
		standers[i] = &stander{c, t}
	}
	return standers, nil
}

// Held returns what is held, in the order of the paths that were asked for.
func (h *HeldAll) Held() []*Held { return slices.Clone(h.all) }

// Context ends as soon as one of the locks is not held any more, with its cause; see
// [Held.Context].
func (h *HeldAll) Context() context.Context { return h.ctx }

// Check returns nil while all the locks are held, by this process's clock, and
// otherwise the cause of the end. It asks nobody.
func (h *HeldAll) Check() error { return context.Cause(h.ctx) }

// Guards returns operations that make a Multi fail unless all the locks are held at
// that moment, see [Held.Guard].
func (h *HeldAll) Guards() []coord.Op {
	guards := make([]coord.Op, len(h.all))
	for i, held := range h.all {
		guards[i] = held.Guard()
	}
	return guards
}

// Release gives all the locks back, as [Held.Release] does, at the same time.
func (h *HeldAll) Release(ctx context.Context) error {
	errs := make([]error, len(h.all))
	var wg sync.WaitGroup
	for i, held := range h.all {
		wg.Go(func() { errs[i] = held.Release(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
