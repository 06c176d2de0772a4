package coord

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
)

// A WatchSet holds registrations with the semantics of ZooKeeper's watches, for
// those who speak its protocol or port code that was written for it: one set is
// one client's connection to one server. Everything else is better served by
// [Session.Watch].
//
//   - A registration is told the first change behind the [View] it was made with,
//     none is skipped and none told twice.
//   - Types at one path combine. To register what is registered already changes
//     nothing.
//   - However many registrations a change concerns, the set is told once that the
//     znode changed, and once that the children of its parent did.
//   - A change that the session may not read is not told, but uses up what it would
//     have been told to.
//
// Registrations end with [WatchSet.Close], not with the session or a context. A set
// that is not emptied holds at most [Config.WatchBuffer] notifications for its lasting
// registrations, and what one write or one [WatchSet.Add] behind an old View brings,
// and ends when there is one write more; of the others there is at most one for each
// time that they were registered. A set with registrations also ends when this member
// catches up by a snapshot, because nobody knows then what changed: the client
// connects and registers again. Whatever ends a set drops its registrations; what is
// queued can be taken first, but for Close.
//
// Any number of goroutines may use a set, but Add and Take only one at a time: the
// order in which a client learns things is theirs to keep. The rules are those of
// the ZooKeeper programmer's guide, "ZooKeeper Watches".
type WatchSet struct {
	s       *Session
	hub     *hub
	regs    map[string]*registration // guarded by hub.mu; by path
	changed chan struct{}            // holds 1

	mu      sync.Mutex
	queued  []notice // guarded by mu; in order
	ready   int      // guarded by mu; how many of queued may be handed out: whole writes
	lasting int      // guarded by mu; how many of queued come from lasting registrations
	mixed   bool     // guarded by mu; notices of several groups were queued together
	full    bool     // guarded by mu; one of those did not fit
	kept    places   // guarded by mu; if it is full: everything up to here was queued
	taken   places   // guarded by mu; of the last that were handed out
	err     error    // guarded by mu; why it ended, set once
}

// A Registration is a path and what to be told of it.
type Registration struct {
	Path string
	Type WatcherType
}

// NewWatchSet returns an empty set, which must be closed. ctx bounds the wait for this
// member to catch up after its start, as [Config.OperationTimeout] does, and not the
// set. It fails as every call on a session that has ended or a Coordinator that is
// closed does.
func (s *Session) NewWatchSet(ctx context.Context) (*WatchSet, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, s.c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	err := s.alive()
	g := s.c.root
	if err == nil {
		err = g.awaitJoined(waiting)
	}
	ws := &WatchSet{s: s, hub: g.hub, regs: map[string]*registration{}, changed: make(chan struct{}, 1)}
	if err == nil {
		err = g.hub.admitSet(ws)
	}
	if err != nil {
		return nil, &OpError{Op: "watch", Err: err}
	}
	return ws, nil
}

// Add registers rs, all of them or none, behind what v shows: a change that v does
// not show is told, also if it has happened since. A client that is given what v
// shows must first be given what Take returns for v's zxid.
//
// It fails with [ErrBadArguments] for a path that is no path, for [AnyWatcher], and
// for a view of another ensemble, one that this member has not reached, or one that is
// older than what was taken (the client knows more than it shows: read again); with
// [ErrTooManyWatches] and [ErrLimitExceeded]; with a [*CompactedError] if the changes behind v are no longer
// known; and with what [WatchSet.Err] says once the set has ended.
func (ws *WatchSet) Add(v *View, rs ...Registration) error {
	for _, r := range rs {
		fault := pathFault(r.Path)
		if fault == "" && (r.Type == AnyWatcher || r.Type.modes() == 0) {
			fault = "cannot register for " + r.Type.String()
		}
		if fault != "" {
			return &OpError{Op: "watch", Path: r.Path, Err: ErrBadArguments, Detail: fault}
		}
	}
	if err := ws.add(v, rs); err != nil {
		return &OpError{Op: "watch", Err: err}
	}
	return nil
}

func (ws *WatchSet) add(v *View, rs []Registration) error {
	if err := ws.suits(v); err != nil {
		return err
	}
	h := ws.hub
	h.flush() // what v shows has been told to the set, and is none of rs's business
	late := newLateRegistrations(ws, rs)
	from, ok := h.history.seek(v.places(), late.touches)
	if !ok {
		return h.compacted()
	}
	seq := from.seq
	var buf []change
	for {
		behind, err := h.enlist(late, seq)
		if err != nil || behind == 0 {
			return err
		}
		buf, ok = h.history.read(seq, seq+behind, buf[:0])
		if !ok {
			return h.compacted()
		}
		for i := range buf {
			switch c := &buf[i]; {
			case !from.before(c):
			case c.typ == changesLost:
				if late.touches(c.path) {
					return h.compacted()
				}
			default:
				late.offer(c, seq+uint64(i))
			}
		}
		seq += uint64(len(buf))
	}
}

// suits says why registrations cannot be made behind v, or nothing.
func (ws *WatchSet) suits(v *View) error {
	ws.mu.Lock()
	taken := ws.taken
	ws.mu.Unlock()
	now := ws.hub.g.state()
	if v.s.group != now.group || v.s.id != now.id {
		return fmt.Errorf("%w: a view of another ensemble", ErrBadArguments)
	}
	if v.s.zxid > now.zxid {
		return fmt.Errorf("%w: the view is at %v, this member at %v", ErrBadArguments, v.s.zxid, now.zxid)
	}
	for _, at := range v.places() {
		if was, ok := taken.in(at.group); ok && at.zxid < was.zxid {
			return fmt.Errorf("%w: the view is at %v, older than %v, which was taken", ErrBadArguments, at.zxid, was.zxid)
		}
	}
	return nil
}

// touchesLocked reports whether a registration of the set is told of anything that is at or
// below path.
func (ws *WatchSet) touchesLocked(path string) bool { return touching(ws.regs, path) }

func touching(regs map[string]*registration, path string) bool {
	for at, r := range regs {
		mode := Node
		if r.modes&recursive != 0 {
			mode = Subtree
		}
		if concerns(at, mode, path) {
			return true
		}
	}
	return false
}

// lateRegistrations are registrations that are not in the hub's table yet, because
// the hub may have moved on: they look at what they missed in a table of their own.
type lateRegistrations struct {
	set    *WatchSet
	table  registrations
	missed []notice
}

func newLateRegistrations(ws *WatchSet, rs []Registration) *lateRegistrations {
	late := &lateRegistrations{set: ws, table: registrations{byPath: make(map[string]*registration, len(rs))}}
	for _, r := range rs {
		reg := late.table.byPath[r.Path]
		if reg == nil {
			reg = &registration{set: ws, path: r.Path}
		}
		late.table.add(reg, r.Type.modes())
	}
	return late
}

func (late *lateRegistrations) touches(path string) bool { return touching(late.table.byPath, path) }

func (late *lateRegistrations) offer(c *change, seq uint64) {
	tell := func(_ *registration, n notice) { late.missed = append(late.missed, n) }
	late.table.trigger(c, seq, tell, func(*registration) {})
}

// Remove takes the registrations of a type at a path out, with [AnyWatcher] all of the
// path. It reports whether there was one. What they were told already stays to be
// taken.
func (ws *WatchSet) Remove(path string, t WatcherType) bool {
	h := ws.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	r := ws.regs[path]
	if r == nil || r.modes&t.modes() == 0 {
		return false
	}
	if h.regs.clear(r, t.modes()) {
		h.dropLocked(r)
	}
	return true
}

// Has reports whether there is such a registration, with [AnyWatcher] any at the path.
// One that was used up is gone when what it was told is queued, not when it is taken.
func (ws *WatchSet) Has(path string, t WatcherType) bool {
	ws.hub.mu.Lock()
	defer ws.hub.mu.Unlock()
	r := ws.regs[path]
	return r != nil && r.modes&t.modes() != 0
}

// Len returns the number of paths with a registration.
func (ws *WatchSet) Len() int {
	ws.hub.mu.Lock()
	defer ws.hub.mu.Unlock()
	return len(ws.regs)
}

// Changed returns a channel that receives when there may be something to take, or the
// set has ended. It holds one signal, which one receiver gets, and is never closed:
// Take until nothing is left before waiting for the next.
func (ws *WatchSet) Changed() <-chan struct{} { return ws.changed }

// Take hands out the notifications of all writes up to upTo, in the order of the
// changes; those of one change of a znode come before that of its parent's children.
// If upTo is the zxid of a write that this member has acknowledged, none is missing:
// they are what a client must learn before it may learn of the write; and so it is with
// the zxid of a [View], if nothing is mounted. The largest ZXID takes what there is. The
// order is one for each mount, see [Coordinator.Mount].
//
// It waits until this member's watches have been told what the member has applied,
// which takes a moment. The events carry no data and no Position. There may be none,
// because the session may not read what changed. Once the set has ended, Take returns
// with the last of them what [WatchSet.Err] says: others up to upTo may be missing then.
func (ws *WatchSet) Take(upTo ZXID) ([]Event, error) {
	return ws.take(func(n *notice) bool { return n.zxid <= upTo })
}

// TakeShown is [WatchSet.Take] of all that v shows: what a client must learn before it may
// learn of anything in v.
func (ws *WatchSet) TakeShown(v *View) ([]Event, error) {
	at := v.places()
	return ws.take(func(n *notice) bool {
		shown, ok := at.in(n.group)
		return ok && n.zxid <= shown.zxid
	})
}

func (ws *WatchSet) take(wanted func(*notice) bool) ([]Event, error) {
	ws.hub.flush()
	notices, err := ws.takeNotices(wanted)
	var events []Event
	var told places
	for i := range notices { // not under mu: the hub may want it
		if n := &notices[i]; ws.hub.tells(n.path, n.acl, ws.s.ids()) {
			events = append(events, Event{Type: n.typ, Path: n.path, ZXID: n.zxid})
			if at, ok := told.in(n.group); !ok || at.zxid < n.zxid {
				told = told.with(whole(n.group, n.zxid))
			}
		}
	}
	ws.tookUpTo(told)
	clear(notices) // the queue may still share the array
	return events, err
}

// tookUpTo takes note of what the reader was told.
func (ws *WatchSet) tookUpTo(told places) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, at := range told {
		ws.taken = ws.taken.with(at)
	}
}

// takeNotices takes from the queue what is wanted. If nothing more may be handed out, it
// says why the set has ended: nobody knows what would come next.
func (ws *WatchSet) takeNotices(wanted func(*notice) bool) ([]notice, error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	n := 0
	for n < ws.ready && wanted(&ws.queued[n]) {
		n++
	}
	taken := ws.queued[:n:n]
	ws.queued = ws.queued[n:]
	ws.ready -= n
	if ws.mixed { // what is wanted may stand behind what is not, and is of another group
		taken = ws.pickLocked(slices.Clone(taken), wanted)
	}
	for i := range taken {
		if !taken[i].once {
			ws.lasting--
		}
	}
	if len(ws.queued) == 0 {
		ws.queued = nil
	}
	if ws.ready > 0 {
		return taken, nil
	}
	return taken, ws.err
}

// pickLocked appends what is wanted of the notices that may be handed out, and takes it out
// of the queue.
func (ws *WatchSet) pickLocked(taken []notice, wanted func(*notice) bool) []notice {
	var left []notice
	for i := range ws.queued {
		if n := &ws.queued[i]; i < ws.ready && wanted(n) {
			taken = append(taken, *n)
		} else {
			left = append(left, *n)
		}
	}
	ws.ready -= len(ws.queued) - len(left)
	ws.queued = left
	return taken
}

// Err says why the set has ended: ErrClosed after Close, an [*OverrunError], a
// [*CompactedError], or the reason why the Coordinator has closed. It is nil while
// the set goes on. The Position of an overrun is one from which a [Watch] misses
// nothing of what was lost.
func (ws *WatchSet) Err() error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.err
}

// Close drops all registrations and notifications and ends the set, if nothing has
// before. Further calls do nothing.
func (ws *WatchSet) Close() {
	ws.end(ErrClosed)
	ws.hub.dismiss(ws)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.queued, ws.ready, ws.lasting = nil, 0, 0
}

// offer queues a notice, unless it is the one that was queued last. It reports
// whether it is the first since the last release.
func (ws *WatchSet) offer(n notice) (first bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	last := len(ws.queued) - 1
	if ws.err != nil || ws.full {
		return false
	}
	if last >= 0 && ws.queued[last].order == n.order {
		ws.mergeLocked(&ws.queued[last], n)
		return false
	}
	if !n.once && ws.lasting >= ws.s.c.cfg.WatchBuffer && (ws.queued[last].zxid != n.zxid || ws.queued[last].group != n.group) {
		ws.full, ws.kept = true, ws.keptLocked()
		return last+1 == ws.ready
	}
	ws.mixed = ws.mixed || last >= 0 && ws.queued[last].group != n.group
	ws.queued = append(ws.queued, n)
	if !n.once {
		ws.lasting++
	}
	return last+1 == ws.ready
}

// keptLocked returns up to where everything was queued. The hub is between two writes.
func (ws *WatchSet) keptLocked() places {
	kept := ws.hub.told
	for i := range ws.queued {
		n := &ws.queued[i]
		if at, _ := kept.in(n.group); n.zxid > at.zxid {
			kept = kept.with(whole(n.group, n.zxid))
		}
	}
	return kept
}

// mergeLocked has a notice stand for another one of the same notification.
func (ws *WatchSet) mergeLocked(into *notice, n notice) {
	if n.once && !into.once {
		into.once = true
		ws.lasting--
	}
}

// insertMissed queues what registrations missed before they were in the hub's table,
// in order, at its place. The hub is not in the middle of a write.
func (ws *WatchSet) insertMissed(missed []notice) {
	if len(missed) == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	from := sort.Search(len(ws.queued), func(i int) bool { return ws.queued[i].order >= missed[0].order })
	later := slices.Clone(ws.queued[from:])
	merged := ws.queued[:from]
	for _, n := range missed {
		for len(later) > 0 && later[0].order <= n.order {
			merged = append(merged, later[0])
			later = later[1:]
		}
		if last := len(merged) - 1; last >= 0 && merged[last].order == n.order {
			ws.mergeLocked(&merged[last], n)
			continue
		}
		ws.mixed = ws.mixed || len(merged) > 0 && merged[len(merged)-1].group != n.group
		merged = append(merged, n)
		if !n.once {
			ws.lasting++
		}
	}
	ws.mixed = ws.mixed || len(later) > 0 && later[0].group != missed[0].group
	ws.queued = append(merged, later...)
	ws.ready = len(ws.queued)
	ws.signal()
}

// release has what is queued, which is whole writes, handed out. It reports whether
// the set ends because it was full.
func (ws *WatchSet) release() (ended bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.ready = len(ws.queued)
	ended = ws.full && ws.err == nil
	if ended {
		// The reader may have taken the last of queued meanwhile.
		ws.err = &OverrunError{Position: positionOf(ws.hub.g.state(), ws.kept...)}
	}
	ws.signal()
	return ended
}

// end makes the set end with err once what is queued was taken.
func (ws *WatchSet) end(err error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.err == nil {
		ws.err = err
	}
	ws.signal()
}

func (ws *WatchSet) signal() {
	select {
	case ws.changed <- struct{}{}:
	default:
	}
}
