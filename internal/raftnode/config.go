package raftnode

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/vfs"

	"coord/internal/failpoint"
	"coord/internal/raftnode/memnet"
	"coord/internal/raftnode/peernet"
	"coord/internal/raftnode/raftdir"
	"coord/internal/replica"
)

// The defaults of a Config.
const (
	DefaultTick                      = 20 * time.Millisecond
	DefaultElectionTicks      uint64 = 50 // an election after 1 to 2 s
	DefaultHeartbeatTicks     uint64 = 5  // a heartbeat every 100 ms
	DefaultSnapshotEntries    uint64 = 100_000
	DefaultCompactionOverhead uint64 = 10_000
	DefaultMaxInMemLogBytes   uint64 = 128 << 20
	DefaultLogShards          uint64 = 1
	DefaultMemtableBytes      uint64 = 32 << 20
)

const (
	// applyWorkers is how many goroutines run Machines. Groups whose ids are
	// equal modulo this number share one, so a slow Apply stalls only those.
	applyWorkers = 16

	// snapshotWorkers is how many snapshots are saved or restored at a time.
	snapshotWorkers = 4

	// queueBytes bounds what waits for one peer, and what waits to be handled
	// by one replica. What does not fit is dropped and sent again by raft.
	queueBytes = 256 << 20

	// tanBufferBytes is the log database's buffer size when it is tan, which
	// allocates sixteen of them for each log shard up front.
	tanBufferBytes = 256 << 10
)

// Config says who a member is and how its [Host] works. A zero field means the
// default named in its comment, or that the feature is off.
type Config struct {
	// Ensemble names the ensemble. Members with different names drop each
	// other's messages. It is fixed for the life of Dir.
	Ensemble string

	// Member is this member. It is fixed for the life of Dir.
	Member replica.MemberID

	// Dir holds the log and the snapshots. With FS set it is a path inside FS.
	Dir string

	// Addr is what peers dial. It may change from one Open to the next.
	Addr string

	// Listen is what to listen on. Default: Addr.
	Listen string

	// Members are the voters that a group is bootstrapped with unless StartGroup names
	// others, this member included, and their addresses. It must name the same members
	// on all of them. A member that joins every group it runs needs none. It is also
	// where members are until [Host.SetMembers] says otherwise.
	Members map[replica.MemberID]string

	Tick           time.Duration // the unit of raft time, whole milliseconds; DefaultTick
	ElectionTicks  uint64        // silence after which an election starts; DefaultElectionTicks
	HeartbeatTicks uint64        // DefaultHeartbeatTicks

	SnapshotEntries    uint64 // log entries between two snapshots; DefaultSnapshotEntries
	CompactionOverhead uint64 // entries kept behind a snapshot; DefaultCompactionOverhead
	MaxInMemLogBytes   uint64 // of a group; beyond it proposals are refused; DefaultMaxInMemLogBytes

	// LogShards is the number of log databases, and of goroutines that write
	// them. Groups are spread over them by id. It is fixed for the life of Dir.
	// Default: DefaultLogShards.
	LogShards uint64

	// MemtableBytes is the log database's write buffer; up to four of them
	// live at a time for each log shard. Default: DefaultMemtableBytes.
	MemtableBytes uint64

	// Initialised reports whether MarkInitialised was ever called for a group
	// in Dir. MarkInitialised must have written that down durably when it
	// returns; it may be called again for a group it was called for before. It
	// is called while StartGroup runs and must not call the Host. Forget is called by
	// RemoveGroup and takes it all back, durably. All are nil or none is; see
	// [Host.StartGroup] for what they protect from.
	Initialised     func(replica.GroupID) bool
	MarkInitialised func(replica.GroupID) error
	Forget          func(replica.GroupID) error

	// Removed reports whether MarkRemoved was ever called for a group in Dir, and so
	// whether this member was removed from it. MarkRemoved must have written that down
	// durably when it returns. Both are nil or none is: without them a later Host on
	// Dir notices it again, when it has read the log.
	Removed     func(replica.GroupID) bool
	MarkRemoved func(replica.GroupID) error

	// OnRemoved is called when this member has learnt from the log that it was removed
	// from a group. Its replica stops by itself, and StartGroup refuses to start it
	// again. It is called at most once for a group, on a goroutine of its own, never
	// after Close has returned. It must not call Close, which waits for it.
	OnRemoved func(replica.GroupID)

	// Logger gets what the raft library says, see the package comment. It should name
	// this member.
	// Default: nothing is logged.
	Logger *slog.Logger

	// OnRole is called on each change of this member's view of who leads a
	// group, from one goroutine of the Host and never after Close has
	// returned. A slow callee delays only later calls: of several changes of
	// one group that wait, only the last is reported. It must not call Close,
	// which waits for it.
	OnRole func(replica.GroupID, replica.Role)

	// Net is the network, for tests; of the next seven fields it knows Unknown, Serve
	// and Strangers.
	// Default: package peernet; see peernet.Config for what the fields are, who
	// calls them, and when.
	Net *memnet.Net

	// Directory is the UUID of the member's data directory, which peers may pin.
	Directory string

	// TLS secures the connections between members. Default: plaintext.
	TLS *tls.Config

	// Admit is asked about every peer before it is believed. Default: the other
	// checks are enough.
	Admit func(peernet.Hello) error

	// Unknown gives the reason to refuse a member that is not known, such as that it
	// was removed. Optional.
	Unknown func(replica.MemberID) string

	// Refused is told of peers that were refused. Optional.
	Refused func(member replica.MemberID, from net.Addr, reason string)

	// Serve answers the calls of other members, see [Host.Call]. Default: none
	// is answered.
	Serve func(ctx context.Context, from replica.MemberID, method string, body []byte) ([]byte, error)

	// Strangers answers a process that is no member and wants to become one, see
	// [Introduce]. Default: no such is let in.
	Strangers func(ctx context.Context, from peernet.Hello, method string, body []byte) ([]byte, error)

	// FS holds Dir, for tests. If it has a method OnDisk() bool that returns true,
	// its paths are those of the disk, and the log database is pebble as without it.
	// Otherwise it is tan, which can lose an acknowledged entry when its log
	// rotates, and syncing is what the FS makes of it. Default: the disk.
	FS vfs.FS

	// OnFailure is told, once and on a goroutine of its own, that the log cannot be
	// written. Nothing that depends on the log goes on then, and the Host must be
	// closed. It must not call Close, which waits for it.
	OnFailure func(error)

	// Failpoints are hit on the way, for tests. Default: none.
	Failpoints *failpoint.Set

	// libraryTransport has the library use its own TCP transport, to compare.
	libraryTransport bool
}

// withDefaults returns c with its zero fields filled in. The maps are copied,
// so that the caller may go on changing its own.
func withDefaults(c Config) Config {
	c.Listen = cmp.Or(c.Listen, c.Addr)
	c.Tick = cmp.Or(c.Tick, DefaultTick)
	c.ElectionTicks = cmp.Or(c.ElectionTicks, DefaultElectionTicks)
	c.HeartbeatTicks = cmp.Or(c.HeartbeatTicks, DefaultHeartbeatTicks)
	c.SnapshotEntries = cmp.Or(c.SnapshotEntries, DefaultSnapshotEntries)
	c.CompactionOverhead = cmp.Or(c.CompactionOverhead, DefaultCompactionOverhead)
	c.MaxInMemLogBytes = cmp.Or(c.MaxInMemLogBytes, DefaultMaxInMemLogBytes)
	c.LogShards = cmp.Or(c.LogShards, DefaultLogShards)
	c.MemtableBytes = cmp.Or(c.MemtableBytes, DefaultMemtableBytes)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.Members = maps.Clone(c.Members)
	return c
}

// validate reports everything that is wrong with c, joined. It finds what the
// library would meet with a panic or not at all.
func (c *Config) validate() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("raftnode: "+format, args...))
	}
	if c.Ensemble == "" {
		wrong("Config.Ensemble is empty")
	}
	if c.Member == 0 {
		wrong("Config.Member is zero")
	}
	if c.Dir == "" {
		wrong("Config.Dir is empty")
	}
	if err := c.validAddress(c.Addr); err != nil {
		wrong("Config.Addr: %w", err)
	}
	if err := c.validListen(); err != nil {
		wrong("Config.Listen: %w", err)
	}
	if _, ok := c.Members[c.Member]; !ok && len(c.Members) > 0 {
		wrong("Config.Members lacks member %d, which is this one", c.Member)
	}
	for id, addr := range c.Members {
		if id == 0 {
			wrong("Config.Members names member 0")
		}
		if err := c.validAddress(addr); err != nil {
			wrong("Config.Members: member %d: %w", id, err)
		}
	}
	if c.Tick < time.Millisecond || c.Tick%time.Millisecond != 0 {
		wrong("Config.Tick %v is not a positive number of milliseconds", c.Tick)
	}
	if c.ElectionTicks <= 2*c.HeartbeatTicks {
		wrong("Config.ElectionTicks %d must be more than twice HeartbeatTicks %d", c.ElectionTicks, c.HeartbeatTicks)
	}
	if marks := c.Initialised == nil; marks != (c.MarkInitialised == nil) || marks != (c.Forget == nil) {
		wrong("Config.Initialised, Config.MarkInitialised and Config.Forget go together")
	}
	if (c.Removed == nil) != (c.MarkRemoved == nil) {
		wrong("Config.Removed and Config.MarkRemoved go together")
	}
	// With the library's own error-injecting file system its workers swallow
	// the panics that end a process on a real disk, and the member lives on as
	// a zombie that leads and answers nothing. Wrap another way to inject.
	if _, zombie := c.FS.(*vfs.ErrorFS); zombie {
		wrong("Config.FS must not be a *vfs.ErrorFS")
	}
	return errors.Join(errs...)
}

// validAddress reports whether addr can be dialled on the member's network.
func (c *Config) validAddress(addr string) error {
	if c.Net == nil {
		return peernet.ValidAddress(addr)
	}
	if !c.Net.Validate(addr) {
		return fmt.Errorf("%q is no address", addr)
	}
	return nil
}

func (c *Config) validListen() error {
	if c.Net == nil {
		return peernet.ValidListen(c.Listen)
	}
	return c.validAddress(c.Listen)
}

// newPeers returns this member's end of the network, or nil if the member is on
// another one.
func (c *Config) newPeers(book *addressBook) (*peernet.Net, error) {
	if c.Net != nil || c.libraryTransport {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	return peernet.New(peernet.Config{
		Ensemble:  c.Ensemble,
		Member:    c.Member,
		Directory: c.Directory,
		Addr:      c.Addr,
		Listen:    c.Listen,
		TLS:       c.TLS,
		AddrOf:    book.addrOf,
		Admit:     c.Admit,
		Unknown:   c.Unknown,
		Refused:   c.Refused,
		Serve:     c.Serve,
		Strangers: c.Strangers,
		Logger:    c.Logger,
	})
}

// transport returns what carries messages, or nil for the library's own.
func (c *Config) transport(peers *peernet.Net, book *addressBook) config.TransportFactory {
	switch {
	case c.Net != nil:
		return knownOnly{c.Net, book}
	case peers != nil:
		return peers
	}
	return nil
}

// newBook returns the members that c names, under the names that its network
// knows them by.
func (c *Config) newBook() *addressBook {
	target := peernet.Target
	if c.Net != nil || c.libraryTransport {
		target = byAddress
	}
	return newAddressBook(target, c.Members)
}

// nodeHostConfig returns the library's configuration of the whole host. A nil
// transport means the library's own.
func (c *Config) nodeHostConfig(book *addressBook, roles raftio.IRaftEventListener, transport config.TransportFactory, logs *logFactory) config.NodeHostConfig {
	logDB := config.GetTinyMemLogDBConfig()
	logDB.Shards = c.LogShards
	logDB.KVWriteBufferSize = c.MemtableBytes
	nhc := config.NodeHostConfig{
		DeploymentID:        deploymentID(c.Ensemble),
		NodeHostID:          memberUUID(c.Ensemble, c.Member),
		NodeHostDir:         filepath.Clean(c.Dir),
		RaftAddress:         c.Addr,
		ListenAddress:       c.Listen,
		RTTMillisecond:      uint64(c.Tick / time.Millisecond),
		MaxSendQueueSize:    queueBytes,
		MaxReceiveQueueSize: queueBytes,
		RaftEventListener:   roles,
		// NotifyCommit stays off: it costs a goroutine a request and gains
		// nothing. There is no SystemEventListener: its events come over an
		// unbuffered channel from raft's own workers.
		Expert: config.ExpertConfig{
			NodeRegistryFactory: book,
			TransportFactory:    transport,
			LogDB:               logDB,
			// The workers that write must be as many as the log databases or
			// else the first write panics with "multiple pid value".
			Engine: config.EngineConfig{
				ExecShards:     c.LogShards,
				CommitShards:   1,
				ApplyShards:    applyWorkers,
				SnapshotShards: snapshotWorkers,
				CloseShards:    1,
			},
		},
	}
	below := c.FS
	if below == nil {
		below = vfs.Default
	}
	nhc.Expert.FS = &snapshotFS{FS: below, log: c.Logger, points: c.Failpoints}
	nhc.Expert.LogDBFactory = logs
	if !raftdir.OnDisk(c.FS) {
		nhc.Expert.LogDB.KVWriteBufferSize = tanBufferBytes
	}
	return nhc
}

// replicaConfig returns the library's configuration of one group's replica.
func (c *Config) replicaConfig(g replica.GroupID, joined bool) config.Config {
	return config.Config{
		ShardID:   uint64(g),
		ReplicaID: uint64(c.Member),
		// What it began as, for ever: see StartGroup.
		IsNonVoting: joined,
		// Both from the first day and on every member: a leader without a
		// quorum must notice, a member that was away must not depose a leader
		// when it returns, and members that disagree about PreVote end each
		// other's processes.
		CheckQuorum:         true,
		PreVote:             true,
		ElectionRTT:         c.ElectionTicks,
		HeartbeatRTT:        c.HeartbeatTicks,
		SnapshotEntries:     c.SnapshotEntries,
		CompactionOverhead:  c.CompactionOverhead,
		MaxInMemLogSize:     c.MaxInMemLogBytes,
		OrderedConfigChange: true,
		WaitReady:           true,
		// The library would compact pebble by hand after each snapshot, on a
		// goroutine of its own: a log that cannot be written then ends the
		// process with a panic that no fuse is in front of. Pebble gives the
		// space back by itself, a few memtables later (docs/adr/0012).
		DisableAutoCompactions: true,
	}
}

// namesOf returns what a group is bootstrapped with: who, not where.
func (c *Config) namesOf(voters []replica.MemberID) map[uint64]string {
	members := make(map[uint64]string, len(voters))
	for _, id := range voters {
		members[uint64(id)] = memberUUID(c.Ensemble, id)
	}
	return members
}

// deploymentID returns the number that the library marks directories and
// messages of an ensemble with. It is never 0 or 1, which mean none to it.
func deploymentID(ensemble string) uint64 {
	sum := sha256.Sum256([]byte("coord ensemble\x00" + ensemble))
	return max(binary.BigEndian.Uint64(sum[:8]), 2)
}

// memberUUID returns the name that a member has for the library, which wants
// UUIDs where there is an address registry. It is derived, so that nobody has
// to be asked for it.
func memberUUID(ensemble string, id replica.MemberID) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "coord member\x00%d\x00%s", id, ensemble))
	u := sum[:16]
	u[6] = u[6]&0x0f | 0x80 // version 8: made by a rule of the application
	u[8] = u[8]&0x3f | 0x80 // the variant of RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
