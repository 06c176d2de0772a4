package raftnode_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lni/vfs"

	"coord/internal/raftnode"
	"coord/internal/replica"
)

// marks is a marker file outside the log.
type marks struct {
	mu   sync.Mutex
	made map[replica.GroupID]int
	fail error
}

func (m *marks) initialised(g replica.GroupID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made[g] > 0
}

func (m *marks) mark(g replica.GroupID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.made == nil {
		m.made = make(map[replica.GroupID]int)
	}
	m.made[g]++
	return nil
}

func (m *marks) forget(g replica.GroupID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		delete(m.made, g)
	}
	return m.fail
}

func (m *marks) give(c *raftnode.Config) {
	c.Initialised, c.MarkInitialised, c.Forget = m.initialised, m.mark, m.forget
}

func withMarks(m *marks) option {
	return func(i int, c *raftnode.Config) {
		if i == 0 {
			m.give(c)
		}
	}
}

// A marked group whose log has vanished is never bootstrapped again.
func TestLostLogIsNotBootstrappedAgain(t *testing.T) {
	var m marks
	cfgs := inMemory(1, withMarks(&m))
	e := open(t, cfgs, 1)
	e.propose(0, 1, "x")
	e.closeHost(0)
	e.openHost(0)
	e.start(0, 1) // with its log it starts
	e.closeHost(0)
	if got := m.made; !maps.Equal(got, map[replica.GroupID]int{1: 1}) {
		t.Errorf("marks = %v, want group 1 marked once", got)
	}

	e.cfgs[0].FS = vfs.NewMem() // the disk is another one
	e.openHost(0)
	err := e.hosts[0].StartGroup(1, new(counter), replica.Bootstrap)
	wantErr(t, "StartGroup without its log", err, raftnode.ErrLogGone)
	if err != nil && !strings.Contains(err.Error(), cfgs[0].Dir) {
		t.Errorf("%v does not name the directory", err)
	}
	wantErr(t, "Propose to it", e.hosts[0].Propose(t.Context(), 1, nil), replica.ErrNoGroup)
	e.start(0, 2) // a group that never lived there may start
	e.propose(0, 2, "x")
}

// A crash between the library's record and the mark leaves a replica that
// never took part. It starts, and is marked then.
func TestCrashBeforeMark(t *testing.T) {
	m := marks{fail: errors.New("no space left")}
	e := open(t, inMemory(1, withMarks(&m)))
	err := e.hosts[0].StartGroup(1, new(counter), replica.Bootstrap)
	wantErr(t, "StartGroup that cannot mark", err, m.fail)
	wantErr(t, "Propose after it", e.hosts[0].Propose(t.Context(), 1, nil), replica.ErrNoGroup)
	e.closeHost(0)

	m.fail = nil
	e.openHost(0)
	e.start(0, 1)
	if !m.initialised(1) {
		t.Error("the group runs unmarked")
	}
	e.propose(0, 1, "x")
	if n := e.machines[1][0].count(); n != 1 {
		t.Errorf("%d commands applied, want 1", n)
	}
}

// A failed mark can be tried again without a restart.
func TestMarkTriedAgain(t *testing.T) {
	m := marks{fail: errors.New("no space left")}
	e := open(t, inMemory(1, withMarks(&m)))
	wantErr(t, "StartGroup that cannot mark", e.hosts[0].StartGroup(1, new(counter), replica.Bootstrap), m.fail)
	m.fail = nil
	e.start(0, 1)
	e.propose(0, 1, "x")
}

// A stopped group can be started again at once, as often as one likes, and its
// old machine is left alone.
func TestStopAndStartGroup(t *testing.T) {
	e := open(t, inMemory(3), 1, 2)
	e.propose(0, 1, "x")
	for range 5 {
		old := e.machines[1][0]
		stopGroup(t, e.hosts[0], 1)
		had := old.state()
		wantErr(t, "Propose to a stopped group", e.hosts[0].Propose(t.Context(), 1, nil), replica.ErrNoGroup)
		if r := e.hosts[0].Role(1); r != (replica.Role{}) {
			t.Errorf("Role of a stopped group = %v, want none", r)
		}
		e.propose(1, 1, "meanwhile")
		e.propose(0, 2, "other group")
		if old.state() != had {
			t.Fatal("the machine of a stopped group was called")
		}
		e.start(0, 1)
		e.propose(0, 1, "x")
	}
	e.converge(1)
}

func TestStartGroupTwice(t *testing.T) {
	e := open(t, inMemory(1), 1)
	if err := e.hosts[0].StartGroup(1, new(counter), replica.Bootstrap); err == nil {
		t.Error("StartGroup of a running group succeeded")
	}
	e.propose(0, 1, "x")
	if err := e.hosts[0].StartGroup(0, new(counter), replica.Bootstrap); err == nil {
		t.Error("StartGroup(0) succeeded")
	}
	wantErr(t, "StopGroup of no group", e.hosts[0].StopGroup(t.Context(), 9), replica.ErrNoGroup)
}

// What is left of a group is removed when it does not run, and after its mark: a disk
// that cannot take that back keeps it all.
func TestRemoveGroup(t *testing.T) {
	for name, configs := range map[string]func(testing.TB, int, ...option) []raftnode.Config{"memory": inMemoryOf, "disk": onDisk} {
		t.Run(name, func(t *testing.T) {
			var m marks
			e := open(t, configs(t, 1, withMarks(&m)), 1, 2)
			stored := func(want ...replica.GroupID) {
				t.Helper()
				if got := e.hosts[0].Stored(); !slices.Equal(got, want) {
					t.Fatalf("Stored = %d, want %d", got, want)
				}
			}
			for k := range 30 {
				e.propose(0, 1, "kept")
				e.propose(0, 2, fmt.Sprint(k))
			}
			if _, err := snapshot(t, e.hosts[0], 2); err != nil {
				t.Fatal(err)
			}
			stored(1, 2)
			if err := e.hosts[0].RemoveGroup(t.Context(), 2); err == nil || !m.initialised(2) {
				t.Fatalf("RemoveGroup of one that runs = %v, and it is marked: %v", err, m.initialised(2))
			}
			stopGroup(t, e.hosts[0], 2)
			stored(1, 2)
			m.fail = errors.New("no space left")
			wantErr(t, "RemoveGroup that cannot be written down", e.hosts[0].RemoveGroup(t.Context(), 2), m.fail)
			stored(1, 2)
			m.fail = nil
			if err := e.hosts[0].RemoveGroup(t.Context(), 2); err != nil || m.initialised(2) {
				t.Fatalf("RemoveGroup = %v, and it is marked: %v", err, m.initialised(2))
			}
			stored(1)
			if err := e.hosts[0].RemoveGroup(t.Context(), 2); err != nil {
				t.Errorf("RemoveGroup of what is gone = %v", err)
			}

			closed := e.hosts[0]
			e.closeHost(0)
			wantErr(t, "RemoveGroup behind Close", closed.RemoveGroup(t.Context(), 1), replica.ErrClosed)
			e.openHost(0)
			e.start(0, 1)
			e.propose(0, 1, "kept")
			stored(1)
			if got := e.machines[1][0].count(); got != 31 {
				t.Errorf("the other group has %d entries, want 31", got)
			}
		})
	}
}

// inMemoryOf is inMemory, which needs no test.
func inMemoryOf(_ testing.TB, n int, opts ...option) []raftnode.Config { return inMemory(n, opts...) }

// StopGroup waits for the machine, and gives up waiting with its context.
func TestStopGroupWaitsForMachine(t *testing.T) {
	e := open(t, inMemory(1))
	release := make(chan struct{})
	m := &blocker{entered: make(chan struct{}, 1), release: release}
	if err := e.hosts[0].StartGroup(1, m, replica.Bootstrap); err != nil {
		t.Fatal(err)
	}
	proposed := make(chan error, 1)
	go func() {
		for {
			err := e.hosts[0].Propose(t.Context(), 1, []byte("x"))
			if !errors.Is(err, replica.ErrNotReady) {
				proposed <- err
				return
			}
		}
	}()
	<-m.entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	wantErr(t, "StopGroup while Apply runs", e.hosts[0].StopGroup(ctx, 1), context.DeadlineExceeded)
	wantErr(t, "the proposal under way", <-proposed, replica.ErrUnknownOutcome)
	close(release)
	err := e.hosts[0].StopGroup(t.Context(), 1)
	if err != nil && !errors.Is(err, replica.ErrNoGroup) { // it may have ended already
		t.Errorf("StopGroup after Apply has returned = %v", err)
	}
}

// A blocker is a machine that stays in Apply until it is released.
type blocker struct {
	counter
	entered chan struct{}
	release chan struct{}
}

func (b *blocker) Apply(entries []replica.Entry) {
	select {
	case b.entered <- struct{}{}:
	default:
	}
	<-b.release
	b.counter.Apply(entries)
}

// Close may be called by anybody at any time; what is under way ends.
func TestCloseTwiceAndConcurrently(t *testing.T) {
	e := open(t, inMemory(3), 1)
	e.propose(0, 1, "x")
	h := e.hosts[0]
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				err := h.Propose(ctx, 1, []byte("y"))
				rerr := h.ReadIndex(ctx, 1)
				cancel()
				if errors.Is(err, replica.ErrClosed) && errors.Is(rerr, replica.ErrClosed) {
					return
				}
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			if err := h.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
		})
	}
	wg.Wait()
	if err := h.Close(); err != nil {
		t.Errorf("Close once more = %v", err)
	}
	ctx := t.Context()
	wantErr(t, "StartGroup", h.StartGroup(3, new(counter), replica.Bootstrap), replica.ErrClosed)
	wantErr(t, "StopGroup", h.StopGroup(ctx, 1), replica.ErrClosed)
	wantErr(t, "Propose", h.Propose(ctx, 1, nil), replica.ErrClosed)
	wantErr(t, "ReadIndex", h.ReadIndex(ctx, 1), replica.ErrClosed)
	wantErr(t, "TransferLeadership", h.TransferLeadership(ctx, 1, 2), replica.ErrClosed)
	_, err := h.Snapshot(ctx, 1)
	wantErr(t, "Snapshot", err, replica.ErrClosed)
}
