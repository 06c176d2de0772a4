package raftnode_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"coord/internal/bubble"
	"coord/internal/raftnode"
	"coord/internal/replica"
)

// Refusals are definite: they never carry ErrUnknownOutcome, and nothing of
// what was refused is ever applied (R3).
func TestRefusalsAreDefinite(t *testing.T) {
	e := open(t, inMemory(3, func(_ int, c *raftnode.Config) { c.MaxInMemLogBytes = 64 << 10 }))
	h := e.hosts[0]
	ctx := t.Context()
	refused := func(what string, err, want error) {
		t.Helper()
		wantErr(t, what, err, want)
		if errors.Is(err, replica.ErrUnknownOutcome) {
			t.Errorf("%s = %v, which leaves the outcome open", what, err)
		}
	}
	refused("Propose to no group", h.Propose(ctx, 1, []byte("refused")), replica.ErrNoGroup)
	refused("ReadIndex of no group", h.ReadIndex(ctx, 1), replica.ErrNoGroup)
	refused("TransferLeadership of no group", h.TransferLeadership(ctx, 1, 2), replica.ErrNoGroup)
	_, err := h.Snapshot(ctx, 1)
	refused("Snapshot of no group", err, replica.ErrNoGroup)

	e.start(0, 1) // alone, it has no leader
	refused("Propose without a leader", h.Propose(ctx, 1, []byte("refused")), replica.ErrNotReady)
	refused("ReadIndex without a leader", h.ReadIndex(ctx, 1), replica.ErrNotReady)
	done, cancel := context.WithCancelCause(ctx)
	cause := errors.New("the caller's own")
	cancel(cause)
	refused("Propose with an ended context", h.Propose(done, 1, []byte("refused")), cause)
	refused("ReadIndex with an ended context", h.ReadIndex(done, 1), cause)

	e.start(1, 1)
	e.start(2, 1)
	e.propose(0, 1, "x")
	refused("Propose of more than the log takes", h.Propose(ctx, 1, make([]byte, 65<<10)), replica.ErrTooLarge)
	e.read(0, 1)
	e.converge(1)
	if n := e.machines[1][0].count(); n != 1 {
		t.Errorf("%d commands applied, want 1: a refused one is among them", n)
	}
}

// What is cut short has an unknown outcome, and the cause is kept.
func TestUnknownOutcome(t *testing.T) {
	cfgs := inMemory(3)
	e := open(t, cfgs, 1)
	l := e.leader(1)
	e.propose(l, 1, "x")
	cfgs[0].Net.Isolate(cfgs[l].Addr)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := e.hosts[l].Propose(ctx, 1, []byte("y"))
	wantErr(t, "Propose on a cut off leader", err, replica.ErrUnknownOutcome)
	wantErr(t, "Propose on a cut off leader", err, context.DeadlineExceeded)

	// While nobody hears the leader, it steps down, and then refuses.
	e.eventually("the cut off leader to notice", func() bool { return e.hosts[l].Role(1).Leader == 0 })
	err = e.hosts[l].Propose(t.Context(), 1, []byte("z"))
	wantErr(t, "Propose on a leader that has stepped down", err, replica.ErrNotReady)
	cfgs[0].Net.Heal()
	e.propose(l, 1, "x")
	e.converge(1)
}

// A context may have less than a tick left, or no deadline at all.
func TestShortAndMissingDeadlines(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		cfgs := inMemory(3, production)
		e := open(t, cfgs, 1)
		l := e.leader(1)
		e.propose(l, 1, "x")
		if err := e.hosts[l].Propose(t.Context(), 1, []byte("y")); err != nil {
			t.Errorf("Propose without a deadline = %v", err)
		}
		if err := e.hosts[l].ReadIndex(t.Context(), 1); err != nil {
			t.Errorf("ReadIndex without a deadline = %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		// Nothing takes time here but waiting, so a millisecond is plenty.
		if err := e.hosts[l].Propose(ctx, 1, []byte("z")); err != nil {
			t.Errorf("Propose with a millisecond left = %v", err)
		}
		if err := e.hosts[l].ReadIndex(ctx, 1); err != nil {
			t.Errorf("ReadIndex with a millisecond left = %v", err)
		}
		if _, err := e.hosts[l].Snapshot(ctx, 1); err != nil {
			t.Errorf("Snapshot with a millisecond left = %v", err)
		}

		// Forwarded to a leader that does not hear it, a proposal is lost
		// without a sign. It must not wait for ever.
		follower := (l + 1) % 3
		cfgs[0].Net.CutOneWay(cfgs[follower].Addr, cfgs[l].Addr)
		start := time.Now()
		err := e.hosts[follower].Propose(t.Context(), 1, []byte("lost"))
		wantErr(t, "Propose that is lost", err, replica.ErrUnknownOutcome)
		t.Logf("%v after %v", err, time.Since(start))
		err = e.hosts[follower].ReadIndex(t.Context(), 1)
		wantErr(t, "ReadIndex that is lost", err, replica.ErrNotReady)
		e.close()
	})
}

// A canceled call ends at once and keeps the caller's cause.
func TestCanceledProposal(t *testing.T) {
	cfgs := inMemory(3)
	e := open(t, cfgs, 1)
	l := e.leader(1)
	e.propose(l, 1, "x")
	// The leader can reach nobody but hears them: it does not step down soon.
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the caller's own")
	for i := range 3 {
		if i != l {
			cfgs[0].Net.CutOneWay(cfgs[l].Addr, cfgs[i].Addr)
		}
	}
	result := make(chan error, 1)
	go func() { result <- e.hosts[l].Propose(ctx, 1, []byte("y")) }()
	cancel(cause)
	err := <-result
	wantErr(t, "Propose", err, cause)
	cfgs[0].Net.Heal()
}

// A log that cannot be written out is back-pressure, not memory.
func TestBusyLog(t *testing.T) {
	cfgs := inMemory(3, func(_ int, c *raftnode.Config) {
		c.MaxInMemLogBytes = 64 << 10
		c.ElectionTicks = 100 // the cut off leader goes on for half a second
	})
	e := open(t, cfgs, 1)
	l := e.leader(1)
	e.propose(l, 1, "x")
	cfgs[0].Net.Isolate(cfgs[l].Addr)
	e.eventually("a busy log", func() bool {
		var wg sync.WaitGroup
		var mu sync.Mutex
		busy := false
		for range 8 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				if errors.Is(e.hosts[l].Propose(ctx, 1, make([]byte, 16<<10)), replica.ErrBusy) {
					mu.Lock()
					defer mu.Unlock()
					busy = true
				}
			})
		}
		wg.Wait()
		return busy
	})
}

// Proposals and reads that wait when their group is stopped end, and only the
// proposals leave something open.
func TestStopGroupEndsWaiters(t *testing.T) {
	cfgs := inMemory(3, func(_ int, c *raftnode.Config) { c.ElectionTicks = 100 })
	e := open(t, cfgs, 1)
	l := e.leader(1)
	e.propose(l, 1, "x")
	cfgs[0].Net.Isolate(cfgs[l].Addr)
	const callers = 16
	var wg sync.WaitGroup
	started := make(chan struct{}, 2*callers) // one token for each caller
	for range callers {
		wg.Go(func() {
			started <- struct{}{}
			err := e.hosts[l].Propose(t.Context(), 1, []byte("y"))
			if !errors.Is(err, replica.ErrUnknownOutcome) && !errors.Is(err, replica.ErrClosed) && !errors.Is(err, replica.ErrNoGroup) {
				t.Errorf("Propose during StopGroup = %v", err)
			}
		})
		wg.Go(func() {
			started <- struct{}{}
			err := e.hosts[l].ReadIndex(t.Context(), 1)
			if !errors.Is(err, replica.ErrClosed) && !errors.Is(err, replica.ErrNoGroup) || errors.Is(err, replica.ErrUnknownOutcome) {
				t.Errorf("ReadIndex during StopGroup = %v", err)
			}
		})
	}
	for range 2 * callers {
		<-started
	}
	stopGroup(t, e.hosts[l], 1)
	wg.Wait()
}

// Leadership goes where it is asked to go, once the log is quiet.
func TestTransferLeadership(t *testing.T) {
	e := open(t, inMemory(3), 1)
	l := e.leader(1)
	e.propose(l, 1, "x")
	e.converge(1)
	to := (l + 1) % 3
	e.eventually("the new leader", func() bool {
		if e.hosts[to].Role(1).Leader == replica.MemberID(to+1) {
			return true
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := e.hosts[l].TransferLeadership(ctx, 1, replica.MemberID(to+1))
		if err != nil && !errors.Is(err, replica.ErrBusy) && !errors.Is(err, replica.ErrNotReady) {
			t.Fatalf("TransferLeadership = %v", err)
		}
		return false
	})
	if err := e.hosts[l].TransferLeadership(t.Context(), 1, 0); err == nil {
		t.Error("TransferLeadership to nobody succeeded")
	}
}

// A member that comes back at another address, on its old directory, is found
// once its peers are told.
func TestAddressChange(t *testing.T) {
	cfgs := inMemory(3)
	e := open(t, cfgs, 1)
	moved := (e.leader(1) + 1) % 3
	e.propose(moved, 1, "x")
	e.closeHost(moved)
	e.cfgs[moved].Addr = "elsewhere"
	e.openHost(moved)
	for i, h := range e.hosts {
		if err := h.SetMembers(e.addrs()); err != nil {
			t.Errorf("SetMembers on member %d: %v", i+1, err)
		}
	}
	e.start(moved, 1)
	e.propose(moved, 1, "y")
	e.read(moved, 1)
	e.converge(1)
	if err := e.hosts[0].SetMembers(map[replica.MemberID]string{0: "n0"}); err == nil {
		t.Error("SetMembers with member 0 succeeded")
	}
	if err := e.hosts[0].SetMembers(map[replica.MemberID]string{1: ""}); err == nil {
		t.Error("SetMembers with one nowhere succeeded")
	}
}

// OnRole tells every member who leads, and is silent when Close has returned.
func TestOnRole(t *testing.T) {
	var mu sync.Mutex
	last := make(map[int]replica.Role)
	closed := make(map[int]bool)
	cfgs := inMemory(3, func(i int, c *raftnode.Config) {
		c.OnRole = func(g replica.GroupID, r replica.Role) {
			mu.Lock()
			defer mu.Unlock()
			if closed[i] {
				t.Errorf("OnRole(%d, %v) on member %d after Close", g, r, i+1)
			}
			last[i] = r
		}
	})
	e := open(t, cfgs, 1)
	e.propose(0, 1, "x")
	e.eventually("all to agree on the leader", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return last[0].Leader != 0 && last[0] == last[1] && last[1] == last[2]
	})
	for i := range e.hosts {
		e.closeHost(i)
		mu.Lock()
		closed[i] = true
		mu.Unlock()
	}
}
