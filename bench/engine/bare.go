package main

import (
	"context"
	"errors"
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

// A bareSubject is an ensemble of dragonboat alone, set up as
// [coord/internal/raftnode] sets it up, above a state machine that does nothing.
type bareSubject struct {
	settings
	hosts []*dragonboat.NodeHost
	data  []byte
}

const bareShard = 1

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

func openBare(_ context.Context, s settings) (_ *bareSubject, err error) {
	for _, pkg := range []string{"dragonboat", "raft", "raftpb", "rsm", "logdb", "pebblekv", "transport", "registry", "config", "utils", "server"} {
		logger.GetLogger(pkg).SetLevel(logger.CRITICAL)
	}
	b := &bareSubject{settings: s, data: payload(s.Payload)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	addrs, err := machine.FreeAddrs(s.Hosts)
	if err != nil {
		return nil, err
	}
	members := map[uint64]string{}
	for i, addr := range addrs {
		members[uint64(i+1)] = addr
	}
	for i, addr := range addrs {
		nh, err := dragonboat.NewNodeHost(bareHostConfig(memberDir(s, i), addr))
		if err != nil {
			return nil, fmt.Errorf("open a bare host: %w", err)
		}
		b.hosts = append(b.hosts, nh)
	}
	for i, nh := range b.hosts {
		create := func(uint64, uint64) statemachine.IConcurrentStateMachine { return idle{} }
		if err := nh.StartConcurrentReplica(members, false, create, bareReplicaConfig(uint64(i+1))); err != nil {
			return nil, fmt.Errorf("start a bare replica: %w", err)
		}
	}
	_, err = b.leader()
	return b, err
}

// bareHostConfig has the settings of internal/raftnode/config.go.
func bareHostConfig(dir, addr string) config.NodeHostConfig {
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

func bareReplicaConfig(id uint64) config.Config {
	return config.Config{
		ShardID: bareShard, ReplicaID: id, CheckQuorum: true, PreVote: true,
		ElectionRTT: raftnode.DefaultElectionTicks, HeartbeatRTT: raftnode.DefaultHeartbeatTicks,
		SnapshotEntries: raftnode.DefaultSnapshotEntries, CompactionOverhead: raftnode.DefaultCompactionOverhead,
		MaxInMemLogSize: raftnode.DefaultMaxInMemLogBytes, OrderedConfigChange: true, WaitReady: true,
	}
}

// leader returns the leader that all hosts know: one that does not drops what it is
// asked.
func (b *bareSubject) leader() (int, error) {
	return awaitLeader(func() (int, bool) {
		var leader uint64
		for i, nh := range b.hosts {
			id, _, known, err := nh.GetLeaderID(bareShard)
			if !known || err != nil || i > 0 && id != leader {
				return 0, false
			}
			leader = id
		}
		return int(leader) - 1, true
	})
}

func (b *bareSubject) call(op string, at int) (call, error) {
	nh := b.hosts[at%len(b.hosts)]
	session := nh.GetNoOPSession(bareShard)
	switch op {
	case opSet, opMix:
		return func(int, int) error {
			ctx, cancel := context.WithTimeout(context.Background(), b.Timeout)
			defer cancel()
			_, err := nh.SyncPropose(ctx, session, b.data)
			return err
		}, nil
	case opGet:
		return func(int, int) error {
			_, err := nh.StaleRead(bareShard, nil)
			return err
		}, nil
	case opRead:
		return func(int, int) error {
			ctx, cancel := context.WithTimeout(context.Background(), b.Timeout)
			defer cancel()
			_, err := nh.SyncRead(ctx, bareShard, nil)
			return err
		}, nil
	}
	return nil, fmt.Errorf("unknown operation %q", op)
}

func isLibraryTimeout(err error) bool { return errors.Is(err, dragonboat.ErrTimeout) }

func (b *bareSubject) close() error {
	for _, nh := range b.hosts {
		nh.Close()
	}
	return nil
}
