package raftnode_test

import (
	"testing"

	"coord/internal/raftnode"
	"coord/internal/replica"
)

// Several log databases serve many groups: their number and that of the step
// workers fit, or the first write would end the process.
func TestLogShards(t *testing.T) {
	groups := []replica.GroupID{1, 2, 3, 4, 5, 6, 7}
	cfgs := inMemory(1)
	disk := onDisk(t, 1)
	for _, cfg := range []raftnode.Config{cfgs[0], disk[0]} {
		cfg.LogShards = 3
		e := open(t, []raftnode.Config{cfg}, groups...)
		for _, g := range groups {
			e.propose(0, g, "x")
		}
	}
}

// The same on real disks and sockets, with the log database of production:
// three members replicate, one is restarted, then all are.
func TestDiskAndTCP(t *testing.T) {
	e := open(t, onDisk(t, 3, withLog(t)), 1, 2)
	e.propose(1, 2, "other group")
	for i := range 30 {
		e.propose(i%3, 1, "x")
	}
	if _, err := snapshot(t, e.hosts[0], 1); err != nil {
		t.Errorf("Snapshot = %v", err)
	}
	e.closeHost(2)
	e.propose(0, 1, "y")
	e.openHost(2)
	e.start(2, 1)
	e.start(2, 2)
	e.propose(2, 1, "z")
	e.read(2, 1)
	e.converge(1)

	want := map[replica.GroupID]point{1: e.machines[1][2].state(), 2: e.machines[2][0].state()}
	e.close()
	for i := range e.hosts {
		e.openHost(i)
		e.start(i, 1)
		e.start(i, 2)
	}
	for g, w := range want {
		for i := range e.hosts {
			e.read(i, g)
			if got := e.machines[g][i].state(); got != w {
				t.Errorf("member %d group %d has %+v after a restart of all, want %+v", i+1, g, got, w)
			}
		}
	}
}
