package raftnode_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lni/vfs"
	"go.uber.org/goleak"

	"coord/internal/loopback"
	"coord/internal/raftnode"
	"coord/internal/raftnode/memnet"
	"coord/internal/replica"
)

// patience bounds every wait for a condition. It is long because the machine
// may be busy; nothing waits for all of it unless it fails.
const patience = 30 * time.Second

// A counter is a replica.Machine: it counts its commands and keeps a hash over
// them and their indexes, so that two counters are equal only if they were
// given the same entries in the same order.
type counter struct {
	mu       sync.Mutex
	n        uint64
	sum      uint64
	last     uint64 // index of the last entry
	batches  int
	restores int

	applying  bool // to catch calls that overlap
	overlaps  int
	saveErr   error         // returned by Save
	saveGate  chan struct{} // if not nil, Save waits until it is closed
	inSave    chan struct{} // if not nil, Save sends on it when it starts
	onRestore func(stop <-chan struct{}) error
}

type point struct{ n, sum, last uint64 }

func (c *counter) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.applying {
		c.overlaps++
	}
	c.applying = true
}

func (c *counter) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applying = false
}

func (c *counter) Apply(entries []replica.Entry) {
	c.enter()
	defer c.leave()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches++
	for _, e := range entries {
		if e.Index <= c.last {
			panic(fmt.Sprintf("index %d after %d", e.Index, c.last))
		}
		c.last = e.Index
		c.n++
		h := fnv.New64a()
		h.Write(binary.BigEndian.AppendUint64(nil, c.sum))
		h.Write(binary.BigEndian.AppendUint64(nil, e.Index))
		h.Write(e.Cmd)
		c.sum = h.Sum64()
	}
}

func (c *counter) Prepare() any {
	c.enter()
	defer c.leave()
	c.mu.Lock()
	defer c.mu.Unlock()
	return point{c.n, c.sum, c.last}
}

func (c *counter) Save(p any, w io.Writer, stop <-chan struct{}) error {
	if c.inSave != nil {
		c.inSave <- struct{}{}
	}
	if c.saveGate != nil {
		select {
		case <-c.saveGate:
		case <-stop:
			return replica.ErrSnapshotStopped
		}
	}
	if c.saveErr != nil {
		return c.saveErr
	}
	at := p.(point)
	return binary.Write(w, binary.BigEndian, []uint64{at.n, at.sum, at.last})
}

func (c *counter) Restore(r io.Reader, stop <-chan struct{}) error {
	c.enter()
	defer c.leave()
	if c.onRestore != nil {
		if err := c.onRestore(stop); err != nil {
			return err
		}
	}
	var v [3]uint64
	if err := binary.Read(r, binary.BigEndian, v[:]); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n, c.sum, c.last = v[0], v[1], v[2]
	c.restores++
	return nil
}

// state returns what must be equal on members that have applied the same log.
func (c *counter) state() point {
	c.mu.Lock()
	defer c.mu.Unlock()
	return point{c.n, c.sum, c.last}
}

func (c *counter) count() uint64 { return c.state().n }

func (c *counter) restored() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restores
}

// An ensemble is some hosts in one process.
type ensemble struct {
	tb       testing.TB
	cfgs     []raftnode.Config
	hosts    []*raftnode.Host
	machines map[replica.GroupID][]*counter
}

// An option changes the configuration of one member before it is opened.
type option func(i int, c *raftnode.Config)

// inMemory returns configurations of n members on one memnet, each with a file
// system of its own.
func inMemory(n int, opts ...option) []raftnode.Config {
	network := memnet.New()
	members := make(map[replica.MemberID]string)
	for i := range n {
		members[replica.MemberID(i+1)] = fmt.Sprintf("n%d", i+1)
	}
	cfgs := make([]raftnode.Config, n)
	for i := range cfgs {
		cfgs[i] = raftnode.Config{
			Ensemble:       "test",
			Member:         replica.MemberID(i + 1),
			Dir:            "/data",
			Directory:      uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i+1)).String(),
			Addr:           fmt.Sprintf("n%d", i+1),
			Members:        members,
			Tick:           5 * time.Millisecond,
			ElectionTicks:  20,
			HeartbeatTicks: 2,
			Net:            network,
			FS:             vfs.NewMem(),
		}
		for _, o := range opts {
			o(i, &cfgs[i])
		}
	}
	return cfgs
}

// onDisk returns configurations of n members on real directories and sockets.
func onDisk(tb testing.TB, n int, opts ...option) []raftnode.Config {
	tb.Helper()
	dir := tb.TempDir()
	cfgs := inMemory(n)
	addrs := freePorts(tb, n)
	members := make(map[replica.MemberID]string)
	for i, a := range addrs {
		members[replica.MemberID(i+1)] = a
	}
	for i := range cfgs {
		cfgs[i].Dir = filepath.Join(dir, fmt.Sprint(i+1))
		cfgs[i].Directory = fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1)
		cfgs[i].Addr = addrs[i]
		cfgs[i].Members = members
		cfgs[i].Net = nil
		cfgs[i].FS = nil
		cfgs[i].MemtableBytes = 4 << 20
		for _, o := range opts {
			o(i, &cfgs[i])
		}
	}
	return cfgs
}

// patient has members wait longer before they elect another leader: for tests that
// cannot do with a leader who loses its place because the disk was busy.
func patient(_ int, c *raftnode.Config) { c.ElectionTicks = 100 }

func freePorts(tb testing.TB, n int) []string {
	tb.Helper()
	addrs, err := loopback.FreeAddrs(n)
	if err != nil {
		tb.Fatal(err)
	}
	return addrs
}

// open opens all members and starts the groups on them. Every ensemble is
// checked for leaked goroutines and overlapping calls when its test ends.
func open(tb testing.TB, cfgs []raftnode.Config, groups ...replica.GroupID) *ensemble {
	tb.Helper()
	checkLeaks(tb)
	return openAmong(tb, cfgs, groups...)
}

// checkLeaks fails the test if goroutines are left at its end that are not there now.
func checkLeaks(tb testing.TB) {
	tb.Helper()
	before := goleak.IgnoreCurrent()
	tb.Cleanup(func() {
		if err := goleak.Find(before); err != nil {
			tb.Errorf("goroutines after Close: %v", err)
		}
	})
}

// openAmong opens an ensemble where several are open at once: the goroutines that one
// starts late are not left behind by another.
func openAmong(tb testing.TB, cfgs []raftnode.Config, groups ...replica.GroupID) *ensemble {
	tb.Helper()
	e := &ensemble{
		tb:       tb,
		cfgs:     cfgs,
		hosts:    make([]*raftnode.Host, len(cfgs)),
		machines: make(map[replica.GroupID][]*counter),
	}
	tb.Cleanup(func() {
		e.close()
		for g, ms := range e.machines {
			for i, m := range ms {
				if m != nil && m.overlaps > 0 {
					tb.Errorf("member %d group %d: %d calls overlapped", i+1, g, m.overlaps)
				}
			}
		}
	})
	for i := range cfgs {
		e.openHost(i)
	}
	for _, g := range groups {
		for i := range cfgs {
			e.start(i, g)
		}
	}
	return e
}

func (e *ensemble) openHost(i int) {
	e.tb.Helper()
	h, err := raftnode.Open(e.cfgs[i])
	if err != nil {
		e.tb.Fatalf("Open member %d: %v", i+1, err)
	}
	e.hosts[i] = h
}

func (e *ensemble) start(i int, g replica.GroupID) *counter {
	e.tb.Helper()
	m := new(counter)
	e.startWith(i, g, m)
	return m
}

func (e *ensemble) startWith(i int, g replica.GroupID, m *counter) {
	e.tb.Helper()
	if e.machines[g] == nil {
		e.machines[g] = make([]*counter, len(e.hosts))
	}
	e.machines[g][i] = m
	first := replica.Bootstrap
	if len(e.cfgs[i].Members) == 0 {
		first = replica.Join
	}
	if err := e.hosts[i].StartGroup(g, m, first); err != nil {
		e.tb.Fatalf("StartGroup(%d) on member %d: %v", g, i+1, err)
	}
}

// addrs returns where the members are.
func (e *ensemble) addrs() map[replica.MemberID]string {
	addrs := make(map[replica.MemberID]string)
	for _, c := range e.cfgs {
		addrs[c.Member] = c.Addr
	}
	return addrs
}

func (e *ensemble) close() {
	for i := range e.hosts {
		e.closeHost(i)
	}
}

func (e *ensemble) closeHost(i int) {
	if e.hosts[i] == nil {
		return
	}
	if err := e.hosts[i].Close(); err != nil {
		e.tb.Errorf("Close member %d: %v", i+1, err)
	}
	e.hosts[i] = nil
}

// leader waits until a member leads g in its own eyes, and returns its index.
// Members listed in without do not count.
func (e *ensemble) leader(g replica.GroupID, without ...int) int {
	e.tb.Helper()
	found := -1
	e.eventually(fmt.Sprintf("a leader of group %d", g), func() bool {
		for i, h := range e.hosts {
			if h == nil || slices.Contains(without, i) {
				continue
			}
			if h.Role(g).Leader == replica.MemberID(i+1) {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

// propose proposes until it is answered with nil, and fails the test if that
// takes too long. The command may be applied more than once.
func (e *ensemble) propose(i int, g replica.GroupID, cmd string) {
	e.tb.Helper()
	e.eventually("a proposal to be applied", func() bool {
		ctx, cancel := context.WithTimeout(e.tb.Context(), 2*time.Second)
		defer cancel()
		return e.hosts[i].Propose(ctx, g, []byte(cmd)) == nil
	})
}

func (e *ensemble) read(i int, g replica.GroupID) {
	e.tb.Helper()
	e.eventually("a read index", func() bool {
		ctx, cancel := context.WithTimeout(e.tb.Context(), time.Second)
		defer cancel()
		return e.hosts[i].ReadIndex(ctx, g) == nil
	})
}

// converge waits until all running members have the same state of g.
func (e *ensemble) converge(g replica.GroupID) {
	e.tb.Helper()
	e.eventually("members to converge", func() bool {
		var first *point
		for i, m := range e.machines[g] {
			if e.hosts[i] == nil || m == nil {
				continue
			}
			s := m.state()
			if first == nil {
				first = &s
			} else if *first != s {
				return false
			}
		}
		return true
	})
}

func (e *ensemble) eventually(what string, ok func() bool) {
	e.tb.Helper()
	eventually(e.tb, what, ok)
}

// eventually polls a condition. It polls, because the conditions are about the
// inside of a library that tells nobody.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-timeout.C:
			tb.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

func stopGroup(tb testing.TB, h *raftnode.Host, g replica.GroupID) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := h.StopGroup(ctx, g); err != nil {
		tb.Fatalf("StopGroup(%d): %v", g, err)
	}
}

func snapshot(tb testing.TB, h *raftnode.Host, g replica.GroupID) (uint64, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	return h.Snapshot(ctx, g)
}

// debugLogger returns a logger that writes to the test's output when the
// environment asks for it.
func debugLogger(tb testing.TB) *slog.Logger {
	tb.Helper()
	if os.Getenv("RAFTNODE_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func wantErr(tb testing.TB, what string, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("%s = %v, want %v", what, err, want)
	}
}
