package coordtest_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/private"
)

// Every check at cleanup can fail.
func TestChecksAtCleanupCanFail(t *testing.T) {
	t.Run("invariants", func(t *testing.T) {
		was := private.Violations
		defer func() { private.Violations = was }()
		private.Violations = func(any) []error { return []error{errors.New("T9: planted")} }
		wantFailure(t, func(tb testing.TB) { coordtest.New(tb) }, "member 1: broken invariant: T9: planted")
	})
	t.Run("digests", func(t *testing.T) {
		defer coordtest.LieAboutDigests()()
		wantFailure(t, func(tb testing.TB) { coordtest.NewEnsemble(tb, 3) }, "members 1 and 2 differ at zxid")
	})
	t.Run("a member that has failed", func(t *testing.T) {
		wantFailure(t, func(tb testing.TB) {
			e := coordtest.NewEnsemble(tb, 3)
			private.Fail(e.Member(2), errors.New("planted"))
		}, "member 2 had to stop", "planted")
	})
	t.Run("a member that has failed when its disk was well again", func(t *testing.T) {
		for how, mend := range map[string]func(e *coordtest.Ensemble){
			"freed": func(e *coordtest.Ensemble) {
				e.FillDisk(e.Member(2), 1<<30)
				e.FreeDisk(e.Member(2))
			},
			"restarted": func(e *coordtest.Ensemble) {
				e.FillDisk(e.Member(2), 1<<20)
				e.Kill(e.Member(2))
				e.FreeDisk(e.Member(2))
				e.Restart(e.Member(2))
			},
			"failed before": func(e *coordtest.Ensemble) {
				e.FailDisk(e.Member(2))
				e.Kill(e.Member(2))
				e.Restart(e.Member(2))
			},
		} {
			wantFailure(t, func(tb testing.TB) {
				e := coordtest.NewEnsemble(tb, 3)
				mend(e)
				private.Fail(e.Member(2), errors.New(how))
			}, "member 2 had to stop", how)
		}
	})
	t.Run("goroutines", func(t *testing.T) {
		coordtest.VirtualTime(t, func(t *testing.T) {
			stay := make(chan struct{})
			wantFailure(t, func(tb testing.TB) {
				e := coordtest.NewEnsemble(tb, 1)
				pprof.Do(t.Context(), pprof.Labels("coordtest", e.Label()), func(context.Context) {
					go func() { <-stay }()
				})
			}, "goroutines left behind", "TestChecksAtCleanupCanFail")
			close(stay)
		})
	})
}

// A failed test says what was done, when, what members have logged, and how to repeat
// it; the seed that it names is taken from the environment.
func TestFailureIsRepeatable(t *testing.T) {
	f := &fakeTB{TB: t}
	said := f.run(func(tb testing.TB) {
		e := coordtest.NewEnsemble(tb, 3, coordtest.WithSeed(4711))
		e.Isolate(e.Member(2))
		tb.Error("the user's own reason")
	})
	for _, want := range []string{
		"member 2: isolated", "leader changed", "the seed was 4711",
		`COORDTEST_SEED=4711 go test`, `-run '^TestOfAUser$/^with_a_\(case\)$' coord/coordtest`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %q; said:\n%s", want, said)
		}
	}
	if !regexp.MustCompile(`\d(µs|ms|s) +member 2: isolated`).MatchString(said) {
		t.Errorf("no time is said:\n%s", said)
	}

	t.Setenv("COORDTEST_SEED", "815")
	if got := coordtest.NewEnsemble(t, 1).Seed(); got != 815 {
		t.Errorf("the seed is %d, want that of the environment", got)
	}
	t.Setenv("COORDTEST_SEED", "-1")
	wantFailure(t, func(tb testing.TB) { coordtest.New(tb) }, `COORDTEST_SEED="-1" is no seed`)
	if err := os.Unsetenv("COORDTEST_SEED"); err != nil {
		t.Fatal(err)
	}
	if a, b := coordtest.NewEnsemble(t, 1).Seed(), coordtest.NewEnsemble(t, 1).Seed(); a == b {
		t.Errorf("two ensembles have the seed %d by chance", a)
	}
}

// Bad input fails the test and says what is wrong.
func TestBadInput(t *testing.T) {
	other := coordtest.New(t)
	onOne := func(do func(e *coordtest.Ensemble, c *coord.Coordinator)) func(testing.TB) {
		return func(tb testing.TB) {
			e := coordtest.NewEnsemble(tb, 2)
			do(e, e.Member(1))
		}
	}
	on := func(opt coordtest.Option, do func(e *coordtest.Ensemble, c *coord.Coordinator)) func(testing.TB) {
		return func(tb testing.TB) {
			e := coordtest.NewEnsemble(tb, 1, opt)
			do(e, e.Member(1))
		}
	}
	down := func(do func(e *coordtest.Ensemble, c *coord.Coordinator)) func(testing.TB) {
		return onOne(func(e *coordtest.Ensemble, c *coord.Coordinator) {
			e.Kill(c)
			do(e, c)
		})
	}
	type ens = *coordtest.Ensemble
	type mem = *coord.Coordinator
	for name, tt := range map[string]struct {
		test func(testing.TB)
		want string
	}{
		"no members":        {func(tb testing.TB) { coordtest.NewEnsemble(tb, 0) }, "an ensemble of 0 members"},
		"too many members":  {func(tb testing.TB) { coordtest.NewEnsemble(tb, 2000) }, "InitialMembers, the limit is"},
		"nil option":        {func(tb testing.TB) { coordtest.NewEnsemble(tb, 1, nil) }, "option 1 is nil"},
		"nil change":        {func(tb testing.TB) { coordtest.NewEnsemble(tb, 1, coordtest.WithConfig(nil)) }, "WithConfig(nil)"},
		"the ensemble's":    {on(coordtest.WithConfig(func(c *coord.Config) { c.Dir = "/x" }), nil), `WithConfig sets Name "", ID 0, Dir "/x"`},
		"bad configuration": {on(coordtest.WithElectionTimeout(time.Hour), nil), "ElectionTimeout 1h0m0s is not between"},
		"member 3 of 2":     {onOne(func(e ens, _ mem) { e.Member(3) }), "no member 3 in an ensemble of 2"},
		"member 0":          {onOne(func(e ens, _ mem) { e.Member(0) }), "no member 0"},
		"nil member":        {onOne(func(e ens, _ mem) { e.Kill(nil) }), "kill: the member is nil"},
		"another's member":  {onOne(func(e ens, _ mem) { e.Isolate(other) }), "isolate: the member is not one of this ensemble"},
		"kill what is down": {down(func(e ens, c mem) { e.Kill(c) }), "kill: member 1 is down"},
		"kill the closed":   {onOne(func(e ens, c mem) { _ = c.Close(); e.Kill(c) }), "kill: member 1 is down"},
		"stop what is down": {down(func(e ens, c mem) { e.Stop(c) }), "stop: member 1 is down"},
		"pause the dead":    {down(func(e ens, c mem) { e.Pause(c) }), "pause: member 1 is down"},
		"cut power of dead": {down(func(e ens, c mem) { e.PowerCut(c) }), "cut the power: member 1 is down"},
		"clock of the dead": {down(func(e ens, c mem) { e.SkipClock(c, time.Second) }), "skip the clock: member 1 is down"},
		"the dead lead":     {down(func(e ens, c mem) { e.Lead(t.Context(), c) }), "lead: member 1 is down"},
		"disk of the dead":  {down(func(e ens, c mem) { e.FailDisk(c) }), "fail the disk: member 1 is down"},
		"old process":       {down(func(e ens, c mem) { e.Restart(c); e.Kill(c) }), "this process of member 1 has ended: Member(1) returns the one that runs"},
		"restart the live":  {onOne(func(e ens, c mem) { e.Restart(c) }), "restart: member 1 is running"},
		"pause twice":       {onOne(func(e ens, c mem) { e.Pause(c); e.Pause(c) }), "member 1 is paused already"},
		"resume the awake":  {onOne(func(e ens, c mem) { e.Resume(c) }), "member 1 is not paused"},
		"stop the paused":   {onOne(func(e ens, c mem) { e.Pause(c); e.Stop(c) }), "member 1 is paused: it cannot close itself"},
		"loss above 1":      {onOne(func(e ens, _ mem) { e.Lose(1.5, 1) }), "a share of 1.5"},
		"negative loss":     {onOne(func(e ens, _ mem) { e.Lose(-0.1, 1) }), "a share of -0.1"},
		"negative delay":    {onOne(func(e ens, _ mem) { e.Delay(-time.Second, 0) }), "latency -1s, jitter 0s: neither may be negative"},
		"slower than slow":  {onOne(func(e ens, c mem) { e.SlowDisk(c, -time.Second) }), "by -1s: it must not be negative"},
		"clock back":        {onOne(func(e ens, c mem) { e.SkipClock(c, -time.Second) }), "by -1s: it must be more than nothing"},
		"link to itself":    {onOne(func(e ens, c mem) { e.Cut(c, c) }), "member 1 has no link to itself"},
		"split nobody":      {onOne(func(e ens, _ mem) { e.Split() }), "0 of 2 members on one side"},
		"split all":         {onOne(func(e ens, c mem) { e.Split(c, e.Member(2)) }), "2 of 2 members on one side"},
		"follower of none":  {on(coordtest.WithSeed(1), func(e ens, _ mem) { e.Follower(t.Context()) }), "a follower in an ensemble of 1"},
		"no session":        {onOne(func(e ens, _ mem) { e.ExpireSession(t.Context(), nil) }), "expire a session: it is nil"},
		"disk on disk":      {on(coordtest.OnDisk(), func(e ens, c mem) { e.SlowDisk(c, 1) }), "member 1 is OnDisk"},
		"power on disk":     {on(coordtest.OnDisk(), func(e ens, c mem) { e.PowerCut(c) }), "member 1 is OnDisk"},
		"cut sockets":       {on(coordtest.OnSockets(), func(e ens, c mem) { e.Isolate(c) }), "the network is real"},
		"lose on sockets":   {on(coordtest.OnSockets(), func(e ens, _ mem) { e.Lose(0.1, 1) }), "the network is real"},
		"delay on sockets":  {on(coordtest.OnSockets(), func(e ens, _ mem) { e.Delay(1, 1) }), "the network is real"},
		"pause on sockets":  {on(coordtest.OnSockets(), func(e ens, c mem) { e.Pause(c) }), "member 1 is OnSockets"},
		"power on sockets":  {on(coordtest.OnSockets(), func(e ens, c mem) { e.PowerCut(c) }), "member 1 is OnSockets"},
		"unknown fault":     {onOne(func(e ens, _ mem) { e.StartFaults(coordtest.Faults{Kinds: []coordtest.Fault{"gremlin"}}) }), `"gremlin" is no fault`},
		"no faults":         {onOne(func(e ens, _ mem) { e.StartFaults(coordtest.Faults{Kinds: []coordtest.Fault{}}) }), "Kinds is empty"},
		"3 of 2 at once":    {onOne(func(e ens, _ mem) { e.StartFaults(coordtest.Faults{AtOnce: 3}) }), "AtOnce 3: it must be from 0 to 2"},
		"negative pace":     {onOne(func(e ens, _ mem) { e.StartFaults(coordtest.Faults{Every: -1}) }), "Every -1ns"},
		"impossible fault": {on(coordtest.OnDisk(), func(e ens, _ mem) {
			e.StartFaults(coordtest.Faults{Kinds: []coordtest.Fault{coordtest.PowerCuts}})
		}), "member 1 is OnDisk"},
		"counting early": {onOne(func(e ens, _ mem) { e.StartFaults(coordtest.Faults{}).Count() }), "Nemesis.Count before Stop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantFailure(t, tt.test, tt.want)
		})
	}
	for name, opt := range map[string]coordtest.Option{"OnDisk": coordtest.OnDisk(), "OnSockets": coordtest.OnSockets()} {
		t.Run(name+" in virtual time", func(t *testing.T) {
			coordtest.VirtualTime(t, func(t *testing.T) {
				wantFailure(t, func(tb testing.TB) { coordtest.New(tb, opt) }, name+" in virtual time")
			})
		})
	}
}

// A condition that does not come says what was wrong last, and how all members stand.
func TestWaitForSaysWhy(t *testing.T) {
	wantFailure(t, func(tb testing.TB) {
		e := coordtest.NewEnsemble(tb, 3)
		e.Kill(e.Member(2))
		e.Pause(e.Member(3))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		e.WaitFor(ctx, "the moon", func() error { return errors.New("it is cloudy") })
	}, "waiting for the moon: context deadline exceeded: it is cloudy", "member 1: ", "member 2: down", "member 3: paused")
}
