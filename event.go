package coord

import "fmt"

// An EventType says what happened to a znode, numbered as in ZooKeeper.
type EventType int32

// The types of event.
const (
	NodeCreated         EventType = 1
	NodeDeleted         EventType = 2
	NodeDataChanged     EventType = 3
	NodeChildrenChanged EventType = 4 // a child was created or deleted

	// changesLost says that changes of what is at and below a path are not known here.
	// Nobody is told it: it ends the watches that it concerns.
	changesLost EventType = 99

	// Progress tells a watch that was opened [WithProgress] that it has been
	// given everything up to the event's Position.
	Progress EventType = 100
)

// String returns ZooKeeper's name of the type.
func (t EventType) String() string {
	switch t {
	case NodeCreated:
		return "NodeCreated"
	case NodeDeleted:
		return "NodeDeleted"
	case NodeDataChanged:
		return "NodeDataChanged"
	case NodeChildrenChanged:
		return "NodeChildrenChanged"
	case Progress:
		return "Progress"
	case changesLost:
		return "changesLost"
	}
	return fmt.Sprintf("EventType(%d)", int32(t))
}

// An Event is one change of one znode.
type Event struct {
	Type EventType
	Path string // the znode that changed; for NodeChildrenChanged the parent
	ZXID ZXID   // of the write that changed it; all events of one write share it

	// Initial says that this is no change: the znode existed when the watch was
	// opened [WithInitial]. Its Type is NodeCreated.
	Initial bool

	// Data and Stat are those of the znode after the change, or of the deleted
	// znode. They are set in watches that were opened [WithData], but not for
	// NodeChildrenChanged. They belong to the reader.
	Data []byte
	Stat Stat

	// Position is the place behind this event: a watch that starts from it is
	// given everything that follows, the rest of the same write included. Initial
	// events have none, but for the last one: until then the whole state was not
	// told, and there is no place to go on from. (A watch from the zero Position is
	// told everything from the beginning of time, or that this is no longer known.)
	Position Position
}

// String returns for example "NodeCreated /a at 0x2a".
func (e Event) String() string { return fmt.Sprintf("%v %s at %v", e.Type, e.Path, e.ZXID) }

// A change is what apply tells of one event: NodeCreated, NodeDeleted or
// NodeDataChanged. It is shared by all watches.
type change struct {
	typ   EventType
	index uint32 // among the changes of the same zxid
	zxid  ZXID
	group GroupID // set by the history
	path  string
	node  *znode // as it is now, or as it was when it was deleted

	parent *aclEntry // of the parent; nil for NodeDataChanged and the root
	last   bool      // of its zxid; set by the history
}

// behind returns the place behind c.
func (c *change) behind() groupPosition {
	if c.last {
		return whole(c.group, c.zxid)
	}
	return groupPosition{c.group, c.zxid, c.index + 1}
}

// sameWrite reports whether both come from one write.
func (c *change) sameWrite(o *change) bool { return c.zxid == o.zxid && c.group == o.group }

// size is what a change counts in the bounds of the history, in bytes.
func (c *change) size() int { return 160 + len(c.path) + len(c.node.data) }

// An unmounted is a mount that the root group has taken back.
type unmounted struct {
	group  GroupID
	path   string
	sealed ZXID // of the group, behind all of its changes
	zxid   ZXID // of the step
	heard  bool // this member knows all that the group has done; set by its own group
}

// effects is what applying a command does beside changing the state: it is for
// this member's ears only and decides nothing.
type effects struct {
	changes  []change    // in order
	ended    []SessionID // sessions closed or expired
	moved    []SessionID // sessions with another owner or claim
	silenced []SessionID // sessions that nobody vouches for from now on
	exceeded []*quota    // that have a limit which is exceeded and not enforced
	touched  bool        // the proposer's sessions were extended
	marked   bool        // group time was set
	members  bool        // something about who the members are, or where, has changed
	panic    string      // a defect, caught
	kept     []keptState // that somebody here wants

	unmounted []unmounted // mounts that the root group has taken back
}
