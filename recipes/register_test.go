package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// reapsSoon has containers vanish soon, for tests that wait for it.
var reapsSoon = coordtest.WithConfig(func(c *coord.Config) { c.ReapInterval = time.Second })

func mustRegister(t *testing.T, c *coord.Coordinator, path, value string, opts ...recipes.RegisterOption) *recipes.Registration[string] {
	t.Helper()
	r, err := recipes.Register(t.Context(), c, path, value, coord.JSON[string](), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func incarnation(t *testing.T, r *recipes.Registration[string]) recipes.Incarnation {
	t.Helper()
	now, err := r.Registered(t.Context())
	must(t, err)
	return now
}

// value returns what a znode holds, by any member, or why it cannot be had.
func value(t *testing.T, c coord.Client, path string) string {
	t.Helper()
	data, _, err := c.Get(t.Context(), path, coord.Linearizable())
	if err != nil {
		return errors.Unwrap(err).Error()
	}
	return string(data)
}

// expire has the own session of a member expire, and waits for the next one.
func expire(t *testing.T, e *coordtest.Ensemble, c *coord.Coordinator) {
	t.Helper()
	var old *coord.Session
	lives := func() bool { s := c.Session(); return s != nil && s != old && s.Context().Err() == nil }
	eventually(t, "a session", lives)
	old = c.Session()
	e.Isolate(c)
	<-old.Context().Done()
	e.Heal()
	eventually(t, "the next session", lives)
}

func TestRegister(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		r := mustRegister(t, c, "/hosts/a", "one")
		first := incarnation(t, r)
		if first.Path != "/hosts/a" || first.Session != c.Session().ID() || value(t, e.Member(2), "/hosts/a") != `"one"` {
			t.Errorf("registered: %+v", first)
		}
		must(t, r.Update(ctx, "two"))
		if got := value(t, e.Member(2), "/hosts/a"); got != `"two"` {
			t.Errorf("updated: %s", got)
		}
		if incarnation(t, r) != first || r.Err() != nil || r.Context().Err() != nil {
			t.Errorf("now %+v, %v", incarnation(t, r), r.Err())
		}
		for range 2 {
			must(t, r.Unregister(ctx))
		}
		if got := children(t, c, "/hosts"); got != "" {
			t.Errorf("left: %s", got)
		}
		if _, err := r.Registered(ctx); !errors.Is(err, recipes.ErrReleased) {
			t.Errorf("Registered = %v", err)
		}
		if err := r.Update(ctx, "three"); !errors.Is(err, recipes.ErrReleased) || !errors.Is(r.Err(), recipes.ErrReleased) {
			t.Errorf("Update = %v", err)
		}
		noWatches(t, e)
	})
}

// A registration outlives sessions, each time with a larger generation, and what it
// holds is what was wanted last. CURATOR-190: the name of a sequential one does not
// grow. CURATOR-154, CURATOR-643: parents that have vanished are made again.
func TestRegisterGoesOn_CURATOR190_CURATOR154_CURATOR643(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Follower(t.Context())
		named := mustRegister(t, c, "/a/b/named", "0")
		numbered := mustRegister(t, c, "/a/c/m-", "0", recipes.Sequential())
		was, wasNumbered := incarnation(t, named), incarnation(t, numbered)
		for i := range 6 {
			if i == 3 { // however long it took
				old := c.Session()
				e.Isolate(c)
				<-old.Context().Done()
				o := other(e, c)
				eventually(t, "the parents to vanish", func() bool { return children(t, o, "/a") == "none" })
				e.Heal()
			} else {
				expire(t, e, c)
			}
			want := fmt.Sprint(i)
			must(t, named.Update(ctx, want))
			must(t, numbered.Update(ctx, want))
			now, nowNumbered := incarnation(t, named), incarnation(t, numbered)
			if now.Generation <= was.Generation || now.Session == was.Session || now.Path != "/a/b/named" || nowNumbered.Generation <= wasNumbered.Generation {
				t.Fatalf("after %+v: %+v, %+v", was, now, nowNumbered)
			}
			was, wasNumbered = now, nowNumbered
			o := other(e, c)
			if value(t, o, now.Path) != `"`+want+`"` || value(t, o, nowNumbered.Path) != `"`+want+`"` {
				t.Errorf("round %d: %s, %s", i, value(t, o, now.Path), value(t, o, nowNumbered.Path))
			}
			if len(nowNumbered.Path) != len("/a/c/m-0000000000") || children(t, o, "/a/c") != strings.TrimPrefix(nowNumbered.Path, "/a/c/") {
				t.Errorf("round %d: %s of %s", i, nowNumbered.Path, children(t, o, "/a/c"))
			}
		}
		must(t, named.Unregister(ctx))
		must(t, numbered.Unregister(ctx))
		noWatches(t, e)
		eventually(t, "the directories to vanish", func() bool { return children(t, c, "/a") == "none" })
	}, reapsSoon)
}

// CURATOR-164, CURATOR-181, CURATOR-146, CURATOR-320: what was unregistered stays so,
// whatever becomes of sessions afterwards, and whenever it was unregistered.
func TestUnregisterIsFinal_CURATOR164_CURATOR181_CURATOR146(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		for _, after := range []time.Duration{0, time.Second, 5 * time.Second, 9500 * time.Millisecond, 11 * time.Second, 30 * time.Second} {
			r := mustRegister(t, c, "/r", "1")
			e.Isolate(c)
			go func() { _ = r.Update(r.Context(), "2") }() // under way
			time.Sleep(after)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := r.Unregister(ctx)
			cancel()
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Unregister = %v", err)
			}
			e.Heal()
			must(t, r.Unregister(t.Context()))
			eventually(t, "the znode to vanish", func() bool { return value(t, e.Leader(t.Context()), "/r") == coord.ErrNoNode.Error() })
			expire(t, e, c)
			time.Sleep(time.Minute)
			if got := value(t, e.Leader(t.Context()), "/r"); got != coord.ErrNoNode.Error() {
				t.Errorf("unregistered after %v, and there again: %s", after, got)
			}
		}
		noWatches(t, e)
	})
}

// What somebody deletes comes back; what somebody else puts there instead ends the
// registration, and is left alone.
func TestRegistrationIsDeletedOrReplaced_CURATOR696(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c, o := t.Context(), e.Member(1), e.Member(2)
		r := mustRegister(t, c, "/r", "mine")
		was := incarnation(t, r)
		for range 3 {
			must(t, o.Delete(ctx, "/r"))
			eventually(t, "the next incarnation", func() bool {
				now, err := r.Registered(ctx)
				return err == nil && now.Generation > was.Generation
			})
			was = incarnation(t, r)
		}
		for _, mode := range []coord.CreateMode{coord.Ephemeral, coord.Persistent} {
			_, err := o.Multi(ctx, coord.DeleteOp("/r"), coord.CreateOp("/r", []byte("theirs"), mode))
			must(t, err)
			<-r.Context().Done()
			if err := r.Err(); !errors.Is(err, recipes.ErrTaken) {
				t.Errorf("Err = %v", err)
			}
			must(t, r.Unregister(ctx))
			expire(t, e, c)
			if got := value(t, o, "/r"); got != "theirs" {
				t.Errorf("there is %s", got)
			}
			must(t, o.Delete(ctx, "/r"))
			r = mustRegister(t, c, "/r", "mine")
		}
		must(t, r.Unregister(ctx))
		noWatches(t, e)
	})
}

// What is at the path is waited for if it can be what an earlier life of this process
// has left, and refused otherwise.
func TestRegisterAtATakenPath_onyx416_STORM1941_patroni3708(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Follower(t.Context())
		mustRegister(t, c, "/host", "ghost")
		e.Kill(c)
		c = e.Restart(c)
		r := mustRegister(t, c, "/host", "alive")
		if got := value(t, c, "/host"); got != `"alive"` {
			t.Errorf("there is %s", got)
		}

		// A duplicate that is alive.
		o := other(e, c)
		begin := time.Now()
		_, err := recipes.Register(ctx, o, "/host", "other", coord.JSON[string]())
		if waited := time.Since(begin); !errors.Is(err, recipes.ErrTaken) || waited < 10*time.Second || !strings.Contains(err.Error(), incarnation(t, r).Session.String()) {
			t.Errorf("Register = %v after %v", err, waited)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		if _, err := recipes.Register(short, o, "/host", "other", coord.JSON[string]()); !errors.Is(err, recipes.ErrTaken) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Register = %v", err)
		}
		cancel()
		// The same session, and a znode that nobody's end deletes.
		_, _, err = c.Create(ctx, "/persistent", nil)
		must(t, err)
		for _, path := range []string{"/host", "/persistent"} {
			begin := time.Now()
			if _, err := recipes.Register(ctx, c, path, "other", coord.JSON[string]()); !errors.Is(err, recipes.ErrTaken) || time.Since(begin) > time.Second {
				t.Errorf("Register at %s = %v", path, err)
			}
		}
		if incarnation(t, r); r.Err() != nil {
			t.Errorf("Err = %v", r.Err())
		}

		// Taken over, once: the other does not fight.
		n := mustRegister(t, o, "/host", "new", recipes.TakeOver())
		<-r.Context().Done()
		time.Sleep(time.Minute)
		if got := value(t, c, "/host"); got != `"new"` || !errors.Is(r.Err(), recipes.ErrTaken) {
			t.Errorf("there is %s, the other ended with %v", got, r.Err())
		}
		must(t, n.Unregister(ctx))
		noWatches(t, e)
	})
}

// kazoo#732, samuel#229: wherever Register is cut short, nothing is left behind.
func TestRegisterIsCancelledAnywhere_kazoo732_samuel229(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*10*time.Microsecond)
				defer cancel()
				path, opts := fmt.Sprintf("/d/r%d", i), []recipes.RegisterOption(nil)
				if i%2 == 0 {
					path, opts = "/d/m-", append(opts, recipes.Sequential())
				}
				r, err := recipes.Register(ctx, e.Member(i%3+1), path, "x", coord.JSON[string](), opts...)
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Register = %v", err)
					}
					return
				}
				_ = r.Unregister(ctx) // goes on
			})
		}
		all.Wait()
		eventually(t, "everything to be gone", func() bool {
			got := children(t, e.Leader(t.Context()), "/d")
			return got == "" || got == "none"
		})
		noWatches(t, e)
	})
}

// What the ensemble refuses is the caller's to know, and does not end what is there.
func TestUpdateIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Follower(t.Context())
		r := mustRegister(t, c, "/r", "good")
		was := incarnation(t, r)
		if err := r.Update(ctx, strings.Repeat("x", 2<<20)); !errors.Is(err, coord.ErrTooLarge) {
			t.Errorf("Update = %v", err)
		}
		if incarnation(t, r) != was || value(t, c, "/r") != `"good"` || r.Err() != nil {
			t.Errorf("then %+v, %v", incarnation(t, r), r.Err())
		}
		must(t, r.Update(ctx, "better"))

		// Between two sessions as well.
		e.Isolate(c)
		<-c.Session().Context().Done()
		refused := inBackground(func() error { return r.Update(ctx, strings.Repeat("x", 2<<20)) })
		time.Sleep(time.Second)
		e.Heal()
		if err := <-refused; !errors.Is(err, coord.ErrTooLarge) {
			t.Errorf("Update = %v", err)
		}
		eventually(t, "the next incarnation", func() bool { return value(t, c, "/r") == `"better"` })
		if _, err := recipes.Register(ctx, c, "/large", strings.Repeat("x", 2<<20), coord.JSON[string]()); !errors.Is(err, coord.ErrTooLarge) {
			t.Errorf("Register = %v", err)
		}

		// An update whose caller has left is made nevertheless.
		e.Isolate(c)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := r.Update(short, "late"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update = %v", err)
		}
		e.Heal()
		eventually(t, "the update", func() bool { return value(t, other(e, c), "/r") == `"late"` })
		must(t, r.Unregister(ctx))
		noWatches(t, e)
	})
}

func TestRegisterRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		for _, path := range append(badPaths, "/") {
			if _, err := recipes.Register(ctx, c, path, "x", coord.JSON[string]()); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Register at %q = %v", path, err)
			}
		}
		if _, err := recipes.Register(ctx, c, "/r", "x", nil); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Register without a codec = %v", err)
		}
		mustLock(t, newSession(t, c), "/lock")
		for _, path := range []string{"/lock/x", "/d/lock-0000000007", "/d/lock-"} {
			opts := []recipes.RegisterOption{}
			if strings.HasSuffix(path, "-") {
				opts = append(opts, recipes.Sequential())
			}
			if _, err := recipes.Register(ctx, c, path, "x", coord.JSON[string](), opts...); !errors.Is(err, recipes.ErrOtherRecipe) {
				t.Errorf("Register at %s = %v", path, err)
			}
		}
		h := mustRegister(t, c, "/r", "x")
		if _, err := recipes.Register(ctx, c, "/r/below", "x", coord.JSON[string]()); !errors.Is(err, coord.ErrNoChildrenForEphemerals) {
			t.Errorf("Register below an ephemeral = %v", err)
		}
		nobody := recipes.RegisterACL(coord.ACL{Perms: coord.PermRead, ID: coord.ID{Scheme: "nonsense"}})
		if _, err := recipes.Register(ctx, c, "/acl", "x", coord.JSON[string](), nobody); !errors.Is(err, coord.ErrInvalidACL) {
			t.Errorf("Register with a bad ACL = %v", err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := recipes.Register(ended, c, "/x", "x", coord.JSON[string]()); !errors.Is(err, context.Canceled) {
			t.Errorf("Register with an ended context = %v", err)
		}
		if _, err := recipes.Register(ctx, nil, "/x", "x", coord.JSON[string]()); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Register without a Coordinator = %v", err)
		}
		e.Stop(c)
		<-h.Context().Done()
		if _, err := h.Registered(ctx); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Registered = %v", err)
		}
		must(t, h.Unregister(ctx))
		if _, err := recipes.Register(ctx, c, "/x", "x", coord.JSON[string]()); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Register with a closed Coordinator = %v", err)
		}
		noWatches(t, e)
	})
}

// The crash of the leader, and a lossy network, end nothing and leave one znode.
func TestRegisterUnderFaults(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Follower(t.Context())
		r := mustRegister(t, c, "/d/m-", "0", recipes.Sequential())
		for i := range 10 {
			if i%3 == 0 {
				l := e.Leader(ctx)
				if l == c {
					e.Lead(ctx, other(e, c))
					l = e.Leader(ctx)
				}
				e.Kill(l)
				e.Restart(l)
			}
			e.Lose(0.2, uint64(i))
			must(t, r.Update(ctx, fmt.Sprint(i)))
			e.Lose(0, 0)
			now := incarnation(t, r)
			if got := value(t, c, now.Path); got != fmt.Sprintf(`"%d"`, i) {
				t.Errorf("round %d: %s", i, got)
			}
		}
		eventually(t, "one znode", func() bool { return "/d/"+children(t, c, "/d") == incarnation(t, r).Path })
		must(t, r.Unregister(ctx))
		noWatches(t, e)
	})
}
