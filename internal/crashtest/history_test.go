package crashtest_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"coord"
)

// A written is all changes of one write, as a recorder was told them.
type written struct {
	events []told
	seen   time.Duration // the parent was told by then
}

// A span is what one watch of a recorder has told: of each group all writes behind from,
// up to to.
type span struct {
	from, to map[coord.GroupID]coord.ZXID
	writes   map[coord.GroupID][]coord.ZXID
}

// A history is what recorders in all processes have told of the writes since the last
// check. They must agree with each other and with the tree. Each group's writes have an
// order of their own. What moves from one group to another has zxids that grow, so it is
// as if all were one order.
type history struct {
	now func() time.Duration

	mu        sync.Mutex
	findings                                            // guarded by mu
	writes    map[coord.GroupID]map[coord.ZXID]*written // guarded by mu
	checked   map[coord.GroupID]coord.ZXID              // guarded by mu; writes up to it are in the tree
	spans     map[coord.MemberID][]*span                // guarded by mu
	positions map[coord.MemberID]coord.Position         // guarded by mu
	tree      map[string]told                           // guarded by mu; of the last check
	told      int                                       // guarded by mu; events, ever
}

func newHistory(now func() time.Duration) *history {
	return &history{
		now: now, writes: map[coord.GroupID]map[coord.ZXID]*written{}, checked: map[coord.GroupID]coord.ZXID{},
		spans: map[coord.MemberID][]*span{}, positions: map[coord.MemberID]coord.Position{}, tree: map[string]told{},
	}
}

func (h *history) position(id coord.MemberID) coord.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.positions[id]
}

// hear enters what a recorder says.
func (h *history) hear(id coord.MemberID, r *reply) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pos, err := coord.ParsePosition(r.Position)
	if err != nil {
		h.wrong("watch: member %v tells position %q: %v", id, r.Position, err)
		return
	}
	at := placesOf(pos)
	if r.Event == eventRecording {
		h.spans[id] = append(h.spans[id], &span{from: at, to: maps.Clone(at), writes: map[coord.GroupID][]coord.ZXID{}})
		h.positions[id] = pos
		return
	}
	s := h.spans[id][len(h.spans[id])-1]
	g := cmp.Or(r.Group, rootGroup)
	for in, z := range at {
		if z < s.to[in] || in == g && z == s.to[in] && len(r.Told) > 0 {
			h.wrong("watch: member %v was told %v of group %v behind %v", id, r.Told, in, s.to[in])
			return
		}
		s.to[in] = z
	}
	h.positions[id] = pos
	if len(r.Told) > 0 {
		h.enter(id, s, g, at[g], r.Told)
	}
}

// enter enters what a recorder says of one write.
func (h *history) enter(id coord.MemberID, s *span, g coord.GroupID, z coord.ZXID, events []told) {
	h.told += len(events)
	if z <= h.checked[g] {
		return // to one who came later
	}
	s.writes[g] = append(s.writes[g], z)
	if h.writes[g] == nil {
		h.writes[g] = map[coord.ZXID]*written{}
	}
	if was := h.writes[g][z]; was == nil {
		h.writes[g][z] = &written{events, h.now()}
	} else if !slices.Equal(was.events, events) {
		h.wrong("watch: member %v was told %+v at %v, another one %+v", id, events, z, was.events)
	}
}

// reached reports whether the recorders of all members have come to what is observed.
func (h *history) reached(o *observation) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range o.views {
		at := placesOf(h.positions[id])
		if at[rootGroup] < o.zxid {
			return false
		}
		for g, z := range o.groups {
			if at[g] < z {
				return false
			}
		}
	}
	return true
}

// seen returns when a value of a znode was first told of.
func (h *history) seen(path, data string) (at time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, writes := range h.writes {
		for _, w := range writes {
			for _, ev := range w.events {
				if ev.Path == path && ev.Data == data && (!ok || w.seen < at) {
					at, ok = w.seen, true
				}
			}
		}
	}
	return at, ok
}

// check compares what the recorders were told with each other and, applied to the
// last tree, with the dump; and forgets what it was.
func (h *history) check(o *observation) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g, writes := range h.writes {
		h.compare(g, slices.Sorted(maps.Keys(writes)))
	}
	h.applyAll(o)
	h.forget()
	for path, n := range o.nodes {
		if t, ok := h.tree[path]; strings.HasPrefix(path, "/zookeeper") || path == "/" {
			continue
		} else if !ok || t.Data != n.Data || t.Version != n.Stat.Version {
			h.wrong("watch: %s is %q, version %d; by what was told it is %q, version %d (there: %v)", path, n.Data, n.Stat.Version, t.Data, t.Version, ok)
		}
	}
	for path := range h.tree {
		if _, ok := o.nodes[path]; !ok {
			h.wrong("watch: %s is not there; nobody was told that it was deleted", path)
		}
	}
	return h.found()
}

// compare holds what each recorder was told of a group against all that is known of it.
func (h *history) compare(g coord.GroupID, zxids []coord.ZXID) {
	for id, spans := range h.spans {
		for _, s := range spans {
			from, _ := slices.BinarySearch(zxids, max(s.from[g], h.checked[g])+1)
			to, _ := slices.BinarySearch(zxids, s.to[g]+1)
			if want := zxids[from:max(from, to)]; !slices.Equal(s.writes[g], want) {
				h.wrong("watch: a recorder of member %v was told of %d writes of group %v between %v and %v, want %d: %s",
					id, len(s.writes[g]), g, s.from[g], s.to[g], len(want), difference(s.writes[g], want))
			}
		}
	}
}

// applyAll applies all writes to the tree that the dump shows: those of each group up to
// where it was, and all of the groups that were gone by then.
func (h *history) applyAll(o *observation) {
	all := map[coord.ZXID][]*written{}
	for g, writes := range h.writes {
		upTo := coord.ZXID(math.MaxUint64)
		if g == rootGroup {
			upTo = o.zxid
		} else if z, ok := o.groups[g]; ok {
			upTo = z
		}
		for z, w := range writes {
			if z <= upTo {
				all[z] = append(all[z], w)
				h.checked[g] = max(h.checked[g], z)
				delete(writes, z)
			}
		}
	}
	for _, z := range slices.Sorted(maps.Keys(all)) {
		for _, w := range all[z] { // of different groups, so of different znodes
			h.apply(z, w)
		}
	}
}

// apply applies a write to the tree.
func (h *history) apply(z coord.ZXID, w *written) {
	for _, ev := range w.events {
		if strings.HasPrefix(ev.Path, "/zookeeper") {
			continue // the ensemble's own
		}
		was, there := h.tree[ev.Path]
		switch {
		case ev.Type == coord.NodeCreated && there, ev.Type != coord.NodeCreated && !there:
			h.wrong("watch: %v of %s was told at %v; it was there: %v", ev.Type, ev.Path, z, there)
		case ev.Type == coord.NodeDataChanged && ev.Version <= was.Version:
			h.wrong("watch: %s went from version %d to %d at %v", ev.Path, was.Version, ev.Version, z)
		}
		if ev.Type == coord.NodeDeleted {
			delete(h.tree, ev.Path)
		} else {
			h.tree[ev.Path] = ev
		}
	}
}

// forget drops what was checked.
func (h *history) forget() {
	for id, spans := range h.spans {
		last := spans[len(spans)-1]
		kept := &span{from: last.from, to: last.to, writes: map[coord.GroupID][]coord.ZXID{}}
		for g, zxids := range last.writes {
			i, _ := slices.BinarySearch(zxids, h.checked[g]+1)
			kept.writes[g] = slices.Clone(zxids[i:])
		}
		h.spans[id] = []*span{kept}
	}
}

// difference returns the first few zxids that are in one list alone.
func difference(got, want []coord.ZXID) string {
	in := map[coord.ZXID]int{}
	for _, z := range got {
		in[z]++
	}
	for _, z := range want {
		in[z]--
	}
	var text []string
	for _, z := range slices.Sorted(maps.Keys(in)) {
		if in[z] != 0 && len(text) < 5 {
			text = append(text, fmt.Sprintf("%v (%+d)", z, in[z]))
		}
	}
	return strings.Join(text, ", ")
}
