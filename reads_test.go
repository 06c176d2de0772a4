package coord_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/invariants"
)

// A member that has started and cannot say hello yet, for want of a quorum, serves
// nothing but what may be stale, and that is what it had on its disk.
func TestRestartedMemberServesNothingBeforeItsHello(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		mustCreate(t, e.Member(1), "/n", "kept")
		e.Converged(t.Context())
		time.Sleep(time.Second) // heartbeats tell everybody what is committed
		running := e.Running()
		for _, c := range running {
			e.Kill(c)
		}
		c := e.Restart(running[0])
		for what, read := range map[string]func(ctx context.Context) error{
			"Get": func(ctx context.Context) error { _, _, err := c.Get(ctx, "/n"); return err },
			"linearizable Get": func(ctx context.Context) error {
				_, _, err := c.Get(ctx, "/n", coord.Linearizable())
				return err
			},
			"View":  func(ctx context.Context) error { _, err := c.View(ctx); return err },
			"Sync":  func(ctx context.Context) error { return c.Sync(ctx, "/") },
			"Watch": func(ctx context.Context) error { _, err := c.Watch(ctx, "/n", coord.Node); return err },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := read(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s before the hello = %v, want no answer", what, err)
			}
			cancel()
		}
		if got, _ := mustGet(t, c, "/n", coord.AllowStale()); got != "kept" {
			t.Errorf("stale Get = %q, want what was on the disk", got)
		}
		for _, c := range running[1:] {
			e.Restart(c)
		}
		if got, _ := mustGet(t, c, "/n"); got != "kept" {
			t.Errorf("Get behind the hello = %q", got)
		}
		for _, c := range e.Running() {
			if err := c.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What a process has read it never un-reads: not through changes of leader, not
// through a time of isolation, not through an installed snapshot, stale or not.
func TestReadsNeverGoBack(t *testing.T) {
	cuts := 9
	if invariants.Enabled { // the race detector takes 3 s for each
		cuts = 3
	}
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		mustCreate(t, e.Leader(t.Context()), "/n", "")
		e.Converged(t.Context())
		stop := make(chan struct{})
		var busy sync.WaitGroup
		for _, c := range e.Running() {
			s := mustSession(t, c, time.Hour)
			for _, opts := range [][]coord.ReadOption{nil, {coord.AllowStale()}} {
				busy.Go(func() {
					var version int32
					var zxid coord.ZXID
					for {
						select {
						case <-stop:
							return
						case <-time.After(7 * time.Millisecond):
						}
						v, err := s.View(t.Context(), opts...)
						if errors.Is(err, coord.ErrSuspended) {
							continue
						}
						if err != nil {
							t.Errorf("View = %v", err)
							return
						}
						_, st, err := v.Get("/n")
						if err != nil || st.Version < version || v.ZXID() < zxid {
							t.Errorf("member %v: version %d at %v, %v; it was %d at %v", c.Status().Member, st.Version, v.ZXID(), err, version, zxid)
							return
						}
						version, zxid = st.Version, v.ZXID()
					}
				})
			}
			busy.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_, _ = c.SetData(ctx, "/n", nil)
					cancel()
				}
			})
		}
		for i := range cuts {
			victim := e.Member(i%3 + 1)
			if i%3 == 1 {
				victim = e.Leader(t.Context())
			}
			e.Isolate(victim)
			time.Sleep(6 * time.Second)
			e.Heal()
			eventually(t, "the member to come back", func() bool { return victim.Health() == nil })
			e.Lead(t.Context(), victim)
		}
		close(stop)
		busy.Wait()
	}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 30 }))
}

// A member that is behind a Position answers a read that is to reflect it when it
// has caught up, and not before.
func TestAtLeastWaitsForAMemberThatIsBehind(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader, behind := e.Leader(t.Context()), e.Follower(t.Context())
		mustCreate(t, leader, "/n", "old")
		e.Converged(t.Context())
		e.Isolate(behind)
		if _, err := leader.SetData(t.Context(), "/n", []byte("new")); err != nil {
			t.Fatal(err)
		}
		v, err := leader.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := mustGet(t, behind, "/n"); got != "old" {
			t.Fatalf("the member that is cut off reads %q: it is not behind", got)
		}
		got := make(chan string, 1)
		go func() {
			data, _, err := behind.Get(t.Context(), "/n", coord.AtLeast(v.Position()))
			if err != nil {
				t.Errorf("Get = %v", err)
			}
			got <- string(data)
		}()
		time.Sleep(2 * time.Second)
		select {
		case data := <-got:
			t.Fatalf("a member that is behind answered %q", data)
		default:
		}
		e.Heal()
		if data := <-got; data != "new" {
			t.Errorf("Get = %q, want what is at the Position", data)
		}
	})
}

// Positions are checked, and what is wrong with them is said.
func TestPositionsThatAreRefusedSayWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/n", "")
		v, err := c.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		own := v.Position().String()
		for _, b := range []struct{ what, text, says string }{
			{"future", strings.Replace(own, ":0x", ":0xff", 1), "the ensemble at " + v.ZXID().String()},
			{"foreign", "p1-00000000000000ff-1:0x1", "another ensemble"},
			{"unknown group", own + ",9:0x1", "group 9"},
		} {
			p, err := coord.ParsePosition(b.text)
			if err != nil {
				t.Fatalf("%s: %v", b.what, err)
			}
			if _, _, err := c.Get(t.Context(), "/n", coord.AtLeast(p)); !errors.Is(err, coord.ErrInvalidPosition) || !strings.Contains(err.Error(), b.says) {
				t.Errorf("%s: Get = %v, want it to say %q", b.what, err, b.says)
			}
		}
	})
}
