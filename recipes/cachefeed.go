package recipes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"coord"
)

// run keeps the cache level with the tree until it ends.
func (k *Cache[T]) run() {
	defer close(k.done)
	life := lifeOf(k.c)
	defer context.AfterFunc(life, func() { k.cancel(context.Cause(life)) })()
	err := k.follow()
	k.cancel(err)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = err
	k.tellLocked()
	for r := range k.readers {
		r.signal()
	}
}

// tellLocked has who waits look again.
func (k *Cache[T]) tellLocked() {
	close(k.news)
	k.news = make(chan struct{})
}

// follow loads the subtree and keeps up with it, and does so again if changes were
// skipped. It returns why the cache ends.
func (k *Cache[T]) follow() error {
	for how := []coord.ReadOption(nil); ; how = []coord.ReadOption{coord.AllowStale()} {
		set, err := k.load(how)
		if err != nil {
			return err
		}
		err = k.keepUp(set)
		set.Close()
		if !skipped(err) {
			return err
		}
	}
}

// load reads the whole subtree, and registers for what follows. What passes it waits
// for.
func (k *Cache[T]) load(how []coord.ReadOption) (*coord.WatchSet, error) {
	known := k.entries // also those that were read in vain, so that it gets quicker
	for wait := retryPause; ; {
		set, err := k.tryLoad(how, &known)
		switch {
		case err == nil:
			return set, nil
		case context.Cause(k.ctx) != nil:
			return nil, context.Cause(k.ctx)
		case skipped(err): // while it was read
			how = []coord.ReadOption{coord.AllowStale()}
			continue
		case !passes(err):
			return nil, err
		}
		k.mu.Lock()
		k.trouble = err
		k.tellLocked()
		k.mu.Unlock()
		_ = pause(k.ctx, wait)
		wait = min(2*wait, maxLeavePause)
	}
}

// tryLoad shows nothing that it has not registered behind. It leaves what it has read in
// known.
func (k *Cache[T]) tryLoad(how []coord.ReadOption, known *map[string]*cached[T]) (*coord.WatchSet, error) {
	set, err := k.c.NewWatchSet(k.ctx)
	if err != nil {
		return nil, err
	}
	v, err := k.c.View(k.ctx, how...)
	if err == nil {
		*known, err = k.readAll(v, *known)
	}
	if err == nil {
		err = set.Add(v, coord.Registration{Path: k.path, Type: coord.PersistentRecursiveWatcher})
	}
	if err != nil {
		set.Close()
		return nil, err
	}
	k.showAll(v, *known)
	return set, nil
}

// keepUp takes over each change. It returns why it cannot any more.
func (k *Cache[T]) keepUp(set *coord.WatchSet) error {
	for {
		select {
		case <-set.Changed():
		case <-k.poke:
		case <-k.ctx.Done():
			return context.Cause(k.ctx)
		}
		for more := true; more; {
			v, err := k.c.View(k.ctx, coord.AllowStale())
			if err != nil {
				return err
			}
			events, err := set.TakeShown(v) // all that v shows and the cache does not
			if err != nil {
				return err
			}
			k.readChanged(v, events)
			more = len(events) > 0
		}
	}
}

// readAll returns the entries of a view. It takes those of known that are still true.
func (k *Cache[T]) readAll(v *coord.View, known map[string]*cached[T]) (map[string]*cached[T], error) {
	if _, _, err := v.Get(k.path); err != nil && !errors.Is(err, coord.ErrNoNode) {
		return known, err
	}
	entries := make(map[string]*cached[T], len(known))
	for n := range v.Walk(k.path) {
		if err := context.Cause(k.ctx); err != nil {
			return known, err // nobody waits for the rest
		}
		if e := k.entryOf(n, known[n.Path]); e != nil {
			entries[n.Path] = e
		}
	}
	return entries, nil
}

// showAll makes the cache show a view, whatever it showed.
func (k *Cache[T]) showAll(v *coord.View, entries map[string]*cached[T]) {
	var changes []Change[T]
	for path, e := range entries {
		changes = appendChange(changes, k.entries[path], e)
	}
	for path, old := range k.entries {
		if entries[path] == nil {
			changes = appendChange(changes, old, nil)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.entries, k.trouble = entries, nil
	k.showLocked(v, changes, true)
}

// readChanged makes the cache show a view, which differs in what events say.
func (k *Cache[T]) readChanged(v *coord.View, events []coord.Event) {
	paths := make(map[string]bool, len(events))
	for _, ev := range events {
		paths[ev.Path] = true
		if ev.Type != coord.NodeDataChanged && ev.Path != k.path {
			paths[parentOf(ev.Path)] = true // whose stat has changed
		}
	}
	read := make(map[string]*cached[T], len(paths))
	var changes []Change[T]
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		old := k.entries[path]
		read[path] = k.read(v, path, old)
		changes = appendChange(changes, old, read[path])
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for path, e := range read {
		if e == nil {
			delete(k.entries, path)
			continue
		}
		k.entries[path] = e
	}
	k.showLocked(v, changes, false)
}

// showLocked takes note that the entries are those of a view, and tells the readers.
func (k *Cache[T]) showLocked(v *coord.View, changes []Change[T], whole bool) {
	for _, c := range changes {
		k.reindexLocked(c)
	}
	first := k.zxid == 0
	k.zxid, k.at = max(v.ZXID(), 1), v.Position()
	k.tellLocked()
	if len(changes) == 0 && !whole {
		return
	}
	d := &Delta[T]{Position: k.at, ZXID: k.zxid, Changes: changes, Rebuilt: whole && !first}
	for r := range k.readers {
		r.offerLocked(d)
	}
}

// read returns what a view has at a path, if the cache is to have it.
func (k *Cache[T]) read(v *coord.View, path string, old *cached[T]) *cached[T] {
	data, stat, err := v.Get(path)
	if err != nil {
		return nil
	}
	return k.entryOf(coord.Znode{Path: path, Data: data, Stat: stat}, old)
}

// entryOf makes an entry of a znode, or takes the old one if it is still true. It
// returns nil if the cache is not to have it.
func (k *Cache[T]) entryOf(n coord.Znode, old *cached[T]) *cached[T] {
	keep, failed := k.wants(n.Path, n.Stat)
	switch {
	case !keep:
		return nil
	case old == nil || !old.isAsIn(n.Stat):
	case old.Stat == n.Stat:
		return old
	default:
		e := *old
		e.Stat = n.Stat
		return &e
	}
	e := &cached[T]{Entry: Entry[T]{Path: n.Path, Stat: n.Stat}}
	if e.Value, e.Err = decode(k.codec, n.Path, n.Data, n.Stat); e.Err == nil {
		e.Err = failed
	}
	if e.Err == nil {
		e.keys, e.Err = keysOf(k.o.indexes, n.Path, e.Value)
	}
	return e
}

// wants reports whether the cache is to have a znode of its subtree. What the filter
// panics at is kept, to say so.
func (k *Cache[T]) wants(path string, stat coord.Stat) (keep bool, err error) {
	if k.o.levels != nil && k.depthOf(path) > *k.o.levels {
		return false, nil
	}
	if k.o.filter == nil {
		return true, nil
	}
	defer func() {
		if p := recover(); p != nil {
			keep, err = true, fmt.Errorf("filter of %s: panic: %v", path, p)
		}
	}()
	return k.o.filter(path, stat), nil
}

func parentOf(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 1)] }
