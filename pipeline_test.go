package coord_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// openTree lets sessions from outside do everything.
var openTree = coordtest.WithConfig(func(cfg *coord.Config) { cfg.DefaultACL = coord.OpenACL() })

func mustExternal(t *testing.T, c *coord.Coordinator, timeout time.Duration) *coord.Session {
	t.Helper()
	s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: timeout, External: true})
	if err != nil {
		t.Fatalf("NewSession = %v", err)
	}
	return s
}

func mustBegin(t *testing.T, s *coord.Session, o coord.Op) *coord.Write {
	t.Helper()
	w, err := s.Begin(t.Context(), o)
	if err != nil {
		t.Fatalf("Begin(%v) = %v", o, err)
	}
	return w
}

// Writes that were begun one after the other take effect in that order, each has its
// place, and one that fails has one as well and does not hold up the others.
func TestBeginKeepsOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := mustExternal(t, e.Follower(t.Context()), 30*time.Second)
		var begun []*coord.Write
		const n = 500
		begun = append(begun, mustBegin(t, s, coord.CreateOp("/q", nil)))
		for i := range n {
			begun = append(begun, mustBegin(t, s, coord.CreateOp("/q/n-", fmt.Append(nil, i), coord.PersistentSequential)))
		}
		failing := mustBegin(t, s, coord.DeleteOp("/q"))
		multi, err := s.BeginMulti(t.Context(), coord.SetDataOp("/q", []byte("x")), coord.DeleteOp("/nope"))
		if err != nil {
			t.Fatal(err)
		}
		last := mustBegin(t, s, coord.SetDataOp("/q", []byte("last"), coord.WithVersion(0)))

		previous := coord.ZXID(0)
		for i, w := range begun {
			res, err := w.Results(t.Context())
			if err != nil || len(res) != 1 {
				t.Fatalf("write %d = %v, %v", i, res, err)
			}
			if w.ZXID() <= previous || res[0].Stat.Czxid != w.ZXID() {
				t.Fatalf("write %d is at %v behind %v, its znode was created at %v", i, w.ZXID(), previous, res[0].Stat.Czxid)
			}
			if want := fmt.Sprintf("/q/n-%010d", i-1); i > 0 && res[0].Path != want {
				t.Fatalf("write %d made %s, want %s", i, res[0].Path, want)
			}
			previous = w.ZXID()
		}
		if _, err := failing.Results(t.Context()); !errors.Is(err, coord.ErrNotEmpty) || failing.ZXID() != previous+1 {
			t.Errorf("delete = %v at %v, want not empty behind %v", err, failing.ZXID(), previous)
		}
		_, err = multi.Results(t.Context())
		failed, ok := errors.AsType[*coord.MultiError](err)
		if !ok || failed.Index != 1 || !errors.Is(err, coord.ErrNoNode) || multi.ZXID() != previous+2 {
			t.Errorf("multi = %v at %v", err, multi.ZXID())
		}
		res, err := last.Results(t.Context())
		if err != nil || res[0].Stat.Version != 1 || last.ZXID() != previous+3 {
			t.Errorf("setData = %v, %v at %v", res, err, last.ZXID())
		}
		select {
		case <-last.Done():
		default:
			t.Error("a write with results is not done")
		}
	}, openTree)
}

// Writes that wait cost no goroutines, also those of a session with limits, unless there is
// something to do when their outcome is known.
func TestPipelinesCostNoGoroutines(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		s, err := c.NewSession(t.Context(), coord.SessionOptions{
			Timeout: 30 * time.Second, External: true, Limits: coord.Limits{WritesPerSecond: 1e6, Ephemerals: 10},
		})
		if err != nil {
			t.Fatal(err)
		}
		e.Isolate(c)
		before := runtime.NumGoroutine()
		for range 1000 {
			mustBegin(t, s, coord.SetDataOp("/", nil))
		}
		if after := runtime.NumGoroutine(); after > before+5 {
			t.Errorf("%d goroutines became %d", before, after)
		}
		e.Heal()
	}, openTree)
}

// What cannot be proposed is refused at once, and who stops waiting learns that the
// outcome is unknown, and later what it was.
func TestBeginErrors(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		s := mustExternal(t, c, 30*time.Second)
		if _, err := s.Begin(t.Context(), coord.Op{}); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Begin of the zero Op = %v", err)
		}
		if _, err := s.Begin(t.Context(), coord.SetDataOp("/a", make([]byte, 17<<20))); !errors.Is(err, coord.ErrTooLarge) {
			t.Errorf("Begin with too much data = %v", err)
		}
		if _, err := s.BeginMulti(t.Context(), make([]coord.Op, 10_001)...); !errors.Is(err, coord.ErrTooLarge) {
			t.Errorf("BeginMulti with too many = %v", err)
		}
		empty, err := s.BeginMulti(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res, err := empty.Results(t.Context()); err != nil || len(res) != 0 || empty.ZXID() == 0 {
			t.Errorf("an empty multi = %v, %v at %v", res, err, empty.ZXID())
		}

		e.Isolate(c)
		w := mustBegin(t, s, coord.CreateOp("/late", nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.Results(ctx); !errors.Is(err, coord.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) || w.ZXID() != 0 {
			t.Errorf("Results without a quorum = %v at %v", err, w.ZXID())
		}
		e.Heal()
		if res, err := w.Results(t.Context()); err != nil || res[0].Path != "/late" {
			t.Errorf("Results later = %v, %v", res, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Begin(t.Context(), coord.SetDataOp("/a", nil)); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Begin on a closed session = %v", err)
		}
	}, openTree)
}

// A view that was kept behind a write shows that write and none that was begun later,
// whether they are in one batch or not.
func TestKeptViewsLieBetweenWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := mustExternal(t, e.Follower(t.Context()), 30*time.Second)
		if _, _, err := s.Create(t.Context(), "/v", nil); err != nil {
			t.Fatal(err)
		}
		for round := range 20 {
			var begun []*coord.Write
			for i := range 50 {
				w := mustBegin(t, s, coord.SetDataOp("/v", fmt.Append(nil, round, "-", i)))
				if i%3 == 0 {
					if round%2 == 1 { // some are applied when they are asked for a view
						<-w.Done()
					}
					w.KeepView()
				}
				begun = append(begun, w)
			}
			for i, w := range begun {
				<-w.Done()
				v := w.View()
				if i%3 != 0 {
					if v != nil {
						t.Fatalf("round %d, write %d has a view that nobody asked for", round, i)
					}
					continue
				}
				if v == nil {
					t.Fatalf("round %d, write %d has no view", round, i)
				}
				data, stat, err := v.Get("/v")
				if want := fmt.Sprint(round, "-", i); err != nil || string(data) != want || stat.Mzxid != w.ZXID() {
					t.Fatalf("round %d: behind write %d is %q, %v, want %q", round, i, data, err, want)
				}
			}
		}
	}, openTree)
}

// A session that its handle has left lives for its timeout, and whoever has the token
// resumes it meanwhile.
func TestLeave(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		const timeout = 20 * time.Second
		s := mustExternal(t, c, timeout)
		_, _, err := s.Create(t.Context(), "/eph", nil, coord.Ephemeral)
		if err != nil {
			t.Fatal(err)
		}
		s.Leave()
		s.Leave()
		if err := s.Context().Err(); err == nil || !errors.Is(context.Cause(s.Context()), coord.ErrClosed) {
			t.Errorf("the handle goes on: %v", err)
		}
		time.Sleep(timeout * 3 / 4)
		external := coord.SessionOptions{External: true}
		again, err := e.Leader(t.Context()).Resume(t.Context(), s.Token(), external)
		if err != nil {
			t.Fatal(err)
		}
		if paths, err := again.Ephemerals(t.Context(), "/"); err != nil || len(paths) != 1 {
			t.Errorf("Ephemerals = %v, %v", paths, err)
		}
		time.Sleep(2 * timeout) // it has a process that speaks for it again
		if _, ok, err := again.Exists(t.Context(), "/eph"); err != nil || !ok {
			t.Fatalf("the ephemeral of a resumed session: %v, %v", ok, err)
		}
		again.Leave()
		time.Sleep(timeout / 2)
		if _, ok, err := c.Exists(t.Context(), "/eph"); err != nil || !ok {
			t.Fatalf("half of the timeout behind Leave: %v, %v", ok, err)
		}
		time.Sleep(timeout)
		if _, ok, err := c.Exists(t.Context(), "/eph"); err != nil || ok {
			t.Errorf("the session is not gone when its timeout has passed: %v, %v", ok, err)
		}
		if _, err := c.Resume(t.Context(), s.Token(), external); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Resume of an expired session = %v", err)
		}
	}, openTree)
}

// A session of a client outside goes at once to where its client has gone, though its old
// process may live; what that one still sends is refused.
func TestG16ExternalSessionsMoveAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s := mustExternal(t, c, time.Hour)
		_, st, err := s.Create(t.Context(), "/eph", nil, coord.Ephemeral)
		if err != nil {
			t.Fatal(err)
		}
		e.Isolate(c)
		began := time.Now()
		again, err := e.Leader(t.Context()).Resume(t.Context(), s.Token(), coord.SessionOptions{External: true})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v", took)
		}
		wantKept(t, again, st)
		e.Heal()
		wantMoved(t, s)
		tok := coord.NewToken(c.Status().EnsembleID, s.ID(), s.Token().Password())
		if tok != s.Token() {
			t.Error("a token is not made of its parts")
		}
	}, openTree)
}

// Each resume of an external session is granted what it asks for, within bounds, and the
// ensemble keeps to it.
func TestExternalSessionsAskForTheirTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s := mustExternal(t, c, 40*time.Second)
		for _, want := range []time.Duration{20 * time.Second, 30 * time.Second, 10 * time.Second} {
			o := coord.SessionOptions{External: true, Timeout: want}
			again, err := e.Leader(t.Context()).Resume(t.Context(), s.Token(), o)
			if err != nil || again.Timeout() != want {
				t.Fatalf("Resume = %v, %v; want a timeout of %v", again, err, want)
			}
			wantMoved(t, s)
			s = again
		}
		again, err := c.Resume(t.Context(), s.Token(), coord.SessionOptions{External: true})
		if err != nil || again.Timeout() != 10*time.Second {
			t.Fatalf("Resume without a timeout = %v, %v", again, err)
		}
	}, openTree)
}

// A view tells what the reads of its session do.
func TestViewReads(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		s := mustExternal(t, c, 30*time.Second)
		for _, path := range []string{"/a", "/a/b", "/a/b/c"} {
			if _, _, err := s.Create(t.Context(), path, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := s.Create(t.Context(), "/a/e", nil, coord.Ephemeral); err != nil {
			t.Fatal(err)
		}
		secret := coord.ACL{Perms: coord.PermRead, ID: coord.DigestID("u:p")}
		read := coord.ACL{Perms: coord.PermRead, ID: coord.ID{Scheme: "world", ID: "anyone"}}
		w := mustBegin(t, s, coord.SetACLOp("/a/b", []coord.ACL{secret, read}))
		if res, err := w.Results(t.Context()); err != nil || res[0].Stat.Aversion != 1 {
			t.Fatalf("setACL = %v, %v", res, err)
		}
		v, err := s.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := v.AllChildrenNumber("/a"); n != 3 || err != nil {
			t.Errorf("AllChildrenNumber = %d, %v", n, err)
		}
		if _, err := v.AllChildrenNumber("/nope"); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("AllChildrenNumber = %v", err)
		}
		if paths := v.Ephemerals("/a"); len(paths) != 1 || paths[0] != "/a/e" {
			t.Errorf("Ephemerals = %v", paths)
		}
		list, stat, err := v.ACL("/a/b")
		if err != nil || len(list) != 2 || list[0].ID.ID != "u:x" || stat.Aversion != 1 {
			t.Errorf("ACL = %v, %+v, %v", list, stat, err)
		}
		if _, _, err := v.ACL("/nope"); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("ACL = %v", err)
		}
	}, openTree)
}

// A detached session does what others do but for ephemerals, and needs no quorum for
// what needs none.
func TestDetachedSessions(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		if _, err := c.NewSession(t.Context(), coord.SessionOptions{Detached: true}); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Detached without External = %v", err)
		}
		detached := coord.SessionOptions{External: true, Detached: true}
		sessions := c.Status().Sessions
		s, err := c.NewSession(t.Context(), detached)
		if err != nil || s.ID() != 0 || c.Status().Sessions != sessions {
			t.Fatalf("NewSession = %v, %v", s, err)
		}
		if _, _, err := s.Create(t.Context(), "/d", nil); err != nil {
			t.Error(err)
		}
		if _, _, err := s.Create(t.Context(), "/e", nil, coord.Ephemeral); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("an ephemeral = %v", err)
		}
		if _, err := c.SetACL(t.Context(), "/d", coord.MembersACL()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SetData(t.Context(), "/d", nil); !errors.Is(err, coord.ErrNoAuth) {
			t.Errorf("what is the members' = %v", err)
		}
		if err := s.HandOver(t.Context()); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("HandOver = %v", err)
		}
		if _, err := c.Resume(t.Context(), s.Token(), coord.SessionOptions{External: true}); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Resume = %v", err)
		}
		e.Isolate(c)
		time.Sleep(time.Minute)
		late, err := c.NewSession(t.Context(), detached)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := late.View(t.Context()); !errors.Is(err, coord.ErrSuspended) {
			t.Errorf("View = %v", err)
		}
		if v, err := late.View(t.Context(), coord.AllowStale()); err != nil {
			t.Error(err)
		} else if _, _, err := v.Get("/d"); !errors.Is(err, coord.ErrNoAuth) {
			t.Errorf("Get = %v", err)
		}
		e.Heal()
		late.Leave()
		if err := s.Close(); err != nil || s.State() != coord.Closed || late.State() != coord.Closed {
			t.Errorf("Close = %v, %v, %v", err, s.State(), late.State())
		}
	}, openTree)
}
