package coord

import (
	"errors"
	"fmt"
	"iter"
	"slices"
)

// A MemberRole says what a member does in its groups.
type MemberRole uint8

const (
	// Voter members elect leaders and make up the quorum.
	Voter MemberRole = iota
	// Observer members replicate and serve, but do not vote.
	Observer
)

// String returns the role in lower case.
func (r MemberRole) String() string {
	switch r {
	case Voter:
		return "voter"
	case Observer:
		return "observer"
	}
	return fmt.Sprintf("MemberRole(%d)", uint8(r))
}

// A memberRecord is what a group knows about one member. It is immutable.
type memberRecord struct {
	id      MemberID
	addr    string
	role    MemberRole
	removed bool // a tombstone: the id is never used again

	clientAddr string // where clients of other protocols reach it, for /zookeeper/config alone
	directory  string // the UUID of the directory that it has joined with; empty before, and of initial members
	unsettled  bool   // raft is not yet what this record says
	passing    bool   // an observer that came by itself, and is removed when it is silent for long

	// incarnation counts the starts of the member that this group has seen: each
	// process asks for the next one with a hello before it proposes anything
	// else. nonce is the process's own number, so that a hello that is applied
	// twice is recognised.
	incarnation uint64
	nonce       uint64

	// number, digest and results are those of the last batch of this
	// incarnation. The same number again gives the same results (exactly once).
	number  uint64
	digest  uint64
	results []result

	touches      uint64 // counts the touches of all incarnations
	helloTouches uint64 // touches when this incarnation began
	touchedMS    int64  // group time at the last touch
	freeBytes    uint64 // on the member's disk, at the last touch; 0 is unknown
	lowOnSpace   bool   // the member reported too little space for growth
}

// A memberTable holds the member records of a group in the order of their ids.
// There are few, so it is a slice that is copied when it changes.
//
// Invariants, checked by violations:
//
//	M1  ids are not zero and strictly increasing
//	M2  a member that was never started has incarnation 0 and no batch
//	M3  somebody votes
//	M4  a directory is that of one member
type memberTable []*memberRecord

func (t memberTable) index(id MemberID) (int, bool) {
	return slices.BinarySearchFunc(t, id, func(m *memberRecord, id MemberID) int {
		switch {
		case m.id < id:
			return -1
		case m.id > id:
			return 1
		}
		return 0
	})
}

// get returns the record of a member, or nil.
func (t memberTable) get(id MemberID) *memberRecord {
	if i, ok := t.index(id); ok {
		return t[i]
	}
	return nil
}

// with returns a table in which m stands for its id.
func (t memberTable) with(m *memberRecord) memberTable {
	i, ok := t.index(m.id)
	if !ok {
		return slices.Insert(slices.Clone(t), i, m)
	}
	out := slices.Clone(t)
	out[i] = m
	return out
}

// keptTombstones is how many removed members whose ids were chosen are remembered in any
// case, those with the greatest ids. More than that would add up where every deployment
// replaces all members.
const keptTombstones = 128

// usedUp reports whether an id that is not in the table is that of a member that was
// removed and is forgotten, or may be if it is a chosen one.
func (t memberTable) usedUp(id MemberID) bool {
	if id.given() {
		return len(t) > 0 && id < t[len(t)-1].id
	}
	greater := 0
	for _, m := range t {
		if m.removed && m.id > id && !m.id.given() {
			greater++
		}
	}
	return greater >= keptTombstones
}

// remembered returns the table without the tombstones that nothing depends on. Those that
// stay suffice for usedUp to know all that went, now and later: the one with the greatest
// id of all, and keptTombstones with greater ids than that of any chosen one.
func (s *state) remembered(t memberTable) memberTable {
	greater := 0
	kept := make(memberTable, 0, len(t))
	for i, m := range slices.Backward(t) {
		needless := m.id.given() && i < len(t)-1 || greater >= keptTombstones
		if needless && s.forgettable(m) {
			continue
		}
		if m.removed && !m.id.given() {
			greater++
		}
		kept = append(kept, m)
	}
	slices.Reverse(kept)
	return kept
}

// forgettable reports whether nothing depends on the record of a member that was removed:
// raft has let go of it in every group, and no session is its own.
func (s *state) forgettable(m *memberRecord) bool {
	first, there := s.sessions.firstOwned(sessionOwner{owner: m.id})
	owns := there && first.owner == m.id
	return m.removed && !m.unsettled && !owns
}

func (t memberTable) violations() iter.Seq[error] {
	return func(yield func(error) bool) {
		if t.voters() == 0 && !yield(errors.New("M3: nobody votes")) {
			return
		}
		last, directories := MemberID(0), map[string]MemberID{}
		for _, m := range t {
			if other, taken := directories[m.directory]; m.directory != "" && taken && !yield(fmt.Errorf("M4: members %v and %v have directory %s", other, m.id, m.directory)) {
				return
			}
			directories[m.directory] = m.id
			if m.id <= last && !yield(fmt.Errorf("M1: member %v behind member %v", m.id, last)) {
				return
			}
			last = m.id
			if m.incarnation == 0 && (m.number != 0 || m.touches != 0 || m.nonce != 0) && !yield(fmt.Errorf("M2: member %v acted before its hello", m.id)) {
				return
			}
		}
	}
}
