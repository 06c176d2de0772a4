package coord

import (
	"errors"
	"fmt"
	"testing"
)

// everything is what a reader of the whole tree is told of.
func everything(string) bool { return true }

// publishTo publishes a state of a group that some changes led to.
func publishTo(h *history, g GroupID, z ZXID, changes []change) {
	s := newState(g)
	s.zxid = z
	h.publish(&publication{state: s, changes: changes}, func() {})
}

func bareChange(z ZXID, path string) []change {
	return []change{{typ: NodeDataChanged, zxid: z, path: path, node: bareNode()}}
}

// A bareMount is what a member without a host has of one mount, of group 2 at /q.
type bareMount struct {
	t  *testing.T
	g  *group // the root group
	ws *WatchSet

	heard bool // all that the mount's group has done is known here
}

func newBareMount(t *testing.T) *bareMount {
	t.Helper()
	g, ws := newBareSet(t, Config{WatchBuffer: 10})
	return &bareMount{t: t, g: g, ws: ws, heard: true}
}

func (b *bareMount) history() *history { return &b.g.hub.history }

// root publishes a write of the root group, which serves the mount from served on, or not.
func (b *bareMount) root(z, served ZXID, changes []change, back ...unmounted) {
	s := newState(rootGroup)
	s.zxid = z
	if served != 0 {
		s.mounts.given = 1
		s.mounts.put(&mount{path: "/q", group: 2, phase: mountServed, sealed: 1, flipped: served})
	}
	b.g.unmounted = back
	b.g.heard = func(GroupID) bool { return b.heard }
	b.g.publish(&published{state: s.freeze()}, changes)
	b.g.hub.catchUp(nil)
}

// mount publishes a write of the mount's group.
func (b *bareMount) mount(z ZXID, changes []change) {
	publishTo(b.history(), 2, z, changes)
	b.g.hub.catchUp(nil)
}

// snapshot has the state of the mount's group replaced.
func (b *bareMount) snapshot(z ZXID) {
	s := newState(2)
	s.zxid, s.serves = z, mountPoint{path: "/q"}
	b.history().replace(s, func() {})
	b.g.hub.catchUp(nil)
}

func takenBack(sealed, z ZXID) unmounted {
	return unmounted{group: 2, path: "/q", sealed: sealed, zxid: z}
}

// until returns what a watch that starts at some places is told until it is told of path,
// or why it cannot be.
func (b *bareMount) until(path string, from places, watched string) (told []string, err error) {
	w := &Watch{path: watched, mode: Subtree, s: b.ws.s, hub: b.g.hub, ctx: b.t.Context()}
	if err := w.startFrom(from); err != nil {
		return nil, err
	}
	defer w.Close()
	for ev, err := range w.Events() {
		if err != nil {
			return told, err
		}
		if ev.Path == path {
			break
		}
		told = append(told, fmt.Sprintf("%s@%v", ev.Path, ev.ZXID))
	}
	return told, nil
}

// W2, W3: nobody can look between a state and the changes that led to it.
func TestStateAndChangesBecomeVisibleAtOnce(t *testing.T) {
	b := newBareMount(t)
	h := b.history()
	looks := 0
	look := func(want int) func() {
		return func() {
			looks++
			if h.mu.TryLock() {
				h.mu.Unlock()
				t.Error("others can look at the history while a state becomes visible")
			}
			if len(h.changes) != want {
				t.Errorf("%d changes are in the history, want %d", len(h.changes), want)
			}
		}
	}
	s := newState(rootGroup)
	s.zxid = 1
	h.publish(&publication{state: s, changes: bareChange(1, "/a")}, look(1))
	h.publish(&publication{state: newState(2), changes: bareChange(3, "/q")}, look(1)) // held
	s = newState(rootGroup)
	s.zxid = 2
	s.mounts.put(&mount{path: "/q", group: 2, phase: mountServed, sealed: 1, flipped: 2})
	h.publish(&publication{state: s, changes: bareChange(2, "/b")}, look(3)) // what was held as well
	h.replace(s, look(0))
	if looks != 4 {
		t.Errorf("%d of 4 states were shown", looks)
	}
}

// A mount that comes and goes in one step of catching up is told as lost.
func TestMountThatComesAndGoesAtOnce(t *testing.T) {
	b := newBareMount(t)
	b.root(1, 0, bareChange(1, "/a"))
	w, beside := openBare(t, b.g, b.ws.s, "/", Subtree), openBare(t, b.g, b.ws.s, "/a", Node)
	b.root(20, 0, bareChange(20, "/b"), takenBack(8, 10))
	if _, ok := errors.AsType[*CompactedError](w.Err()); !ok || beside.Err() != nil {
		t.Errorf("the watches ended with %v and %v, want an end of what would have to tell of the mount", w.Err(), beside.Err())
	}
	if told, err := b.until("/b", places{whole(rootGroup, 1)}, "/"); !errors.As(err, new(*CompactedError)) {
		t.Errorf("from before the mount, told %v, %v", told, err)
	}
	for _, from := range []places{{whole(rootGroup, 10)}, {whole(rootGroup, 1), whole(2, 8)}, {whole(rootGroup, 12), whole(2, 7)}} {
		if told, err := b.until("/b", from, "/"); err != nil || len(told) != 0 {
			t.Errorf("from %v, told %v, %v; want what is behind", from, told, err)
		}
	}
	if told, err := b.until("/b", places{whole(rootGroup, 1)}, "/b"); err != nil || len(told) != 0 {
		t.Errorf("beside the mount, told %v, %v", told, err)
	}
}

// The place that a CompactedError names is one to start from.
func TestCompactedNamesAPlaceToStart(t *testing.T) {
	for name, lose := range map[string]func(b *bareMount){
		"snapshot": func(b *bareMount) { b.snapshot(20) },
		"unheard": func(b *bareMount) {
			b.heard = false
			b.root(25, 0, nil, takenBack(20, 25))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBareMount(t)
			b.root(2, 2, bareChange(2, "/a"))
			b.mount(3, bareChange(3, "/q/a"))
			w := openBare(t, b.g, b.ws.s, "/", Subtree)
			lose(b)
			b.root(30, 0, bareChange(30, "/b"))
			lost, ok := errors.AsType[*CompactedError](w.Err())
			if !ok {
				t.Fatalf("ended with %v", w.Err())
			}
			oldest, err := lost.Oldest.parts()
			if err != nil {
				t.Fatal(err)
			}
			if told, err := b.until("/b", oldest, "/"); err != nil || fmt.Sprint(told) != "[/a@0x2]" {
				t.Errorf("from %v, told %v, %v", lost.Oldest, told, err)
			}
			if told, err := b.until("/b", oldest.with(whole(2, 3)), "/"); !errors.As(err, new(*CompactedError)) {
				t.Errorf("from before what is lost, told %v, %v", told, err)
			}
		})
	}
}

// What a group that is gone has done, and the history forgotten, is missed by who has not
// been told it and by nobody else.
func TestForgottenChangesOfAMountThatIsGone(t *testing.T) {
	b := newBareMount(t)
	h := b.history()
	b.root(2, 2, bareChange(2, "/a"))
	b.mount(3, bareChange(3, "/q/a"))
	b.mount(4, bareChange(4, "/q/a"))
	h.maxChanges = 2
	b.root(9, 0, nil, takenBack(5, 9))
	b.root(10, 0, bareChange(10, "/b"))
	for _, x := range []struct {
		from    places
		watched string
		told    string
		lost    bool
	}{
		{places{whole(rootGroup, 2)}, "/", "[]", true},
		{places{whole(rootGroup, 2)}, "/b", "[]", false},
		{places{whole(rootGroup, 2), whole(2, 3)}, "/", "[/q/a@0x4]", false},
		{places{whole(rootGroup, 9)}, "/", "[]", false},
		{places{whole(rootGroup, 9), whole(2, 1)}, "/", "[]", false}, // a place that is behind the mount
	} {
		told, err := b.until("/b", x.from, x.watched)
		if lost := errors.As(err, new(*CompactedError)); lost != x.lost || fmt.Sprint(told) != x.told {
			t.Errorf("%s from %v: told %v, %v", x.watched, x.from, told, err)
		}
	}
}

// A history does not grow with every mount that there ever was.
func TestHistoryForgetsMountsThatAreGone(t *testing.T) {
	b := newBareMount(t)
	h := b.history()
	h.maxChanges = 4
	b.root(1, 0, bareChange(1, "/a"))
	for i := range 50 {
		z, g := ZXID(10*i+10), GroupID(i+2)
		s := newState(rootGroup)
		s.zxid = z
		s.mounts.given = uint64(i + 1)
		s.mounts.put(&mount{path: "/q", group: g, phase: mountServed, sealed: z - 1, flipped: z})
		b.g.publish(&published{state: s.freeze()}, nil)
		publishTo(h, g, z+1, bareChange(z+1, "/q/a"))
		b.root(z+3, 0, bareChange(z+3, "/a"), unmounted{group: g, path: "/q", sealed: z + 2, zxid: z + 3})
		publishTo(h, g, z+4, bareChange(z+4, "/q/late")) // nobody hears of it
		if h.groups[g] == nil {
			t.Fatalf("group %v is forgotten, and runs", g)
		}
		h.stopped(g)
	}
	if len(h.groups) > 4 || len(h.forgotten()) > 1 {
		t.Errorf("of 50 mounts that are gone, %d groups are known, and %v", len(h.groups)-1, h.forgotten())
	}
	if told, err := b.until("/a", places{whole(rootGroup, 490)}, "/"); err != nil || fmt.Sprint(told) != "[/q/a@0x1eb]" {
		t.Errorf("from before the last unmount: %v, %v", told, err)
	}
	if _, err := b.until("/a", places{whole(rootGroup, 100)}, "/"); !errors.As(err, new(*CompactedError)) {
		t.Errorf("from long before: %v", err)
	}
}

// A mark names the groups of mounts that the watch has heard nothing of, and not those that
// are gone.
func TestMarksNameMounts(t *testing.T) {
	b := newBareMount(t)
	b.root(1, 0, nil)
	all, beside := openBare(t, b.g, b.ws.s, "/", Subtree, WithProgress()), openBare(t, b.g, b.ws.s, "/x", Subtree, WithProgress())
	check := func(when string, want places) {
		t.Helper()
		b.g.hub.mark()
		if got := all.Position(); got != positionOf(b.g.state(), want...) {
			t.Errorf("%s: at %v, want %v", when, got, want)
		}
		if got := beside.Position(); got != positionOf(b.g.state(), want[0]) {
			t.Errorf("%s: the watch beside at %v", when, got)
		}
	}
	b.root(2, 2, nil)
	b.mount(3, nil)
	check("served", places{whole(rootGroup, 2), whole(2, 3)})
	b.root(9, 0, nil, takenBack(5, 9))
	check("taken back", places{whole(rootGroup, 9)})
}

// The first change behind some places is found, whichever way it is looked for.
func TestSeekInSeveralGroups(t *testing.T) {
	b := newBareMount(t)
	h := b.history()
	b.root(2, 2, bareChange(2, "/a"))
	for z := ZXID(3); z < 20; z++ {
		if z%3 == 0 {
			b.mount(z, bareChange(z, "/q/a"))
		} else {
			b.root(z, 2, bareChange(z, "/a"))
		}
	}
	for root := range ZXID(21) {
		for of := ZXID(1); of < 21; of++ {
			p := places{whole(rootGroup, root), whole(2, of)}
			want := len(h.changes)
			for i := range h.changes {
				if p.before(&h.changes[i]) {
					want = i
					break
				}
			}
			if from, ok := h.seek(p, everything); !ok || from.seq != h.first+uint64(want) {
				t.Fatalf("seek(%v) = %d, %t, want %d", p, from.seq, ok, want)
			}
		}
	}
}
