package memraft_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"coord/internal/bubble"
	"coord/internal/invariants"
	"coord/internal/memraft"
	"coord/internal/replica"
)

func sleep(d time.Duration) { time.Sleep(d) }

// An election takes one to two timeouts, and a leader that is cut off believes to
// lead for at most two.
func TestElections(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 1, nil)
		e.net.SetWeather(memraft.Weather{MinDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond})
		old := e.leader(e.members...)
		e.propose(old, 1)
		cut := time.Now()
		e.net.Isolate(old)
		if e.hosts[old].Role(group).Leader != old {
			t.Error("the leader knew at once that it was cut off")
		}
		next := e.leader(e.others(old)...)
		if d := time.Since(cut); d < 900*time.Millisecond || d > 5*time.Second {
			t.Errorf("the next leader was elected after %v", d)
		}
		e.eventually("the old leader to notice", func() bool { return e.hosts[old].Role(group).Leader == 0 })
		if d := time.Since(cut); d > 5*time.Second/2 {
			t.Errorf("the old leader led for %v", d)
		}
		e.propose(next, 2)
		time.Sleep(time.Minute)
		before := e.hosts[next].Role(group)
		e.net.Heal()
		e.propose(old, 3)
		if after := e.hosts[next].Role(group); after != before {
			t.Errorf("a member that came back deposed the leader: %+v, then %+v", before, after)
		}
		e.converge()
	})
}

// What a cut off leader was given is refused, unknown, or there, as it said.
func TestOutcomes(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 2, nil)
		l := e.leader(e.members...)
		e.propose(l, 1)
		e.net.Isolate(l)
		err := e.try(l, 2, 100*time.Millisecond)
		if !errors.Is(err, replica.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Propose on a cut off leader = %v", err)
		}
		e.propose(e.leader(e.others(l)...), 3)
		e.eventually("a refusal", func() bool { return errors.Is(e.try(l, 4, time.Second), replica.ErrNotReady) })
		if err := e.hosts[l].ReadIndex(t.Context(), group); !errors.Is(err, replica.ErrNotReady) {
			t.Errorf("ReadIndex without a leader = %v", err)
		}
		e.net.Heal()
		e.propose(l, 5)
		e.converge()
		if m := e.machines[l]; m.has(2) || m.has(4) || !m.has(3) {
			t.Errorf("the log is %v", m.all())
		}
	})
}

// Who waits when the group stops is told, and only proposals leave something open.
func TestStoppedGroup(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 3, nil)
		l := e.leader(e.members...)
		e.propose(l, 1)
		e.net.Isolate(l)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := e.try(l, 2, time.Minute); !errors.Is(err, replica.ErrUnknownOutcome) {
				t.Errorf("Propose during StopGroup = %v", err)
			}
		})
		wg.Go(func() {
			if err := e.hosts[l].ReadIndex(t.Context(), group); !errors.Is(err, replica.ErrClosed) {
				t.Errorf("ReadIndex during StopGroup = %v", err)
			}
		})
		time.Sleep(10 * time.Millisecond)
		if err := e.hosts[l].StopGroup(t.Context(), group); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := e.try(l, 3, time.Second); !errors.Is(err, replica.ErrNoGroup) {
			t.Errorf("Propose to a stopped group = %v", err)
		}
		if r := e.hosts[l].Role(group); r != (replica.Role{}) {
			t.Errorf("Role of a stopped group = %v", r)
		}
		if err := e.hosts[l].Close(); err != nil {
			t.Error(err)
		}
		if err := e.try(l, 3, time.Second); !errors.Is(err, replica.ErrClosed) {
			t.Errorf("Propose to a closed host = %v", err)
		}
	})
}

// A proposal that is under way outlives its proposer.
func TestLateProposal(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 4, nil)
		l := e.leader(e.members...)
		f := e.others(l)[0]
		e.propose(f, 1)
		e.net.SetWeather(memraft.Weather{Stall: 1, MaxStall: 20 * time.Second})
		if err := e.try(f, 2, time.Millisecond); !errors.Is(err, replica.ErrUnknownOutcome) {
			t.Errorf("Propose = %v", err)
		}
		e.stop(f)
		e.start(f)
		e.eventually("the proposal of the process before", func() bool { return e.machines[f].has(2) })
		// An answer that is lost says nothing of what became of it.
		e.net.SetWeather(memraft.Weather{Deaf: 1})
		if err := e.try(l, 3, time.Second); !errors.Is(err, replica.ErrUnknownOutcome) {
			t.Errorf("Propose = %v", err)
		}
		if !e.machines[l].has(3) {
			t.Error("it was not applied")
		}
	})
}

// A member that was away for longer than the log reaches back installs a snapshot.
func TestInstall(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 5, func(c *memraft.Config) { c.SnapshotEntries, c.CompactionOverhead = 20, 5 })
		l := e.leader(e.members...)
		away := e.others(l)[0]
		e.propose(away, 1)
		e.net.Isolate(away)
		for i := range 100 {
			e.propose(l, uint64(i+2))
		}
		e.net.Heal()
		e.propose(away, 1000)
		e.converge()
		if e.machines[away].restores == 0 {
			t.Error("it caught up without a snapshot")
		}
		want := e.machines[l].all()
		e.stop(away)
		e.start(away)
		if err := e.hosts[away].ReadIndex(t.Context(), group); err == nil && len(e.machines[away].all()) != len(want) {
			t.Error("R4: a read after a restart sees less")
		}
		e.propose(l, 1001)
		e.converge()
	})
}

// A paused member does nothing, and is given everything at once when it goes on. A
// paused leader still believes to lead then.
func TestPause(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 6, nil)
		l := e.leader(e.members...)
		e.propose(l, 1)
		e.net.Pause(l)
		next := e.leader(e.others(l)...)
		e.propose(next, 2)
		if e.machines[l].has(2) || e.hosts[l].Role(group).Leader != l {
			t.Error("a paused member went on")
		}
		e.net.Resume(l)
		e.propose(l, 3)
		e.converge()
	})
}

func TestTransfer(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 5, 7, nil)
		l := e.leader(e.members...)
		to := e.others(l)[2]
		e.propose(l, 1)
		start := time.Now()
		// Also a follower may ask for it.
		if err := e.hosts[to].TransferLeadership(t.Context(), group, to); err != nil {
			t.Fatal(err)
		}
		e.leader(to)
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		e.propose(l, 2)
	})
}

// TestGuarantees checks R1 to R6 under everything at once.
func TestGuarantees(t *testing.T) {
	seeds := uint64(6)
	if invariants.Enabled { // the race detector takes its time
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) { stormy(t, seed) })
		})
	}
}

// A ledger holds what proposers were told.
type ledger struct {
	mu      sync.Mutex
	next    uint64
	acked   map[uint64]bool
	refused map[uint64]bool
}

func stormy(t *testing.T, seed uint64) {
	t.Helper()
	n := 3 + 2*int(seed%2)
	e := newEnsemble(t, n, seed, func(c *memraft.Config) { c.SnapshotEntries, c.CompactionOverhead = 50, 20 })
	l := &ledger{acked: map[uint64]bool{}, refused: map[uint64]bool{}}
	rng := rand.New(rand.NewPCG(seed, 99))
	for range 60 {
		e.net.SetWeather(memraft.Weather{
			Loss: rng.Float64() * 0.2, MaxDelay: time.Duration(rng.Int64N(int64(300 * time.Millisecond))), Reorder: rng.IntN(2) == 0,
			Stall: 0.02, MaxStall: 10 * time.Second, Deaf: 0.02, Refuse: 0.05,
		})
		victim := e.members[rng.IntN(n)]
		e.net.SetApplyLag(victim, time.Duration(rng.Int64N(int64(time.Second))))
		switch rng.IntN(6) {
		case 0:
			e.net.Isolate(victim)
		case 1:
			e.net.Cut(victim, e.members[rng.IntN(n)])
		case 2:
			e.net.Pause(victim)
		case 3:
			e.stop(victim)
		case 4:
			_ = e.hosts[victim].TransferLeadership(t.Context(), group, victim)
		case 5:
			_, _ = e.hosts[victim].Snapshot(t.Context(), group)
		}
		var wg sync.WaitGroup
		for id, h := range e.hosts {
			for range 3 {
				dice := rand.New(rand.NewPCG(seed, rng.Uint64()))
				wg.Go(func() { l.work(t, h, e.machines[id], dice) })
			}
		}
		wg.Wait()
		e.net.Heal()
		for _, id := range e.members {
			e.net.Resume(id)
			if e.hosts[id] == nil {
				e.start(id)
			}
		}
	}
	e.net.SetWeather(memraft.Weather{})
	time.Sleep(time.Minute)
	l.next++
	e.propose(e.members[0], l.next)
	e.converge()
	l.check(t, e.machines[e.members[0]], 100)
	t.Logf("%d proposals, %d acknowledged, %d refused, %+v", l.next, len(l.acked), len(l.refused), e.net.Stats())
}

// work proposes and reads for a while.
func (l *ledger) work(t *testing.T, h *memraft.Host, m *recorder, dice *rand.Rand) {
	for range 10 {
		l.mu.Lock()
		before := len(l.acked)
		l.next++
		cmd := l.next
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(dice.Int64N(int64(2*time.Second))))
		if dice.IntN(3) == 0 {
			if h.ReadIndex(ctx, group) == nil && len(m.all()) < before {
				t.Errorf("R4: %d commands after a read, %d were acknowledged before", len(m.all()), before)
			}
			cancel()
			continue
		}
		err := h.Propose(ctx, group, binary.BigEndian.AppendUint64(nil, cmd))
		cancel()
		l.mu.Lock()
		switch {
		case err == nil:
			l.acked[cmd] = true
			if !m.has(cmd) {
				t.Errorf("R2: command %d was acknowledged before it was applied", cmd)
			}
		case !errors.Is(err, replica.ErrUnknownOutcome):
			l.refused[cmd] = true
		}
		l.mu.Unlock()
		time.Sleep(time.Duration(dice.Int64N(int64(100 * time.Millisecond))))
	}
}

// check compares what was told with the log, which is equal on all members. At least so
// many proposals must have been acknowledged for that to mean something.
func (l *ledger) check(t *testing.T, m *recorder, least int) {
	t.Helper()
	times := map[uint64]int{}
	for _, r := range m.all() {
		times[r.Cmd]++
	}
	for cmd := range l.acked {
		if times[cmd] == 0 {
			t.Errorf("command %d was acknowledged and is lost", cmd)
		}
	}
	for cmd, n := range times {
		if n > 1 && cmd != l.next { // the last one was proposed until it was answered
			t.Errorf("R6: command %d was applied %d times", cmd, n)
		}
		if l.refused[cmd] {
			t.Errorf("R3: command %d was refused and applied", cmd)
		}
	}
	if len(l.acked) < least {
		t.Errorf("only %d proposals were acknowledged", len(l.acked))
	}
}
