package coord

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// op executes one operation. Each of the functions below checks everything
// first, in the order in which ZooKeeper checks it, so that the first fault
// decides the code; behind the checks nothing can fail.
func (x *execution) op(o *op) opResult {
	if code := x.s.misplaced(o); code != codeOK {
		return opResult{code: code}
	}
	if code := checkArguments(o, &x.s.settings); code != codeOK {
		return opResult{code: code}
	}
	if code := x.checkSession(); code != codeOK {
		return opResult{code: code}
	}
	if quotaTextFault(o) != "" {
		return opResult{code: ErrBadArguments}
	}
	switch o.kind {
	case opCreate:
		return x.create(o)
	case opDelete:
		return x.delete(o)
	case opSetData:
		return x.setData(o)
	case opSetACL:
		return x.setACL(o)
	case opCheck:
		return x.check(o)
	case opCheckAbsent:
		return x.checkAbsent(o)
	case opCheckChildren, opCheckFewerChildren:
		return x.checkChildren(o)
	case opAdd:
		return x.add(o)
	}
	panic("coord: unreachable: operation kind " + strconv.Itoa(int(o.kind)))
}

// checkArguments applies the checks that need no znode and, in ZooKeeper's
// order, come before that of the session.
func checkArguments(o *op, set *settings) Code {
	if o.kind == opCreate {
		switch {
		case !o.mode.valid():
			return ErrBadArguments
		case o.mode.hasTTL() && !set.ttlNodes:
			return ErrUnimplemented
		case o.mode.hasTTL() && (o.ttlMS <= 0 || o.ttlMS > maxTTLMS):
			return ErrBadArguments
		case !o.mode.hasTTL() && o.ttlMS != 0:
			return ErrBadArguments
		}
	}
	if int64(len(o.data)) > set.maxDataBytes {
		return ErrTooLarge
	}
	return codeOK
}

// namesChild reports whether path has the form that create and delete demand
// before they look anything up.
func namesChild(path string) bool {
	return strings.Contains(path, "/") && !strings.Contains(path, "\x00")
}

func (x *execution) create(o *op) opResult {
	if o.mode.ephemeral() && x.r.session == 0 {
		return opResult{code: ErrSessionExpired}
	}
	if !namesChild(o.path) {
		return opResult{code: ErrBadArguments}
	}
	var named *aclEntry
	code := codeOK
	if o.acl != nil {
		named, code = x.resolveACL(o.acl)
	}
	acl := named
	if code == codeOK {
		acl, code = x.aclUnder(x.s.templates.nearest(o.templatePath()), named)
	}
	if code != codeOK {
		return opResult{code: code}
	}
	if o.parents != noParents {
		parents, res := x.planParents(o, named)
		if res.code != codeOK {
			return res
		}
		for _, p := range parents {
			if res := x.createOne(&op{path: p.path, mode: o.parents.kind()}, p.acl); res.code != codeOK {
				panic("coord: unreachable: checked parent " + p.path + ": " + res.code.Error())
			}
		}
	}
	return x.createOne(o, acl)
}

// templatePath returns where the search for the template of a create begins. The
// name of a sequential znode is not known yet.
func (o *op) templatePath() string {
	if o.mode.sequential() {
		return parentPath(o.path)
	}
	return o.path
}

// createOne makes the znode itself, whose parent exists unless o is refused.
func (x *execution) createOne(o *op, acl *aclEntry) opResult {
	up, ok := keyOf(parentPath(o.path))
	if !ok {
		return opResult{code: ErrNoNode}
	}
	parent, ok := x.s.tree.lookup(up)
	if !ok {
		return opResult{code: ErrNoNode}
	}
	path := o.path
	if o.mode.sequential() {
		path = sequencePath(path, parent.creates)
	}
	k, code := x.checkCreate(path, parent)
	if code != codeOK {
		return opResult{code: code}
	}
	if res := x.checkLimits(parentPath(path), path, o); res.code != codeOK {
		return res
	}
	now := x.nowMS()
	n := &znode{
		data: x.s.storedData(path, o.data), acl: acl, kind: o.mode.kind(), ttlMS: o.ttlMS,
		czxid: x.s.zxid, mzxid: x.s.zxid, pzxid: x.s.zxid, ctimeMS: now, mtimeMS: now,
	}
	if n.kind == Ephemeral {
		n.owner = x.r.session
		x.s.sessions.own(n.owner, k)
	}
	x.insert(path, k, n, up, parent)
	return opResult{path: path, stat: n.stat()}
}

// insert puts the znode n, which was checked, at path and tells it.
func (x *execution) insert(path string, k treeKey, n *znode, up treeKey, parent *znode) {
	x.s.tree.insert(k, n, up, parent)
	x.account(path, nil, n)
	x.publish(NodeCreated, path, n, parent.acl)
}

// checkCreate is the second half of create's checks, in ZooKeeper's order. It
// returns the key of path.
func (x *execution) checkCreate(path string, parent *znode) (treeKey, Code) {
	switch {
	case !x.permits(parent.acl, PermCreate):
		return "", ErrNoAuth
	case !ValidPath(path):
		return "", ErrBadArguments
	}
	k, _ := keyOf(path)
	if _, exists := x.s.tree.lookup(k); exists {
		return "", ErrNodeExists
	}
	switch {
	case parent.kind == Ephemeral:
		return "", ErrNoChildrenForEphemerals
	case x.s.growthRefused():
		return "", ErrNoSpace
	}
	return k, codeOK
}

// checkLimits is the end of create's checks: whether what it makes between up, which
// exists, and path is within the quotas and within the limits of its session.
func (x *execution) checkLimits(up, path string, o *op) opResult {
	if q := x.s.refusingQuota(up, path, int64(len(o.data))); q != nil {
		return quotaExceeded(q)
	}
	most := x.s.settings.maxEphemerals
	if o.mode.ephemeral() && most > 0 && x.s.sessions.ephemeralCount(x.r.session) >= most {
		return opResult{code: ErrLimitExceeded}
	}
	return opResult{}
}

// quotaExceeded is the answer to an operation that a quota refuses. It names the
// quota.
func quotaExceeded(q *quota) opResult { return opResult{code: ErrQuotaExceeded, path: q.path} }

// account keeps the quotas right, see state.account.
func (x *execution) account(path string, old, n *znode) {
	if q := x.s.account(path, old, n); q != nil {
		x.eff.exceeded = append(x.eff.exceeded, q)
	}
}

// A newParent is a znode that is made on the way to another.
type newParent struct {
	path string
	acl  *aclEntry
}

// planParents returns the parents that a create has to make, the topmost first. It
// checks the create as a whole, because its steps must not be half done: below the
// last ancestor that exists there is nothing, so only that ancestor's ACL and kind,
// the ACLs of what is made and the path itself can refuse. named is the ACL that the
// create names, or nil.
func (x *execution) planParents(o *op, named *aclEntry) ([]newParent, opResult) {
	path := o.path
	if o.mode.sequential() {
		path += "0" // the name may be the number alone
	}
	if !ValidPath(path) {
		return nil, opResult{code: ErrBadArguments}
	}
	up := parentPath(path)
	var parents []newParent
	n, ok := x.s.tree.find(up)
	for !ok {
		parents = append(parents, newParent{path: up})
		up = parentPath(up)
		n, ok = x.s.tree.find(up)
	}
	switch {
	case parents == nil:
		return nil, opResult{}
	case !x.permits(n.acl, PermCreate):
		return nil, opResult{code: ErrNoAuth}
	case n.kind == Ephemeral:
		return nil, opResult{code: ErrNoChildrenForEphemerals}
	case x.s.growthRefused():
		return nil, opResult{code: ErrNoSpace}
	}
	slices.Reverse(parents)
	if code := x.giveACLs(parents, x.s.templates.nearest(up), named); code != codeOK {
		return nil, opResult{code: code}
	}
	if o.mode.sequential() {
		path = sequencePath(o.path, 0) // the first child of a new parent
	}
	if len(path) > maxPathBytes {
		return nil, opResult{code: ErrBadArguments}
	}
	return parents, x.checkLimits(up, path, o)
}

// giveACLs gives parents their ACLs, which must let the caller create the next znode
// below each. t is the nearest template above them, or nil.
func (x *execution) giveACLs(parents []newParent, t *template, named *aclEntry) Code {
	acl, code := x.aclUnder(t, named)
	for i := range parents {
		if own := x.s.templates.at(parents[i].path, t); own != t {
			t = own
			acl, code = x.aclUnder(t, named)
		}
		switch {
		case code != codeOK:
			return code
		case !x.permits(acl, PermCreate):
			return ErrNoAuth
		}
		parents[i].acl = acl
	}
	return codeOK
}

// permits reports whether the caller has one of the permissions in want.
func (x *execution) permits(e *aclEntry, want Perm) bool {
	return x.s.permits(e, x.r.identities, want)
}

// resolveACL returns the entry that a create or setACL stores for list.
func (x *execution) resolveACL(list []ACL) (*aclEntry, Code) {
	list, code := x.s.settings.normalizeACL(list, x.s.inForce(x.r.identities))
	if code != codeOK {
		return nil, code
	}
	return x.s.acls.intern(list), codeOK
}

func (x *execution) delete(o *op) opResult {
	if !namesChild(o.path) || isBuiltIn(o.path) {
		return opResult{code: ErrBadArguments}
	}
	parent, ok := x.s.tree.find(parentPath(o.path))
	if !ok {
		return opResult{code: ErrNoNode}
	}
	if !x.permits(parent.acl, PermDelete) {
		return opResult{code: ErrNoAuth}
	}
	k, ok := keyOf(o.path)
	if !ok {
		return opResult{code: ErrNoNode}
	}
	n, ok := x.s.tree.lookup(k)
	switch {
	case !ok:
		return opResult{code: ErrNoNode}
	case !o.matches(n, n.version):
		return opResult{code: ErrBadVersion}
	case n.children != 0:
		return opResult{code: ErrNotEmpty}
	}
	x.remove(k, n)
	return opResult{}
}

// matches reports whether the conditions of o hold for n, whose version is that
// of its data or of its ACL.
func (o *op) matches(n *znode, version int32) bool {
	return (o.version == AnyVersion || o.version == version) && (o.czxid == 0 || o.czxid == n.czxid)
}

// target finds the znode of an operation that demands a valid path, an existing
// znode and one of the permissions in want.
func (x *execution) target(path string, want Perm) (treeKey, *znode, Code) {
	k, ok := keyOf(path)
	var n *znode
	if ok {
		n, ok = x.s.tree.lookup(k)
	}
	switch {
	case !ok && !ValidPath(path): // what is found is valid (T6)
		return "", nil, ErrBadArguments
	case !ok:
		return "", nil, ErrNoNode
	case !x.permits(n.acl, want):
		return "", nil, ErrNoAuth
	}
	return k, n, codeOK
}

func (x *execution) setData(o *op) opResult {
	k, n, code := x.target(o.path, PermWrite)
	switch {
	case code != codeOK:
		return opResult{code: code}
	case len(o.data) > len(n.data) && x.s.growthRefused():
		return opResult{code: ErrNoSpace}
	}
	if q := x.s.refusingBytes(o.path, len(o.data)-len(n.data)); q != nil {
		return quotaExceeded(q) // before the version, as in ZooKeeper
	}
	if !o.matches(n, n.version) {
		return opResult{code: ErrBadVersion}
	}
	return opResult{stat: x.storeData(k, n, o.path, o.data)}
}

// storeData gives the znode n at k new data and tells it, even if the bytes are the
// same.
func (x *execution) storeData(k treeKey, n *znode, path string, data []byte) Stat {
	m := *n
	m.data = x.s.storedData(path, data)
	m.version = nextVersion(n.version)
	m.mzxid = x.s.zxid
	m.mtimeMS = x.nowMS()
	x.s.tree.replace(k, &m)
	x.account(path, n, &m)
	x.publish(NodeDataChanged, path, &m, nil)
	return m.stat()
}

// setACL changes the ACL and aversion, and nothing else of the stat; it causes
// no event.
func (x *execution) setACL(o *op) opResult {
	if !ValidPath(o.path) {
		return opResult{code: ErrBadArguments}
	}
	acl, code := x.resolveACL(o.acl)
	if code != codeOK {
		return opResult{code: code}
	}
	k, n, code := x.target(o.path, PermAdmin)
	switch {
	case code != codeOK:
		return opResult{code: code}
	case !o.matches(n, n.aversion):
		return opResult{code: ErrBadVersion}
	}
	m := *n
	m.acl = acl
	m.aversion = nextVersion(n.aversion)
	x.s.tree.replace(k, &m)
	return opResult{stat: m.stat()}
}

func (x *execution) check(o *op) opResult {
	_, n, code := x.target(o.path, PermRead)
	switch {
	case code != codeOK:
		return opResult{code: code}
	case !o.matches(n, n.version):
		return opResult{code: ErrBadVersion}
	}
	return opResult{stat: n.stat()}
}

func (x *execution) checkAbsent(o *op) opResult {
	_, _, code := x.target(o.path, PermRead)
	switch code {
	case ErrNoNode:
		return opResult{}
	case codeOK:
		return opResult{code: ErrNodeExists}
	}
	return opResult{code: code}
}

// checkChildren compares the number of children with that of o, which is the one
// to be or the one to stay below.
func (x *execution) checkChildren(o *op) opResult {
	_, n, code := x.target(o.path, PermRead)
	if code != codeOK {
		return opResult{code: code}
	}
	fits := n.children == o.count
	if o.kind == opCheckFewerChildren {
		fits = n.children < o.count
	}
	if !fits || !o.matches(n, n.version) {
		return opResult{code: ErrBadVersion}
	}
	return opResult{stat: n.stat()}
}

// add adds to the decimal number that is the data; null and empty data count as
// zero. It needs read permission as well, because the answer is the sum.
func (x *execution) add(o *op) opResult {
	k, n, code := x.target(o.path, PermWrite)
	switch {
	case code != codeOK:
		return opResult{code: code}
	case !x.permits(n.acl, PermRead):
		return opResult{code: ErrNoAuth}
	case !o.matches(n, n.version):
		return opResult{code: ErrBadVersion}
	}
	value := int64(0)
	if len(n.data) > 0 {
		var err error
		if value, err = strconv.ParseInt(string(n.data), 10, 64); err != nil {
			return opResult{code: ErrNotANumber}
		}
	}
	if o.delta > 0 && value > math.MaxInt64-o.delta || o.delta < 0 && value < math.MinInt64-o.delta {
		return opResult{code: ErrOverflow}
	}
	value += o.delta
	data := strconv.AppendInt(nil, value, 10)
	if q := x.s.refusingBytes(o.path, len(data)-len(n.data)); q != nil {
		return quotaExceeded(q)
	}
	stat := x.storeData(k, n, o.path, data)
	return opResult{stat: stat, value: value}
}
