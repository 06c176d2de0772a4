package coord

import (
	"iter"
	"slices"
)

// A state is all that a group replicates. One goroutine changes it; everyone
// else reads frozen copies, which cost O(1) and share everything unchanged.
//
// Beside the invariants of its parts (T1…, S1…, M1…, Q1…, MT1…), the zxid never falls.
type state struct {
	group    GroupID
	version  FormatVersion // in force; 0 before the init command
	ensemble string
	id       EnsembleID
	settings settings
	zxid     ZXID
	// configured is the zxid of the last change of who the members are; 0 is none.
	configured ZXID
	timeMS     int64 // group time: milliseconds since 1970, never falls

	serves  mountPoint // the zero one in the root group
	mounts  mountTable // of the root group
	decrees uint64     // how many the root group has made, or as of how many a copy is

	tree       tree
	acls       aclTable
	defaultACL *aclEntry // of settings.defaultACL
	sessions   sessionTable
	members    memberTable
	users      userTable
	templates  templateTable
	quotas     quotaTable
}

func newState(group GroupID) *state {
	return &state{
		group: group, tree: newTree(), acls: newACLTable(), sessions: newSessionTable(), users: newUserTable(),
		templates: newTemplateTable(), quotas: newQuotaTable(), mounts: newMountTable(),
	}
}

// freeze returns a copy that never changes.
func (s *state) freeze() *state {
	c := *s
	c.tree = s.tree.freeze()
	c.acls = s.acls.freeze()
	c.sessions = s.sessions.freeze()
	c.users = s.users.freeze()
	c.templates = s.templates.freeze()
	c.quotas = s.quotas.freeze()
	c.mounts = s.mounts.freeze()
	return &c
}

// started reports whether the init command was applied.
func (s *state) started() bool { return s.version != 0 }

// violations yields an error for each broken invariant. It walks everything.
func (s *state) violations() iter.Seq[error] {
	return func(yield func(error) bool) {
		if !s.started() {
			return
		}
		for _, part := range []iter.Seq[error]{
			s.tree.violations(s.zxid), s.sessionViolations(), s.members.violations(), s.quotaViolations(), s.mountViolations(),
		} {
			for err := range part {
				if !yield(err) {
					return
				}
			}
		}
	}
}

// firstViolation returns the first broken invariant, or nil.
func (s *state) firstViolation() error {
	for err := range s.violations() {
		return err
	}
	return nil
}

// ephemerals returns the paths of a session's ephemerals that start with prefix,
// sorted.
func (s *state) ephemerals(id SessionID, prefix string) []string {
	var paths []string
	for k := range s.sessions.ephemeralsOf(id) {
		if p := k.path(); len(p) >= len(prefix) && p[:len(prefix)] == prefix {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}
