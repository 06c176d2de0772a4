package coord

import "slices"

// A mountStepKind says which step of a mount or unmount a request is. Numbers are never
// reused. docs/adr/0019-mounts.md has the whole procedure, and what a crash leaves.
type mountStepKind uint8

const (
	// stepSeal, in the root group: the znode takes no writes from here on, and the
	// mount gets a group.
	stepSeal mountStepKind = 1
	// stepFlip, in the root group: the mount's group, which has the znode, serves it.
	stepFlip mountStepKind = 2
	// stepCancel, in the root group: a mount that was not flipped will not be.
	stepCancel mountStepKind = 3
	// stepSealGroup, in the mount's group: an empty group takes no writes from here on.
	stepSealGroup mountStepKind = 4
	// stepTakeBack, in the root group: the znode of a sealed group is the root group's.
	stepTakeBack mountStepKind = 5
)

// A mountStep is one step of a mount or unmount. All but the first are a compare-and-set
// on what the step before left, so a step that somebody repeats is refused or does
// nothing.
type mountStep struct {
	kind  mountStepKind
	path  string  // the mount point
	group GroupID // of the mount; 0 in stepSeal, which gives it

	zxid ZXID        // stepTakeBack: of the mount's group when it was sealed
	back *mountImage // stepTakeBack
}

// A mountImage is what moves from one group to another.
type mountImage struct {
	node   movedZnode // the mount point
	quotas movedZnode // the place of its quotas
}

// A movedZnode is a persistent znode without children on its way from one group to
// another: everything that it has.
type movedZnode struct {
	data                       []byte
	acl                        []ACL
	czxid, mzxid, pzxid        ZXID
	ctimeMS, mtimeMS           int64
	version, aversion, creates int32
}

// A mountSeed is what makes a new group that of a mount.
type mountSeed struct {
	path  string
	zxid  ZXID // of the seal
	image mountImage
}

// imageAt returns what moves, of a mount point that is sealed and empty.
func (s *state) imageAt(path string) (*mountImage, bool) {
	n, ok := s.tree.find(path)
	q, okQuotas := s.tree.find(quotaPlace(path))
	if !ok || !okQuotas {
		return nil, false
	}
	return &mountImage{n.moved(), q.moved()}, true
}

func (n *znode) moved() movedZnode {
	return movedZnode{
		data: n.data, acl: n.acl.list, czxid: n.czxid, mzxid: n.mzxid, pzxid: n.pzxid, ctimeMS: n.ctimeMS, mtimeMS: n.mtimeMS,
		version: n.version, aversion: n.aversion, creates: n.creates,
	}
}

// settle returns the znode in the state that it has come to.
func (m *movedZnode) settle(s *state) *znode {
	return &znode{
		data: m.data, acl: s.acls.intern(m.acl), kind: Persistent, czxid: m.czxid, mzxid: m.mzxid, pzxid: m.pzxid,
		ctimeMS: m.ctimeMS, mtimeMS: m.mtimeMS, version: m.version, aversion: m.aversion, creates: m.creates,
	}
}

// seedOf returns what the group of a mount starts with; false if the mount point is not
// sealed for it, or not any more: then others have started the group.
func (s *state) seedOf(group GroupID) (*mountSeed, *mount, bool) {
	for m := range s.mounts.all() {
		if m.group == group && m.phase == mountSealed {
			image, ok := s.imageAt(m.path)
			return &mountSeed{m.path, m.sealed, *image}, m, ok
		}
	}
	return nil, nil, false
}

// plant makes an empty group that of a mount. Its zxids begin where those of the root
// group were, however far that is.
func (s *state) plant(seed *mountSeed) {
	s.serves = mountPoint{path: seed.path}
	s.zxid = seed.zxid
	s.tree.tops = s.serves.tops()
	for i, m := range []*movedZnode{&seed.image.node, &seed.image.quotas} {
		n := m.settle(s)
		s.zxid = max(s.zxid, n.mzxid, n.pzxid) // T3, whatever the seed says
		s.tree.replace(s.tree.tops[i], n)
	}
}

// mountStep takes a step of a mount or unmount. It has a zxid, also if it is refused.
func (x *execution) mountStep() result {
	st := x.r.step
	code := codeOK
	if st.kind == stepTakeBack && x.s.serves.none() && !x.s.advance(st.zxid) {
		code = ErrBadArguments
	}
	x.s.zxid++
	switch {
	case code != codeOK:
	case x.r.identities != nil:
		code = ErrNoAuth
	case x.s.serves.none() == (st.kind == stepSealGroup):
		code = ErrWrongGroup
	case st.kind == stepSeal:
		code = x.seal(st.path)
	case st.kind == stepSealGroup:
		code = x.sealGroup(st)
	default:
		code = x.changeMount(st)
	}
	return result{code: code, zxid: x.s.zxid}
}

// seal begins a mount.
func (x *execution) seal(path string) Code {
	if !mountable(path) {
		return ErrBadArguments
	}
	n, exists := x.s.tree.find(path)
	switch {
	case x.s.mounts.overlapping(path) != nil:
		return ErrMounted
	case !exists:
		return ErrNoNode
	case n.kind == Ephemeral:
		return ErrNoChildrenForEphemerals
	case n.kind != Persistent:
		return ErrBadArguments
	case n.children != 0:
		return ErrNotEmpty
	case x.s.changing() != nil:
		return ErrReconfigInProgress // the group's raft begins with those who vote
	case x.s.mounts.byPath.len() >= maxMounts:
		return ErrTooLarge
	case x.s.growthRefused():
		return ErrNoSpace
	}
	if code := x.checkQuotaPlace(path); code != codeOK {
		return code
	}
	x.makeQuotaPlace(path)
	m := &mount{path: path, group: x.s.mounts.nextGroup(), phase: mountSealed, sealed: x.s.zxid}
	for _, r := range x.s.members {
		if !r.removed && r.role == Voter {
			m.members = append(m.members, memberRecord{id: r.id, addr: r.addr, clientAddr: r.clientAddr})
		}
	}
	x.s.mounts.given++
	x.s.mounts.put(m)
	return codeOK
}

// checkQuotaPlace sees that nothing is where the quotas of a mount will be, and that the
// place can be made.
func (x *execution) checkQuotaPlace(path string) Code {
	place := quotaPlace(path)
	n, exists := x.s.tree.find(place)
	switch {
	case exists && n.children != 0:
		return ErrNotEmpty
	case exists && n.kind != Persistent:
		return ErrBadArguments
	}
	for !exists {
		place = parentPath(place)
		n, exists = x.s.tree.find(place)
	}
	if n.kind == Ephemeral {
		return ErrNoChildrenForEphemerals
	}
	return codeOK
}

// makeQuotaPlace makes what is missing on the way to where the quotas of a mount will
// be. Who may set quotas above may do so there.
func (x *execution) makeQuotaPlace(path string) {
	var missing []string
	up := quotaPlace(path)
	n, exists := x.s.tree.find(up)
	for !exists {
		missing = append(missing, up)
		up = parentPath(up)
		n, exists = x.s.tree.find(up)
	}
	for _, path := range slices.Backward(missing) {
		k, _ := keyOf(path)
		parent, _ := x.s.tree.lookup(k.parent())
		x.insert(path, k, &znode{
			acl: n.acl, czxid: x.s.zxid, mzxid: x.s.zxid, pzxid: x.s.zxid, ctimeMS: x.nowMS(), mtimeMS: x.nowMS(),
		}, k.parent(), parent)
	}
}

// trimQuotaPlace deletes what makeQuotaPlace has made, as ZooKeeper's tools do behind a
// quota that is removed: what is left would keep a znode above from being mounted.
func (x *execution) trimQuotaPlace(path string) {
	for place := quotaPlace(path); place != pathQuota; place = parentPath(place) {
		k, _ := keyOf(place)
		n, _ := x.s.tree.lookup(k)
		if n.children != 0 || len(n.data) != 0 {
			return
		}
		x.remove(k, n)
	}
}

// sealGroup ends what the group of a mount does, if it is empty.
func (x *execution) sealGroup(st *mountStep) Code {
	switch {
	case x.s.group != st.group || x.s.serves.path != st.path:
		return ErrBadVersion
	case x.s.serves.sealed != 0:
		return codeOK
	case x.s.tree.nodes.len() != len(x.s.tree.tops):
		return ErrNotEmpty
	}
	x.s.serves.sealed = x.s.zxid
	return codeOK
}

// changeMount takes those steps that need an entry of the table.
func (x *execution) changeMount(st *mountStep) Code {
	m := x.s.mounts.at(st.path)
	phase := mountSealed
	if st.kind == stepTakeBack {
		phase = mountServed
	}
	if m == nil || m.group != st.group || m.phase != phase {
		return ErrBadVersion
	}
	switch st.kind {
	case stepFlip:
		served := *m
		served.phase, served.flipped = mountServed, x.s.zxid
		x.s.mounts.put(&served)
		x.clear(m.path)
		x.clear(quotaPlace(m.path))
	case stepCancel:
		x.s.mounts.drop(m)
		x.trimQuotaPlace(m.path)
	case stepTakeBack:
		x.s.mounts.drop(m)
		x.install(m.path, st.back.node.settle(x.s))
		x.install(quotaPlace(m.path), st.back.quotas.settle(x.s))
		x.trimQuotaPlace(m.path)
		x.eff.unmounted = append(x.eff.unmounted, unmounted{group: m.group, path: m.path, sealed: st.zxid, zxid: x.s.zxid})
	case stepSeal, stepSealGroup:
		panic("coord: unreachable: a step without an entry")
	}
	return codeOK
}

// clear takes the data out of a znode that another group has from here on. What is left
// keeps the name among its parent's children.
func (x *execution) clear(path string) {
	n, _ := x.s.tree.find(path) // MT3
	stub := *n
	stub.data = nil
	x.install(path, &stub)
}

// install puts n in the place of the znode without children at path. To its readers it is
// the same znode, so there is no event.
func (x *execution) install(path string, n *znode) {
	k, _ := keyOf(path)
	old, _ := x.s.tree.lookup(k) // MT3
	x.s.tree.replace(k, n)
	x.account(path, old, n)
}
