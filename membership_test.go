package coord_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

// TestGrowAndShrink has one member become three, while it is written to, and one again.
func TestGrowAndShrink(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 1)
		first := e.Member(1)
		mustCreate(t, first, "/before", "1")
		second := e.Add(t.Context())
		third := e.Add(t.Context())
		conf := first.Configuration()
		if len(conf.Members) != 3 || !conf.Settled || conf.ZXID == 0 {
			t.Errorf("Configuration = %+v, want three settled members", conf)
		}
		for _, c := range []*coord.Coordinator{second, third} {
			if data, _, err := c.Get(t.Context(), "/before", coord.Linearizable()); err != nil || string(data) != "1" {
				t.Errorf("Get on %v = %q, %v", c.Status().Member, data, err)
			}
		}
		// Two of three are a quorum now, and one is not.
		e.Stop(first)
		mustCreate(t, second, "/without", "1")
		first = e.Restart(first)
		if err := first.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.Isolate(third)
		e.Isolate(second)
		if _, _, err := second.Create(short(t), "/nothing", nil); err == nil {
			t.Error("a member alone wrote")
		}
		e.Heal()
		e.Remove(t.Context(), first)
		e.Remove(t.Context(), second)
		mustCreate(t, third, "/alone", "1")
		if conf := third.Configuration(); len(conf.Members) != 1 || conf.Members[0].ID != 3 {
			t.Errorf("Configuration = %+v, want member 3 alone", conf)
		}
		if data, _, err := third.Get(t.Context(), "/zookeeper/config"); err != nil || !strings.HasPrefix(string(data), "server.3=member-3:1:1:participant\nversion=") {
			t.Errorf("/zookeeper/config = %q, %v", data, err)
		}
	})
}

// TestObserversComeAndGo scales from three members to eight and back.
func TestObserversComeAndGo(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) { c.ObserverGrace = 30 * time.Second }))
		var observers []*coord.Coordinator
		for i := range 5 {
			c := e.Observe(t.Context())
			observers = append(observers, c)
			if st := c.Status(); st.Role != coord.Observing {
				t.Errorf("observer %v is %v", st.Member, st.Role)
			}
			mustCreate(t, c, fmt.Sprintf("/by-observer-%d", i), "1")
		}
		w, err := observers[4].Watch(t.Context(), "/", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		mustCreate(t, e.Member(1), "/told", "1")
		for ev, err := range w.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Path == "/told" {
				break
			}
		}
		// They do not count: without two of the three nothing is written.
		e.Isolate(e.Member(1))
		e.Isolate(e.Member(2))
		if _, _, err := observers[0].Create(short(t), "/nothing", nil); err == nil {
			t.Error("observers made up a quorum")
		}
		e.Heal()
		for _, c := range observers[:4] {
			e.Remove(t.Context(), c)
		}
		// The last one just dies. The leader removes it when it was silent for long.
		gone := observers[4].Status().Member
		e.Kill(observers[4])
		eventually(t, "the silent observer to be removed", func() bool {
			for _, m := range e.Member(1).Configuration().Members {
				if m.ID == gone {
					return false
				}
			}
			return true
		})
		if c := e.Member(1).Configuration(); len(c.Members) != 3 {
			t.Errorf("Configuration = %+v, want the three", c)
		}
	})
}

// TestRemovedMemberStops removes the leader, which says so, and does not come back.
func TestRemovedMemberStops(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3)
		leader, other := e.Leader(t.Context()), e.Follower(t.Context())
		id := leader.Status().Member
		if err := other.RemoveMember(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the removed member to stop", func() bool { return errors.Is(leader.Health(), coord.ErrFailed) })
		if err := leader.Health(); !errors.Is(err, coord.ErrNotMember) || !strings.Contains(err.Error(), fmt.Sprintf("member %v was removed", id)) {
			t.Errorf("Health of the removed member = %v", err)
		}
		mustCreate(t, other, "/without", "1")
		e.Remove(t.Context(), leader)
	})
}

// short returns a context of a call that is to fail.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	t.Cleanup(cancel)
	return ctx
}
