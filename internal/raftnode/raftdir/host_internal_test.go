package raftdir

import (
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // to silence the standard logger, which pebble uses
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/raftio"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"go.uber.org/goleak"
)

const group = 7

// memtable is small, so that a test has tables and several write-ahead logs.
var memtable uint64 = 64 << 10

var self = Identity{Ensemble: "test", Member: 1, LogShards: 1}

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // pebble
	for _, pkg := range []string{
		"dragonboat", "config", "raft", "rsm", "logdb", "pebblekv", "transport", "server",
		"utils", "settings", "registry", "order", "id", "raftpb", "tan", "tools",
	} {
		logger.GetLogger(pkg).SetLevel(logger.CRITICAL)
	}
	if dir := os.Getenv("RAFTDIR_TEST_REHOST"); dir != "" {
		rehostChild(dir)
		return
	}
	if dir := os.Getenv("RAFTDIR_TEST_WRITE"); dir != "" {
		writeChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// store is a state machine that keeps the commands it was given by number.
type store struct {
	data atomic.Pointer[map[uint64]string]
}

func (s *store) Update(es []sm.Entry) ([]sm.Entry, error) {
	next := make(map[uint64]string)
	maps.Copy(next, *s.data.Load())
	for _, e := range es {
		next[binary.BigEndian.Uint64(e.Cmd)] = string(e.Cmd[8:])
	}
	s.data.Store(&next)
	return es, nil
}
func (s *store) Lookup(any) (any, error)       { return *s.data.Load(), nil }
func (s *store) PrepareSnapshot() (any, error) { return *s.data.Load(), nil }
func (s *store) Close() error                  { return nil }
func (s *store) SaveSnapshot(p any, w io.Writer, _ sm.ISnapshotFileCollection, _ <-chan struct{}) error {
	return gob.NewEncoder(w).Encode(p)
}

func (s *store) RecoverFromSnapshot(r io.Reader, _ []sm.SnapshotFile, _ <-chan struct{}) error {
	next := make(map[uint64]string)
	if err := gob.NewDecoder(r).Decode(&next); err != nil {
		return err
	}
	s.data.Store(&next)
	return nil
}

func newStore(uint64, uint64) sm.IConcurrentStateMachine {
	s := &store{}
	s.data.Store(&map[uint64]string{})
	return s
}

// silence is a transport that reaches nobody.
type silence struct{}

func (silence) Create(config.NodeHostConfig, raftio.MessageHandler, raftio.ChunkHandler) raftio.ITransport {
	return silence{}
}
func (silence) Validate(string) bool { return true }
func (silence) Name() string         { return "silence" }
func (silence) Start() error         { return nil }
func (silence) Close() error         { return nil }
func (silence) GetConnection(context.Context, string) (raftio.IConnection, error) {
	return nil, errors.New("nobody there")
}

func (silence) GetSnapshotConnection(context.Context, string) (raftio.ISnapshotConnection, error) {
	return nil, errors.New("nobody there")
}

// member is an open directory with the raft library on it.
type member struct {
	dir    *Dir
	nh     *dragonboat.NodeHost
	closed bool
}

func hostConfig(d *Dir, addr string) config.NodeHostConfig {
	ldb := config.GetTinyMemLogDBConfig()
	ldb.Shards, ldb.KVWriteBufferSize = 1, memtable
	c := config.NodeHostConfig{
		NodeHostDir: d.NodeHostDir(), NodeHostID: d.ID(), RaftAddress: addr, RTTMillisecond: 1, DeploymentID: 42,
		Expert: config.ExpertConfig{
			LogDB:  ldb,
			Engine: config.EngineConfig{ExecShards: 1, CommitShards: 1, ApplyShards: 1, SnapshotShards: 1, CloseShards: 1},
		},
	}
	if addr == "self" {
		c.Expert.TransportFactory = silence{}
	}
	return c
}

// launch opens dir as the only member of its ensemble.
func launch(dir, addr string) (*member, error) {
	d, err := Open(nil, dir, self)
	if err != nil {
		return nil, err
	}
	nh, err := dragonboat.NewNodeHost(hostConfig(d, addr))
	if err != nil || nh == nil {
		return nil, errors.Join(fmt.Errorf("new node host %v: %w", nh, err), d.Close())
	}
	m := &member{dir: d, nh: nh}
	members := map[uint64]string{1: addr}
	if d.Initialised(group) {
		members = nil
	}
	cfg := config.Config{
		ReplicaID: 1, ShardID: group, CheckQuorum: true, PreVote: true, ElectionRTT: 10, HeartbeatRTT: 1, CompactionOverhead: 5, WaitReady: true,
	}
	if err := nh.StartConcurrentReplica(members, false, newStore, cfg); err != nil {
		return nil, errors.Join(err, m.close())
	}
	if err := d.MarkInitialised(group); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// crash closes everything without a word to the directory.
func (m *member) crash() error {
	if m.closed {
		return nil
	}
	m.closed = true
	m.nh.Close()
	return m.dir.Close()
}

// close closes everything in order.
func (m *member) close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	m.nh.Close()
	return errors.Join(m.dir.Seal(), m.dir.Close())
}

// read returns everything stored once the group has a leader.
func (m *member) read() (map[uint64]string, error) {
	end := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		v, err := m.nh.SyncRead(ctx, group, nil)
		cancel()
		if err == nil {
			return v.(map[uint64]string), nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("read: %w", err)
		}
		// A group without a leader refuses at once.
		tick := time.NewTimer(2 * time.Millisecond)
		<-tick.C
	}
}

// write stores the values from, from+1, … below to.
func (m *member) write(from, to int) error {
	if _, err := m.read(); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		if err := m.put(i); err != nil {
			return fmt.Errorf("write %d: %w", i, err)
		}
	}
	return nil
}

// put stores the value i. A group that is too busy has not taken it, and is asked again.
func (m *member) put(i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := m.nh.GetNoOPSession(group)
	for {
		_, err := m.nh.SyncPropose(ctx, s, append(binary.BigEndian.AppendUint64(nil, uint64(i)), value(i)...))
		if !errors.Is(err, dragonboat.ErrSystemBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (m *member) snapshot() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return m.nh.SyncRequestSnapshot(ctx, group, dragonboat.DefaultSnapshotOption)
}

// value is 1 KiB that does not compress and has no zeros in a row.
func value(i int) []byte {
	r := rand.New(rand.NewPCG(uint64(i), 1))
	b := make([]byte, 1024)
	for j := range b {
		b[j] = byte(1 + r.IntN(255))
	}
	return b
}

// holds tells what of the values below n is missing.
func holds(got map[uint64]string, n int) error {
	for i := range n {
		if got[uint64(i)] != string(value(i)) {
			return fmt.Errorf("value %d of %d is missing; %d are there", i, n, len(got))
		}
	}
	return nil
}

// lastIndex returns the last index of a log that is not in use.
func lastIndex(tb testing.TB, dir string) uint64 {
	tb.Helper()
	l, err := readLayout(vfsDefault, filepath.Join(dir, raftName))
	if err != nil {
		tb.Fatal(err)
	}
	db, err := scanLogDB(vfsDefault, filepath.Join(l.data, "logdb-0"))
	if err != nil {
		tb.Fatal(err)
	}
	logs, err := db.verifyContents()
	if err != nil || len(logs) != 1 {
		tb.Fatalf("contents = %v, %v", logs, err)
	}
	return logs[0].last()
}

// must fails the test on an error.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func mustLaunch(tb testing.TB, dir string) *member {
	tb.Helper()
	m, err := launch(dir, "self")
	must(tb, err)
	tb.Cleanup(func() { must(tb, m.close()) })
	return m
}

func copyDir(tb testing.TB, from string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "copy")
	must(tb, os.CopyFS(to, os.DirFS(from)))
	return to
}

// filled makes a directory with a snapshot at 60 values and a log to 120, in
// tables and write-ahead logs, closed in order or copied in use. Its applied
// mark covers everything.
func filled(tb testing.TB, orderly bool) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "dir")
	m := mustLaunch(tb, dir)
	must(tb, m.dir.Pin(2, oneID))
	must(tb, m.write(0, 60))
	_, err := m.snapshot()
	must(tb, err)
	must(tb, m.write(60, 120))
	if orderly {
		must(tb, m.close())
		mark(tb, dir)
		return dir
	}
	image := copyDir(tb, dir)
	mark(tb, image)
	return image
}

// mark notes everything in the log of dir as applied.
func mark(tb testing.TB, dir string) {
	tb.Helper()
	last := lastIndex(tb, dir)
	man, _, err := readManifest(vfsDefault, dir)
	must(tb, err)
	man.Applied = map[groupID]uint64{group: last}
	must(tb, writeManifest(vfsDefault, dir, man))
}
