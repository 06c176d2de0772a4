package coord

import (
	"sort"
	"sync"
)

// A history keeps the latest changes of a group, so that a watch can start in the
// past. Changes have sequence numbers of their own, which mean something on this
// member only: they tell how far the history, a published state and a watch are.
//
// The machine appends, and waits for nobody but for readers that copy a few
// hundred entries.
type history struct {
	maxChanges int
	maxBytes   int

	mu      sync.Mutex
	changes []change // guarded by mu; the oldest first
	first   uint64   // guarded by mu; the sequence number of changes[0]
	bytes   int      // guarded by mu
	oldest  ZXID     // guarded by mu; every change behind this zxid is here
	taken   uint64   // guarded by mu; the hub has taken everything before it

	// gone has the ACL that a znode of the history had when it was deleted, by path,
	// of several the last.
	gone map[string]goneACL // guarded by mu
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

// add appends changes, of whole writes, and returns the sequence number behind them.
func (h *history) add(changes []change) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range changes {
		changes[i].last = i+1 == len(changes) || changes[i+1].zxid != changes[i].zxid
		h.bytes += changes[i].size()
		if c := &changes[i]; c.typ == NodeDeleted {
			h.noteGoneLocked(c)
		}
	}
	h.changes = append(h.changes, changes...)
	h.trimLocked()
	return h.nextLocked()
}

// trimLocked drops the oldest changes, always all of one zxid, until the rest is
// within bounds. It spares what the hub has not yet taken, unless that is too much.
func (h *history) trimLocked() {
	drop := 0
	over := func(times int) bool { return len(h.changes)-drop > times*h.maxChanges || h.bytes > times*h.maxBytes }
	for drop < len(h.changes) && over(1) && (h.first+uint64(drop) < h.taken || over(mostBehind)) {
		h.oldest = h.changes[drop].zxid
		for drop < len(h.changes) && h.changes[drop].zxid == h.oldest {
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

// reset forgets everything: the state was replaced by that of a snapshot at z. It
// returns the sequence number behind what is forgotten.
func (h *history) reset(z ZXID) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.first = h.nextLocked() + 1 // a number that nobody can be given: whoever is before it has missed something
	h.changes, h.bytes, h.oldest, h.gone = nil, 0, z, nil
	return h.first
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

// seek returns the sequence number of the first change behind p, and false if
// changes behind p are forgotten.
func (h *history) seek(p groupPosition) (seq uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.zxid < h.oldest || p.zxid == h.oldest && p.events != allEvents && h.oldest != 0 {
		return 0, false
	}
	i := sort.Search(len(h.changes), func(i int) bool { return p.before(h.changes[i].zxid, h.changes[i].index) })
	return h.first + uint64(i), true
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
	for n < len(from) && from[n].zxid == from[n-1].zxid {
		n++
	}
	return append(buf, from[:n]...), true
}

// oldestZXID returns the zxid behind which every change is known.
func (h *history) oldestZXID() ZXID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.oldest
}
