package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"coord"
)

// A DeadLetter is an item of a [Queue] that is not delivered any more: its data is not
// the codec's, it was delivered too often, or a taker has said so. It keeps its id.
type DeadLetter[T any] struct {
	Value      T
	Err        error // a [*coord.DecodeError] if the data is not the codec's
	ID         string
	Priority   int
	Deliveries int
	Stat       coord.Stat // its Ctime is when it died

	it item
}

// DeadLetters returns the dead letters in the order in which they died. It fails as
// [coord.Coordinator.View] does.
//
// Pitfall: nothing bounds their number but who looks after them.
func (q *Queue[T]) DeadLetters(ctx context.Context, opts ...coord.ReadOption) ([]DeadLetter[T], error) {
	letters, err := q.deadLetters(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("dead letters of queue %s: %w", q.path, err)
	}
	return letters, nil
}

func (q *Queue[T]) deadLetters(ctx context.Context, opts []coord.ReadOption) ([]DeadLetter[T], error) {
	if err := q.present(ctx, q.c); err != nil {
		return nil, err
	}
	s, err := q.look(ctx, q.c, opts...)
	if err != nil {
		return nil, err
	}
	var letters []DeadLetter[T]
	for it := range s.dead() {
		e, _ := parseEntry(it.data)
		l := DeadLetter[T]{ID: e.id, Priority: it.priority, Deliveries: e.deliveries, Stat: it.stat, it: it}
		l.Value, l.Err = q.decode(it)
		letters = append(letters, l)
	}
	slices.SortStableFunc(letters, func(a, b DeadLetter[T]) int { return cmp.Compare(a.Stat.Czxid, b.Stat.Czxid) })
	return letters, nil
}

// PutBack has a dead letter delivered again, behind the others of its priority and as
// if it never had been. It fails with [coord.ErrNoNode] if it is not there any more, and
// as [Queue.Put] does.
func (q *Queue[T]) PutBack(ctx context.Context, l DeadLetter[T]) error {
	err := q.settleDead(ctx, l, func(s *stock) ([]coord.Op, error) {
		it := item{priority: l.it.priority, data: l.it.data}
		if e, err := parseEntry(it.data); err == nil {
			e.deliveries = 0
			it.data = e.data()
		}
		return q.putOps(s, it, "") // it has its id
	})
	if err != nil {
		return fmt.Errorf("put back into queue %s: %w", q.path, err)
	}
	return nil
}

// Discard deletes a dead letter, whose id is free then. It fails with [coord.ErrNoNode]
// if it is not there any more, and as [Queue.Put] does.
func (q *Queue[T]) Discard(ctx context.Context, l DeadLetter[T]) error {
	err := q.settleDead(ctx, l, func(s *stock) ([]coord.Op, error) {
		e, _ := parseEntry(l.it.data)
		return s.freeOps(e.id), nil
	})
	if err != nil {
		return fmt.Errorf("discard from queue %s: %w", q.path, err)
	}
	return nil
}

// settleDead deletes a dead letter together with other operations.
func (q *Queue[T]) settleDead(ctx context.Context, l DeadLetter[T], also func(s *stock) ([]coord.Op, error)) error {
	if err := q.present(ctx, q.c); err != nil {
		return err
	}
	if l.it.path == "" {
		return fmt.Errorf("%w: a dead letter that no queue has listed", coord.ErrBadArguments)
	}
	_, err := q.write(ctx, func(s *stock) ([]coord.Op, error) {
		_, stat, err := s.v.Get(l.it.path)
		if err == nil && stat.Czxid != l.it.stat.Czxid {
			err = coord.ErrNoNode
		}
		if errors.Is(err, coord.ErrNoNode) {
			return nil, fmt.Errorf("the dead letter is gone: %w", coord.ErrNoNode)
		}
		if err != nil {
			return nil, err
		}
		ops, err := also(s)
		return append(ops, l.it.deleteOp()), err
	})
	return err
}

// freeOps returns the operations that make an id one that can be used again.
func (s *stock) freeOps(id string) []coord.Op {
	if id == "" {
		return nil
	}
	path := join(s.dir(idsDir), id)
	_, stat, err := s.v.Get(path)
	if err != nil {
		return nil // somebody has done so
	}
	return []coord.Op{coord.DeleteOp(path, coord.WithCzxid(stat.Czxid))}
}
