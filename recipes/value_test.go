package recipes_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func newValue(c coord.Client, path string) *recipes.Value[int] {
	return recipes.NewValue(c, path, coord.JSON[int]())
}

func TestValue(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		v := newValue(c, "/values/v")
		if _, _, err := v.Get(ctx); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("Get = %v", err)
		}
		first, err := v.CompareAndSet(ctx, coord.Stat{}, 1)
		must(t, err)
		if _, err := v.CompareAndSet(ctx, coord.Stat{}, 2); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("CompareAndSet with none = %v", err)
		}
		second, err := v.CompareAndSet(ctx, first, 2)
		must(t, err)
		if _, err := v.CompareAndSet(ctx, first, 3); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("CompareAndSet with an old one = %v", err)
		}
		if got, stat, err := v.Get(ctx); err != nil || got != 2 || stat != second {
			t.Errorf("Get = %d, %+v, %v", got, stat, err)
		}
		must(t, c.Delete(ctx, "/values/v"))
		if _, err := v.CompareAndSet(ctx, second, 3); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("CompareAndSet of one that is gone = %v", err)
		}
		// CURATOR-391: one that was deleted and made anew is another one, whatever
		// its version.
		anew, err := v.Set(ctx, 4)
		must(t, err)
		if _, err := v.CompareAndSet(ctx, first, 5); !errors.Is(err, coord.ErrBadVersion) || anew.Version != first.Version {
			t.Errorf("CompareAndSet of one that was made anew = %v", err)
		}
		_, err = v.Set(ctx, 6)
		must(t, err)
		must(t, c.Delete(ctx, "/values/v"))
		time.Sleep(10 * time.Minute)
		if _, there, err := c.Exists(ctx, "/values"); err != nil || !there {
			t.Errorf("the parent has vanished: %v", err)
		}
	})
}

func TestValueUpdate(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const updaters, updates = 9, 20
		var all sync.WaitGroup
		for i := range updaters {
			v := newValue(e.Member(i%3+1), "/v")
			all.Go(func() {
				for range updates {
					if _, _, err := v.Update(t.Context(), func(n int) (int, error) { return n + 1, nil }); err != nil {
						t.Errorf("Update = %v", err)
					}
				}
			})
		}
		all.Wait()
		v := newValue(e.Member(1), "/v")
		if got, _, err := v.Get(t.Context(), coord.Linearizable()); err != nil || got != updaters*updates {
			t.Errorf("Get = %d, %v after %d updates", got, err, updaters*updates)
		}
		for _, path := range []string{"/v", "/none"} {
			for _, why := range []error{errors.New("enough"), coord.ErrNoNode} {
				calls := 0
				_, _, err := newValue(e.Member(1), path).Update(t.Context(), func(int) (int, error) { calls++; return 0, why })
				if err != why || calls != 1 { //nolint:errorlint // as it is
					t.Errorf("Update = %v after %d calls", err, calls)
				}
			}
		}
	})
}

// CURATOR-311: a watch has the latest value after any fault.
func TestValueWatch_CURATOR311(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		watcher := e.Follower(t.Context())
		c := other(e, watcher)
		v := newValue(c, "/v")
		ctx, cancel := context.WithCancelCause(t.Context())
		versions := make(chan recipes.Version[int])
		ended := inBackground(func() error {
			for now, err := range newValue(watcher, "/v").Watch(ctx) {
				if err != nil {
					return err
				}
				versions <- now
			}
			return nil
		})
		expect := func(want int, exists bool) {
			t.Helper()
			if now := <-versions; now.Value != want || now.Exists() != exists || now.Err != nil {
				t.Fatalf("got %+v, want %d", now, want)
			}
		}
		set := func(value int) {
			t.Helper()
			_, err := v.Set(t.Context(), value)
			must(t, err)
		}
		expect(0, false)
		set(1)
		expect(1, true)
		set(2)
		expect(2, true)
		e.Isolate(watcher)
		set(3)
		set(4)
		must(t, c.Delete(t.Context(), "/v"))
		set(5)
		e.Heal()
		for now := range versions { // it may catch up in steps
			if now.Value == 5 {
				break
			}
		}
		_, err := c.SetData(t.Context(), "/v", []byte("{"))
		must(t, err)
		if now := <-versions; !now.Exists() || now.Value != 0 {
			t.Errorf("got %+v", now)
		} else if _, ok := errors.AsType[*coord.DecodeError](now.Err); !ok {
			t.Errorf("got %v, want a DecodeError", now.Err)
		}
		must(t, c.Delete(t.Context(), "/v"))
		expect(0, false)
		why := errors.New("enough")
		cancel(why)
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("Watch ended with %v", err)
		}
		noWatches(t, e)

		s := newSession(t, c)
		closed, killed := make(chan error, 1), make(chan error, 1)
		for c, ended := range map[coord.Client]chan error{s: closed, watcher: killed} {
			go func() {
				for _, err := range newValue(c, "/v").Watch(t.Context()) {
					if err != nil {
						ended <- err
					}
				}
			}()
		}
		time.Sleep(time.Second)
		must(t, s.Close())
		if err := <-closed; !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Watch of a session that was closed = %v", err)
		}
		e.Kill(watcher)
		if err := <-killed; !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Watch of a member that was killed = %v", err)
		}
	})
}

func TestValueRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		calls := func(ctx context.Context, c coord.Client, path string) []error {
			v := newValue(c, path)
			_, set := v.Set(ctx, 1)
			_, compare := v.CompareAndSet(ctx, coord.Stat{Czxid: 1}, 1)
			_, _, update := v.Update(ctx, func(int) (int, error) { return 1, nil })
			return []error{set, compare, update}
		}
		for _, path := range badPaths {
			for i, err := range calls(t.Context(), c, path) {
				if !errors.Is(err, coord.ErrBadArguments) {
					t.Errorf("call %d of %q = %v", i, path, err)
				}
			}
			for _, err := range newValue(c, path).Watch(t.Context()) {
				if !errors.Is(err, coord.ErrBadArguments) {
					t.Errorf("Watch of %q = %v", path, err)
				}
			}
		}
		h := mustLock(t, s, "/lock")
		must(t, recipes.NewBarrier(c, "/barrier").Set(t.Context()))
		for _, path := range []string{"/lock", "/barrier"} {
			for i, err := range calls(t.Context(), c, path) {
				if !errors.Is(err, recipes.ErrOtherRecipe) {
					t.Errorf("call %d at %s = %v", i, path, err)
				}
			}
		}
		mustRelease(t, h)
		if _, err := newValue(c, "/lock").Set(t.Context(), 1); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Set at the directory of a lock = %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for i, err := range calls(ctx, c, "/v") {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("call %d with an ended context = %v", i, err)
			}
		}
		must(t, s.Close())
		for _, dead := range []coord.Client{nil, (*coord.Session)(nil), s} {
			_, _, err := newValue(dead, "/v").Get(t.Context())
			for i, err := range append(calls(t.Context(), dead, "/v"), err) {
				if err == nil {
					t.Errorf("call %d of a dead client returned nil", i)
				}
			}
		}
	})
}
