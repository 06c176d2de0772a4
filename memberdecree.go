package coord

import "slices"

// Who the members are is decided in the root group and decreed for all others: each has
// records of its own, because it counts incarnations, batches and touches for itself, and
// takes over from the root group what the configuration says of them.

// A memberDecree is the configuration that a group has to adopt.
type memberDecree struct {
	configured ZXID
	members    []memberRecord // what is decreed of them, in the order of their ids
}

// decreed returns what the root group decides about a member.
func (m *memberRecord) decreed() memberRecord {
	return memberRecord{
		id: m.id, addr: m.addr, role: m.role, removed: m.removed, clientAddr: m.clientAddr, directory: m.directory, passing: m.passing,
	}
}

// memberDecreeFor returns the configuration that a copy lacks, or nil.
func (s *state) memberDecreeFor(copied *state) *memberDecree {
	d := &memberDecree{configured: s.configured, members: make([]memberRecord, len(s.members))}
	same := s.configured == copied.configured
	for i, m := range s.members {
		d.members[i] = m.decreed()
		c := copied.members.get(m.id)
		same = same && c != nil && m.sameDecree(c)
	}
	if same {
		return nil
	}
	return d
}

// sameDecree reports whether the root group decides the same of both members.
func (m *memberRecord) sameDecree(o *memberRecord) bool {
	return m.id == o.id && m.addr == o.addr && m.role == o.role && m.removed == o.removed && m.clientAddr == o.clientAddr &&
		m.directory == o.directory && m.passing == o.passing
}

// size is what the decree has, in bytes.
func (d *memberDecree) size() int64 {
	n := int64(16)
	for i := range d.members {
		m := &d.members[i]
		n += int64(16 + len(m.addr) + len(m.clientAddr) + len(m.directory))
	}
	return n
}

// membersAs returns the members of a group as d says, and whether they can be. Raft has
// to follow where somebody is new, goes, or begins to vote. Whom the root group has
// forgotten, this one forgets when nothing depends on it here.
func (s *state) membersAs(d *memberDecree) (memberTable, bool) {
	decreed := make(map[MemberID]bool, len(d.members))
	for i := range d.members {
		decreed[d.members[i].id] = true
	}
	t := slices.DeleteFunc(slices.Clone(s.members), func(m *memberRecord) bool { return !decreed[m.id] && s.forgettable(m) })
	for i := range d.members {
		m := d.members[i]
		was := t.get(m.id)
		if m.id == 0 {
			return nil, false
		}
		if was == nil {
			m.unsettled, m.touchedMS = !m.removed, s.timeMS
			t = t.with(&m)
			continue
		}
		n := *was
		n.addr, n.role, n.removed, n.clientAddr, n.directory, n.passing = m.addr, m.role, m.removed, m.clientAddr, m.directory, m.passing
		n.unsettled = was.unsettled || was.role != m.role || was.removed != m.removed
		t = t.with(&n)
	}
	fine := len(t) <= maxMembers
	for err := range t.violations() {
		fine = fine && err == nil
	}
	return t, fine
}

func (e *encoder) memberDecree(d *memberDecree) {
	if d == nil {
		e.null()
		return
	}
	e.array(2)
	e.uint(uint64(d.configured))
	e.array(len(d.members))
	for i := range d.members {
		m := &d.members[i]
		e.array(7)
		e.member(m.id)
		e.string(m.addr)
		e.kind(uint8(m.role))
		e.bool(m.removed)
		e.string(m.clientAddr)
		e.string(m.directory)
		e.bool(m.passing)
	}
}

// leastDecreedMember is the least number of bytes of a member in a decree.
const leastDecreedMember = 8

func (d *decoder) memberDecree() *memberDecree {
	if d.isNil() {
		d.null()
		return nil
	}
	d.array(2)
	c := &memberDecree{configured: ZXID(d.uint())}
	c.members = make([]memberRecord, d.list(maxMembers, leastDecreedMember))
	for i := range c.members {
		d.array(7)
		c.members[i] = memberRecord{
			id: MemberID(d.uint()), addr: d.string(), role: MemberRole(d.small(uint64(Observer))), removed: d.bool(),
			clientAddr: d.string(), directory: d.string(), passing: d.bool(),
		}
	}
	return c
}
