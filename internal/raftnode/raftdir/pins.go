package raftdir

import (
	"fmt"

	"github.com/google/uuid"

	"coord/internal/replica"
)

const remedyStrange = "bring the directory of before back; if it is lost, remove that member from the ensemble and let it join again " +
	"under a new member id with an empty directory; never reuse the old id"

// Pin binds a member to a directory: the first id seen of it is written down
// durably before Pin returns, the same id again is fine, and any other is
// refused with [ErrStrangeDirectory]. For what comes with another directory has
// not the memory of the member that was known: its directory was emptied, or it
// is another process under the same id. It may have voted, and forgotten that it
// did.
//
// The directory's own member is bound to this directory from the start. Ids of
// members are never used again, so nothing takes a pin out.
//
// Pin costs two fsyncs of small files the first time, and nothing later.
func (d *Dir) Pin(member replica.MemberID, directoryID string) error {
	if u, err := uuid.Parse(directoryID); member == 0 || err != nil || u.String() != directoryID {
		return fmt.Errorf("pin directory: id %q of member %d is not a UUID of a member", directoryID, member)
	}
	if known := d.pinned(member); known != "" {
		return d.comparePin(member, known, directoryID)
	}
	err := d.update(func(m *manifest) bool {
		if m.Pins[member] != "" {
			return false // somebody was faster
		}
		if m.Pins == nil {
			m.Pins = make(map[replica.MemberID]string)
		}
		m.Pins[member] = directoryID
		return true
	})
	if err != nil {
		return fmt.Errorf("pin directory of member %d: %w", member, err)
	}
	return d.comparePin(member, d.pinned(member), directoryID)
}

// pinned returns the directory that a member is bound to, or "".
func (d *Dir) pinned(member replica.MemberID) string {
	m := d.view()
	if member == m.Member {
		return m.ID
	}
	return m.Pins[member]
}

func (d *Dir) comparePin(member replica.MemberID, known, is string) error {
	if known == is {
		return nil
	}
	return &Error{
		Kind: ErrStrangeDirectory, Path: d.path, Offset: -1,
		Detail: fmt.Sprintf("member %d was first seen with directory %s and comes with directory %s: "+
			"its directory was emptied or replaced, or another process uses its id", member, known, is),
		Remedy: remedyStrange,
	}
}
