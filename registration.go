package coord

import "fmt"

// A WatcherType says what a registration in a [WatchSet] is told, numbered as in
// ZooKeeper.
type WatcherType int32

// The types of registration. The first two are used up by the first notification.
const (
	ChildrenWatcher            WatcherType = 1 // as a getChildren sets it
	DataWatcher                WatcherType = 2 // as an exists or a getData sets it
	AnyWatcher                 WatcherType = 3 // every type: only to remove, or to ask
	PersistentWatcher          WatcherType = 4 // data and children of the znode, again and again
	PersistentRecursiveWatcher WatcherType = 5 // data of the znode and of all below it, again and again
)

// String returns ZooKeeper's name of the type.
func (t WatcherType) String() string {
	switch t {
	case ChildrenWatcher:
		return "Children"
	case DataWatcher:
		return "Data"
	case AnyWatcher:
		return "Any"
	case PersistentWatcher:
		return "Persistent"
	case PersistentRecursiveWatcher:
		return "PersistentRecursive"
	}
	return fmt.Sprintf("WatcherType(%d)", int32(t))
}

// watcherModes are what a set has registered at one path: bits, not counts, that
// combine freely, as in ZooKeeper from 3.9 on.
type watcherModes uint8

const (
	onceData watcherModes = 1 << iota
	onceChildren
	persistent
	recursive

	anyMode = onceData | onceChildren | persistent | recursive
)

func (t WatcherType) modes() watcherModes {
	switch t {
	case ChildrenWatcher:
		return onceChildren
	case DataWatcher:
		return onceData
	case AnyWatcher:
		return anyMode
	case PersistentWatcher:
		return persistent
	case PersistentRecursiveWatcher:
		return recursive
	}
	return 0
}

// A registration is what one set wants to be told of one path.
type registration struct {
	set        *WatchSet
	path       string
	modes      watcherModes
	next, back *registration // the list of its path
}

// registrations are ZooKeeper's two tables in one: of each path, who has registered
// there for data, for children, or both.
type registrations struct {
	byPath    map[string]*registration // a list through registration.next
	recursive int                      // how many have the mode recursive
}

// A notice is one notification of one set.
type notice struct {
	order uint64 // of notices; equal for what is one notification
	typ   EventType
	once  bool // it has used up a registration
	zxid  ZXID
	group GroupID
	path  string
	acl   *aclEntry // decides who may be told: that of the znode at path, then
}

// trigger finds who is to be told of a change, clears the modes that this uses up,
// and drops what has no mode left. A set that is found in several ways is told the
// same notice several times in a row: one notification for a connection and a
// trigger is all that ZooKeeper sends. The same deletion fires the data and the
// child table as one notification.
//
// tell and drop must not change the table.
func (t *registrations) trigger(c *change, seq uint64, tell func(*registration, notice), drop func(*registration)) {
	n := notice{order: 2 * seq, typ: c.typ, zxid: c.zxid, group: c.group, path: c.path, acl: c.node.acl}
	hit, used := onceData|persistent|recursive, onceData
	if c.typ == NodeDeleted {
		hit, used = anyMode, onceData|onceChildren
	}
	t.fire(n, hit, used, tell, drop)
	if c.path == pathRoot {
		return
	}
	parent := parentPath(c.path)
	for up := parent; t.recursive > 0; up = parentPath(up) {
		for r := t.byPath[up]; r != nil; r = r.next {
			if r.modes&recursive != 0 {
				tell(r, n)
			}
		}
		if up == pathRoot {
			break
		}
	}
	if c.typ != NodeDataChanged {
		n.order, n.typ, n.path, n.acl = n.order+1, NodeChildrenChanged, parent, c.parent
		t.fire(n, onceChildren|persistent, onceChildren, tell, drop)
	}
}

// fire tells the registrations at the path of n that have a mode of hit, and clears
// those of used.
func (t *registrations) fire(n notice, hit, used watcherModes, tell func(*registration, notice), drop func(*registration)) {
	for r := t.byPath[n.path]; r != nil; {
		next := r.next
		if r.modes&hit != 0 {
			n.once = r.modes&used != 0
			tell(r, n)
			if t.clear(r, used) {
				drop(r)
			}
		}
		r = next
	}
}

// add gives r more modes. It links r if it had none.
func (t *registrations) add(r *registration, modes watcherModes) {
	if r.modes == 0 {
		r.next = t.byPath[r.path]
		if r.next != nil {
			r.next.back = r
		}
		t.byPath[r.path] = r
	}
	if modes&^r.modes&recursive != 0 {
		t.recursive++
	}
	r.modes |= modes
}

// clear takes modes from r. It unlinks r, and reports it, if none is left.
func (t *registrations) clear(r *registration, modes watcherModes) (dropped bool) {
	if r.modes&modes&recursive != 0 {
		t.recursive--
	}
	r.modes &^= modes
	if r.modes != 0 {
		return false
	}
	if r.next != nil {
		r.next.back = r.back
	}
	switch {
	case r.back != nil:
		r.back.next = r.next
	case r.next != nil:
		t.byPath[r.path] = r.next
	default:
		delete(t.byPath, r.path)
	}
	r.next, r.back = nil, nil
	return true
}
