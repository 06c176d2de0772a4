package raftnode

import (
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"

	"coord/internal/failpoint"
	"coord/internal/raftnode/memnet"
	"coord/internal/replica"
)

// A Memory is what a member that lives in memory has instead of sockets and a
// disk. It outlives the member's process, so to speak: a [Host] that is opened
// on it again finds what the last one left.
type Memory struct {
	Net *memnet.Net
	FS  vfs.FS

	// Failpoints are the member's; nil has none.
	Failpoints *failpoint.Set

	// Open makes the member's host. Nil is the [Open] of this package; a simulation
	// has another one, for which FS is only what lies beside the log.
	Open func(Config) (replica.Host, error)
}

// NewMemory returns an empty disk on the network net. A nil disk file system,
// for a member that is on the disk but opens no port, is what OnDisk returns.
func NewMemory(net *memnet.Net) *Memory { return &Memory{Net: net, FS: vfs.NewMem()} }

// OnDisk returns a Memory of which only the network is in memory.
func OnDisk(net *memnet.Net) *Memory { return &Memory{Net: net} }

// Hasten has the member at addr stand for election in a group without waiting until
// its election timeout has passed, as a leader has it do that hands over to it. It
// does nothing to a member that leads.
func (m *Memory) Hasten(ensemble string, member replica.MemberID, addr string, g replica.GroupID) {
	m.Net.Inject(addr, raftpb.MessageBatch{
		DeploymentId: deploymentID(ensemble), BinVer: raftio.TransportBinVersion,
		Requests: []raftpb.Message{{Type: raftpb.TimeoutNow, To: uint64(member), ShardID: uint64(g)}},
	})
}
