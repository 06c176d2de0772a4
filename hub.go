package coord

import (
	"sync"
)

// A hub tells the watches of one group what its machine applied.
//
// Invariants:
//
//	W1  a watch is given every event that it asks for with a zxid above the one
//	    at which it was registered, in order, or it ends with an error
//	W2  a reader is given an event only when the published state reflects it
//	W3  a published state is visible only when the events that led to it are
//	    queued
//	W4  the machine never waits for a reader
//
// For W2 and W3, publish queues the events and then stores the state, both under
// mu, and a watch hands out only events up to the zxid that was published last.
type hub struct {
	g *group

	mu       sync.Mutex
	watches  map[string]map[*Watch]struct{} // guarded by mu; by the path they name
	subtrees int                            // guarded by mu; how many of them are of mode Subtree
	zxid     ZXID                           // guarded by mu; of the published state
	closed   error                          // guarded by mu
}

func (h *hub) init(g *group) {
	h.g = g
	h.watches = map[string]map[*Watch]struct{}{}
}

// register adds w, which sees everything behind the state that is published now.
func (h *hub) register(w *Watch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed != nil {
		return h.closed
	}
	set := h.watches[w.path]
	if set == nil {
		set = map[*Watch]struct{}{}
		h.watches[w.path] = set
	}
	set[w] = struct{}{}
	if w.mode == Subtree {
		h.subtrees++
	}
	w.from = h.zxid
	return nil
}

// remove takes w out, if it is in.
func (h *hub) remove(w *Watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeLocked(w)
}

func (h *hub) removeLocked(w *Watch) {
	set := h.watches[w.path]
	if _, in := set[w]; !in {
		return
	}
	delete(set, w)
	if len(set) == 0 {
		delete(h.watches, w.path)
	}
	if w.mode == Subtree {
		h.subtrees--
	}
}

// count returns the number of open watches.
func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, set := range h.watches {
		n += len(set)
	}
	return n
}

// publish queues events and makes the state that they led to visible by store.
func (h *hub) publish(events []Event, store func(), z ZXID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var woken []*Watch
	if len(h.watches) > 0 {
		for _, ev := range events {
			woken = h.dispatchLocked(ev, woken)
		}
	}
	store()
	h.zxid = z
	for _, w := range woken {
		if w.release() {
			h.removeLocked(w) // it was full
		}
	}
}

// dispatchLocked queues ev at every watch that asks for it.
func (h *hub) dispatchLocked(ev Event, woken []*Watch) []*Watch {
	for w := range h.watches[ev.Path] {
		if w.mode == Node || w.mode == Subtree {
			woken = w.queue(ev, woken)
		}
	}
	if ev.Path == pathRoot {
		return woken
	}
	parent := parentPath(ev.Path)
	if ev.Type != NodeDataChanged {
		change := Event{Type: NodeChildrenChanged, Path: parent, ZXID: ev.ZXID}
		for w := range h.watches[parent] {
			if w.mode == Children {
				woken = w.queue(change, woken)
			}
		}
	}
	for up := parent; h.subtrees > 0; up = parentPath(up) {
		for w := range h.watches[up] {
			if w.mode == Subtree {
				woken = w.queue(ev, woken)
			}
		}
		if up == pathRoot {
			break
		}
	}
	return woken
}

// skip makes a state visible that was not reached through events: every watch
// ends, because it cannot be told what it missed.
func (h *hub) skip(store func(), z ZXID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	store()
	h.zxid = z
	for _, set := range h.watches {
		for w := range set {
			w.end(&CompactedError{Oldest: z})
			h.removeLocked(w)
		}
	}
}

// close ends every watch, and refuses new ones, with err.
func (h *hub) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed == nil {
		h.closed = err
	}
	for _, set := range h.watches {
		for w := range set {
			w.end(err)
			h.removeLocked(w)
		}
	}
}
