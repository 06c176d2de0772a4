package coord

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
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

// ErrTooManyWatches is returned when [Config.MaxWatches] are open on this member. The
// limit of a session is another, see [ErrLimitExceeded].
var ErrTooManyWatches = errors.New("too many watches on this member")

// An OverrunError ends a watch whose reader fell behind by more than
// [Config.WatchBuffer] events or [Config.HistoryBytes]. What was queued is delivered before it.
type OverrunError struct {
	// Position is the place up to which everything was delivered: a watch that
	// starts [From] it misses nothing, if the history still reaches back to it.
	Position Position
}

// Error names the place up to which nothing was lost.
func (e *OverrunError) Error() string {
	return fmt.Sprintf("coord: watch overrun: the reader fell behind; it can go on from %v", e.Position)
}

// A CompactedError says that changes which a watch would have to tell are no longer
// known on this member: its start is older than the history, or the member caught
// up by a snapshot.
type CompactedError struct {
	Oldest Position // the oldest place to start from
}

// Error names the oldest place to start from.
func (e *CompactedError) Error() string {
	return fmt.Sprintf("coord: watch compacted: changes are known here only from %v on", e.Oldest)
}

// A Watch is a stream of the changes to a path, in the order of their zxids. All
// events of one write are delivered, or none. It holds as many events as
// [Config.WatchBuffer] says for a reader that is behind, or as many bytes as
// [Config.HistoryBytes] says, and ends when there is one write more, because a gap
// would be a lie.
//
// A Watch ends with the context it was opened with, when [Watch.Close] is called,
// when its reader falls behind, when this member catches up by a snapshot, and
// when the Coordinator is closed. It does not end with a session and goes on
// through changes of leader.
//
// One goroutine at a time may read from it, by Events or by C.
type Watch struct {
	path     string
	mode     WatchMode
	data     bool
	progress bool
	types    uint16 // a bit for each EventType; 0 is all
	joined   bool   // guarded by hub.mu: it is in the list of its path
	removed  bool   // guarded by hub.mu: it has ended
	s        *Session
	hub      *hub
	ctx      context.Context

	next, back           *Watch // guarded by hub.mu; the list of its path
	sibling, siblingBack *Watch // guarded by hub.mu; the list of its context
	start                uint64 // guarded by hub.mu; changes before it are none of its business

	seq  uint64 // where to read on in the history until it has joined; owned by the reader
	from *start // until then, if it did not start at what was published; owned by the reader

	mu      sync.Mutex
	initial *View         // guarded by mu; the state to tell first; nil once the reader is at it
	queued  []change      // guarded by mu
	bytes   int           // guarded by mu; of queued, as the history counts them
	ready   int           // guarded by mu; how many of queued may be handed out
	full    bool          // guarded by mu; an event did not fit
	marked  bool          // guarded by mu; a progress mark is due
	telling bool          // guarded by mu; not all of initial has been told
	unseen  bool          // guarded by mu; the reader has passed what it may not be told
	at      places        // guarded by mu; up to where the reader was told, in each group that serves some of it
	err     error         // guarded by mu; why it ended, set once
	more    chan struct{} // guarded by mu; holds 1: there is something to take; nil until the reader waits
	pump    *watchPump    // guarded by mu; nil until C is called
}

// A watchPump is what C needs beside.
type watchPump struct {
	events chan Event
	gone   chan struct{} // closed when nobody reads any more
	left   bool          // guarded by Watch.mu; gone is closed
	told   Position      // guarded by Watch.mu; up to where the reader has received
}

// Path returns the path that is watched.
func (w *Watch) Path() string { return w.path }

// Position returns the place up to which the reader was told everything: zero until
// it was told the whole state [WithInitial]. It may be one event behind what was
// received from C last; the event's own Position is not. Any goroutine may call it.
func (w *Watch) Position() Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pump != nil {
		return w.pump.told // what lies in the channel's way was not told yet
	}
	return w.positionLocked()
}

func (w *Watch) positionLocked() Position {
	if w.telling {
		return Position{}
	}
	return positionOf(w.hub.g.state(), w.at...)
}

// offer queues a change if it lies behind the start of the watch and is of a type
// that is asked for. It adds w to woken if it is the first since the last release.
func (w *Watch) offer(c *change, seq uint64, woken []*Watch) []*Watch {
	if seq < w.start || !w.wants(c) {
		return woken
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.full {
		return woken
	}
	cfg := &w.s.c.cfg
	if n := len(w.queued); (n >= cfg.WatchBuffer || w.bytes >= cfg.HistoryBytes) && !w.queued[n-1].sameWrite(c) {
		w.full = true
		return append(woken, w)
	}
	w.queued = append(w.queued, *c)
	w.bytes += c.size()
	if len(w.queued) == w.ready+1 {
		woken = append(woken, w)
	}
	return woken
}

// wants applies the filter by type.
func (w *Watch) wants(c *change) bool {
	t := c.typ
	if w.mode == Children {
		t = NodeChildrenChanged
	}
	return w.types == 0 || w.types&(1<<t) != 0
}

// release lets the reader have what is queued, which is whole writes. It reports
// whether the watch ends because it was full.
func (w *Watch) release() (ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = len(w.queued)
	ended = w.full && w.err == nil
	if ended {
		w.err = &OverrunError{Position: positionOf(w.hub.g.state(), w.at.behind(w.queued)...)}
	}
	w.signalLocked()
	return ended
}

// mark has the reader told that it was given everything up to told, in groups that it knows
// of and in those of mounts that it has not heard of yet.
func (w *Watch) mark(told places, mounts []*mount) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queued) > 0 {
		return
	}
	at := w.at
	for _, was := range w.at {
		if now, ok := told.in(was.group); ok && now.zxid >= was.zxid {
			at = at.with(now)
		}
	}
	for _, m := range mounts {
		if _, known := at.in(m.group); known || !w.touches(m.path) {
			continue
		}
		if now, ok := told.in(m.group); ok {
			at = at.with(now)
		}
	}
	at = w.hub.history.current(at)
	if w.unseen || !slices.Equal(at, w.at) {
		w.at, w.marked, w.unseen = at, true, false
		w.signalLocked()
	}
}

// end makes w end with err once what is queued was read.
func (w *Watch) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.initial = nil // nobody is told it any more
	w.signalLocked()
}

// finish ends w at once: what is queued is dropped.
func (w *Watch) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.queued, w.bytes, w.ready, w.marked, w.initial = nil, 0, 0, false, nil
	if w.pump != nil && !w.pump.left {
		w.pump.left = true
		close(w.pump.gone)
	}
	w.signalLocked()
}

func (w *Watch) signalLocked() {
	if w.more == nil {
		return
	}
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// take waits for the next change or progress mark (which has no path).
func (w *Watch) take() (change, error) {
	for {
		w.mu.Lock()
		switch {
		case w.ready > 0:
			c := w.queued[0]
			w.queued[0] = change{} // lets go of the znode
			w.queued = w.queued[1:]
			w.ready--
			w.bytes -= c.size()
			w.tellLocked(&c, w.ready == 0 || !w.queued[0].sameWrite(&c))
			if len(w.queued) == 0 {
				w.queued = nil
			}
			w.mu.Unlock()
			return c, nil
		case w.marked:
			w.marked = false
			z := w.at.latest()
			w.mu.Unlock()
			return change{typ: Progress, zxid: z, last: true}, nil
		case w.err != nil:
			err := w.err
			w.mu.Unlock()
			return change{}, err
		}
		if w.more == nil {
			w.more = make(chan struct{}, 1)
		}
		more := w.more
		w.mu.Unlock()
		<-more
	}
}

// Events yields events as they come. The last pair has no event and the reason
// why the watch ended, which is what Err returns. Leaving the loop closes the watch.
func (w *Watch) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		defer w.Close()
		err := w.deliver(func(ev Event) bool { return yield(ev, nil) })
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// deliver tells everything, first the state, then what is in the history, then
// what comes. It returns nil when yield wants no more.
func (w *Watch) deliver(yield func(Event) bool) error {
	if v := w.takeInitial(); v != nil && !w.tellInitial(v, yield) {
		return nil
	}
	if more, err := w.tellHistory(yield); !more || err != nil {
		return err
	}
	for {
		c, err := w.take()
		if err != nil {
			return err
		}
		ev, visible := w.event(&c)
		if visible && !yield(ev) {
			return nil
		}
		if !visible {
			w.passUnseen()
		}
	}
}

// passUnseen takes note that the reader is further than it was told.
func (w *Watch) passUnseen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unseen = true
}

// takeInitial returns the state that is yet to be told, if any, and lets go of it.
func (w *Watch) takeInitial() *View {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.initial
	w.initial = nil
	return v
}

// tellInitial yields the znodes that exist at the start, and then, to a reader that
// wants progress marks, that this was all. It stops when the watch ends. It reports
// whether yield wants more.
//
// Only the last of it has a Position: who went on from an earlier one would never be
// told the rest.
func (w *Watch) tellInitial(v *View, yield func(Event) bool) (more bool) {
	at := w.startPosition()
	var last Event // not yielded yet
	for path, n := range v.initial(w.path, w.mode, w.s.ids()) {
		if w.hasEnded() {
			return true // take tells why
		}
		if !w.hub.tells(path, n.acl, w.s.ids()) {
			continue // not any more
		}
		if last.Initial && !yield(last) {
			return false
		}
		last = Event{Type: NodeCreated, Path: path, ZXID: n.czxid, Initial: true}
		if w.data {
			last.Data, last.Stat = bytes.Clone(n.data), n.stat()
		}
	}
	if !w.toldInitial(at, last.Initial || w.progress) {
		return true
	}
	last.Position = at
	if last.Initial && !yield(last) {
		return false
	}
	return !w.progress || w.hasEnded() || yield(Event{Type: Progress, ZXID: v.ZXID(), Position: at})
}

// startPosition returns the place behind the state that is told first.
func (w *Watch) startPosition() Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return positionOf(w.hub.g.state(), w.at...)
}

// toldInitial takes note that the state is told but for one event, which may have to
// go through the channel yet, unless w has ended.
func (w *Watch) toldInitial(at Position, more bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return false
	}
	w.telling = false
	if w.pump != nil && !more {
		w.pump.told = at
	}
	return true
}

// tellHistory reads the history until w is level with the hub and joined it.
func (w *Watch) tellHistory(yield func(Event) bool) (more bool, err error) {
	var buf []change
	for !w.hub.join(w, w.seq) {
		end, _ := w.hub.history.now()
		changes, ok := w.hub.history.read(w.seq, end, buf[:0])
		if !ok {
			return false, w.loses()
		}
		for i := range changes {
			c := &changes[i]
			if w.hasEnded() {
				return true, nil // take tells why
			}
			if c.typ == changesLost && w.touches(c.path) && (w.from == nil || w.from.before(c)) {
				return false, w.loses()
			}
			if !w.concerns(c) || !w.pass(c, i+1 == len(changes) || !changes[i+1].sameWrite(c)) {
				continue
			}
			ev, visible := w.event(c)
			if visible && !yield(ev) {
				return false, nil
			}
			if !visible {
				w.passUnseen()
			}
		}
		w.seq += uint64(len(changes))
		buf = changes
	}
	w.from = nil
	return true, nil
}

func (w *Watch) hasEnded() bool { return w.Err() != nil }

// loses ends w, because what it would have to tell is not known here any more.
func (w *Watch) loses() error {
	err := w.hub.compacted()
	w.end(err)
	w.hub.remove(w)
	return err
}

// pass takes note that the reader is told c, unless it was before.
func (w *Watch) pass(c *change, whole bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.from != nil && !w.from.before(c) {
		return false
	}
	w.tellLocked(c, whole)
	return true
}

// tellLocked takes note that the reader is told c, and of its write whether all that
// concerns it.
func (w *Watch) tellLocked(c *change, all bool) {
	at := groupPosition{c.group, c.zxid, c.index + 1}
	if all {
		at.events = allEvents
	}
	w.at = w.at.with(at)
	if c.group == w.hub.g.id {
		w.at = w.hub.history.current(w.at)
	}
}

// positionBehind returns the Position of the event of c, which the reader is told now.
func (w *Watch) positionBehind(c *change) Position {
	w.mu.Lock()
	at := w.at
	w.mu.Unlock()
	if c.typ != Progress {
		at = at.with(c.behind())
	}
	return positionOf(w.hub.g.state(), at...)
}

// touches reports whether w is told of anything that is at or below path.
func (w *Watch) touches(path string) bool { return concerns(w.path, w.mode, path) }

// concerns reports whether a watch of a mode on path is told of anything that the group of
// a mount at mountPoint serves.
func concerns(path string, mode WatchMode, mountPoint string) bool {
	served := mountedAs(path) // the quotas of a mount are below its mount point
	return inSubtree(mountPoint, served) || mode == Subtree && (inSubtree(served, mountPoint) || inSubtree(path, pathQuota))
}

// concerns reports whether a change is one that the hub would offer to w.
func (w *Watch) concerns(c *change) bool {
	if c.typ == changesLost || !w.wants(c) {
		return false
	}
	switch w.mode {
	case Node:
		return c.path == w.path
	case Children:
		return c.typ != NodeDataChanged && c.path != pathRoot && parentPath(c.path) == w.path
	case Subtree:
		return inSubtree(w.path, c.path)
	}
	return false
}

// inSubtree reports whether path is root or lies below it.
func inSubtree(root, path string) bool {
	if root == pathRoot || root == path {
		return true
	}
	return len(path) > len(root) && path[:len(root)] == root && path[len(root)] == '/'
}

// event makes the reader's own event of a change. It is not visible if the reader
// was not allowed to read the znode then, or is not now.
func (w *Watch) event(c *change) (ev Event, visible bool) {
	ev = Event{Type: c.typ, Path: c.path, ZXID: c.zxid, Position: w.positionBehind(c)}
	if c.typ == Progress {
		return ev, true
	}
	then := c.node.acl
	if w.mode == Children {
		ev.Type, ev.Path, then = NodeChildrenChanged, w.path, c.parent
	}
	if !w.hub.tells(ev.Path, then, w.s.ids()) {
		return Event{}, false
	}
	if w.data && w.mode != Children {
		ev.Data, ev.Stat = bytes.Clone(c.node.data), c.node.stat()
	}
	return ev, true
}

// tells reports whether a reader may be told of a change of the znode at path, or of
// its children: it was allowed to read the znode then, and is now. A znode that is gone
// is judged by the ACL that it had last, so that deleting it does not open what was
// closed before.
func (h *hub) tells(path string, then *aclEntry, identities []ID) bool {
	s := h.stateOf(path)
	if !s.permits(then, identities, PermRead) {
		return false
	}
	if n, exists := s.tree.find(path); exists {
		return s.permits(n.acl, identities, PermRead)
	}
	last := h.history.lastACL(path)
	return last == nil || s.permits(last, identities, PermRead)
}

// C returns a channel of the events, the same each time, which is closed when the
// watch has ended; [Watch.Err] then says why. It costs a goroutine, which Events does
// not. A reader that stops reading must call Close or end the context. What is queued
// when the context or the Coordinator ends may be dropped.
func (w *Watch) C() <-chan Event {
	w.mu.Lock()
	p := w.pump
	if p != nil {
		w.mu.Unlock()
		return p.events
	}
	p = &watchPump{events: make(chan Event), gone: make(chan struct{}), told: w.positionLocked()}
	w.pump = p
	w.mu.Unlock()
	if !w.hub.g.spawn(func() { w.runPump(p) }) { // takes a lock that comes before mu
		w.end(ErrClosed) // the hub is about to say so
		close(p.events)
	}
	return p.events
}

// runPump feeds the channel that C returned.
func (w *Watch) runPump(p *watchPump) {
	defer close(p.events)
	_ = w.deliver(func(ev Event) bool { // Err has the reason
		select {
		case p.events <- ev:
			w.mu.Lock()
			p.told = ev.Position
			w.mu.Unlock()
			return true
		case <-p.gone:
			return false
		case <-w.ctx.Done(): // the hub says so as well, but not to a watch that has ended
			w.finish(context.Cause(w.ctx))
			w.hub.remove(w)
			return false
		case <-w.hub.g.ctx.Done():
			return false
		}
	})
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
	w.finish(ErrClosed)
	w.hub.remove(w)
}

// watch opens a watch in the group.
func (g *group) watch(ctx context.Context, s *Session, path string, mode WatchMode, o watchOptions) (*Watch, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	w := &Watch{
		path: path, mode: mode, data: o.data, progress: o.progress, types: o.types,
		s: s, hub: g.hub, ctx: ctx,
	}
	var err error
	if o.from != nil {
		err = w.startFrom(o.at)
	} else {
		err = w.startNow(o.view)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// startNow starts w at what is published; or at v, to be told first: then it
// joins the hub when the reader is through with that, and not before, so that a
// long walk needs no queue.
func (w *Watch) startNow(v *View) error {
	if err := w.hub.admit(w); err != nil {
		return err
	}
	if v != nil {
		return w.startWith(v)
	}
	for {
		seq, told := w.hub.history.now()
		w.seq, w.at = seq, w.concerned(told)
		if w.hub.join(w, seq) {
			return nil
		}
	}
}

// startWith has what v shows told first, unless w has ended already.
func (w *Watch) startWith(v *View) error {
	from, ok := w.hub.history.seek(v.places(), w.touches)
	if !ok {
		return w.loses() // by a snapshot, a moment ago
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq, w.at, w.from = from.seq, w.concerned(from.at), &from
	if w.err == nil {
		w.initial, w.telling = v, true
	}
	return nil
}

// concerned returns of places those in groups that serve something w is told of.
func (w *Watch) concerned(at places) places {
	if len(at) <= 1 {
		return at
	}
	root := w.hub.g
	out := at[:0:0]
	for _, p := range at {
		if p.group == root.id {
			out = append(out, p)
		}
	}
	for m := range root.state().mounts.all() {
		if p, ok := at.in(m.group); ok && w.touches(m.path) {
			out = out.with(p)
		}
	}
	return out
}

// startFrom starts w in the past. Groups that from does not name begin where they are
// mounted.
func (w *Watch) startFrom(from places) error {
	root := w.hub.g
	at := from
	if _, ok := at.in(root.id); !ok {
		at = at.with(groupPosition{group: root.id})
	}
	for m := range root.state().mounts.all() {
		if _, named := at.in(m.group); !named && m.phase == mountServed && w.touches(m.path) {
			at = at.with(whole(m.group, m.sealed))
		}
	}
	start, ok := w.hub.history.seek(at, w.touches)
	if !ok {
		return w.hub.compacted()
	}
	w.seq, w.at, w.from = start.seq, start.at, &start
	return w.hub.admit(w)
}

// reach waits until the published state reflects a place in the order of changes,
// at most for one barrier: if it is behind even then, nobody has been there.
func (g *group) reach(ctx context.Context, at groupPosition) error {
	if g.state().zxid >= at.zxid {
		return nil
	}
	if err := g.barrier(ctx); err != nil {
		return err
	}
	if z := g.state().zxid; z < at.zxid {
		return fmt.Errorf("%w: it is at %v, the ensemble at %v", ErrInvalidPosition, at.zxid, z)
	}
	return nil
}

// watchOptions are the options of one watch.
type watchOptions struct {
	data, initial, progress bool
	types                   uint16
	from                    *Position
	at                      places // of from
	view                    *View  // to be told first, if initial is set
	unknown                 []EventType
}

// fault says what is wrong with o, or nothing.
func (o *watchOptions) fault() string {
	switch {
	case o.from != nil && o.initial:
		return "From and WithInitial exclude each other"
	case len(o.unknown) > 0:
		slices.Sort(o.unknown)
		return fmt.Sprintf("no such type: %v", o.unknown[0])
	}
	return ""
}
