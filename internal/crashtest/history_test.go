package crashtest_test

import (
	"fmt"
	"maps"
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

// A span is what one watch of a recorder has told: all writes behind from, up to to.
type span struct {
	from, to coord.ZXID
	writes   []coord.ZXID
}

// A history is what recorders in all processes have told of the writes since the last
// check. They must agree with each other and with the tree.
type history struct {
	now func() time.Duration

	mu        sync.Mutex
	findings                                    // guarded by mu
	writes    map[coord.ZXID]*written           // guarded by mu
	spans     map[coord.MemberID][]*span        // guarded by mu
	positions map[coord.MemberID]coord.Position // guarded by mu
	tree      map[string]told                   // guarded by mu; of the last check
	told      int                               // guarded by mu; events, ever
}

func newHistory(now func() time.Duration) *history {
	return &history{
		now: now, writes: map[coord.ZXID]*written{}, spans: map[coord.MemberID][]*span{},
		positions: map[coord.MemberID]coord.Position{}, tree: map[string]told{},
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
	z := zxidOf(pos)
	if r.Event == eventRecording {
		h.spans[id] = append(h.spans[id], &span{from: z, to: z})
		h.positions[id] = pos
		return
	}
	s := h.spans[id][len(h.spans[id])-1]
	if z < s.to || z == s.to && len(r.Told) > 0 {
		h.wrong("watch: member %v was told %v behind %v", id, r.Told, s.to)
		return
	}
	s.to, h.positions[id] = z, pos
	if len(r.Told) == 0 {
		return
	}
	s.writes = append(s.writes, z)
	h.told += len(r.Told)
	if was := h.writes[z]; was == nil {
		h.writes[z] = &written{r.Told, h.now()}
	} else if !slices.Equal(was.events, r.Told) {
		h.wrong("watch: member %v was told %+v at %v, another one %+v", id, r.Told, z, was.events)
	}
}

// reached reports whether every one of n members' recorders is at z.
func (h *history) reached(n int, z coord.ZXID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range n {
		if zxidOf(h.positions[coord.MemberID(i+1)]) < z {
			return false
		}
	}
	return true
}

// seen returns when a value of a znode was first told of.
func (h *history) seen(path, data string) (at time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.writes {
		for _, ev := range w.events {
			if ev.Path == path && ev.Data == data && (!ok || w.seen < at) {
				at, ok = w.seen, true
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
	zxids := slices.Sorted(maps.Keys(h.writes))
	for id, spans := range h.spans {
		for _, s := range spans {
			from, _ := slices.BinarySearch(zxids, s.from+1)
			to, _ := slices.BinarySearch(zxids, s.to+1)
			if want := zxids[from:to]; !slices.Equal(s.writes, want) {
				h.wrong("watch: a recorder of member %v was told of %d writes between %v and %v, want %d: %s", id, len(s.writes), s.from, s.to, len(want), difference(s.writes, want))
			}
		}
	}
	for _, z := range zxids {
		if z > o.zxid {
			break
		}
		h.apply(z)
		delete(h.writes, z)
	}
	h.forget(o.zxid)
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

// apply applies a write to the tree.
func (h *history) apply(z coord.ZXID) {
	for _, ev := range h.writes[z].events {
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

// forget drops what was told up to z, which every recorder has reached.
func (h *history) forget(z coord.ZXID) {
	for id, spans := range h.spans {
		last := spans[len(spans)-1]
		i, _ := slices.BinarySearch(last.writes, z+1)
		h.spans[id] = []*span{{from: max(z, last.from), to: last.to, writes: slices.Clone(last.writes[i:])}}
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
