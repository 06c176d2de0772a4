package raftnode_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
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

// What a snapshot covers is given back by pebble itself: nobody asks for a compaction.
func TestLogGivesSpaceBack(t *testing.T) {
	const entries, entryBytes = 20_000, 4 << 10
	cfgs := onDisk(t, 1, func(_ int, c *raftnode.Config) {
		c.SnapshotEntries, c.CompactionOverhead, c.MemtableBytes = 500, 100, 1<<20
	})
	e := open(t, cfgs, 1)
	e.leader(1)
	const writers = 64
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			entry := make([]byte, entryBytes)
			_, _ = rand.Read(entry) // which nobody can compress
			for range entries / writers {
				if err := proposePatiently(t, e.hosts[0], entry); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	const written = entries * entryBytes
	eventually(t, "the log to shrink", func() bool { return diskUse(t, cfgs[0].Dir) < written/3 })
}

// proposePatiently tries again while the host says that its queue is full.
func proposePatiently(t *testing.T, h *raftnode.Host, entry []byte) error {
	t.Helper()
	var err error
	eventually(t, "a place in the queue", func() bool {
		err = h.Propose(t.Context(), 1, entry)
		return !errors.Is(err, replica.ErrBusy)
	})
	return err
}

// diskUse returns the size of all files below a directory. What vanishes meanwhile does
// not count.
func diskUse(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return size
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
