package coord_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/invariants"
)

func TestOpenReportsEveryWrongField(t *testing.T) {
	_, err := coord.Open(t.Context(), coord.Config{
		Name: "a\x00b", ID: 7, ElectionTimeout: time.Millisecond, MaxDataBytes: 1 << 30, OperationTimeout: -1, WatchBuffer: -1,
		Listen: "nowhere", MaxSessionTimeout: time.Nanosecond, LogShards: 100,
		InitialMembers: []coord.Member{{ID: 1, Addr: "a:1"}, {ID: 1, Addr: "a:1"}, {ID: 0, Addr: "a"}, {ID: 4, Addr: "b:99999"}, {ID: 1 << 32, Addr: "c:1"}},
	})
	if err == nil {
		t.Fatal("Open accepted it")
	}
	for _, want := range []string{
		"Dir is empty", `Name "a\x00b"`, "ID 7 is not among", "InitialMembers[1] has the ID 1", "InitialMembers[1] has the address a:1 of member 1",
		"InitialMembers[2] has the ID 0", `"a" is not host:port`, `address "b:99999": port "99999" is not a number`, `"nowhere" is not host:port`,
		"ElectionTimeout 1ms", "MaxDataBytes 1073741824", "OperationTimeout -1ns", "WatchBuffer -1", "MaxSessionTimeout 1ns", "LogShards 100",
		"member id 4294967296: ids from 4294967296 on are given by the ensemble",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestSingleMemberNeedsOnlyADirectory(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		c, err := coord.Open(t.Context(), coord.Config{Dir: dir, ElectionTimeout: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, c, "/n-", "x", coord.PersistentSequential)
		names, _, err := c.Children(t.Context(), "/")
		if err != nil || len(names) != i+2 {
			t.Errorf("Children = %v, %v", names, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("second Close = %v", err)
		}
		if _, _, err := c.Get(t.Context(), "/"); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Get after Close = %v", err)
		}
		if _, _, err := c.Create(t.Context(), "/x", nil); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Create after Close = %v", err)
		}
		if err := c.Health(); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Health after Close = %v", err)
		}
	}
}

func TestCloseFreesEphemeralsAndLeadership(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader := e.Leader(t.Context())
		mustCreate(t, leader, "/eph", "", coord.Ephemeral)
		begin := time.Now()
		e.Stop(leader)
		next := e.Leader(t.Context())
		if _, ok, err := next.Exists(t.Context(), "/eph", coord.Linearizable()); ok || err != nil {
			t.Errorf("Exists = %v, %v after Close", ok, err)
		}
		if n := next.Status().Sessions; n != 2 {
			t.Errorf("%d sessions, want those of the two members that are left", n)
		}
		if _, err := leader.NewSession(t.Context(), coord.SessionOptions{}); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("NewSession after Close = %v", err)
		}
		if d := time.Since(begin); d > 900*time.Millisecond {
			t.Errorf("the ensemble had no leader for %v: an election took place, no hand-over", d)
		}
	})
}

func TestOwnSessionIsOpenedAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		p, _ := mustCreate(t, c, "/eph", "", coord.Ephemeral)
		var ids []coord.SessionID
		for s := range c.Sessions(t.Context()) {
			ids = append(ids, s.ID())
			if len(ids) == 2 {
				break
			}
			e.Isolate(c)
			<-s.Context().Done()
			if !errors.Is(context.Cause(s.Context()), coord.ErrSessionExpired) {
				t.Errorf("cause = %v", context.Cause(s.Context()))
			}
			if _, _, err := s.Get(t.Context(), "/"); !errors.Is(err, coord.ErrSessionExpired) {
				t.Errorf("Get through an expired session = %v", err)
			}
			e.Heal()
		}
		if ids[0] == ids[1] {
			t.Errorf("the new session has the id of the old one")
		}
		eventually(t, "the old session's ephemeral to vanish", func() bool {
			_, ok, err := c.Exists(t.Context(), p)
			return err == nil && !ok
		})
	})
}

func TestOperationsEndInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/n", "")
		e.Isolate(c)
		begin := time.Now()
		_, err := c.SetData(t.Context(), "/n", nil)
		if !errors.Is(err, coord.ErrUnknownOutcome) || !errors.Is(err, coord.ErrTimeout) && !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("SetData = %v", err)
		}
		if d := time.Since(begin); d > 31*time.Second {
			t.Errorf("SetData took %v", d)
		}
		begin = time.Now()
		if err := c.Sync(t.Context(), "/n"); !errors.Is(err, coord.ErrTimeout) {
			t.Errorf("Sync = %v", err)
		}
		if d := time.Since(begin); d > 31*time.Second {
			t.Errorf("Sync took %v", d)
		}
		canceled, cancel := context.WithCancelCause(t.Context())
		why := errors.New("no longer wanted")
		cancel(why)
		if _, err := c.SetData(canceled, "/n", nil); !errors.Is(err, why) || errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("SetData with a context that has ended = %v", err)
		}
		e.Heal()
		eventually(t, "the member to come back", func() bool { return c.Health() == nil })
	})
}

// TestCloseOfAllInTurn closes every member of an ensemble. The last ones have no quorum
// to close their sessions with, and do not wait for one.
func TestCloseOfAllInTurn(t *testing.T) {
	const patience = time.Hour
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		began := time.Now()
		for _, c := range e.Running() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took > patience/2 {
			t.Errorf("closing took %v", took)
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.CloseTimeout = patience }))
}

func TestCloseEndsEverybodyWhoWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/n", "")
		w, err := c.Watch(t.Context(), "/n", coord.Node)
		if err != nil {
			t.Fatal(err)
		}
		e.Isolate(c)
		errs := make(chan error, 3)
		go func() {
			_, err := c.SetData(t.Context(), "/n", nil)
			errs <- err
		}()
		go func() { errs <- c.Sync(t.Context(), "/n") }()
		go func() {
			for _, err := range w.Events() {
				errs <- err
			}
		}()
		synctest.Wait()
		e.Kill(c)
		for range 3 {
			if err := <-errs; !errors.Is(err, coord.ErrClosed) {
				t.Errorf("a waiting call ended with %v", err)
			}
		}
	})
}

func TestBackpressureHoldsCallersInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		e.Isolate(c)
		// Far more than the queue takes: the rest waits outside and can leave.
		const callers = 64
		data := make([]byte, 1<<20)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var mu sync.Mutex
		unknown, definite := 0, 0
		for i := range 3 * callers {
			wg.Go(func() {
				_, _, err := c.Create(ctx, fmt.Sprintf("/n%d", i), data)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(err, coord.ErrUnknownOutcome):
					unknown++
				case err != nil:
					definite++
				}
			})
		}
		wg.Wait()
		if unknown == 0 || definite < callers || unknown+definite != 3*callers {
			t.Errorf("%d unknown and %d definite errors of %d", unknown, definite, 3*callers)
		}
		e.Heal()
		e.Leader(t.Context())
		eventually(t, "the member to come back", func() bool { return c.Health() == nil })
		names, _, err := c.Children(t.Context(), "/", coord.Linearizable())
		if err != nil || len(names) > unknown+1 {
			t.Errorf("%d znodes, %v; only %d writes had an unknown outcome", len(names), err, unknown)
		}
	})
}

func TestLimitsAreNamed(t *testing.T) {
	// A session that outlives the largest write under the race detector.
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.SessionTimeout = time.Minute }))
	c := e.Member(1)
	mustCreate(t, c, "/n", "")
	tooLarge := make([]byte, 1<<20+1)
	for name, test := range map[string]struct {
		do   func() error
		is   error
		says string
	}{
		"data":      {func() error { _, err := c.SetData(t.Context(), "/n", tooLarge); return err }, coord.ErrTooLarge, "1048577 bytes of data, the limit is 1048576"},
		"create":    {func() error { _, _, err := c.Create(t.Context(), "/m", tooLarge); return err }, coord.ErrTooLarge, "the limit is 1048576"},
		"in multi":  {func() error { _, err := c.Multi(t.Context(), coord.SetDataOp("/n", tooLarge)); return err }, coord.ErrTooLarge, "the limit is 1048576"},
		"multi":     {func() error { _, err := c.Multi(t.Context(), make([]coord.Op, 10_001)...); return err }, coord.ErrTooLarge, "10001 operations, the limit is 10000"},
		"path":      {func() error { _, _, err := c.Create(t.Context(), "/"+strings.Repeat("x", 4096), nil); return err }, coord.ErrBadArguments, "path of 4097 bytes, the limit is 4096"},
		"component": {func() error { _, _, err := c.Create(t.Context(), "/n/..", nil); return err }, coord.ErrBadArguments, `relative component ".."`},
		"rune":      {func() error { _, _, err := c.Get(t.Context(), "/n\x01", coord.AllowStale()); return err }, coord.ErrBadArguments, `control character '\x01'`},
		"watch":     {func() error { _, err := c.Watch(t.Context(), "n", coord.Node); return err }, coord.ErrBadArguments, "does not start with a slash"},
		"mode":      {func() error { _, err := c.Watch(t.Context(), "/n", 0); return err }, coord.ErrBadArguments, "WatchMode(0)"},
		"ttl":       {func() error { _, _, err := c.Create(t.Context(), "/t", nil, coord.WithTTL(time.Second)); return err }, coord.ErrBadArguments, ""},
		"limit":     {func() error { _, _, err := c.Children(t.Context(), "/", coord.Limit(-1)); return err }, coord.ErrBadArguments, "Limit(-1)"},
	} {
		err := test.do()
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v that says %q", name, err, test.is, test.says)
		}
	}
	// Nothing of it was done, and the largest data fits, also many in one multi.
	ops := []coord.Op{}
	for i := range 20 {
		ops = append(ops, coord.CreateOp(fmt.Sprintf("/big%d", i), tooLarge[1:]))
	}
	if _, err := c.Multi(t.Context(), ops...); err != nil {
		t.Errorf("Multi of 20 MiB = %v", err)
	}
	// Writing that much can take longer than a sign of life may.
	if n, err := c.AllChildrenNumber(t.Context(), "/", coord.AllowStale()); err != nil || n != 3+1+20 {
		t.Errorf("AllChildrenNumber = %d, %v", n, err)
	}
}

func TestLeaderReapsContainersAndTTLs(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/unused", "", coord.Container)
		mustCreate(t, c, "/used", "", coord.Container)
		mustCreate(t, c, "/used/child", "")
		mustCreate(t, c, "/ttl", "", coord.PersistentTTL, coord.WithTTL(10*time.Minute))
		mustCreate(t, c, "/kept", "", coord.PersistentTTL, coord.WithTTL(10*time.Minute))
		mustCreate(t, c, "/kept/child", "")
		exists := func(path string) bool {
			_, ok, err := c.Exists(t.Context(), path)
			return ok && err == nil
		}
		time.Sleep(4 * time.Minute)
		if !exists("/unused") || !exists("/used") || !exists("/ttl") {
			t.Error("something was reaped too early")
		}
		if err := c.Delete(t.Context(), "/used/child"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		if exists("/used") || exists("/unused") || !exists("/ttl") {
			t.Errorf("after 7 minutes: used %v, unused %v, ttl %v", exists("/used"), exists("/unused"), exists("/ttl"))
		}
		e.Kill(c)
		c = e.Leader(t.Context())
		time.Sleep(6 * time.Minute)
		if exists("/ttl") || !exists("/kept") {
			t.Errorf("after 13 minutes: ttl %v, kept %v", exists("/ttl"), exists("/kept"))
		}
	})
}

func TestGroupTimeFollowsTheClock(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		offset := func() time.Duration {
			_, st := mustCreate(t, c, "/t-", "", coord.PersistentSequential)
			return time.Since(time.UnixMilli(st.Ctime)).Abs()
		}
		time.Sleep(5 * time.Minute)
		if d := offset(); d > 2*time.Second {
			t.Errorf("a stat is %v off after five minutes", d)
		}
		running := e.Running()
		for _, c := range running {
			e.Kill(c)
		}
		time.Sleep(5 * time.Hour)
		for _, c := range running {
			e.Restart(c)
		}
		c = e.Leader(t.Context())
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute) // a minute of group time for each touch
		if d := offset(); d > 2*time.Second {
			t.Errorf("a stat is %v off after hours of standstill", d)
		}
	})
}

// TestCountersUnderFaults adds to counters while members die, are cut off and lose
// messages. The sum must be what was acknowledged, plus at most what was not.
func TestCountersUnderFaults(t *testing.T) {
	seeds := uint64(6)
	if invariants.Enabled || testing.Short() { // the race detector takes 10 s for each
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				mustCreate(t, e.Leader(t.Context()), "/sum", "0")
				stop := make(chan struct{})
				var mu sync.Mutex
				acked, unknown := int64(0), int64(0)
				var wg sync.WaitGroup
				for i := range 3 {
					for range 4 {
						wg.Go(func() {
							for {
								select {
								case <-stop:
									return
								default:
								}
								ctx, cancel := context.WithTimeout(t.Context(), time.Second)
								_, _, err := e.Member(i+1).Add(ctx, "/sum", 1)
								cancel()
								mu.Lock()
								switch {
								case err == nil:
									acked++
								case errors.Is(err, coord.ErrUnknownOutcome):
									unknown++
								default:
								}
								mu.Unlock()
								time.Sleep(20 * time.Millisecond)
							}
						})
					}
				}
				for range 12 {
					victim := e.Running()[rnd.IntN(3)]
					e.Lose(rnd.Float64()/5, seed)
					if rnd.IntN(2) == 0 {
						e.Kill(victim)
						time.Sleep(time.Duration(rnd.IntN(6000)) * time.Millisecond)
						e.Restart(victim)
					} else {
						e.Isolate(victim)
						time.Sleep(time.Duration(rnd.IntN(15000)) * time.Millisecond)
						e.Heal()
					}
					time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
				}
				e.Lose(0, 0)
				close(stop)
				wg.Wait()
				c := e.Leader(t.Context())
				data, stat := mustGet(t, c, "/sum", coord.Linearizable())
				var sum int64
				if _, err := fmt.Sscan(data, &sum); err != nil {
					t.Fatal(err)
				}
				if sum < acked || sum > acked+unknown || int64(stat.Version) != sum {
					t.Errorf("sum %d at version %d, %d acknowledged and %d unknown", sum, stat.Version, acked, unknown)
				}
				t.Logf("seed %d: sum %d, %d acknowledged, %d unknown", seed, sum, acked, unknown)
				if acked == 0 {
					t.Error("nothing was acknowledged")
				}
			})
		})
	}
}

// A voter that is short of space has the ensemble refuse growth, and nothing else.
func TestShortOfSpace(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.OnDisk(), coordtest.WithConfig(func(c *coord.Config) {
		c.MinFreeBytes = 2 * coord.FreeBytes(t, t.TempDir())
	}))
	c := e.Member(1)
	// The first touches may have gone before the disk was looked at.
	eventually(t, "growth to be refused", func() bool {
		_, _, err := c.Create(t.Context(), "/n-", []byte("x"), coord.PersistentSequential)
		return errors.Is(err, coord.ErrNoSpace)
	})
	s, err := c.NewSession(t.Context(), coord.SessionOptions{})
	if err != nil {
		t.Fatalf("NewSession = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	_, _, err = c.Create(t.Context(), "/other", nil)
	if !errors.Is(err, coord.ErrNoSpace) {
		t.Errorf("Create = %v", err)
	}
	if _, err := c.SetData(t.Context(), "/zookeeper/quota", []byte("x")); !errors.Is(err, coord.ErrNoSpace) {
		t.Errorf("SetData that grows = %v", err)
	}
	if _, err := c.SetData(t.Context(), "/zookeeper/quota", nil); err != nil {
		t.Errorf("SetData that does not grow = %v", err)
	}
	names, _, err := c.Children(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name != "zookeeper" {
			if err := c.Delete(t.Context(), "/"+name); err != nil {
				t.Errorf("Delete = %v", err)
			}
		}
	}
}

// A member stops before its disk is full: the raft library would take the whole
// process with it.
func TestOutOfSpace(t *testing.T) {
	cfg := coord.Config{Dir: t.TempDir(), ElectionTimeout: 200 * time.Millisecond, MinFreeBytes: 1 << 62}
	c, err := coord.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Context().Done()
	if err := c.Health(); !errors.Is(err, coord.ErrFailed) || !strings.Contains(err.Error(), "bytes free") {
		t.Errorf("Health = %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}
