package coord

import (
	"iter"
	"time"
)

// A SessionInfo is what a [View] tells of a session.
type SessionInfo struct {
	ID      SessionID
	Timeout time.Duration

	// External says that it is of somebody outside the processes of the ensemble, see
	// [SessionOptions].
	External bool

	Ephemerals int // znodes
}

// Sessions yields the sessions that there are, by their ids. They are the business of
// the ensemble's own code: a view of an external session shows none.
func (v *View) Sessions() iter.Seq[SessionInfo] {
	return func(yield func(SessionInfo) bool) {
		if v.identities != nil {
			return
		}
		for s := range v.s.sessions.byID.all() {
			if !yield(SessionInfo{
				ID: s.id, Timeout: time.Duration(s.timeoutMS) * time.Millisecond, External: s.identities != nil,
				Ephemerals: v.ephemeralsOf(s.id),
			}) {
				return
			}
		}
	}
}

func (v *View) ephemeralsOf(id SessionID) (n int) {
	for s := range v.states() {
		n += int(s.sessions.ephemeralCount(id))
	}
	return n
}

// EphemeralsOf yields the paths of the ephemeral znodes of a session, in the order of the
// tree but those of mounts last, to the ensemble's own code as [View.Sessions] does.
func (v *View) EphemeralsOf(id SessionID) iter.Seq[string] {
	return func(yield func(string) bool) {
		if v.identities != nil {
			return
		}
		for s := range v.states() {
			for k := range s.sessions.ephemeralsOf(id) {
				if !yield(k.path()) {
					return
				}
			}
		}
	}
}

// EphemeralCount returns the number of ephemeral znodes, of all sessions, to the
// ensemble's own code; to others zero.
func (v *View) EphemeralCount() int {
	if v.identities != nil {
		return 0
	}
	n := 0
	for s := range v.states() {
		n += s.sessions.ephemerals.len()
	}
	return n
}
