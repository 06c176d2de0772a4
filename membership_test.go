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
		if data, _, err := third.Get(t.Context(), "/zookeeper/config"); err != nil || !strings.HasPrefix(string(data), "server.3=member-3:1:2:participant\nversion=") {
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

// TestReconfigureNeedsWrite has somebody outside change members, who may as super and not
// otherwise: only that identity can write the znode that tells of them. What no log could
// hold is refused.
func TestReconfigureNeedsWrite(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) { c.SuperDigest = coord.DigestID("root:secret").ID }))
		s, err := e.Member(1).NewSession(t.Context(), coord.SessionOptions{External: true})
		if err != nil {
			t.Fatal(err)
		}
		rc := coord.Reconfiguration{Members: []coord.Member{{ID: 4, Addr: "x:1", Role: coord.Observer}}}
		if _, err := s.Reconfigure(t.Context(), rc); !errors.Is(err, coord.ErrNoAuth) {
			t.Errorf("Reconfigure without a right = %v", err)
		}
		if err := s.AddAuth(t.Context(), "digest", []byte("root:secret")); err != nil {
			t.Fatal(err)
		}
		conf, err := s.Reconfigure(t.Context(), rc)
		if err != nil || len(conf.Members) != 4 {
			t.Errorf("Reconfigure with the right = %+v, %v", conf, err)
		}
		many := coord.Reconfiguration{Remove: make([]coord.MemberID, 1025)}
		if _, err := e.Member(1).Reconfigure(t.Context(), many); !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), "1025 changes, the limit is 1024") {
			t.Errorf("Reconfigure of too many = %v", err)
		}
		if _, err := e.Member(1).Reconfigure(t.Context(), coord.Reconfiguration{Members: []coord.Member{{ID: 5, Addr: "y:1", Role: 7}}}); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Reconfigure with no role = %v", err)
		}
		if _, err := e.Member(1).Reconfigure(t.Context(), coord.Reconfiguration{}); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Reconfigure of nothing = %v", err)
		}
		if err := e.Member(1).RemoveMember(t.Context(), 4); err != nil {
			t.Error(err)
		}
	})
}
