package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func TestRunOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const path, callers = "/setup/schema", 20
		var calls, done, running atomic.Int32
		var sessions []*coord.Session
		for i := range callers {
			sessions = append(sessions, newSession(t, e.Member(i%3+1)))
		}
		e.Converged(t.Context())
		before := e.Member(1).Status().ZXID
		var all sync.WaitGroup
		for _, s := range sessions {
			all.Go(func() {
				ran, err := recipes.RunOnce(t.Context(), s, path, func(ctx context.Context, h *recipes.Held) error {
					if running.Add(1) != 1 {
						t.Error("two run")
					}
					defer running.Add(-1)
					if ctx.Err() != nil || h.Check() != nil {
						t.Errorf("%v, %v", ctx.Err(), h.Check())
					}
					time.Sleep(time.Second)
					if calls.Add(1) < 3 {
						return errors.New("not yet")
					}
					return nil
				})
				switch {
				case ran && err == nil:
					done.Add(1)
				case ran && err.Error() != "not yet", !ran && err != nil:
					t.Errorf("RunOnce = %t, %v", ran, err)
				}
			})
		}
		all.Wait()
		if calls.Load() != 3 || done.Load() != 1 {
			t.Errorf("%d calls, %d succeeded", calls.Load(), done.Load())
		}
		e.Converged(t.Context())
		writes := e.Member(1).Status().ZXID - before
		t.Logf("%d callers, of which three are called, make %d writes", callers, writes)
		if writes > 2*callers {
			t.Errorf("%d callers make %d writes", callers, writes)
		}
		// It is done for ever, and whoever comes later learns so without a write.
		time.Sleep(3 * time.Minute)
		e.Converged(t.Context())
		before = e.Member(1).Status().ZXID
		if ran, err := recipes.RunOnce(t.Context(), e.Member(1).Session(), path, nil); ran || err != nil {
			t.Errorf("RunOnce = %t, %v", ran, err)
		}
		if n := e.Member(1).Status().ZXID - before; n != 0 {
			t.Errorf("%d writes", n)
		}
		if err := recipes.Forget(t.Context(), e.Member(2), path); err != nil {
			t.Errorf("Forget = %v", err)
		}
		if err := recipes.Forget(t.Context(), e.Member(2), path); err != nil {
			t.Errorf("Forget = %v", err)
		}
		if ran, err := recipes.RunOnce(t.Context(), e.Member(2).Session(), path, func(context.Context, *recipes.Held) error { return nil }); !ran || err != nil {
			t.Errorf("RunOnce = %t, %v", ran, err)
		}
		noWatches(t, e)
	})
}

// Who was cut off while it ran has not succeeded, whatever it says; the next one does.
func TestRunOnceIsTakenOver(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s := newSession(t, c)
		type result struct {
			ran bool
			err error
		}
		begun, lost := make(chan *recipes.Held), make(chan result, 1)
		go func() {
			ran, err := recipes.RunOnce(t.Context(), s, "/once", func(ctx context.Context, h *recipes.Held) error {
				begun <- h
				<-ctx.Done()
				return nil // it says that it has succeeded
			})
			lost <- result{ran, err}
		}()
		first := <-begun
		other := newSession(t, e.Leader(t.Context()))
		next := make(chan result, 1)
		go func() {
			ran, err := recipes.RunOnce(t.Context(), other, "/once", func(_ context.Context, h *recipes.Held) error {
				if first.Check() == nil || first.Fence() >= h.Fence() {
					t.Errorf("two attempts: %v, fence %v before %v", first.Check(), first.Fence(), h.Fence())
				}
				_, err := other.Multi(t.Context(), h.Guard(), coord.CreateOp("/guarded", nil))
				return err
			})
			next <- result{ran, err}
		}()
		e.Isolate(c)
		if got := <-next; !got.ran || got.err != nil {
			t.Errorf("RunOnce = %+v", got)
		}
		if got := <-lost; !got.ran || !errors.Is(got.err, coord.ErrSessionExpired) {
			t.Errorf("RunOnce of a session that has ended = %+v", got)
		}
		e.Heal()
		if _, err := c.Multi(t.Context(), first.Guard()); !errors.Is(err, coord.ErrBadVersion) && !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("a guarded write of who was lost = %v", err)
		}
		noWatches(t, e)
	})
}

// Who has lost its claim to somebody else does not finish what that has begun.
func TestRunOnceIsBroken(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s, other := newSession(t, e.Member(1)), newSession(t, e.Member(2))
		begun, ended := make(chan bool), make(chan error, 1)
		finish := make(chan bool)
		_, err := recipes.RunOnce(t.Context(), s, "/once", func(ctx context.Context, h *recipes.Held) error {
			if err := e.Member(3).Delete(t.Context(), h.Path()); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			go func() {
				_, err := recipes.RunOnce(t.Context(), other, "/once", func(context.Context, *recipes.Held) error {
					close(begun)
					<-finish
					return nil
				})
				ended <- err
			}()
			<-begun
			return nil
		})
		if !errors.Is(err, recipes.ErrLost) {
			t.Errorf("RunOnce of who has lost its claim = %v", err)
		}
		close(finish)
		if err := <-ended; err != nil {
			t.Errorf("RunOnce = %v", err)
		}
		noWatches(t, e)
	})
}

// What an f did that has succeeded is recorded, also if nobody waits for it any more.
func TestRunOnceIsCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s, other := newSession(t, e.Member(1)), newSession(t, e.Member(2))
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		ran, err := recipes.RunOnce(ctx, s, "/once", func(context.Context, *recipes.Held) error {
			waits, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			_, err := recipes.RunOnce(waits, other, "/once", nil)
			waited <- err
			cancel()
			return nil
		})
		if !ran || err != nil {
			t.Errorf("RunOnce = %t, %v", ran, err)
		}
		if err := <-waited; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("RunOnce = %v", err)
		}
		if ran, err := recipes.RunOnce(t.Context(), other, "/once", nil); ran || err != nil {
			t.Errorf("RunOnce = %t, %v", ran, err)
		}
		if _, err := recipes.RunOnce(ctx, other, "/another", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("RunOnce = %v", err)
		}
		noWatches(t, e)
	})
}

// An answer that does not come is waited for, and what was recorded counts.
func TestRunOnceWithoutAnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: 2 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		type result struct {
			ran bool
			err error
		}
		begun, cut, ended := make(chan bool), make(chan bool), make(chan result)
		go func() {
			ran, err := recipes.RunOnce(t.Context(), s, "/once", func(context.Context, *recipes.Held) error {
				close(begun)
				<-cut
				return nil
			})
			ended <- result{ran, err}
		}()
		<-begun
		e.Isolate(c)
		close(cut)
		time.Sleep(50 * time.Second) // operations have timed out
		e.Heal()
		got := <-ended
		ran, err := got.ran, got.err
		done := strings.Contains(children(t, e.Leader(t.Context()), "/once"), "once")
		if !ran || err != nil || !done {
			t.Errorf("RunOnce = %t, %v, and done is %t", ran, err, done)
		}
		if ran, err := recipes.RunOnce(t.Context(), s, "/once", func(context.Context, *recipes.Held) error { return nil }); ran == done || err != nil {
			t.Errorf("RunOnce = %t, %v", ran, err)
		}
		noWatches(t, e)
	}, coordtest.WithConfig(func(c *coord.Config) { c.MaxSessionTimeout = 3 * time.Minute }))
}

func TestRunOncePanics(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		func() {
			defer func() {
				if got := recover(); got != "mine" {
					t.Errorf("recover = %v", got)
				}
			}()
			_, _ = recipes.RunOnce(t.Context(), s, "/once", func(context.Context, *recipes.Held) error { panic("mine") })
		}()
		waiting(t, e.Member(1), "/once", 0)
		ran, err := recipes.RunOnce(t.Context(), newSession(t, e.Member(2)), "/once", func(context.Context, *recipes.Held) error { return nil })
		if !ran || err != nil {
			t.Errorf("RunOnce = %t, %v", ran, err)
		}
		noWatches(t, e)
	})
}

type task = func(ctx context.Context, h *recipes.Held) error

// Through crashes and the loss of sessions, each task is done, and none by two at a
// time.
func TestRunTasks(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n, workers = 60, 3
		var running, done [n]atomic.Int32
		var recorded sync.Map
		work := func(c *coord.Coordinator) map[string]task {
			var here atomic.Int32
			tasks := make(map[string]task)
			for i := range n {
				tasks[fmt.Sprint("task-", i)] = func(ctx context.Context, h *recipes.Held) error {
					if here.Add(1) > workers {
						t.Error("more than there are workers")
					}
					defer here.Add(-1)
					if running[i].Add(1) != 1 {
						t.Errorf("two work on task %d", i)
					}
					defer running[i].Add(-1)
					select {
					case <-time.After(rand.N(20 * time.Second)):
					case <-ctx.Done():
						return context.Cause(ctx)
					}
					// A write that is guarded is made by one alone.
					if _, err := c.Multi(ctx, h.Guard(), coord.CreateOp(fmt.Sprint("/done-", i), nil)); err != nil && !errors.Is(err, coord.ErrNodeExists) {
						return err
					}
					done[i].Add(1)
					recorded.Store(i, true)
					return nil
				}
			}
			return tasks
		}
		ended := make(chan error, 10)
		run := func(c *coord.Coordinator) {
			go func() { ended <- recipes.RunTasks(t.Context(), c, "/tasks", workers, work(c)) }()
		}
		for _, c := range e.Running() {
			run(c)
		}
		time.Sleep(10 * time.Second)
		cut := e.Follower(t.Context())
		e.Isolate(cut)
		time.Sleep(20 * time.Second)
		e.Heal()
		leader := e.Leader(t.Context())
		e.Kill(leader)
		if err := <-ended; err == nil {
			t.Error("RunTasks of a coordinator that was killed returned nil")
		}
		time.Sleep(5 * time.Second)
		run(e.Restart(leader))
		for range 3 {
			if err := <-ended; err != nil {
				t.Errorf("RunTasks = %v", err)
			}
		}
		for i := range n {
			if _, ok := recorded.Load(i); !ok {
				t.Errorf("task %d was done %d times", i, done[i].Load())
			}
		}
		if got := len(strings.Fields(children(t, e.Leader(t.Context()), "/tasks"))); got != n {
			t.Errorf("%d tasks are recorded", got)
		}
		if err := recipes.RunTasks(t.Context(), e.Running()[0], "/tasks", 1, work(nil)); err != nil {
			t.Errorf("RunTasks when all are done = %v", err)
		}
		if err := recipes.Forget(t.Context(), e.Running()[0], "/tasks"); err != nil {
			t.Errorf("Forget = %v", err)
		}
		if got := children(t, e.Leader(t.Context()), "/tasks"); got != "" {
			t.Errorf("left: %s", got)
		}
		noWatches(t, e)
	})
}

// Two writes a task, and hardly any for the contest, however many work on them.
func TestRunTasksCostsTwoWritesEach(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 100
		tasks := make(map[string]task)
		for i := range n {
			tasks[fmt.Sprint(i)] = func(context.Context, *recipes.Held) error { time.Sleep(time.Second); return nil }
		}
		e.Converged(t.Context())
		before := e.Member(1).Status().ZXID
		var all sync.WaitGroup
		for _, c := range e.Running() {
			all.Go(func() {
				if err := recipes.RunTasks(t.Context(), c, "/tasks", 5, tasks); err != nil {
					t.Errorf("RunTasks = %v", err)
				}
			})
		}
		all.Wait()
		e.Converged(t.Context())
		writes := e.Member(1).Status().ZXID - before
		t.Logf("%d tasks cost %d writes", n, writes)
		if writes > 3*n {
			t.Errorf("%d tasks cost %d writes", n, writes)
		}
		noWatches(t, e)
	})
}

func TestRunTasksFails(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		why := errors.New("no disk")
		tasks := func(fails func() error) map[string]task {
			all := map[string]task{"bad": func(context.Context, *recipes.Held) error { return fails() }}
			for i := range 4 {
				all[fmt.Sprint(i)] = func(ctx context.Context, _ *recipes.Held) error {
					select {
					case <-ctx.Done():
						return context.Cause(ctx)
					case <-time.After(time.Minute):
						return nil
					}
				}
			}
			return all
		}
		err := recipes.RunTasks(t.Context(), e.Member(1), "/tasks", 5, tasks(func() error { return why }))
		if !errors.Is(err, why) {
			t.Errorf("RunTasks = %v", err)
		}
		waiting(t, e.Member(1), "/tasks", 0)
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "mine") || !strings.Contains(got, "TestRunTasksFails") {
					t.Errorf("recover = %v", got)
				}
			}()
			_ = recipes.RunTasks(t.Context(), e.Member(1), "/tasks", 5, tasks(func() error { panic("mine") }))
		}()
		waiting(t, e.Member(1), "/tasks", 0)
		if err := recipes.RunTasks(t.Context(), e.Member(1), "/tasks", 5, tasks(func() error { runtime.Goexit(); return nil })); err == nil {
			t.Error("RunTasks of a task that has ended its goroutine succeeded")
		}
		waiting(t, e.Member(1), "/tasks", 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := recipes.RunTasks(ctx, e.Member(1), "/tasks", 2, tasks(func() error { return nil })); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("RunTasks = %v", err)
		}
		if err := recipes.RunTasks(t.Context(), e.Member(2), "/tasks", 5, tasks(func() error { return nil })); err != nil {
			t.Errorf("RunTasks = %v", err)
		}
		noWatches(t, e)
	})
}

// A task that fails ends the others at once, and not only when it has given back its
// claim, which takes a member time that is cut off.
func TestRunTasksFailsWhileCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, why := e.Follower(t.Context()), errors.New("no network")
		working, ended := make(chan bool), make(chan time.Time, 1)
		var failed time.Time
		err := recipes.RunTasks(t.Context(), c, "/tasks", 2, map[string]task{
			"good": func(ctx context.Context, _ *recipes.Held) error {
				close(working)
				<-ctx.Done()
				ended <- time.Now()
				return context.Cause(ctx)
			},
			"bad": func(context.Context, *recipes.Held) error {
				<-working
				e.Isolate(c)
				failed = time.Now()
				return why
			},
		})
		if !errors.Is(err, why) {
			t.Errorf("RunTasks = %v", err)
		}
		if late := (<-ended).Sub(failed); late > time.Second {
			t.Errorf("the other task was told %v later", late)
		}
		e.Heal()
		noWatches(t, e)
	})
}

// Who cannot claim, because nobody answers, goes on to claim when somebody does, also
// while it works on something else.
func TestRunTasksClaimsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, path := e.Follower(t.Context()), "/tasks/next"
		working, done, finish := make(chan bool), make(chan bool), make(chan bool)
		ended := make(chan error, 1)
		if _, _, err := c.Create(t.Context(), "/tasks", []byte("tasks")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := newSession(t, e.Leader(t.Context())).Create(t.Context(), path, nil, coord.Ephemeral); err != nil {
			t.Fatal(err)
		}
		go func() {
			ended <- recipes.RunTasks(t.Context(), c, "/tasks", 2, map[string]task{
				"long": func(ctx context.Context, h *recipes.Held) error {
					close(working)
					<-finish
					return h.Check()
				},
				"next": func(context.Context, *recipes.Held) error {
					close(done)
					return nil
				},
			})
		}()
		<-working
		time.Sleep(time.Second) // it waits for the end of the other one
		if err := c.Delete(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		e.Isolate(c)
		time.Sleep(30 * time.Second) // longer than it waits for an answer
		e.Heal()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("nobody has taken the task that is free")
		}
		close(finish)
		if err := <-ended; err != nil {
			t.Errorf("RunTasks = %v", err)
		}
		noWatches(t, e)
	}, coordtest.WithConfig(func(c *coord.Config) {
		c.SessionTimeout, c.MaxSessionTimeout, c.OperationTimeout = 5*time.Minute, 5*time.Minute, 5*time.Second
	}))
}

// Several may forget at a time, and what is no task stays.
func TestForget(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		tasks := make(map[string]task)
		for i := range 30 {
			tasks[fmt.Sprint(i)] = func(context.Context, *recipes.Held) error { return nil }
		}
		if err := recipes.RunTasks(t.Context(), e.Member(1), "/tasks", 5, tasks); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.Member(1).Create(t.Context(), "/tasks/README", []byte("by hand")); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				if err := recipes.Forget(t.Context(), e.Member(i%3+1), "/tasks"); err != nil {
					t.Errorf("Forget = %v", err)
				}
			})
		}
		all.Wait()
		if got := children(t, e.Member(1), "/tasks"); got != "README" {
			t.Errorf("left: %s", got)
		}
	})
}

func TestTasksOfBadInput(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, s := e.Member(1), newSession(t, e.Member(1))
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		dead := newSession(t, c)
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		mustLock(t, s, "/lock")
		f := func(context.Context, *recipes.Held) error { t.Error("it was called"); return nil }
		once := func(ctx context.Context, s *coord.Session, path string) error {
			_, err := recipes.RunOnce(ctx, s, path, f)
			return err
		}
		for what, test := range map[string]struct{ err, want error }{
			"a cancelled context":     {once(cancelled, s, "/t"), context.Canceled},
			"a dead session":          {once(t.Context(), dead, "/t"), coord.ErrClosed},
			"no session":              {once(t.Context(), nil, "/t"), coord.ErrSessionExpired},
			"a bad path":              {once(t.Context(), s, "t"), coord.ErrBadArguments},
			"a lock":                  {once(t.Context(), s, "/lock"), recipes.ErrOtherRecipe},
			"tasks, cancelled":        {recipes.RunTasks(cancelled, c, "/t", 1, map[string]task{"a": f}), context.Canceled},
			"no coordinator":          {recipes.RunTasks(t.Context(), nil, "/t", 1, map[string]task{"a": f}), coord.ErrClosed},
			"no workers":              {recipes.RunTasks(t.Context(), c, "/t", 0, map[string]task{"a": f}), coord.ErrBadArguments},
			"a bad id":                {recipes.RunTasks(t.Context(), c, "/t", 1, map[string]task{"a/b": f}), coord.ErrBadArguments},
			"tasks at a bad path":     {recipes.RunTasks(t.Context(), c, "t/", 1, map[string]task{"a": f}), coord.ErrBadArguments},
			"tasks at a lock":         {recipes.RunTasks(t.Context(), c, "/lock", 1, map[string]task{"a": f}), recipes.ErrOtherRecipe},
			"to forget a lock":        {recipes.Forget(t.Context(), c, "/lock"), recipes.ErrOtherRecipe},
			"to forget nothing":       {recipes.Forget(t.Context(), c, "/t"), nil},
			"to forget at a bad path": {recipes.Forget(t.Context(), c, ""), coord.ErrBadArguments},
			"no tasks":                {recipes.RunTasks(t.Context(), c, "/t", 1, nil), nil},
		} {
			if !errors.Is(test.err, test.want) {
				t.Errorf("%s: %v, want %v", what, test.err, test.want)
			}
		}
		if got := children(t, c, "/t"); got != "none" {
			t.Errorf("left behind: %s", got)
		}
		// A znode that nobody has made for a task.
		if _, err := recipes.RunOnce(t.Context(), s, "/once", func(context.Context, *recipes.Held) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := c.SetData(t.Context(), "/once/once", []byte("else")); err != nil {
			t.Fatal(err)
		}
		if err := once(t.Context(), s, "/once"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("RunOnce = %v", err)
		}
		if _, err := recipes.Lock(t.Context(), s, "/once"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Lock = %v", err)
		}
	})
}
