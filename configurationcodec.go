package coord

// leastChange is the least number of bytes of a change of a member.
const leastChange = 6

func (e *encoder) reconfiguration(rc *reconfiguration) {
	e.array(3)
	e.uint(uint64(rc.follows))
	e.bool(rc.force)
	e.array(len(rc.changes))
	for _, c := range rc.changes {
		e.array(5)
		e.member(c.id)
		e.bool(c.remove)
		e.kind(uint8(c.role))
		e.string(c.addr)
		e.string(c.clientAddr)
	}
}

func (d *decoder) reconfiguration() *reconfiguration {
	d.array(3)
	rc := &reconfiguration{follows: ZXID(d.uint()), force: d.bool()}
	rc.changes = make([]memberChange, d.list(maxMembers, leastChange))
	for i := range rc.changes {
		d.array(5)
		rc.changes[i] = memberChange{
			id: MemberID(d.uint()), remove: d.bool(), role: MemberRole(d.small(uint64(Observer))), addr: d.string(), clientAddr: d.string(),
		}
	}
	return rc
}

func (e *encoder) joining(j *joining) {
	e.array(4)
	e.member(j.id)
	e.string(j.directory)
	e.string(j.addr)
	e.string(j.clientAddr)
}

func (d *decoder) joining() *joining {
	d.array(4)
	return &joining{id: MemberID(d.uint()), directory: d.string(), addr: d.string(), clientAddr: d.string()}
}
