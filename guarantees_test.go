package coord_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

// The tests in this file bear the numbers of the guarantees in doc.go.

// inBubble runs a test on an ensemble of three in virtual time, with production
// timeouts.
func inBubble(t *testing.T, test func(t *testing.T, e *coordtest.Ensemble), opts ...coordtest.Option) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) {
		opts = append([]coordtest.Option{coordtest.WithElectionTimeout(2 * time.Second)}, opts...)
		test(t, coordtest.NewEnsemble(t, 3, opts...))
	})
}

func mustCreate(t *testing.T, c coord.Client, path, data string, opts ...coord.CreateOption) (string, coord.Stat) {
	t.Helper()
	p, st, err := c.Create(t.Context(), path, []byte(data), opts...)
	if err != nil {
		t.Fatalf("Create(%s) = %v", path, err)
	}
	return p, st
}

func mustGet(t *testing.T, c coord.Client, path string, opts ...coord.ReadOption) (string, coord.Stat) {
	t.Helper()
	data, st, err := c.Get(t.Context(), path, opts...)
	if err != nil {
		t.Fatalf("Get(%s) = %v", path, err)
	}
	return string(data), st
}

// eventually waits for a condition, in virtual or real time.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, context.Cause(ctx))
		}
	}
}

func TestG01AcknowledgedWritesSurvive(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.OnDisk(), coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 50 }))
	want := map[string]string{}
	for round := range 3 {
		c := e.Member(round + 1)
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			path := fmt.Sprintf("/r%d-%d", round, i)
			mustCreate(t, c, path, path)
			want[path] = path
		}
		running := e.Running()
		for _, c := range running {
			e.Kill(c)
		}
		for _, c := range running {
			e.Restart(c)
		}
	}
	for _, c := range e.Running() {
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		for path, data := range want {
			if got, _ := mustGet(t, c, path, coord.Linearizable()); got != data {
				t.Errorf("member %v: Get(%s) = %q, want %q", c.Status().Member, path, got, data)
			}
		}
	}
}

func TestG02WritesHappenOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		mustCreate(t, e.Leader(t.Context()), "/q", "")
		const writers, each = 8, 25
		var wg sync.WaitGroup
		made := make(chan string, writers*each)
		for w := range writers {
			// The member that will never be killed: its callers live through it all.
			c := e.Member(3)
			wg.Go(func() {
				for i := range each {
					p, _, err := c.Create(t.Context(), "/q/n-", fmt.Appendf(nil, "%d-%d", w, i), coord.PersistentSequential)
					if err != nil {
						t.Errorf("Create = %v", err)
						return
					}
					made <- p
				}
			})
		}
		e.Lose(0.05, 7)
		for range 4 {
			victim := e.Leader(t.Context())
			if victim == e.Member(3) {
				e.Isolate(victim)
				time.Sleep(5 * time.Second)
				e.Heal()
				continue
			}
			e.Kill(victim)
			time.Sleep(3 * time.Second)
			e.Restart(victim)
		}
		e.Lose(0, 0)
		wg.Wait()
		close(made)
		var paths []string
		for p := range made {
			paths = append(paths, strings.TrimPrefix(p, "/q/"))
		}
		slices.Sort(paths)
		names, _, err := e.Member(3).Children(t.Context(), "/q", coord.Linearizable())
		if err != nil || !slices.Equal(names, paths) {
			t.Fatalf("Children = %d names, %v; %d were acknowledged", len(names), err, len(paths))
		}
		if len(names) != writers*each {
			t.Errorf("%d znodes, want %d", len(names), writers*each)
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.SessionTimeout = time.Minute })) // the faults may last longer than 10 s
}

func TestG03ErrorsAreDefiniteOrSaySo(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader := e.Leader(t.Context())
		mustCreate(t, leader, "/n", "0")
		e.Isolate(leader)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := leader.SetData(ctx, "/n", []byte("unknown"))
		if !errors.Is(err, coord.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("SetData on an isolated leader = %v, want unknown outcome and deadline exceeded", err)
		}
		unknown, ok := errors.AsType[*coord.OutcomeError](err)
		if !ok {
			t.Fatalf("%T carries no outcome", err)
		}
		// What is queued behind it was never attempted: that is known.
		_, err = leader.SetData(ctx, "/n", []byte("queued"))
		if err == nil || errors.Is(err, coord.ErrUnknownOutcome) {
			t.Fatalf("SetData with an ended context = %v, want a definite error", err)
		}
		asked, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := unknown.Outcome(asked); !errors.Is(err, coord.ErrUnknownOutcome) {
			t.Fatalf("Outcome while isolated = %v, want unknown", err)
		}
		e.Heal()
		if err := unknown.Outcome(t.Context()); err != nil {
			t.Fatalf("Outcome = %v, want applied", err)
		}
		if results, err := unknown.Results(t.Context()); err != nil || len(results) != 1 || results[0].Stat.Version != 1 {
			t.Errorf("Results = %+v, %v; want version 1", results, err)
		}
		if got, st := mustGet(t, leader, "/n", coord.Linearizable()); got != "unknown" || st.Version != 1 {
			t.Errorf("Get = %q, version %d; want the one write, once", got, st.Version)
		}
	})
}

func TestG04WritesHaveOneOrder(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	mustCreate(t, e.Member(1), "/n", "")
	var wg sync.WaitGroup
	for _, c := range e.Running() {
		wg.Go(func() {
			last := coord.ZXID(0)
			for range 100 {
				st, err := c.SetData(t.Context(), "/n", fmt.Append(nil, c.Status().Member))
				if err != nil {
					t.Errorf("SetData = %v", err)
					return
				}
				if st.Mzxid <= last {
					t.Errorf("zxid %v behind %v: writes of one caller out of order", st.Mzxid, last)
				}
				last = st.Mzxid
			}
		})
	}
	wg.Wait()
	if _, st := mustGet(t, e.Member(2), "/n", coord.Linearizable()); st.Version != 300 {
		t.Errorf("version %d, want 300: each write once", st.Version)
	}
}

func TestG05ClientsSeeTheirOwnWrites(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	for _, c := range e.Running() {
		path, _ := mustCreate(t, c, "/own-", "0", coord.PersistentSequential)
		for i := range 100 {
			want := strconv.Itoa(i)
			if _, err := c.SetData(t.Context(), path, []byte(want)); err != nil {
				t.Fatal(err)
			}
			if got, _ := mustGet(t, c, path, coord.AllowStale()); got != want {
				t.Fatalf("member %v read %q after writing %q", c.Status().Member, got, want)
			}
		}
	}
}

func TestG06LinearizableReadsSeeAcknowledgedWrites(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	mustCreate(t, e.Member(1), "/n", "")
	for i := range 60 {
		want := strconv.Itoa(i)
		if _, err := e.Member(i%3+1).SetData(t.Context(), "/n", []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, _ := mustGet(t, e.Member((i+1)%3+1), "/n", coord.Linearizable()); got != want {
			t.Fatalf("linearizable read = %q, want %q", got, want)
		}
		other := e.Member((i+2)%3 + 1)
		if err := other.Sync(t.Context(), "/n"); err != nil {
			t.Fatal(err)
		}
		if got, _ := mustGet(t, other, "/n", coord.AllowStale()); got != want {
			t.Fatalf("read after Sync = %q, want %q", got, want)
		}
	}
}

func TestG07MultiIsAtomic(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	c := e.Member(1)
	mustCreate(t, c, "/a", "0")
	mustCreate(t, c, "/b", "0")
	e.Converged(t.Context())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, reader := range e.Running() {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v, err := reader.View(t.Context(), coord.AllowStale()) // a slow machine may suspend it
				if err != nil {
					t.Errorf("View = %v", err)
					return
				}
				a, sa, errA := v.Get("/a")
				b, sb, errB := v.Get("/b")
				if errA != nil || errB != nil || string(a) != string(b) || sa.Mzxid != sb.Mzxid && string(a) != "0" {
					t.Errorf("half a multi: a %q at %v, b %q at %v", a, sa.Mzxid, b, sb.Mzxid)
					return
				}
			}
		})
	}
	for i := range 200 {
		ops := []coord.Op{
			coord.SetDataOp("/a", fmt.Append(nil, i)), coord.CreateOp("/tmp", nil),
			coord.DeleteOp("/tmp"), coord.SetDataOp("/b", fmt.Append(nil, i)),
		}
		if i%2 == 1 {
			ops = append(ops, coord.CheckOp("/nope"))
		}
		_, err := c.Multi(t.Context(), ops...)
		failed, isMulti := errors.AsType[*coord.MultiError](err)
		switch {
		case i%2 == 0 && err != nil:
			t.Fatalf("Multi = %v", err)
		case i%2 == 1 && (!isMulti || failed.Index != 4 || !errors.Is(err, coord.ErrNoNode)):
			t.Fatalf("Multi = %v, want no such znode at 4", err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestG08ViewsNeverChange(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	type taken struct {
		view   *coord.View
		digest coord.Digest
	}
	var views []taken
	for i := range 300 {
		mustCreate(t, c, "/n-", strconv.Itoa(i), coord.PersistentSequential)
		if i%3 == 2 {
			if err := c.Delete(t.Context(), fmt.Sprintf("/n-%010d", i-1)); err != nil {
				t.Fatal(err)
			}
		}
		if i%10 == 0 {
			v, err := c.View(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			views = append(views, taken{v, v.Digest()})
		}
	}
	for _, tk := range views {
		if tk.view.Digest() != tk.digest {
			t.Fatalf("the view at %v has changed", tk.view.ZXID())
		}
	}
}

func TestG09EphemeralsLiveWithTheirSession(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader, follower := e.Leader(t.Context()), e.Follower(t.Context())
		s, err := follower.NewSession(t.Context(), coord.SessionOptions{Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		mustCreate(t, leader, "/w", "")
		for i := range 5 {
			mustCreate(t, s, fmt.Sprintf("/w/%d", i), "", coord.Ephemeral)
		}
		if err := leader.Sync(t.Context(), "/w"); err != nil {
			t.Fatal(err)
		}
		w, err := leader.Watch(t.Context(), "/w", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // alive, so they stay
		if names, _, err := leader.Children(t.Context(), "/w"); err != nil || len(names) != 5 {
			t.Fatalf("Children = %v, %v after a minute of life", names, err)
		}
		e.Kill(follower)
		zxids := map[coord.ZXID]int{}
		n := 0
		for ev, err := range w.Events() {
			if err != nil || ev.Type != coord.NodeDeleted {
				t.Fatalf("event %v, %v", ev, err)
			}
			zxids[ev.ZXID]++
			if n++; n == 5 {
				break
			}
		}
		if len(zxids) != 1 {
			t.Errorf("ephemerals vanished at %v, want one zxid", zxids)
		}
	})
}

func TestG10HandlesEndBeforeTheirEphemerals(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		for range 3 {
			leader, follower := e.Leader(t.Context()), e.Follower(t.Context())
			s, err := follower.NewSession(t.Context(), coord.SessionOptions{Timeout: 8 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			p, _ := mustCreate(t, s, "/lock-", "", coord.EphemeralSequential)
			w, err := leader.Watch(t.Context(), p, coord.Node)
			if err != nil {
				t.Fatal(err)
			}
			var ended, deleted atomic.Int64
			done := make(chan struct{})
			go func() {
				<-s.Context().Done()
				ended.Store(time.Now().UnixNano())
				close(done)
			}()
			e.Isolate(follower)
			for ev, err := range w.Events() {
				if err != nil {
					t.Fatalf("watch: %v, %v", ev, err)
				}
				if ev.Type == coord.NodeCreated {
					continue // the leader had not applied it when the watch was opened
				}
				deleted.Store(time.Now().UnixNano())
				break
			}
			<-done
			if !errors.Is(context.Cause(s.Context()), coord.ErrSessionExpired) || s.State() != coord.Expired {
				t.Errorf("cause %v, state %v", context.Cause(s.Context()), s.State())
			}
			if gap := time.Duration(deleted.Load() - ended.Load()); gap <= 0 {
				t.Errorf("the handle ended %v after its ephemeral was deleted", -gap)
			}
			e.Heal()
			eventually(t, "the member to come back", func() bool { return follower.Health() == nil })
		}
	})
}

func TestG11LeaderChangesExpireNoSession(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		keeper := e.Member(3)
		// The shortest timeout that is granted, owned by a member that stays.
		hold := func() (s *coord.Session, path string, st coord.Stat) {
			t.Helper()
			s, err := keeper.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if s.Timeout() != 4*time.Second {
				t.Errorf("granted %v, want the minimum of 4s", s.Timeout())
			}
			path, st = mustCreate(t, s, "/eph-", "", coord.EphemeralSequential)
			return s, path, st
		}
		s, p, st := hold()
		for changes := 0; changes < 6; {
			leader := e.Leader(t.Context())
			if leader == keeper {
				e.Lead(t.Context(), e.Member(1))
				leader = e.Leader(t.Context())
			}
			killed := time.Now()
			e.Kill(leader)
			e.Leader(t.Context())
			took := time.Since(killed)
			if err := e.Restart(leader).Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took > 2*time.Second {
				// The votes were split, and there was no leader for longer than the
				// election timeout: the keeper cannot know that it has not lost the session.
				t.Logf("an election took %v", took)
				_ = s.Close()
				s, p, st = hold()
				continue
			}
			changes++
			if _, now := mustGet(t, keeper, p, coord.Linearizable()); now.Czxid != st.Czxid {
				t.Errorf("the ephemeral was made anew")
			}
			if s.State() != coord.Connected {
				t.Errorf("state %v, want connected", s.State())
			}
		}
	})
}

func TestG12WatchesAreToldEverythingInOrder(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	mustCreate(t, e.Member(1), "/w", "")
	if err := e.Member(2).Sync(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	w, err := e.Member(2).Watch(t.Context(), "/w", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	const n = 300
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for i := range n {
			_, err := e.Member(i%3+1).Multi(t.Context(),
				coord.CreateOp("/w/x", nil), coord.SetDataOp("/w", fmt.Append(nil, i)), coord.DeleteOp("/w/x"))
			if err != nil {
				t.Errorf("Multi = %v", err)
			}
		}
	})
	want := []coord.EventType{coord.NodeCreated, coord.NodeDataChanged, coord.NodeDeleted}
	last, got := coord.ZXID(0), 0
	for ev, err := range w.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type != want[got%3] || ev.ZXID < last || got%3 == 0 && ev.ZXID == last || got%3 > 0 && ev.ZXID != last {
			t.Fatalf("event %d is %v behind %v", got, ev, last)
		}
		last = ev.ZXID
		if got++; got == 3*n {
			break
		}
	}
}

func TestG13EventsAndEffectsGoTogether(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	mustCreate(t, c, "/n", "")
	w, err := c.Watch(t.Context(), "/n", coord.Node)
	if err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 500 {
			if _, err := c.SetData(t.Context(), "/n", fmt.Append(nil, i)); err != nil {
				t.Errorf("SetData = %v", err)
			}
		}
	})
	n := 0
	for ev, err := range w.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if _, st := mustGet(t, c, "/n", coord.AllowStale()); st.Mzxid < ev.ZXID {
			t.Fatalf("told of %v while the state is at %v", ev, st.Mzxid)
		}
		if n++; n == 500 {
			break
		}
	}
	writer.Wait()
	// The other way: what a read reflects is queued already.
	w, err = c.Watch(t.Context(), "/n", coord.Node)
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.SetData(t.Context(), "/n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if coord.Queued(w) == 0 {
		t.Errorf("a write at %v returned before its event was queued", st.Mzxid)
	}
	w.Close()
}

func TestG14MembersAgree(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 30 }))
	for round := range 4 {
		down := e.Member(round%3 + 1)
		e.Kill(down)
		c := e.Leader(t.Context())
		for i := range 60 {
			mustCreate(t, c, fmt.Sprintf("/r%d/%d", round, i), "x", coord.WithParents())
		}
		if err := e.Restart(down).Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e.Converged(t.Context())
	digests := map[coord.Digest]coord.MemberID{}
	eventually(t, "views at one zxid", func() bool {
		clear(digests)
		zxids := map[coord.ZXID]bool{}
		for _, c := range e.Running() {
			v, err := c.View(t.Context(), coord.Linearizable())
			if err != nil {
				t.Fatal(err)
			}
			zxids[v.ZXID()] = true
			digests[v.Digest()] = c.Status().Member
		}
		return len(zxids) == 1
	})
	if len(digests) != 1 {
		t.Errorf("members differ: %v", digests)
	}
}

func TestG15NoReadsWithoutQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader := e.Leader(t.Context())
		mustCreate(t, leader, "/n", "old")
		e.Isolate(leader)
		time.Sleep(5 * time.Second) // two election timeouts, and a bit
		if _, _, err := leader.Get(t.Context(), "/n"); !errors.Is(err, coord.ErrSuspended) {
			t.Errorf("Get on an isolated member = %v, want suspended", err)
		}
		if _, _, err := leader.Children(t.Context(), "/"); !errors.Is(err, coord.ErrSuspended) {
			t.Errorf("Children on an isolated member = %v, want suspended", err)
		}
		if got, _ := mustGet(t, leader, "/n", coord.AllowStale()); got != "old" {
			t.Errorf("stale read = %q", got)
		}
		if err := leader.Health(); !errors.Is(err, coord.ErrSuspended) {
			t.Errorf("Health = %v, want suspended", err)
		}
		if st := leader.Status(); st.HasQuorum {
			t.Errorf("Status = %+v, want no quorum", st)
		}
		e.Heal()
		eventually(t, "reads to come back", func() bool {
			_, _, err := leader.Get(t.Context(), "/n")
			return err == nil
		})
	})
}

// TestG21DrainedMembersCostNoElection drains and closes the leader under writes of the
// others, again and again.
func TestG21DrainedMembersCostNoElection(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		for range 5 {
			leader := e.Leader(t.Context())
			others := slices.DeleteFunc(e.Running(), func(c *coord.Coordinator) bool { return c == leader })
			stop := writeThrough(t, others)
			if err := leader.Drain(t.Context()); err != nil {
				t.Fatalf("Drain = %v", err)
			}
			if leader.Status().Role == coord.Leading {
				t.Error("a drained member leads")
			}
			var before []coord.Status
			for _, c := range others {
				eventually(t, "the others to know", func() bool { return c.Status().Leader != leader.Status().Member && c.Status().Leader != 0 })
				before = append(before, c.Status())
			}
			e.Stop(leader)
			if n := stop(); n == 0 {
				t.Error("nothing was written")
			}
			again := e.Restart(leader)
			if err := again.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i, c := range others {
				if st := c.Status(); st.Term != before[i].Term || st.Leader != before[i].Leader {
					t.Errorf("member %v led in term %d, and then member %v in term %d", before[i].Leader, before[i].Term, st.Leader, st.Term)
				}
			}
		}
	})
}

// Of several members that are drained, none is given leadership while there is one that is
// not.
func TestDrainedMembersAreNoSuccessors(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		for range 10 {
			leader := e.Leader(t.Context())
			others := slices.DeleteFunc(e.Running(), func(c *coord.Coordinator) bool { return c == leader })
			free, drained := others[0], others[1]
			before := leader.Status().Term
			for _, c := range []*coord.Coordinator{drained, leader} {
				if err := c.Drain(t.Context()); err != nil {
					t.Fatalf("Drain = %v", err)
				}
			}
			eventually(t, "the one that is not drained to lead", func() bool { return free.Status().Role == coord.Leading })
			if term := free.Status().Term; term != before+1 {
				t.Errorf("leadership went from term %d to %d, so not straight to the one that is not drained", before, term)
			}
			drained.Undrain()
			leader.Undrain()
		}
	})
}

// writeThrough has a caller write through each of these members until stop is called,
// which tells how many writes there were. Each has to succeed.
func writeThrough(t *testing.T, members []*coord.Coordinator) (stop func() int64) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	var n atomic.Int64
	for _, c := range members {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
				if _, _, err := c.Create(t.Context(), "/g20-", nil, coord.PersistentSequential); err != nil {
					t.Errorf("write %d of member %v: %v", i, c.Status().Member, err)
					return
				}
				n.Add(1)
			}
		})
	}
	return func() int64 {
		close(done)
		wg.Wait()
		return n.Load()
	}
}

// A single member cannot be drained, says so at once, and goes on serving.
func TestDrainWithoutASuccessor(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c := coordtest.New(t)
		began := time.Now()
		if err := c.Drain(t.Context()); !errors.Is(err, coord.ErrNoSuccessor) || time.Since(began) > 0 {
			t.Errorf("Drain of the only member = %v after %v", err, time.Since(began))
		}
		mustCreate(t, c, "/drained", "and serves")
	})
}
