package memraft_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord/internal/bubble"
	"coord/internal/invariants"
	"coord/internal/memraft"
	"coord/internal/replica"
)

// newcomer starts a member that joins.
func (e *ensemble) newcomer() replica.MemberID {
	e.t.Helper()
	id := replica.MemberID(len(e.members) + 1)
	e.members = append(e.members, id)
	e.start(id)
	return id
}

// membership asks a member until it answers.
func (e *ensemble) membership(id replica.MemberID) replica.Membership {
	e.t.Helper()
	var m replica.Membership
	e.eventually("a membership", func() bool {
		ctx, cancel := context.WithTimeout(e.t.Context(), time.Second)
		defer cancel()
		var err error
		m, err = e.hosts[id].Membership(ctx, group)
		return err == nil
	})
	return m
}

// change has whoever leads give a member a standing, however often it takes. More than
// one may believe to lead.
func (e *ensemble) change(id replica.MemberID, to replica.Standing) {
	e.t.Helper()
	e.eventually(fmt.Sprintf("member %d to be %v", id, to), func() bool {
		return slices.ContainsFunc(e.members, func(by replica.MemberID) bool {
			h := e.hosts[by]
			return h != nil && h.Role(group).Leader == by && e.tryChange(h, id, to)
		})
	})
}

func (e *ensemble) tryChange(by *memraft.Host, id replica.MemberID, to replica.Standing) bool {
	ctx, cancel := context.WithTimeout(e.t.Context(), 2*time.Second)
	defer cancel()
	now, err := by.Membership(ctx, group)
	if err != nil {
		return false
	}
	if now.Members[id] == to && now.Removed[id] == (to == replica.Gone) {
		return true
	}
	err = by.ChangeMember(ctx, group, now.Change, id, to)
	return err == nil && to != replica.Gone // who has removed itself cannot be asked
}

func wantMembers(t *testing.T, m replica.Membership, want map[replica.MemberID]replica.Standing, removed ...replica.MemberID) {
	t.Helper()
	gone := slices.Sorted(maps.Keys(m.Removed))
	if !maps.Equal(m.Members, want) || !slices.Equal(gone, removed) {
		t.Errorf("membership = %v without %v, want %v without %v", m.Members, gone, want, removed)
	}
}

// One that learns is sent everything and does not count; when it votes, it does.
func TestJoin(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 1, 11, func(c *memraft.Config) { c.SnapshotEntries, c.CompactionOverhead = 20, 2 })
		for i := range 100 {
			e.propose(1, uint64(i))
		}
		id := e.newcomer()
		if err := e.try(id, 200, time.Second); !errors.Is(err, replica.ErrNotReady) {
			t.Errorf("Propose before it was added = %v", err)
		}
		e.change(id, replica.Learning)
		e.propose(id, 201)
		e.converge()
		if e.machines[id].restores == 0 {
			t.Error("it was sent no snapshot")
		}
		e.stop(id)
		e.propose(1, 202)
		e.start(id)
		e.converge()
		wantMembers(t, e.membership(id), map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Learning})

		e.change(id, replica.Voting)
		e.net.Isolate(id)
		if err := e.try(1, 203, 20*time.Second); err == nil {
			t.Error("one of two was a quorum")
		}
		e.net.Heal()
		e.propose(1, 204)
		e.stop(id)
		e.start(id)
		e.eventually("the newcomer to lead", func() bool {
			_ = e.hosts[id].TransferLeadership(t.Context(), group, id)
			return e.hosts[id].Role(group).Leader == id
		})
		e.propose(1, 205)
		e.converge()
		wantMembers(t, e.membership(1), map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Voting})
	})
}

// A leader that is removed stops, is told once, and does not come back. One that was away
// never hears of it, and disturbs nobody.
func TestRemove(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		var mu sync.Mutex
		told := map[replica.MemberID]int{}
		e := newEnsemble(t, 4, 12, nil)
		e.close()
		e.tweak = func(c *memraft.Config) {
			c.OnRemoved = func(g replica.GroupID) {
				mu.Lock()
				defer mu.Unlock()
				told[c.Member] += int(g)
			}
		}
		for _, id := range e.members {
			e.start(id)
		}
		first := e.leader(e.members...)
		e.propose(first, 1)
		e.change(first, replica.Gone)
		e.eventually("the removed leader to be told", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return told[first] == 1
		})
		if err := e.try(first, 2, time.Second); !errors.Is(err, replica.ErrNoGroup) {
			t.Errorf("Propose on the removed member = %v", err)
		}
		for range 2 {
			err := e.hosts[first].StartGroup(group, &recorder{}, replica.Bootstrap)
			if !errors.Is(err, replica.ErrRemoved) || !strings.Contains(err.Error(), fmt.Sprint(first)) {
				t.Errorf("StartGroup of a removed member = %v", err)
			}
			e.stop(first)
			h, err := e.net.Open(memraft.Config{Member: first, Members: e.first})
			if err != nil {
				t.Fatal(err)
			}
			e.hosts[first] = h
		}
		e.stop(first)

		rest := e.others(first)
		second := e.leader(rest...)
		away := slices.DeleteFunc(slices.Clone(rest), func(id replica.MemberID) bool { return id == second })[0]
		e.net.Isolate(away)
		e.change(away, replica.Gone)
		e.propose(second, 3)
		before := e.hosts[second].Role(group)
		e.net.Heal()
		time.Sleep(time.Minute)
		if after := e.hosts[second].Role(group); after != before {
			t.Errorf("Role = %+v after a removed member came back, want %+v", after, before)
		}
		if e.machines[away].has(3) || e.try(away, 4, time.Second) == nil {
			t.Error("a removed member is still part of the group")
		}
		e.propose(second, 5)
		now := e.membership(second)
		if len(now.Members) != 2 || !now.Removed[first] || !now.Removed[away] {
			t.Errorf("membership = %+v, want two members left of 4", now)
		}
	})
}

// What is not possible is refused, and of two changes at a time at most one is made.
func TestChanges(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 13, nil)
		l := e.leader(e.members...)
		e.propose(l, 1)
		now := e.membership(l)
		try := func(id replica.MemberID, to replica.Standing, want string) {
			t.Helper()
			err := e.hosts[l].ChangeMember(t.Context(), group, now.Change, id, to)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("ChangeMember(%d, %v) = %v, want an error that says %q", id, to, err, want)
			}
		}
		try(4, replica.Voting, "cannot go from gone to voting")
		try(1, replica.Learning, "cannot go from voting to learning")
		try(0, replica.Learning, "no member 0")
		if err := e.hosts[l].ChangeMember(t.Context(), group, now.Change+1, 4, replica.Learning); !errors.Is(err, replica.ErrMembershipChanged) {
			t.Errorf("ChangeMember of another membership = %v", err)
		}

		e.net.SetWeather(memraft.Weather{MinDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond})
		for round := range 20 {
			now := e.membership(e.leader(e.members...))
			var wg sync.WaitGroup
			errs := make([]error, 3)
			ids := make([]replica.MemberID, 3)
			for k := range ids {
				ids[k] = replica.MemberID(100 + 10*round + k)
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					errs[k] = e.hosts[e.members[k]].ChangeMember(ctx, group, now.Change, ids[k], replica.Learning)
				})
			}
			wg.Wait()
			after := e.membership(e.leader(e.members...))
			if n := len(after.Members) - len(now.Members); n > 1 {
				t.Fatalf("%d changes were made to the same membership", n)
			}
			for k, err := range errs {
				made := after.Members[ids[k]] == replica.Learning
				if err == nil && !made || made && err != nil && !errors.Is(err, replica.ErrUnknownOutcome) {
					t.Errorf("ChangeMember = %v, made: %t", err, made)
				}
			}
		}

		e.net.SetWeather(memraft.Weather{})
		e.change(e.others(l)[0], replica.Gone)
		e.change(e.others(l)[1], replica.Gone)
		now = e.membership(l)
		try(l, replica.Gone, "the last that votes")
	})
}

// Members that a host was not told of are neither heard nor spoken to.
func TestSetMembers(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 14, nil)
		e.propose(3, 1)
		for _, id := range []replica.MemberID{1, 2} {
			if err := e.hosts[id].SetMembers(map[replica.MemberID]string{1: "a", 2: "b"}); err != nil {
				t.Fatal(err)
			}
		}
		e.eventually("member 3 to be alone", func() bool { return e.hosts[3].Role(group).Leader == 0 })
		if err := e.try(3, 2, 10*time.Second); err == nil {
			t.Error("a member that is not known had something applied")
		}
		e.propose(1, 3)
		for _, id := range []replica.MemberID{1, 2} {
			if err := e.hosts[id].SetMembers(map[replica.MemberID]string{1: "a", 2: "b", 3: "c"}); err != nil {
				t.Fatal(err)
			}
		}
		e.propose(3, 4)
		e.converge()
		if err := e.hosts[1].SetMembers(map[replica.MemberID]string{0: "z"}); err == nil {
			t.Error("SetMembers with member 0 succeeded")
		}
	})
}

// TestGuaranteesAmongChangingMembers checks R1 to R8 while members come and go under
// everything at once, until none of the first is left.
func TestGuaranteesAmongChangingMembers(t *testing.T) {
	seeds := uint64(6)
	if invariants.Enabled {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) { migration(t, seed) })
		})
	}
}

func migration(t *testing.T, seed uint64) {
	t.Helper()
	e := newEnsemble(t, 3, seed, func(c *memraft.Config) { c.SnapshotEntries, c.CompactionOverhead = 50, 20 })
	l := &ledger{acked: map[uint64]bool{}, refused: map[uint64]bool{}}
	rng := rand.New(rand.NewPCG(seed, 77))
	voters := slices.Clone(e.members)
	for range 9 {
		id := e.newcomer()
		old := voters[0]
		e.net.SetWeather(memraft.Weather{
			Loss: rng.Float64() * 0.2, MaxDelay: time.Duration(rng.Int64N(int64(200 * time.Millisecond))), Reorder: rng.IntN(2) == 0,
			Deaf: 0.02, Refuse: 0.05,
		})
		victim := voters[rng.IntN(len(voters))]
		switch rng.IntN(4) {
		case 0:
			e.net.Isolate(victim)
		case 1:
			e.net.Pause(victim)
		case 2:
			e.stop(victim)
		case 3:
			e.net.SetApplyLag(victim, time.Second)
		}
		var wg sync.WaitGroup
		for _, worker := range voters {
			h := e.hosts[worker]
			if h == nil {
				continue
			}
			for range 4 {
				dice := rand.New(rand.NewPCG(seed, rng.Uint64()))
				wg.Go(func() { l.work(t, h, e.machines[worker], dice) })
			}
		}
		e.change(id, replica.Learning)
		e.change(id, replica.Voting)
		e.change(old, replica.Gone)
		wg.Wait()
		e.net.Heal()
		for _, m := range voters {
			e.net.Resume(m)
		}
		e.stop(old)
		voters = append(voters[1:], id)
		for _, m := range voters {
			if e.hosts[m] == nil {
				e.start(m)
			}
		}
	}
	e.net.SetWeather(memraft.Weather{})
	e.members = voters
	time.Sleep(time.Minute)
	want := map[replica.MemberID]replica.Standing{}
	for _, id := range voters {
		want[id] = replica.Voting
	}
	now := e.membership(voters[0])
	if !maps.Equal(now.Members, want) || len(now.Removed) != 9 {
		t.Errorf("membership = %v, want %v, and 9 removed", now, want)
	}
	l.next++
	e.propose(voters[0], l.next)
	e.converge()
	l.check(t, e.machines[voters[0]], 30)
}

// A group starts with other members than the ensemble did if it is told so.
func TestVotersOfGroup(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := newEnsemble(t, 3, 15, nil)
		for _, id := range []replica.MemberID{1, 2} {
			if err := e.hosts[id].StartGroup(2, &recorder{}, replica.First{Voters: []replica.MemberID{1, 2}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, voters := range [][]replica.MemberID{{1, 2}, {3, 0}} {
			if err := e.hosts[3].StartGroup(2, &recorder{}, replica.First{Voters: voters}); err == nil || !strings.Contains(err.Error(), "member 3") {
				t.Errorf("StartGroup with the voters %d on member 3 = %v", voters, err)
			}
		}
		var m replica.Membership
		e.eventually("the members of the group", func() bool {
			var err error
			m, err = e.hosts[1].Membership(t.Context(), 2)
			return err == nil
		})
		wantMembers(t, m, map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Voting})
	})
}
