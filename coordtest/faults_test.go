package coordtest_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"coord"
	"coord/coordtest"
)

// create makes a znode, or fails the test.
func create(t *testing.T, c coord.Client, path string, opts ...coord.CreateOption) {
	t.Helper()
	if _, _, err := c.Create(t.Context(), path, []byte(path), opts...); err != nil {
		t.Fatal(err)
	}
}

// exists reports whether a znode exists by a linearizable read.
func exists(t *testing.T, c coord.Client, path string) bool {
	t.Helper()
	_, ok, err := c.Exists(t.Context(), path, coord.Linearizable())
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// ready waits until a member is.
func ready(t *testing.T, c *coord.Coordinator) {
	t.Helper()
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// inTime runs a test with three members in virtual time.
func inTime(t *testing.T, test func(t *testing.T, e *coordtest.Ensemble)) {
	t.Helper()
	coordtest.VirtualTime(t, func(t *testing.T) { test(t, coordtest.NewEnsemble(t, 3)) })
}

// Every way to run an ensemble works, with one member and with three.
func TestWaysToRun(t *testing.T) {
	for name, opts := range map[string][]coordtest.Option{
		"in memory":           nil,
		"on disk":             {coordtest.OnDisk()},
		"on sockets":          {coordtest.OnSockets()},
		"on disk and sockets": {coordtest.OnDisk(), coordtest.OnSockets()},
	} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d", name, n), func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				e := coordtest.NewEnsemble(t, n, opts...)
				t.Log("ready after", time.Since(began))
				create(t, e.Member(n), "/a")
				e.Kill(e.Member(n))
				ready(t, e.Restart(e.Member(n)))
				e.Stop(e.Member(1))
				ready(t, e.Restart(e.Member(1)))
				if !exists(t, e.Member(1), "/a") {
					t.Error("an acknowledged write is gone")
				}
				e.Converged(t.Context())
			})
		}
	}
}

// In virtual time the timeouts are those of production, and cost nothing.
func TestVirtualTimeHasProductionTimeouts(t *testing.T) {
	coordtest.VirtualTime(t, func(t *testing.T) {
		c := coordtest.New(t)
		if got := c.Status().MinSessionTimeout; got != 4*time.Second {
			t.Errorf("sessions have %v at least, want 4s, twice the default election timeout", got)
		}
		time.Sleep(10 * time.Minute)
		create(t, c, "/a")
	})
	if got := coordtest.New(t).Status().MinSessionTimeout; got != 2*time.Second {
		t.Errorf("in real time sessions have %v at least, want 2s", got)
	}
}

// A stopped member takes its sessions with it at once, one that was killed when their
// timeout has run out.
func TestStopAndKill(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		stopped, killed := e.Member(2), e.Member(3)
		create(t, stopped, "/stopped", coord.Ephemeral)
		create(t, killed, "/killed", coord.Ephemeral)
		e.Stop(stopped)
		if exists(t, e.Member(1), "/stopped") {
			t.Error("the ephemeral of a stopped member exists")
		}
		ready(t, e.Restart(stopped))
		began := time.Now()
		e.Kill(killed)
		e.WaitFor(t.Context(), "the ephemeral to go", func() error {
			if exists(t, e.Member(1), "/killed") {
				return errors.New("it exists")
			}
			return nil
		})
		if took := time.Since(began); took < 9*time.Second || took > 15*time.Second {
			t.Errorf("the ephemeral of a killed member was gone after %v, its session has 10s", took)
		}
	})
}

// A member that the test has closed itself is down as though by Stop, for all that is
// asked of the ensemble and for the checks at its end.
func TestMemberClosedByTheTest(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		closed := e.Member(3)
		for range 2 {
			if err := closed.Close(); err != nil {
				t.Fatal(err)
			}
			if running := e.Running(); len(running) != 2 {
				t.Errorf("%d of 3 members are running, one of them is closed", len(running))
			}
			create(t, e.Follower(t.Context()), "/meanwhile-", coord.PersistentSequential)
			e.Converged(t.Context())
			closed = e.Restart(closed)
			ready(t, closed)
		}
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Whatever was acknowledged survives that the power of all machines is cut at once.
func TestPowerCut(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		for i := range 10 {
			create(t, e.Leader(t.Context()), fmt.Sprintf("/round-%d", i))
			ended := make(chan error, 1)
			go func() { // its outcome is not known, or it survives, too
				_, _, err := e.Member(2).Create(t.Context(), fmt.Sprintf("/late-%d", i), nil)
				ended <- err
			}()
			for _, c := range e.Running() {
				e.PowerCut(c)
			}
			late := <-ended
			for n := range e.Size() {
				e.Restart(e.Member(n + 1))
			}
			for _, c := range e.Running() {
				ready(t, c)
			}
			if !exists(t, e.Member(1), fmt.Sprintf("/round-%d", i)) {
				t.Fatalf("round %d: an acknowledged write is gone", i)
			}
			if late == nil && !exists(t, e.Member(3), fmt.Sprintf("/late-%d", i)) {
				t.Fatalf("round %d: a write that was acknowledged in the last moment is gone", i)
			}
		}
	})
}

// A single member has nobody who knows what it has lost.
func TestPowerCutOfTheOnlyMember(t *testing.T) {
	coordtest.VirtualTime(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 1)
		for i := range 20 {
			last := -1
			for n := range 5 + i%7 {
				create(t, e.Member(1), fmt.Sprintf("/%d-%d", i, n))
				last = n
			}
			e.PowerCut(e.Member(1))
			ready(t, e.Restart(e.Member(1)))
			if !exists(t, e.Member(1), fmt.Sprintf("/%d-%d", i, last)) {
				t.Fatalf("round %d: an acknowledged write is gone", i)
			}
		}
	})
}

// A member that is paused is silent for the others, its users wait for it, and when it
// goes on it knows first that its time is over.
func TestPause(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		old := e.Leader(t.Context())
		create(t, old, "/old", coord.Ephemeral)
		own := old.Session()
		e.Pause(old)

		asked, answered := time.Now(), make(chan time.Duration, 3)
		for _, ask := range []func(){
			func() { _, _, _ = old.Get(t.Context(), "/old") },
			func() { _, _ = old.SetData(t.Context(), "/old", nil) },
			func() { <-own.Context().Done() },
		} {
			go func() {
				ask()
				answered <- time.Since(asked)
			}()
		}
		if leader := e.Leader(t.Context()); leader == old {
			t.Fatal("a paused member leads")
		}
		other := e.Follower(t.Context())
		e.WaitFor(t.Context(), "the session of the paused member to expire", func() error {
			if exists(t, other, "/old") {
				return errors.New("its ephemeral exists")
			}
			return nil
		})
		time.Sleep(time.Minute)
		if len(answered) > 0 {
			t.Errorf("a paused member answered after %v", <-answered)
		}
		paused := time.Since(asked)
		e.Resume(old)
		if err := context.Cause(own.Context()); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("the session of a member that was paused for %v: %v, want ErrSessionExpired", paused, err)
		}
		for range cap(answered) {
			if d := <-answered; d < paused {
				t.Errorf("answered after %v, in a pause of %v", d, paused)
			}
		}
		e.Converged(t.Context())
		ready(t, old)
		create(t, old, "/new")
	})
}

// A pause that is shorter than all timeouts has no effect but that it takes time; a
// paused member can be killed, and an ensemble that ends paused is healed.
func TestShortPause(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s := c.Session()
		e.Pause(c)
		time.Sleep(500 * time.Millisecond)
		create(t, e.Leader(t.Context()), "/meanwhile")
		e.Resume(c)
		if s.Context().Err() != nil || !exists(t, c, "/meanwhile") {
			t.Errorf("after half a second's pause: the session %v", context.Cause(s.Context()))
		}
		e.Pause(c)
		e.Kill(c)
		again := e.Restart(c)
		ready(t, again)
		e.Pause(again)
	})
}

// Cuts do what they say: between two, in one direction, between sides, around one.
func TestCuts(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx := t.Context()
		e.Lead(ctx, e.Member(1))
		suspended := func(i int) {
			t.Helper()
			e.WaitFor(ctx, fmt.Sprintf("member %d to be suspended", i), func() error {
				if err := e.Member(i).Health(); !errors.Is(err, coord.ErrSuspended) {
					return fmt.Errorf("its health: %w", err)
				}
				return nil
			})
		}
		healed := func() {
			t.Helper()
			e.Heal()
			for _, c := range e.Running() {
				ready(t, c)
				e.WaitFor(ctx, "health", c.Health)
			}
		}
		e.Isolate(e.Member(3))
		suspended(3)
		create(t, e.Member(2), "/isolated")
		healed()

		e.Split(e.Member(1), e.Member(2))
		suspended(3)
		create(t, e.Member(2), "/split")
		healed()

		// With a link between two that follow, nothing is amiss.
		e.Lead(ctx, e.Member(1))
		e.Cut(e.Member(2), e.Member(3))
		time.Sleep(time.Minute)
		if e.Member(2).Health() != nil || e.Member(3).Health() != nil || e.Leader(ctx) != e.Member(1) {
			t.Error("a cut between followers has an effect")
		}
		healed()

		// A leader that is not heard leads no more.
		e.Lead(ctx, e.Member(1))
		e.CutOneWay(e.Member(1), e.Member(2))
		e.CutOneWay(e.Member(1), e.Member(3))
		e.WaitFor(ctx, "another leader", func() error {
			if e.Leader(ctx) == e.Member(1) {
				return errors.New("member 1 leads")
			}
			return nil
		})
		healed()
	})
}

// Delays add up, are those of the seed, and end.
func TestDelayAndLoss(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		took := func() time.Duration {
			t.Helper()
			began := time.Now()
			if _, err := e.Member(1).SetData(t.Context(), "/", nil); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		e.Lead(t.Context(), e.Member(1))
		if d := took(); d > time.Millisecond {
			t.Errorf("a write takes %v without a delay", d)
		}
		e.Delay(50*time.Millisecond, 0)
		if d := took(); d < 100*time.Millisecond || d > 500*time.Millisecond {
			t.Errorf("a write takes %v, want some 100ms for a round trip", d)
		}
		e.Delay(0, 0)
		e.Delay(50*time.Millisecond, 10*time.Millisecond, e.Member(3))
		if d := took(); d > 50*time.Millisecond {
			t.Errorf("a write takes %v where one of three members is far away", d)
		}
		e.Heal()
		e.Lose(0.3, e.Seed())
		for range 20 {
			took()
		}
		e.Heal()
		time.Sleep(time.Second)
		if d := took(); d > 100*time.Millisecond {
			t.Errorf("a write takes %v after all was healed", d)
		}
	})
}

// Disks can be slow, full and fail.
func TestDisks(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx := t.Context()
		for n := range e.Size() {
			e.SlowDisk(e.Member(n+1), 100*time.Millisecond)
		}
		began := time.Now()
		create(t, e.Leader(ctx), "/slow")
		if d := time.Since(began); d < 100*time.Millisecond {
			t.Errorf("a write to slow disks takes %v", d)
		}
		for n := range e.Size() {
			e.SlowDisk(e.Member(n+1), 0)
		}

		e.FillDisk(e.Member(2), 100<<20)
		e.WaitFor(ctx, "growth to be refused", func() error {
			_, _, err := e.Member(1).Create(ctx, "/full-", nil, coord.PersistentSequential)
			if !errors.Is(err, coord.ErrNoSpace) {
				return fmt.Errorf("create: %w", err)
			}
			return nil
		})
		if err := e.Member(1).Delete(ctx, "/slow"); err != nil {
			t.Errorf("a delete where there is no space: %v", err)
		}
		e.FreeDisk(e.Member(2))
		e.WaitFor(ctx, "growth to be allowed", func() error {
			_, _, err := e.Member(1).Create(ctx, "/free-", nil, coord.PersistentSequential)
			return err
		})

		e.FillDisk(e.Member(2), 1<<20)
		if err := e.Member(2).Health(); !errors.Is(err, coord.ErrFailed) {
			t.Errorf("health of a member with a full disk: %v, want ErrFailed", err)
		}
		e.Kill(e.Member(2))
		e.FreeDisk(e.Member(2))
		ready(t, e.Restart(e.Member(2)))

		leader := e.Leader(ctx)
		e.FailDisk(leader)
		other := e.Member(int(leader.Status().Member)%3 + 1)
		create(t, other, "/survives")
		<-leader.Context().Done()
		if err := context.Cause(leader.Context()); !errors.Is(err, coord.ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Errorf("a member whose log cannot be written ended with %v, want ErrFailed and EIO", err)
		}
		e.PowerCut(leader)
		e.Leader(ctx)
		again := e.Restart(leader)
		ready(t, again)
		if !exists(t, again, "/survives") {
			t.Error("an acknowledged write is gone")
		}
	})
}

// The member whose disk fails tells nobody of what it could not write.
func TestFailedDiskOfTheOnlyMember(t *testing.T) {
	coordtest.VirtualTime(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 1)
		c := e.Member(1)
		e.FailDisk(c)
		_, _, err := c.Create(t.Context(), "/a", nil)
		if err == nil {
			t.Error("a write was acknowledged that is nowhere")
		}
		<-c.Context().Done()
		e.Kill(c)
		ready(t, e.Restart(c))
		create(t, e.Member(1), "/b")
	})
}

// Sessions end at once on demand, with their ephemerals; and by a leap of the clock.
func TestSessionsEnd(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		create(t, s, "/eph", coord.Ephemeral)
		began := time.Now()
		e.ExpireSession(t.Context(), s)
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		if cause := context.Cause(s.Context()); !errors.Is(cause, coord.ErrSessionExpired) || exists(t, c, "/eph") {
			t.Errorf("an expired session: %v", cause)
		}
		e.ExpireSession(t.Context(), s) // nothing is left to do

		own := c.Session()
		e.SkipClock(c, 11*time.Second)
		if own.Context().Err() == nil {
			t.Error("a session of 10s is alive after a leap of 11s")
		}
		ready(t, c)
	})
}

// Any member can be made to lead.
func TestLead(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		for _, n := range []int{3, 1, 2, 2} {
			e.Lead(t.Context(), e.Member(n))
			if got := e.Leader(t.Context()); got != e.Member(n) {
				t.Errorf("member %v leads, want %d", got.Status().Member, n)
			}
		}
		synctest.Wait()
	})
}
