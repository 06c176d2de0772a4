package raftnode

import (
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/lni/dragonboat/v4/statemachine"

	"coord/internal/replica"
)

// A stub is a replica.Machine that answers what it is told to.
type stub struct {
	applied []replica.Entry // of the last batch, copied
	keep    []replica.Entry // the last batch itself, which it must not keep
	err     error
}

func (s *stub) Apply(entries []replica.Entry) {
	s.keep = entries
	s.applied = append(s.applied[:0], entries...)
}
func (s *stub) Prepare() any                                    { return 7 }
func (s *stub) Save(any, io.Writer, <-chan struct{}) error      { return s.err }
func (s *stub) Restore(r io.Reader, stop <-chan struct{}) error { return s.err }

func batch(n int) []statemachine.Entry {
	b := make([]statemachine.Entry, n)
	for i := range b {
		b[i] = statemachine.Entry{Index: uint64(i + 10), Cmd: []byte{byte(i)}}
	}
	return b
}

func TestUpdatePassesEntries(t *testing.T) {
	user := new(stub)
	m := &machine{user: user, log: slog.New(slog.DiscardHandler)}
	b := batch(3)
	got, err := m.Update(b)
	if err != nil || len(got) != len(b) || &got[0] != &b[0] {
		t.Errorf("Update = %v, %v, want its argument back", got, err)
	}
	for i, e := range user.applied {
		if e.Index != b[i].Index || e.Cmd[0] != byte(i) {
			t.Errorf("entry %d = %v, want %v", i, e, b[i])
		}
	}
	if user.keep[0].Cmd != nil {
		t.Error("the machine pins the commands of its last batch")
	}
	if _, err := m.Update(batch(2 * maxKeptEntries)); err != nil || m.entries != nil {
		t.Errorf("a slice of %d entries is kept, %v", cap(m.entries), err)
	}
}

func TestUpdateDoesNotAllocate(t *testing.T) {
	m := &machine{user: &stub{applied: make([]replica.Entry, 64)}, log: slog.New(slog.DiscardHandler)}
	b := batch(64)
	if n := testing.AllocsPerRun(100, func() { _, _ = m.Update(b) }); n != 0 {
		t.Errorf("Update allocates %v times for a batch", n)
	}
}

// The library takes any error but its own two for the end of the world, and
// compares one of them with ==.
func TestSnapshotErrors(t *testing.T) {
	other := errors.New("no space left")
	wrapped := func(err error) error { return errors.Join(err) }
	closed := make(chan struct{})
	close(closed)
	tests := []struct {
		err           error
		stop          chan struct{}
		save, restore error
	}{
		{nil, nil, nil, nil},
		{wrapped(replica.ErrSnapshotStopped), closed, statemachine.ErrSnapshotStopped, statemachine.ErrSnapshotStopped},
		{replica.ErrSnapshotStopped, make(chan struct{}), statemachine.ErrSnapshotStopped, replica.ErrSnapshotStopped},
		{replica.ErrSnapshotAborted, nil, statemachine.ErrSnapshotAborted, replica.ErrSnapshotAborted},
		{wrapped(replica.ErrSnapshotAborted), nil, statemachine.ErrSnapshotAborted, nil},
		{other, nil, statemachine.ErrSnapshotAborted, other},
	}
	for _, tt := range tests {
		m := &machine{user: &stub{err: tt.err}, log: slog.New(slog.DiscardHandler)}
		//nolint:errorlint // the library compares with ==
		if got := m.SaveSnapshot(7, io.Discard, nil, tt.stop); got != tt.save {
			t.Errorf("SaveSnapshot where Save returns %v = %v, want %v", tt.err, got, tt.save)
		}
		//nolint:errorlint // the library compares with ==
		if got := m.RecoverFromSnapshot(nil, nil, tt.stop); tt.restore != nil && got != tt.restore {
			t.Errorf("RecoverFromSnapshot where Restore returns %v = %v, want %v", tt.err, got, tt.restore)
		}
	}
}
