package memraft_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"coord/internal/bubble"
	"coord/internal/memraft"
	"coord/internal/replica"
)

// Refusals are definite, and nothing of what was refused is ever applied (R3).
func TestRefusals(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		net := memraft.NewNet(1)
		members := []replica.MemberID{1, 2, 3}
		h, err := net.Open(memraft.Config{Member: 1, Members: members})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		ctx := t.Context()
		refused := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) || errors.Is(err, replica.ErrUnknownOutcome) {
				t.Errorf("%s = %v, want %v", what, err, want)
			}
		}
		refused("Propose to no group", h.Propose(ctx, group, []byte("refused!")), replica.ErrNoGroup)
		refused("ReadIndex of no group", h.ReadIndex(ctx, group), replica.ErrNoGroup)
		refused("TransferLeadership of no group", h.TransferLeadership(ctx, group, 2), replica.ErrNoGroup)
		refused("StopGroup of no group", h.StopGroup(ctx, group), replica.ErrNoGroup)
		_, err = h.Snapshot(ctx, group)
		refused("Snapshot of no group", err, replica.ErrNoGroup)

		m := &recorder{}
		if err := h.StartGroup(group, m, replica.Bootstrap); err != nil {
			t.Fatal(err)
		}
		if h.StartGroup(group, m, replica.Bootstrap) == nil || h.StartGroup(0, m, replica.Bootstrap) == nil || h.TransferLeadership(ctx, group, 0) == nil {
			t.Error("what makes no sense was done")
		}
		if _, err := net.Open(memraft.Config{Member: 1, Members: members}); err == nil {
			t.Error("a member was opened twice")
		}
		refused("Propose without a leader", h.Propose(ctx, group, []byte("refused!")), replica.ErrNotReady)
		refused("ReadIndex without a leader", h.ReadIndex(ctx, group), replica.ErrNotReady)
		ended, cancel := context.WithCancelCause(ctx)
		cause := errors.New("the caller's own")
		cancel(cause)
		refused("Propose with an ended context", h.Propose(ended, group, []byte("refused!")), cause)
		refused("ReadIndex with an ended context", h.ReadIndex(ended, group), cause)
		if len(m.all()) > 0 {
			t.Errorf("refused, and applied: %v", m.all())
		}
	})
}

// Without a deadline a request that is lost ends all the same.
func TestNoAnswer(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 2, nil)
		l := e.leader(e.members...)
		f := e.others(l)[0]
		e.propose(f, 1)
		e.net.Cut(f, l) // it hears the leader, which does not hear it
		if err := e.hosts[f].Propose(t.Context(), group, make([]byte, 8)); !errors.Is(err, replica.ErrUnknownOutcome) {
			t.Errorf("Propose = %v", err)
		}
		if err := e.hosts[f].ReadIndex(t.Context(), group); !errors.Is(err, replica.ErrNotReady) {
			t.Errorf("ReadIndex = %v", err)
		}
	})
}

// Entries are applied while a snapshot is saved (R5), a second one is refused
// meanwhile, and stopping the group stops it.
func TestSaveRunsBesideApply(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 1, 3, nil)
		e.stop(1)
		e.startWith(1, &recorder{saveGate: make(chan struct{})})
		e.propose(1, 1)
		result := make(chan error, 1)
		go func() {
			_, err := e.hosts[1].Snapshot(t.Context(), group)
			result <- err
		}()
		sleep(time.Second)
		e.propose(1, 2)
		if _, err := e.hosts[1].Snapshot(t.Context(), group); !errors.Is(err, replica.ErrBusy) {
			t.Errorf("Snapshot while one is saved = %v", err)
		}
		if err := e.hosts[1].StopGroup(t.Context(), group); err != nil {
			t.Error(err)
		}
		if err := <-result; !errors.Is(err, replica.ErrClosed) {
			t.Errorf("Snapshot of a stopped group = %v", err)
		}
	})
}

// A snapshot that cannot be saved costs nothing else. One that is saved is where the
// next process starts.
func TestSnapshot(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 1, 4, nil)
		e.propose(1, 1)
		e.machines[1].saveErr = errors.New("no space left")
		if _, err := e.hosts[1].Snapshot(t.Context(), group); !errors.Is(err, replica.ErrSnapshotAborted) {
			t.Errorf("Snapshot that cannot be saved = %v", err)
		}
		e.machines[1].saveErr = nil
		e.propose(1, 2)
		index, err := e.hosts[1].Snapshot(t.Context(), group)
		if again, errAgain := e.hosts[1].Snapshot(t.Context(), group); err != nil || errAgain != nil || index < 2 || again != index {
			t.Errorf("Snapshot = %d, %v, then %d, %v", index, err, again, errAgain)
		}
		e.stop(1)
		e.start(1)
		e.propose(1, 3)
		if m := e.machines[1]; m.restores != 1 || len(m.all()) != 3 {
			t.Errorf("after a restart: %d restores, %v", m.restores, m.all())
		}
	})
}

// A long restore does not hold up Close, and StartGroup says that it did not get far.
func TestRestoreIsCutShort(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 1, 5, nil)
		e.propose(1, 1)
		if _, err := e.hosts[1].Snapshot(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		e.stop(1)
		h, err := e.net.Open(memraft.Config{Member: 1, Members: e.members})
		if err != nil {
			t.Fatal(err)
		}
		m := &recorder{onRestore: func(stop <-chan struct{}) error { <-stop; return replica.ErrSnapshotStopped }}
		result := make(chan error, 1)
		go func() { result <- h.StartGroup(group, m, replica.Bootstrap) }()
		sleep(time.Second)
		if err := h.Propose(t.Context(), group, make([]byte, 8)); !errors.Is(err, replica.ErrNotReady) {
			t.Errorf("Propose while restoring = %v", err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if err := <-result; !errors.Is(err, replica.ErrClosed) {
			t.Errorf("StartGroup = %v", err)
		}
	})
}

// A stopped group can be started again, and its old machine is left alone.
func TestStopAndStart(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 6, nil)
		e.propose(1, 1)
		for i := range uint64(5) {
			old := e.machines[1]
			if err := e.hosts[1].StopGroup(t.Context(), group); err != nil {
				t.Fatal(err)
			}
			had := len(old.all())
			e.propose(2, 10+i)
			if len(old.all()) != had {
				t.Fatal("the machine of a stopped group was called")
			}
			e.machines[1] = &recorder{}
			if err := e.hosts[1].StartGroup(group, e.machines[1], replica.Bootstrap); err != nil {
				t.Fatal(err)
			}
			e.propose(1, 20+i)
		}
		e.converge()
	})
}

// What is left of a group that does not run can be removed, and stays away.
func TestRemoveGroup(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 6, nil)
		e.propose(1, 1)
		h := e.hosts[1]
		stored := func(want ...replica.GroupID) {
			t.Helper()
			if got := h.Stored(); !slices.Equal(got, want) {
				t.Fatalf("Stored = %d, want %d", got, want)
			}
		}
		if err := h.RemoveGroup(t.Context(), group); err == nil {
			t.Error("a group that runs was removed")
		}
		stored(group)
		if err := h.StopGroup(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		stored(group)
		if err := h.RemoveGroup(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		stored()
		e.propose(2, 2) // the others go on
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if err := h.RemoveGroup(t.Context(), group); !errors.Is(err, replica.ErrClosed) {
			t.Errorf("RemoveGroup behind Close = %v", err)
		}
	})
}

// OnRole tells every member who leads, and is silent when Close has returned. Close
// may be called by anybody at any time.
func TestOnRoleAndClose(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		var mu sync.Mutex
		last, closed := map[replica.MemberID]replica.Role{}, map[replica.MemberID]bool{}
		e := newEnsemble(t, 3, 7, func(c *memraft.Config) {
			id := c.Member
			c.OnRole = func(_ replica.GroupID, r replica.Role) {
				mu.Lock()
				defer mu.Unlock()
				if closed[id] {
					t.Errorf("member %d was told of %v after Close", id, r)
				}
				last[id] = r
			}
		})
		e.propose(1, 1)
		e.eventually("all to agree on the leader", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return last[1].Leader != 0 && last[1] == last[2] && last[2] == last[3]
		})
		for _, id := range e.members {
			h := e.hosts[id]
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := h.Close(); err != nil {
						t.Errorf("Close = %v", err)
					}
				})
			}
			wg.Wait()
			mu.Lock()
			closed[id] = true
			mu.Unlock()
			if err := h.StartGroup(2, &recorder{}, replica.Bootstrap); !errors.Is(err, replica.ErrClosed) {
				t.Errorf("StartGroup after Close = %v", err)
			}
		}
	})
}
