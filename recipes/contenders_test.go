package recipes_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func contenders(t *testing.T, c coord.Client, path string) []recipes.Contender {
	t.Helper()
	all, err := recipes.Contenders(t.Context(), c, path, coord.Linearizable())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// holding tells of each contender in a line whether it holds.
func holding(all []recipes.Contender) string {
	text := ""
	for _, c := range all {
		if c.Holds {
			text += "H"
		} else {
			text += "w"
		}
	}
	return text
}

func expectHolding(t *testing.T, c coord.Client, path, want string) []recipes.Contender {
	t.Helper()
	all := contenders(t, c, path)
	if got := holding(all); got != want {
		t.Errorf("%s: %q, want %q", path, got, want)
	}
	return all
}

// asked reports whether a Held was asked for its release.
func asked(h *recipes.Held) bool {
	select {
	case <-h.ReleaseRequested():
		return true
	default:
		return false
	}
}

func TestContenders(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, s := e.Member(1), newSession(t, e.Member(2))
		expectHolding(t, c, "/nothing", "")
		if _, _, err := c.Create(t.Context(), "/empty", nil); err != nil {
			t.Fatal(err)
		}
		expectHolding(t, c, "/empty", "")
		expectHolding(t, c, "/", "")

		h := mustLock(t, s, "/lock", recipes.WithValue([]byte("first")))
		next := lockInBackground(t.Context(), newSession(t, e.Member(3)), "/lock")
		waiting(t, c, "/lock", 2)
		all := expectHolding(t, c, "/lock", "Hw")
		if first := all[0]; string(first.Value) != "first" || first.Path != h.Path() || first.Fence != h.Fence() || first.Session != s.ID() || first.Shared || first.Weight != 0 {
			t.Errorf("the holder is %+v", first)
		}
		mustRelease(t, h)
		mustRelease(t, granted(t, next))

		r1, r2 := mustRLock(t, s, "/lock"), mustRLock(t, s, "/lock")
		w := lockInBackground(t.Context(), s, "/lock")
		waiting(t, c, "/lock", 3)
		r3 := rlockInBackground(t.Context(), s, "/lock")
		waiting(t, c, "/lock", 4)
		all = expectHolding(t, c, "/lock", "HHww")
		if !all[0].Shared || !all[1].Shared || all[2].Shared || !all[3].Shared {
			t.Errorf("Contenders = %+v", all)
		}
		mustRelease(t, r1)
		mustRelease(t, r2)
		mustRelease(t, granted(t, w))
		mustRelease(t, granted(t, r3))

		two := mustAcquire(t, s, "/permits", 3, recipes.WithWeight(2))
		rest := acquireInLine(t, e, "/permits", 3, 1, 2, 1)
		all = expectHolding(t, c, "/permits", "Hww")
		if all[0].Weight != 2 || all[2].Weight != 1 {
			t.Errorf("Contenders = %+v", all)
		}
		mustRelease(t, two)
		for _, got := range rest {
			mustRelease(t, granted(t, got))
		}

		leader, err := recipes.Campaign(t.Context(), s, "/leader", []byte("me"), recipes.WithPriority(7))
		if err != nil {
			t.Fatal(err)
		}
		all = expectHolding(t, c, "/leader", "H")
		if string(all[0].Value) != "me" || all[0].Priority != 7 {
			t.Errorf("Contenders = %+v", all)
		}
		mustRelease(t, leader)

		// What is called like a contender and is none, in the root.
		for _, name := range []string{"/lock-0000000000", "/README", "/lock-5"} {
			if _, _, err := c.Create(t.Context(), name, nil); err != nil {
				t.Fatal(err)
			}
		}
		root := mustLock(t, s, "/")
		if all = expectHolding(t, c, "/", "H"); all[0].Fence != root.Fence() {
			t.Errorf("Contenders = %+v", all)
		}
		mustRelease(t, root)
		noWatches(t, e)
	})
}

func TestContendersRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, s := e.Member(1), newSession(t, e.Member(1))
		for _, path := range []string{"", "x", "/x/"} {
			if _, err := recipes.Contenders(t.Context(), c, path); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Contenders(%q) = %v", path, err)
			}
		}
		if _, err := recipes.Contenders(t.Context(), nil, "/x"); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Contenders of no client = %v", err)
		}
		h := mustLock(t, s, "/lock")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := recipes.Contenders(ctx, c, "/lock"); !errors.Is(err, context.Canceled) {
			t.Errorf("Contenders = %v", err)
		}
		for name, call := range map[string]func(context.Context, coord.Client, recipes.Contender) error{"RequestRelease": recipes.RequestRelease, "Break": recipes.Break} {
			// Without a fence it would be anybody at that path.
			for _, who := range []recipes.Contender{{}, {Path: h.Path()}, {Path: "x", Fence: 1}} {
				if err := call(t.Context(), c, who); !errors.Is(err, coord.ErrBadArguments) {
					t.Errorf("%s(%+v) = %v", name, who, err)
				}
			}
			who := recipes.Contender{Path: h.Path(), Fence: h.Fence()}
			if err := call(ctx, c, who); !errors.Is(err, context.Canceled) {
				t.Errorf("%s = %v", name, err)
			}
			if err := call(t.Context(), nil, who); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("%s by nobody = %v", name, err)
			}
			if err := call(t.Context(), (*coord.Session)(nil), who); !errors.Is(err, coord.ErrSessionExpired) {
				t.Errorf("%s by no session = %v", name, err)
			}
			// Who is gone, or another one at the same path, is not concerned.
			for _, gone := range []recipes.Contender{{Path: h.Path(), Fence: h.Fence() - 1}, {Path: "/lock/lock-0000000099", Fence: 1}, {Path: "/x/y", Fence: 1}} {
				if err := call(t.Context(), c, gone); err != nil {
					t.Errorf("%s(%+v) = %v", name, gone, err)
				}
			}
		}
		if err := h.Check(); err != nil || asked(h) {
			t.Errorf("Check = %v, asked %t", err, asked(h))
		}
		mustRelease(t, h)
		noWatches(t, e)
	})
}

// Curator's Revoker: who holds can be asked to release, also while it waits. What it
// says of itself is kept, and to say something else keeps the request.
func TestRequestRelease_CURATOR171(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(3)
		h := mustLock(t, newSession(t, e.Member(1)), "/lock", recipes.WithValue([]byte("me")))
		next := lockInBackground(t.Context(), newSession(t, e.Member(2)), "/lock")
		waiting(t, c, "/lock", 2)
		if err := h.Downgrade(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if asked(h) {
			t.Error("a downgrade is taken for a request")
		}
		all := contenders(t, c, "/lock")
		for range 2 {
			for _, who := range all {
				if err := recipes.RequestRelease(t.Context(), c, who); err != nil {
					t.Fatal(err)
				}
			}
		}
		<-h.ReleaseRequested()
		if _, stat, err := c.Get(t.Context(), h.Path(), coord.Linearizable()); err != nil || stat.Version != 2 {
			t.Errorf("to ask twice made it version %d, %v", stat.Version, err)
		}
		if err := h.SetValue(t.Context(), []byte("busy")); err != nil {
			t.Fatal(err)
		}
		all = expectHolding(t, c, "/lock", "Hw")
		if string(all[0].Value) != "busy" || !all[0].ReleaseRequested || !all[0].Shared || !all[1].ReleaseRequested {
			t.Errorf("Contenders = %+v", all)
		}
		if err := h.Check(); err != nil {
			t.Errorf("who was asked has lost it: %v", err)
		}
		waits(t, next)
		mustRelease(t, h)
		second := granted(t, next)
		<-second.ReleaseRequested()
		mustRelease(t, second)
		third := mustLock(t, newSession(t, e.Member(1)), "/lock")
		time.Sleep(time.Second)
		if asked(third) {
			t.Error("asked, though it was another one")
		}
		mustRelease(t, third)
		noWatches(t, e)
	})
}

// A contender of Curator's knows one request: data that are exactly its mark.
func TestRequestReleaseOfCurators(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, s := e.Member(1), newSession(t, e.Member(2))
		if _, _, err := s.Create(t.Context(), "/lock", nil); err != nil {
			t.Fatal(err)
		}
		path, _, err := s.Create(t.Context(), "/lock/_c_0b5b7a0e-5b4a-4a7e-8f0a-2f3f0d6c6f1e-lock-", []byte("10.0.0.7"), coord.EphemeralSequential)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			all := expectHolding(t, c, "/lock", "H")
			if err := recipes.RequestRelease(t.Context(), c, all[0]); err != nil {
				t.Fatal(err)
			}
			if data, stat, err := c.Get(t.Context(), path, coord.Linearizable()); err != nil || string(data) != "__REVOKE__" || stat.Version != 1 {
				t.Errorf("Get = %q, version %d, %v", data, stat.Version, err)
			}
		}
		// And the other way round, which replaces what was said.
		h := mustLock(t, s, "/other", recipes.WithValue([]byte("me")))
		if _, err := c.SetData(t.Context(), h.Path(), []byte("__REVOKE__")); err != nil {
			t.Fatal(err)
		}
		<-h.ReleaseRequested()
		mustRelease(t, h)
	})
}

// An administrator's break ends the holder and raises the fence: what the broken one
// still writes under guard fails.
func TestBreakRaisesTheFence_CURATOR537_CURATOR542_redislock94(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		ask := map[string]func(s *coord.Session, path string) (*recipes.Held, error){
			"/lock": func(s *coord.Session, path string) (*recipes.Held, error) { return recipes.Lock(t.Context(), s, path) },
			"/permits": func(s *coord.Session, path string) (*recipes.Held, error) {
				return recipes.Acquire(t.Context(), s, path, 1)
			},
			"/leader": func(s *coord.Session, path string) (*recipes.Held, error) {
				return recipes.Campaign(t.Context(), s, path, nil)
			},
		}
		for path, ask := range ask {
			h, err := ask(newSession(t, e.Member(2)), path)
			if err != nil {
				t.Fatal(err)
			}
			next := make(chan outcome, 1)
			go func() {
				h, err := ask(newSession(t, e.Member(3)), path)
				next <- outcome{h, err}
			}()
			waiting(t, c, path, 2)
			e.Isolate(e.Member(2)) // the holder does not learn of it yet
			if err := recipes.Break(t.Context(), c, expectHolding(t, c, path, "Hw")[0]); err != nil {
				t.Fatal(err)
			}
			second := granted(t, next)
			if second.Fence() <= h.Fence() {
				t.Errorf("%s: fence %v behind %v", path, second.Fence(), h.Fence())
			}
			if err := h.Check(); err != nil {
				t.Errorf("%s: Check = %v, so this shows nothing", path, err)
			}
			if _, err := c.Multi(t.Context(), h.Guard(), coord.CreateOp("/stale", nil)); !errors.Is(err, coord.ErrNoNode) {
				t.Errorf("%s: a guarded write of the broken one = %v", path, err)
			}
			e.Heal()
			<-h.Context().Done()
			if err := h.Check(); !errors.Is(err, recipes.ErrLost) {
				t.Errorf("%s: Check = %v", path, err)
			}
			mustRelease(t, h)
			expectHolding(t, c, path, "H")
			if _, err := c.Multi(t.Context(), second.Guard()); err != nil {
				t.Errorf("%s: a guarded write of the holder = %v", path, err)
			}
			mustRelease(t, second)
		}
		noWatches(t, e)
	})
}
