package recipes

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"coord"
)

// A Delta is what makes one state of a [Cache] of an earlier one: the changes of whole
// writes, one or several.
type Delta[T any] struct {
	// Position and ZXID are those of the later state.
	Position coord.Position
	ZXID     coord.ZXID

	// Changes has one change for each path, sorted by path. It is shared and must not be
	// modified.
	Changes []Change[T]

	// Rebuilt says that changes were skipped on the way, and the subtree was read anew:
	// Changes is the difference, and no state in between was seen.
	Rebuilt bool
}

// A Change is what has become of one znode.
type Change[T any] struct{ old, now *cached[T] }

// Path returns the path of the znode.
func (c Change[T]) Path() string {
	if c.now != nil {
		return c.now.Path
	}
	return c.old.Path
}

// Old returns the entry that there was, or nil.
func (c Change[T]) Old() *Entry[T] { return entryIn(c.old) }

// New returns the entry that there is, or nil.
func (c Change[T]) New() *Entry[T] { return entryIn(c.now) }

func entryIn[T any](e *cached[T]) *Entry[T] {
	if e == nil {
		return nil
	}
	return &e.Entry
}

// Recreated reports whether the znode was deleted and created anew: it is another one,
// whatever its version and value.
func (c Change[T]) Recreated() bool {
	return c.old != nil && c.now != nil && c.old.Stat.Czxid != c.now.Stat.Czxid
}

// isNone reports whether it is no change: that the children of a znode have changed is
// none of its own.
func (c Change[T]) isNone() bool {
	return c.old == c.now || c.old != nil && c.now != nil && c.old.isAsIn(c.now.Stat)
}

// appendChange appends a change if it is one.
func appendChange[T any](changes []Change[T], old, now *cached[T]) []Change[T] {
	if c := (Change[T]{old, now}); !c.isNone() {
		changes = append(changes, c)
	}
	return changes
}

// Changes yields how the cache changes. The first Delta is behind its loading and has the
// whole state, in changes without an Old; each further one begins where the last one
// ended, and none is missing. While the loop is busy, what comes is put together: who is
// slow is told fewer and larger Deltas, and holds up nobody.
//
// The last pair has the reason why it ended, if that was not the loop's own: the cause of
// ctx, or what [Cache.Err] says.
func (k *Cache[T]) Changes(ctx context.Context) iter.Seq2[Delta[T], error] {
	return func(yield func(Delta[T], error) bool) {
		r := &changesReader[T]{more: make(chan struct{}, 1)}
		k.addReader(r)
		defer k.removeReader(r) // also if the loop panics
		for {
			d, err := k.next(ctx, r)
			if err != nil {
				yield(Delta[T]{}, fmt.Errorf("changes of %s: %w", k.path, err))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// A changesReader is one loop over the changes of a cache.
type changesReader[T any] struct {
	more chan struct{} // holds 1: look again

	pending *Delta[T]            // guarded by Cache.mu; what is to be told, without Changes if there is merged
	merged  map[string]Change[T] // guarded by Cache.mu; of pending, once it is more than one Delta
}

func (k *Cache[T]) addReader(r *changesReader[T]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.readers[r] = true
	if k.zxid == 0 {
		return // it is told when the cache is loaded
	}
	all := make([]Change[T], 0, len(k.entries))
	for _, e := range k.entries {
		all = append(all, Change[T]{now: e})
	}
	r.offerLocked(&Delta[T]{Position: k.at, ZXID: k.zxid, Changes: all})
}

func (k *Cache[T]) removeReader(r *changesReader[T]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.readers, r)
}

// next waits for a Delta.
func (k *Cache[T]) next(ctx context.Context, r *changesReader[T]) (Delta[T], error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return Delta[T]{}, err
		}
		k.mu.Lock()
		d, merged, ended := r.pending, r.merged, k.ended
		r.pending, r.merged = nil, nil
		k.mu.Unlock()
		if d != nil {
			return settled(*d, merged), nil
		}
		if ended != nil {
			return Delta[T]{}, ended
		}
		select {
		case <-r.more:
		case <-ctx.Done():
		}
	}
}

// settled puts the changes of a Delta in order.
func settled[T any](d Delta[T], merged map[string]Change[T]) Delta[T] {
	if merged != nil {
		d.Changes = make([]Change[T], 0, len(merged))
		for _, c := range merged {
			d.Changes = append(d.Changes, c)
		}
	}
	byPath := func(a, b Change[T]) int { return strings.Compare(a.Path(), b.Path()) }
	if !slices.IsSortedFunc(d.Changes, byPath) { // as it is when everything was read
		d.Changes = slices.SortedFunc(slices.Values(d.Changes), byPath)
	}
	return d
}

// offerLocked has the reader be told a Delta, on top of what it is to be told.
func (r *changesReader[T]) offerLocked(d *Delta[T]) {
	defer r.signal()
	if r.pending == nil {
		r.pending = d
		return
	}
	if r.merged == nil {
		r.merged = make(map[string]Change[T], len(r.pending.Changes)+len(d.Changes))
		for _, c := range r.pending.Changes {
			r.merged[c.Path()] = c
		}
	}
	for _, c := range d.Changes {
		path := c.Path()
		if was, ok := r.merged[path]; ok {
			c.old = was.old
		}
		if c.isNone() {
			delete(r.merged, path)
			continue
		}
		r.merged[path] = c
	}
	r.pending = &Delta[T]{Position: d.Position, ZXID: d.ZXID, Rebuilt: d.Rebuilt || r.pending.Rebuilt}
}

func (r *changesReader[T]) signal() {
	select {
	case r.more <- struct{}{}:
	default:
	}
}
