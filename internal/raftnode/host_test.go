package raftnode_test

import (
	"testing"

	"coord/internal/raftnode"
)

func withLog(tb testing.TB) option {
	tb.Helper()
	return func(_ int, c *raftnode.Config) { c.Logger = debugLogger(tb) }
}

// Three members elect a leader, a follower's proposals reach all of them, and
// a read index on any member shows them there.
func TestThreeMembersReplicate(t *testing.T) {
	e := open(t, inMemory(3, withLog(t)), 1)
	follower := (e.leader(1) + 1) % 3
	for range 50 {
		e.propose(follower, 1, "x")
	}
	n := e.machines[1][follower].count()
	if n < 50 {
		t.Errorf("%d commands applied where 50 were acknowledged", n)
	}
	for i := range e.hosts {
		e.read(i, 1)
		if got := e.machines[1][i].count(); got < n {
			t.Errorf("after ReadIndex member %d has %d commands, want at least %d", i+1, got, n)
		}
	}
	e.converge(1)
}

// A member that is closed and opened again on its directory has all it had,
// and the members that stayed go on meanwhile.
func TestRestart(t *testing.T) {
	e := open(t, inMemory(3), 1)
	away := (e.leader(1) + 1) % 3
	e.propose(away, 1, "before")
	e.closeHost(away)
	e.propose((away+1)%3, 1, "meanwhile")
	e.openHost(away)
	e.start(away, 1)
	e.propose(away, 1, "after")
	e.converge(1)
	if n := e.machines[1][away].count(); n < 3 {
		t.Errorf("the member that came back has %d commands, want at least 3", n)
	}
}

// All members may be closed at once: the log is on their disks.
func TestRestartOfAll(t *testing.T) {
	e := open(t, inMemory(3), 1)
	for range 10 {
		e.propose(0, 1, "x")
	}
	e.converge(1)
	want := e.machines[1][0].state()
	e.close()
	for i := range e.hosts {
		e.openHost(i)
		e.start(i, 1)
	}
	for i := range e.hosts {
		e.read(i, 1)
		if got := e.machines[1][i].state(); got != want {
			t.Errorf("member %d has %+v after a restart of all, want %+v", i+1, got, want)
		}
	}
}

// Groups of one host do not see each other's commands.
func TestTwoGroups(t *testing.T) {
	e := open(t, inMemory(3), 1, 17) // equal modulo 16: they share workers
	for range 5 {
		e.propose(0, 1, "one")
	}
	e.propose(1, 17, "seventeen")
	e.read(2, 1)
	e.read(2, 17)
	if n := e.machines[1][2].count(); n < 5 {
		t.Errorf("group 1 has %d commands, want at least 5", n)
	}
	if n := e.machines[17][2].count(); n < 1 || n > 4 {
		t.Errorf("group 17 has %d commands, want 1 or a few", n)
	}
}
