package coord

// The least number of bytes that an element of each list of mounts takes.
const (
	leastMount     = 7
	leastTemplate  = 4
	leastName      = 1
	leastSessionID = 1
)

func (e *encoder) mountStep(st *mountStep) {
	e.array(5)
	e.kind(uint8(st.kind))
	e.string(st.path)
	e.uint(uint64(st.group))
	e.uint(uint64(st.zxid))
	if st.back == nil {
		e.null()
	} else {
		e.mountImage(st.back)
	}
}

func (d *decoder) mountStep() *mountStep {
	d.array(5)
	st := &mountStep{kind: mountStepKind(d.small(255)), path: d.string(), group: GroupID(d.uint()), zxid: ZXID(d.uint())}
	if d.isNil() {
		d.null()
	} else {
		st.back = d.mountImage()
	}
	switch {
	case st.kind < stepSeal || st.kind > stepTakeBack:
		d.fail("step %d of a mount", st.kind)
	case (st.back != nil) != (st.kind == stepTakeBack):
		d.fail("step %d of a mount, with a znode %v", st.kind, st.back != nil)
	}
	return st
}

func (e *encoder) mountImage(m *mountImage) {
	e.array(2)
	e.movedZnode(&m.node)
	e.movedZnode(&m.quotas)
}

func (d *decoder) mountImage() *mountImage {
	d.array(2)
	return &mountImage{node: d.movedZnode(), quotas: d.movedZnode()}
}

func (e *encoder) movedZnode(m *movedZnode) {
	e.array(10)
	e.bytes(m.data)
	e.acl(m.acl)
	e.uint(uint64(m.czxid))
	e.uint(uint64(m.mzxid))
	e.uint(uint64(m.pzxid))
	e.int(m.ctimeMS)
	e.int(m.mtimeMS)
	e.int(int64(m.version))
	e.int(int64(m.aversion))
	e.int(int64(m.creates))
}

func (d *decoder) movedZnode() movedZnode {
	d.array(10)
	return movedZnode{
		data: d.bytes(), acl: d.acl(), czxid: ZXID(d.uint()), mzxid: ZXID(d.uint()), pzxid: ZXID(d.uint()),
		ctimeMS: d.int(), mtimeMS: d.int(), version: d.int32(), aversion: d.int32(), creates: d.int32(),
	}
}

// seed writes what makes a group that of a mount; nil is the root group's.
func (e *encoder) seed(m *mountSeed) {
	if m == nil {
		e.null()
		return
	}
	e.array(3)
	e.string(m.path)
	e.uint(uint64(m.zxid))
	e.mountImage(&m.image)
}

func (d *decoder) seed() *mountSeed {
	if d.isNil() {
		d.null()
		return nil
	}
	d.array(3)
	m := &mountSeed{path: d.string(), zxid: ZXID(d.uint()), image: *d.mountImage()}
	if d.err == nil && !mountable(m.path) {
		d.fail("%s cannot be a mount point", quotePath(m.path))
	}
	return m
}

func (e *encoder) decree(c *decree) {
	e.array(8)
	e.uint(c.from)
	e.uint(c.to)
	if c.settings == nil {
		e.null()
	} else {
		e.settings(c.settings)
	}
	e.memberDecree(c.members)
	e.array(len(c.users))
	for i := range c.users {
		e.user(&c.users[i])
	}
	e.names(c.noUsers)
	e.array(len(c.templates))
	for i := range c.templates {
		e.template(&c.templates[i])
	}
	e.names(c.noTemplates)
}

func (d *decoder) decree() *decree {
	d.array(8)
	c := &decree{from: d.uint(), to: d.uint()}
	if d.isNil() {
		d.null()
	} else {
		set := d.settings()
		c.settings = &set
	}
	c.members = d.memberDecree()
	c.users = make([]user, d.list(maxUsers, leastUser))
	for i := range c.users {
		c.users[i] = *d.user()
	}
	c.noUsers = d.names()
	c.templates = make([]template, d.list(maxTemplates, leastTemplate))
	for i := range c.templates {
		c.templates[i] = *d.template()
	}
	c.noTemplates = d.names()
	return c
}

func (e *encoder) names(names []string) {
	e.array(len(names))
	for _, name := range names {
		e.string(name)
	}
}

func (d *decoder) names() []string {
	names := make([]string, d.list(maxUsers, leastName))
	for i := range names {
		names[i] = d.string()
	}
	return names
}

func (e *encoder) sessionIDs(ids []SessionID) {
	e.array(len(ids))
	for _, id := range ids {
		e.uint(uint64(id))
	}
}

func (d *decoder) sessionIDs(most int) []SessionID {
	ids := make([]SessionID, d.list(most, leastSessionID))
	for i := range ids {
		ids[i] = SessionID(d.uint())
	}
	return ids
}

// mount writes an entry of the table.
func (e *encoder) mount(m *mount) {
	e.array(6)
	e.string(m.path)
	e.uint(uint64(m.group))
	e.kind(uint8(m.phase))
	e.uint(uint64(m.sealed))
	e.uint(uint64(m.flipped))
	e.initialMembers(m.members)
}

func (d *decoder) mount() *mount {
	d.array(6)
	return &mount{
		path: d.string(), group: GroupID(d.uint()), phase: mountPhase(d.small(uint64(mountServed))), sealed: ZXID(d.uint()),
		flipped: ZXID(d.uint()), members: d.initialMembers(),
	}
}

// mounting writes what a group knows of mounts: the table of the root group, or what a
// mount's group serves.
func (e *encoder) mounting(s *state) {
	e.array(5)
	e.string(s.serves.path)
	e.uint(uint64(s.serves.sealed))
	e.uint(s.decrees)
	e.uint(s.mounts.given)
	e.array(s.mounts.byPath.len())
	for m := range s.mounts.all() {
		e.mount(m)
	}
}

func (d *decoder) mounting(s *state) {
	d.array(5)
	s.serves = mountPoint{path: d.string(), sealed: ZXID(d.uint())}
	s.decrees, s.mounts.given = d.uint(), d.uint()
	n := d.list(maxMounts, leastMount)
	for range n {
		m := d.mount()
		if d.err != nil {
			return
		}
		s.mounts.put(m)
	}
	switch {
	case s.mounts.byPath.len() != n:
		d.fail("a mount is in it twice")
	case s.serves.none():
	case !mountable(s.serves.path):
		d.fail("%s cannot be a mount point", quotePath(s.serves.path))
	default:
		s.tree.tops = s.serves.tops()
	}
}
