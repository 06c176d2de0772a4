package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"coord"
)

// A Delivery is an item of a [Queue] in the hands of one session. It is settled with
// Ack, Nack or Reject.
//
// Pitfall: one that is not settled stays with its session, and nobody else gets the
// item before that ends.
//
// It may be used by any number of goroutines.
type Delivery[T any] struct {
	Value T

	q          *Queue[T]
	s          *coord.Session
	it         item // without its data
	id         string
	freeOps    []coord.Op // of the id
	deliveries int
	claim      coord.ZXID

	watching sync.Once
	ctx      context.Context // ends with the delivery; made by watching

	mu     sync.Mutex              // a leaf
	ended  error                   // guarded by mu; why, as far as that is known here
	cancel context.CancelCauseFunc // guarded by mu; of ctx, if that is there

	givingUp atomic.Bool   // it is not held any more, whether or not its znode is there
	settling chan struct{} // holds 1: who has it settles
	done     settlement    // guarded by settling
	doing    settlement    // guarded by settling; what unknown was to do
	unknown  *coord.OutcomeError
}

// A settlement is what becomes of an item.
type settlement string

const (
	unsettled    settlement = ""
	acknowledged settlement = "acknowledged"
	givenBack    settlement = "given back"
	rejected     settlement = "rejected"
)

// errSpent says that an item must not be delivered any more.
var errSpent = errors.New("recipes: delivered too often")

// newDelivery prepares to deliver an item. It fails if that cannot be.
func (q *Queue[T]) newDelivery(s *coord.Session, st *stock, it item) (*Delivery[T], error) {
	if q.maxDeliveries > 0 && it.deliveries() >= q.maxDeliveries {
		return nil, errSpent
	}
	value, err := q.decode(it)
	if err != nil {
		return nil, err
	}
	e, _ := parseEntry(it.data)
	d := &Delivery[T]{Value: value, q: q, s: s, it: it, id: e.id, freeOps: st.freeOps(e.id), deliveries: it.deliveries() + 1, settling: make(chan struct{}, 1)}
	d.it.data = nil
	return d, nil
}

// recount counts by the item's stat from when it was taken: behind the view that showed
// it as free, others may have had it. It reports whether it may be delivered once more.
func (d *Delivery[T]) recount(taken coord.Stat) bool {
	missed := int(taken.Cversion/2 - d.it.stat.Cversion/2)
	d.deliveries += missed
	if most := d.q.maxDeliveries; missed == 0 || most == 0 || d.deliveries <= most {
		return true
	}
	d.deliveries-- // this is none
	return false
}

// ID returns the id that the item was put with, or nothing.
func (d *Delivery[T]) ID() string { return d.id }

// Priority returns the priority that the item was put with.
func (d *Delivery[T]) Priority() int { return d.it.priority }

// Deliveries returns how often the item was delivered, this time included, since it was
// put, or put back.
func (d *Delivery[T]) Deliveries() int { return d.deliveries }

// Path returns the path of the item.
func (d *Delivery[T]) Path() string { return d.it.path }

// Session returns the session that d ends with.
func (d *Delivery[T]) Session() *coord.Session { return d.s }

// Fence returns the czxid of the znode that stands for d: a number that is larger for
// each later delivery of the queue, so of the same item as well. Show it to resources
// that are not in the tree, and have them refuse a smaller one than they have seen.
func (d *Delivery[T]) Fence() coord.ZXID { return d.claim }

// Guard returns an operation that makes a Multi fail with [coord.ErrNoNode] or
// [coord.ErrBadVersion] unless d is held at that moment.
func (d *Delivery[T]) Guard() coord.Op {
	return coord.CheckOp(d.it.claimPath(), coord.WithCzxid(d.claim))
}

// AckOps returns the operations that acknowledge d as a part of a Multi, which fails with
// [coord.ErrNoNode] or [coord.ErrBadVersion] unless d is held at that moment. That
// of several deliveries may be in one Multi. [Delivery.Ack] is the simpler way for one.
func (d *Delivery[T]) AckOps() []coord.Op {
	return append([]coord.Op{d.releaseOp(), d.it.deleteOp()}, d.freeOps...)
}

func (d *Delivery[T]) releaseOp() coord.Op {
	return coord.DeleteOp(d.it.claimPath(), coord.WithCzxid(d.claim))
}

// Ack acknowledges the item, which is out of the queue then, in one write with the
// operations of also: all of it happens or nothing.
//
// It fails with [ErrLost], or the cause of the session's context, if d was not held any
// more, with [ErrSettled] if it was given back or rejected, and with what a Multi fails
// with. d is held after an error unless its Context has ended, and Ack may be called
// again with the same operations: it finds out first what has become of a write that was
// not answered. To acknowledge again does nothing.
func (d *Delivery[T]) Ack(ctx context.Context, also ...coord.Op) error {
	ops := func(context.Context) ([]coord.Op, error) { return append(d.AckOps(), also...), nil }
	if err := d.settle(ctx, acknowledged, ops); err != nil {
		return fmt.Errorf("acknowledge %s: %w", d.it.path, err)
	}
	return nil
}

// Nack gives the item back, to be delivered again when a time has passed, see [Delay],
// or at once: then in its old place, so that it may be the very next one. If it was
// delivered as often as it may be, it becomes a dead letter.
//
// d has ended in any case, before anybody else can have the item. Nack fails as Ack does,
// and is tried again in the background then until the session has ended.
func (d *Delivery[T]) Nack(ctx context.Context, after time.Duration) error {
	ops := func(ctx context.Context) ([]coord.Op, error) { return d.nackOps(ctx, after) }
	if most := d.q.maxDeliveries; most > 0 && d.deliveries >= most {
		ops = d.rejectOps
	}
	if err := d.giveUp(ctx, givenBack, ops); err != nil {
		return fmt.Errorf("give back %s: %w", d.it.path, err)
	}
	return nil
}

// Reject makes the item a dead letter. It fails as Nack does.
func (d *Delivery[T]) Reject(ctx context.Context) error {
	if err := d.giveUp(ctx, rejected, d.rejectOps); err != nil {
		return fmt.Errorf("reject %s: %w", d.it.path, err)
	}
	return nil
}

// look returns the item and what is around it. It fails if d is not held any more.
func (d *Delivery[T]) look(ctx context.Context) (*stock, item, error) {
	s, err := d.q.look(ctx, d.s, coord.AllowStale())
	if err != nil {
		return nil, item{}, err
	}
	it := d.it
	if it.data, it.stat, err = s.v.Get(it.path); err != nil || it.stat.Czxid != d.it.stat.Czxid {
		return nil, item{}, lossOf(d.s)
	}
	return s, it, nil
}

// nackOps returns the operations that give the item back. One with a delay gets a new
// name, so what the tree has counted is written down.
func (d *Delivery[T]) nackOps(ctx context.Context, after time.Duration) ([]coord.Op, error) {
	if after <= 0 {
		return []coord.Op{d.releaseOp()}, nil
	}
	s, it, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	e, err := parseEntry(it.data)
	if err != nil {
		return nil, err
	}
	e.deliveries = d.deliveries
	it.data, it.dueMS = e.data(), dueIn(after)
	return append([]coord.Op{d.releaseOp(), it.deleteOp()}, s.delayOps(it)...), nil
}

func (d *Delivery[T]) rejectOps(ctx context.Context) ([]coord.Op, error) {
	s, it, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	return append([]coord.Op{d.releaseOp()}, s.buryOps(it, d.deliveries)...), nil
}

// giveUp settles, and goes on in the background with what is not answered.
func (d *Delivery[T]) giveUp(ctx context.Context, to settlement, ops func(context.Context) ([]coord.Op, error)) error {
	d.givingUp.Store(true)
	d.end(ErrSettled)
	err := d.settle(ctx, to, ops)
	if err == nil || d.over(err) {
		return err
	}
	go func() {
		for wait := retryPause; pause(d.s.Context(), wait); wait = min(2*wait, maxLeavePause) {
			if err := d.settle(d.s.Context(), to, ops); err == nil || d.over(err) {
				return
			}
		}
	}()
	return err
}

// over reports whether to settle again would fail with the same error.
func (d *Delivery[T]) over(err error) bool {
	return errors.Is(err, ErrLost) || errors.Is(err, ErrSettled) || d.s.Context().Err() != nil
}

// settle does what ops returns, once, unless something else has become of the item.
func (d *Delivery[T]) settle(ctx context.Context, to settlement, ops func(context.Context) ([]coord.Op, error)) error {
	select {
	case d.settling <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-d.settling }()
	if err := d.learn(ctx); err != nil {
		return err
	}
	switch {
	case d.done == to:
		return nil
	case d.done != unsettled:
		return fmt.Errorf("%w: it was %s", ErrSettled, d.done)
	case to == acknowledged && d.givingUp.Load():
		return fmt.Errorf("%w: it is being given back", ErrSettled)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	for {
		what, err := ops(ctx)
		if err != nil {
			return err
		}
		_, err = d.s.Multi(ctx, what...)
		if err == nil {
			d.settled(to)
			return nil
		}
		if unknown, ok := errors.AsType[*coord.OutcomeError](err); ok {
			d.doing, d.unknown = to, unknown
			return err
		}
		failed, ok := errors.AsType[*coord.MultiError](err)
		switch {
		case ok && failed.Index == 0 && isGone(err):
			loss := lossOf(d.s)
			d.end(loss)
			return fmt.Errorf("%w: %w", loss, err)
		case ok && to != acknowledged && overtaken(err):
			continue // a directory has come or gone
		}
		return err
	}
}

// learn finds out what has become of a write that was not answered.
func (d *Delivery[T]) learn(ctx context.Context) error {
	if d.unknown == nil {
		return nil
	}
	err := d.unknown.Outcome(ctx)
	if errors.Is(err, coord.ErrUnknownOutcome) {
		return err
	}
	if err == nil {
		d.settled(d.doing)
	}
	d.unknown = nil // it was refused, or is known
	return nil
}

func (d *Delivery[T]) settled(to settlement) {
	d.done = to
	d.end(ErrSettled)
}

// end ends the delivery, if nothing has before.
func (d *Delivery[T]) end(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil {
		return
	}
	d.ended = cause
	if d.cancel != nil {
		d.cancel(cause)
	}
}

// Check returns nil while d is held, by this process's clock and this member's state,
// and otherwise the cause of its end. It asks nobody.
func (d *Delivery[T]) Check() error { return context.Cause(d.Context()) }

// Context ends with d. Its cause is [ErrSettled], [ErrLost] if somebody else has deleted
// the znode that stands for d, that of the session's context, or what keeps this member
// from watching, such as [coord.ErrTooManyWatches]. If nobody interferes, that is before
// the item can be delivered to anybody else: Err, and Done in a select, compare the
// session's clock.
//
// The first call begins to watch; a delivery that is never asked costs no watch.
func (d *Delivery[T]) Context() context.Context {
	d.watching.Do(func() {
		if err := d.watch(d.begin()); err != nil {
			d.end(err)
		}
	})
	return grantContext{d.ctx, d.s}
}

// begin makes the context. Nobody who does not ask has one: it would stay with the session
// when d is acknowledged by a Multi with AckOps.
func (d *Delivery[T]) begin() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil {
		d.ctx, d.cancel = context.WithCancelCause(context.WithoutCancel(d.s.Context()))
		d.cancel(d.ended)
		return d.ctx
	}
	d.ctx, d.cancel = context.WithCancelCause(d.s.Context())
	return d.ctx
}

// watch has the context end when the claim does.
func (d *Delivery[T]) watch(ctx context.Context) error {
	v, err := d.s.View(ctx, coord.AllowStale())
	if err == nil {
		_, err = d.stands(v)
	}
	if err != nil {
		return err
	}
	go func() { d.end(lookUntil(ctx, d.s, coord.AllowStale(), d.stands)) }()
	return nil
}

// stands fails if the claim is not there, and says what to register for to learn that.
func (d *Delivery[T]) stands(v *coord.View) ([]coord.Registration, error) {
	if _, stat, err := v.Get(d.it.claimPath()); err == nil && stat.Czxid == d.claim {
		return []coord.Registration{{Path: d.it.claimPath(), Type: coord.DataWatcher}}, nil
	}
	if _, stat, err := v.Get(d.it.path); err == nil && stat.Czxid == d.it.stat.Czxid {
		return nil, lossOf(d.s)
	}
	return nil, cmp.Or(context.Cause(d.s.Context()), ErrSettled) // in a Multi with AckOps
}
