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
	"coord/internal/private"
)

func mustMount(t *testing.T, c *coord.Coordinator, path string) {
	t.Helper()
	if err := c.Mount(t.Context(), path); err != nil {
		t.Fatalf("Mount(%s) = %v", path, err)
	}
}

// TestMountIsOneTree has callers use a tree with mounts as any other: on all members,
// through mounts and unmounts, and behind restarts.
func TestMountIsOneTree(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a, b := e.Member(1), e.Member(2)
		_, before := mustCreate(t, a, "/q", "moved")
		mustMount(t, a, "/q")
		if data, stat := mustGet(t, b, "/q", coord.Linearizable()); data != "moved" || stat.Czxid != before.Czxid || stat.Mzxid != before.Mzxid {
			t.Errorf("behind the mount /q has %q, %+v, want what it had, %+v", data, stat, before)
		}
		for i, c := range e.Running() {
			mustCreate(t, c, fmt.Sprintf("/q/%d", i), "in")
			mustCreate(t, c, fmt.Sprintf("/%d", i), "beside")
			if got, _ := mustGet(t, c, fmt.Sprintf("/q/%d", i)); got != "in" {
				t.Errorf("member %d does not see its own write: %q", i+1, got)
			}
		}
		names, stat, err := b.Children(t.Context(), "/q", coord.Linearizable())
		if err != nil || fmt.Sprint(names) != "[0 1 2]" || stat.NumChildren != 3 {
			t.Errorf("Children(/q) = %v, %+v, %v", names, stat, err)
		}
		if names, _, err := b.Children(t.Context(), "/", coord.Linearizable()); err != nil || fmt.Sprint(names) != "[0 1 2 q zookeeper]" {
			t.Errorf("Children(/) = %v, %v", names, err)
		}
		if err := a.Delete(t.Context(), "/q"); !errors.Is(err, coord.ErrMounted) {
			t.Errorf("Delete of a mount point = %v, want ErrMounted", err)
		}
		if err := a.Unmount(t.Context(), "/q"); !errors.Is(err, coord.ErrNotEmpty) {
			t.Errorf("Unmount of what is not empty = %v, want ErrNotEmpty", err)
		}
		all := e.Running()
		for _, c := range all {
			e.Stop(c)
		}
		for _, c := range all {
			e.Restart(c)
		}
		a, b = e.Member(1), e.Member(2)
		for i := range 3 {
			if err := b.Delete(t.Context(), fmt.Sprintf("/q/%d", i)); err != nil {
				t.Errorf("Delete(/q/%d) behind a restart = %v", i, err)
			}
		}
		if _, err := b.SetData(t.Context(), "/q", []byte("back")); err != nil {
			t.Fatal(err)
		}
		if err := a.Unmount(t.Context(), "/q"); err != nil {
			t.Fatal(err)
		}
		for i, c := range e.Running() {
			if got, _ := mustGet(t, c, "/q", coord.Linearizable()); got != "back" {
				t.Errorf("behind the unmount member %d has %q", i+1, got)
			}
		}
		mustCreate(t, b, "/q/again", "")
		if m := a.Mounts(); len(m) != 0 {
			t.Errorf("Mounts() = %v", m)
		}
	})
}

// TestMountRefusals has each mount and unmount refused that cannot be, with what is in
// the way, and the ensemble go on.
func TestMountRefusals(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		mustCreate(t, c, "/full", "")
		mustCreate(t, c, "/full/child", "")
		mustCreate(t, c, "/eph", "", coord.Ephemeral)
		mustCreate(t, c, "/box", "", coord.Container)
		mustCreate(t, c, "/m", "")
		mustMount(t, c, "/m")
		mustCreate(t, c, "/m/in", "")
		for _, x := range []struct {
			path string
			want error
			says string
		}{
			{"/full", coord.ErrNotEmpty, "/full"},
			{"/eph", coord.ErrNoChildrenForEphemerals, "/eph"},
			{"/box", coord.ErrBadArguments, "/box"},
			{"/none", coord.ErrNoNode, "/none"},
			{"/", coord.ErrBadArguments, "root"},
			{"/zookeeper/config", coord.ErrBadArguments, "/zookeeper"},
			{"bad", coord.ErrBadArguments, "bad"},
			{"/m", coord.ErrMounted, "/m is a mount"},
			{"/m/in", coord.ErrMounted, "/m is a mount"},
		} {
			if err := c.Mount(t.Context(), x.path); !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
				t.Errorf("Mount(%s) = %v, want %v that says %q", x.path, err, x.want, x.says)
			}
		}
		for path, want := range map[string]error{"/m": coord.ErrNotEmpty, "/full": coord.ErrBadArguments, "/none": coord.ErrBadArguments} {
			if err := c.Unmount(t.Context(), path); !errors.Is(err, want) {
				t.Errorf("Unmount(%s) = %v, want %v", path, err, want)
			}
		}
		_, err := c.Multi(t.Context(), coord.SetDataOp("/m/in", []byte("x")), coord.SetDataOp("/full", []byte("x")))
		if !errors.Is(err, coord.ErrCrossMount) || !strings.Contains(err.Error(), "/full") || !strings.Contains(err.Error(), "/m/in") {
			t.Errorf("a multi across mounts = %v, want ErrCrossMount with both", err)
		}
		if _, err := c.Multi(t.Context(), coord.CreateOp("/m/a", nil), coord.SetDataOp("/m", []byte("x"))); err != nil {
			t.Errorf("a multi inside a mount = %v", err)
		}
		if got, _ := mustGet(t, c, "/full"); got != "" {
			t.Errorf("a refused multi has written %q", got)
		}
	})
}

// TestMountWaitsForQuorum mounts while one member alone is left: the mount is not made,
// or goes on when the others are back.
func TestMountWaitsForQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		mustCreate(t, c, "/q", "")
		others := []*coord.Coordinator{e.Member(2), e.Member(3)}
		for _, other := range others {
			e.Stop(other)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := c.Mount(ctx, "/q")
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, coord.ErrSuspended) {
			t.Errorf("Mount without a quorum = %v, want that it has waited in vain", err)
		}
		// It was unknown if it was proposed, and is refused if a batch before it was under way.
		for _, other := range others {
			e.Restart(other)
		}
		if err := c.Sync(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		if mounts := c.Mounts(); len(mounts) > 0 && !errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("Mount without a quorum = %v, and came about: %+v", err, mounts)
		}
	})
}

// TestConfiguredMounts has an ensemble begin with mounts.
func TestConfiguredMounts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		eventually(t, "the configured mounts", func() bool {
			for _, c := range e.Running() {
				m := c.Mounts()
				if len(m) != 2 || !m[0].Served || !m[1].Served || m[0].Path != "/a/b" || m[1].Path != "/c" {
					return false
				}
			}
			return true
		})
		mustCreate(t, e.Member(2), "/a/b/x", "")
		mustCreate(t, e.Member(3), "/c/x", "")
	}, coordtest.WithConfig(func(cfg *coord.Config) { cfg.Mounts = []string{"/c", "/a/b"} }))
}

// TestSessionsInMounts has sessions end in all groups: when they are closed, when their
// process dies, and when they are handed over and resumed.
func TestSessionsInMounts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a, b := e.Member(1), e.Member(2)
		for _, path := range []string{"/q", "/r"} {
			mustCreate(t, a, path, "")
			mustMount(t, a, path)
		}
		open := func(c *coord.Coordinator) *coord.Session {
			t.Helper()
			s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: 6 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"/q/e-", "/r/e-", "/e-"} {
				if _, _, err := s.Create(t.Context(), path, nil, coord.EphemeralSequential); err != nil {
					t.Fatalf("Create(%s) = %v", path, err)
				}
			}
			return s
		}
		ephemerals := func() (n int) {
			t.Helper()
			for _, path := range []string{"/q", "/r", "/"} {
				names, _, err := b.Children(t.Context(), path, coord.Linearizable())
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range names {
					if strings.HasPrefix(name, "e-") {
						n++
					}
				}
			}
			return n
		}
		s := open(a)
		if n := ephemerals(); n != 3 {
			t.Fatalf("%d ephemerals, want 3", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := ephemerals(); n != 0 {
			t.Errorf("%d ephemerals behind Close", n)
		}

		s = open(a)
		token := s.Token()
		if err := s.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := b.Resume(t.Context(), token, coord.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second) // of the bubble: the old handle's time is over in each group
		if n := ephemerals(); n != 3 || s.State() != coord.Connected {
			t.Errorf("%d ephemerals behind a hand-over, want 3; the session is %v: %v", n, s.State(), context.Cause(s.Context()))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := ephemerals(); n != 0 {
			t.Errorf("%d ephemerals when the resumed session is closed", n)
		}

		c := e.Member(3)
		open(c)
		e.Kill(c)
		eventually(t, "the ephemerals of a dead process to go", func() bool { return ephemerals() == 0 })
	})
}

// TestSessionEndsWithItsMount cuts the process of a session off from the leader of one
// group alone, so that the session expires there: its handle ends, and the session
// everywhere.
func TestSessionEndsWithItsMount(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a := e.Member(1)
		mustCreate(t, a, "/q", "")
		mustMount(t, a, "/q")
		s, err := a.NewSession(t.Context(), coord.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mustCreate(t, s, "/q/e", "", coord.Ephemeral)
		mustCreate(t, s, "/e", "", coord.Ephemeral)
		if err := coord.ExpireInMount(t.Context(), a, "/q", s); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the handle to end", func() bool { return s.State() == coord.Expired })
		eventually(t, "the session to end everywhere", func() bool {
			_, _, inMount := e.Member(2).Get(t.Context(), "/q/e", coord.Linearizable())
			_, _, outside := e.Member(2).Get(t.Context(), "/e", coord.Linearizable())
			return errors.Is(inMount, coord.ErrNoNode) && errors.Is(outside, coord.ErrNoNode)
		})
		if _, _, err := s.Create(t.Context(), "/q/late", nil); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Create by a session that has ended = %v", err)
		}
	})
}

// TestGroupWithoutQuorum takes the quorum of one mount away: what is there fails, and a
// session that wanted to write there, and everything else, goes on.
func TestGroupWithoutQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a := e.Member(1)
		for _, path := range []string{"/q", "/r"} {
			mustCreate(t, a, path, "")
			mustMount(t, a, path)
		}
		for i := 2; i <= 3; i++ {
			if err := private.StopMounted(t.Context(), e.Member(i), "/q"); err != nil {
				t.Fatal(err)
			}
		}
		s, err := a.NewSession(t.Context(), coord.SessionOptions{Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		mustCreate(t, s, "/r/e", "", coord.Ephemeral)
		eventually(t, "reads of the mount to fail", func() bool {
			_, _, err := a.Get(t.Context(), "/q")
			return errors.Is(err, coord.ErrSuspended)
		})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			if _, _, err := s.Create(ctx, "/q/x", nil); err == nil {
				t.Error("a write without a quorum succeeded")
			}
			cancel()
			mustCreate(t, s, "/r/n-", "", coord.PersistentSequential)
			mustCreate(t, s, "/n-", "", coord.PersistentSequential)
		}
		if s.State() != coord.Connected {
			t.Errorf("the session is %v", s.State())
		}
		if _, _, err := a.Get(t.Context(), "/r/e", coord.Linearizable()); err != nil {
			t.Error(err)
		}
		v, err := a.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := v.Get("/r/e"); err != nil {
			t.Errorf("a view shows of the other mount: %v", err)
		}
		if _, _, err := v.Get("/q"); !errors.Is(err, coord.ErrSuspended) {
			t.Errorf("a view shows of the mount without a quorum: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
}

// TestSessionsWhereAGroupHasNoQuorum takes the quorum of a mount away for longer than
// sessions last: those end that have an ephemeral there, or may come to have one, and no
// others. When the quorum is back, the others go on there as well.
func TestSessionsWhereAGroupHasNoQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a := e.Member(1)
		mustCreate(t, a, "/q", "")
		mustMount(t, a, "/q")
		sessions := map[string]*coord.Session{}
		for _, name := range []string{"has written", "writes", "had an ephemeral", "has an ephemeral", "creates one"} {
			s, err := a.NewSession(t.Context(), coord.SessionOptions{Timeout: 6 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			mustCreate(t, s, "/held by who "+name, "", coord.Ephemeral)
			mustCreate(t, s, "/q/of who "+name, "")
			sessions[name] = s
		}
		begin := func(name string, o coord.Op) {
			t.Helper()
			if _, err := sessions[name].Begin(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		mustCreate(t, sessions["had an ephemeral"], "/q/gone", "", coord.Ephemeral)
		if err := sessions["had an ephemeral"].Delete(t.Context(), "/q/gone"); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, sessions["has an ephemeral"], "/q/there", "", coord.Ephemeral)
		others := []*coord.Coordinator{e.Member(2), e.Member(3)}
		for _, c := range others {
			if err := private.StopMounted(t.Context(), c, "/q"); err != nil {
				t.Fatal(err)
			}
		}
		begin("writes", coord.SetDataOp("/q/of who writes", nil))
		begin("creates one", coord.CreateOp("/q/perhaps", nil, coord.Ephemeral))

		time.Sleep(15 * time.Second) // of the bubble
		want := map[string]coord.SessionState{
			"has written": coord.Connected, "writes": coord.Connected, "had an ephemeral": coord.Connected,
			"has an ephemeral": coord.Expired, "creates one": coord.Expired,
		}
		stand := func(when string) {
			t.Helper()
			for name, s := range sessions {
				if got := s.State(); got != want[name] {
					t.Errorf("%s the session that %s is %v, want %v: %v", when, name, got, want[name], context.Cause(s.Context()))
				}
				_, _, err := a.Get(t.Context(), "/held by who "+name, coord.Linearizable())
				if held := err == nil; held != (want[name] == coord.Connected) {
					t.Errorf("%s the ephemeral elsewhere of who %s: %v", when, name, err)
				}
			}
		}
		stand("without a quorum")
		s := sessions["has written"]
		if _, _, err := s.Create(t.Context(), "/q/later", nil, coord.Ephemeral); !errors.Is(err, coord.ErrTimeout) || errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("an ephemeral where there is no quorum: %v, want ErrTimeout and nothing begun", err)
		}
		stand("behind an attempt")

		for _, c := range others {
			e.Stop(c)
			e.Restart(c)
		}
		mustCreate(t, s, "/q/later", "", coord.Ephemeral)
		mustCreate(t, s, "/q/and", "")
		time.Sleep(30 * time.Second) // of the bubble
		stand("with a quorum again")
		mustGet(t, a, "/q/later", coord.Linearizable())
		if _, _, err := a.Get(t.Context(), "/q/perhaps", coord.Linearizable()); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("the ephemeral of a session that has ended: %v", err)
		}
	})
}

// TestResumeWhileAGroupHasNoQuorum resumes a session on a member that has no contact with
// a group in which it has an ephemeral: that stays, when there is contact again.
func TestResumeWhileAGroupHasNoQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a, others := e.Member(1), []*coord.Coordinator{e.Member(2), e.Member(3)}
		mustCreate(t, a, "/q", "")
		mustMount(t, a, "/q")
		s, err := others[0].NewSession(t.Context(), coord.SessionOptions{Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		mustCreate(t, s, "/q/there", "", coord.Ephemeral)
		token := s.Token()
		if err := s.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range others {
			if err := private.StopMounted(t.Context(), c, "/q"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "reads of the mount to fail", func() bool {
			_, _, err := a.Get(t.Context(), "/q")
			return errors.Is(err, coord.ErrSuspended)
		})
		s, err = a.Resume(t.Context(), token, coord.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // of the bubble
		if s.State() != coord.Connected {
			t.Errorf("the session is %v, though the group may still have it", s.State())
		}
		for _, c := range others {
			e.Stop(c)
			e.Restart(c)
		}
		time.Sleep(2 * time.Minute) // of the bubble
		_, _, err = a.Get(t.Context(), "/q/there", coord.Linearizable())
		if s.State() != coord.Connected || err != nil {
			t.Errorf("the resumed session is %v, its ephemeral: %v", s.State(), err)
		}
	})
}
