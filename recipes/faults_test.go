package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// A Held whose member skipped changes frees what it registered anew when its handle
// ends, though nobody releases it and its znode goes on with the session.
func TestHeldBehindASnapshotIsNeverReleased(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		behind := e.Follower(t.Context())
		s, err := behind.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		h := mustLock(t, s, "/lock")
		e.Isolate(behind)
		c := e.Leader(t.Context())
		for i := range 60 {
			if _, _, err := c.Create(t.Context(), fmt.Sprintf("/n%d", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		e.Heal()
		e.Converged(t.Context())
		time.Sleep(time.Second)
		if err := h.Check(); err != nil || behind.Status().Watches != 1 {
			t.Fatalf("Check = %v, %d watches", err, behind.Status().Watches)
		}
		if err := s.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := behind.Status().Watches; n != 0 {
			t.Errorf("%d watches are left", n)
		}
		if got := children(t, c, "/lock"); got == "" || got == "none" {
			t.Error("the znode is gone, so this shows nothing")
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 10 }))
}

// Who observes with a session learns of its end at once, and not when the leader
// changes next.
func TestObserveEndsWithItsClient(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader := campaign(t, e.Member(1), "/leader", "a")
		closed, expired := newSession(t, e.Member(2)), newSession(t, e.Member(3))
		ended := map[coord.Client]chan error{closed: make(chan error, 1), expired: make(chan error, 1), e.Member(2): make(chan error, 1)}
		for client, end := range ended {
			go func() {
				for _, err := range recipes.Observe(t.Context(), client, "/leader") {
					if err != nil {
						end <- err
					}
				}
			}()
		}
		expect := func(client coord.Client, want error) {
			t.Helper()
			select {
			case err := <-ended[client]:
				if !errors.Is(err, want) {
					t.Errorf("Observe = %v, want %v", err, want)
				}
			case <-time.After(time.Minute):
				t.Errorf("Observe goes on, want %v", want)
			}
		}
		time.Sleep(time.Second)
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
		expect(closed, coord.ErrClosed)
		e.Isolate(e.Member(3))
		expect(expired, coord.ErrSessionExpired)
		e.Heal()
		mustRelease(t, leader)
		c := e.Member(2)
		e.Stop(c)
		expect(c, coord.ErrClosed)
		noWatches(t, e)
	})
}

// A Coordinator that is closed ends what waits for a lock and what is held.
func TestCoordinatorIsClosed_CURATOR466(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		h := mustLock(t, newSession(t, c), "/lock")
		next := lockInBackground(t.Context(), newSession(t, c), "/lock")
		elected := make(chan error, 1)
		go func() {
			elected <- recipes.RunElected(t.Context(), c, "/leader", func(ctx context.Context, _ *recipes.Held) error {
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		waiting(t, c, "/lock", 2)
		waiting(t, c, "/leader", 1)
		e.Stop(c)
		if o := <-next; !errors.Is(o.err, coord.ErrClosed) {
			t.Errorf("Lock = %v", o.err)
		}
		if err := <-elected; !errors.Is(err, coord.ErrClosed) {
			t.Errorf("RunElected = %v", err)
		}
		if err := h.Check(); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Check = %v", err)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("Release = %v", err)
		}
		if got := children(t, e.Leader(t.Context()), "/lock"); got != "" {
			t.Errorf("left behind: %s", got)
		}
	})
}

// CURATOR-15: what passes does not end a candidate for good: to have no quorum while
// the session lasts, or to lose its znode while it waits.
func TestRunElectedGoesOn_CURATOR15_CURATOR73(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		own := c.Session()
		e.Isolate(c)
		eventually(t, "the suspension", func() bool { return own.State() == coord.Suspended })
		ended, elected := make(chan error, 1), make(chan *recipes.Held)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			ended <- recipes.RunElected(ctx, c, "/leader", func(ctx context.Context, h *recipes.Held) error {
				elected <- h
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		time.Sleep(5 * time.Second)
		first := campaign(t, e.Leader(t.Context()), "/leader", "first")
		e.Heal()
		for range 2 {
			waiting(t, c, "/leader", 2)
			names, _, err := c.Children(t.Context(), "/leader")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Delete(t.Context(), "/leader/"+names[1]); err != nil {
				t.Fatal(err)
			}
			waiting(t, c, "/leader", 1)
		}
		waiting(t, c, "/leader", 2)
		mustRelease(t, first)
		select {
		case h := <-elected:
			if h.Session() != own {
				t.Error("it is another session")
			}
		case err := <-ended:
			t.Fatalf("RunElected = %v", err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("RunElected = %v", err)
		}
		noWatches(t, e)
	}, coordtest.WithConfig(func(c *coord.Config) { c.SessionTimeout = 2 * time.Minute; c.MaxSessionTimeout = 3 * time.Minute }))
}

// A panic is the program's own, and leaves no znode.
func TestPanics(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		panics := func(call func(f func(context.Context, *recipes.Held) error)) {
			t.Helper()
			defer func() {
				if got := recover(); got != "mine" {
					t.Errorf("recover = %v", got)
				}
			}()
			call(func(context.Context, *recipes.Held) error { panic("mine") })
		}
		panics(func(f func(context.Context, *recipes.Held) error) {
			_ = recipes.WithLock(t.Context(), newSession(t, c), "/path", f)
		})
		waiting(t, c, "/path", 0)
		panics(func(f func(context.Context, *recipes.Held) error) {
			_ = recipes.RunElected(t.Context(), c, "/path", f)
		})
		waiting(t, c, "/path", 0)
		noWatches(t, e)
	})
}

// A contender that may not be read is one: nobody behind it leads.
func TestUnreadableContender(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		nobody := coord.WithACL(coord.ACL{Perms: coord.PermDelete, ID: coord.ID{Scheme: "world", ID: "anyone"}})
		c, s := e.Member(1), newSession(t, e.Member(1))
		for dir, prefix := range map[string]string{"/leader": "/candidate-", "/lock": "/lock-"} {
			if _, _, err := s.Create(t.Context(), dir, nil); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Create(t.Context(), dir+prefix, nil, coord.EphemeralSequential, nobody); err != nil {
				t.Fatal(err)
			}
			waiting(t, c, dir, 1)
		}
		got := make(chan *recipes.Held)
		go func() { got <- campaign(t, e.Member(2), "/leader", "second") }()
		waiting(t, c, "/leader", 2)
		if l, ok, err := recipes.CurrentLeader(t.Context(), c, "/leader"); !errors.Is(err, coord.ErrNoAuth) {
			t.Errorf("CurrentLeader = %+v, %t, %v", l, ok, err)
		}
		if _, err := recipes.TryLock(t.Context(), newSession(t, c), "/lock"); !errors.Is(err, recipes.ErrTaken) {
			t.Errorf("TryLock = %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		mustRelease(t, <-got)
	})
}

// The root is a directory like any other, and a session that is resumed holds
// nothing.
func TestRootAndResume(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		h := mustLock(t, s, "/")
		next := lockInBackground(t.Context(), s, "/")
		waiting(t, s, "/", 3)
		again, err := e.Member(1).Resume(t.Context(), s.Token(), coord.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Check(); !errors.Is(err, coord.ErrSessionMoved) {
			t.Errorf("Check = %v", err)
		}
		if o := <-next; !errors.Is(o.err, coord.ErrSessionMoved) {
			t.Errorf("Lock = %v", o.err)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("Release = %v", err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		waiting(t, e.Member(1), "/", 1)
		noWatches(t, e)
	})
}

// kazoo#732: wherever a wait is cut short, nothing is left behind.
func TestCancelledAnywhere_kazoo732_CURATOR18_CURATOR3(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		var all sync.WaitGroup
		var held atomic.Int32
		for i := range 90 {
			s := newSession(t, e.Member(i%3+1))
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*10*time.Microsecond)
				defer cancel()
				h, err := recipes.Lock(ctx, s, "/lock")
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Lock = %v", err)
					}
					return
				}
				if held.Add(1) != 1 {
					t.Error("two holders")
				}
				held.Add(-1)
				_ = h.Release(ctx) // goes on
			})
		}
		all.Wait()
		eventually(t, "the contenders to leave", func() bool {
			got := children(t, e.Leader(t.Context()), "/lock")
			return got == "" || got == "none"
		})
		noWatches(t, e)
	})
}

// Two that release at once both return when it is done.
func TestReleaseConcurrently(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		h := mustLock(t, s, "/lock")
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := h.Release(t.Context()); err != nil {
					t.Errorf("Release = %v", err)
				}
			})
		}
		all.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
		})
		all.Wait()
		waiting(t, e.Member(1), "/lock", 0)
		noWatches(t, e)
	})
}

// Who releases what is being released waits no longer than its own context allows.
func TestReleaseWaitsForItsOwnContext(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		h := mustLock(t, s, "/lock")
		e.Isolate(c)
		first := make(chan error, 1)
		go func() { first <- h.Release(t.Context()) }()
		<-h.Context().Done()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := h.Release(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 2*time.Second {
			t.Errorf("Release = %v after %v", err, time.Since(begin))
		}
		e.Heal()
		if err := <-first; err != nil {
			t.Errorf("the first Release = %v", err)
		}
		mustRelease(t, h)
		waiting(t, e.Leader(t.Context()), "/lock", 0)
	})
}

// CURATOR-696: who has the path of a holder is not the holder.
func TestSamePathIsNotTheHeld_CURATOR696(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		h := mustLock(t, newSession(t, e.Member(1)), "/lock")
		other := newSession(t, e.Member(2))
		if _, err := other.Multi(t.Context(), coord.DeleteOp(h.Path()), coord.CreateOp(h.Path(), nil, coord.Ephemeral)); err != nil {
			t.Fatal(err)
		}
		<-h.Context().Done()
		if err := h.Check(); !errors.Is(err, recipes.ErrLost) {
			t.Errorf("Check = %v", err)
		}
		if _, err := other.Multi(t.Context(), h.Guard()); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("a guarded write = %v", err)
		}
		if err := h.SetValue(t.Context(), nil); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("SetValue = %v", err)
		}
		mustRelease(t, h)
		if _, there, err := other.Exists(t.Context(), h.Path()); err != nil || !there {
			t.Errorf("Release deleted another's znode: %t, %v", there, err)
		}
		noWatches(t, e)
	})
}

// A member that is full of watches refuses to wait, and leaves nothing behind.
func TestTooManyWatches(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		h := mustLock(t, newSession(t, c), "/lock")
		if _, err := recipes.Lock(t.Context(), newSession(t, c), "/lock"); !errors.Is(err, coord.ErrTooManyWatches) {
			t.Errorf("Lock = %v", err)
		}
		waiting(t, c, "/lock", 1)
		mustRelease(t, h)
		noWatches(t, e)
	}, coordtest.WithConfig(func(c *coord.Config) { c.MaxWatches = 2 }))
}

// CURATOR-724, CURATOR-643: a directory that vanishes while somebody enters is made
// anew.
func TestDirectoryVanishes_CURATOR724_CURATOR643(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		var all sync.WaitGroup
		vanished := 0
		for i := range 3 {
			s := newSession(t, e.Member(i+1))
			all.Go(func() {
				for n := range 30 {
					h, err := recipes.Lock(t.Context(), s, "/a/b/lock")
					if err != nil {
						t.Errorf("Lock = %v", err)
						return
					}
					if h.Path() == "/a/b/lock/lock-0000000000" {
						vanished++ // guarded by the lock
					}
					if err := h.Release(t.Context()); err != nil {
						t.Errorf("Release = %v", err)
					}
					time.Sleep(time.Duration(n*(i+5)) * 100 * time.Millisecond)
				}
			})
		}
		all.Wait()
		if vanished < 2 {
			t.Errorf("the directory was made %d times, so this shows nothing", vanished)
		}
		noWatches(t, e)
	})
}
