package coord

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
)

// openBare opens a watch in a group that has no host.
func openBare(t *testing.T, g *group, s *Session, path string, mode WatchMode, opts ...WatchOption) *Watch {
	t.Helper()
	var o watchOptions
	for _, opt := range opts {
		opt.applyWatch(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	if o.initial {
		o.view = &View{s: g.state()}
	}
	if o.from != nil {
		at, err := o.from.placesIn(g.state())
		if err != nil {
			t.Fatal(err)
		}
		o.at = at
	}
	w, err := g.watch(ctx, s, path, mode, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func at(g *group, z ZXID, events uint32) Position {
	return positionOf(g.state(), groupPosition{g.id, z, events})
}

func TestWatchSetHandsOutWholeWrites(t *testing.T) {
	g, ws := newBareSet(t, Config{WatchBuffer: 2})
	err := ws.Add(&View{s: g.state()}, Registration{"/a", PersistentWatcher}, Registration{"/b", PersistentWatcher}, Registration{"/c", DataWatcher})
	if err != nil {
		t.Fatal(err)
	}
	publishBare(g, 1, "/a")
	g.hub.catchUp(nil)
	g.hub.regs.trigger(&change{typ: NodeDataChanged, zxid: 2, path: "/a", node: bareNode()}, 1,
		func(r *registration, n notice) { r.set.offer(n) }, func(*registration) {})
	if events, err := ws.Take(2); err != nil || len(events) != 1 {
		t.Errorf("told %v, %v in the middle of a write; want what is before it", events, err)
	}
	ws.release()
	if events, err := ws.Take(2); err != nil || len(events) != 1 || events[0].ZXID != 2 {
		t.Errorf("told %v, %v behind it; want the event", events, err)
	}
	publishBare(g, 3, "/a", "/b", "/a")
	g.hub.catchUp(nil)
	if events, err := ws.Take(3); err != nil || len(events) != 3 {
		t.Errorf("told %v, %v; want the 3 events of the write", events, err)
	}
	publishBare(g, 4, "/a")
	publishBare(g, 5, "/b")
	publishBare(g, 6, "/a", "/c")
	g.hub.catchUp(nil)
	if events, err := ws.Take(4); err != nil || len(events) != 1 || events[0].ZXID != 4 {
		t.Errorf("told %v, %v; want the first write, of which nothing is missing", events, err)
	}
	for _, want := range []int{1, 0} {
		events, err := ws.Take(6)
		if overrun, ok := errors.AsType[*OverrunError](err); !ok || overrun.Position != at(g, 5, allEvents) {
			t.Errorf("ended with %v, want an overrun at 5, because write 6 is missing", err)
		}
		if len(events) != want || want == 1 && events[0].ZXID != 5 {
			t.Errorf("told %v; want %d, what fits, in whole writes", events, want)
		}
	}
}

func TestWatchSetRefusesAViewOfTheFuture(t *testing.T) {
	g, ws := newBareSet(t, Config{WatchBuffer: 2})
	ahead := newState(rootGroup)
	ahead.zxid = 9
	if err := ws.Add(&View{s: ahead.freeze()}, Registration{"/a", DataWatcher}); !errors.Is(err, ErrBadArguments) || ws.Len() != 0 {
		t.Errorf("Add = %v, with %d registrations", err, ws.Len())
	}
	publishBare(g, 9, "/b")
	g.hub.catchUp(nil)
	if err := ws.Add(&View{s: ahead.freeze()}, Registration{"/a", DataWatcher}); err != nil {
		t.Errorf("Add when the member has reached the view = %v", err)
	}
}

// A watch that is not level with the hub does not join it, and one that is ahead is
// not told what lies before its start.
func TestHubJoinsWatchesThatAreLevel(t *testing.T) {
	g, ws := newBareSet(t, Config{WatchBuffer: 10})
	publishBare(g, 1, "/a")
	ahead := openBare(t, g, ws.s, "/a", Node)
	g.hub.catchUp(nil)
	if n := len(ahead.queued); n != 0 || !ahead.joined {
		t.Errorf("%d events wait from before the watch was opened", n)
	}
	behind := openBare(t, g, ws.s, "/a", Node, From(Position{}))
	if g.hub.join(behind, behind.seq) {
		t.Error("a watch joined one change behind the hub")
	}
	for ev, err := range behind.Events() {
		if err != nil || ev.ZXID != 1 {
			t.Errorf("told %v, %v", ev, err)
		}
		break
	}
	ahead.Close()
	h := g.hub
	if h.count != 0 || len(h.watches) != 0 || len(h.behind) != 0 || len(h.ctxs) != 0 || len(h.marked) != 0 {
		t.Errorf("left behind: %d watches, %v, %v, %v, %v", h.count, h.watches, h.behind, h.ctxs, h.marked)
	}
}

// Who stops in the middle of a write that the history tells can go on there.
func TestWatchPositionInHistory(t *testing.T) {
	g, ws := newBareSet(t, Config{WatchBuffer: 10})
	publishBare(g, 1, "/a", "/a", "/b", "/a")
	publishBare(g, 2, "/a")
	g.hub.catchUp(nil)
	w := openBare(t, g, ws.s, "/a", Node, From(Position{}))
	want := []Position{at(g, 1, 1), at(g, 1, 2), at(g, 1, allEvents), at(g, 2, allEvents)}
	var got []Position
	for _, err := range w.Events() {
		if got = append(got, w.Position()); err != nil || len(got) == len(want) {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("positions %v, want %v", got, want)
	}
}

func TestProgressMarksKeepTheirPlace(t *testing.T) {
	g, ws := newBareSet(t, Config{WatchBuffer: 10})
	w := openBare(t, g, ws.s, "/a", Node, WithProgress())
	unread := openBare(t, g, ws.s, "/a", Node, WithProgress(), WithInitial())
	publishBare(g, 1, "/a")
	publishBare(g, 2, "/b")
	g.hub.catchUp(nil)
	g.hub.mark()
	for w, want := range map[*Watch]Position{w: at(g, 0, allEvents), unread: {}} {
		if got := w.Position(); got != want {
			t.Errorf("marked at %v, before the reader was told what lies before", got)
		}
	}
	next, stop := iter.Pull2(w.Events())
	defer stop()
	if ev, err, _ := next(); err != nil || ev.Type != NodeDataChanged {
		t.Errorf("told %v, %v", ev, err)
	}
	publishBare(g, 3) // a write that changes nothing that is told
	g.hub.catchUp(nil)
	g.hub.mark()
	if ev, err, _ := next(); err != nil || ev.Type != Progress || ev.Position != at(g, 3, allEvents) {
		t.Errorf("told %v at %v, %v; want a mark at 3", ev, ev.Position, err)
	}
	unread.Close()
	w.Close()
	if n := len(g.hub.marked); n != 0 {
		t.Errorf("%d watches are left to be marked", n)
	}
}

// A snapshot ends whatever would have been told what it skips, and nothing else.
func TestHubEndsWhatASnapshotSkips(t *testing.T) {
	g, empty := newBareSet(t, Config{WatchBuffer: 10})
	full := &WatchSet{s: empty.s, hub: empty.hub, regs: map[string]*registration{}, changed: make(chan struct{}, 1)}
	if err := g.hub.admitSet(full); err != nil {
		t.Fatal(err)
	}
	if err := full.Add(&View{s: g.state()}, Registration{"/a", DataWatcher}, Registration{"/b", DataWatcher}); err != nil {
		t.Fatal(err)
	}
	publishBare(g, 1, "/a")
	g.hub.catchUp(nil)
	joined, unread := openBare(t, g, empty.s, "/a", Node), openBare(t, g, empty.s, "/a", Node, WithInitial())
	s := newState(rootGroup)
	s.zxid = 9
	g.publishSnapshot(&published{state: s.freeze()})
	g.hub.catchUp(nil)
	isCompacted := func(err error) bool {
		compacted, ok := errors.AsType[*CompactedError](err)
		return ok && compacted.Oldest == at(g, 9, allEvents)
	}
	for name, err := range map[string]error{"joined": joined.Err(), "unread": unread.Err(), "set": full.Err()} {
		if !isCompacted(err) {
			t.Errorf("%s: ended with %v, want a compacted error from 9 on", name, err)
		}
	}
	if unread.initial != nil {
		t.Error("a watch that has ended holds a state")
	}
	if events, err := full.Take(9); !isCompacted(err) || len(events) != 1 {
		t.Errorf("told %v, %v; want what was queued before, and that there may be more", events, err)
	}
	if empty.Err() != nil {
		t.Errorf("a set without registrations ended with %v", empty.Err())
	}
	if err := empty.Add(&View{s: g.state()}, Registration{"/a", DataWatcher}); err != nil {
		t.Errorf("Add behind the snapshot = %v", err)
	}
	if n := g.hub.open(); n != 1 {
		t.Errorf("%d watches and registrations are open, want 1", n)
	}
}

// oldestIn returns the zxid behind which every change of the root group is known.
func oldestIn(h *history) ZXID {
	at, _ := h.forgotten().in(rootGroup)
	return at.zxid
}

func TestHistoryBounds(t *testing.T) {
	h := history{root: rootGroup, maxChanges: 10, maxBytes: 1 << 20}
	write := func(z ZXID, n int) {
		changes := make([]change, n)
		for i := range changes {
			changes[i] = change{typ: NodeDataChanged, zxid: z, index: uint32(i), path: "/a", node: &znode{}}
		}
		publishTo(&h, rootGroup, z, changes)
	}
	for z := range ZXID(30) {
		write(z+1, 1)
	}
	if n := len(h.changes); n != 30 {
		t.Errorf("%d changes are kept for the hub, want 30", n)
	}
	h.passed(15)
	if n := len(h.changes); n != 15 || oldestIn(&h) != 15 {
		t.Errorf("%d changes are kept behind %v, want the 15 that the hub has not taken", n, oldestIn(&h))
	}
	write(31, 700)
	if _, ok := h.read(15, 16, nil); ok || len(h.changes) != 0 {
		t.Errorf("%d changes are kept for a hub that is too far behind", len(h.changes))
	}
	h = history{root: rootGroup, maxChanges: 1000, maxBytes: 1 << 20}
	write(1, 100)
	write(2, 600)
	write(3, 1)
	if got, ok := h.read(0, 701, nil); !ok || len(got) != 700 {
		t.Errorf("read %d changes, want two whole writes of 700", len(got))
	}
	write(4, 400) // forgets the first write
	h.passed(1101)
	if oldestIn(&h) != 2 {
		t.Fatalf("the oldest is %v, want 2", oldestIn(&h))
	}
	for _, test := range []struct {
		p    groupPosition
		ok   bool
		want uint64
	}{
		{groupPosition{1, 1, allEvents}, false, 0},
		{groupPosition{1, 2, 599}, false, 0},
		{groupPosition{1, 2, allEvents}, true, 700},
		{groupPosition{1, 3, 0}, true, 700},
		{groupPosition{1, 4, 7}, true, 708},
	} {
		if from, ok := h.seek(places{test.p}, everything); ok != test.ok || ok && from.seq != test.want {
			t.Errorf("seek(%v) = %d, %t; want %d, %t", test.p, from.seq, ok, test.want, test.ok)
		}
	}
}

// TestHistoryRemembersLastACLs forgets deletions one by one: the last of each path
// decides as long as it is known, and none is kept for longer.
func TestHistoryRemembersLastACLs(t *testing.T) {
	h := history{root: rootGroup, maxChanges: 4, maxBytes: 1 << 20}
	acls := map[ZXID]*aclEntry{}
	for z := ZXID(1); z <= 100; z++ {
		path := "/a"
		if z%2 == 0 {
			path = fmt.Sprintf("/b%d", z)
		}
		acls[z] = newACLEntry("", nil)
		publishTo(&h, rootGroup, z, []change{{typ: NodeDeleted, zxid: z, path: path, node: &znode{acl: acls[z]}}})
		h.passed(uint64(z))
		odd := z - 1 + z%2
		if h.lastACL("/a") != acls[odd] {
			t.Fatalf("behind %v the last ACL of /a is not that of %v", z, odd)
		}
		if n := len(h.gone); n > 4 {
			t.Fatalf("behind %v the ACLs of %d paths are kept for 4 changes", z, n)
		}
	}
	if h.lastACL("/b98") != acls[98] || h.lastACL("/b96") != nil || h.lastACL("/none") != nil {
		t.Error("the ACLs of the last 4 deletions, and no others, are known")
	}
}
