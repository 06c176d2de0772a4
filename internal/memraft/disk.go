package memraft

import (
	"fmt"
	"slices"

	"coord/internal/replica"
)

// An entry is one place in the log. Entries are never changed, so messages share
// them.
type entry struct {
	index uint64
	term  uint64
	key   proposalKey
	cmd   []byte // nil for the entry by which a leader starts its term, and for the next two

	first  *members // those whom the group starts with, in the first entry of its log
	change *memberChange
}

// A proposalKey names one attempt at a proposal. The zero key is nobody's.
type proposalKey struct {
	member  replica.MemberID
	process uint64 // of the member
	number  uint64
}

// A snapshot is a saved state. It is never changed.
type snapshot struct {
	index   uint64
	term    uint64
	data    []byte
	members *members
}

// A disk is what one member's replica of one group keeps through a crash.
type disk struct {
	term   uint64
	vote   replica.MemberID
	commit uint64 // as of the last write: at least the snapshot's index
	snap   snapshot

	entries []entry
	cutAt   uint64 // the index before entries[0]
	cutTerm uint64

	members    *members // by the whole log
	cutMembers *members // by the log up to cutAt

	began   bool // the replica was started before
	removed bool // the member was removed from the group
}

// begin makes the log of a replica that never ran. All who begin a group have the same
// first entry; who joins is sent it.
func (d *disk) begin(first []replica.MemberID) {
	d.began, d.members, d.cutMembers = true, nobody, nobody
	if len(first) > 0 {
		d.append(entry{index: 1, term: 1, first: firstMembers(first)})
		d.term, d.commit = 1, 1
	}
}

func (d *disk) last() uint64 { return d.cutAt + uint64(len(d.entries)) }

func (d *disk) lastTerm() uint64 {
	if n := len(d.entries); n > 0 {
		return d.entries[n-1].term
	}
	return d.cutTerm
}

// termOf returns the term of an entry, and false if the log does not reach there.
func (d *disk) termOf(index uint64) (uint64, bool) {
	switch {
	case index == d.cutAt:
		return d.cutTerm, true
	case index == d.snap.index:
		return d.snap.term, true
	case index < d.cutAt || index > d.last():
		return 0, false
	}
	return d.entries[index-d.cutAt-1].term, true
}

// from returns at most limit entries from index on, which must be in the log or one
// behind it.
func (d *disk) from(index uint64, limit int) []entry {
	rest := d.entries[index-d.cutAt-1:]
	n := min(len(rest), limit)
	return rest[:n:n]
}

func (d *disk) append(entries ...entry) {
	d.entries = append(d.entries, entries...)
	for i := range entries {
		d.members = d.members.with(&entries[i])
	}
}

// drop takes back what contradicts the leader, from index on.
func (d *disk) drop(index uint64) {
	// Messages share what is dropped, so it must not be written over.
	d.entries = slices.Clip(d.entries[:index-d.cutAt-1])
	d.members = d.cutMembers
	for i := range d.entries {
		d.members = d.members.with(&d.entries[i])
	}
}

// merge takes over a leader's entries, and drops what contradicts them
// (Ongaro §3.5).
func (d *disk) merge(entries []entry) {
	for i, e := range entries {
		if e.index <= d.cutAt {
			continue
		}
		if term, ok := d.termOf(e.index); ok && term == e.term && e.index <= d.last() {
			continue
		}
		if e.index <= d.last() {
			if e.index <= d.commit {
				panic(fmt.Sprintf("memraft: entry %d of term %d contradicts a committed one", e.index, e.term))
			}
			d.drop(e.index)
		}
		d.append(entries[i:]...)
		return
	}
}

// cut drops the log up to index, which a snapshot covers.
func (d *disk) cut(index uint64) {
	term, ok := d.termOf(index)
	if index <= d.cutAt || !ok {
		return
	}
	for i := range d.entries[:index-d.cutAt] {
		d.cutMembers = d.cutMembers.with(&d.entries[i])
	}
	d.entries = slices.Clone(d.entries[index-d.cutAt:])
	d.cutAt, d.cutTerm = index, term
}

// install replaces the log by a snapshot that reaches further.
func (d *disk) install(s snapshot) {
	if term, ok := d.termOf(s.index); ok && term == s.term && s.index <= d.last() {
		d.snap = s
		d.cut(s.index)
	} else {
		d.snap, d.entries = s, nil
		d.cutAt, d.cutTerm = s.index, s.term
		d.members, d.cutMembers = s.members, s.members
	}
	d.commit = max(d.commit, s.index)
}
