package coord_test

import (
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/invariants"
)

// TestManySessions has one member own a hundred thousand sessions while the leader
// changes, and then die.
func TestManySessions(t *testing.T) {
	n := 100_000
	if invariants.Enabled || testing.Short() { // the race detector makes this ten times slower
		n = 5000
	}
	begin := time.Now()
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		owner, other := e.Member(1), e.Member(2)
		e.Lead(t.Context(), e.Member(3))
		mustCreate(t, other, "/m", "")
		var opening sync.WaitGroup
		const callers = 1000
		for i := range callers {
			opening.Go(func() {
				for range n / callers {
					s, err := owner.NewSession(t.Context(), coord.SessionOptions{Timeout: 20 * time.Second})
					if err != nil {
						t.Errorf("NewSession = %v", err)
						return
					}
					if i%100 == 0 {
						mustCreate(t, s, "/m/e-", "", coord.EphemeralSequential)
					}
				}
			})
		}
		opening.Wait()
		if err := other.Sync(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		if got := other.Status().Sessions; got < n {
			t.Fatalf("%d sessions, want %d", got, n)
		}
		time.Sleep(time.Minute) // idle

		leader := e.Member(3)
		e.Kill(leader)
		begin := time.Now()
		e.Leader(t.Context())
		if _, err := other.SetData(t.Context(), "/m", nil); err != nil {
			t.Fatal(err)
		}
		t.Logf("a new leader takes writes after %v", time.Since(begin))
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
		if err := e.Restart(leader).Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := other.Status().Sessions; got < n {
			t.Errorf("%d sessions behind the change of leader, want %d", got, n)
		}

		e.Lead(t.Context(), other)
		e.Kill(owner)
		begin = time.Now()
		eventually(t, "all sessions to end", func() bool { return other.Status().Sessions <= 3 })
		took := time.Since(begin)
		t.Logf("%d sessions with a timeout of 20s ended within %v", n, took)
		if bound := 20*time.Second + 6*time.Second; took > bound {
			t.Errorf("it took more than %v", bound)
		}
		eventually(t, "their ephemerals to vanish", func() bool {
			names, _, err := other.Children(t.Context(), "/m")
			return err == nil && len(names) == 0
		})
	})
	t.Logf("all of it took %v of this machine", time.Since(begin))
}
