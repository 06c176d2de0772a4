package coord

import (
	"slices"
	"sort"
	"sync"
)

// A history keeps the latest changes of all groups of this member, so that a watch can
// start in the past. Changes have sequence numbers of their own, which mean something on
// this member only: they tell how far the history, what is published, and a watch are.
// They are in the order in which the machines append them; so those of one group are in
// its order, and those of a znode are, also where it has moved from one group to another:
//
//   - What a mount's group does is held until the root group of this member serves the
//     mount, for nobody could read it here before.
//   - When the root group takes the mount back, and this member has not heard all of the
//     mount's group by then, that is told as lost, and nothing more of the group is.
//
// The machines append, and wait for nobody but for readers that copy a few hundred
// entries.
type history struct {
	root       GroupID
	maxChanges int
	maxBytes   int

	mu      sync.Mutex
	changes []change // guarded by mu; the oldest first
	first   uint64   // guarded by mu; the sequence number of changes[0]
	bytes   int      // guarded by mu
	oldest  places   // guarded by mu; every change of a group behind its place is here
	taken   uint64   // guarded by mu; the hub has taken everything before it

	visible uint64                    // guarded by mu; everything before it is reflected by what is published
	told    places                    // guarded by mu; how far the groups are, as of visible
	groups  map[GroupID]*groupHistory // guarded by mu
	mixed   bool                      // guarded by mu; there are changes of several groups

	// gone has the ACL that a znode of the history had when it was deleted, by path,
	// of several the last.
	gone map[string]goneACL // guarded by mu
}

// A groupHistory is what the history knows of one group.
type groupHistory struct {
	end         uint64   // the sequence number behind its last change
	unpublished bool     // the changes from begin on are not published yet
	begin       uint64   //
	zxid        ZXID     // as published
	served      bool     // its changes may be told
	flipped     ZXID     // of the root group, since when they are
	over        bool     // nothing of it is told any more
	held        []change // until it is served
}

// A goneACL is that of a znode which was deleted.
type goneACL struct {
	acl  *aclEntry
	zxid ZXID // of the deletion
}

// mostBehind is how many times its bounds the history may hold for the hub's sake:
// one write, or one step of catching up, can bring more than the bounds allow.
const mostBehind = 8

// passed takes note that the hub has taken everything before seq.
func (h *history) passed(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken = seq
	h.trimLocked()
}

// nextLocked returns the sequence number of the next change.
func (h *history) nextLocked() uint64 { return h.first + uint64(len(h.changes)) }

func (h *history) groupLocked(g GroupID) *groupHistory {
	of := h.groups[g]
	if of == nil {
		if h.groups == nil {
			h.groups = map[GroupID]*groupHistory{}
		}
		of = &groupHistory{served: g == h.root}
		h.groups[g] = of
	}
	return of
}

// add appends changes of a group, of whole writes. They are visible when published is
// called.
func (h *history) add(g GroupID, changes []change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.groupLocked(g)
	if len(changes) == 0 || of.over {
		return
	}
	for i := range changes {
		changes[i].group = g
		changes[i].last = i+1 == len(changes) || changes[i+1].zxid != changes[i].zxid
	}
	if !of.served {
		of.held = append(of.held, changes...)
		return
	}
	h.appendLocked(of, changes)
	of.unpublished = true
}

func (h *history) appendLocked(of *groupHistory, changes []change) {
	if !of.unpublished {
		of.begin = h.nextLocked()
	}
	for i := range changes {
		c := &changes[i]
		h.bytes += c.size()
		if c.typ == NodeDeleted {
			h.noteGoneLocked(c)
		}
		h.mixed = h.mixed || c.group != h.root
	}
	h.changes = append(h.changes, changes...)
	of.end = h.nextLocked()
	h.trimLocked()
}

// published takes note that a group's state at z is published, and what led to it.
func (h *history) published(g GroupID, z ZXID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.groupLocked(g)
	of.zxid, of.unpublished = z, false
	h.showLocked()
}

// showLocked moves visible as far as what is published allows.
func (h *history) showLocked() {
	h.visible = h.nextLocked()
	for _, of := range h.groups {
		if of.unpublished {
			h.visible = min(h.visible, of.begin)
		}
	}
	for g, of := range h.groups {
		if of.end <= h.visible && of.served && !of.over && (of.zxid != 0 || g == h.root) {
			h.told = h.told.with(whole(g, of.zxid))
		}
	}
}

// serve has the changes of a mount's group told, because on this member the mount is served
// from now on, by a flip of the root group.
func (h *history) serve(g GroupID, flipped ZXID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.groupLocked(g)
	if of.served {
		return
	}
	of.served, of.flipped = true, flipped
	if len(of.held) > 0 {
		h.appendLocked(of, of.held)
		of.held = nil
	}
	h.showLocked()
}

// retire ends what is told of a mount's group, because the root group of this member is
// about to tell that it has taken the mount back. heard says that this member has heard
// everything of the group.
func (h *history) retire(g GroupID, path string, heard bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.groupLocked(g)
	if of.over {
		return
	}
	if !heard || !of.served {
		h.loseLocked(of, g, path)
	}
	of.over, of.held = true, nil
	if i, ok := h.told.index(g); ok {
		h.told = append(append(places{}, h.told[:i]...), h.told[i+1:]...)
	}
	h.showLocked()
}

// skip takes note that the state of a mount's group was replaced by that of a snapshot at
// z: what led to it is lost.
func (h *history) skip(g GroupID, path string, z ZXID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.groupLocked(g)
	of.held = nil
	h.oldest = h.oldest.with(whole(g, z))
	h.loseLocked(of, g, path)
}

// lostZnode stands for what nobody knows.
var lostZnode = &znode{}

// loseLocked tells that changes of a group are lost.
func (h *history) loseLocked(of *groupHistory, g GroupID, path string) {
	h.appendLocked(of, []change{{typ: changesLost, group: g, path: path, node: lostZnode, zxid: of.zxid, last: true}})
}

// trimLocked drops the oldest changes, always all of one write, until the rest is
// within bounds. It spares what the hub has not yet taken, unless that is too much.
func (h *history) trimLocked() {
	drop := 0
	over := func(times int) bool { return len(h.changes)-drop > times*h.maxChanges || h.bytes > times*h.maxBytes }
	for drop < len(h.changes) && over(1) && (h.first+uint64(drop) < h.taken || over(mostBehind)) {
		group, zxid := h.changes[drop].group, h.changes[drop].zxid
		h.oldest = h.oldest.with(whole(group, zxid))
		for drop < len(h.changes) && h.changes[drop].group == group && h.changes[drop].zxid == zxid {
			c := &h.changes[drop]
			h.bytes -= c.size()
			if c.typ == NodeDeleted && h.gone[c.path].zxid == c.zxid {
				delete(h.gone, c.path)
			}
			drop++
		}
	}
	if drop == 0 {
		return
	}
	h.first += uint64(drop)
	clear(h.changes[:drop]) // let go of the znodes
	h.changes = h.changes[drop:]
}

// reset forgets everything: the root group's state was replaced by that of a snapshot at
// z.
func (h *history) reset(z ZXID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.first = h.nextLocked() + 1 // a number that nobody can be given: whoever is before it has missed something
	h.changes, h.bytes, h.gone = nil, 0, nil
	for g, of := range h.groups {
		of.unpublished = false
		if g != h.root && of.served {
			h.oldest = h.oldest.with(whole(g, of.zxid))
		}
	}
	h.oldest = h.oldest.with(whole(h.root, z))
}

// noteGoneLocked keeps the ACL of a znode that was deleted.
func (h *history) noteGoneLocked(c *change) {
	if h.gone == nil {
		h.gone = map[string]goneACL{}
	}
	h.gone[c.path] = goneACL{c.node.acl, c.zxid}
}

// lastACL returns the ACL that the znode at path had when it was deleted for the last
// time, or nil if that is not in the history.
func (h *history) lastACL(path string) *aclEntry {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone[path].acl
}

// now returns the sequence number behind what is published, and how far the groups are.
func (h *history) now() (seq uint64, told places) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.visible, h.told
}

// A start is where a reader of the history begins: with the first change behind some
// places. Changes that follow may lie before them.
type start struct {
	seq  uint64
	at   places
	past []GroupID // groups of mounts that had come and gone by then
}

// before reports whether a change comes behind the start.
func (s *start) before(c *change) bool {
	return s.at.before(c) && (s.past == nil || !slices.Contains(s.past, c.group))
}

// seek returns where to read what comes behind p, and false if changes of a group that p
// names are forgotten.
func (h *history) seek(p places) (from start, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from = start{at: p, past: h.pastLocked(p)}
	for _, at := range p {
		if at.group != h.root && h.groups[at.group] == nil {
			return from, false // it was unmounted before this process began
		}
		oldest, _ := h.oldest.in(at.group)
		if at.zxid < oldest.zxid || at.zxid == oldest.zxid && at.events != allEvents && oldest.zxid != 0 {
			return from, false
		}
	}
	behind := func(i int) bool { return from.before(&h.changes[i]) }
	n := 0
	if h.mixed {
		for n < len(h.changes) && !behind(n) {
			n++
		}
	} else {
		n = sort.Search(len(h.changes), behind)
	}
	from.seq = h.first + uint64(n)
	return from, true
}

// pastLocked returns the groups that p does not name because they were gone.
func (h *history) pastLocked(p places) (past []GroupID) {
	root, _ := p.in(h.root)
	for g, of := range h.groups {
		if _, named := p.in(g); of.over && !named && of.flipped <= root.zxid {
			past = append(past, g)
		}
	}
	return past
}

// read appends some hundred changes from seq on to buf, those before end, and
// always whole writes. It reports false if changes from seq on are forgotten.
func (h *history) read(seq, end uint64, buf []change) ([]change, bool) {
	const some = 512
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq < h.first {
		return buf, false
	}
	if seq >= end {
		return buf, true
	}
	from := h.changes[seq-h.first : end-h.first]
	n := min(some, len(from))
	for n < len(from) && from[n].sameWrite(&from[n-1]) {
		n++
	}
	return append(buf, from[:n]...), true
}

// forgotten returns how far the history does not reach back: the places behind which
// every change is known.
func (h *history) forgotten() places {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.oldest
}
