package coord_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/loopback"
	"coord/internal/private"
)

// joinConfig returns the configuration of a member that is to join those of an
// ensemble of one on sockets.
func joinConfig(t *testing.T, id coord.MemberID, at string) coord.Config {
	t.Helper()
	addrs, err := loopback.FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return coord.Config{ID: id, Dir: t.TempDir(), Listen: addrs[0], Join: []string{at}, ElectionTimeout: time.Second, OperationTimeout: 20 * time.Second}
}

// lone starts a member that others can join.
func lone(t *testing.T) (*coord.Coordinator, string) {
	t.Helper()
	addrs, err := loopback.FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := coord.Open(t.Context(), coord.Config{Dir: t.TempDir(), Listen: addrs[0], ElectionTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, c) })
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, addrs[0]
}

func closed(t *testing.T, c *coord.Coordinator) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// TestJoinRefusals joins in all the ways in which one cannot, and sees that the ensemble
// goes on.
func TestJoinRefusals(t *testing.T) {
	first, at := lone(t)
	used := t.TempDir()
	other, err := coord.Open(t.Context(), coord.Config{Name: "other", Dir: used})
	if err != nil {
		t.Fatal(err)
	}
	closed(t, other)
	if err := first.AddMember(t.Context(), coord.Member{ID: 2, Addr: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*coord.Config)
		is     error
		says   string
	}{
		{"an id that nobody has added", func(c *coord.Config) { c.ID = 9 }, coord.ErrBadArguments, "there is no member 9: it has to be added first"},
		{"an id of somebody who runs", func(c *coord.Config) { c.ID = 1 }, coord.ErrBadArguments, "member 1 has another directory"},
		{"another ensemble", func(c *coord.Config) { c.Name, c.ID = "elsewhere", 0 }, nil, `is of "coord"`},
		{"a directory of another ensemble", func(c *coord.Config) { c.Dir, c.ID = used, 2 }, nil, `ensemble "other"`},
		{"the address of another", func(c *coord.Config) { c.Addr, c.ID = at, 2 }, coord.ErrBadArguments, "the same address"},
		{"nobody there", func(c *coord.Config) {
			c.Join, c.OperationTimeout = []string{"127.0.0.1:1"}, 200*time.Millisecond
		}, coord.ErrTimeout, "not taken in"},
		{"members as well", func(c *coord.Config) { c.InitialMembers = []coord.Member{{ID: 2, Addr: "127.0.0.1:1"}} }, nil, "exclude each other"},
		{"no address", func(c *coord.Config) { c.Listen = "" }, nil, "Addr of a member that joins"},
	} {
		cfg := joinConfig(t, 2, at)
		c.change(&cfg)
		m, err := coord.Open(t.Context(), cfg)
		if err == nil {
			closed(t, m)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: Open = %v, want %v that says %q", c.name, err, c.is, c.says)
		}
	}
	if err := first.AddMember(t.Context(), coord.Member{ID: 3, Addr: "127.0.0.1:2"}); !errors.Is(err, coord.ErrReconfigInProgress) || !strings.Contains(err.Error(), "member 2 is still being added") {
		t.Errorf("adding two at once = %v", err)
	}
	if err := first.RemoveMember(t.Context(), 1); !errors.Is(err, coord.ErrBadArguments) && !errors.Is(err, coord.ErrReconfigInProgress) {
		t.Errorf("removing the last voter = %v", err)
	}
	if err := first.RemoveMember(t.Context(), 2); err != nil {
		t.Errorf("taking an addition back = %v", err)
	}
	if err := first.RemoveMember(t.Context(), 1); !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), "last voter") {
		t.Errorf("removing the last voter = %v", err)
	}
	if err := first.AddMember(t.Context(), coord.Member{ID: 2, Addr: "127.0.0.1:1"}); !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), "never used again") {
		t.Errorf("adding a removed id = %v", err)
	}
	mustCreate(t, first, "/goes-on", "")
}

// removedWhileDown removes a follower of three that is down, and returns it and another
// member.
func removedWhileDown(t *testing.T) (e *coordtest.Ensemble, away, at *coord.Coordinator) {
	t.Helper()
	e = coordtest.NewEnsemble(t, 3, coordtest.OnDisk(), coordtest.OnSockets())
	away = e.Follower(t.Context())
	e.Stop(away)
	at = e.Leader(t.Context())
	if err := at.RemoveMember(t.Context(), away.Status().Member); err != nil {
		t.Fatal(err)
	}
	return e, away, at
}

// comesBackInVain starts a member that was removed, which has to hear that and stop.
func comesBackInVain(t *testing.T, e *coordtest.Ensemble, away *coord.Coordinator) {
	t.Helper()
	again := e.Restart(away)
	eventually(t, "the removed member to stop", func() bool { return errors.Is(again.Health(), coord.ErrFailed) })
	if err := again.Health(); !errors.Is(err, coord.ErrNotMember) || !strings.Contains(err.Error(), fmt.Sprintf("member %v was removed", away.Status().Member)) {
		t.Errorf("Health = %v", err)
	}
	mustCreate(t, e.Leader(t.Context()), "/without", "")
	e.Remove(t.Context(), again)
}

// TestRemovedMemberDoesNotComeBack removes a member while it is down. It learns that from
// the others when it comes back, and later from its own directory.
func TestRemovedMemberDoesNotComeBack(t *testing.T) {
	e, away, _ := removedWhileDown(t)
	comesBackInVain(t, e, away)
}

// TestForgottenMemberDoesNotComeBack removes a member while it is down, and so many behind
// it that the ensemble keeps no record of it. It is told all the same.
func TestForgottenMemberDoesNotComeBack(t *testing.T) {
	e, away, at := removedWhileDown(t)
	var come, leave coord.Reconfiguration
	for i := range 130 {
		m := coord.Member{ID: coord.MemberID(100 + i), Role: coord.Observer, Addr: fmt.Sprintf("127.0.0.1:%d", 1+i)}
		come.Members = append(come.Members, m)
		leave.Remove = append(leave.Remove, m.ID)
	}
	last := coord.Reconfiguration{Members: []coord.Member{{ID: 1000, Role: coord.Observer, Addr: "127.0.0.1:999"}}}
	for _, rc := range []coord.Reconfiguration{come, leave, last} {
		if _, err := at.Reconfigure(t.Context(), rc); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the change to be settled", func() bool { return at.Configuration().Settled })
	}
	err := at.AddMember(t.Context(), coord.Member{ID: away.Status().Member, Addr: "127.0.0.1:1"})
	if !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), "removed long ago") {
		t.Errorf("adding its id = %v, want that it is forgotten and not to be used", err)
	}
	comesBackInVain(t, e, away)
}

// TestObserverIsStartedAgain kills an observer that has joined without an id, and starts it
// at its address as a container is, with nothing of what it had: it takes its own place.
// Another process cannot while it lives.
func TestObserverIsStartedAgain(t *testing.T) {
	first, at := lone(t)
	cfg := joinConfig(t, 0, at)
	cfg.Dir = ""
	observer, err := coord.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := observer.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	was := observer.Status().Member

	claimant := joinConfig(t, 0, at)
	claimant.Addr, claimant.OperationTimeout = cfg.Listen, 500*time.Millisecond
	c, err := coord.Open(t.Context(), claimant)
	if err == nil {
		closed(t, c)
	}
	if !errors.Is(err, coord.ErrTimeout) || !errors.Is(err, coord.ErrReconfigInProgress) || !strings.Contains(err.Error(), "was heard of lately") {
		t.Errorf("joining at the address of an observer that runs = %v", err)
	}

	if err := private.Kill(observer); err != nil {
		t.Fatal(err)
	}
	again, err := coord.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, again)
	if err := again.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, again, "/again", "1")
	conf := first.Configuration()
	if len(conf.Members) != 2 || conf.Members[1].ID != again.Status().Member || conf.Members[1].ID == was {
		t.Errorf("the members are %+v, want member 1 and the new one, not %v", conf.Members, was)
	}
}

// TestMemberMoves starts a member at another address. It tells the others, and the
// configuration says so.
func TestMemberMoves(t *testing.T) {
	first, at := lone(t)
	cfg := joinConfig(t, 2, at)
	if err := first.AddMember(t.Context(), coord.Member{ID: 2, Addr: cfg.Listen}); err != nil {
		t.Fatal(err)
	}
	second, err := coord.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.AwaitSettled(t.Context()); err != nil {
		t.Fatal(err)
	}
	third := joinConfig(t, 3, at)
	if err := first.AddMember(t.Context(), coord.Member{ID: 3, Addr: third.Listen}); err != nil {
		t.Fatal(err)
	}
	c, err := coord.Open(t.Context(), third)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, c) })
	if err := first.AwaitSettled(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed(t, second)
	moved := joinConfig(t, 2, at)
	cfg.Listen, cfg.ID = moved.Listen, 0 // the directory knows who it is
	second, err = coord.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, second) })
	if err := second.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range second.Configuration().Members {
		if m.ID == 2 && m.Addr != moved.Listen {
			t.Errorf("member 2 is said to be at %s, it is at %s", m.Addr, moved.Listen)
		}
	}
}

// TestThrowawayObserver joins without a directory and leaves nothing behind.
func TestThrowawayObserver(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	first, at := lone(t)
	cfg := joinConfig(t, 0, at)
	cfg.Dir = ""
	c, err := coord.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/by-observer", "")
	if made, err := os.ReadDir(temporary); err != nil || len(made) == 0 {
		t.Errorf("its directory is not among temporary files: %v, %v", made, err)
	}
	closed(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := first.AwaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	if conf := first.Configuration(); len(conf.Members) != 1 {
		t.Errorf("the closed observer is still a member: %+v", conf)
	}
	left, err := os.ReadDir(temporary)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if strings.HasPrefix(f.Name(), "coord-observer-") {
			t.Errorf("%s was left behind", f.Name())
		}
	}
}
