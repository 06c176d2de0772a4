package recipes

import (
	"context"
	"errors"
	"fmt"

	"coord"
)

// A Barrier holds up those who wait for it, while it is set. It is one persistent
// znode, and stays set until somebody clears it.
//
// Guarantee: Wait returns when the barrier was clear at some moment after the call,
// and misses no release, however short it was before the next Set.
// Cost: one write for Set. Clear and Wait ask a quorum once, which is no write, and
// Clear writes once if it is set. Waiting costs none.
// Session loss: a barrier belongs to no session and does not end with one. Waits by a
// session end with it.
// Pitfall: who set it may be gone. A barrier that must not outlive its owner is a
// [Lock].
//
// It may be used by any number of goroutines.
type Barrier struct {
	c       coord.Client
	path    string
	foreign bool // any znode at the path is the barrier
	err     error
}

// barrierMark is the data of a barrier's znode, to tell it from other recipes'.
const barrierMark = "barrier"

// NewBarrier returns the barrier at path. It does nothing yet. Its only option is
// [WithLayout] of [CuratorBarrier]: with another one all calls fail with
// [coord.ErrBadArguments].
func NewBarrier(c coord.Client, path string, opts ...Option) *Barrier {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	b := &Barrier{c: c, path: path, foreign: o.layout == CuratorBarrier}
	if o.layout != Coord && !b.foreign || o.value != nil || o.priority != nil || o.weight != nil {
		b.err = fmt.Errorf("%w: a barrier has no option but the layout %q", coord.ErrBadArguments, CuratorBarrier)
	}
	return b
}

// present fails if the barrier cannot be used.
func (b *Barrier) present(ctx context.Context) error {
	if b.err != nil {
		return b.err
	}
	return present(ctx, b.c)
}

// Set sets the barrier. One that is set stays so. Missing parents are made as
// containers. It fails as [coord.Coordinator.Create] does, and with [ErrOtherRecipe] if
// the path is used for something else. After an error that satisfies errors.Is for
// [coord.ErrUnknownOutcome] it may be called again.
func (b *Barrier) Set(ctx context.Context) error {
	if err := b.set(ctx); err != nil {
		return fmt.Errorf("set barrier %s: %w", b.path, err)
	}
	return nil
}

func (b *Barrier) set(ctx context.Context) error {
	if err := b.present(ctx); err != nil {
		return err
	}
	parents := coord.WithContainers()
	if b.foreign {
		parents = coord.WithParents()
	}
	_, _, err := b.c.Create(ctx, b.path, []byte(barrierMark), parents)
	if !errors.Is(err, coord.ErrNodeExists) {
		return err
	}
	v, err := b.c.View(ctx, coord.Linearizable())
	if err != nil {
		return err
	}
	_, _, err = b.look(v) // a barrier that is clear again was set meanwhile
	return err
}

// Clear lets everybody pass. To clear what is clear does nothing. It fails as
// [coord.Coordinator.Delete] does, and with [ErrOtherRecipe] if the path is used for
// something else, which is left alone. After an error that satisfies errors.Is for
// [coord.ErrUnknownOutcome] it may be called again.
func (b *Barrier) Clear(ctx context.Context) error {
	if err := b.clear(ctx); err != nil {
		return fmt.Errorf("clear barrier %s: %w", b.path, err)
	}
	return nil
}

func (b *Barrier) clear(ctx context.Context) error {
	if err := b.present(ctx); err != nil {
		return err
	}
	v, err := b.c.View(ctx, coord.Linearizable())
	if err != nil {
		return err
	}
	stat, isSet, err := b.look(v)
	if err != nil || !isSet {
		return err
	}
	err = b.c.Delete(ctx, b.path, coord.WithCzxid(stat.Czxid))
	if errors.Is(err, coord.ErrNoNode) || errors.Is(err, coord.ErrBadVersion) {
		return nil // somebody else did, and it may be set again already
	}
	return err
}

// Wait returns nil as soon as the barrier is clear. It fails with the cause of ctx,
// with that of the end of the client, with [ErrOtherRecipe] if the path is used for
// something else, and as [coord.Coordinator.View] does.
func (b *Barrier) Wait(ctx context.Context) error {
	if err := b.present(ctx); err != nil {
		return fmt.Errorf("wait for barrier %s: %w", b.path, err)
	}
	var first coord.ZXID
	err := lookUntil(ctx, b.c, coord.Linearizable(), func(v *coord.View) ([]coord.Registration, error) {
		stat, isSet, err := b.look(v)
		if first == 0 {
			first = stat.Czxid
		}
		if err != nil || !isSet || stat.Czxid != first {
			return nil, err // another one: it was clear in between
		}
		return []coord.Registration{{Path: b.path, Type: coord.DataWatcher}}, nil
	})
	if err != nil {
		return fmt.Errorf("wait for barrier %s: %w", b.path, err)
	}
	return nil
}

// look reports whether the barrier is set.
func (b *Barrier) look(v *coord.View) (_ coord.Stat, isSet bool, err error) {
	data, stat, err := v.Get(b.path)
	switch {
	case errors.Is(err, coord.ErrNoNode):
		return coord.Stat{}, false, nil
	case err != nil:
		return coord.Stat{}, false, err
	case !b.foreign && string(data) != barrierMark:
		return coord.Stat{}, false, fmt.Errorf("%w: its data is not that of a barrier", ErrOtherRecipe)
	}
	return stat, true, nil
}
