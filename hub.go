package coord

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A hub tells the watches of this member what the machines of its groups applied. It
// belongs to the root group, whose watches are all that there are while nothing is mounted.
//
// Invariants:
//
//	W1  a watch is given every event that it asks for behind its start, in order,
//	    all events of one write or none, or it ends with an error
//	W2  a reader is given an event only when the published state reflects it
//	W3  a published state is visible only when the changes that led to it are in
//	    the history
//	W4  the machine never waits for a reader, and its work does not grow with the
//	    number of watches
//
// The machine only appends to the history and signals. The hub's own goroutine
// takes what is published out of the history and queues it at the watches that
// ask for it; so W4, and W2 and W3 because a state and what led to it enter the
// history under one lock. A watch that starts in the past reads the history itself, in its
// reader's goroutine, until it is level with the hub, and is registered then.
type hub struct {
	g       *group                   // the root group
	stateOf func(path string) *state // of the group that serves path, as published
	limit   int                      // watches
	history history
	wake    chan struct{} // holds 1: something was published

	mu       sync.Mutex
	watches  map[string]*Watch                   // guarded by mu; by path, a list through Watch.next
	ctxs     map[<-chan struct{}]*watchedContext // guarded by mu
	behind   map[*Watch]struct{}                 // guarded by mu; those that read the history themselves
	marked   map[*Watch]struct{}                 // guarded by mu; those that want progress marks
	regs     registrations                       // guarded by mu; those of sets
	sets     map[*WatchSet]struct{}              // guarded by mu
	count    int                                 // guarded by mu; watches, and the registrations of sets
	subtrees int                                 // guarded by mu; how many of them are of mode Subtree
	seq      uint64                              // guarded by mu; everything before it was queued
	told     places                              // guarded by mu; how far the groups are, as of seq
	closed   error                               // guarded by mu
	level    chan struct{}                       // guarded by mu; closed when seq moves; nil if nobody waits
}

// A watchedContext ends all watches that were opened with one context: a million
// of them cost it one callback, not a million.
type watchedContext struct {
	ctx     context.Context
	unlink  func() bool
	watches *Watch // a list through Watch.sibling
}

// markEvery is how often a watch is told how far it is while nothing concerns it.
const markEvery = time.Second

func newHub(g *group, cfg *Config) *hub {
	h := &hub{g: g, limit: cfg.MaxWatches, stateOf: func(string) *state { return g.state() }}
	h.history.told = places{whole(g.id, 0)}
	h.history.root, h.history.maxChanges, h.history.maxBytes = g.id, cfg.HistoryEvents, cfg.HistoryBytes
	h.wake = make(chan struct{}, 1)
	h.watches = map[string]*Watch{}
	h.ctxs = map[<-chan struct{}]*watchedContext{}
	h.behind = map[*Watch]struct{}{}
	h.marked = map[*Watch]struct{}{}
	h.regs.byPath = map[string]*registration{}
	h.sets = map[*WatchSet]struct{}{}
	return h
}

// signal says that something was published. It never waits.
func (h *hub) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run is the hub's goroutine.
func (h *hub) run() {
	var buf []change
	marks := time.NewTicker(markEvery)
	defer marks.Stop()
	for {
		select {
		case <-h.wake:
			buf = h.catchUp(buf)
		case <-marks.C:
			h.mark()
		case <-h.g.ctx.Done():
			return
		}
	}
}

// catchUp queues everything that is published. It returns buf for the next time.
func (h *hub) catchUp(buf []change) []change {
	for {
		end, told := h.history.now()
		h.mu.Lock()
		seq := h.seq
		if seq >= end && slices.Equal(h.told, told) {
			h.mu.Unlock()
			return buf
		}
		if h.count == 0 {
			h.levelLocked(end, told) // nobody to tell
			h.mu.Unlock()
			continue
		}
		h.mu.Unlock()
		changes, ok := h.history.read(seq, end, buf[:0])
		h.mu.Lock()
		switch seq += uint64(len(changes)); {
		case !ok:
			h.skipLocked(end, told)
		case seq == end:
			h.dispatchLocked(changes)
			h.levelLocked(end, told)
		default:
			h.dispatchLocked(changes)
			h.levelLocked(seq, h.toldLocked(changes))
		}
		h.mu.Unlock()
		clear(changes) // let go of the znodes
		buf = changes
	}
}

// toldLocked returns how far the groups are behind changes.
func (h *hub) toldLocked(changes []change) places {
	told := h.told
	for i := range changes {
		if c := &changes[i]; c.last && c.typ != changesLost {
			told = told.with(c.behind())
		}
	}
	return told
}

// levelLocked takes note of how far the hub is.
func (h *hub) levelLocked(seq uint64, told places) {
	h.seq, h.told = seq, told
	h.history.passed(seq)
	if h.level != nil {
		close(h.level)
		h.level = nil
	}
}

// flush waits until everything that is published now is queued.
func (h *hub) flush() {
	target, _ := h.history.now()
	for {
		h.mu.Lock()
		if h.seq >= target || h.closed != nil {
			h.mu.Unlock()
			return
		}
		if h.level == nil {
			h.level = make(chan struct{})
		}
		level := h.level
		h.mu.Unlock()
		select {
		case <-level:
		case <-h.g.ctx.Done():
			return
		}
	}
}

// dispatchLocked queues changes, whole writes, at the watches that ask for them.
func (h *hub) dispatchLocked(changes []change) {
	var woken []*Watch
	var wokenSets []*WatchSet
	tell := func(r *registration, n notice) {
		if r.set.offer(n) {
			wokenSets = append(wokenSets, r.set)
		}
	}
	at := h.seq
	for i := range changes {
		if changes[i].typ == changesLost {
			h.loseLocked(changes[i].path)
			continue
		}
		woken = h.offerLocked(&changes[i], at+uint64(i), woken)
		if len(h.regs.byPath) > 0 {
			h.regs.trigger(&changes[i], at+uint64(i), tell, h.dropLocked)
		}
	}
	for _, w := range woken {
		if w.release() {
			h.removeLocked(w) // it was full
		}
	}
	for _, ws := range wokenSets {
		if ws.release() {
			h.dismissLocked(ws) // likewise
		}
	}
}

// offerLocked queues one change. No path is cut into strings for it.
func (h *hub) offerLocked(c *change, seq uint64, woken []*Watch) []*Watch {
	for w := h.watches[c.path]; w != nil; w = w.next {
		if w.mode != Children {
			woken = w.offer(c, seq, woken)
		}
	}
	if c.path == pathRoot {
		return woken
	}
	parent := parentPath(c.path)
	if c.typ != NodeDataChanged {
		for w := h.watches[parent]; w != nil; w = w.next {
			if w.mode == Children {
				woken = w.offer(c, seq, woken)
			}
		}
	}
	for up := parent; h.subtrees > 0; up = parentPath(up) {
		for w := h.watches[up]; w != nil; w = w.next {
			if w.mode == Subtree {
				woken = w.offer(c, seq, woken)
			}
		}
		if up == pathRoot {
			break
		}
	}
	return woken
}

// mark tells the watches that ask for it how far they are.
func (h *hub) mark() {
	h.mu.Lock()
	defer h.mu.Unlock()
	var mounts []*mount
	if len(h.told) > 1 && len(h.marked) > 0 {
		for m := range h.g.state().mounts.all() {
			if m.phase == mountServed {
				mounts = append(mounts, m)
			}
		}
	}
	for w := range h.marked {
		if w.joined { // one that reads the history is not as far as the hub
			w.mark(h.told, mounts)
		}
	}
}

// admit counts w in, or refuses it, and links it to its context.
func (h *hub) admit(w *Watch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed != nil {
		return h.closed
	}
	if h.count >= h.limit {
		return ErrTooManyWatches
	}
	if err := w.s.meter.takeWatches(1); err != nil {
		return err
	}
	h.count++
	h.behind[w] = struct{}{}
	if w.progress {
		h.marked[w] = struct{}{}
	}
	if done := w.ctx.Done(); done != nil {
		h.followLocked(w, done)
	}
	return nil
}

// followLocked has w end with its context.
func (h *hub) followLocked(w *Watch, done <-chan struct{}) {
	wc := h.ctxs[done]
	if wc == nil {
		wc = &watchedContext{ctx: w.ctx}
		h.ctxs[done] = wc
		wc.unlink = context.AfterFunc(w.ctx, func() { h.contextEnded(done) })
	}
	w.sibling = wc.watches
	if w.sibling != nil {
		w.sibling.siblingBack = w
	}
	wc.watches = w
}

// contextEnded ends all watches that were opened with a context.
func (h *hub) contextEnded(done <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wc := h.ctxs[done]
	if wc == nil {
		return
	}
	cause := context.Cause(wc.ctx)
	for w := wc.watches; w != nil; {
		next := w.sibling
		w.finish(cause)
		h.removeLocked(w)
		w = next
	}
}

// join registers w if it is level with the hub: it has been given everything
// before seq. Otherwise w reads on in the history.
func (h *hub) join(w *Watch, seq uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, in := h.behind[w]; !in {
		return true // it has ended
	}
	if h.seq > seq {
		return false
	}
	delete(h.behind, w)
	w.start = seq
	w.next = h.watches[w.path]
	if w.next != nil {
		w.next.back = w
	}
	h.watches[w.path] = w
	w.joined = true
	if w.mode == Subtree {
		h.subtrees++
	}
	return true
}

// remove takes w out, if it is in.
func (h *hub) remove(w *Watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeLocked(w)
}

func (h *hub) removeLocked(w *Watch) {
	if w.removed {
		return
	}
	w.removed = true
	h.count--
	w.s.meter.giveWatches(1)
	delete(h.behind, w)
	delete(h.marked, w)
	if w.joined {
		h.unlistLocked(w)
	}
	if done := w.ctx.Done(); done != nil {
		h.unfollowLocked(w, done)
	}
}

// unlistLocked takes w out of the list of its path.
func (h *hub) unlistLocked(w *Watch) {
	if w.mode == Subtree {
		h.subtrees--
	}
	if w.next != nil {
		w.next.back = w.back
	}
	switch {
	case w.back != nil:
		w.back.next = w.next
	case w.next != nil:
		h.watches[w.path] = w.next
	default:
		delete(h.watches, w.path)
	}
	w.next, w.back = nil, nil
}

// unfollowLocked takes w out of the list of its context.
func (h *hub) unfollowLocked(w *Watch, done <-chan struct{}) {
	wc := h.ctxs[done]
	if w.sibling != nil {
		w.sibling.siblingBack = w.siblingBack
	}
	switch {
	case w.siblingBack != nil:
		w.siblingBack.sibling = w.sibling
	case w.sibling != nil:
		wc.watches = w.sibling
	default:
		wc.unlink()
		delete(h.ctxs, done)
	}
	w.sibling, w.siblingBack = nil, nil
}

// admitSet lets a set register.
func (h *hub) admitSet(ws *WatchSet) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed != nil {
		return h.closed
	}
	h.sets[ws] = struct{}{}
	return nil
}

// enlist takes registrations over that are level with the hub: they have looked at
// every change before seq. Otherwise it says how many changes they have yet to look
// at.
func (h *hub) enlist(late *lateRegistrations, seq uint64) (behind uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ws := late.set
	if _, in := h.sets[ws]; !in {
		return 0, ws.Err()
	}
	if h.seq > seq {
		return h.seq - seq, nil
	}
	more := 0
	for path := range late.table.byPath {
		if ws.regs[path] == nil {
			more++
		}
	}
	if h.count+more > h.limit {
		return 0, ErrTooManyWatches
	}
	if err := ws.s.meter.takeWatches(more); err != nil {
		return 0, err
	}
	h.count += more
	for path, r := range late.table.byPath {
		modes := r.modes
		if mine := ws.regs[path]; mine != nil {
			r = mine
		} else {
			r.modes = 0
			ws.regs[path] = r
		}
		h.regs.add(r, modes)
	}
	ws.insertMissed(late.missed)
	return 0, nil
}

// dropLocked takes a registration without modes out of its set.
func (h *hub) dropLocked(r *registration) {
	delete(r.set.regs, r.path)
	h.count--
	r.set.s.meter.giveWatches(1)
}

// dismiss takes a set out, if it is in.
func (h *hub) dismiss(ws *WatchSet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dismissLocked(ws)
}

func (h *hub) dismissLocked(ws *WatchSet) {
	for _, r := range ws.regs {
		h.regs.clear(r, anyMode)
		h.dropLocked(r)
	}
	delete(h.sets, ws)
}

// compacted is what a reader learns that needs changes which are forgotten.
func (h *hub) compacted() *CompactedError {
	oldest := h.history.forgotten()
	if _, ok := oldest.in(h.g.id); !ok {
		oldest = oldest.with(whole(h.g.id, 0))
	}
	return &CompactedError{Oldest: positionOf(h.g.state(), oldest...)}
}

// loseLocked ends every watch, and every set with a registration, that is told of what is
// at or below path.
func (h *hub) loseLocked(path string) {
	err := h.compacted()
	for _, first := range h.watches {
		for w := first; w != nil; {
			next := w.next
			if w.touches(path) {
				w.end(err)
				h.removeLocked(w)
			}
			w = next
		}
	}
	for ws := range h.sets {
		if ws.touchesLocked(path) {
			h.endSetLocked(ws, err)
		}
	}
}

// skipLocked ends every watch, and every set that has registrations: the published
// state was not reached through changes that are known here.
func (h *hub) skipLocked(end uint64, told places) {
	err := h.compacted()
	h.endWatchesLocked(err)
	for ws := range h.sets {
		if len(ws.regs) > 0 {
			h.endSetLocked(ws, err)
		}
	}
	h.levelLocked(end, told)
}

func (h *hub) endWatchesLocked(err error) {
	for _, first := range h.watches {
		for w := first; w != nil; {
			next := w.next
			w.end(err)
			h.removeLocked(w)
			w = next
		}
	}
	for w := range h.behind {
		w.end(err)
		h.removeLocked(w)
	}
}

func (h *hub) endSetLocked(ws *WatchSet, err error) {
	ws.end(err)
	h.dismissLocked(ws)
}

// open returns the number of open watches and registrations.
func (h *hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// close ends every watch, and refuses new ones, with err.
func (h *hub) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed == nil {
		h.closed = err
	}
	h.endWatchesLocked(h.closed)
	for ws := range h.sets {
		h.endSetLocked(ws, h.closed)
	}
	h.levelLocked(h.seq, h.told)
}
