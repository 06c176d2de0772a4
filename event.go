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
	}
	return fmt.Sprintf("EventType(%d)", int32(t))
}

// An Event is one change of one znode.
type Event struct {
	Type EventType
	Path string // the znode that changed; for NodeChildrenChanged the parent
	ZXID ZXID   // of the write that changed it; all events of one write share it
}

// String returns for example "NodeCreated /a at 0x2a".
func (e Event) String() string { return fmt.Sprintf("%v %s at %v", e.Type, e.Path, e.ZXID) }

// effects is what applying a command does beside changing the state: it is for
// this member's ears only and decides nothing.
type effects struct {
	events   []Event     // NodeCreated, NodeDeleted and NodeDataChanged, in order
	ended    []SessionID // sessions closed or expired
	moved    []SessionID // sessions with another owner or claim
	silenced []SessionID // sessions that nobody vouches for from now on
	touched  bool        // the proposer's sessions were extended
	marked   bool        // group time was set
	panic    string      // a defect, caught
}
