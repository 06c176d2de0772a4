package recipes_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func TestLockIsExclusiveAndInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, contenders, rounds = "/locks/x", 10, 20
		var holders atomic.Int32
		var grants []coord.ZXID // guarded by the lock
		var all sync.WaitGroup
		for i := range contenders {
			s := newSession(t, e.Member(i%3+1))
			all.Go(func() {
				for range rounds {
					h, err := recipes.Lock(t.Context(), s, path)
					if err != nil {
						t.Errorf("Lock = %v", err)
						return
					}
					if n := holders.Add(1); n != 1 {
						t.Errorf("%d holders", n)
					}
					if n := len(grants); n > 0 && grants[n-1] >= h.Fence() {
						t.Errorf("fence %v behind %v", h.Fence(), grants[n-1])
					}
					grants = append(grants, h.Fence())
					time.Sleep(time.Millisecond)
					holders.Add(-1)
					if err := h.Release(t.Context()); err != nil {
						t.Errorf("Release = %v", err)
					}
				}
			})
		}
		all.Wait()
		if len(grants) != contenders*rounds {
			t.Errorf("%d grants, want %d", len(grants), contenders*rounds)
		}
		for _, c := range e.Running() {
			if n := c.Status().Watches; n != 0 {
				t.Errorf("%d watches are left at member %v", n, c.Status().Member)
			}
		}
		eventually(t, "the directories to vanish", func() bool {
			_, there, err := e.Member(1).Exists(t.Context(), "/locks")
			return err == nil && !there
		})
	})
}

func TestHeldEndsBeforeTheNextIsGranted_CURATOR206_etcd10811_consul1843_consul18271_kazoo2_vespa3340(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		holder := e.Follower(t.Context())
		h := mustLock(t, newSession(t, holder), "/lock")
		var other *coord.Coordinator
		for _, c := range e.Running() {
			if c != holder {
				other = c
			}
		}
		next := lockInBackground(t.Context(), newSession(t, other), "/lock")
		waiting(t, other, "/lock", 2)

		ended := make(chan time.Time, 1)
		context.AfterFunc(h.Context(), func() { ended <- time.Now() })
		e.Isolate(holder)
		got := <-next
		granted := time.Now()
		if got.err != nil {
			t.Fatal(got.err)
		}
		select {
		case at := <-ended:
			t.Logf("the holder knew %v before the next one was granted", granted.Sub(at))
		default:
			t.Error("the next one was granted while the holder's context went on")
		}
		if err := h.Check(); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Check = %v", err)
		}
		if got.h.Fence() <= h.Fence() {
			t.Errorf("fence %v behind %v", got.h.Fence(), h.Fence())
		}
		e.Heal()
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("Release of a lost lock = %v", err)
		}
		// What the lost holder still does with the guard is refused.
		if _, err := other.Multi(t.Context(), h.Guard(), coord.CreateOp("/stale", nil)); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("a guarded write of a lost holder = %v", err)
		}
		if _, err := other.Multi(t.Context(), got.h.Guard(), coord.CreateOp("/fresh", nil)); err != nil {
			t.Errorf("a guarded write of the holder = %v", err)
		}
		mustRelease(t, got.h)
	})
}

// etcd#6127, CURATOR-486, CURATOR-678: whatever becomes of a release, the holder is
// none any more, and the lock comes free.
func TestReleaseThatIsNotAnswered_etcd6127_CURATOR486_CURATOR678_CURATOR202(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		h := mustLock(t, newSession(t, c), "/lock")
		e.Isolate(c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Release(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Release without a quorum = %v", err)
		}
		if err := h.Check(); !errors.Is(err, recipes.ErrReleased) {
			t.Errorf("Check = %v", err)
		}
		e.Heal()
		eventually(t, "the lock to come free", func() bool { return children(t, e.Leader(t.Context()), "/lock") == "" })
		if h.Session().State() != coord.Connected {
			t.Errorf("the session is %v", h.Session().State())
		}
		first := h.Release(t.Context())
		if second := h.Release(t.Context()); !errors.Is(second, first) {
			t.Errorf("Release = %v, then %v", first, second)
		}
	})
}

// etcd#22082: releasing twice does not release what the same session holds next.
func TestReleaseTwice_etcd22082(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		first := mustLock(t, s, "/lock")
		mustRelease(t, first)
		second := mustLock(t, s, "/lock")
		mustRelease(t, first)
		if err := second.Check(); err != nil {
			t.Errorf("Check = %v", err)
		}
		if _, err := s.Multi(t.Context(), second.Guard()); err != nil {
			t.Errorf("the second lock is gone: %v", err)
		}
		mustRelease(t, second)
	})
}

// samuel/go-zookeeper lock.go, CURATOR-45, kazoo#732: a wait that is given up leaves
// no contender behind that would block everybody.
func TestGivingUpLeavesNothing_CURATOR45_CURATOR62_zkLock(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		h := mustLock(t, newSession(t, e.Member(1)), "/lock")
		s := newSession(t, e.Member(2))
		ctx, cancel := context.WithCancel(t.Context())
		got := lockInBackground(ctx, s, "/lock")
		waiting(t, e.Member(1), "/lock", 2)
		cancel()
		if o := <-got; !errors.Is(o.err, context.Canceled) {
			t.Errorf("Lock = %v", o.err)
		}
		waiting(t, e.Member(1), "/lock", 1)
		mustRelease(t, h)

		// Also one whose create was not answered, and happened.
		c := e.Leader(t.Context())
		s = newSession(t, c)
		e.Isolate(c)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := recipes.Lock(ctx, s, "/lock"); !errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("Lock without a quorum = %v", err)
		}
		e.Heal()
		time.Sleep(5 * time.Second)
		if got := children(t, e.Leader(t.Context()), "/lock"); got != "" && got != "none" {
			t.Errorf("left behind: %s", got)
		}
		if _, err := recipes.Lock(ctx, s, "/lock"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lock with an ended context = %v", err)
		}
		for _, c := range e.Running() {
			eventually(t, "the watches to be freed", func() bool { return c.Status().Watches == 0 })
		}
	})
}

// etcd#19597, kazoo#2: a waiter whose own session ends learns it, and does not wait
// for the one before it.
func TestWaiterOfADeadSession_etcd19597_kazoo482(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		h := mustLock(t, newSession(t, e.Member(1)), "/lock")
		s := newSession(t, e.Member(2))
		got := lockInBackground(t.Context(), s, "/lock")
		waiting(t, e.Member(1), "/lock", 2)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if o := <-got; !errors.Is(o.err, coord.ErrClosed) {
			t.Errorf("Lock = %v", o.err)
		}
		for _, dead := range []*coord.Session{s, nil} {
			if _, err := recipes.Lock(t.Context(), dead, "/lock"); !errors.Is(err, coord.ErrClosed) && !errors.Is(err, coord.ErrSessionExpired) {
				t.Errorf("Lock of a dead session = %v", err)
			}
		}
		mustRelease(t, h)
	})
}

// Who deletes a holder's or a waiter's znode breaks it.
func TestBreaking(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(3)
		h := mustLock(t, newSession(t, e.Member(1)), "/lock")
		waiter := lockInBackground(t.Context(), newSession(t, e.Member(2)), "/lock")
		waiting(t, c, "/lock", 2)
		next := lockInBackground(t.Context(), newSession(t, e.Member(1)), "/lock")
		waiting(t, c, "/lock", 3)
		names, _, err := c.Children(t.Context(), "/lock")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "/lock/"+names[1]); err != nil {
			t.Fatal(err)
		}
		if o := <-waiter; !errors.Is(o.err, recipes.ErrLost) {
			t.Errorf("Lock of a broken waiter = %v", o.err)
		}
		if err := c.Delete(t.Context(), h.Path()); err != nil {
			t.Fatal(err)
		}
		<-h.Context().Done()
		if err := h.Check(); !errors.Is(err, recipes.ErrLost) {
			t.Errorf("Check of a broken lock = %v", err)
		}
		o := <-next
		if o.err != nil || o.h.Fence() <= h.Fence() {
			t.Errorf("the next one got %v, with a fence of %v", o.err, o.h.Fence())
		}
		mustRelease(t, h)
		mustRelease(t, o.h)
	})
}

// Changes of the data of its own znode, and of the one before, end no wait.
func TestValuesOfContenders(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		h := mustLock(t, s, "/lock", recipes.WithValue([]byte("me")))
		next := lockInBackground(t.Context(), newSession(t, e.Member(2)), "/lock")
		waiting(t, s, "/lock", 2)
		for _, value := range []string{"1", "2", "3"} {
			if err := h.SetValue(t.Context(), []byte(value)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if data, _, err := s.Get(t.Context(), h.Path()); err != nil || string(data) != "3" {
			t.Errorf("Get = %q, %v", data, err)
		}
		if err := h.Check(); err != nil {
			t.Errorf("Check = %v", err)
		}
		if len(next) > 0 {
			t.Error("the waiter was granted")
		}
		mustRelease(t, h)
		o := <-next
		if o.err != nil {
			t.Fatal(o.err)
		}
		mustRelease(t, o.h)
	})
}

func TestTryLock(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s, other := newSession(t, e.Member(1)), newSession(t, e.Member(2))
		h, err := recipes.TryLock(t.Context(), s, "/lock")
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Sync(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		before := e.Leader(t.Context()).Status().ZXID
		for _, s := range []*coord.Session{s, other} {
			if _, err := recipes.TryLock(t.Context(), s, "/lock"); !errors.Is(err, recipes.ErrTaken) {
				t.Errorf("TryLock of a lock that is held = %v", err)
			}
		}
		if after := e.Leader(t.Context()).Status().ZXID; after != before {
			t.Errorf("it cost %d writes", after-before)
		}
		mustRelease(t, h)

		// Of many that try at once, at most one wins, and nothing is left behind.
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 9 {
			s := newSession(t, e.Member(i%3+1))
			all.Go(func() {
				h, err := recipes.TryLock(t.Context(), s, "/lock")
				switch {
				case err == nil:
					won.Add(1)
					time.Sleep(time.Second)
					if err := h.Release(t.Context()); err != nil {
						t.Errorf("Release = %v", err)
					}
				case !errors.Is(err, recipes.ErrTaken):
					t.Errorf("TryLock = %v", err)
				}
			})
		}
		all.Wait()
		if n := won.Load(); n != 1 {
			t.Errorf("%d won, want 1", n)
		}
		waiting(t, e.Member(1), "/lock", 0)
	})
}

func TestWithLock(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, "value")
		s := newSession(t, e.Member(1))
		why := errors.New("enough")
		err := recipes.WithLock(ctx, s, "/lock", func(ctx context.Context, h *recipes.Held) error {
			if ctx.Value(key{}) != "value" || ctx.Err() != nil || h.Check() != nil {
				t.Errorf("value %v, %v, %v", ctx.Value(key{}), ctx.Err(), h.Check())
			}
			return why
		})
		if !errors.Is(err, why) {
			t.Errorf("WithLock = %v", err)
		}
		waiting(t, s, "/lock", 0)

		err = recipes.WithLock(ctx, s, "/lock", func(ctx context.Context, _ *recipes.Held) error {
			e.Isolate(e.Member(1))
			<-ctx.Done()
			return context.Cause(ctx)
		})
		if !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("WithLock of a session that expired = %v", err)
		}
		e.Heal()
	})
}

func TestLockRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		for _, path := range []string{"", "x", "/x/", "/x//y", "/x\x00"} {
			if _, err := recipes.Lock(t.Context(), s, path); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Lock(%q) = %v", path, err)
			}
		}
		leader, err := recipes.Campaign(t.Context(), s, "/election", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := recipes.Lock(t.Context(), s, "/election"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Lock in an election = %v", err)
		}
		mustRelease(t, leader)

		// Foreign znodes are nobody.
		for _, name := range []string{"/lock", "/lock/README", "/lock/lock-", "/lock/lock-0000000000", "/lock/lock-12345678901", "/lock/lock--0000000001"} {
			if _, _, err := c.Create(t.Context(), name, nil); err != nil {
				t.Fatal(err)
			}
		}
		mustRelease(t, mustLock(t, s, "/lock"))
	})
}

// A holder goes on through a change of leader, and its member's own restart is the
// end of its session, and no more.
func TestLockSurvivesLeaderChange_kazoo170_consul985(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		h := mustLock(t, newSession(t, c), "/lock")
		old := e.Leader(t.Context())
		next := lockInBackground(t.Context(), newSession(t, c), "/lock")
		waiting(t, c, "/lock", 2)
		e.Kill(old)
		e.Leader(t.Context())
		time.Sleep(20 * time.Second)
		if err := h.Check(); err != nil {
			t.Errorf("Check = %v", err)
		}
		if len(next) > 0 {
			t.Errorf("the waiter got %v", (<-next).err)
		}
		mustRelease(t, h)
		o := <-next
		if o.err != nil {
			t.Fatal(o.err)
		}
		mustRelease(t, o.h)
		e.Restart(old)
	})
}

// A contender's member that skips changes, because it catches up by a snapshot, goes
// on where it stands.
func TestLockBehindASnapshot(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 10; c.SessionTimeout = 30 * time.Second }))
	behind := e.Follower(t.Context())
	s, err := behind.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var other *coord.Coordinator
	for _, c := range e.Running() {
		if c != behind {
			other = c
		}
	}
	h := mustLock(t, newSession(t, other), "/lock")
	kept := mustLock(t, s, "/kept")
	next := lockInBackground(t.Context(), s, "/lock")
	waiting(t, other, "/lock", 2)
	e.Isolate(behind)
	for range 100 {
		if _, err := other.SetData(t.Context(), "/lock", nil); err != nil {
			t.Fatal(err)
		}
	}
	mustRelease(t, h)
	e.Heal()
	o := <-next
	if o.err != nil {
		t.Fatal(o.err)
	}
	if err := kept.Check(); err != nil {
		t.Errorf("Check = %v", err)
	}
	mustRelease(t, o.h)
	mustRelease(t, kept)
}
