package coord_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// served waits until every running member serves path through a group of a mount, or
// through the root group, and returns which.
func served(t *testing.T, e *coordtest.Ensemble, path string, mounted bool) coord.GroupID {
	t.Helper()
	var by coord.GroupID
	eventually(t, fmt.Sprintf("%s to be served by a mount: %v", path, mounted), func() bool {
		for i, c := range e.Running() {
			server := coord.ServedHere(c, path)
			if server == 0 || (server != 1) != mounted || i > 0 && server != by {
				return false
			}
			by = server
		}
		return true
	})
	return by
}

// ended waits until no running member has groups of mounts, nor anything of such on its
// disk.
func ended(t *testing.T, e *coordtest.Ensemble) {
	t.Helper()
	eventually(t, "the groups of mounts to end", func() bool {
		return !slices.ContainsFunc(e.Running(), func(c *coord.Coordinator) bool {
			return len(coord.GroupsOf(c)) > 0 || !slices.Equal(coord.StoredBy(c), []coord.GroupID{1})
		})
	})
}

// alike waits until all running members have the same of a group.
func alike(t *testing.T, e *coordtest.Ensemble, id coord.GroupID, znodes int) {
	t.Helper()
	eventually(t, "the members to have the same", func() bool {
		first := coord.MountedGroupOf(e.Running()[0], id)
		for _, c := range e.Running() {
			if got := coord.MountedGroupOf(c, id); got != first || got.Znodes != znodes || !got.UpToDate {
				return false
			}
		}
		return true
	})
}

// A mount's group starts on every member with the znode, takes writes of each, survives
// restarts, and gives the znode back.
func TestMountedGroups(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader := e.Leader(t.Context())
		_, before := mustCreate(t, leader, "/q", "moved")
		if err := coord.SealMount(t.Context(), leader, "/q"); err != nil {
			t.Fatal(err)
		}
		group := served(t, e, "/q", true)
		for i, c := range e.Running() {
			if err := coord.CreateIn(t.Context(), c, fmt.Sprint("/q/", i)); err != nil {
				t.Errorf("member %d: create in the mount: %v", i+1, err)
			}
			if _, _, err := c.Create(t.Context(), fmt.Sprint("/beside", i), nil); err != nil {
				t.Errorf("member %d: Create beside the mount = %v", i+1, err)
			}
		}
		alike(t, e, group, 5)

		all := e.Running()
		for _, c := range all {
			e.Stop(c)
		}
		for _, c := range all {
			e.Restart(c)
		}
		served(t, e, "/q", true)
		alike(t, e, group, 5)

		c := e.Running()[0]
		if err := coord.SealMounted(t.Context(), c, "/q"); !errors.Is(err, coord.ErrNotEmpty) {
			t.Errorf("an unmount of what is not empty = %v, want ErrNotEmpty", err)
		}
		for i := range 3 {
			if err := coord.DeleteIn(t.Context(), c, fmt.Sprint("/q/", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := coord.SealMounted(t.Context(), c, "/q"); err != nil {
			t.Fatal(err)
		}
		served(t, e, "/q", false)
		data, after := mustGet(t, c, "/q", coord.Linearizable())
		if data != "moved" || after.Czxid != before.Czxid || after.Mzxid != before.Mzxid || after.Cversion != 6 || after.Pzxid <= before.Pzxid {
			t.Errorf("back is %q, %+v; it was %+v", data, after, before)
		}
		ended(t, e)
		if _, err := c.SetData(t.Context(), "/q", nil); err != nil {
			t.Errorf("SetData of what was mounted = %v", err)
		}
	})
}

// What the root group decrees is adopted by groups that run, and by those that start.
func TestMountsAdoptDecrees(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		if err := c.SetUser(t.Context(), "eve", "secret"); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/a", "/b"} {
			mustCreate(t, c, path, "")
			if err := coord.SealMount(t.Context(), c, path); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range []string{"/a", "/b"} {
			if got := coord.MountedGroupOf(c, served(t, e, path, true)); got.Users != 1 {
				t.Errorf("%s is served, and its group has %d users, want 1", path, got.Users)
			}
		}
		if err := c.SetUser(t.Context(), "bob", "secret"); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/a", "/b"} {
			group := served(t, e, path, true)
			alike(t, e, group, 2)
			if got := coord.MountedGroupOf(c, group); got.Users != 2 {
				t.Errorf("the group of %s has %d users, want 2", path, got.Users)
			}
		}
	})
}

// A mount that is cancelled leaves the znode where it was, or is served by then.
func TestMountCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/q", "kept")
		if err := coord.SealMount(t.Context(), c, "/q"); err != nil {
			t.Fatal(err)
		}
		if err := coord.CancelMount(t.Context(), c, "/q"); err != nil {
			t.Fatal(err) // the group has just begun to start
		}
		served(t, e, "/q", false)
		ended(t, e)
		if _, err := c.SetData(t.Context(), "/q", nil); err != nil {
			t.Errorf("SetData behind the cancelled mount = %v", err)
		}
	})
}

// A member that was down while something was mounted or unmounted finds out.
func TestMountsWhileAMemberIsDown(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/q", "")
		down := e.Follower(t.Context())
		e.Stop(down)
		if err := coord.SealMount(t.Context(), c, "/q"); err != nil {
			t.Fatal(err)
		}
		group := served(t, e, "/q", true)
		if err := coord.CreateIn(t.Context(), c, "/q/a"); err != nil {
			t.Fatal(err)
		}
		down = e.Restart(down)
		served(t, e, "/q", true)
		alike(t, e, group, 3)
		if err := coord.DeleteIn(t.Context(), down, "/q/a"); err != nil {
			t.Fatal(err)
		}

		e.Kill(down)
		if err := coord.SealMounted(t.Context(), c, "/q"); err != nil {
			t.Fatal(err)
		}
		served(t, e, "/q", false)
		down = e.Restart(down)
		served(t, e, "/q", false)
		ended(t, e)
		if _, err := down.SetData(t.Context(), "/q", nil); err != nil {
			t.Errorf("SetData behind the unmount = %v", err)
		}
	})
}

// Whoever dies between the steps, mounts and unmounts come to their end, and nothing is
// lost: znodes are mounted and unmounted while members are killed at any moment.
func TestMountsSurviveCrashes(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		r := rand.New(rand.NewPCG(e.Seed(), 5))
		mustCreate(t, e.Leader(t.Context()), "/q", "kept")
		for range rounds {
			for _, mounting := range []bool{true, false} {
				begin := coord.SealMounted
				if mounting {
					begin = coord.SealMount
				}
				if err := begin(t.Context(), e.Leader(t.Context()), "/q"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond) // in virtual time
				dead := e.Running()[r.IntN(3)]
				e.Kill(dead)
				served(t, e, "/q", mounting)
				e.Restart(dead)
				served(t, e, "/q", mounting)
			}
			if data, _ := mustGet(t, e.Leader(t.Context()), "/q", coord.Linearizable()); data != "kept" {
				t.Fatalf("back is %q", data)
			}
		}
		ended(t, e)
	})
}

// Each member leads its share of the groups, also again after it was away.
func TestMountsHaveLeadersEverywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		var groups []coord.GroupID
		for i := range 6 {
			path := fmt.Sprint("/q", i)
			mustCreate(t, c, path, "")
			if err := coord.SealMount(t.Context(), c, path); err != nil {
				t.Fatal(err)
			}
			groups = append(groups, served(t, e, path, true))
		}
		led := func(c *coord.Coordinator) int {
			n := 0
			for _, id := range groups {
				if coord.LeadsGroup(c, id) {
					n++
				}
			}
			return n
		}
		balanced := func() bool {
			return !slices.ContainsFunc(e.Running(), func(c *coord.Coordinator) bool { return led(c) != 2 })
		}
		eventually(t, "each member to lead two groups", balanced)
		away := e.Running()[1]
		e.Stop(away)
		eventually(t, "two members to lead all groups", func() bool { return led(e.Running()[0])+led(e.Running()[1]) == 6 })
		e.Restart(away)
		eventually(t, "each member to lead two groups again", balanced)
	})
}

// What a session leaves in the groups of mounts goes when the root group has closed it.
func TestMountsForgetSessions(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/q", "")
		if err := coord.SealMount(t.Context(), c, "/q"); err != nil {
			t.Fatal(err)
		}
		group := served(t, e, "/q", true)
		var open []*coord.Session
		for i := range 4 {
			s, err := c.NewSession(t.Context(), coord.SessionOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := coord.EnterMount(t.Context(), c, group, s, i%2 == 0); err != nil {
				t.Fatal(err)
			}
			open = append(open, s)
		}
		has := func(sessions, tombstones int) func() bool {
			return func() bool {
				n, ended := coord.SessionsIn(c, group)
				return n == sessions && ended == tombstones
			}
		}
		if !has(2, 2)() {
			t.Fatal("want two sessions and two tombstones")
		}
		for _, s := range open[2:] {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "what two sessions have left to go", has(1, 1))
		for _, s := range open[:2] {
			if err := coord.EnterMount(t.Context(), c, group, s, false); (err == nil) != (s == open[1]) {
				t.Errorf("enter of session %v = %v", s.ID(), err)
			}
		}
	})
}
