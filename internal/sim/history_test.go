package sim_test

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"coord"
)

// An event is one change of one znode, as a recorder was told it.
type event struct {
	typ  coord.EventType
	path string
	data string
	stat coord.Stat
}

// A write is all changes of one zxid.
type write struct {
	zxid   coord.ZXID
	seen   time.Duration // when the first recorder was told of it
	events []event
}

// A history is what has happened, put together from what recorders on all members
// were told. They must agree.
type history struct {
	mu     sync.Mutex
	writes map[coord.ZXID]*write // guarded by mu
	spans  [][2]coord.ZXID       // guarded by mu; what lies between is known: (from, to]

	reached map[coord.MemberID]coord.Position // guarded by mu; by the recorders of members that are down
}

func newHistory() *history {
	return &history{writes: map[coord.ZXID]*write{}, reached: map[coord.MemberID]coord.Position{}}
}

// add enters a write, and reports whether it agrees with what others were told.
func (h *history) add(w *write) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	have := h.writes[w.zxid]
	if have == nil {
		h.writes[w.zxid] = w
		return true
	}
	have.seen = min(have.seen, w.seen)
	return slices.Equal(have.events, w.events)
}

// cover enters that every write behind from, up to to, was added.
func (h *history) cover(from, to coord.ZXID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if to > from {
		h.spans = append(h.spans, [2]coord.ZXID{from, to})
	}
}

// A version is a znode from one zxid on, until the next version.
type version struct {
	zxid    coord.ZXID
	seen    time.Duration
	deleted bool
	data    string
	stat    coord.Stat
}

// A past is the whole history, ready to be asked.
type past struct {
	writes   []*write             // in order
	versions map[string][]version // by path, in order
	paths    []string             // sorted
	byZXID   map[coord.ZXID]*write
	children map[string][]coord.ZXID // by directory: every create and delete of a child
	gap      coord.ZXID              // the first zxid that nobody has told of, or 0
}

// past returns the history up to a zxid.
func (h *history) past(upTo coord.ZXID) *past {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &past{versions: map[string][]version{}, byZXID: map[coord.ZXID]*write{}, children: map[string][]coord.ZXID{}}
	for _, w := range h.writes {
		if w.zxid <= upTo {
			p.writes = append(p.writes, w)
			p.byZXID[w.zxid] = w
		}
	}
	slices.SortFunc(p.writes, func(a, b *write) int { return cmp.Compare(a.zxid, b.zxid) })
	for _, w := range p.writes {
		for _, e := range w.events {
			p.enter(w, &e)
		}
	}
	for path := range p.versions {
		p.paths = append(p.paths, path)
	}
	slices.Sort(p.paths)
	slices.SortFunc(h.spans, func(a, b [2]coord.ZXID) int { return cmp.Compare(a[0], b[0]) })
	reach := coord.ZXID(0)
	for _, s := range h.spans {
		if s[0] > reach {
			break
		}
		reach = max(reach, s[1])
	}
	if reach < upTo {
		p.gap = reach + 1
	}
	return p
}

func (p *past) enter(w *write, e *event) {
	v := version{zxid: w.zxid, seen: w.seen, deleted: e.typ == coord.NodeDeleted, data: e.data, stat: e.stat}
	vs := p.versions[e.path]
	if n := len(vs); n > 0 && vs[n-1].zxid == w.zxid {
		vs[n-1] = v // one write changed it twice: nobody can see what was between
	} else {
		p.versions[e.path] = append(vs, v)
	}
	if e.typ != coord.NodeDataChanged {
		dir := parent(e.path)
		p.children[dir] = append(p.children[dir], w.zxid)
	}
}

// at returns the version of a znode as of a zxid, and the zxid of the next one (or
// of never).
func (p *past) at(path string, z coord.ZXID) (v version, until coord.ZXID) {
	vs := p.versions[path]
	i, found := slices.BinarySearchFunc(vs, z, func(v version, z coord.ZXID) int { return cmp.Compare(v.zxid, z) })
	if !found {
		i--
	}
	until = never
	if i+1 < len(vs) {
		until = vs[i+1].zxid
	}
	if i < 0 {
		return version{deleted: true}, until
	}
	return vs[i], until
}

// never is behind every zxid.
const never = coord.ZXID(1) << 62

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return "/"
}
