package coord

import (
	"context"
	"fmt"
	"iter"
	"sync"
)

// A WatchMode says which events a watch on a path is given.
type WatchMode uint8

const (
	// Node watches are given the creation, deletion and changes of data of the
	// znode at the path.
	Node WatchMode = iota + 1
	// Children watches are given a NodeChildrenChanged for every child that is
	// created or deleted below the path.
	Children
	// Subtree watches are given the creations, deletions and changes of data of
	// the znode at the path and of everything below it.
	Subtree
)

// String returns the name of the mode in lower case.
func (m WatchMode) String() string {
	switch m {
	case Node:
		return "node"
	case Children:
		return "children"
	case Subtree:
		return "subtree"
	}
	return fmt.Sprintf("WatchMode(%d)", uint8(m))
}

// An OverrunError ends a watch whose reader fell behind by more than
// [Config.WatchBuffer] events.
type OverrunError struct {
	Last ZXID // of the last event that was or will still be delivered whole
}

// Error names the place up to which nothing was lost.
func (e *OverrunError) Error() string {
	return fmt.Sprintf("coord: watch overrun: the reader fell behind; events after %v are lost", e.Last)
}

// A CompactedError ends a watch when this member caught up by a snapshot, which
// does not tell the events on the way.
type CompactedError struct {
	Oldest ZXID // the first state that can be read
}

// Error names the first state that can be read.
func (e *CompactedError) Error() string {
	return fmt.Sprintf("coord: watch compacted: events up to %v are not known here", e.Oldest)
}

// A Watch is a stream of the changes to a path, in the order of their zxids, from
// the moment at which it was opened. All events of one write are delivered, or
// none. It holds as many events as [Config.WatchBuffer] says for a reader that
// is behind and ends when there is one more, because a gap would be a lie.
//
// A Watch ends with the context it was opened with, when [Watch.Close] is called,
// when its reader falls behind, when this member catches up by a snapshot, and
// when the Coordinator is closed. It does not end with a session and goes on
// through changes of leader.
//
// One goroutine at a time may read from it, by Events or by C.
type Watch struct {
	path  string
	mode  WatchMode
	hub   *hub
	limit int
	ctx   context.Context
	stop  func() bool // ends the link to ctx
	from  ZXID        // the state the watch was opened at

	more chan struct{} // holds 1: there is something to take

	mu     sync.Mutex
	queued []Event    // guarded by mu
	ready  int        // guarded by mu; how many of queued may be handed out
	full   bool       // guarded by mu; an event did not fit
	err    error      // guarded by mu; why it ended, set once
	pump   chan Event // guarded by mu; what C returns
}

// Path returns the path that is watched.
func (w *Watch) Path() string { return w.path }

// From returns the zxid of the state at which the watch was opened: it is given
// every event behind it.
func (w *Watch) From() ZXID { return w.from }

// queue is called by the hub for each event, and adds w to woken if it is the
// first since it was last released.
func (w *Watch) queue(ev Event, woken []*Watch) []*Watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.full {
		return woken
	}
	if len(w.queued) >= w.limit {
		// Drop the events of the same write that are queued already: they would be
		// an incomplete write.
		keep := len(w.queued)
		for keep > w.ready && w.queued[keep-1].ZXID == ev.ZXID {
			keep--
		}
		w.queued = w.queued[:keep]
		w.full = true
		return append(woken, w)
	}
	w.queued = append(w.queued, ev)
	if len(w.queued) == w.ready+1 {
		woken = append(woken, w)
	}
	return woken
}

// release lets the reader have what is queued: the state that it led to is
// published. It reports whether the watch ends because it was full.
func (w *Watch) release() (ended bool) {
	w.mu.Lock()
	w.ready = len(w.queued)
	ended = w.full && w.err == nil
	if ended {
		last := w.from
		if n := len(w.queued); n > 0 {
			last = w.queued[n-1].ZXID
		}
		w.err = &OverrunError{Last: last}
	}
	w.mu.Unlock()
	w.signal()
	return ended
}

// end makes w end with err once what is queued was read.
func (w *Watch) end(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// next waits for the next event.
func (w *Watch) next() (Event, error) {
	for {
		w.mu.Lock()
		if w.ready > 0 {
			ev := w.queued[0]
			w.queued = w.queued[1:]
			w.ready--
			w.mu.Unlock()
			return ev, nil
		}
		err := w.err
		w.mu.Unlock()
		if err != nil {
			w.stop()   // frees the context
			w.signal() // for whoever asks again
			return Event{}, err
		}
		<-w.more
	}
}

// Events yields events as they come. The last pair has no event and the reason
// why the watch ended. Leaving the loop closes the watch.
func (w *Watch) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		defer w.Close()
		for {
			ev, err := w.next()
			if !yield(ev, err) || err != nil {
				return
			}
		}
	}
}

// C returns a channel of the events, which is closed when the watch has ended;
// [Watch.Err] then says why. A reader that stops reading must call Close.
func (w *Watch) C() <-chan Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pump == nil {
		w.pump = make(chan Event)
		if !w.hub.g.spawn(w.runPump) {
			close(w.pump)
		}
	}
	return w.pump
}

// runPump feeds the channel that C returned.
func (w *Watch) runPump() {
	defer close(w.pump)
	for {
		ev, err := w.next()
		if err != nil {
			return
		}
		select {
		case w.pump <- ev:
		case <-w.ctx.Done():
			return
		case <-w.hub.g.ctx.Done():
			return
		}
	}
}

// Err says why the watch has ended: ErrClosed after Close, the cause of its
// context, an [*OverrunError], a [*CompactedError], or the reason why the
// Coordinator has closed. It is nil while the watch goes on.
func (w *Watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close ends the watch and frees what it holds. Events that are queued are
// dropped. Further calls do nothing.
func (w *Watch) Close() {
	w.stop()
	w.finish(ErrClosed)
}

// finish ends w at once: what is queued is dropped.
func (w *Watch) finish(err error) {
	w.hub.remove(w)
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.queued, w.ready = nil, 0
	w.mu.Unlock()
	w.signal()
}

// watch opens a watch in the group.
func (g *group) watch(ctx context.Context, path string, mode WatchMode, limit int) (*Watch, error) {
	if mode != Node && mode != Children && mode != Subtree {
		return nil, &OpError{Op: "watch", Path: path, Err: ErrBadArguments, Detail: mode.String()}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, &OpError{Op: "watch", Path: path, Err: err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := &Watch{path: path, mode: mode, hub: &g.hub, limit: limit, ctx: ctx, more: make(chan struct{}, 1)}
	if err := g.hub.register(w); err != nil {
		cancel(err)
		return nil, &OpError{Op: "watch", Path: path, Err: err}
	}
	unlink := context.AfterFunc(ctx, func() { w.finish(context.Cause(ctx)) })
	w.stop = func() bool {
		cancel(ErrClosed)
		return unlink()
	}
	return w, nil
}
