package memraft_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"coord/internal/memraft"
	"coord/internal/replica"
)

const group = replica.GroupID(1)

// A recorder is a replica.Machine that keeps all commands it was given, by index.
type recorder struct {
	mu       sync.Mutex
	inside   bool // guarded by mu; a call of Apply, Prepare or Restore is under way
	overlaps int  // guarded by mu
	log      []record
	restores int // guarded by mu

	saveErr   error         // returned by Save
	saveGate  chan struct{} // if not nil, Save waits until it is closed
	onRestore func(stop <-chan struct{}) error
}

type record struct {
	Index uint64 `json:"index"`
	Cmd   uint64 `json:"cmd"`
}

func (m *recorder) enter() func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inside {
		m.overlaps++
	}
	m.inside = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.inside = false
	}
}

func (m *recorder) Apply(entries []replica.Entry) {
	defer m.enter()()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if n := len(m.log); n > 0 && m.log[n-1].Index >= e.Index {
			panic(fmt.Sprintf("index %d behind %d", e.Index, m.log[n-1].Index))
		}
		m.log = append(m.log, record{e.Index, binary.BigEndian.Uint64(e.Cmd)})
	}
}

func (m *recorder) Prepare() any {
	defer m.enter()()
	return m.all()
}

func (m *recorder) Save(point any, w io.Writer, stop <-chan struct{}) error {
	if m.saveGate != nil {
		select {
		case <-m.saveGate:
		case <-stop:
			return replica.ErrSnapshotStopped
		}
	}
	if m.saveErr != nil {
		return m.saveErr
	}
	return json.NewEncoder(w).Encode(point)
}

func (m *recorder) Restore(r io.Reader, stop <-chan struct{}) error {
	defer m.enter()()
	if m.onRestore != nil {
		if err := m.onRestore(stop); err != nil {
			return err
		}
	}
	var log []record
	if err := json.NewDecoder(r).Decode(&log); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = log
	m.restores++
	return nil
}

func (m *recorder) all() []record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log)
}

func (m *recorder) has(cmd uint64) bool {
	return slices.ContainsFunc(m.all(), func(r record) bool { return r.Cmd == cmd })
}

// An ensemble is some members on one Net, each with one group.
type ensemble struct {
	t        *testing.T
	net      *memraft.Net
	members  []replica.MemberID
	first    []replica.MemberID // those whom the group starts with; others join
	tweak    func(*memraft.Config)
	hosts    map[replica.MemberID]*memraft.Host
	machines map[replica.MemberID]*recorder
}

func newEnsemble(t *testing.T, n int, seed uint64, tweak func(*memraft.Config)) *ensemble {
	t.Helper()
	e := &ensemble{
		t: t, net: memraft.NewNet(seed), tweak: tweak,
		hosts: map[replica.MemberID]*memraft.Host{}, machines: map[replica.MemberID]*recorder{},
	}
	for i := range n {
		e.members = append(e.members, replica.MemberID(i+1))
	}
	e.first = slices.Clone(e.members)
	for _, id := range e.members {
		e.start(id)
	}
	t.Cleanup(e.close)
	return e
}

func (e *ensemble) start(id replica.MemberID) {
	e.t.Helper()
	e.startWith(id, &recorder{})
}

func (e *ensemble) startWith(id replica.MemberID, m *recorder) {
	e.t.Helper()
	cfg, first := memraft.Config{Member: id, Members: e.first}, replica.Bootstrap
	if !slices.Contains(e.first, id) {
		cfg.Members, first = nil, replica.Join
	}
	if e.tweak != nil {
		e.tweak(&cfg)
	}
	h, err := e.net.Open(cfg)
	if err != nil {
		e.t.Fatalf("Open(%d) = %v", id, err)
	}
	if err := h.StartGroup(group, m, first); err != nil {
		e.t.Fatalf("StartGroup of member %d = %v", id, err)
	}
	e.hosts[id], e.machines[id] = h, m
}

func (e *ensemble) stop(id replica.MemberID) {
	e.t.Helper()
	if h := e.hosts[id]; h != nil {
		if err := h.Close(); err != nil {
			e.t.Errorf("Close(%d) = %v", id, err)
		}
		if n := e.machines[id].overlaps; n > 0 {
			e.t.Errorf("R5: %d calls of the machine of member %d overlapped", n, id)
		}
		delete(e.hosts, id)
	}
}

func (e *ensemble) close() {
	for _, id := range e.members {
		e.stop(id)
	}
}

// leader waits until one of the members leads in its own eyes.
func (e *ensemble) leader(among ...replica.MemberID) replica.MemberID {
	e.t.Helper()
	var found replica.MemberID
	e.eventually("a leader", func() bool {
		for _, id := range among {
			if h := e.hosts[id]; h != nil && h.Role(group).Leader == id {
				found = id
				return true
			}
		}
		return false
	})
	return found
}

func (e *ensemble) others(id replica.MemberID) []replica.MemberID {
	return slices.DeleteFunc(slices.Clone(e.members), func(m replica.MemberID) bool { return m == id })
}

// propose proposes until it is answered.
func (e *ensemble) propose(id replica.MemberID, cmd uint64) {
	e.t.Helper()
	e.eventually("a proposal to be applied", func() bool { return e.try(id, cmd, 2*time.Second) == nil })
}

func (e *ensemble) try(id replica.MemberID, cmd uint64, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	return e.hosts[id].Propose(ctx, group, binary.BigEndian.AppendUint64(nil, cmd))
}

func (e *ensemble) converge() {
	e.t.Helper()
	e.eventually("the members to converge", func() bool {
		for _, id := range e.members[1:] {
			if !slices.Equal(e.machines[id].all(), e.machines[e.members[0]].all()) {
				return false
			}
		}
		return true
	})
}

// eventually polls, in virtual time.
func (e *ensemble) eventually(what string, ok func() bool) {
	e.t.Helper()
	for range 60_000 {
		if ok() {
			return
		}
		sleep(time.Millisecond)
	}
	e.t.Fatalf("waited in vain for %s", what)
}
