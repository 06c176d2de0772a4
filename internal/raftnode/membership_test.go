package raftnode_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lni/vfs"

	"coord/internal/bubble"
	"coord/internal/raftnode"
	"coord/internal/replica"
)

// newcomer opens one more member of e, which knows where all are, and starts group 1
// on it. The others hear of it, too.
func (e *ensemble) newcomer(opts ...option) int {
	e.tb.Helper()
	i := len(e.cfgs)
	c := e.cfgs[0]
	c.Member = replica.MemberID(i + 1)
	c.Members = nil
	if c.Net != nil {
		c.FS, c.Addr = vfs.NewMem(), fmt.Sprintf("n%d", i+1)
	} else {
		c.Dir, c.Addr = filepath.Join(e.tb.TempDir(), "new"), freePorts(e.tb, 1)[0]
	}
	c.Directory = fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1)
	for _, o := range opts {
		o(i, &c)
	}
	e.settle(c)
	e.start(i, 1)
	return i
}

// settle opens a host that joins e and starts nothing.
func (e *ensemble) settle(c raftnode.Config) {
	e.tb.Helper()
	e.cfgs, e.hosts = append(e.cfgs, c), append(e.hosts, nil)
	for g := range e.machines {
		e.machines[g] = append(e.machines[g], nil)
	}
	e.openHost(len(e.cfgs) - 1)
	e.introduce()
}

// introduce tells every member where all are.
func (e *ensemble) introduce() {
	e.tb.Helper()
	for i, h := range e.hosts {
		if h == nil {
			continue
		}
		if err := h.SetMembers(e.addrs()); err != nil {
			e.tb.Fatalf("SetMembers on member %d: %v", i+1, err)
		}
	}
}

// membership asks member i who is part of group 1, until it answers.
func (e *ensemble) membership(i int) replica.Membership {
	e.tb.Helper()
	var m replica.Membership
	e.eventually("a membership", func() bool {
		var err error
		m, err = e.askMembership(i)
		return err == nil
	})
	return m
}

func (e *ensemble) askMembership(i int) (replica.Membership, error) {
	ctx, cancel := context.WithTimeout(e.tb.Context(), time.Second)
	defer cancel()
	return e.hosts[i].Membership(ctx, 1)
}

// change gives a member a standing in group 1, however often it takes. It has the
// leader do it, as the user of a host would.
func (e *ensemble) change(id replica.MemberID, to replica.Standing) {
	e.tb.Helper()
	e.eventually(fmt.Sprintf("member %d to be %v", id, to), func() bool {
		at := e.leader(1)
		now, err := e.askMembership(at)
		if err != nil {
			return false
		}
		if now.Members[id] == to && now.Removed[id] == (to == replica.Gone) {
			return true
		}
		ctx, cancel := context.WithTimeout(e.tb.Context(), time.Second)
		defer cancel()
		err = e.hosts[at].ChangeMember(ctx, 1, now.Change, id, to)
		switch {
		case err == nil:
		case errors.Is(err, replica.ErrUnknownOutcome), errors.Is(err, replica.ErrNotReady),
			errors.Is(err, replica.ErrMembershipChanged), errors.Is(err, replica.ErrNoGroup), errors.Is(err, replica.ErrClosed):
		default:
			e.tb.Fatalf("ChangeMember(%d, %v): %v", id, to, err)
		}
		return false
	})
}

// admit makes member i, a newcomer, one that votes.
func (e *ensemble) admit(i int) {
	e.tb.Helper()
	e.change(replica.MemberID(i+1), replica.Learning)
	e.read(i, 1)
	e.change(replica.MemberID(i+1), replica.Voting)
}

func wantMembers(tb testing.TB, m replica.Membership, want map[replica.MemberID]replica.Standing, removed ...replica.MemberID) {
	tb.Helper()
	gone := make(map[replica.MemberID]bool)
	for _, id := range removed {
		gone[id] = true
	}
	if !maps.Equal(m.Members, want) || !maps.Equal(m.Removed, gone) {
		tb.Errorf("membership = %v without %v, want %v without %v", m.Members, m.Removed, want, gone)
	}
}

// places are where an ensemble can live.
func places(t *testing.T, test func(t *testing.T, cfgs func(n int, opts ...option) []raftnode.Config)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { test(t, inMemory) })
	t.Run("disk", func(t *testing.T) {
		test(t, func(n int, opts ...option) []raftnode.Config { return onDisk(t, n, opts...) })
	})
}

// A member is added, catches up, votes, and keeps its standing through restarts: also
// after it was promoted it starts as what it joined as.
func TestJoin(t *testing.T) {
	places(t, func(t *testing.T, cfgs func(int, ...option) []raftnode.Config) {
		e := open(t, cfgs(1), 1)
		for k := range 20 {
			e.propose(0, 1, fmt.Sprint(k))
		}
		i := e.newcomer()
		wantErr(t, "Propose before it was added", e.hosts[i].Propose(t.Context(), 1, nil), replica.ErrNotReady)

		e.change(2, replica.Learning)
		e.read(i, 1)
		wantMembers(t, e.membership(i), map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Learning})
		e.propose(i, 1, "by one that learns")
		e.closeHost(i)
		e.propose(0, 1, "without it")
		e.openHost(i)
		e.introduce()
		e.start(i, 1)
		e.read(i, 1)

		e.change(2, replica.Voting)
		wantMembers(t, e.membership(i), map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Voting})
		for range 2 {
			e.closeHost(i)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			if e.hosts[0].Propose(ctx, 1, []byte("alone")) == nil {
				t.Error("a proposal was applied while one of two voters was away")
			}
			cancel()
			e.openHost(i)
			e.introduce()
			e.start(i, 1)
			e.read(i, 1)
			e.propose(i, 1, "with it")
			stopGroup(t, e.hosts[i], 1)
			e.start(i, 1)
			if _, err := snapshot(t, e.hosts[i], 1); err != nil {
				t.Errorf("Snapshot: %v", err)
			}
		}
		e.transfer(i)
		e.propose(0, 1, "led by it")
		e.converge(1)
	})
}

// transfer has member i lead group 1.
func (e *ensemble) transfer(i int) {
	e.tb.Helper()
	e.eventually(fmt.Sprintf("member %d to lead", i+1), func() bool {
		if err := e.hosts[i].TransferLeadership(e.tb.Context(), 1, replica.MemberID(i+1)); err != nil {
			return false
		}
		return e.hosts[i].Role(1).Leader == replica.MemberID(i+1)
	})
}

// A newcomer gets what the log does not hold any more as a snapshot.
func TestJoinThroughSnapshot(t *testing.T) {
	places(t, func(t *testing.T, cfgs func(int, ...option) []raftnode.Config) {
		few := func(_ int, c *raftnode.Config) { c.SnapshotEntries, c.CompactionOverhead = 20, 1 }
		e := open(t, cfgs(3, few), 1)
		l := e.leader(1)
		for k := range 100 {
			e.propose(l, 1, fmt.Sprint(k))
		}
		i := e.newcomer()
		e.admit(i)
		e.converge(1)
		if e.machines[1][i].restored() == 0 {
			t.Error("the newcomer was sent no snapshot")
		}
		for k := range 100 {
			e.propose(i, 1, fmt.Sprint(k)) // its own snapshot covers how it was added
		}
		e.closeHost(i)
		e.openHost(i)
		e.introduce()
		e.start(i, 1)
		e.read(i, 1)
		e.converge(1)
	})
}

// resign has member i remove itself from group 1 while it leads: who leads is sure to
// learn of its removal.
func (e *ensemble) resign(i int) {
	e.tb.Helper()
	h, id := e.hosts[i], replica.MemberID(i+1)
	e.eventually(fmt.Sprintf("member %d to stop", id), func() bool {
		now, err := e.askMembership(i)
		switch {
		case err != nil:
			return errors.Is(err, replica.ErrNoGroup)
		case h.Role(1).Leader != id:
			_ = h.TransferLeadership(e.tb.Context(), 1, id)
		default:
			ctx, cancel := context.WithTimeout(e.tb.Context(), time.Second)
			defer cancel()
			_ = h.ChangeMember(ctx, 1, now.Change, id, replica.Gone)
		}
		return false
	})
}

// removals are the marks of a member that was removed, and what it was told.
type removals struct {
	mu     sync.Mutex
	marked map[replica.GroupID]bool
	told   []replica.GroupID
}

func (r *removals) options(_ int, c *raftnode.Config) {
	c.Removed = func(g replica.GroupID) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.marked[g]
	}
	c.MarkRemoved = func(g replica.GroupID) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.marked == nil {
			r.marked = make(map[replica.GroupID]bool)
		}
		r.marked[g] = true
		return nil
	}
	c.OnRemoved = func(g replica.GroupID) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, g)
	}
}

func (r *removals) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.told)
}

// A leader that is removed stops, is told once, and does not come back, neither in
// this process nor in the next. The others elect another.
func TestRemoveLeader(t *testing.T) {
	places(t, func(t *testing.T, cfgs func(int, ...option) []raftnode.Config) {
		gone := make([]removals, 3)
		e := open(t, cfgs(3, patient, func(i int, c *raftnode.Config) { gone[i].options(i, c) }), 1)
		at := e.leader(1)
		e.propose(at, 1, "x")
		e.resign(at)
		e.eventually("the removed member to be told", func() bool { return gone[at].count() == 1 })
		wantErr(t, "Propose on the removed member", e.hosts[at].Propose(t.Context(), 1, nil), replica.ErrNoGroup)
		if r := e.hosts[at].Role(1); r != (replica.Role{}) {
			t.Errorf("Role on the removed member = %+v, want none", r)
		}
		again := func() {
			t.Helper()
			err := e.hosts[at].StartGroup(1, new(counter), replica.Bootstrap)
			wantErr(t, "StartGroup of a removed member", err, replica.ErrRemoved)
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("member %d", at+1)) {
				t.Errorf("%v does not name the member", err)
			}
		}
		again()
		e.closeHost(at)
		e.openHost(at)
		again()
		e.closeHost(at)

		e.machines[1][at] = nil
		e.propose(e.leader(1, at), 1, "y")
		e.converge(1)
	})
}

// A removal that was not written down is noticed again when the log is read.
func TestRemovalIsReadFromTheLog(t *testing.T) {
	var gone removals
	e := open(t, inMemory(3, patient), 1)
	at := e.leader(1)
	e.propose(at, 1, "x")
	e.resign(at)
	e.closeHost(at)
	gone.options(at, &e.cfgs[at])
	e.openHost(at)
	e.start(at, 1)
	e.eventually("the removed member to be told", func() bool { return gone.count() == 1 })
	err := e.hosts[at].StartGroup(1, new(counter), replica.Bootstrap)
	wantErr(t, "StartGroup of a removed member", err, replica.ErrRemoved)
}

// A member that is removed while it is away is not let in again, and its id cannot be
// given to anybody.
func TestRemoveOneThatIsAway(t *testing.T) {
	places(t, func(t *testing.T, cfgs func(int, ...option) []raftnode.Config) {
		e := open(t, cfgs(3), 1)
		l := e.leader(1)
		away := (l + 1) % 3
		e.propose(l, 1, "x")
		e.closeHost(away)
		id := replica.MemberID(away + 1)
		e.change(id, replica.Gone)
		l = e.leader(1)
		now := e.membership(l)
		if !now.Removed[id] || len(now.Members) != 2 {
			t.Errorf("membership = %+v, want two members and %d removed", now, id)
		}
		for _, to := range []replica.Standing{replica.Learning, replica.Voting, replica.Gone} {
			err := e.hosts[l].ChangeMember(t.Context(), 1, now.Change, id, to)
			if err == nil || !strings.Contains(err.Error(), "was removed") {
				t.Errorf("ChangeMember(%d, %v) = %v, want that it was removed", id, to, err)
			}
		}
		e.openHost(away)
		e.start(away, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := e.hosts[away].Propose(ctx, 1, []byte("z")); err == nil {
			t.Error("a removed member had something applied")
		}
		e.machines[1][away] = nil
		e.propose(l, 1, "y")
		e.converge(1)
	})
}

// One that was removed and does not know, as it was or with an empty directory, disturbs
// nobody, however long it tries.
func TestRemovedDoesNotDepose(t *testing.T) {
	for name, wiped := range map[string]bool{"as it was": false, "with an empty directory": true} {
		t.Run(name, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				e := open(t, inMemory(3, production), 1)
				l := e.leader(1)
				e.propose(l, 1, "x")
				at := (l + 1) % 3
				e.closeHost(at)
				e.change(replica.MemberID(at+1), replica.Gone)
				before := e.hosts[l].Role(1)
				if wiped {
					e.cfgs[at].FS, e.cfgs[at].Members = vfs.NewMem(), nil
				}
				e.openHost(at)
				e.introduce()
				e.start(at, 1)
				time.Sleep(5 * time.Minute)
				if after := e.hosts[l].Role(1); after != before {
					t.Errorf("Role = %+v after a removed member came back, want %+v", after, before)
				}
				if err := e.hosts[at].Propose(t.Context(), 1, []byte("z")); !errors.Is(err, replica.ErrNotReady) {
					t.Errorf("Propose of a removed member = %v, want that nobody leads it", err)
				}
				if n := e.machines[1][at].count(); wiped && n != 0 {
					t.Errorf("%d commands were applied under an id that was removed", n)
				}
				e.machines[1][at] = nil
				e.propose(l, 1, "y")
				e.converge(1)
				e.close()
			})
		})
	}
}

// What is not possible is refused before anything is proposed, and says why.
func TestImpossibleChanges(t *testing.T) {
	e := open(t, inMemory(1), 1)
	e.propose(0, 1, "x")
	i := e.newcomer()
	now := e.membership(0)
	try := func(what string, change uint64, id replica.MemberID, to replica.Standing, want string) {
		t.Helper()
		err := e.hosts[0].ChangeMember(t.Context(), 1, change, id, to)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: ChangeMember = %v, want an error that says %q", what, err, want)
		}
		if errors.Is(err, replica.ErrUnknownOutcome) || errors.Is(err, replica.ErrMembershipChanged) {
			t.Errorf("%s: ChangeMember = %v, which is worth another try", what, err)
		}
	}
	try("the last voter", now.Change, 1, replica.Gone, "member 1 is the last that votes")
	try("nobody", now.Change, 0, replica.Learning, "no member 0")
	try("a vote from the first moment", now.Change, 2, replica.Voting, "cannot go from gone to voting")
	try("a vote taken away", now.Change, 1, replica.Learning, "cannot go from voting to learning")
	try("once more", now.Change, 1, replica.Voting, "cannot go from voting to voting")
	wantErr(t, "ChangeMember of a group that does not run", e.hosts[0].ChangeMember(t.Context(), 7, 1, 2, replica.Learning), replica.ErrNoGroup)

	e.change(2, replica.Learning)
	e.read(i, 1)
	err := e.hosts[0].ChangeMember(t.Context(), 1, now.Change, 2, replica.Voting)
	wantErr(t, "ChangeMember of a membership that is past", err, replica.ErrMembershipChanged)
	now = e.membership(0)
	try("the last voter beside one that learns", now.Change, 1, replica.Gone, "last that votes")
	try("learning twice", now.Change, 2, replica.Learning, "cannot go from learning to learning")
	wantMembers(t, e.membership(i), map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Learning})
	e.propose(i, 1, "y")
}

// Of two members that are added to the same membership at the same time, one is.
func TestTwoChangesAtOnce(t *testing.T) {
	e := open(t, inMemory(3), 1)
	for range 10 {
		now := e.membership(e.leader(1))
		base := replica.MemberID(len(now.Members) + 1)
		errs := make([]error, 3)
		var wg sync.WaitGroup
		for k, h := range e.hosts {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				errs[k] = h.ChangeMember(ctx, 1, now.Change, base+replica.MemberID(100*k), replica.Learning)
			})
		}
		wg.Wait()
		after := e.membership(e.leader(1))
		added := len(after.Members) - len(now.Members)
		if added > 1 {
			t.Fatalf("%v became %v: more than one change was made", now.Members, after.Members)
		}
		for k, err := range errs {
			id := base + replica.MemberID(100*k)
			switch {
			case err == nil && after.Members[id] != replica.Learning:
				t.Errorf("ChangeMember(%d) = nil, but the membership is %v", id, after.Members)
			case err != nil && !errors.Is(err, replica.ErrUnknownOutcome) && after.Members[id] != replica.Gone:
				t.Errorf("ChangeMember(%d) = %v, but the membership is %v", id, err, after.Members)
			}
		}
	}
}

// Calls about members end with their context, their group and their host.
func TestMembershipEnds(t *testing.T) {
	e := open(t, inMemory(3), 1)
	l := e.leader(1)
	e.propose(l, 1, "x")
	now := e.membership(l)
	e.cfgs[0].Net.Isolate(e.cfgs[l].Addr)
	h := e.hosts[l]
	e.eventually("the leader to notice", func() bool { return h.Role(1).Leader == 0 })

	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("mine")
	cancel(mine)
	_, err := h.Membership(ctx, 1)
	wantErr(t, "Membership with an ended context", err, mine)
	wantErr(t, "ChangeMember with an ended context", h.ChangeMember(ctx, 1, now.Change, 4, replica.Learning), mine)
	_, err = h.Membership(t.Context(), 1)
	wantErr(t, "Membership without a leader", err, replica.ErrNotReady)
	_, err = h.Membership(t.Context(), 7)
	wantErr(t, "Membership of a group that does not run", err, replica.ErrNoGroup)

	e.cfgs[0].Net.Heal()
	e.read(l, 1)
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				_, err := h.Membership(t.Context(), 1)
				switch {
				case err == nil, errors.Is(err, replica.ErrNotReady), errors.Is(err, replica.ErrNoGroup):
				case errors.Is(err, replica.ErrClosed):
					select {
					case <-stopped:
						return
					default:
					}
				default:
					t.Errorf("Membership while groups and the host stop = %v", err)
				}
			}
		})
	}
	stopGroup(t, h, 1)
	e.start(l, 1)
	close(stopped)
	e.closeHost(l)
	wg.Wait()
}

// All members are replaced one by one under writes: none that was acknowledged is
// lost, and those that were there first can be switched off.
func TestReplaceAllMembers(t *testing.T) {
	places(t, func(t *testing.T, cfgs func(int, ...option) []raftnode.Config) {
		few := func(_ int, c *raftnode.Config) { c.SnapshotEntries, c.CompactionOverhead = 50, 5 }
		e := open(t, cfgs(3, few), 1)
		e.propose(0, 1, "x")

		var mu sync.Mutex
		writable := []*raftnode.Host{e.hosts[0], e.hosts[1], e.hosts[2]}
		acknowledged := 0
		ctx, stop := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		defer func() { stop(); writers.Wait() }()
		for k := range 4 {
			writers.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					mu.Lock()
					h := writable[(k+n)%len(writable)]
					mu.Unlock()
					once, cancel := context.WithTimeout(ctx, time.Second)
					err := h.Propose(once, 1, fmt.Appendf(nil, "%d-%d", k, n))
					cancel()
					if err == nil {
						mu.Lock()
						acknowledged++
						mu.Unlock()
					}
				}
			})
		}
		written := func() int {
			mu.Lock()
			defer mu.Unlock()
			return acknowledged
		}
		for old := range 3 {
			before := written()
			i := e.newcomer(few)
			e.admit(i)
			mu.Lock()
			writable = append(writable[1:], e.hosts[i])
			mu.Unlock()
			e.change(replica.MemberID(old+1), replica.Gone)
			e.machines[1][old] = nil
			e.closeHost(old)
			e.eventually("writes to go on", func() bool { return written() > before+10 })
		}
		stop()
		writers.Wait()
		wantMembers(t, e.membership(3), map[replica.MemberID]replica.Standing{4: replica.Voting, 5: replica.Voting, 6: replica.Voting}, 1, 2, 3)
		e.converge(1)
		if n := e.machines[1][5].count(); n < uint64(written()) {
			t.Errorf("%d commands are left of %d that were acknowledged", n, written())
		}
	})
}

// A group starts with other members than the ensemble did if it is told so, and with
// none that it is not part of.
func TestVotersOfGroup(t *testing.T) {
	e := open(t, inMemory(3), 1)
	e.propose(0, 1, "x")
	i := e.newcomer()
	e.admit(i)
	first := replica.First{Voters: []replica.MemberID{1, 2, 4}}
	machines := make([]*counter, 4)
	for _, at := range []int{0, 1, 3} {
		machines[at] = new(counter)
		if err := e.hosts[at].StartGroup(2, machines[at], first); err != nil {
			t.Fatalf("StartGroup on member %d: %v", at+1, err)
		}
	}
	e.propose(3, 2, "y")
	e.read(0, 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := e.hosts[0].Membership(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	wantMembers(t, m, map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Voting, 4: replica.Voting})
	for _, bad := range []replica.First{first, {Voters: []replica.MemberID{3, 0}}} {
		if err := e.hosts[2].StartGroup(2, new(counter), bad); err == nil || !strings.Contains(err.Error(), "member 3") {
			t.Errorf("StartGroup with the voters %d on member 3 = %v", bad.Voters, err)
		}
	}
	if err := e.hosts[i].StartGroup(3, new(counter), replica.Bootstrap); err == nil || !strings.Contains(err.Error(), "member 4") {
		t.Errorf("StartGroup of a new group by one that knows no first members = %v", err)
	}
}

// A member votes as soon as others count on it, also if it has not heard of its own
// promotion, or it would never hear of it: the only voter of before has promoted it and
// was restarted before it could say so.
func TestPromotionThatNobodyHeardOf(t *testing.T) {
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("both restart %t", both), func(t *testing.T) {
			e := open(t, inMemory(1), 1)
			e.propose(0, 1, "x")
			i := e.newcomer()
			e.change(2, replica.Learning)
			e.read(i, 1)
			e.cfgs[0].Net.Isolate(e.cfgs[i].Addr)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			now := e.membership(0)
			if err := e.hosts[0].ChangeMember(ctx, 1, now.Change, 2, replica.Voting); err != nil {
				t.Fatalf("ChangeMember = %v", err)
			}
			restart := []int{0}
			if both {
				restart = []int{0, i}
			}
			for _, at := range restart {
				e.closeHost(at)
			}
			e.cfgs[0].Net.Heal()
			for _, at := range restart {
				e.openHost(at)
				e.introduce()
				e.start(at, 1)
			}
			e.propose(0, 1, "y")
			wantMembers(t, e.membership(i), map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Voting})
			e.converge(1)
		})
	}
}

// How a replica began is what its log says, not what the caller of a later start thinks:
// also after a crash between the library's record and the mark.
func TestJoinedIsReadFromTheLog(t *testing.T) {
	e := open(t, inMemory(1), 1)
	e.propose(0, 1, "x")
	m := marks{fail: errors.New("no space left")}
	c := e.cfgs[0]
	c.Member, c.Addr, c.FS, c.Members = 2, "n2", vfs.NewMem(), nil
	m.give(&c)
	e.settle(c)
	wantErr(t, "StartGroup that cannot mark", e.hosts[1].StartGroup(1, new(counter), replica.Join), m.fail)
	m.fail = nil
	e.change(2, replica.Learning)
	for range 2 {
		e.closeHost(1)
		e.openHost(1)
		e.introduce()
		e.machines[1][1] = new(counter)
		if err := e.hosts[1].StartGroup(1, e.machines[1][1], replica.First{Voters: []replica.MemberID{2}}); err != nil {
			t.Fatalf("StartGroup = %v", err)
		}
		e.read(1, 1)
		e.change(2, replica.Voting)
	}
	e.converge(1)
	wantMembers(t, e.membership(1), map[replica.MemberID]replica.Standing{1: replica.Voting, 2: replica.Voting})
}
