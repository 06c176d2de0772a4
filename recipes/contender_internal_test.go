package recipes

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

// A contender whose watch set ended, because its member skipped changes, and cannot
// be replaced, because the session has ended, leaves like any other.
func TestContenderOfADeadSessionBehindASnapshot(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 10 }))
		behind, ctx := e.Follower(t.Context()), t.Context()
		s, err := behind.NewSession(ctx, coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		c, err := enter(ctx, s, "/lock", kindLock, nil)
		if err != nil {
			t.Fatal(err)
		}
		if first, err := c.isFirst(ctx); err != nil || !first {
			t.Fatalf("isFirst = %t, %v", first, err)
		}
		e.Isolate(behind)
		other := e.Leader(ctx)
		for i := range 60 {
			if _, _, err := other.Create(ctx, fmt.Sprintf("/n%d", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		e.Heal()
		for !isCompacted(c.set.Err()) {
			time.Sleep(10 * time.Millisecond)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.await(ctx); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("await = %v", err)
		}
		if err := c.leave(ctx); err != nil {
			t.Errorf("leave = %v", err)
		}
	})
}

func TestSequenceNumbersWrap(t *testing.T) {
	const last, first = 1<<31 - 1, -1 << 31
	for _, name := range []string{"lock--2147483648", "lock--000000001", "lock-0000000000", "lock-2147483647"} {
		n, ok := sequenceOf(name, "lock-")
		if !ok || fmt.Sprintf("lock-%010d", n) != name { // as the tree does
			t.Errorf("sequenceOf(%q) = %d, %t", name, n, ok)
		}
	}
	if !precedes(last, first) || precedes(first, last) || !precedes(-1, 0) || precedes(0, -1) || precedes(7, 7) {
		t.Error("the order does not go on where numbers start again")
	}
}
