package recipes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"coord"
)

// Errors of queues. [ErrFull] is one as well.
var (
	// ErrEmpty is returned when there is nothing to take at once.
	ErrEmpty = errors.New("recipes: nothing to take")
	// ErrSameID is returned by a Put with the id of an item that is in the queue.
	ErrSameID = errors.New("recipes: an item of this id is in the queue")
	// ErrSettled ends a Delivery that was acknowledged or given back.
	ErrSettled = errors.New("recipes: acknowledged or given back")
)

// A Queue hands each of its items to one taker at a time, until one of them
// acknowledges it.
//
// Guarantee: an item whose Put was acknowledged is in the queue until it is
// acknowledged or discarded, and at any time at most one session has it. It is
// delivered again if it is given back and if the session of its taker ends, so maybe
// more than once; but only the one that has it can acknowledge it, and [Delivery.Ack]
// together with other writes happens with them or not at all. Items of a larger priority
// come first, those of the same one in the order in which they were put. Takers that
// were in each other's way within the last second may get items of one priority out of
// order, by at most 256 places.
// Cost: one write to put, one to take and one to acknowledge; one more for a taker that
// has to wait or finds another one faster, for an item with a delay and for one that
// dies. Takers wait in a line of which the first alone looks at the items, so a put wakes
// one of all of them.
// Session loss: the session's deliveries end, and their items are delivered to others.
// A taker that waits first in the line without living, because its process hangs, has
// the others wait until its session ends.
// Pitfall: every item is in the memory of every member, and passing over those that are
// being delivered takes time. It is a queue for coordination: up to a hundred thousand
// items that wait, a thousand that are being delivered, and some hundred to a thousand
// a second, as docs/BENCHMARKS.md has measured. Streams of events belong elsewhere.
//
// It may be used by any number of goroutines.
type Queue[T any] struct {
	c     coord.Client
	path  string
	codec coord.Codec[T]
	queueOptions

	shelfSize int32               // shelfSize but in tests
	onWake    func(standing bool) // for tests: a taker has woken up, as the first in the line or because it may be

	mu       sync.Mutex            // a leaf
	claiming map[string]coord.ZXID // guarded by mu; the items that are about to be taken here
	crowd    crowd                 // guarded by mu
}

type queueOptions struct {
	bound         int // 0: none
	maxDeliveries int // 0: any number
}

// A QueueOption is an option of a [Queue].
type QueueOption func(*queueOptions)

// WithBound has Put fail with [ErrFull] when there are n items in the queue: those that
// wait, are delayed or are being delivered, but not the dead ones. The ensemble
// enforces it, in the same write, for each Put by the bound of its own Queue.
func WithBound(n int) QueueOption { return func(o *queueOptions) { o.bound = n } }

// WithMaxDeliveries has an item become a dead letter when it was delivered n times and
// not acknowledged. All takers of a queue should have the same n.
func WithMaxDeliveries(n int) QueueOption { return func(o *queueOptions) { o.maxDeliveries = n } }

// NewQueue returns the queue at path, whose values are written by codec. It does nothing
// yet.
func NewQueue[T any](c coord.Client, path string, codec coord.Codec[T], opts ...QueueOption) *Queue[T] {
	q := &Queue[T]{c: c, path: path, codec: codec, shelfSize: shelfSize, claiming: map[string]coord.ZXID{}}
	for _, opt := range opts {
		opt(&q.queueOptions)
	}
	return q
}

// A PutOption is an option of [Queue.Put].
type PutOption func(*putOptions)

type putOptions struct {
	priority int
	delay    time.Duration
	id       string
	hasID    bool
}

// Priority has an item taken before those of a smaller priority. It is from -1000 to
// 1000, and 0 without this option.
func Priority(p int) PutOption { return func(o *putOptions) { o.priority = p } }

// Delay has an item not taken before d has passed. It is due by the wall clock of this
// process when it is put, in whole milliseconds, and taken when that time has come by
// the wall clock of a taker: if their clocks differ, so does the delay. It has its place
// among the others from then on.
func Delay(d time.Duration) PutOption { return func(o *putOptions) { o.delay = d } }

// ID gives an item a name, of which there is only one in the queue until it is
// acknowledged or discarded: so a Put that is repeated does not put the item twice, as
// long as it is in the queue. It is one element of a path, of at most 1024 bytes.
//
// Pitfall: behind its acknowledgement the name is free, and who repeats a Put that was
// not answered may put an item anew that was done meanwhile. Ask the
// [coord.OutcomeError] first, or acknowledge together with a write that shows what is
// done.
func ID(id string) PutOption { return func(o *putOptions) { o.id, o.hasID = id, true } }

const maxIDBytes = 1024

// Put adds an item. It fails with [ErrFull] and [ErrSameID], which change nothing; with
// [coord.ErrBadArguments]; with [ErrOtherRecipe] if the path is used for something else;
// with the codec's error; and with what reads and writes fail with: with
// [coord.ErrUnknownOutcome] the item may be in the queue, now or soon. What the codec
// makes of the value may have 12 bytes less than a znode's data, and less by the id.
func (q *Queue[T]) Put(ctx context.Context, value T, opts ...PutOption) error {
	if err := q.put(ctx, value, opts); err != nil {
		return fmt.Errorf("put into queue %s: %w", q.path, err)
	}
	return nil
}

func (q *Queue[T]) put(ctx context.Context, value T, opts []PutOption) error {
	var o putOptions
	for _, opt := range opts {
		opt(&o)
	}
	if err := q.present(ctx, q.c); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	data, err := q.codec.Encode(value)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	it := item{priority: o.priority, data: entry{id: o.id, value: data}.data()}
	if o.delay > 0 {
		it.dueMS = dueIn(o.delay)
	}
	_, err = q.write(ctx, func(s *stock) ([]coord.Op, error) { return q.putOps(s, it, o.id) })
	return err
}

func (o *putOptions) check() error {
	if o.priority < -maxPriority || o.priority > maxPriority {
		return fmt.Errorf("%w: a priority of %d, the limits are -%d and %d", coord.ErrBadArguments, o.priority, maxPriority, maxPriority)
	}
	if o.hasID && (o.id == "" || len(o.id) > maxIDBytes || strings.Contains(o.id, "/") || !coord.ValidPath("/"+o.id)) {
		return fmt.Errorf("%w: the id %.64q is not one element of a path of at most %d bytes", coord.ErrBadArguments, o.id, maxIDBytes)
	}
	return nil
}

// dueIn returns the wall clock's time in milliseconds after d, rounded up.
func dueIn(d time.Duration) int64 {
	return time.Now().Add(min(d, math.MaxInt64/4) + time.Millisecond - 1).UnixMilli()
}

// putOps returns the operations that put an item, and its id if it is to be new.
func (q *Queue[T]) putOps(s *stock, it item, id string) ([]coord.Op, error) {
	var ops []coord.Op
	var err error
	if q.bound > 0 {
		dir := s.dir(delayedDir)
		if it.dueMS == 0 {
			dir, _ = s.shelf(q.shelfSize)
		}
		if ops, err = s.roomOps(dir, q.bound); err != nil {
			return nil, err
		}
	}
	if it.dueMS != 0 {
		ops = append(ops, s.delayOps(it)...)
	} else {
		ops = append(ops, s.shelveOps(q.shelfSize, it)...)
	}
	if id == "" {
		return ops, nil
	}
	path := join(s.dir(idsDir), id)
	if s.has(path) {
		return nil, fmt.Errorf("%w: %q", ErrSameID, id)
	}
	if !s.has(s.dir(idsDir)) {
		ops = append(ops, coord.CreateOp(s.dir(idsDir), nil, coord.Container))
	}
	return append(ops, coord.CreateOp(path, nil)), nil
}

// write does what plan makes of a stock. Nobody is refused by a member that may be
// behind, and who was overtaken by others looks again.
func (q *Queue[T]) write(ctx context.Context, plan func(s *stock) ([]coord.Op, error)) ([]coord.OpResult, error) {
	how, anew := coord.AllowStale(), false
	for {
		s, err := q.look(ctx, q.c, how)
		if err != nil {
			return nil, err
		}
		ops, err := plan(s)
		if err != nil && anew {
			return nil, err
		}
		if err == nil {
			results, err := q.c.Multi(ctx, ops...)
			if !overtaken(err) {
				return results, err
			}
		}
		how, anew = coord.Linearizable(), true
	}
}

// look returns the stock as a client sees it.
func (q *Queue[T]) look(ctx context.Context, c coord.Client, opts ...coord.ReadOption) (*stock, error) {
	v, err := c.View(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return stockOf(v, q.path)
}

// present fails if there is no client or no time left, and if the queue cannot be.
func (q *Queue[T]) present(ctx context.Context, c coord.Client) error {
	if err := present(ctx, c); err != nil {
		return err
	}
	switch {
	case q.bound < 0 || q.bound > math.MaxInt32:
		return fmt.Errorf("%w: a bound of %d, the limit is %d", coord.ErrBadArguments, q.bound, math.MaxInt32)
	case q.maxDeliveries < 0:
		return fmt.Errorf("%w: at most %d deliveries", coord.ErrBadArguments, q.maxDeliveries)
	case !coord.ValidPath(q.path):
		return fmt.Errorf("%w: the path %.64q", coord.ErrBadArguments, q.path)
	}
	return nil
}

// Len returns how many items are in the queue: those that wait, are delayed or are
// being delivered, but not the dead ones. What somebody else has put into its
// directories counts as well. It costs the same whatever their number, and fails as
// [coord.Coordinator.View] does.
func (q *Queue[T]) Len(ctx context.Context, opts ...coord.ReadOption) (int, error) {
	n, err := q.length(ctx, opts)
	if err != nil {
		return 0, fmt.Errorf("length of queue %s: %w", q.path, err)
	}
	return n, nil
}

func (q *Queue[T]) length(ctx context.Context, opts []coord.ReadOption) (int, error) {
	if err := q.present(ctx, q.c); err != nil {
		return 0, err
	}
	s, err := q.look(ctx, q.c, opts...)
	if err != nil {
		return 0, err
	}
	n := s.count(s.dir(delayedDir))
	for _, dir := range s.shelves {
		n += s.count(dir)
	}
	return n, nil
}

// Peek returns the value that would be taken next, and leaves it where it is. Delayed
// items are left out until a taker has looked at them. It fails with [ErrEmpty] if there
// is none, with a [*coord.DecodeError] if its data is not the codec's, and as
// [coord.Coordinator.View] does.
func (q *Queue[T]) Peek(ctx context.Context, opts ...coord.ReadOption) (T, error) {
	value, err := q.peek(ctx, opts)
	if err != nil {
		return *new(T), fmt.Errorf("peek into queue %s: %w", q.path, err)
	}
	return value, nil
}

func (q *Queue[T]) peek(ctx context.Context, opts []coord.ReadOption) (T, error) {
	if err := q.present(ctx, q.c); err != nil {
		return *new(T), err
	}
	s, err := q.look(ctx, q.c, opts...)
	if err != nil {
		return *new(T), err
	}
	for it := range s.free() {
		return q.decode(it)
	}
	return *new(T), ErrEmpty
}

// decode decodes the value of an item. A codec that panics must not do so to one taker
// after the other.
func (q *Queue[T]) decode(it item) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the codec panicked: %v", p)
		}
		if err != nil {
			value, err = *new(T), &coord.DecodeError{Path: it.path, Stat: it.stat, Err: err}
		}
	}()
	e, err := parseEntry(it.data)
	if err != nil {
		return value, err
	}
	return q.codec.Decode(bytes.Clone(e.value)) // the tree keeps its own
}
