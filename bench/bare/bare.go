// Package bare has ensembles of dragonboat alone, set up as [coord/internal/raftnode] sets
// it up, above state machines that do nothing: what is left for coord to lose.
package bare

import (
	"fmt"
	"io"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/statemachine"

	"coord/bench/machine"
	"coord/internal/raftnode"
)

// idle is the state machine that does nothing.
type idle struct{}

func (idle) Update(e []statemachine.Entry) ([]statemachine.Entry, error) { return e, nil }
func (idle) Lookup(any) (any, error)                                     { return nil, nil }
func (idle) PrepareSnapshot() (any, error)                               { return nil, nil }
func (idle) Close() error                                                { return nil }

func (idle) SaveSnapshot(_ any, w io.Writer, _ statemachine.ISnapshotFileCollection, _ <-chan struct{}) error {
	_, err := w.Write([]byte{0})
	return err
}

func (idle) RecoverFromSnapshot(io.Reader, []statemachine.SnapshotFile, <-chan struct{}) error {
	return nil
}

// Open opens so many members in this process, in the directories that dirOf names by their
// index, each with the raft groups 1 to groups. Members that were opened are returned with
// an error, too.
func Open(hosts, groups int, dirOf func(i int) string) ([]*dragonboat.NodeHost, error) {
	for _, pkg := range []string{"dragonboat", "raft", "raftpb", "rsm", "logdb", "pebblekv", "transport", "registry", "config", "utils", "server"} {
		logger.GetLogger(pkg).SetLevel(logger.CRITICAL)
	}
	addrs, err := machine.FreeAddrs(hosts)
	if err != nil {
		return nil, err
	}
	members := map[uint64]string{}
	for i, addr := range addrs {
		members[uint64(i+1)] = addr
	}
	var all []*dragonboat.NodeHost
	for i, addr := range addrs {
		nh, err := dragonboat.NewNodeHost(hostConfig(dirOf(i), addr))
		if err != nil {
			return all, fmt.Errorf("open a bare host: %w", err)
		}
		all = append(all, nh)
	}
	for i, nh := range all {
		for g := range groups {
			create := func(uint64, uint64) statemachine.IConcurrentStateMachine { return idle{} }
			if err := nh.StartConcurrentReplica(members, false, create, replicaConfig(uint64(g+1), uint64(i+1))); err != nil {
				return all, fmt.Errorf("start a bare replica: %w", err)
			}
		}
	}
	return all, nil
}

// hostConfig has the settings of internal/raftnode/config.go.
func hostConfig(dir, addr string) config.NodeHostConfig {
	logDB := config.GetTinyMemLogDBConfig()
	logDB.Shards = raftnode.DefaultLogShards
	logDB.KVWriteBufferSize = raftnode.DefaultMemtableBytes
	return config.NodeHostConfig{
		NodeHostDir:         dir,
		RaftAddress:         addr,
		RTTMillisecond:      uint64(raftnode.DefaultTick / time.Millisecond),
		MaxSendQueueSize:    256 << 20,
		MaxReceiveQueueSize: 256 << 20,
		Expert: config.ExpertConfig{
			LogDB: logDB,
			Engine: config.EngineConfig{
				ExecShards: raftnode.DefaultLogShards, CommitShards: 1, ApplyShards: 16, SnapshotShards: 4, CloseShards: 1,
			},
		},
	}
}

func replicaConfig(group, id uint64) config.Config {
	return config.Config{
		ShardID: group, ReplicaID: id, CheckQuorum: true, PreVote: true,
		ElectionRTT: raftnode.DefaultElectionTicks, HeartbeatRTT: raftnode.DefaultHeartbeatTicks,
		SnapshotEntries: raftnode.DefaultSnapshotEntries, CompactionOverhead: raftnode.DefaultCompactionOverhead,
		MaxInMemLogSize: raftnode.DefaultMaxInMemLogBytes, OrderedConfigChange: true, WaitReady: true,
	}
}

// Leader returns the index of the leader that all hosts know: one that does not drops what
// it is asked.
func Leader(hosts []*dragonboat.NodeHost, group uint64) (int, bool) {
	var leader uint64
	for i, nh := range hosts {
		id, _, known, err := nh.GetLeaderID(group)
		if !known || err != nil || i > 0 && id != leader {
			return 0, false
		}
		leader = id
	}
	return int(leader) - 1, true
}
