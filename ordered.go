package coord

import (
	"iter"

	"github.com/google/btree"
)

// treeDegree is the degree of every B-tree in the state. 16 costs about half of
// what 64 costs when a write meets a published tree, because fewer items are
// copied on the way down, and lookups are no slower.
const treeDegree = 16

// An ordered is a persistent sorted set of immutable values: taking a frozen
// copy costs O(1), and neither side sees what is done to the other afterwards.
//
// The B-tree behind it is cloned only when a shared set is changed for the first
// time, because a clone allocates and most commands change few of the sets. That
// late Clone touches no field that readers of the frozen copy use, so it may
// happen while they read.
type ordered[T any] struct {
	tree   *btree.BTreeG[T]
	shared bool // a frozen copy refers to tree as well
}

func newOrdered[T any](less func(a, b T) bool) ordered[T] {
	return ordered[T]{tree: btree.NewG(treeDegree, less)}
}

// freeze returns a copy that never changes. Only the goroutine that owns o may
// call it, as for all methods that change o.
func (o *ordered[T]) freeze() ordered[T] {
	o.shared = true
	return *o
}

func (o *ordered[T]) mutable() *btree.BTreeG[T] {
	if o.shared {
		o.tree = o.tree.Clone()
		o.shared = false
	}
	return o.tree
}

func (o *ordered[T]) put(v T) (old T, replaced bool) { return o.mutable().ReplaceOrInsert(v) }
func (o *ordered[T]) remove(v T) (old T, found bool) { return o.mutable().Delete(v) }
func (o *ordered[T]) get(v T) (T, bool)              { return o.tree.Get(v) }
func (o *ordered[T]) len() int                       { return o.tree.Len() }

// all yields every value in order.
func (o *ordered[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) { o.tree.Ascend(yield) }
}

// from yields the values that are not less than v in order.
func (o *ordered[T]) from(v T) iter.Seq[T] {
	return func(yield func(T) bool) { o.tree.AscendGreaterOrEqual(v, yield) }
}
