package raftnode_test

import (
	"errors"
	"strings"
	"testing"

	"coord/internal/raftnode"
	"coord/internal/replica"
)

// A snapshot is at the last entry applied. That there is nothing new to save
// is no error.
func TestSnapshot(t *testing.T) {
	e := open(t, inMemory(1), 1)
	for range 10 {
		e.propose(0, 1, "x")
	}
	last := e.machines[1][0].state().last
	index, err := snapshot(t, e.hosts[0], 1)
	if err != nil || index < last {
		t.Errorf("Snapshot = %d, %v, want at least %d", index, err, last)
	}
	again, err := snapshot(t, e.hosts[0], 1)
	if err != nil || again != index {
		t.Errorf("Snapshot with nothing new = %d, %v, want %d", again, err, index)
	}
	e.propose(0, 1, "y")
	want := e.machines[1][0].state()
	e.closeHost(0)
	e.openHost(0)
	m := e.start(0, 1)
	if m.restored() != 1 {
		t.Errorf("%d snapshots restored when StartGroup returned, want 1", m.restored())
	}
	e.read(0, 1)
	if got := m.state(); got != want {
		t.Errorf("after a restart the state is %+v, want %+v", got, want)
	}
	again, err = snapshot(t, e.hosts[0], 1)
	if err != nil || again <= index {
		t.Errorf("Snapshot after a restart = %d, %v, want more than %d", again, err, index)
	}
}

// A machine that cannot save costs the snapshot and nothing else.
func TestFailedSaveIsHarmless(t *testing.T) {
	for _, saveErr := range []error{replica.ErrSnapshotAborted, errors.New("no space left")} {
		t.Run(saveErr.Error(), func(t *testing.T) {
			e := open(t, inMemory(1))
			m := &counter{saveErr: saveErr}
			e.startWith(0, 1, m)
			e.propose(0, 1, "x")
			_, err := snapshot(t, e.hosts[0], 1)
			wantErr(t, "Snapshot", err, replica.ErrSnapshotAborted)
			e.propose(0, 1, "y")
			stopGroup(t, e.hosts[0], 1)
			e.start(0, 1)
			e.read(0, 1)
			if n := e.machines[1][0].count(); n != 2 {
				t.Errorf("%d commands after a restart, want 2", n)
			}
			if _, err := snapshot(t, e.hosts[0], 1); err != nil {
				t.Errorf("Snapshot of a machine that can save = %v", err)
			}
		})
	}
}

// Entries are applied while a snapshot is being saved, a second snapshot is
// refused meanwhile, and stopping the group stops the save.
func TestSaveRunsBesideApply(t *testing.T) {
	e := open(t, inMemory(1))
	m := &counter{saveGate: make(chan struct{}), inSave: make(chan struct{}, 1)}
	e.startWith(0, 1, m)
	e.propose(0, 1, "x")
	result := make(chan error, 1)
	go func() {
		_, err := e.hosts[0].Snapshot(t.Context(), 1)
		result <- err
	}()
	<-m.inSave
	for range 20 {
		e.propose(0, 1, "y")
	}
	_, err := snapshot(t, e.hosts[0], 1)
	wantErr(t, "Snapshot while one is being saved", err, replica.ErrBusy)
	stopGroup(t, e.hosts[0], 1)
	if err := <-result; !errors.Is(err, replica.ErrClosed) && !errors.Is(err, replica.ErrSnapshotAborted) {
		t.Errorf("Snapshot of a stopped group = %v", err)
	}
}

// A member that was away for longer than the log reaches back is sent a
// snapshot.
func TestLaggingMemberGetsSnapshot(t *testing.T) {
	cfgs := inMemory(3, func(_ int, c *raftnode.Config) {
		c.SnapshotEntries = 50
		c.CompactionOverhead = 10
	})
	e := open(t, cfgs, 1)
	l := e.leader(1)
	away := (l + 1) % 3
	e.propose(away, 1, "x")
	e.closeHost(away)
	for range 200 {
		e.propose(l, 1, "y")
	}
	if _, err := snapshot(t, e.hosts[l], 1); err != nil {
		t.Fatal(err)
	}
	e.openHost(away)
	m := e.start(away, 1)
	e.converge(1)
	e.propose(away, 1, "z")
	if m.restored() == 0 {
		t.Error("the member caught up without a snapshot: the test proves nothing")
	}
	e.converge(1)
}

// A long restore holds up neither Close nor StopGroup, and StartGroup says that
// it did not get far.
func TestRestoreIsCutShort(t *testing.T) {
	for _, how := range []string{"Close", "StopGroup"} {
		t.Run(how, func(t *testing.T) {
			e := open(t, inMemory(1), 1)
			e.propose(0, 1, "x")
			if _, err := snapshot(t, e.hosts[0], 1); err != nil {
				t.Fatal(err)
			}
			stopGroup(t, e.hosts[0], 1)
			restoring := make(chan struct{})
			m := &counter{onRestore: func(stop <-chan struct{}) error {
				close(restoring)
				<-stop
				return replica.ErrSnapshotStopped
			}}
			result := make(chan error, 1)
			go func() { result <- e.hosts[0].StartGroup(1, m, replica.Bootstrap) }()
			<-restoring
			wantErr(t, "Propose while restoring", e.hosts[0].Propose(t.Context(), 1, nil), replica.ErrNotReady)
			if how == "Close" {
				e.closeHost(0)
			} else {
				stopGroup(t, e.hosts[0], 1)
			}
			wantErr(t, "StartGroup", <-result, replica.ErrClosed)
		})
	}
}

// There is no way to live on without a state that cannot be restored: the
// library ends the process. The reason must be in the log by then.
func TestFailedRestoreEndsProcess(t *testing.T) {
	if isChild() {
		cfgs := inMemory(1, func(_ int, c *raftnode.Config) { c.Logger = stderrLogger() })
		e := open(t, cfgs, 1)
		e.propose(0, 1, "x")
		if _, err := snapshot(t, e.hosts[0], 1); err != nil {
			t.Fatal(err)
		}
		stopGroup(t, e.hosts[0], 1)
		e.startWith(0, 1, &counter{onRestore: func(<-chan struct{}) error { return errors.New("checksum is wrong") }})
		e.read(0, 1)
		t.Error("survived")
		return
	}
	out, ok := runChild(t, "run")
	if ok || strings.Contains(out, "survived") {
		t.Errorf("the process went on:\n%s", out)
	}
	if !strings.Contains(out, "snapshot cannot be restored") || !strings.Contains(out, `err="checksum is wrong"`) {
		t.Errorf("the log does not say why:\n%s", out)
	}
}
