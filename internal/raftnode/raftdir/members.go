package raftdir

import (
	"maps"

	"coord/internal/replica"
)

// A Member is what a directory remembers of one member of the ensemble.
type Member struct {
	Addr      string `json:"addr"`                // what peers dial
	Directory string `json:"directory,omitempty"` // its directory's id; "" if it never had one
}

// Members returns what was last noted, without regard to whether it is still so: it
// says whom to ask. It is empty if nothing was noted.
func (d *Dir) Members() map[replica.MemberID]Member { return maps.Clone(d.view().Members) }

// NoteMembers records durably who the members are and where. It costs two fsyncs of
// small files if that has changed, and nothing otherwise.
//
// A directory in which this was noted cannot be opened any more by a program that knows
// only members that stay.
func (d *Dir) NoteMembers(members map[replica.MemberID]Member) error {
	return d.update(func(m *manifest) bool {
		if maps.Equal(m.Members, members) {
			return false
		}
		m.Members = maps.Clone(members)
		return true
	})
}
