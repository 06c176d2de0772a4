package raftnode

import (
	"errors"
	"io"
	"log/slog"

	"github.com/lni/dragonboat/v4/statemachine"

	"coord/internal/failpoint"
	"coord/internal/replica"
)

// maxKeptEntries bounds the slice that a machine keeps between two batches:
// after a long replay it would pin the size of the largest one.
const maxKeptEntries = 4096

// A machine shows a replica.Machine to the library as a state machine. The
// library takes every error but two for the end of the world and panics on a
// goroutine of its own, so errors are turned into those two wherever they can
// be.
type machine struct {
	group    replica.GroupID
	user     replica.Machine
	log      *slog.Logger
	points   *failpoint.Set
	unloaded func()          // called once, when the user's machine is done with
	entries  []replica.Entry // of the batch being applied; reused
}

var _ statemachine.IConcurrentStateMachine = (*machine)(nil)

// Update applies one batch. The library calls it, PrepareSnapshot and
// RecoverFromSnapshot never at the same time, and tells proposers only after
// it has returned (R2, R5).
func (m *machine) Update(batch []statemachine.Entry) ([]statemachine.Entry, error) {
	entries := m.entries[:0]
	for i := range batch {
		entries = append(entries, replica.Entry{Index: batch[i].Index, Cmd: batch[i].Cmd})
	}
	m.points.Hit(failpoint.ApplyBegin)
	m.user.Apply(entries)
	m.points.Hit(failpoint.ApplyEnd)
	clear(entries) // the commands must not live on in it
	if cap(entries) <= maxKeptEntries {
		m.entries = entries
	} else {
		m.entries = nil
	}
	return batch, nil
}

// Lookup is never used: readers look at their own published state.
func (m *machine) Lookup(any) (any, error) {
	return nil, errors.New("raftnode: lookups do not go through the log")
}

func (m *machine) PrepareSnapshot() (any, error) { return m.user.Prepare(), nil }

// SaveSnapshot writes the state at point. Whatever goes wrong, a full disk
// below w included, only costs the snapshot: the library throws the partial
// file away and keeps the log.
func (m *machine) SaveSnapshot(point any, w io.Writer, _ statemachine.ISnapshotFileCollection, stop <-chan struct{}) error {
	err := m.points.Fail(failpoint.SnapshotCreate)
	if err == nil {
		err = m.user.Save(point, w, stop)
	}
	if err == nil {
		err = m.points.Fail(failpoint.SnapshotWritten)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replica.ErrSnapshotStopped):
		return statemachine.ErrSnapshotStopped
	case errors.Is(err, replica.ErrSnapshotAborted):
		return statemachine.ErrSnapshotAborted
	}
	m.log.Warn("snapshot given up", slog.Uint64("group", uint64(m.group)), slog.Any("err", err))
	return statemachine.ErrSnapshotAborted
}

// RecoverFromSnapshot replaces the state. There is no way to go on without it:
// the log before the snapshot is gone. The library ends the process on an
// error, on a goroutine where nobody can stop it, so the reason is logged here
// while there is time.
func (m *machine) RecoverFromSnapshot(r io.Reader, _ []statemachine.SnapshotFile, stop <-chan struct{}) error {
	m.points.Hit(failpoint.SnapshotApply)
	err := m.user.Restore(r, stop)
	if err == nil {
		m.points.Hit(failpoint.SnapshotApplied)
		return nil
	}
	if errors.Is(err, replica.ErrSnapshotStopped) && isClosed(stop) {
		// The library compares with ==, so it must be exactly this value. It
		// believes it: were stop not closed, the replica would live on with
		// whatever the machine holds.
		return statemachine.ErrSnapshotStopped
	}
	m.log.Error("snapshot cannot be restored, the raft library will end this process",
		slog.Uint64("group", uint64(m.group)), slog.Any("err", err))
	return err
}

func isClosed(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// Close is called once all workers of the library have let go of the replica.
func (m *machine) Close() error {
	m.unloaded()
	return nil
}
