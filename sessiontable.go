package coord

import (
	"cmp"
	"fmt"
	"iter"
)

// A session is one session as every member knows it. It is immutable: an update
// puts a new one in its place.
type session struct {
	id         SessionID
	timeoutMS  int64
	password   [16]byte // what whoever resumes it must show
	identities []ID     // at opening; nil is the ensemble's own code

	// owner and incarnation name the process that speaks for the session. While
	// it does, the session is as alive as the process's touches.
	owner       MemberID
	incarnation uint64

	// generation names the newest handle: it is 1 for the one that opened the
	// session and, for one that resumed it, the zxid of the resume. A request
	// carries the generation of its handle and any other is refused.
	generation uint64

	// silent says that the owner does not vouch for the session: its touches do
	// not extend it.
	silent bool

	// touched is the number of its owner's last touch when the session was opened,
	// resumed, fell silent or spoke again. lastTouch says what counts now.
	touched uint64

	// released says that the owner has let go: whoever resumes the session has it
	// at once. A released session is silent.
	released bool

	// claim says who has the session when its timeout runs out; nil is nobody.
	claim *claim
}

// firstGeneration is that of the handle that opened a session: lower than any
// zxid of a resume.
const firstGeneration = 1

// A claim is the wish of a process to have a session that another may still use.
// It is immutable.
type claim struct {
	member      MemberID
	incarnation uint64
	generation  uint64 // of the handle that it would make, see session
	timeoutMS   int64  // as granted
}

// A sessionOwner is a key of the index that finds the sessions of one process
// in the order of their timeouts.
type sessionOwner struct {
	owner       MemberID
	incarnation uint64
	silent      bool
	timeoutMS   int64
	id          SessionID
}

func (s *session) ownerKey() sessionOwner {
	return sessionOwner{s.owner, s.incarnation, s.silent, s.timeoutMS, s.id}
}

func lessOwner(a, b sessionOwner) bool {
	if a.owner != b.owner {
		return a.owner < b.owner
	}
	if a.incarnation != b.incarnation {
		return a.incarnation < b.incarnation
	}
	if a.silent != b.silent {
		return b.silent
	}
	return cmp.Or(cmp.Compare(a.timeoutMS, b.timeoutMS), cmp.Compare(a.id, b.id)) < 0
}

// An ephemeralRef says that the session owns the ephemeral znode at key.
type ephemeralRef struct {
	session SessionID
	key     treeKey
}

func lessEphemeral(a, b ephemeralRef) bool {
	if a.session != b.session {
		return a.session < b.session
	}
	return a.key < b.key
}

// An ephemeralCount is the number of a session's ephemerals.
type ephemeralCount struct {
	session SessionID
	n       int64
}

// A sessionTable holds the sessions of one group.
//
// Invariants, checked by violations:
//
//	S1  byOwner has exactly one key for each session
//	S2  ephemerals has exactly the ephemeral znodes of the tree, under their owner
//	S3  the owner of an ephemeral is a session of the table
//	S4  a session's owner, and whoever claims it unless that is forgotten, is a member record, and the
//	    incarnation is not above the record's
//	S5  a claim is newer than the session's generation
//	S6  a released session is silent
//	S7  counts has the number of ephemerals of exactly the sessions that have any
//	S8  no session has a tombstone, and none has one in the root group
type sessionTable struct {
	byID       ordered[*session]
	byOwner    ordered[sessionOwner]
	ephemerals ordered[ephemeralRef]
	counts     ordered[ephemeralCount]
	tombstones ordered[SessionID] // of sessions that have ended here and perhaps not in the root group

	last *session // what find found last; no part of the state
}

func newSessionTable() sessionTable {
	return sessionTable{
		byID:       newOrdered(func(a, b *session) bool { return a.id < b.id }),
		byOwner:    newOrdered(lessOwner),
		ephemerals: newOrdered(lessEphemeral),
		counts:     newOrdered(func(a, b ephemeralCount) bool { return a.session < b.session }),
		tombstones: newOrdered(func(a, b SessionID) bool { return a < b }),
	}
}

func (t *sessionTable) freeze() sessionTable {
	return sessionTable{
		byID: t.byID.freeze(), byOwner: t.byOwner.freeze(), ephemerals: t.ephemerals.freeze(), counts: t.counts.freeze(),
		tombstones: t.tombstones.freeze(), last: t.last,
	}
}

// get returns a session. Most requests of a batch are of the same session, so the
// last one found is kept at hand.
func (t *sessionTable) get(id SessionID) (*session, bool) {
	if t.last != nil && t.last.id == id {
		return t.last, true
	}
	ses, ok := t.byID.get(&session{id: id})
	return ses, ok
}

// find is get for the one goroutine that changes the table.
func (t *sessionTable) find(id SessionID) (*session, bool) {
	ses, ok := t.get(id)
	if ok {
		t.last = ses
	}
	return ses, ok
}

// put adds s or replaces the session of the same id.
func (t *sessionTable) put(s *session) {
	t.last = nil
	if old, replaced := t.byID.put(s); replaced {
		t.byOwner.remove(old.ownerKey())
	}
	t.byOwner.put(s.ownerKey())
}

// drop removes s. The caller has removed its ephemerals.
func (t *sessionTable) drop(s *session) {
	t.last = nil
	t.byID.remove(s)
	t.byOwner.remove(s.ownerKey())
}

// isTombstone reports whether a session has ended here and must not come back.
func (t *sessionTable) isTombstone(id SessionID) bool {
	_, ended := t.tombstones.get(id)
	return ended
}

// own lists the ephemeral at k under its session.
func (t *sessionTable) own(id SessionID, k treeKey) {
	t.ephemerals.put(ephemeralRef{id, k})
	t.counts.put(ephemeralCount{id, t.ephemeralCount(id) + 1})
}

// disown takes the ephemeral at k, which is listed, out of the list of its session.
func (t *sessionTable) disown(id SessionID, k treeKey) {
	t.ephemerals.remove(ephemeralRef{id, k})
	if n := t.ephemeralCount(id) - 1; n > 0 {
		t.counts.put(ephemeralCount{id, n})
	} else {
		t.counts.remove(ephemeralCount{session: id})
	}
}

// ephemeralCount returns the number of ephemerals of a session.
func (t *sessionTable) ephemeralCount(id SessionID) int64 {
	c, _ := t.counts.get(ephemeralCount{session: id})
	return c.n
}

// ephemeralsOf yields the keys of the ephemerals of a session, in tree order.
func (t *sessionTable) ephemeralsOf(id SessionID) iter.Seq[treeKey] {
	return func(yield func(treeKey) bool) {
		for ref := range t.ephemerals.from(ephemeralRef{session: id}) {
			if ref.session != id || !yield(ref.key) {
				return
			}
		}
	}
}

// vouchedFor yields the sessions that the touches of the process which runs as a
// member extend.
func (s *state) vouchedFor(id MemberID) iter.Seq[SessionID] {
	return func(yield func(SessionID) bool) {
		m := s.members.get(id)
		if m == nil {
			return
		}
		for o := range s.sessions.byOwner.from(sessionOwner{owner: id, incarnation: m.incarnation}) {
			if o.owner != id || o.incarnation != m.incarnation || o.silent || !yield(o.id) {
				return
			}
		}
	}
}

// lastTouch returns the number of the touch that last extended s: an expiry
// names it and is refused once it has moved. m is the record of the owner.
//
// It never falls, or an expiry that a touch had made void would count again. A
// session that is left over from an earlier incarnation therefore keeps what that
// one reached; each further hello may raise the number though nothing extended the
// session, and the leader then just asks again.
func (s *session) lastTouch(m *memberRecord) uint64 {
	switch {
	case m == nil || s.silent:
		return s.touched
	case s.incarnation == m.incarnation:
		return m.touches
	}
	return m.helloTouches
}

// sessionFault returns what breaks S4, S5 or S6 in a session.
func (s *state) sessionFault(ses *session) error {
	ran := func(id MemberID, incarnation uint64) bool {
		m := s.members.get(id)
		return m != nil && incarnation <= m.incarnation
	}
	forgotten := func(id MemberID) bool { return s.members.get(id) == nil && s.members.usedUp(id) }
	c := ses.claim
	switch {
	case !ran(ses.owner, ses.incarnation):
		return fmt.Errorf("S4: session %v is owned by %v in incarnation %d", ses.id, ses.owner, ses.incarnation)
	case c != nil && !ran(c.member, c.incarnation) && !forgotten(c.member):
		return fmt.Errorf("S4: session %v is claimed by %v in incarnation %d", ses.id, c.member, c.incarnation)
	case c != nil && c.generation <= ses.generation:
		return fmt.Errorf("S5: session %v of generation %d has a claim for generation %d", ses.id, ses.generation, c.generation)
	case ses.released && !ses.silent:
		return fmt.Errorf("S6: session %v is released and not silent", ses.id)
	case s.sessions.isTombstone(ses.id):
		return fmt.Errorf("S8: session %v has a tombstone", ses.id)
	}
	return nil
}

func (s *state) sessionViolations() iter.Seq[error] {
	return func(yield func(error) bool) {
		t := &s.sessions
		if t.byOwner.len() != t.byID.len() && !yield(fmt.Errorf("S1: %d sessions but %d owner keys", t.byID.len(), t.byOwner.len())) {
			return
		}
		for ses := range t.byID.all() {
			if _, ok := t.byOwner.get(ses.ownerKey()); !ok && !yield(fmt.Errorf("S1: session %v has no owner key", ses.id)) {
				return
			}
			if fault := s.sessionFault(ses); fault != nil && !yield(fault) {
				return
			}
		}
		if n := t.tombstones.len(); n > 0 && s.serves.none() && !yield(fmt.Errorf("S8: %d tombstones in the root group", n)) {
			return
		}
		owned, counted := 0, int64(0)
		for c := range t.counts.all() {
			counted += c.n
			n := int64(0)
			for range t.ephemeralsOf(c.session) {
				n++
			}
			if (n != c.n || n == 0) && !yield(fmt.Errorf("S7: session %v has %d ephemerals counted as %d", c.session, n, c.n)) {
				return
			}
		}
		if counted != int64(t.ephemerals.len()) && !yield(fmt.Errorf("S7: %d ephemerals counted as %d", t.ephemerals.len(), counted)) {
			return
		}
		for it := range s.tree.nodes.all() {
			if it.node.kind != Ephemeral {
				continue
			}
			owned++
			if _, ok := t.ephemerals.get(ephemeralRef{it.node.owner, it.key}); !ok && !yield(fmt.Errorf("S2: ephemeral %s of %v is not listed", it.key.path(), it.node.owner)) {
				return
			}
			if _, ok := t.get(it.node.owner); !ok && !yield(fmt.Errorf("S3: ephemeral %s has no session %v", it.key.path(), it.node.owner)) {
				return
			}
		}
		if owned != t.ephemerals.len() {
			yield(fmt.Errorf("S2: %d ephemerals in the tree but %d listed", owned, t.ephemerals.len()))
		}
	}
}
