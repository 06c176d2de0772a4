package coord_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// alice is an identity that two sessions can have.
var alice = coord.ID{Scheme: "digest", ID: "alice:2jmj7l5rSw0yVb/vlWAYkK/YBwk="}

func openDirectory(t *testing.T, c *coord.Coordinator) {
	t.Helper()
	mustCreate(t, c, "/open", "", coord.WithACL(coord.OpenACL()...))
}

// mustRefuse checks that err is a refusal for a limit, and says all these.
func mustRefuse(t *testing.T, err error, texts ...string) {
	t.Helper()
	if !errors.Is(err, coord.ErrLimitExceeded) {
		t.Errorf("got %v, want ErrLimitExceeded", err)
		return
	}
	for _, text := range append(texts, "Limits.") {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

// TestRateHoldsUp has a session write faster than it may: it waits for its turn, so
// that in the end it has taken as long as its rate says.
func TestRateHoldsUp(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		openDirectory(t, c)
		s := external(t, c)
		begin := time.Now()
		var writers sync.WaitGroup
		for i := range 45 {
			writers.Go(func() {
				if _, _, err := s.Create(t.Context(), fmt.Sprintf("/open/%d", i), nil); err != nil {
					t.Errorf("Create = %v", err)
				}
			})
		}
		writers.Wait()
		// Five at once, and forty at ten in a second.
		if took := time.Since(begin); took < 4*time.Second || took > 4*time.Second+500*time.Millisecond {
			t.Errorf("45 writes took %v, want 4 s", took)
		}

		// The burst is there again after half a second. A Multi that is larger than
		// the burst goes when the burst is there, and what follows waits the longer.
		time.Sleep(time.Second)
		begin = time.Now()
		ops := make([]coord.Op, 20)
		for i := range ops {
			ops[i] = coord.SetDataOp("/open", nil)
		}
		if _, err := s.Multi(t.Context(), ops...); err != nil || time.Since(begin) > 200*time.Millisecond {
			t.Errorf("Multi = %v, in %v", err, time.Since(begin))
		}
		if err := s.Delete(t.Context(), "/open/1"); err != nil || time.Since(begin) < 1500*time.Millisecond {
			t.Errorf("Delete = %v, in %v, want it to wait for 1.6 s", err, time.Since(begin))
		}

		// Other sessions and the ensemble's own code are not concerned.
		begin = time.Now()
		for i := range 100 {
			mustCreate(t, c, fmt.Sprintf("/open/own-%d", i), "")
		}
		if _, _, err := external(t, c).Create(t.Context(), "/open/another", nil); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("others were held up for %v, %v", time.Since(begin), err)
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.SessionLimits = coord.Limits{WritesPerSecond: 10, WriteBurst: 5} }))
}

// TestRateRefuses has calls end before their turn would come: they are refused at once,
// and one that is given up while it waits gives its turn back.
func TestRateRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		openDirectory(t, c)
		s := external(t, c)
		write := func(timeout time.Duration, bytes int) error {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err := s.SetData(ctx, "/open", make([]byte, bytes))
			return err
		}
		if err := write(time.Second, 0); err != nil { // to open the session took nothing
			t.Fatal(err)
		}
		begin := time.Now()
		late, stop := context.WithDeadline(t.Context(), begin.Add(-time.Second))
		defer stop()
		if _, err := s.SetData(late, "/open", nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, coord.ErrLimitExceeded) {
			t.Errorf("SetData behind its deadline = %v", err)
		}
		mustRefuse(t, write(9*time.Second, 0), "Limits.WritesPerSecond is 0.1 for session "+s.ID().String(), "the turn would come in 10", "the call ends in 9s")
		if took := time.Since(begin); took != 0 {
			t.Errorf("the refusal took %v", took)
		}

		// The operation timeout of 15 s bounds a call that has no deadline.
		_, err := s.SetData(t.Context(), "/open", nil)
		if err != nil || time.Since(begin) < 9*time.Second {
			t.Errorf("SetData = %v, in %v", err, time.Since(begin))
		}
		time.Sleep(9 * time.Second)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("changed my mind")
		time.AfterFunc(500*time.Millisecond, func() { cancel(why) })
		if _, err := s.SetData(ctx, "/open", nil); !errors.Is(err, why) || errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("SetData that was given up = %v", err)
		}
		begin = time.Now()
		if err := write(time.Minute, 0); err != nil || time.Since(begin) > time.Second {
			t.Errorf("SetData behind one that was given up = %v, in %v", err, time.Since(begin))
		}
		if _, _, err := s.Get(t.Context(), "/open"); err != nil {
			t.Errorf("Get = %v: reads have no rate", err)
		}
		ops := make([]coord.Op, 3)
		for i := range ops {
			ops[i] = coord.CheckOp("/open")
		}
		if _, err := s.Multi(t.Context(), ops...); err != nil { // leaves a debt
			t.Fatal(err)
		}
		_, err = s.Multi(t.Context(), ops...)
		mustRefuse(t, err, "multi", "the call ends in 15s")

		begin = time.Now()
		if err := s.Close(); err != nil || time.Since(begin) > time.Second {
			t.Errorf("Close = %v, in %v", err, time.Since(begin))
		}
	}, coordtest.WithConfig(func(c *coord.Config) {
		c.SessionLimits = coord.Limits{WritesPerSecond: 0.1}
		c.OperationTimeout = 15 * time.Second
	}))
}

// TestRateOfBytes has a session write more bytes than it may.
func TestRateOfBytes(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		openDirectory(t, c)
		s := external(t, c)
		begin := time.Now()
		for range 11 {
			if _, err := s.SetData(t.Context(), "/open", make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
		}
		// The first takes a burst of 64 KiB, and each leaves a debt for the next.
		if took := time.Since(begin); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("11 writes of 100 kB took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := s.SetData(ctx, "/open", make([]byte, 100_000))
		mustRefuse(t, err, "Limits.BytesPerSecond is 100000 for session")
	}, coordtest.WithConfig(func(c *coord.Config) { c.SessionLimits.BytesPerSecond = 100_000; c.SessionLimits.ByteBurst = 64 << 10 }))
}

// TestRefusedResumeIsAudited resumes a session more often than an identity may.
func TestRefusedResumeIsAudited(t *testing.T) {
	log, events := auditLog()
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		s := external(t, c)
		for i := range 2 {
			_, err := c.Resume(t.Context(), s.Token(), coord.SessionOptions{External: true, Identities: from("10.0.0.1")})
			if want := i > 0; errors.Is(err, coord.ErrLimitExceeded) != want {
				t.Errorf("resume %d = %v, want over the limit: %v", i+1, err, want)
			}
		}
		all := events()
		if last := all[len(all)-1]; len(all) != 3 || last["act"] != "resume session" || last["outcome"] != "refused" {
			t.Errorf("%d events, the last of them %v; want 3, and that a resume was refused", len(all), last)
		}
	}, coordtest.WithConfig(func(c *coord.Config) {
		c.AuditLogger = log
		c.IdentityLimits = func(coord.ID) (coord.Limits, bool) {
			return coord.Limits{WritesPerSecond: 0.001, WriteBurst: 1}, true
		}
	}))
}

// TestIdentityHasLimitsTogether has the sessions of one identity draw on one account,
// that of a session which shows the credential later included.
func TestIdentityHasLimitsTogether(t *testing.T) {
	var asked atomic.Int64
	limits := func(id coord.ID) (coord.Limits, bool) {
		asked.Add(1)
		return coord.Limits{WritesPerSecond: 10, WriteBurst: 1, Watches: 3, Ephemerals: 4}, id.Scheme == "digest"
	}
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Follower(t.Context())
		openDirectory(t, c)
		ip := coord.ID{Scheme: "ip", ID: "10.0.0.1"}
		begin := time.Now()
		a, b, other := external(t, c, alice), external(t, c, alice, ip), external(t, c, ip)
		if took := time.Since(begin); took < 100*time.Millisecond {
			t.Errorf("two sessions of one identity were opened in %v", took)
		}
		begin = time.Now()
		for i := range 10 {
			mustCreate(t, a, fmt.Sprintf("/open/a%d", i), "")
			mustCreate(t, b, fmt.Sprintf("/open/b%d", i), "")
		}
		if took := time.Since(begin); took < 1900*time.Millisecond || took > 2200*time.Millisecond {
			t.Errorf("20 writes of one identity took %v", took)
		}
		begin = time.Now()
		for i := range 10 {
			mustCreate(t, other, fmt.Sprintf("/open/c%d", i), "")
		}
		if took := time.Since(begin); took > 500*time.Millisecond {
			t.Errorf("somebody else was held up for %v", took)
		}

		var watches []*coord.Watch
		watch := func(s *coord.Session) error {
			w, err := s.Watch(ctx, "/open", coord.Node)
			if err == nil {
				watches = append(watches, w)
			}
			return err
		}
		if err := errors.Join(watch(a), watch(b), watch(other), watch(other)); err != nil {
			t.Fatal(err)
		}
		if err := other.AddAuth(ctx, "digest", []byte("alice:secret")); err != nil {
			t.Fatal(err)
		}
		id := other.Identities()[1]
		if err := a.AddAuth(ctx, "digest", []byte("alice:secret")); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(fmt.Sprint(watch(a)), "secret") || id == alice {
			t.Fatal("the test is wrong")
		}

		// Three of the other credential: one and two that were open already.
		err := watch(other)
		mustRefuse(t, err, "Limits.Watches is 3 for identity digest:alice: there are", "watch /open")
		if strings.Contains(fmt.Sprint(err), strings.TrimPrefix(id.ID, "alice:")) {
			t.Errorf("%q tells the hash of a password", err)
		}
		for _, w := range watches {
			w.Close()
		}
		if err := watch(other); err != nil {
			t.Errorf("Watch after others were closed = %v", err)
		}

		for i := range 4 {
			mustCreate(t, []*coord.Session{a, b}[i%2], fmt.Sprintf("/open/e%d", i), "", coord.Ephemeral)
		}
		_, _, err = b.Create(ctx, "/open/e", nil, coord.Ephemeral)
		mustRefuse(t, err, "Limits.Ephemerals is 4 for identity digest:alice: there are 4, and the write makes 1", "create /open/e")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, b, "/open/e", "", coord.Ephemeral)
		if asked.Load() == 0 {
			t.Error("nobody was asked for limits")
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.IdentityLimits = limits }))
}

// TestEphemeralsAreExact has many callers make and delete ephemerals up to the limit of
// their session. None gets through that is one too many, and none is refused while
// there is a place: a limit that is never reached refuses nobody.
func TestEphemeralsAreExact(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) { c.SessionLimits.Ephemerals = 8 }))
	ctx, c := t.Context(), e.Follower(t.Context())
	openDirectory(t, c)
	s := external(t, c)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			path := fmt.Sprintf("/open/%d", i)
			for range 20 {
				if r.IntN(3) == 0 { // whose outcome is not waited for
					short, cancel := context.WithTimeout(ctx, time.Duration(r.IntN(3000))*time.Microsecond)
					_, _, err := s.Create(short, path, nil, coord.Ephemeral)
					cancel()
					if errors.Is(err, coord.ErrLimitExceeded) {
						t.Errorf("Create = %v", err)
					}
					if unknown, ok := errors.AsType[*coord.OutcomeError](err); ok {
						err = unknown.Outcome(ctx)
					}
					if err != nil {
						continue
					}
				} else if _, _, err := s.Create(ctx, path, nil, coord.Ephemeral); err != nil {
					t.Errorf("Create = %v", err)
					return
				}
				if err := s.Delete(ctx, path); err != nil {
					t.Errorf("Delete = %v", err)
					return
				}
			}
		})
	}
	callers.Wait()

	var made atomic.Int64
	for i := range 30 {
		callers.Go(func() {
			_, err := s.Multi(ctx, coord.CreateOp(fmt.Sprintf("/open/m%d", i), nil, coord.Ephemeral), coord.CheckOp("/open"))
			if err == nil {
				made.Add(1)
				return
			}
			mustRefuse(t, err, "Limits.Ephemerals is 8 for session "+s.ID().String(), "multi")
		})
	}
	callers.Wait()
	if paths, err := s.Ephemerals(ctx, "/"); err != nil || len(paths) != 8 || made.Load() != 8 {
		t.Errorf("%d ephemerals after %d successes, %v; the limit is 8", len(paths), made.Load(), err)
	}
}

// TestEnsembleLimitsEphemerals has the limit of the ensemble refuse, for any session.
func TestEnsembleLimitsEphemerals(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.MaxEphemerals = 2 }))
	ctx, c := t.Context(), e.Member(1)
	for i := range 2 {
		mustCreate(t, c, fmt.Sprintf("/e%d", i), "", coord.Ephemeral)
	}
	text := fmt.Sprintf("session %v has 2 ephemerals, the ensemble's limit is 2", c.Session().ID())
	if _, _, err := c.Create(ctx, "/e", nil, coord.Ephemeral); !errors.Is(err, coord.ErrLimitExceeded) || !strings.Contains(err.Error(), text) {
		t.Errorf("Create = %v", err)
	}
	if _, err := c.Multi(ctx, coord.CreateOp("/e", nil, coord.Ephemeral)); !errors.Is(err, coord.ErrLimitExceeded) || !strings.Contains(err.Error(), text) {
		t.Errorf("Multi = %v", err)
	}
}

// TestLimitsOfOneSession has the ensemble's own code ask for limits, of watches in sets
// and of data. They go with a resume that asks for them.
func TestLimitsOfOneSession(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	ctx, c := t.Context(), e.Member(1)
	o := coord.SessionOptions{Limits: coord.Limits{Watches: 2, DataBytes: 10}}
	s, err := c.NewSession(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	check := func(s *coord.Session) {
		t.Helper()
		_, _, err := s.Create(ctx, "/x", make([]byte, 11))
		mustRefuse(t, err, "create /x", "Limits.DataBytes is 10", "the write has 11")
		_, err = s.Multi(ctx, coord.SetDataOp("/", make([]byte, 6)), coord.CreateOp("/x", make([]byte, 5)))
		mustRefuse(t, err, "multi", "the write has 11")
		if _, err := s.Multi(ctx, coord.SetDataOp("/", make([]byte, 6)), coord.SetDataOp("/", make([]byte, 4))); err != nil {
			t.Errorf("Multi within the limit = %v", err)
		}
		ws, err := s.NewWatchSet(ctx)
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.View(ctx)
		if err != nil {
			t.Fatal(err)
		}
		add := func(paths ...string) error {
			var rs []coord.Registration
			for _, p := range paths {
				rs = append(rs, coord.Registration{Path: p, Type: coord.DataWatcher})
			}
			return ws.Add(v, rs...)
		}
		mustRefuse(t, add("/a", "/b", "/c"), "Limits.Watches is 2", "there are 0, and 3 are wanted")
		if err := errors.Join(add("/a", "/b"), add("/a", "/b")); err != nil {
			t.Errorf("Add within the limit = %v", err)
		}
		mustRefuse(t, add("/c"), "there are 2, and 1 are wanted")
		if _, err := s.Watch(ctx, "/", coord.Node); !errors.Is(err, coord.ErrLimitExceeded) {
			t.Errorf("Watch beyond the limit = %v", err)
		}
		ws.Remove("/a", coord.AnyWatcher)
		mustCreate(t, c, "/b", "") // uses one up
		eventually(t, "the watch to fire", func() bool { return ws.Len() == 0 })
		w, err := s.Watch(ctx, "/", coord.Node)
		if err != nil {
			t.Errorf("Watch after others have gone = %v", err)
		}
		if err := c.Delete(ctx, "/b"); err != nil {
			t.Fatal(err)
		}
		w.Close()
		ws.Close()
	}
	check(s)
	resumed, err := c.Resume(ctx, s.Token(), o)
	if err != nil {
		t.Fatal(err)
	}
	check(resumed)
	mustCreate(t, c, "/x", string(bytes.Repeat([]byte("x"), 100)))
}

// TestLimitsAreChecked refuses limits that make no sense.
func TestLimitsAreChecked(t *testing.T) {
	for _, cfg := range []coord.Config{
		{Dir: "x", MaxEphemerals: -1},
		{Dir: "x", SessionLimits: coord.Limits{WritesPerSecond: -1}},
		{Dir: "x", SessionLimits: coord.Limits{Watches: -1}},
	} {
		if _, err := coord.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "-1") {
			t.Errorf("Open = %v, want it to object to -1", err)
		}
	}
}
