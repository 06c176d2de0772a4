package recipes

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"

	"coord"
)

// A Cache keeps what a subtree of the tree holds as values of a Go type: the znode at
// its path and all below it that the client may read.
//
// Guarantee: at any moment it is the subtree as it was at one zxid, and never a part of
// a write; it moves forward only. What it is told of, it tells in that order, see
// [Cache.Changes].
// Cost: no writes. Each change costs one decoding in each Cache; an entry takes some
// 300 bytes beside its value. Who needs no decoded values, indexes or changes reads the
// tree itself, by [coord.Coordinator.View], which costs nothing.
// Session loss: ends a Cache of a [coord.Session], and is nothing to one of a
// [coord.Coordinator].
// Pitfall: values are shared with all readers and must not be modified. Changes of ACLs
// are not told: what has become readable is seen when it changes next, what has become
// unreadable stays as it was, and so does an Aversion.
//
// A Cache goes on without a quorum, showing what this member knows, and through changes
// of leader. If its member skips changes, or it cannot keep up with them, it reads the
// subtree anew; that is told, with the difference.
//
// Everything may be called concurrently.
type Cache[T any] struct {
	c     coord.Client
	path  string
	codec coord.Codec[T]
	o     cacheOptions[T]

	ctx    context.Context // ends with the cache
	cancel context.CancelCauseFunc
	poke   chan struct{} // holds 1: somebody waits for what there is
	done   chan struct{} // closed when run has returned

	mu      sync.RWMutex
	entries map[string]*cached[T]        // guarded by mu; written by run only
	indexes []map[string]map[string]bool // guarded by mu; of each index the paths of each key
	at      coord.Position               // guarded by mu
	zxid    coord.ZXID                   // guarded by mu; zero until the subtree was loaded
	readers map[*changesReader[T]]bool   // guarded by mu
	trouble error                        // guarded by mu; why it is not loaded yet
	ended   error                        // guarded by mu; why it has ended
	news    chan struct{}                // guarded by mu; closed when zxid, trouble or ended change
}

// An Entry is one znode of a [Cache]. It is shared and must not be modified.
type Entry[T any] struct {
	Path  string
	Value T // zero if the data does not decode
	Stat  coord.Stat

	// Err is a [*coord.DecodeError] if the data is not the codec's, and says so if a
	// function of the program's own has panicked.
	Err error
}

// A cached is what the cache itself has of a znode.
type cached[T any] struct {
	Entry[T]

	keys [][]string // under which each index has it
}

// isAsIn reports whether a stat is of the same znode with the same data.
func (e *cached[T]) isAsIn(stat coord.Stat) bool {
	return e.Stat.Czxid == stat.Czxid && e.Stat.Mzxid == stat.Mzxid
}

// A CacheOption is an option of [NewCache].
type CacheOption[T any] func(*cacheOptions[T])

type cacheOptions[T any] struct {
	levels  *int // nil is without a limit
	filter  func(path string, stat coord.Stat) bool
	indexes []cacheIndex[T]
}

// WithDepth limits a cache to so many levels below its path: 0 is the znode itself, 1 its
// children as well.
func WithDepth[T any](levels int) CacheOption[T] {
	return func(o *cacheOptions[T]) { o.levels = &levels }
}

// WithFilter limits a cache to znodes that keep says yes to. It is asked again whenever
// the znode has changed, and should do nothing else than answer.
func WithFilter[T any](keep func(path string, stat coord.Stat) bool) CacheOption[T] {
	return func(o *cacheOptions[T]) { o.filter = keep }
}

// NewCache starts a cache of the znode at path and everything below it, whether or not
// there is anything. It does not wait for it to be loaded; [Cache.Synced] does. It must
// be closed, and ends by itself with its client.
//
// It fails with [coord.ErrBadArguments].
func NewCache[T any](c coord.Client, path string, codec coord.Codec[T], opts ...CacheOption[T]) (*Cache[T], error) {
	var o cacheOptions[T]
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkCache(c, path, codec, o); err != nil {
		return nil, fmt.Errorf("cache of %s: %w", path, err)
	}
	k := &Cache[T]{
		c: c, path: path, codec: codec, o: o,
		poke: make(chan struct{}, 1), done: make(chan struct{}),
		entries: map[string]*cached[T]{}, readers: map[*changesReader[T]]bool{}, news: make(chan struct{}),
	}
	for range o.indexes {
		k.indexes = append(k.indexes, map[string]map[string]bool{})
	}
	k.ctx, k.cancel = context.WithCancelCause(context.Background())
	go k.run()
	return k, nil
}

func checkCache[T any](c coord.Client, path string, codec coord.Codec[T], o cacheOptions[T]) error {
	if err := present(context.Background(), c); err != nil {
		return err
	}
	if codec == nil {
		return fmt.Errorf("%w: no codec", coord.ErrBadArguments)
	}
	if !coord.ValidPath(path) {
		return fmt.Errorf("%w: %q is no path", coord.ErrBadArguments, path)
	}
	if o.levels != nil && *o.levels < 0 {
		return fmt.Errorf("%w: a depth of %d, less than 0", coord.ErrBadArguments, *o.levels)
	}
	return checkIndexes(o.indexes)
}

// Get returns the entry at path, and whether there is one.
func (k *Cache[T]) Get(path string) (Entry[T], bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if e := k.entries[path]; e != nil {
		return e.Entry, true
	}
	return Entry[T]{}, false
}

// All yields the entries as they are at one moment, in no particular order.
func (k *Cache[T]) All() iter.Seq2[string, Entry[T]] {
	return func(yield func(string, Entry[T]) bool) {
		k.mu.RLock()
		all := make([]*cached[T], 0, len(k.entries))
		for _, e := range k.entries {
			all = append(all, e)
		}
		k.mu.RUnlock()
		for _, e := range all {
			if !yield(e.Path, e.Entry) {
				return
			}
		}
	}
}

// Len returns the number of entries.
func (k *Cache[T]) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.entries)
}

// Position returns the place in the order of changes that the cache shows: zero until
// it was loaded. While nothing changes in the subtree, it is looked at and moves on only
// when [Cache.Synced] asks.
func (k *Cache[T]) Position() coord.Position {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.at
}

// ZXID returns the zxid of Position.
func (k *Cache[T]) ZXID() coord.ZXID {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.zxid
}

// Synced waits until the cache is loaded, and shows at least what a read with these
// options would at the moment of the call: without any, what this member has, the writes
// of its own callers included; with [coord.Linearizable], every write that was
// acknowledged.
//
// It fails with the cause of ctx, together with what has kept the cache from being
// loaded; with that of the cache's end; and as [coord.Coordinator.View] does.
func (k *Cache[T]) Synced(ctx context.Context, opts ...coord.ReadOption) error {
	if err := k.synced(ctx, opts); err != nil {
		return fmt.Errorf("cache of %s: %w", k.path, err)
	}
	return nil
}

func (k *Cache[T]) synced(ctx context.Context, opts []coord.ReadOption) error {
	if err := k.await(ctx, 1); err != nil {
		return err
	}
	v, err := k.c.View(ctx, opts...)
	if err != nil {
		return errors.Join(err, k.Err())
	}
	select {
	case k.poke <- struct{}{}:
	default: // it has yet to look for somebody else
	}
	return k.await(ctx, v.ZXID())
}

// await waits until the cache shows a zxid.
func (k *Cache[T]) await(ctx context.Context, z coord.ZXID) error {
	for {
		k.mu.RLock()
		reached, ended, trouble, news := k.zxid >= z, k.ended, k.trouble, k.news
		k.mu.RUnlock()
		if reached || ended != nil {
			return ended
		}
		select {
		case <-news:
		case <-ctx.Done():
			if trouble != nil {
				return fmt.Errorf("%w: %w", context.Cause(ctx), trouble)
			}
			return context.Cause(ctx)
		}
	}
}

// Err says why the cache has ended: [coord.ErrClosed] after Close, the cause of the end of
// its client, [coord.ErrNoAuth] if the znode at its path may not be read, or
// [coord.ErrTooManyWatches]. Before it was loaded, it says what is in the way. It is nil
// while all is well. What the cache shows does not change any more after its end.
func (k *Cache[T]) Err() error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.ended != nil {
		return k.ended
	}
	return k.trouble
}

// Close ends the cache, and all loops over its changes. It may be called any number of
// times, also in such a loop.
func (k *Cache[T]) Close() {
	k.cancel(coord.ErrClosed)
	<-k.done
}

// depthOf returns how many levels a path of the subtree is below its root.
func (k *Cache[T]) depthOf(path string) int {
	if k.path == "/" {
		if path == "/" {
			return 0
		}
		return strings.Count(path, "/")
	}
	return strings.Count(path[len(k.path):], "/")
}
