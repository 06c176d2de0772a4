package coordtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/vfs"

	"coord"
	"coord/internal/faultfs"
	"coord/internal/loopback"
	"coord/internal/raftnode"
	"coord/internal/raftnode/memnet"
	"coord/internal/replica"
)

// An Ensemble is a set of members in this process. Its methods fail the test rather
// than return an error, and must be called from the test's goroutine, but for Member,
// Running, Size and Seed; while a [Nemesis] is at work they may be called all the same.
//
// What is done to an ensemble is written down, with the time, and shown if the test
// fails, together with the newest of what its members have logged.
type Ensemble struct {
	t     testing.TB
	o     options
	net   *memnet.Net // nil on sockets
	label string      // of its goroutines
	born  time.Time
	trace trace
	logs  logs

	observers int // that have joined until now; owned by the test's goroutine

	// acting is held by whoever starts, ends, pauses or resumes a member. It comes
	// before mu, which is a leaf.
	acting sync.Mutex

	// places is replaced as a whole, under acting, when members come and go.
	places atomic.Pointer[map[coord.MemberID]*member]

	mu      sync.Mutex                            // also of what members hold
	lives   map[*coord.Coordinator]coord.MemberID // guarded by mu; of all that were ever started
	nemeses []*Nemesis                            // guarded by mu
}

// A member is one place in the ensemble: what survives a crash, and the process
// that runs there at the moment.
type member struct {
	id     coord.MemberID
	addr   string
	cfg    coord.Config
	memory *raftnode.Memory // nil: everything is as in production
	disk   *faultfs.FS      // nil: it is a real one

	running *coord.Coordinator // nil while it is down
	last    *coord.Coordinator // the newest, running or not
	paused  bool
	thaw    func() // ends the pause
	cuts    uint64 // of power, until now

	quicken func() // ends SlowDisk; nil unless the disk is slow
	repair  func() // ends FailDisk; nil unless it was done to the process that runs
	full    bool   // the disk is full, or was when the process that runs stopped itself

	// What clients of ZooKeeper connect to. Whoever changes it holds [Ensemble.acting].
	clientAddr string   // empty: nobody is served
	serving    *serving // nil while nobody is
}

// up reports whether a process runs here. One that the test has closed itself is down as
// though by [Ensemble.Stop]; one that had to stop itself is not, until it is ended. The
// caller holds [Ensemble.mu].
func (m *member) up() bool {
	return m.running != nil && !errors.Is(context.Cause(m.running.Context()), coord.ErrClosed)
}

var ensembles atomic.Uint64

// rootGroup is the raft group that every ensemble has.
const rootGroup replica.GroupID = 1

// New starts an ensemble of one member in memory and returns it, ready for use. It is
// what a test needs first that is about no faults: it elects nobody and waits for
// nobody. It is closed and checked when the test ends, as [NewEnsemble] says.
func New(tb testing.TB, opts ...Option) *coord.Coordinator {
	tb.Helper()
	return NewEnsemble(tb, 1, opts...).Member(1)
}

// NewEnsemble starts an ensemble of n members, numbered from 1, and waits until
// all of them are ready. When the test ends it is healed, checked and closed; the
// package comment says what is checked.
func NewEnsemble(tb testing.TB, n int, opts ...Option) *Ensemble {
	tb.Helper()
	if n < 1 {
		tb.Fatalf("coordtest: an ensemble of %d members: it needs 1 at least", n)
	}
	e := &Ensemble{
		t: tb, o: newOptions(tb, opts), label: strconv.FormatUint(ensembles.Add(1), 10), born: time.Now(),
		lives: map[*coord.Coordinator]coord.MemberID{},
	}
	if !e.o.onSockets {
		e.net = memnet.New()
		e.net.Lose(0, e.o.seed)
	}
	e.places.Store(&map[coord.MemberID]*member{})
	e.addMembers(n)
	tb.Cleanup(e.finish)
	for _, id := range e.ids() {
		if _, err := e.start(id); err != nil {
			tb.Fatalf("coordtest: %v", err)
		}
	}
	e.hasten()
	for _, c := range e.Running() {
		e.ready(c)
	}
	return e
}

// addMembers makes the first members.
func (e *Ensemble) addMembers(n int) {
	e.t.Helper()
	dir := "/coordtest"
	if e.o.onDisk {
		dir = e.t.TempDir()
	}
	var initial []coord.Member
	for i, addr := range e.addresses(n) {
		initial = append(initial, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	for _, in := range initial {
		m := &member{id: in.ID, addr: in.Addr}
		m.cfg = e.configure()
		m.cfg.Name = "coordtest-" + e.label
		m.cfg.ID, m.cfg.InitialMembers = in.ID, initial
		m.cfg.Dir = filepath.Join(dir, in.ID.String())
		e.equip(m)
		e.settle(m)
	}
}

// settle adds a place.
func (e *Ensemble) settle(m *member) {
	places := maps.Clone(*e.places.Load())
	places[m.id] = m
	e.places.Store(&places)
}

// place returns that of a member, or nil.
func (e *Ensemble) place(id coord.MemberID) *member { return (*e.places.Load())[id] }

// addresses returns those of n members.
func (e *Ensemble) addresses(n int) []string {
	e.t.Helper()
	if e.o.onSockets {
		addrs, err := loopback.FreeAddrs(n)
		if err != nil {
			e.t.Fatalf("coordtest: %v", err)
		}
		return addrs
	}
	var addrs []string
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("member-%d:1", i+1))
	}
	return addrs
}

// configure returns what the options make of a configuration.
func (e *Ensemble) configure() coord.Config {
	e.t.Helper()
	cfg := coord.Config{Logger: slog.New(e.logs.handler())}
	if !inBubble() {
		cfg.ElectionTimeout = time.Second
	}
	if e.o.openACL {
		cfg.DefaultACL = coord.OpenACL()
	}
	for _, change := range e.o.change {
		if change == nil {
			e.t.Fatalf("coordtest: WithConfig(nil)")
		}
		change(&cfg)
	}
	if cfg.Name != "" || cfg.ID != 0 || cfg.Dir != "" || cfg.InitialMembers != nil || cfg.Listen != "" || cfg.Join != nil || cfg.Addr != "" {
		e.t.Fatalf("coordtest: WithConfig sets Name %q, ID %v, Dir %q, InitialMembers %v, Listen %q, Join %q, Addr %q: the ensemble chooses these itself",
			cfg.Name, cfg.ID, cfg.Dir, cfg.InitialMembers, cfg.Listen, cfg.Join, cfg.Addr)
	}
	return cfg
}

// equip gives a member its network and its disk.
func (e *Ensemble) equip(m *member) {
	if !e.o.onDisk {
		// The log database of a member in memory takes a hole in what it wrote for corruption.
		m.disk = faultfs.New(vfs.NewMem()).InOrder()
	}
	switch {
	case m.disk != nil:
		m.memory = &raftnode.Memory{Net: e.net, FS: m.disk}
	case e.net != nil:
		m.memory = raftnode.OnDisk(e.net)
	}
}

// hasten has a member stand for election, as long as there is no leader, so that no
// test waits for an election timeout before it begins; the seed decides which, so that
// each is a follower sometimes. It asks several times, with a pause, because the others
// may not be listening yet, and nothing tells when.
func (e *Ensemble) hasten() {
	if e.net == nil {
		return
	}
	m := e.place(coord.MemberID(e.o.seed%uint64(e.Size()) + 1))
	for range 20 {
		if m.last.Status().Leader != 0 {
			return
		}
		m.memory.Hasten(m.cfg.Name, replica.MemberID(m.id), m.addr, rootGroup)
		time.Sleep(time.Millisecond)
	}
}

func (e *Ensemble) ids() []coord.MemberID { return slices.Sorted(maps.Keys(*e.places.Load())) }

// Seed returns the number that decides by what dice are thrown, see [WithSeed].
func (e *Ensemble) Seed() uint64 { return e.o.seed }

// Size returns the number of members, running or not.
func (e *Ensemble) Size() int { return len(*e.places.Load()) }

// Member returns the member with the id i, whether or not it is running. The first ones
// have those from 1.
func (e *Ensemble) Member(i int) *coord.Coordinator {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.place(coord.MemberID(i))
	if i < 1 || m == nil {
		e.t.Fatalf("coordtest: no member %d in an ensemble of %d", i, e.Size())
	}
	return m.last
}

// Running returns the members that are running and not paused, in the order of their
// ids.
func (e *Ensemble) Running() []*coord.Coordinator {
	e.mu.Lock()
	defer e.mu.Unlock()
	var running []*coord.Coordinator
	for _, id := range e.ids() {
		if m := e.place(id); m.up() && !m.paused {
			running = append(running, m.running)
		}
	}
	return running
}

// memberOf returns the place that c is, or was, a process of.
func (e *Ensemble) memberOf(c *coord.Coordinator) (*member, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c == nil {
		return nil, errors.New("the member is nil")
	}
	id, known := e.lives[c]
	if !known {
		return nil, errors.New("the member is not one of this ensemble")
	}
	return e.place(id), nil
}

// runningMember returns the place that c runs at.
func (e *Ensemble) runningMember(c *coord.Coordinator) (*member, error) {
	m, err := e.memberOf(c)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !m.up():
		return nil, fmt.Errorf("member %v is down", m.id)
	case m.running != c:
		return nil, fmt.Errorf("this process of member %v has ended: Member(%v) returns the one that runs now", m.id, m.id)
	}
	return m, nil
}

// must fails the test if there is an error.
func (e *Ensemble) must(what string, err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatalf("coordtest: %s: %v", what, err)
	}
}
