package recipes_test

import (
	"context"
	"errors"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func mustClaim(t *testing.T, s *coord.Session, dir, name string) *recipes.Held {
	t.Helper()
	h, err := recipes.ClaimName(t.Context(), s, dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestClaimName(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a, b := newSession(t, e.Member(1)), newSession(t, e.Member(2))
		h, err := recipes.ClaimName(t.Context(), a, "/names/hosts", "web", recipes.WithValue([]byte("10.0.0.1")))
		if err != nil {
			t.Fatal(err)
		}
		if h.Path() != "/names/hosts/web" || h.Check() != nil {
			t.Errorf("%s, Check = %v", h.Path(), h.Check())
		}
		if data, _, err := b.Get(t.Context(), h.Path(), coord.Linearizable()); err != nil || string(data) != "10.0.0.1" {
			t.Errorf("Get = %s, %v", data, err)
		}
		for _, s := range []*coord.Session{a, b} {
			if _, err := recipes.ClaimName(t.Context(), s, "/names/hosts", "web"); !errors.Is(err, recipes.ErrTaken) {
				t.Errorf("ClaimName of a name that is taken = %v", err)
			}
		}
		mustClaim(t, b, "/names/hosts", "db")
		mustRelease(t, h)
		// Whoever was told that it is free gets it at once, on whatever member.
		again := mustClaim(t, b, "/names/hosts", "web")
		if again.Fence() <= h.Fence() {
			t.Errorf("fence %v behind %v", again.Fence(), h.Fence())
		}
		if _, err := a.Multi(t.Context(), h.Guard()); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("a guarded write = %v", err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		mustRelease(t, mustClaim(t, a, "/names/hosts", "web"))
		if err := again.Check(); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Check = %v", err)
		}
		eventually(t, "the directories to vanish", func() bool { return children(t, e.Member(1), "/names") == "none" })
		noWatches(t, e)
	})
}

// The name of a process that is cut off is free when its Held has ended, not before.
func TestClaimEndsBeforeTheNameIsFree(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		h := mustClaim(t, newSession(t, c), "/names", "web")
		e.Isolate(c)
		s := newSession(t, e.Leader(t.Context()))
		for {
			next, err := recipes.ClaimName(t.Context(), s, "/names", "web")
			if err == nil {
				if err := h.Check(); !errors.Is(err, coord.ErrSessionExpired) {
					t.Errorf("Check = %v", err)
				}
				e.Heal()
				mustRelease(t, h)
				mustRelease(t, next)
				break
			}
			if !errors.Is(err, recipes.ErrTaken) {
				t.Fatalf("ClaimName = %v", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		noWatches(t, e)
	})
}

func TestClaimNumber(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 4
		s := newSession(t, e.Member(1))
		var all []*recipes.Held
		for want := range n {
			h, number, err := recipes.ClaimNumber(t.Context(), s, "/workers", n)
			if err != nil || number != want || h.Path() != "/workers/"+strconv.Itoa(want) {
				t.Fatalf("ClaimNumber = %d, %v, want %d", number, err, want)
			}
			all = append(all, h)
		}
		other := newSession(t, e.Member(2))
		if _, _, err := recipes.ClaimNumber(t.Context(), other, "/workers", n); !errors.Is(err, recipes.ErrFull) {
			t.Errorf("ClaimNumber when all are taken = %v", err)
		}
		mustRelease(t, all[2])
		h, number, err := recipes.ClaimNumber(t.Context(), other, "/workers", n)
		if err != nil || number != 2 || h.Fence() <= all[2].Fence() {
			t.Errorf("ClaimNumber = %d, %v", number, err)
		}
		if _, number, err := recipes.ClaimNumber(t.Context(), other, "/workers", n+1); err != nil || number != n {
			t.Errorf("ClaimNumber = %d, %v", number, err)
		}
	})
}

// However many claim at once, each gets a number of its own, with few attempts.
func TestClaimNumberWithoutAStorm(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 60
		var sessions []*coord.Session
		for i := range n {
			sessions = append(sessions, newSession(t, e.Member(i%3+1)))
		}
		e.Converged(t.Context())
		before := e.Leader(t.Context()).Status().ZXID
		var all sync.WaitGroup
		var mu sync.Mutex
		claimed := make(map[int]*recipes.Held)
		for i, s := range sessions {
			all.Go(func() {
				h, number, err := recipes.ClaimNumber(t.Context(), s, "/workers", n)
				if err != nil {
					t.Errorf("ClaimNumber of %d = %v", i, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if claimed[number] != nil {
					t.Errorf("%d is claimed twice", number)
				}
				claimed[number] = h
			})
		}
		all.Wait()
		writes := e.Leader(t.Context()).Status().ZXID - before
		t.Logf("%d numbers claimed at once by %d writes", len(claimed), writes)
		if len(claimed) != n || writes > 10*n {
			t.Errorf("%d numbers claimed at once by %d writes", len(claimed), writes)
		}
		for _, h := range claimed {
			all.Go(func() { mustRelease(t, h) })
		}
		all.Wait()
		noWatches(t, e)
	})
}

// kazoo#732: wherever a claim is cut short, nothing is left behind.
func TestClaimIsCancelledAnywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		var all sync.WaitGroup
		for i := range 60 {
			s := newSession(t, e.Member(i%3+1))
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*5*time.Microsecond)
				defer cancel()
				h, _, err := recipes.ClaimNumber(ctx, s, "/workers", 100)
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("ClaimNumber = %v", err)
					}
					return
				}
				_ = h.Release(ctx) // goes on
			})
		}
		all.Wait()
		eventually(t, "the claims to be released", func() bool {
			got := children(t, e.Leader(t.Context()), "/workers")
			return got == "" || got == "none"
		})
		noWatches(t, e)
	})
}

// An outcome that is not known is followed up.
func TestClaimWithoutAnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		e.Isolate(c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := recipes.ClaimName(ctx, s, "/names", "web"); !errors.Is(err, coord.ErrUnknownOutcome) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ClaimName without a quorum = %v", err)
		}
		e.Heal()
		time.Sleep(10 * time.Second)
		if got := children(t, e.Leader(t.Context()), "/names"); got != "" && got != "none" || s.State() != coord.Connected {
			t.Errorf("left behind: %s; the session is %v", got, s.State())
		}
		noWatches(t, e)
	})
}

func TestClaimsOfBadInput(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, s := e.Member(1), newSession(t, e.Member(1))
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		dead := newSession(t, c)
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		mustLock(t, s, "/lock")
		mustClaim(t, s, "/names", "web")
		if _, _, err := c.Create(t.Context(), "/config", []byte("mine")); err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("x", 5000)
		for _, test := range []struct {
			what string
			call func() error
			want error
		}{
			{"a cancelled context", func() error { _, err := recipes.ClaimName(cancelled, s, "/n", "a"); return err }, context.Canceled},
			{"a dead session", func() error { _, err := recipes.ClaimName(t.Context(), dead, "/n", "a"); return err }, coord.ErrClosed},
			{"no session", func() error { _, err := recipes.ClaimName(t.Context(), nil, "/n", "a"); return err }, coord.ErrSessionExpired},
			{"a bad path", func() error { _, err := recipes.ClaimName(t.Context(), s, "n", "a"); return err }, coord.ErrBadArguments},
			{"a bad path of numbers", func() error { _, _, err := recipes.ClaimNumber(t.Context(), s, "", 3); return err }, coord.ErrBadArguments},
			{"no name", func() error { _, err := recipes.ClaimName(t.Context(), s, "/n", ""); return err }, coord.ErrBadArguments},
			{"two names", func() error { _, err := recipes.ClaimName(t.Context(), s, "/n", "a/b"); return err }, coord.ErrBadArguments},
			{"a dot", func() error { _, err := recipes.ClaimName(t.Context(), s, "/n", ".."); return err }, coord.ErrBadArguments},
			{"a long name", func() error { _, err := recipes.ClaimName(t.Context(), s, "/n", long); return err }, coord.ErrBadArguments},
			{"no numbers", func() error { _, _, err := recipes.ClaimNumber(t.Context(), s, "/n", 0); return err }, coord.ErrBadArguments},
			{"a weight", func() error {
				_, err := recipes.ClaimName(t.Context(), s, "/n", "a", recipes.WithWeight(2))
				return err
			}, coord.ErrBadArguments},
			{"a mark", func() error {
				_, err := recipes.ClaimName(t.Context(), s, "/n", "a", recipes.WithValue([]byte("__SHARED__")))
				return err
			}, coord.ErrBadArguments},
			{"a lock", func() error { _, err := recipes.ClaimName(t.Context(), s, "/lock", "a"); return err }, recipes.ErrOtherRecipe},
			{"a znode with data", func() error { _, _, err := recipes.ClaimNumber(t.Context(), s, "/config", 1); return err }, recipes.ErrOtherRecipe},
			{"names to lock", func() error { _, err := recipes.Lock(t.Context(), s, "/names"); return err }, recipes.ErrOtherRecipe},
		} {
			if err := test.call(); !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", test.what, err, test.want)
			}
		}
		if got := children(t, c, "/n"); got != "none" {
			t.Errorf("left behind: %s", got)
		}
		// A znode of somebody else's is a name that is taken.
		if _, _, err := c.Create(t.Context(), path.Join("/names", "0"), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := recipes.ClaimName(t.Context(), s, "/names", "0"); !errors.Is(err, recipes.ErrTaken) {
			t.Errorf("ClaimName = %v", err)
		}
		if _, number, err := recipes.ClaimNumber(t.Context(), s, "/names", 2); err != nil || number != 1 {
			t.Errorf("ClaimNumber = %d, %v", number, err)
		}
	})
}
