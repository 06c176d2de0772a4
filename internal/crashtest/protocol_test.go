package crashtest_test

import (
	"os/exec"
	"time"

	"coord"
	"coord/internal/failpoint"
)

// memberEnv holds a memberConfig as JSON; a process that finds it is a member.
const memberEnv = "COORD_CRASHTEST_MEMBER"

// A memberConfig says which member a process is to be.
type memberConfig struct {
	Name             string         `json:"name"`
	ID               coord.MemberID `json:"id"`
	Dir              string         `json:"dir"`
	Members          []coord.Member `json:"members"`
	Join             []string       `json:"join"` // instead of Members
	Listen           string         `json:"listen"`
	ElectionTimeout  time.Duration  `json:"electionTimeout"`
	SessionTimeout   time.Duration  `json:"sessionTimeout"`
	OperationTimeout time.Duration  `json:"operationTimeout"`
	SnapshotEntries  uint64         `json:"snapshotEntries"`
	LogShards        uint64         `json:"logShards"`
	ObserverGrace    time.Duration  `json:"observerGrace"`
	Procs            int            `json:"procs"`   // GOMAXPROCS; 0 is 2
	OpenACL          bool           `json:"openACL"` // anybody may do everything with new znodes

	Insecure bool   `json:"insecure"` // plain text between machines
	Cert     string `json:"cert"`     // file, as are Key and CA; empty without TLS
	Key      string `json:"key"`
	CA       string `json:"ca"`
	Hostname string `json:"hostname"` // in a namespace of its own, if not empty
	UID      int    `json:"uid"`      // user to become, if not 0
	Journal  string `json:"journal"`  // what was not synced is noted there, if not empty

	Point failpoint.Point `json:"point"` // where it is to be killed, if not empty
	Spare int64           `json:"spare"` // how many times not

	// command makes the command that runs the process; nil: one on this machine.
	command func(program string) *exec.Cmd
}

func (c *memberConfig) coord() (coord.Config, error) {
	cfg := coord.Config{
		Name: c.Name, ID: c.ID, Dir: c.Dir, InitialMembers: c.Members, Join: c.Join, Listen: c.Listen,
		ElectionTimeout: c.ElectionTimeout, SessionTimeout: c.SessionTimeout, OperationTimeout: c.OperationTimeout,
		SnapshotEntries: c.SnapshotEntries, LogShards: c.LogShards, ObserverGrace: c.ObserverGrace, CloseTimeout: 3 * time.Second, Insecure: c.Insecure,
	}
	if c.OpenACL {
		cfg.DefaultACL = coord.OpenACL()
	}
	var err error
	if c.Cert != "" {
		cfg.TLS, err = coord.TLSFiles{Cert: c.Cert, Key: c.Key, CA: c.CA}.Config()
	}
	return cfg, err
}

// The requests that a member understands.
const (
	opCreate   = "create"
	opSetData  = "setData"
	opDelete   = "delete"
	opAdd      = "add"
	opMulti    = "multi"
	opCheck    = "check" // in a multi only
	opGet      = "get"
	opChildren = "children"
	opStatus   = "status"
	opView     = "view" // zxid and digest
	opDump     = "dump" // opView with all znodes
	opSession  = "session"
	opClient   = "client" // opSession of one outside, whose token is Data of the answer
	opMove     = "move"   // resumes the session of the token Data as Path
	opDrain    = "drain"  // Coordinator.Drain
	opState    = "state"  // of a session
	opPause    = "pause"  // waits until the process was paused, see member.pause
	opClose    = "close"  // the member, in good order
	opRecord   = "record" // tells all changes from the position Data on, see recorder
	opSkip     = "skip"   // the clock runs ahead by Timeout
	opSlow     = "slow"   // whatever is synced takes Timeout longer; 0 ends that
	opFailLog  = "fail"   // the next call Data ("sync", "write", "space") for a file of the log fails
	opSpace    = "space"  // the disk has Delta bytes left; a negative number ends that
	opPoint    = "point"  // the process is killed at the failpoint Data, when it was spared there Delta times

	opMount   = "mount"   // Path
	opUnmount = "unmount" // Path
	opReplace = "replace" // the member ID by Member; either may be none
	opMembers = "members" // Coordinator.Configuration, as Members and Settled

	opVersions = "versions" // of the format that the members read
	opActivate = "activate" // the format version Delta

	opHold    = "hold"    // the lock at Path, as Key
	opStill   = "still"   // whether Key is held
	opGuard   = "guard"   // sets Path to Data if Key is held
	opRelease = "release" // Key
	opPut     = "put"     // Data into the queue at Path
	opTake    = "take"    // an item of the queue at Path, as Key
	opAck     = "ack"     // Key, and create a sequential Path with Data with it
	opNack    = "nack"    // Key
	opLen     = "len"     // of the queue at Path
)

// A request is one line to a member.
type request struct {
	Seq     uint64           `json:"seq"`
	Op      string           `json:"op"`
	Path    string           `json:"path,omitempty"`
	Data    string           `json:"data,omitempty"`
	Delta   int64            `json:"delta,omitempty"`
	Version *int32           `json:"version,omitempty"`
	Mode    coord.CreateMode `json:"mode,omitempty"`
	Session string           `json:"session,omitempty"` // empty is the Coordinator's own
	Timeout time.Duration    `json:"timeout,omitempty"` // of the call or, for opSession, of the session
	Ops     []request        `json:"ops,omitempty"`
	Key     string           `json:"key,omitempty"` // the parent's name of what is held
	Member  coord.Member     `json:"member,omitzero"`
	ID      coord.MemberID   `json:"id,omitempty"`
}

// An outcome is what is known of a request that was sent.
type outcome string

const (
	pending outcome = ""
	acked   outcome = "acked"
	refused outcome = "refused" // had no effect
	unknown outcome = "unknown" // took effect once, or not at all
)

// The events that a member tells without being asked.
const (
	eventOpened     = "opened"     // Open has returned
	eventOpenFailed = "openFailed" // … with Error
	eventReady      = "ready"      // Ready has returned
	eventFailed     = "failed"     // the Coordinator's context has ended by itself
	eventOutcome    = "outcome"    // of the request Seq, which was unknown
	eventPausing    = "pausing"    // opPause has begun to ask
	eventClosed     = "closed"     // by opClose
	eventRecording  = "recording"  // a watch of all begins at Position
	eventTold       = "told"       // it tells one write, or that there is none up to Position
)

// A reply is one line from a member: the answer to a request or an event.
type reply struct {
	Seq      uint64             `json:"seq,omitempty"`
	Event    string             `json:"event,omitempty"`
	Outcome  outcome            `json:"outcome,omitempty"`
	Error    string             `json:"error,omitempty"`
	Code     coord.Code         `json:"code,omitempty"`
	Path     string             `json:"path,omitempty"`
	Data     string             `json:"data,omitempty"`
	Value    int64              `json:"value,omitempty"`
	Stat     *coord.Stat        `json:"stat,omitempty"`
	Results  []coord.OpResult   `json:"results,omitempty"`
	Children []string           `json:"children,omitempty"`
	ZXID     coord.ZXID         `json:"zxid,omitempty"`   // that the member has applied by now
	Digest   string             `json:"digest,omitempty"` // with ZXID
	Nodes    []node             `json:"nodes,omitempty"`
	Status   *coord.Status      `json:"status,omitempty"`
	Newest   map[string]uint64  `json:"newest,omitempty"` // format version that a member reads, by its id
	ID       coord.SessionID    `json:"id,omitempty"`
	State    coord.SessionState `json:"state,omitempty"` // of the request's session
	Timeout  time.Duration      `json:"timeout,omitempty"`
	Guarded  []string           `json:"guarded,omitempty"` // what opPause's attempts came to
	Fence    coord.ZXID         `json:"fence,omitempty"`
	Told     []told             `json:"told,omitempty"`
	Position string             `json:"position,omitempty"`
	Group    coord.GroupID      `json:"group,omitempty"` // that Told is a write of
	Settled  bool               `json:"settled,omitempty"`
	Members  []coord.Member     `json:"members,omitempty"`
}

// A told is one change of one znode.
type told struct {
	Type    coord.EventType `json:"type"`
	Path    string          `json:"path"`
	Data    string          `json:"data,omitempty"`
	Version int32           `json:"version,omitempty"`
}

// A node is one znode of a dump.
type node struct {
	Path string     `json:"path"`
	Data string     `json:"data"`
	Stat coord.Stat `json:"stat"`
}
