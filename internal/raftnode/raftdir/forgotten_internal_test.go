package raftdir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestForgottenGroup forgets a group and has its data removed, or not, and opens the
// directory again as a crash at each moment would leave it.
func TestForgottenGroup(t *testing.T) {
	for _, c := range []struct {
		name    string
		removed bool // the data, too
		stays   bool // the snapshots
	}{
		{"forgotten only", false, true},
		{"removed", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			m := mustLaunch(t, dir)
			must(t, m.write(0, 60))
			_, err := m.snapshot()
			must(t, errors.Join(err, m.dir.NoteApplied(group, 40)))
			must(t, m.nh.StopShard(uint64(group)))
			must(t, m.dir.Forget(group))
			if c.removed {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				must(t, m.nh.SyncRemoveData(ctx, uint64(group), uint64(self.Member)))
			}
			must(t, m.dir.NoteApplied(group, 50)) // by whoever is late
			l, err := readLayout(vfsDefault, m.dir.NodeHostDir())
			must(t, errors.Join(err, m.close()))
			d, err := Open(nil, dir, self)
			must(t, err)
			defer func() { must(t, d.Close()) }()
			if d.Initialised(group) || d.Applied(group) != 0 {
				t.Errorf("group %d is initialised: %v, applied %d", group, d.Initialised(group), d.Applied(group))
			}
			snapshots, err := filepath.Glob(filepath.Join(l.data, "snapshot-part-*", fmt.Sprintf("snapshot-%d-*", group)))
			if err != nil || (len(snapshots) > 0) != c.stays {
				t.Errorf("snapshots of the group: %q, %v; want some: %v", snapshots, err, c.stays)
			}
		})
	}
}

// What a crash leaves between the removal from the log and that of the snapshots goes
// with the next Open; what is no snapshot, or another's, stays.
func TestOrphanedSnapshots(t *testing.T) {
	dir := filled(t, true)
	l, err := readLayout(vfsDefault, filepath.Join(dir, raftName))
	must(t, err)
	place := func(name string) string {
		path := filepath.Join(l.data, "snapshot-part-3", name)
		must(t, os.MkdirAll(filepath.Join(path, "snapshot-0000000000000009"), 0o700))
		must(t, os.WriteFile(filepath.Join(path, "snapshot-0000000000000009", "some.gbsnap"), []byte("x"), 0o600))
		return path
	}
	orphan, other, foreign := place("snapshot-1234-1"), place("snapshot-1234-2"), place("snapshot-x-1")
	d, err := Open(nil, dir, self)
	must(t, err)
	must(t, d.Close())
	for path, stays := range map[string]bool{orphan: false, other: true, foreign: true} {
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%s: %v; is to stay: %v", path, err, stays)
		}
	}
	m := mustLaunch(t, dir)
	got, err := m.read()
	must(t, errors.Join(err, holds(got, 120)))
}
