package coord

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"coord/internal/raftnode"
	"coord/internal/raftnode/peernet"
)

// A Member is one process of an ensemble, as [Config] and [Configuration] name it.
type Member struct {
	ID   MemberID
	Addr string // host:port that the other members dial

	// Role says whether it votes. Those that an ensemble starts with all do.
	Role MemberRole

	// ClientAddr is where it serves clients of other protocols, host:port, for those
	// who ask /zookeeper/config. Optional.
	ClientAddr string
}

// Config says how to run one member. Dir alone makes an ensemble of a single
// member; the zero value of every other field means the default named beside it.
type Config struct { //nolint:recvcheck // it is printed as a value, too
	// Name names the ensemble. All members give the same. Empty means "coord".
	Name string

	// ID names this member. It must not change while Dir lives and is never used
	// again for another member. Zero means 1 if InitialMembers is empty. Chosen ones are
	// below 2^32, see [MemberID].
	ID MemberID

	// Dir is the directory of this member's log and snapshots, on a local disk.
	// It is created if it does not exist, belongs to one process at a time, and
	// must never be copied, shared, emptied or restored from an older copy. A member
	// that comes back with an empty one is refused by the others and fails, because
	// it has forgotten what it promised; an older copy they cannot recognise.
	Dir string

	// InitialMembers are the members the ensemble starts with, this one included.
	// All of them give the same list, and for the first start each needs all the
	// others to answer. It is used only until this member has started in Dir; later
	// the ensemble itself knows its members. Empty means this member alone, which
	// then opens a port only if Listen is set, for others to join it.
	InitialMembers []Member

	// Join names addresses of members of an ensemble that runs, host:port, of which this
	// process is to become one: with the ID that it was added under
	// ([Coordinator.AddMember]), or with an ID of zero as an observer, which needs no
	// adding and is given an ID from 2^32 on. Addr is where others reach it then. It
	// excludes InitialMembers, and is used only until this process has become a member in
	// Dir; later the directory knows the members, and ID may be zero.
	//
	// With an ID of zero, Dir may be empty: the member lives in a directory of its own
	// among temporary files, which is removed when it is closed, and it is removed from
	// the ensemble then; or, if it has no chance to say so, when nothing was heard of
	// it for ObserverGrace, or when another process joins at its address. That one waits
	// until nothing was heard of it for the least timeout of sessions.
	Join []string

	// Addr is host:port at which other members reach this one if it joins. Empty means
	// Listen. Those of InitialMembers have theirs there.
	Addr string

	// ClientAddr is told with the member's address, see [Member]. Those of
	// InitialMembers have theirs there. Optional.
	ClientAddr string

	// ObserverGrace is how long an observer that has joined without an ID of its own may
	// be silent before it is removed, as far as this member leads. Zero means 5 minutes.
	ObserverGrace time.Duration

	// Listen is the address to accept other members' connections on, host:port.
	// Empty means this member's address in InitialMembers, or Addr. See TLS about
	// addresses that other machines can reach.
	Listen string

	// TLS is how members talk to each other: both sides of every connection show a
	// certificate, which must be valid for the host of the member's address and of
	// an authority in ClientCAs or RootCAs. [TLSFiles] makes it from three files.
	// It is copied; certificates change while the member runs by its callbacks.
	// Nil means plaintext, which is refused if Listen or any of InitialMembers is
	// an address that other machines can reach: a name but "localhost", no host,
	// or an IP that is not a loopback one.
	TLS *tls.Config

	// Insecure allows plaintext on any address. Whoever can reach one of them can
	// then pass for a member, read everything and write anything.
	Insecure bool

	// ElectionTimeout is how long a leader can be silent before the others elect
	// another: between half of it and all of it, by chance. Writes pause for that
	// and for the election. It must be equal on all members. Zero means 2 s; the
	// minimum is 50 ms.
	ElectionTimeout time.Duration

	// SessionTimeout is the timeout that the Coordinator's own session asks for.
	// Zero means 10 s.
	SessionTimeout time.Duration

	// MinSessionTimeout and MaxSessionTimeout bound what a session is granted.
	// They become settings of the ensemble when it starts for the first time and
	// are ignored later, see [Coordinator.ChangeSettings]. Zero means twice ElectionTimeout, which is also the least
	// allowed, and 7 days.
	MinSessionTimeout, MaxSessionTimeout time.Duration

	// MaxDataBytes limits the data of one znode, in bytes. It becomes a setting of
	// the ensemble when it starts for the first time and is ignored later, see
	// [Coordinator.ChangeSettings]. Zero means 1 MiB; the maximum is 16 MiB.
	MaxDataBytes int

	// MaxEphemerals limits the ephemeral znodes of one session, of whatever process. It
	// becomes a setting of the ensemble when it starts for the first time and is
	// ignored later, see [Coordinator.ChangeSettings]. Zero means 100000.
	MaxEphemerals int

	// AdvisoryQuotas has hard quotas warn and not refuse, which is what ZooKeeper does
	// if it is not told otherwise; see [Coordinator.SetQuota]. It becomes a setting of
	// the ensemble when it starts for the first time and is ignored later, see
	// [Coordinator.ChangeSettings].
	AdvisoryQuotas bool

	// Mounts are paths of subtrees that get a raft group of their own, see
	// [Coordinator.Mount]. Once this member takes part it mounts, in the background, what
	// is not mounted yet, and creates the znodes that do not exist. What is refused, for
	// example because a znode has children, is logged as an error and left alone. It
	// unmounts nothing. Members need not have the same here. At most 1024.
	Mounts []string

	// DefaultACL is the access control list of znodes that are created without one,
	// and of those that a new ensemble begins with. It becomes a setting of the
	// ensemble when it starts for the first time and is ignored later, see
	// [Coordinator.ChangeSettings]. Nil means [MembersACL]: only code of the members
	// gets at them, clients of a server do not. [OpenACL] is ZooKeeper's way.
	DefaultACL []ACL

	// SuperDigest is the digest of whoever may do everything, in the form
	// user:base64(sha1(user:password)) that [DigestID] returns. It becomes a setting
	// of the ensemble when it starts for the first time and is ignored later, see
	// [Coordinator.ChangeSettings]. Empty means nobody.
	SuperDigest string

	// Authenticators check the credentials of further schemes, by scheme: 1 to 64
	// lower-case letters, digits and hyphens, and none of coord's own (see [ID]). The
	// names become a setting of the ensemble when it starts for the first time, see
	// [Settings.Schemes], and only those can stand in its ACLs; each member needs the
	// authenticators that its own clients use.
	Authenticators map[string]Authenticator

	// SessionLimits are those of every external session on this member that is opened
	// without limits of its own (see [SessionOptions]).
	SessionLimits Limits

	// IdentityLimits returns the limits that all external sessions of an identity have
	// together on this member, or false if it has none. It is asked whenever such a
	// session is opened, and when one shows a credential; the last answer counts. It
	// must not wait and may be called concurrently. A server can limit each address
	// so, by its identities of the scheme ip. Nil means none.
	IdentityLimits func(ID) (Limits, bool)

	// OperationTimeout bounds every call whose context ends later or never. Zero
	// means 30 s.
	OperationTimeout time.Duration

	// CloseTimeout bounds what Close does in good order. Zero means 5 s.
	CloseTimeout time.Duration

	// ReapInterval is how often the leader looks for containers and TTL znodes to
	// delete. Zero means 60 s.
	ReapInterval time.Duration

	// ContainerGrace is how long a container that never had a child is kept. Zero
	// means 5 minutes.
	ContainerGrace time.Duration

	// SnapshotEntries is the number of log entries after which a snapshot is taken
	// and the log cut. An entry holds many writes under load. Zero means 100000.
	SnapshotEntries uint64

	// LogShards is the number of independent logs on disk, each with its own
	// writer. It is fixed when Dir is created. Zero means 1.
	LogShards uint64

	// MinFreeBytes is the free space on Dir's file system under which this member
	// has the ensemble refuse growth; under a quarter of it the member stops. Zero
	// means 256 MiB.
	MinFreeBytes uint64

	// WatchBuffer is the number of events that a watch holds for a reader that is
	// behind; one write more ends the watch. So does one that comes when what the
	// events refer to takes HistoryBytes. Zero means 4096.
	WatchBuffer int

	// MaxWatches limits the watches that are open on this member. Zero means 4
	// million.
	MaxWatches int

	// HistoryEvents and HistoryBytes bound the changes that this member keeps for
	// watches that start in the past, HistoryBytes also those that one watch keeps
	// for its reader. Zero means 65536, and 64 MiB.
	HistoryEvents, HistoryBytes int

	// Logger receives this member's log. Nil means slog.Default().
	Logger *slog.Logger

	// AuditLogger receives an event for each act that concerns security, all with the
	// message "audit"; docs/SECURITY.md lists them. No event holds a secret. Nil means
	// Logger.
	AuditLogger *slog.Logger

	memory *raftnode.Memory // set by coordtest; nil is sockets and the disk

	firstFormat FormatVersion // set by tests: that a new ensemble starts with; 0 is the newest
	_           struct{}
}

// Bounds of Config.
const (
	minElectionTimeout = 50 * time.Millisecond
	maxElectionTimeout = time.Minute
	maxSessionTimeout  = 365 * 24 * time.Hour
)

func (c *Config) setDefaults() {
	c.Name = cmp.Or(c.Name, "coord")
	if len(c.InitialMembers) == 0 && len(c.Join) == 0 {
		c.ID = cmp.Or(c.ID, 1)
	}
	c.Addr = cmp.Or(c.Addr, c.Listen)
	c.ObserverGrace = cmp.Or(c.ObserverGrace, 5*time.Minute)
	c.TLS = c.TLS.Clone() // nil stays nil
	c.ElectionTimeout = cmp.Or(c.ElectionTimeout, 2*time.Second)
	c.SessionTimeout = cmp.Or(c.SessionTimeout, 10*time.Second)
	c.MinSessionTimeout = cmp.Or(c.MinSessionTimeout, 2*c.ElectionTimeout)
	c.MaxSessionTimeout = cmp.Or(c.MaxSessionTimeout, max(7*24*time.Hour, c.MinSessionTimeout))
	c.MaxDataBytes = cmp.Or(c.MaxDataBytes, 1<<20)
	c.MaxEphemerals = cmp.Or(c.MaxEphemerals, 100_000)
	if c.DefaultACL == nil {
		c.DefaultACL = MembersACL()
	}
	c.OperationTimeout = cmp.Or(c.OperationTimeout, 30*time.Second)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, 5*time.Second)
	c.ReapInterval = cmp.Or(c.ReapInterval, time.Minute)
	c.ContainerGrace = cmp.Or(c.ContainerGrace, 5*time.Minute)
	c.SnapshotEntries = cmp.Or(c.SnapshotEntries, 100_000)
	c.LogShards = cmp.Or(c.LogShards, 1)
	c.MinFreeBytes = cmp.Or(c.MinFreeBytes, 256<<20)
	c.WatchBuffer = cmp.Or(c.WatchBuffer, 4096)
	c.MaxWatches = cmp.Or(c.MaxWatches, 4_000_000)
	c.HistoryEvents = cmp.Or(c.HistoryEvents, 1<<16)
	c.HistoryBytes = cmp.Or(c.HistoryBytes, 64<<20)
	c.Logger = cmp.Or(c.Logger, slog.Default())
}

// validate reports everything that is wrong with c, not just the first thing.
func (c *Config) validate() error {
	var errs []error
	wrong := func(broken bool, format string, args ...any) {
		if broken {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(c.Dir == "" && !c.throwsAway(), "Dir is empty: it must name a directory")
	wrong(len(c.Name) > 255 || strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f }),
		"Name %q has more than 255 bytes or control characters", c.Name)
	errs = append(errs, c.memberFaults()...)
	errs = append(errs, c.doorFaults()...)
	errs = append(errs, c.securityFaults()...)
	errs = append(errs, c.mountFaults()...)
	wrong(c.ElectionTimeout < minElectionTimeout || c.ElectionTimeout > maxElectionTimeout,
		"ElectionTimeout %v is not between %v and %v", c.ElectionTimeout, minElectionTimeout, maxElectionTimeout)
	wrong(c.MinSessionTimeout < 2*c.ElectionTimeout,
		"MinSessionTimeout %v is less than twice the ElectionTimeout of %v: a change of leader would expire sessions", c.MinSessionTimeout, c.ElectionTimeout)
	wrong(c.MaxSessionTimeout < c.MinSessionTimeout || c.MaxSessionTimeout > maxSessionTimeout,
		"MaxSessionTimeout %v is not between MinSessionTimeout, %v, and %v", c.MaxSessionTimeout, c.MinSessionTimeout, maxSessionTimeout)
	wrong(c.MaxDataBytes < 1 || c.MaxDataBytes > maxMaxDataBytes, "MaxDataBytes %d is not between 1 and %d", c.MaxDataBytes, maxMaxDataBytes)
	wrong(c.SessionLimits.fault() != "", "SessionLimits: %s", c.SessionLimits.fault())
	wrong(c.LogShards > 64, "LogShards %d is more than 64", c.LogShards)
	for name, n := range map[string]int{
		"MaxEphemerals": c.MaxEphemerals, "WatchBuffer": c.WatchBuffer, "MaxWatches": c.MaxWatches, "HistoryEvents": c.HistoryEvents, "HistoryBytes": c.HistoryBytes,
	} {
		wrong(n < 1, "%s %d is not positive", name, n)
	}
	for name, d := range map[string]time.Duration{
		"SessionTimeout": c.SessionTimeout, "OperationTimeout": c.OperationTimeout, "CloseTimeout": c.CloseTimeout,
		"ObserverGrace": c.ObserverGrace, "ReapInterval": c.ReapInterval, "ContainerGrace": c.ContainerGrace,
	} {
		wrong(d < 0, "%s %v is negative", name, d)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("coord: config: %w", err)
	}
	return nil
}

// securityFaults checks DefaultACL, SuperDigest and Authenticators.
func (c *Config) securityFaults() []error {
	var errs []error
	for scheme, a := range c.Authenticators {
		if !validScheme(scheme) || a == nil {
			errs = append(errs, fmt.Errorf("field Authenticators: %q is nil, or its name is not 1 to %d lower-case letters, digits and hyphens, or is taken", scheme, maxSchemeBytes))
		}
	}
	if len(c.Authenticators) > maxSchemes {
		errs = append(errs, fmt.Errorf("%d Authenticators, the limit is %d", len(c.Authenticators), maxSchemes))
	}
	set := c.settings()
	if _, code := set.normalizeACL(c.DefaultACL, []ID{}); code != codeOK {
		errs = append(errs, fmt.Errorf("DefaultACL %v: %w", c.DefaultACL, code))
	}
	if c.SuperDigest != "" && !set.validACLID(ID{schemeDigest, c.SuperDigest}) {
		errs = append(errs, errors.New("SuperDigest is not of the form user:base64(sha1(user:password))"))
	}
	return errs
}

// memberFaults checks ID, InitialMembers and Listen.
func (c *Config) memberFaults() []error {
	if len(c.Join) > 0 {
		return c.joinFaults()
	}
	var errs []error
	if c.ID == 0 {
		errs = append(errs, errors.New("ID is zero: it must name one of InitialMembers"))
	}
	ids, addrs := map[MemberID]bool{}, map[string]MemberID{}
	for i, m := range c.InitialMembers {
		if m.ID == 0 {
			errs = append(errs, fmt.Errorf("InitialMembers[%d] has the ID 0", i))
		}
		if ids[m.ID] {
			errs = append(errs, fmt.Errorf("InitialMembers[%d] has the ID %v of an earlier one", i, m.ID))
		}
		if err := peernet.ValidAddress(m.Addr); err != nil {
			errs = append(errs, fmt.Errorf("InitialMembers[%d]: Addr: %w", i, err))
		} else if other, taken := addrs[m.Addr]; taken {
			errs = append(errs, fmt.Errorf("InitialMembers[%d] has the address %s of member %v", i, m.Addr, other))
		}
		if m.Role != Voter {
			errs = append(errs, fmt.Errorf("InitialMembers[%d] does not vote: observers join later", i))
		}
		ids[m.ID] = true
		addrs[m.Addr] = m.ID
	}
	if len(c.InitialMembers) > 0 && c.ID != 0 && !ids[c.ID] {
		errs = append(errs, fmt.Errorf("ID %v is not among InitialMembers", c.ID))
	}
	for _, m := range c.members() {
		if m.ID.given() {
			errs = append(errs, fmt.Errorf("member id %v: ids from %v on are given by the ensemble", m.ID, MemberID(firstGivenID)))
		}
	}
	if len(c.InitialMembers) > maxMembers {
		errs = append(errs, fmt.Errorf("%d InitialMembers, the limit is %d", len(c.InitialMembers), maxMembers))
	}
	if c.Listen != "" {
		if err := peernet.ValidListen(c.Listen); err != nil {
			errs = append(errs, fmt.Errorf("field Listen: %w", err))
		}
	}
	return errs
}

// advertised returns the address at which other members reach this one.
func (c *Config) advertised() string {
	for _, m := range c.InitialMembers {
		if m.ID == c.ID {
			return m.Addr
		}
	}
	return c.Addr
}

// joinFaults checks the fields of a member that joins.
func (c *Config) joinFaults() []error {
	var errs []error
	if len(c.InitialMembers) > 0 {
		errs = append(errs, errors.New("InitialMembers and Join exclude each other"))
	}
	for i, addr := range c.Join {
		if err := peernet.ValidAddress(addr); err != nil {
			errs = append(errs, fmt.Errorf("field Join[%d]: %w", i, err))
		}
	}
	if err := peernet.ValidAddress(c.Addr); err != nil {
		errs = append(errs, fmt.Errorf("field Addr of a member that joins: %w", err))
	}
	if c.Listen != "" {
		if err := peernet.ValidListen(c.Listen); err != nil {
			errs = append(errs, fmt.Errorf("field Listen: %w", err))
		}
	}
	return errs
}

// throwsAway reports whether this member lives in a directory that ends with it.
func (c *Config) throwsAway() bool { return c.Dir == "" && len(c.Join) > 0 && c.ID == 0 }

// members returns the members that the ensemble starts with.
func (c *Config) members() []Member {
	if len(c.InitialMembers) == 0 {
		return []Member{{ID: c.ID, Addr: c.Addr}}
	}
	return c.InitialMembers
}

// newLogger returns the logger of this member.
func (c *Config) newLogger() *slog.Logger {
	return c.Logger.With(slog.Uint64("member", uint64(c.ID)))
}

// initCommand returns what starts the ensemble, or nil if this member joins it.
func (c *Config) initCommand() *initCommand {
	if len(c.Join) > 0 {
		return nil // it has started
	}
	in := &initCommand{
		version: cmp.Or(c.firstFormat, formatVersion), ensemble: c.Name, id: EnsembleID(max(randomUint64(), 1)), timeMS: time.Now().UnixMilli(),
		settings: c.settings(),
	}
	for _, m := range c.members() {
		in.members = append(in.members, memberRecord{id: m.ID, addr: m.Addr, role: Voter, clientAddr: m.ClientAddr})
	}
	return in
}

// settings returns those that the ensemble starts with.
func (c *Config) settings() settings {
	return settings{
		maxDataBytes:        int64(c.MaxDataBytes),
		minSessionTimeoutMS: c.MinSessionTimeout.Milliseconds(),
		maxSessionTimeoutMS: c.MaxSessionTimeout.Milliseconds(),
		ttlNodes:            true,
		enforceQuotas:       !c.AdvisoryQuotas,
		maxEphemerals:       int64(c.MaxEphemerals),
		defaultACL:          slices.Clone(c.DefaultACL),
		superDigest:         c.SuperDigest,
		schemes:             slices.Sorted(maps.Keys(c.Authenticators)),
	}
}

// A timing holds the periods that follow from Config.ElectionTimeout, so that
// they fit each other.
type timing struct {
	tick           time.Duration // of the raft library
	electionTicks  uint64        // it waits for 1 to 2 times this
	heartbeatTicks uint64

	touchEvery     time.Duration // a member's sign of life
	suspendAfter   time.Duration // without an answer to one, a member serves no reads
	proposeAttempt time.Duration // then a proposal is taken for lost
	barrierAttempt time.Duration // then a ReadIndex is taken for lost
	retry          time.Duration // after a refusal, for lack of a leader
	expireEvery    time.Duration // how often the leader looks for silent sessions
}

func (c *Config) timing() timing {
	e := c.ElectionTimeout
	t := timing{tick: max(e/100, min(5*time.Millisecond, e/20))}
	t.electionTicks = uint64(e / 2 / t.tick)
	t.heartbeatTicks = max(t.electionTicks/10, 1)
	t.touchEvery = e / 4
	t.suspendAfter = 2 * e
	t.proposeAttempt = max(e, 100*time.Millisecond)
	t.barrierAttempt = max(e/5, 10*t.tick)
	t.retry = max(e/100, 2*time.Millisecond)
	t.expireEvery = e / 8
	return t
}

// driftOf returns by how much a session's own deadline is earlier than its
// timeout would have it: clocks may run apart by a twentieth.
func driftOf(timeout time.Duration) time.Duration { return timeout / 20 }
