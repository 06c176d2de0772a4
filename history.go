package coord

import (
	"slices"
	"sort"
	"sync"

	"github.com/google/btree"
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
// A state and the changes that led to it become visible at once: who has seen the state
// and then asks the history finds them there.
//
// The machines append, and wait for nobody but for each other and for readers that copy a
// few hundred entries.
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

	told   places                    // guarded by mu; how far the groups are
	groups map[GroupID]*groupHistory // guarded by mu
	mounts *btree.BTreeG[mountItem]  // guarded by mu; the table as it was last published

	// gone has the ACL that a znode of the history had when it was deleted, by path,
	// of several the last.
	gone map[string]goneACL // guarded by mu
}

// A groupHistory is what the history knows of one group.
type groupHistory struct {
	zxid   ZXID          // as published
	last   groupPosition // behind the last change of it that was appended; zero: none was
	end    uint64        // the sequence number behind that change
	path   string        // the mount point; empty until it is served, and of the root group
	served bool          // its changes may be told
	held   []change      // until it is served
	over   bool          // nothing of it is told any more
	ended  ZXID          // of the root group, since when it is over
	runs   bool          // it may publish more
}

// A publication is what becomes visible at once.
type publication struct {
	state     *state
	changes   []change    // that led to it, of whole writes
	unmounted []unmounted // likewise, of the root group
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

// publish makes a state visible, by show, together with the changes that led to it.
func (h *history) publish(p *publication, show func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.groupLocked(p.state.group)
	of.runs = true
	for i := range p.unmounted {
		h.retireLocked(&p.unmounted[i])
	}
	h.addLocked(of, p.state.group, p.changes)
	h.followLocked(p.state)
	show()
	of.zxid = p.state.zxid
	h.tellLocked(p.state.group)
}

// addLocked appends changes of a group, or has them wait until it is served.
func (h *history) addLocked(of *groupHistory, g GroupID, changes []change) {
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
}

func (h *history) appendLocked(of *groupHistory, changes []change) {
	for i := range changes {
		c := &changes[i]
		h.bytes += c.size()
		if c.typ == NodeDeleted {
			h.noteGoneLocked(c)
		}
		of.last = c.behind()
	}
	h.changes = append(h.changes, changes...)
	of.end = h.nextLocked()
	h.trimLocked()
}

// tellLocked takes note of how far a group is.
func (h *history) tellLocked(g GroupID) {
	of := h.groups[g]
	if of.served && !of.over && (of.zxid != 0 || g == h.root) {
		h.told = h.told.with(whole(g, of.zxid))
	}
}

// followLocked has the changes of those groups told that the root group serves from s on.
func (h *history) followLocked(s *state) {
	if s.group != h.root || s.mounts.byPath.tree == h.mounts {
		return
	}
	h.mounts = s.mounts.byPath.tree
	for m := range s.mounts.all() {
		if m.phase == mountServed {
			h.serveLocked(m.group, m.path)
		}
	}
}

func (h *history) serveLocked(g GroupID, path string) {
	of := h.groupLocked(g)
	if of.served {
		return
	}
	of.served, of.path = true, path
	if held := of.held; len(held) > 0 {
		of.held = nil
		h.appendLocked(of, held)
	}
	h.tellLocked(g)
}

// retireLocked ends what is told of a mount's group, because the root group of this member
// has taken the mount back. Who is at that place in the root group has been told all of the
// group, or that some of it is lost.
func (h *history) retireLocked(u *unmounted) {
	of := h.groupLocked(u.group)
	if of.over {
		return
	}
	of.path = u.path
	if !of.served || !u.heard {
		h.loseLocked(of, u.group, u.path, u.sealed)
	}
	h.endLocked(u.group, u.zxid)
}

func (h *history) endLocked(g GroupID, ended ZXID) {
	of := h.groups[g]
	of.over, of.ended, of.held = true, ended, nil
	h.told = h.told.without(g)
}

// replace makes a state visible, by show, that skips what led to it.
func (h *history) replace(s *state, show func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.groupLocked(s.group)
	of.runs = true
	if s.group == h.root {
		h.resetLocked(s)
	} else {
		h.skipLocked(of, s)
	}
	show()
	of.zxid = s.zxid
	h.tellLocked(s.group)
}

// skipLocked takes note that what led to the state of a mount's group is lost.
func (h *history) skipLocked(of *groupHistory, s *state) {
	switch {
	case of.over:
	case of.served:
		h.loseLocked(of, s.group, s.serves.path, s.zxid)
	default:
		h.forgetLocked(whole(s.group, s.zxid))
		of.held = []change{lostChange(s.group, s.serves.path, s.zxid)}
	}
}

// resetLocked forgets everything, because the root group's state is replaced.
func (h *history) resetLocked(s *state) {
	h.first = h.nextLocked() + 1 // a number that nobody can be given: whoever is before it has missed something
	h.changes, h.bytes, h.gone = nil, 0, nil
	for g, of := range h.groups {
		of.last = groupPosition{}
		if g == h.root || of.over {
			continue
		}
		if of.served {
			h.forgetLocked(whole(g, of.zxid))
		}
		if !s.mounts.has(g) {
			h.endLocked(g, s.zxid)
		}
	}
	h.forgetLocked(whole(h.root, s.zxid))
	h.pruneLocked()
	h.followLocked(s)
}

// lostZnode stands for what nobody knows.
var lostZnode = &znode{}

// lostChange returns the change that stands for all of a mount's group up to z.
func lostChange(g GroupID, path string, z ZXID) change {
	return change{typ: changesLost, group: g, path: path, node: lostZnode, zxid: z, last: true}
}

// loseLocked tells that changes of a group up to z are lost.
func (h *history) loseLocked(of *groupHistory, g GroupID, path string, z ZXID) {
	h.forgetLocked(whole(g, z))
	h.appendLocked(of, []change{lostChange(g, path, z)})
}

// forgetLocked takes note that not every change of a group up to a place is here.
func (h *history) forgetLocked(at groupPosition) {
	if oldest, ok := h.oldest.in(at.group); !ok || oldest.zxid < at.zxid {
		h.oldest = h.oldest.with(at)
	}
}

// trimLocked drops the oldest changes, always all of one write, until the rest is
// within bounds. It spares what the hub has not yet taken, unless that is too much.
func (h *history) trimLocked() {
	drop := 0
	over := func(times int) bool { return len(h.changes)-drop > times*h.maxChanges || h.bytes > times*h.maxBytes }
	for drop < len(h.changes) && over(1) && (h.first+uint64(drop) < h.taken || over(mostBehind)) {
		group, zxid := h.changes[drop].group, h.changes[drop].zxid
		h.forgetLocked(whole(group, zxid))
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
	h.pruneLocked()
}

// stopped takes note that a group of a mount will publish nothing more.
func (h *history) stopped(g GroupID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.groupLocked(g).runs = false
	h.pruneLocked()
}

// pruneLocked forgets groups of mounts that came and went: those of which nothing is here,
// and that were gone before the oldest place of the root group from which anybody can start.
func (h *history) pruneLocked() {
	root, _ := h.oldest.in(h.root)
	for g, of := range h.groups {
		if of.over && !of.runs && of.ended <= root.zxid && of.end <= h.first {
			delete(h.groups, g)
			h.oldest = h.oldest.without(g)
		}
	}
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
	return h.nextLocked(), h.told
}

// A start is where a reader of the history begins: with the first change behind some
// places. Changes that follow may lie before them.
type start struct {
	seq  uint64
	at   places
	past []GroupID // groups of mounts of which nothing is told
}

// before reports whether a change comes behind the start.
func (s *start) before(c *change) bool {
	return s.at.before(c) && (s.past == nil || !slices.Contains(s.past, c.group))
}

// seek returns where a reader is to read what comes behind p, and false if some of that is
// forgotten. touches says of which mount points the reader is told something; groups that p
// does not name begin where they were mounted, unless they were gone by then.
func (h *history) seek(p places, touches func(mountPoint string) bool) (from start, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p = h.currentLocked(p)
	from = start{at: p}
	if from.past, ok = h.pastLocked(p, touches); !ok {
		return from, false
	}
	for _, at := range p {
		if at.group != h.root && h.groups[at.group] == nil {
			return from, false // it was unmounted before this process began
		}
		oldest, _ := h.oldest.in(at.group)
		if at.zxid < oldest.zxid || at.zxid == oldest.zxid && at.events != allEvents && oldest.zxid != 0 {
			return from, false
		}
	}
	from.seq = h.first + uint64(h.firstLocked(&from))
	return from, true
}

// firstLocked returns the index of the first change behind a start. It looks no further
// back than it must: the changes of one group are in order.
func (h *history) firstLocked(from *start) int {
	var waiting []GroupID // who has changes behind the start, and perhaps more before those that were looked at
	for g, of := range h.groups {
		last := change{group: g, zxid: of.last.zxid, index: of.last.events - 1}
		if of.last.events != 0 && from.before(&last) {
			waiting = append(waiting, g)
		}
	}
	if len(waiting) == 1 && len(h.groups) == 1 {
		return sort.Search(len(h.changes), func(i int) bool { return from.before(&h.changes[i]) })
	}
	first := len(h.changes)
	for i := first - 1; i >= 0 && len(waiting) > 0; i-- {
		if c := &h.changes[i]; from.before(c) {
			first = i
		} else if at := slices.Index(waiting, c.group); at >= 0 {
			waiting = slices.Delete(waiting, at, at+1)
		}
	}
	return first
}

// pastLocked returns those groups that p does not name of which the reader is told nothing;
// and false if it would have to be told what is forgotten.
func (h *history) pastLocked(p places, touches func(string) bool) (past []GroupID, ok bool) {
	root, _ := p.in(h.root)
	for g, of := range h.groups {
		if _, named := p.in(g); named || of.path == "" {
			continue
		}
		_, forgotten := h.oldest.in(g)
		switch {
		case of.over && of.ended <= root.zxid || !touches(of.path):
			past = append(past, g)
		case of.over && forgotten:
			return nil, false
		}
	}
	return past, true
}

// current returns p without the groups that were gone by then. So a Position does not grow
// with every mount that there ever was.
func (h *history) current(p places) places {
	if len(p) <= 1 {
		return p
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.currentLocked(p)
}

func (h *history) currentLocked(p places) places {
	root, _ := p.in(h.root)
	for _, at := range p {
		if of := h.groups[at.group]; of != nil && of.over && of.ended <= root.zxid {
			p = p.without(at.group)
		}
	}
	return p
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
	return h.currentLocked(h.oldest)
}
