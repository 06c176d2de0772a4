package recipes

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"coord"
)

// A Counter is a number that many add to. It is one persistent znode that holds it in
// decimal; while there is none it is zero.
//
// Guarantee: each Add happens exactly once or not at all, and no two see the same sum
// unless something was taken away in between.
// Cost: one write for each Add, at any number of them at once. Get is a read of this
// member.
// Session loss: a counter belongs to no session. See [coord.ErrUnknownOutcome] for an
// Add that is not answered.
// Pitfall: to add again after [coord.ErrUnknownOutcome] may count twice; ask
// [coord.OutcomeError.Results] first.
//
// It may be used by any number of goroutines.
type Counter struct {
	c    coord.Client
	path string
}

// NewCounter returns the counter at path. It does nothing yet.
func NewCounter(c coord.Client, path string) *Counter { return &Counter{c: c, path: path} }

// Add adds delta, which may be negative, and returns the sum. Missing parents are made,
// persistent. It fails with [coord.ErrOverflow] if the sum would leave the range of an
// int64, which changes nothing, with [ErrOtherRecipe] if the path is used for something
// else, and as [coord.Coordinator.Add] does.
func (n *Counter) Add(ctx context.Context, delta int64) (int64, error) {
	sum, err := n.add(ctx, delta)
	if err != nil {
		return 0, fmt.Errorf("add to counter %s: %w", n.path, err)
	}
	return sum, nil
}

func (n *Counter) add(ctx context.Context, delta int64) (int64, error) {
	if err := present(ctx, n.c); err != nil {
		return 0, err
	}
	how := coord.AllowStale()
	for {
		v, err := n.c.View(ctx, how)
		if err != nil {
			return 0, err
		}
		_, there, err := n.look(v)
		if err != nil {
			return 0, err
		}
		sum := delta
		if there {
			sum, _, err = n.c.Add(ctx, n.path, delta)
		} else {
			_, _, err = n.c.Create(ctx, n.path, strconv.AppendInt(nil, delta, 10), coord.WithParents())
		}
		switch {
		case err == nil:
			return sum, nil
		case errors.Is(err, coord.ErrNotANumber):
			return 0, fmt.Errorf("%w: %w", ErrOtherRecipe, err)
		case there && errors.Is(err, coord.ErrNoNode), !there && errors.Is(err, coord.ErrNodeExists):
			how = coord.Linearizable() // this member is behind
		default:
			return 0, err
		}
	}
}

// Get returns the sum as the local member sees it, unless an option says
// [coord.Linearizable]. It fails with [ErrOtherRecipe] if the path is used for
// something else, and as [coord.Coordinator.View] does.
func (n *Counter) Get(ctx context.Context, opts ...coord.ReadOption) (int64, error) {
	sum, err := n.get(ctx, opts)
	if err != nil {
		return 0, fmt.Errorf("get counter %s: %w", n.path, err)
	}
	return sum, nil
}

func (n *Counter) get(ctx context.Context, opts []coord.ReadOption) (int64, error) {
	if err := present(ctx, n.c); err != nil {
		return 0, err
	}
	v, err := n.c.View(ctx, opts...)
	if err != nil {
		return 0, err
	}
	sum, _, err := n.look(v)
	return sum, err
}

// look returns the sum and whether there is a znode. One without a number is another
// recipe's: its directory may be a container, which vanishes.
func (n *Counter) look(v *coord.View) (sum int64, there bool, err error) {
	data, stat, err := v.Get(n.path)
	if errors.Is(err, coord.ErrNoNode) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	sum, err = strconv.ParseInt(string(data), 10, 64)
	if err != nil || stat.EphemeralOwner != 0 {
		return 0, false, fmt.Errorf("%w: its data is not that of a counter", ErrOtherRecipe)
	}
	return sum, true, nil
}

// IDs hands out numbers that nobody else gets. It reserves them in blocks from a
// [Counter], of which each process may have its own IDs.
//
// Guarantee: no number is handed out twice, by all IDs of one path together, and those
// of one IDs grow. The first is 1.
// Cost: one write for each block.
// Session loss: none; see Counter.
// Pitfall: there are gaps, and no order between processes. What is left of a block is
// lost when the process ends, and a whole block when a write is not answered. Whoever
// sets the counter back, deletes it, or adds to it what is negative has numbers handed
// out again.
//
// It may be used by any number of goroutines.
type IDs struct {
	n     *Counter
	block int64

	reserving chan struct{} // holds 1: who has it reserves a block

	mu         sync.Mutex // a leaf
	next, last int64      // guarded by mu; what is left of the block, empty if next > last
}

// NewIDs returns numbers from the counter at path, reserved block at a time. It does
// nothing yet.
func NewIDs(c coord.Client, path string, block int64) *IDs {
	return &IDs{n: NewCounter(c, path), block: block, reserving: make(chan struct{}, 1), next: 1}
}

// Next returns a number. It fails with [coord.ErrBadArguments] if the block is not
// positive, with [coord.ErrOverflow] when there are no more, and as [Counter.Add] does
// when a block is to be reserved; it may be called again after any error. ctx ends only
// this call: others that wait for the same block go on.
func (d *IDs) Next(ctx context.Context) (int64, error) {
	id, err := d.get(ctx)
	if err != nil {
		return 0, fmt.Errorf("next id of %s: %w", d.n.path, err)
	}
	return id, nil
}

func (d *IDs) get(ctx context.Context) (int64, error) {
	if d.block < 1 {
		return 0, fmt.Errorf("%w: a block of %d", coord.ErrBadArguments, d.block)
	}
	if err := present(ctx, d.n.c); err != nil {
		return 0, err
	}
	for {
		if id, ok := d.take(); ok {
			return id, nil
		}
		if err := d.reserve(ctx); err != nil {
			return 0, err
		}
	}
}

// take takes a number from the block.
func (d *IDs) take() (id int64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next > d.last {
		return 0, false
	}
	id = d.next
	if id == d.last {
		d.next, d.last = 1, 0 // the next number may not exist
		return id, true
	}
	d.next++
	return id, true
}

// reserve reserves a block, unless somebody has while it waited for its turn.
func (d *IDs) reserve(ctx context.Context) error {
	select {
	case d.reserving <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-d.reserving }()
	d.mu.Lock()
	left := d.next <= d.last
	d.mu.Unlock()
	if left {
		return nil
	}
	sum, err := d.n.add(ctx, d.block)
	if err != nil {
		return err
	}
	if sum < d.block {
		return fmt.Errorf("%w: the counter is at %d and was negative", coord.ErrBadArguments, sum)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next, d.last = sum-d.block+1, sum
	return nil
}
