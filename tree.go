package coord

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"coord/internal/invariants"
)

// A CreateMode says what kind of znode a create makes. It is also a
// [CreateOption].
type CreateMode uint8

// The kinds of znode, numbered as ZooKeeper's create flags.
const (
	// Persistent znodes stay until they are deleted.
	Persistent CreateMode = iota
	// Ephemeral znodes are deleted when the session that created them ends, and
	// cannot have children.
	Ephemeral
	// PersistentSequential znodes get the parent's creation count, ten digits
	// wide, appended to their name.
	PersistentSequential
	// EphemeralSequential is Ephemeral and sequential.
	EphemeralSequential
	// Container znodes are deleted by the ensemble some time after their last
	// child was.
	Container
	// PersistentTTL znodes are deleted by the ensemble when they have no children
	// and were not modified for the time given by [WithTTL].
	PersistentTTL
	// PersistentSequentialTTL is PersistentTTL and sequential.
	PersistentSequentialTTL
)

// maxTTLMS is the longest time to live, in milliseconds: 40 bits, as in
// ZooKeeper, where it shares a word with the type of the znode.
const maxTTLMS = 1<<40 - 1

var modeNames = [...]string{
	"persistent", "ephemeral", "persistent sequential", "ephemeral sequential",
	"container", "persistent TTL", "persistent sequential TTL",
}

// String returns the name of the mode in lower case.
func (m CreateMode) String() string {
	if m.valid() {
		return modeNames[m]
	}
	return fmt.Sprintf("CreateMode(%d)", uint8(m))
}

func (m CreateMode) valid() bool     { return m <= PersistentSequentialTTL }
func (m CreateMode) ephemeral() bool { return m == Ephemeral || m == EphemeralSequential }
func (m CreateMode) hasTTL() bool    { return m == PersistentTTL || m == PersistentSequentialTTL }
func (m CreateMode) sequential() bool {
	return m == PersistentSequential || m == EphemeralSequential || m == PersistentSequentialTTL
}

// kind returns m without the sequence, which leaves no trace in the znode.
func (m CreateMode) kind() CreateMode {
	switch m {
	case PersistentSequential:
		return Persistent
	case EphemeralSequential:
		return Ephemeral
	case PersistentSequentialTTL:
		return PersistentTTL
	case Persistent, Ephemeral, Container, PersistentTTL:
	}
	return m
}

// AnyVersion as a version means no condition.
const AnyVersion int32 = -1

// A Stat is what the ensemble keeps about a znode beside its data: ZooKeeper's
// eleven fields under their own names (ZooKeeper Programmer's Guide, "ZooKeeper
// Stat Structure").
type Stat struct {
	Czxid          ZXID      // of the create
	Mzxid          ZXID      // of the last create or setData
	Pzxid          ZXID      // of the last create or delete of a child, or the create
	Ctime          int64     // of the create, in milliseconds since 1970
	Mtime          int64     // of the last create or setData, in milliseconds since 1970
	Version        int32     // number of setData; skips -1 when it wraps
	Cversion       int32     // number of creates and deletes of children
	Aversion       int32     // number of setACL; skips -1 when it wraps
	EphemeralOwner SessionID // 0 unless ephemeral
	DataLength     int32     // bytes
	NumChildren    int32
}

// A znode is immutable from the moment it enters a tree: an update puts a new
// one in its place. So a frozen tree stays as it was, and readers need no lock.
type znode struct {
	data  []byte // nil is null data, which differs from empty data
	acl   *aclEntry
	owner SessionID // 0 unless ephemeral
	ttlMS int64     // 0 unless kind is PersistentTTL

	czxid, mzxid, pzxid ZXID
	ctimeMS, mtimeMS    int64

	version  int32
	aversion int32

	// creates counts the children ever created here, of any kind. It names
	// sequential children and wraps from 2147483647 to -2147483648, as the
	// ZooKeeper Programmer's Guide documents ("Sequence Nodes"), so that after
	// the wrap a name is "-2147483648". (ZooKeeper's own tree stops counting
	// there; its behaviour then depends on how requests were pipelined.)
	creates  int32
	children int32 // now

	kind CreateMode // Persistent, Ephemeral, Container or PersistentTTL
}

// stat returns the fields as clients see them. Like ZooKeeper's, the visible
// cversion counts creates and deletes, though only creates are counted inside.
func (n *znode) stat() Stat {
	return Stat{
		Czxid: n.czxid, Mzxid: n.mzxid, Pzxid: n.pzxid,
		Ctime: n.ctimeMS, Mtime: n.mtimeMS,
		Version: n.version, Cversion: 2*n.creates - n.children, Aversion: n.aversion,
		EphemeralOwner: n.owner, DataLength: int32(len(n.data)), NumChildren: n.children,
	}
}

// nextVersion returns the version after v, which is never AnyVersion.
func nextVersion(v int32) int32 {
	if v++; v == AnyVersion {
		return 0
	}
	return v
}

// A treeItem is one znode under its key. The key is in the item and not in the
// znode, so that a comparison on the way down follows one pointer, not two.
type treeItem struct {
	key  treeKey
	node *znode
}

func lessItem(a, b treeItem) bool { return a.key < b.key }
func lessKey(a, b treeKey) bool   { return a < b }

// A tree holds the znodes of one group.
//
// Invariants, checked by violations:
//
//	T1  the tops exist, and every other znode has its parent in the tree
//	T2  an ephemeral znode has an owner and no children; no other has an owner
//	T3  czxid <= mzxid, czxid <= pzxid, and none is above the group's zxid
//	T4  children is the number of children in the tree
//	T5  reapable holds the keys of exactly the container and TTL znodes
//	T6  every path is valid
//	T7  a version is never -1, but for the aversion and version of
//	    /zookeeper/config
type tree struct {
	nodes    ordered[treeItem]
	reapable ordered[treeKey]

	// tops are the keys of the znodes without a parent in the tree: the root, or in the
	// group of a mount what hangs on the root group's tree. Never changed in place.
	tops []treeKey
}

func newTree() tree {
	return tree{nodes: newOrdered(lessItem), reapable: newOrdered(lessKey), tops: []treeKey{""}}
}

func (t *tree) freeze() tree {
	return tree{nodes: t.nodes.freeze(), reapable: t.reapable.freeze(), tops: t.tops}
}

func (t *tree) lookup(k treeKey) (*znode, bool) {
	it, ok := t.nodes.get(treeItem{key: k})
	return it.node, ok
}

// find is lookup by path. A path that no znode can have is not found.
func (t *tree) find(path string) (*znode, bool) {
	k, ok := keyOf(path)
	if !ok {
		return nil, false
	}
	return t.lookup(k)
}

// replace puts n in the place of the znode of the same kind at k.
func (t *tree) replace(k treeKey, n *znode) { t.nodes.put(treeItem{k, n}) }

// insert adds n at k, and counts it in parent, which is at up. The caller has
// checked that the parent may have children and that k is free.
func (t *tree) insert(k treeKey, n *znode, up treeKey, parent *znode) {
	invariants.Assert(parent.kind != Ephemeral, "T2: child %q of an ephemeral", string(k))
	t.nodes.put(treeItem{k, n})
	if reapableKind(n.kind) {
		t.reapable.put(k)
	}
	p := *parent
	p.creates++
	p.children++
	p.pzxid = n.czxid
	t.replace(up, &p)
}

// remove takes the znode n at k out, at z, and returns its parent. The caller has
// checked that it has no children.
func (t *tree) remove(k treeKey, n *znode, z ZXID) *znode {
	invariants.Assert(n.children == 0, "T1: znode %q removed before its %d children", string(k), n.children)
	t.nodes.remove(treeItem{key: k})
	if reapableKind(n.kind) {
		t.reapable.remove(k)
	}
	up := k.parent()
	parent, ok := t.lookup(up)
	if !ok {
		panic("coord: T1: znode without a parent: " + k.path())
	}
	p := *parent
	p.children--
	p.pzxid = max(p.pzxid, z)
	t.replace(up, &p)
	return &p
}

func reapableKind(kind CreateMode) bool { return kind == Container || kind == PersistentTTL }

// childrenAfter yields the children of k whose names come behind after, in the
// order of their names.
func (t *tree) childrenAfter(k treeKey, after string) iter.Seq2[string, *znode] {
	prefix := k.childPrefix()
	return func(yield func(string, *znode) bool) {
		for it := range t.nodes.from(treeItem{key: prefix + treeKey(after)}) {
			if !strings.HasPrefix(string(it.key), string(prefix)) {
				return
			}
			name := string(it.key[len(prefix):])
			if name <= after && after != "" {
				continue
			}
			if !yield(name, it.node) {
				return
			}
		}
	}
}

// descendants yields all strict descendants of k: those with the same parent
// are together, in the order of their names.
func (t *tree) descendants(k treeKey) iter.Seq2[treeKey, *znode] {
	from, to := k.subtree()
	return func(yield func(treeKey, *znode) bool) {
		for it := range t.nodes.from(treeItem{key: from}) {
			if it.key >= to || !yield(it.key, it.node) {
				return
			}
		}
	}
}

// countDescendants returns the number of strict descendants of k.
func (t *tree) countDescendants(k treeKey) int {
	n := 0
	for range t.descendants(k) {
		n++
	}
	return n
}

// sequencePath appends to path what makes a sequential znode's name.
func sequencePath(path string, creates int32) string { return fmt.Sprintf("%s%010d", path, creates) }

// Built-in paths. None of them can be deleted.
const (
	pathRoot   = "/"
	pathSystem = "/zookeeper"
	pathQuota  = "/zookeeper/quota"
	pathConfig = "/zookeeper/config"
)

func isBuiltIn(path string) bool {
	return path == pathRoot || path == pathSystem || path == pathQuota || path == pathConfig
}

// seed puts the znodes of a fresh ensemble into an empty tree: ZooKeeper's, with
// all zxids and times zero. Creating them counts in nothing, so a fresh root
// shows cversion -1, as ZooKeeper's does. They get acl, but for the configuration,
// which everybody may read.
func (t *tree) seed(acl, readOnly *aclEntry) {
	put := func(path string, children int32, acl *aclEntry, aversion int32) {
		k, _ := keyOf(path)
		t.nodes.put(treeItem{k, &znode{data: []byte{}, acl: acl, children: children, aversion: aversion}})
	}
	put(pathRoot, 1, acl, 0)
	put(pathSystem, 2, acl, 0)
	put(pathQuota, 0, acl, 0)
	put(pathConfig, 0, readOnly, -1)
}

// violations yields an error for each broken invariant. It walks everything:
// tests and the doctor use it, the request path does not.
func (t *tree) violations(last ZXID) iter.Seq[error] {
	return func(yield func(error) bool) {
		for _, top := range t.tops {
			if _, ok := t.lookup(top); !ok && !yield(fmt.Errorf("T1: the tree of a started group has no %s", top.path())) {
				return
			}
		}
		reapable := 0
		for it := range t.nodes.all() {
			if reapableKind(it.node.kind) {
				reapable++
			}
			for _, err := range t.nodeViolations(it.key, it.node, last) {
				if !yield(err) {
					return
				}
			}
		}
		if reapable != t.reapable.len() {
			yield(fmt.Errorf("T5: %d container and TTL znodes but %d reapable keys", reapable, t.reapable.len()))
		}
	}
}

func (t *tree) nodeViolations(k treeKey, n *znode, last ZXID) []error {
	var errs []error
	report := func(broken bool, format string, args ...any) {
		if broken {
			errs = append(errs, fmt.Errorf(format+": %s", append(args, k.path())...))
		}
	}
	if !slices.Contains(t.tops, k) {
		_, ok := t.lookup(k.parent())
		report(!ok, "T1: no parent")
	}
	report(!ValidPath(k.path()), "T6: invalid path")
	report((n.kind == Ephemeral) != (n.owner != 0), "T2: kind %v with owner %v", n.kind, n.owner)
	report(n.kind == Ephemeral && n.children != 0, "T2: ephemeral with %d children", n.children)
	report(n.czxid > n.mzxid || n.czxid > n.pzxid, "T3: czxid %v above mzxid %v or pzxid %v", n.czxid, n.mzxid, n.pzxid)
	report(max(n.mzxid, n.pzxid) > last, "T3: mzxid %v or pzxid %v above the group's zxid %v", n.mzxid, n.pzxid, last)
	count := int32(0)
	for range t.childrenAfter(k, "") {
		count++
	}
	report(count != n.children, "T4: %d children counted as %d", count, n.children)
	_, listed := t.reapable.get(k)
	report(listed != reapableKind(n.kind), "T5: kind %v, reapable %v", n.kind, listed)
	if k.path() != pathConfig {
		report(n.version == -1 || n.aversion == -1, "T7: version %d, aversion %d", n.version, n.aversion)
	}
	report(n.ttlMS < 0 || n.ttlMS > maxTTLMS || (n.ttlMS != 0) != (n.kind == PersistentTTL), "T5: kind %v with a TTL of %d ms", n.kind, n.ttlMS)
	report(len(n.data) > math.MaxInt32, "T3: data of %d bytes", len(n.data))
	report(n.acl == nil, "T3: no ACL")
	return errs
}
