package raftnode_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"coord/internal/raftnode"
	"coord/internal/raftnode/raftdir"
	"coord/internal/replica"
)

// withDirectory has a newcomer live in a directory that package raftdir answers for,
// as members do in production. The directory is closed, and sealed, by the function
// returned, and opened again by each call of the option.
func withDirectory(tb testing.TB, path string) (opened option, seal func()) {
	tb.Helper()
	var d *raftdir.Dir
	opened = func(_ int, c *raftnode.Config) {
		var err error
		if d, err = raftdir.Open(nil, path, raftdir.Identity{Ensemble: "test", LogShards: 1}); err != nil {
			tb.Fatalf("open directory of member %d: %v", c.Member, err)
		}
		if err := d.Become(c.Member); err != nil {
			tb.Fatal(err)
		}
		c.Dir, c.Directory = d.NodeHostDir(), d.ID()
		c.Initialised, c.MarkInitialised, c.Forget = d.Initialised, d.MarkInitialised, d.Forget
		c.Removed, c.MarkRemoved = d.Removed, d.MarkRemoved
	}
	return opened, func() {
		if err := d.Seal(); err != nil {
			tb.Error(err)
		}
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	}
}

// The directory of a member that joined is as good as any: before its log has anything,
// while it learns, when it votes, behind a snapshot, and when it was removed.
func TestDirectoryOfOneThatJoined(t *testing.T) {
	few := func(_ int, c *raftnode.Config) { c.SnapshotEntries, c.CompactionOverhead = 20, 2 }
	e := open(t, onDisk(t, 1, few, patient), 1)
	for k := range 50 {
		e.propose(0, 1, fmt.Sprint(k))
	}
	opened, seal := withDirectory(t, filepath.Join(t.TempDir(), "dir"))
	i := e.newcomer(few, patient, opened)
	again := func() {
		t.Helper()
		e.closeHost(i)
		seal()
		opened(i, &e.cfgs[i])
		e.openHost(i)
		e.introduce()
	}
	restart := func() {
		t.Helper()
		again()
		e.start(i, 1)
	}
	restart()
	e.change(2, replica.Learning)
	e.read(i, 1)
	restart()
	e.read(i, 1)
	e.change(2, replica.Voting)
	restart()
	for k := range 50 {
		e.propose(i, 1, fmt.Sprint(k))
	}
	restart()
	e.read(i, 1)
	e.converge(1)

	e.resign(i)
	e.eventually("the removal to be written down", func() bool { return e.cfgs[i].Removed(1) })
	again()
	err := e.hosts[i].StartGroup(1, new(counter), replica.Join)
	wantErr(t, "StartGroup of a removed member", err, replica.ErrRemoved)
	e.closeHost(i)
	seal()
}
