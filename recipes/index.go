package recipes

import (
	"fmt"
	"slices"
	"strings"

	"coord"
)

// A cacheIndex finds entries by what their values say.
type cacheIndex[T any] struct {
	name string
	keys func(path string, value T) []string
}

// WithIndex has a cache keep an index, which [Cache.ByIndex] asks by its name: the
// entries under each key that keys returns for their values. It is asked once for each
// value that decodes, and should do nothing else than answer.
func WithIndex[T any](name string, keys func(path string, value T) []string) CacheOption[T] {
	return func(o *cacheOptions[T]) { o.indexes = append(o.indexes, cacheIndex[T]{name, keys}) }
}

// ByIndex returns the entries that an index has under a key, sorted by path. It fails
// with [coord.ErrBadArguments] if there is no such index.
func (k *Cache[T]) ByIndex(name, key string) ([]Entry[T], error) {
	i := slices.IndexFunc(k.o.indexes, func(x cacheIndex[T]) bool { return x.name == name })
	if i < 0 {
		return nil, fmt.Errorf("cache of %s: %w: it has no index %q", k.path, coord.ErrBadArguments, name)
	}
	k.mu.RLock()
	found := make([]Entry[T], 0, len(k.indexes[i][key]))
	for path := range k.indexes[i][key] {
		found = append(found, k.entries[path].Entry)
	}
	k.mu.RUnlock()
	slices.SortFunc(found, func(a, b Entry[T]) int { return strings.Compare(a.Path, b.Path) })
	return found, nil
}

// checkIndexes fails if an index cannot be told from another one.
func checkIndexes[T any](indexes []cacheIndex[T]) error {
	for i, x := range indexes {
		if x.keys == nil {
			return fmt.Errorf("%w: the index %q has no function", coord.ErrBadArguments, x.name)
		}
		if slices.ContainsFunc(indexes[:i], func(o cacheIndex[T]) bool { return o.name == x.name }) {
			return fmt.Errorf("%w: two indexes %q", coord.ErrBadArguments, x.name)
		}
	}
	return nil
}

// keysOf returns the keys of a value in each index. One that panics has none.
func keysOf[T any](indexes []cacheIndex[T], path string, value T) (keys [][]string, err error) {
	for _, x := range indexes {
		of, failed := x.of(path, value)
		keys = append(keys, of)
		if failed != nil {
			err = failed
		}
	}
	return keys, err
}

func (x cacheIndex[T]) of(path string, value T) (keys []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("index %q of %s: panic: %v", x.name, path, p)
		}
	}()
	return slices.Clone(x.keys(path, value)), nil
}

// reindexLocked has the indexes follow a change. They remember the keys that an entry
// was put under, so that a function which answers otherwise the next time leaves
// nothing behind.
func (k *Cache[T]) reindexLocked(c Change[T]) {
	if c.old != nil {
		for i, keys := range c.old.keys {
			for _, key := range keys {
				delete(k.indexes[i][key], c.old.Path)
				if len(k.indexes[i][key]) == 0 {
					delete(k.indexes[i], key)
				}
			}
		}
	}
	if c.now != nil {
		for i, keys := range c.now.keys {
			for _, key := range keys {
				if k.indexes[i][key] == nil {
					k.indexes[i][key] = map[string]bool{}
				}
				k.indexes[i][key][c.now.Path] = true
			}
		}
	}
}
