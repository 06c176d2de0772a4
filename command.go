package coord

// Limits of a command. Decoders check them before they allocate.
const (
	maxOpsPerMulti  = 10_000
	maxRequests     = 1 << 16 // in one batch
	maxExpiries     = 1 << 16 // in one request
	maxSilences     = 1 << 20 // in one touch
	maxMembers      = 1 << 10
	maxIdentities   = 64
	maxCommandBytes = 64 << 20

	// maxZXIDJump bounds how far one command can move the zxid forward by the
	// zxid its proposer has observed in another group.
	maxZXIDJump = 1 << 41
)

// A commandKind says what an entry of the log does. Numbers are never reused.
type commandKind uint8

const (
	commandInit  commandKind = 1 // gives an empty group its members and settings
	commandHello commandKind = 2 // starts a new incarnation of a member
	commandBatch commandKind = 3 // a member's touch and its callers' requests
)

// A command is one entry of a group's log. Exactly one of the three parts, the
// one that kind names, is set.
type command struct {
	kind   commandKind
	group  GroupID
	member MemberID // the proposer

	init  *initCommand
	hello *helloCommand
	batch *batchCommand
}

// An initCommand is the first command of a group. It is a compare-and-set on an
// empty group: later ones are ignored.
type initCommand struct {
	version  FormatVersion // that the group starts with
	ensemble string
	id       EnsembleID // drawn by the proposer
	timeMS   int64
	settings settings
	members  []memberRecord // id, addr and role
	seed     *mountSeed     // of the group of a mount; nil: of a whole tree
}

// A helloCommand is a compare-and-set on the proposer's incarnation. It goes
// before everything else that a process proposes.
type helloCommand struct {
	expected uint64 // the incarnation it follows
	nonce    uint64 // drawn by the process: the same nonce gets the same answer
	addr     string
}

// A batchCommand is what a member proposes while it runs. Its number is one
// above the member's last; once proposed under a number, the bytes never change.
type batchCommand struct {
	incarnation uint64
	number      uint64
	observed    ZXID // the highest zxid the member has seen in any group
	touch       *touch
	requests    []request
}

// A touch extends every session of the proposing process that is not silent.
type touch struct {
	// markMS is the leader's wall clock, and gapMS the measured time since its
	// last mark. Both are 0 in the touches of other members.
	markMS, gapMS int64
	freeBytes     uint64
	lowOnSpace    bool
	silences      []silence
}

// A silence says whether the owner vouches for a session from now on. It is void
// if the session has got a newer handle since.
type silence struct {
	session    SessionID
	generation uint64
	silent     bool
}

// A requestKind says what a request does. Numbers are never reused.
type requestKind uint8

const (
	requestWrite        requestKind = 1 // one operation
	requestMulti        requestKind = 2 // all operations or none
	requestOpenSession  requestKind = 3
	requestCloseSession requestKind = 4
	requestExpire       requestKind = 5 // the leader's list of sessions that fell silent
	requestReap         requestKind = 6 // the leader's list of containers and TTL znodes
	requestResume       requestKind = 7 // takes a session over, or claims it
	requestRelease      requestKind = 8 // lets go of a session, for whoever resumes it
	requestWithdraw     requestKind = 9 // takes a claim back
	requestSetUser      requestKind = 10
	requestRemoveUser   requestKind = 11
	requestSetTemplate  requestKind = 12
	requestSettings     requestKind = 13
	requestActivate     requestKind = 14 // puts a format version into force
	requestReconfigure  requestKind = 15 // changes who the members are
	requestJoin         requestKind = 16 // a member that was never started gives its directory
	requestSettle       requestKind = 17 // the leader's word that raft is as configured

	// From formatMounts on.
	requestMountStep requestKind = 20 // of a mount or an unmount
	requestAdopt     requestKind = 21 // takes over what the root group has decreed
	requestEnter     requestKind = 22 // brings a session of the root group into another
	requestForget    requestKind = 23 // drops tombstones of sessions
)

// ofRoot reports whether only the root group executes such requests.
func (k requestKind) ofRoot() bool {
	switch k {
	case requestOpenSession, requestResume, requestRelease, requestWithdraw, requestSetUser, requestRemoveUser, requestSetTemplate,
		requestSettings, requestReconfigure, requestJoin:
		return true
	case requestWrite, requestMulti, requestCloseSession, requestExpire, requestReap, requestActivate, requestSettle, requestMountStep,
		requestAdopt, requestEnter, requestForget:
	}
	return false
}

// A request is one caller's wish in a batch. zxids are counted per request.
type request struct {
	kind       requestKind
	session    SessionID // the caller's; 0 for the member's own requests
	generation uint64    // of the caller's handle on its session
	identities []ID      // the caller's; nil is the ensemble's own code
	timeMS     int64     // the proposer's wall clock

	ops []op // requestWrite (one) and requestMulti

	timeoutMS int64    // requestOpenSession, requestResume, requestEnter (as granted)
	password  [16]byte // requestOpenSession, requestResume
	yield     bool     // requestCloseSession: whoever claims the session may have it instead
	claim     uint64   // requestWithdraw: the generation that the claim stands for

	expiries []expiry // requestExpire
	reaps    []reap   // requestReap

	user     *user           // requestSetUser, requestRemoveUser (the name alone)
	template *template       // requestSetTemplate; without a list it removes one
	change   *settingsChange // requestSettings

	reconfiguration *reconfiguration // requestReconfigure
	joining         *joining         // requestJoin
	settled         ZXID             // requestSettle: the configuration
	version         FormatVersion    // requestActivate

	step      *mountStep  // requestMountStep
	decree    *decree     // requestAdopt
	forgotten []SessionID // requestForget
}

// An expiry asks to end a session, unless it was touched or resumed since.
type expiry struct {
	session    SessionID
	generation uint64
	touched    uint64
}

// A reap asks to delete a container or TTL znode, unless it changed since.
type reap struct {
	path         string
	czxid, mzxid ZXID
	cversion     int32
}

// An opKind says what an operation does. Numbers are never reused.
type opKind uint8

const (
	opCreate             opKind = 1
	opDelete             opKind = 2
	opSetData            opKind = 3
	opSetACL             opKind = 4
	opCheck              opKind = 5
	opCheckAbsent        opKind = 6
	opCheckChildren      opKind = 7
	opAdd                opKind = 8
	opCheckFewerChildren opKind = 9
)

var opNames = map[opKind]string{
	opCreate: "create", opDelete: "delete", opSetData: "setData", opSetACL: "setACL", opCheck: "check",
	opCheckAbsent: "checkAbsent", opCheckChildren: "checkChildren", opAdd: "add",
	opCheckFewerChildren: "checkFewerChildren",
}

func (k opKind) String() string {
	if s, ok := opNames[k]; ok {
		return s
	}
	return "unknown operation"
}

// An op is one operation of a request.
type op struct {
	kind    opKind
	path    string
	data    []byte // create, setData; nil is null
	mode    CreateMode
	ttlMS   int64
	acl     []ACL       // create, setACL; on create nil is that of a template or the default
	version int32       // AnyVersion: no condition
	czxid   ZXID        // 0: no condition
	delta   int64       // add
	count   int32       // checkChildren, checkFewerChildren
	parents parentsMode // create
}

// A parentsMode says what a create does about parents that are missing.
type parentsMode uint8

const (
	noParents         parentsMode = iota // it is refused
	persistentParents                    // makes them, persistent
	containerParents                     // makes them, containers
)

// kind returns that of the znodes that are made.
func (m parentsMode) kind() CreateMode {
	if m == containerParents {
		return Container
	}
	return Persistent
}

// A result is the answer to one request, kept in the state until the member's
// next batch.
type result struct {
	code      Code
	zxid      ZXID
	ops       []opResult // of a write or multi
	session   SessionID  // of an open, of a resume that took the session over, and of an enter
	timeoutMS int64      // of the same: as granted
}

// An opResult is the answer to one operation.
type opResult struct {
	code  Code
	path  string // create: with the sequence number
	stat  Stat   // create, setData, setACL, check, add
	value int64  // add: the sum; of a join: the member's id
}

// firstError returns the code of the request, or that of its first operation
// that failed.
func (r *result) firstError() Code {
	if r.code != codeOK {
		return r.code
	}
	for i := range r.ops {
		if r.ops[i].code != codeOK {
			return r.ops[i].code
		}
	}
	return codeOK
}
