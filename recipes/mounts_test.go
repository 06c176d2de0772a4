package recipes_test

import (
	"errors"
	"slices"
	"testing"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// The fence of a path goes on rising when another raft group serves it.
func TestFencesRiseWhereMountsMove(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		if _, _, err := c.Create(t.Context(), "/m", nil); err != nil {
			t.Fatal(err)
		}
		var last coord.ZXID
		for i := range 6 {
			move := c.Mount
			if i%2 == 1 {
				move = c.Unmount
			}
			if err := move(t.Context(), "/m"); err != nil {
				t.Fatal(err)
			}
			for _, member := range e.Running() {
				s := newSession(t, member)
				h, err := recipes.Lock(t.Context(), s, "/m/lock")
				if err != nil {
					t.Fatal(err)
				}
				if h.Fence() <= last {
					t.Errorf("behind move %d the fence is %v, and was %v", i, h.Fence(), last)
				}
				last = h.Fence()
				guarded := coord.SetDataOp("/m", []byte("x"))
				if _, err := s.Multi(t.Context(), h.Guard(), guarded); err != nil {
					t.Errorf("a guarded write in the same mount = %v", err)
				}
				if err := h.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Delete(t.Context(), "/m/lock"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What is taken together, or guarded, is in one mount.
func TestRecipesAcrossMounts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		for _, path := range []string{"/m", "/other"} {
			if _, _, err := c.Create(t.Context(), path, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Mount(t.Context(), "/m"); err != nil {
			t.Fatal(err)
		}
		s := newSession(t, c)
		if _, err := recipes.LockAll(t.Context(), s, []string{"/m/a", "/other/b"}); !errors.Is(err, coord.ErrCrossMount) {
			t.Errorf("LockAll across mounts = %v", err)
		}
		both, err := recipes.LockAll(t.Context(), s, []string{"/m/a", "/m/b"})
		if err != nil {
			t.Fatal(err)
		}
		outside := slices.Concat(both.Guards(), []coord.Op{coord.SetDataOp("/other", nil)})
		if _, err := s.Multi(t.Context(), outside...); !errors.Is(err, coord.ErrCrossMount) {
			t.Errorf("a guarded write across mounts = %v", err)
		}
		if err := both.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := recipes.TryLock(t.Context(), s, "/other/b"); err != nil {
			t.Errorf("the LockAll that failed has left something: %v", err)
		}
	})
}
