package coord_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// TestMembersChangeInAllGroups adds members, also one that leads nothing and one that
// observes, and removes others, also the leader, while a mount is served: its group
// follows, and goes on when none of those is left who have started it.
func TestMembersChangeInAllGroups(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		first := e.Running()
		mustCreate(t, e.Leader(t.Context()), "/q", "moved")
		if err := coord.SealMount(t.Context(), e.Leader(t.Context()), "/q"); err != nil {
			t.Fatal(err)
		}
		group := served(t, e, "/q", true)
		znodes := 2
		writeEverywhere := func() {
			t.Helper()
			for _, c := range e.Running() {
				path := fmt.Sprint("/q/", znodes)
				eventually(t, path+" to be created", func() bool { return coord.CreateIn(t.Context(), c, path) == nil })
				znodes++
			}
			alike(t, e, group, znodes)
		}
		writeEverywhere()
		e.Observe(t.Context())
		served(t, e, "/q", true)
		writeEverywhere()
		for _, gone := range first {
			e.Add(t.Context())
			served(t, e, "/q", true)
			writeEverywhere()
			e.Remove(t.Context(), gone)
			writeEverywhere()
		}
		for _, c := range e.Running() {
			if slices.ContainsFunc(c.Configuration().Members, func(m coord.Member) bool { return m.ID <= 3 }) {
				t.Errorf("members are %v", c.Configuration().Members)
			}
		}
	}, coordtest.WithElectionTimeout(time.Second))
}
