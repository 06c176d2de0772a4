package raftdir

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble"
	"github.com/lni/vfs"

	"coord/internal/replica"
)

// discardTornFlagFiles removes flag files that a crash during the first start
// tore: the library writes them in place and would refuse them for ever. Once
// it has made a log database the files are whole, and damage to them is damage.
func (d *Dir) discardTornFlagFiles() error {
	root := d.NodeHostDir()
	names, err := d.fs.List(root)
	if err != nil {
		return fmt.Errorf("list data directory: %w", err)
	}
	started := len(d.m.Initialised) > 0
	if OnDisk(d.fs) {
		for _, name := range names {
			found, err := filepath.Glob(filepath.Join(escapeGlob(filepath.Join(root, name)), "*", "logdb-*", "*.sst"))
			if err != nil {
				return fmt.Errorf("list data directory: %w", err)
			}
			started = started || len(found) > 0
		}
	}
	for _, name := range []string{statusFile, hostIDFile} {
		path := d.fs.PathJoin(root, name)
		_, _, err := readFlagFile(d.fs, path)
		if err == nil {
			continue
		}
		if started || !errors.Is(err, ErrCorrupt) {
			return err
		}
		if err := d.fs.Remove(path); err != nil {
			return fmt.Errorf("remove torn flag file: %w", err)
		}
	}
	return nil
}

// escapeGlob makes path match itself only.
func escapeGlob(path string) string {
	if os.PathSeparator == '\\' {
		return path // Windows has no escapes, and its names no asterisks
	}
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(path)
}

// Verify checks what [Open] has checked once more. The raft library must have
// closed the directory.
//
// On the disk it reads, sequentially and with one core, the live write-ahead
// logs twice and all live tables and snapshots once; it holds the contents of
// the write-ahead logs in memory meanwhile. That costs 0.3 to 0.5 seconds per
// GiB that the system has cached, otherwise as long as the disk takes to read.
// A member holds one snapshot per group, the log since then and a few
// write-ahead logs of the size of a memtable.
//
// In other file systems it only checks that there are raft data if a group
// was initialised.
func (d *Dir) Verify() error {
	l, err := readLayout(d.fs, d.NodeHostDir())
	if err != nil {
		return err
	}
	if err := d.checkPresence(l); err != nil {
		return err
	}
	if !OnDisk(d.fs) || l.data == "" {
		return nil
	}
	_, err = d.verify(l, l.host)
	return err
}

// checkPresence refuses a directory that lost everything: the library would
// start it with an empty log, and raft lose a vote it had counted.
func (d *Dir) checkPresence(l layout) error {
	m := d.view()
	if len(m.Initialised) == 0 || l.data != "" {
		return nil
	}
	return rolledBack(l.root, "there are no raft data, but member %d took part in %d groups: "+
		"a volume is not mounted or files were deleted", m.Member, len(m.Initialised))
}

// The contents of a directory are what its logs say.
type contents struct {
	own map[replica.GroupID]*replicaLog // of this member

	// moved are the replicas whose snapshot records name another place than the one
	// their files are in now or will be in once the host folder has this host's name.
	moved []*replicaLog
}

// verify checks everything below the NodeHostDir that the library would
// panic about, or not notice.
func (d *Dir) verify(l layout, hostname string) (contents, error) {
	m := d.view()
	dbs, err := scanDatabases(d.fs, l, m)
	if err != nil {
		return contents{}, err
	}
	if err := m.Seal.check(l, dbs); err != nil {
		return contents{}, err
	}
	c := contents{own: make(map[replica.GroupID]*replicaLog)}
	for _, name := range l.databases {
		db := dbs[name]
		if db == nil {
			continue
		}
		logs, err := db.verifyContents()
		if err != nil {
			return contents{}, err
		}
		for _, r := range logs {
			if err := d.verifySnapshotOf(l, r); err != nil {
				return contents{}, err
			}
			if r.snapshot.Filepath != "" && r.snapshot.Filepath != l.snapshotPath(hostname, r.snapshot.Filepath) {
				c.moved = append(c.moved, r)
			}
			if r.member == uint64(m.Member) {
				c.own[replica.GroupID(r.group)] = r
			}
		}
	}
	if err := verifySnapshotFlags(d.fs, l); err != nil {
		return contents{}, err
	}
	return c, d.verifyGroups(l, c.own)
}

// scanDatabases reads the logs of all databases.
func scanDatabases(fs vfs.FS, l layout, m manifest) (map[string]*logDB, error) {
	dbs := make(map[string]*logDB)
	for _, name := range l.databases {
		db, err := scanLogDB(fs, filepath.Join(l.data, name))
		if err != nil {
			return nil, err
		}
		if db != nil {
			dbs[name] = db
		}
	}
	if len(m.Initialised) == 0 {
		return dbs, nil
	}
	for i := range m.LogShards {
		name := fmt.Sprintf("logdb-%d", i)
		if dbs[name] == nil {
			return nil, rolledBack(l.root, "the log database %s is missing or empty, but this member took part in %d groups: "+
				"a volume is not mounted or files were deleted", name, len(m.Initialised))
		}
	}
	return dbs, nil
}

// verifyContents opens the database read-only and checks tables and logs.
func (db *logDB) verifyContents() ([]*replicaLog, error) {
	o := db.options()
	o.ReadOnly = true
	var all []*replicaLog
	err := db.use(o, func(p *pebble.DB) error {
		if err := db.verifyTables(p); err != nil {
			return err
		}
		logs, err := db.readReplicas(p)
		if err != nil {
			return err
		}
		for _, r := range logs {
			if err := r.checkEntries(p); err != nil {
				return err
			}
			all = append(all, r)
		}
		return nil
	})
	return all, err
}

// verifySnapshotOf checks the snapshot that the log of r begins with. Files
// that no log refers to are deleted by the library unread, so they are not
// checked: a crash may leave any.
func (d *Dir) verifySnapshotOf(l layout, r *replicaLog) error {
	ss := r.snapshot
	if ss.Index == 0 || ss.Dummy || ss.Witness || ss.Filepath == "" {
		return nil
	}
	path := l.snapshotPath(l.host, ss.Filepath)
	ok, err := exists(d.fs, path)
	if err != nil {
		return fmt.Errorf("find snapshot: %w", err)
	}
	if !ok {
		return corrupt(path, -1, "the snapshot that the log of group %d begins with is missing", r.group)
	}
	sum, err := verifySnapshot(d.fs, path)
	if err != nil {
		return err
	}
	if len(ss.Checksum) > 0 && !bytes.Equal(sum, ss.Checksum) {
		return corrupt(path, -1, "the snapshot has checksum %x, the log of group %d knows it by %x: it was replaced", sum, r.group, ss.Checksum)
	}
	return nil
}

// verifySnapshotFlags checks the flag files of snapshots that a crash kept
// from being recorded. The library reads them when a group starts.
func verifySnapshotFlags(fs vfs.FS, l layout) error {
	parts, err := filepath.Glob(filepath.Join(escapeGlob(l.data), "snapshot-part-*", "snapshot-*-*", "snapshot-*", snapshotFlagFile))
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	for _, path := range parts {
		if !snapshotName.MatchString(filepath.Base(filepath.Dir(path))) {
			continue // left by a crash, deleted unread
		}
		if _, _, err := readFlagFile(fs, path); err != nil {
			return err
		}
	}
	return nil
}

// verifyGroups compares the logs with what the manifest says this member did.
func (d *Dir) verifyGroups(l layout, own map[replica.GroupID]*replicaLog) error {
	m := d.view()
	for g := range m.Initialised {
		if r := own[g]; r == nil || !r.bootstrapped {
			return rolledBack(l.root, "member %d took part in group %d, but its log knows nothing of it: "+
				"log files were lost or replaced by older ones", m.Member, g)
		}
	}
	for g := range m.Applied {
		var last uint64
		if r := own[g]; r != nil {
			last = r.last()
		}
		if err := d.CheckLog(g, last); err != nil {
			return err
		}
	}
	return nil
}
