package recipes

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"coord"
)

// A ForeignQueue is a queue of another library, for items that are put by programs
// with one library and taken by programs with the other. It can do what theirs can;
// among programs of coord a [Queue] can do more.
//
// Guarantee: an item is taken by at most one taker.
// Cost: one write to put and one to take. Waiting costs none, but a put wakes all who
// wait in coord, and each but one of them writes in vain.
// Session loss: none; items belong to no session.
// Pitfall: to take is to delete. An item whose taker ends before it has done its work
// is lost, and so may be one whose Take was not answered.
//
// It may be used by any number of goroutines.
type ForeignQueue struct {
	c      coord.Client
	path   string
	prefix string // of names
	ranked bool   // names have a priority
	err    error
}

// The default priority of kazoo, and its bounds.
const (
	KazooPriority    = 100
	maxKazooPriority = 999
)

// NewForeignQueue returns the queue at path, in the layout [KazooQueue] or
// [CuratorSimpleQueue]; with another one, all calls fail with [coord.ErrBadArguments]. It
// does nothing yet.
func NewForeignQueue(c coord.Client, path string, l Layout) *ForeignQueue {
	q := &ForeignQueue{c: c, path: path, ranked: l == KazooQueue}
	q.prefix = map[Layout]string{KazooQueue: "entry-", CuratorSimpleQueue: "qn-"}[l]
	if q.prefix == "" {
		q.err = fmt.Errorf("%w: a queue has no layout %q", coord.ErrBadArguments, l)
	}
	return q
}

// Put adds an item. Of a queue of kazoo those of a smaller priority come first: 0 to
// 999, and [KazooPriority] where that is not said; of Curator's it is always 0. The
// directory is made if it is missing, persistent. Put fails with
// [coord.ErrBadArguments] for another priority, and as [coord.Coordinator.Create] does;
// with [coord.ErrUnknownOutcome] the item may be in the queue.
func (q *ForeignQueue) Put(ctx context.Context, item []byte, priority int) error {
	if err := q.put(ctx, item, priority); err != nil {
		return fmt.Errorf("put into the queue %s: %w", q.path, err)
	}
	return nil
}

func (q *ForeignQueue) put(ctx context.Context, item []byte, priority int) error {
	if err := q.present(ctx); err != nil {
		return err
	}
	name, most := q.prefix, 0
	if q.ranked {
		name, most = fmt.Sprintf("%s%03d-", q.prefix, priority), maxKazooPriority
	}
	if priority < 0 || priority > most {
		return fmt.Errorf("%w: a priority of %d, which is not in 0 to %d", coord.ErrBadArguments, priority, most)
	}
	v, err := q.c.View(ctx, coord.AllowStale())
	if err != nil {
		return err
	}
	if err := q.check(v); err != nil {
		return err
	}
	_, _, err = q.c.Create(ctx, join(q.path, name), item, coord.PersistentSequential, coord.WithParents())
	return err
}

// Take waits for an item and takes it: the first one, by the order of the names. It
// fails with the cause of ctx, with that of the end of the client, and as
// [coord.Coordinator.Delete] does; with [coord.ErrUnknownOutcome] an item may be lost.
func (q *ForeignQueue) Take(ctx context.Context) ([]byte, error) {
	var item []byte
	err := q.present(ctx)
	if err == nil {
		err = q.take(ctx, &item)
	}
	if err != nil {
		return nil, fmt.Errorf("take from the queue %s: %w", q.path, err)
	}
	return item, nil
}

func (q *ForeignQueue) take(ctx context.Context, item *[]byte) error {
	for how := coord.AllowStale(); ; how = coord.Linearizable() {
		var first coord.Znode
		err := lookUntil(ctx, q.c, how, func(v *coord.View) (_ []coord.Registration, err error) {
			if first, err = q.first(v); err != nil || first.Path != "" {
				return nil, err
			}
			return []coord.Registration{{Path: q.path, Type: coord.DataWatcher}, {Path: q.path, Type: coord.ChildrenWatcher}}, nil
		})
		if err != nil {
			return err
		}
		err = q.c.Delete(ctx, first.Path, coord.WithCzxid(first.Stat.Czxid))
		if err == nil {
			*item = bytes.Clone(first.Data) // the tree keeps its own
		}
		if !isGone(err) { // by another taker
			return err
		}
	}
}

// first returns the item that is to be taken next, if there is one.
func (q *ForeignQueue) first(v *coord.View) (coord.Znode, error) {
	if err := q.check(v); err != nil {
		return coord.Znode{}, err
	}
	for name := range v.ChildrenAfter(q.path, "") {
		if !strings.HasPrefix(name, q.prefix) {
			continue // to Curator no item; kazoo would take it for one
		}
		path := join(q.path, name)
		data, stat, err := v.Get(path)
		return coord.Znode{Path: path, Data: data, Stat: stat}, err
	}
	return coord.Znode{}, nil
}

// check fails if the path is used by another recipe, or may not be read.
func (q *ForeignQueue) check(v *coord.View) error {
	return checkDirectory(v, q.path, &family{recipe: "foreign queue"})
}

func (q *ForeignQueue) present(ctx context.Context) error {
	if q.err != nil {
		return q.err
	}
	if err := present(ctx, q.c); err != nil {
		return err
	}
	if !coord.ValidPath(q.path) {
		return fmt.Errorf("%w: %q is no path", coord.ErrBadArguments, q.path)
	}
	return nil
}
