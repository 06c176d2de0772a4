package coord

// A FormatVersion numbers the form of what a group keeps: commands, results and
// snapshots (docs/FORMAT.md). Each group has one in force, which is raised by an
// explicit act, [Coordinator.ActivateVersion], and never falls.
//
// What must stay true, so that an older binary can follow the log until then:
// members propose nothing that the version in force has not, and snapshots are
// written in it. A command of a later version is the last thing that a binary reads
// which does not know it.
type FormatVersion uint32

// The versions that this binary reads. It writes those in force, and starts new
// ensembles with the newest.
const (
	oldestFormat  = 1
	formatVersion = 2
)

// What came with which version.
const (
	membersChange = 2 // members come and go
	formatMounts  = 2 // mounts, and what other groups need of the root group
)

// since returns the first version that has requests of this kind.
func (k requestKind) since() FormatVersion {
	switch k {
	case requestWrite, requestMulti, requestOpenSession, requestCloseSession, requestExpire, requestReap, requestResume,
		requestRelease, requestWithdraw, requestSetUser, requestRemoveUser, requestSetTemplate, requestSettings:
		return 1
	case requestActivate, requestReconfigure, requestJoin, requestSettle:
		return membersChange
	case requestMountStep, requestAdopt, requestEnter, requestForget:
		return formatMounts
	}
	return formatVersion + 1 // none that this binary knows
}

// since returns the first version that has operations of this kind.
func (k opKind) since() FormatVersion {
	switch k {
	case opCreate, opDelete, opSetData, opSetACL, opCheck, opCheckAbsent, opCheckChildren, opAdd, opCheckFewerChildren:
		return 1
	}
	return formatVersion + 1 // none that this binary knows
}

// needs returns the least version in which r can be written without loss. A field
// that came later than its request counts if it says anything: it would be left out.
func (r *request) needs() FormatVersion {
	v := r.kind.since()
	for i := range r.ops {
		v = max(v, r.ops[i].kind.since())
	}
	return v
}

// available reports whether the version in force has all that r asks for. That which
// puts another one into force is always there.
func (s *state) available(r *request) bool {
	return r.kind == requestActivate || r.needs() <= s.version
}

// format returns the version in which s is written. A group that has not started is
// written in the oldest, which every binary reads.
func (s *state) format() FormatVersion { return max(s.version, oldestFormat) }

// activate puts a version into force. One that is in force already, or that a later one
// has followed, stays as it is. From version 2 on, /zookeeper/config tells of the members.
func (x *execution) activate() result {
	if x.r.identities != nil {
		return x.refused(ErrNoAuth)
	}
	before := x.s.version
	x.s.version = max(before, x.r.version)
	if before < membersChange && x.s.version >= membersChange && len(x.s.members) > 1 {
		k, n := x.s.configNode()
		x.tellConfiguration(k, n)
	}
	return result{zxid: x.s.zxid}
}
