package raftdir

import (
	"fmt"
	"os"
)

// hostname is the name the raft library will see. Tests replace it.
var hostname = os.Hostname

// adopt makes a directory of a host with another name, or at another place,
// one that the raft library opens here.
//
// The library names a folder after the host, pins the name in dragonboat.ds
// and refuses another, which a container gets whenever it is replaced. Worse,
// it compares the pinned name without regard to case and the folder name with,
// so that a change of case alone opens an empty log in a new folder. And its
// log records each snapshot by its absolute path. When it starts it looks in
// the right place all the same, but when it sends a snapshot to a member that
// fell behind it opens the recorded path and panics if nothing is there.
//
// Leaving a link under the old name would mend the first and would do nothing
// for a directory that was moved; taking a snapshot to have a fresh record is
// refused if nothing was applied since the last. So the records themselves
// are put right, with the database closed to everybody else:
//
//  1. the folder gets the new name,
//  2. the records of the snapshots in it get their present path,
//  3. dragonboat.ds gets the new name.
//
// Each step looks at what there is, not at what an earlier step did, so a
// crash between any two is made good by the next Open. The library was given
// none of it meanwhile: we hold the lock.
func (d *Dir) adopt(l layout, name string, moved []*replicaLog) error {
	if err := d.renameHost(l, name); err != nil {
		return err
	}
	if err := d.rewriteRecords(l, name, moved); err != nil {
		return err
	}
	return d.repin(l, name)
}

// renameHost gives the host folder of l its new name.
func (d *Dir) renameHost(l layout, name string) error {
	if l.host == "" || l.host == name {
		return nil
	}
	err := d.fs.Rename(d.fs.PathJoin(l.root, l.host), d.fs.PathJoin(l.root, name))
	if err == nil {
		err = syncDir(d.fs, l.root)
	}
	if err != nil {
		return fmt.Errorf("rename host folder: %w", err)
	}
	return nil
}

// rewriteRecords puts the snapshot records of moved right.
func (d *Dir) rewriteRecords(l layout, name string, moved []*replicaLog) error {
	byDB := make(map[*logDB][]*replicaLog)
	for _, r := range moved {
		byDB[r.db] = append(byDB[r.db], r)
	}
	for db, logs := range byDB {
		renamed := logDB{fs: d.fs, path: d.fs.PathJoin(l.root, name, d.fs.PathBase(l.data), d.fs.PathBase(db.path))}
		if err := renamed.rewriteSnapshotPaths(logs, func(old string) string { return l.snapshotPath(name, old) }); err != nil {
			return err
		}
	}
	return nil
}

// repin makes name the one that the library expects.
func (d *Dir) repin(l layout, name string) error {
	if !l.pinned || l.hostname == name {
		return nil
	}
	s, _, err := readStatus(d.fs, l.root)
	if err != nil {
		return err
	}
	s.Hostname = name
	return writeStatus(d.fs, l.root, s)
}
