package raftnode

import (
	_ "unsafe" // for go:linkname

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/plugin/tan"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/dragonboat/v4/statemachine"
	"github.com/lni/vfs"

	"coord/internal/failpoint"
	"coord/internal/raftnode/raftdir"
	"coord/internal/replica"
)

// A logFactory makes the log database and puts a fuse before it: pebble where the
// directory is on the disk, also below a file system of a test that reports to be
// one, and otherwise tan, which takes any file system.
type logFactory struct {
	fs     vfs.FS // of Config; nil is the disk
	fuse   *fuse
	points *failpoint.Set

	// made is what Create returned. The library says only whether it has a record of
	// how a replica began, and not what that says.
	made *fusedLog
}

var _ config.LogDBFactory = (*logFactory)(nil)

// defaultLogName is what the library writes into a directory whose log database is
// its own.
const defaultLogName = "sharded-pebble"

// newDefaultLogDB makes the library's own log database. The library gives it to
// nobody: who names no factory gets it, but then nothing can be put before it.
//
//go:linkname newDefaultLogDB github.com/lni/dragonboat/v4/internal/logdb.NewDefaultLogDB
func newDefaultLogDB(nhc config.NodeHostConfig, busy config.LogDBCallback, dirs, walDirs []string) (raftio.ILogDB, error)

// Name returns the name that the library writes into the directory.
func (f *logFactory) Name() string {
	if raftdir.OnDisk(f.fs) {
		return defaultLogName
	}
	return tan.Factory.Name()
}

// newPebble makes the library's own log database, such that it syncs no more than it has
// to. Tan knows that by itself.
func newPebble(nhc config.NodeHostConfig, busy config.LogDBCallback, dirs, walDirs []string) (raftio.ILogDB, error) {
	db, err := newDefaultLogDB(nhc, busy, dirs, walDirs)
	if err != nil {
		return nil, err
	}
	return newCommitLog(db), nil
}

// noFaults is what a *vfs.ErrorFS is asked for: the library's log database takes
// the disk, and this type, for its file system.
type noFaults struct{}

func (noFaults) MaybeError(vfs.Op) error { return nil }

// Create opens the log database.
func (f *logFactory) Create(nhc config.NodeHostConfig, busy config.LogDBCallback, dirs, walDirs []string) (raftio.ILogDB, error) {
	var db raftio.ILogDB
	var err error
	switch {
	case f.fs == nil || f.fs == vfs.Default:
		nhc.Expert.FS = vfs.Default
		db, err = newPebble(nhc, busy, dirs, walDirs)
	case raftdir.OnDisk(f.fs):
		nhc.Expert.FS = vfs.Wrap(f.fs, noFaults{})
		db, err = newPebble(nhc, busy, dirs, walDirs)
	default:
		// Tan syncs on goroutines of its own, so the fuse must be below it, too.
		nhc.Expert.FS = &fusedFS{FS: f.fs, fuse: f.fuse}
		db, err = tan.Factory.Create(nhc, busy, dirs, walDirs)
	}
	if err != nil {
		return nil, err
	}
	f.made = &fusedLog{ILogDB: db, fuse: f.fuse, points: f.points}
	return f.made, nil
}

// A fusedLog is a log database whose failures blow the fuse instead of ending the
// process.
type fusedLog struct {
	raftio.ILogDB
	fuse   *fuse
	points *failpoint.Set
}

// SaveRaftState is called by the workers that tell other members what is durable.
func (l *fusedLog) SaveRaftState(updates []pb.Update, worker uint64) error {
	l.fuse.steps.Add(1)
	defer l.fuse.steps.Add(-1)
	return l.step(failpoint.LogAppend, failpoint.LogAppended, func() error { return l.ILogDB.SaveRaftState(updates, worker) })
}

// step makes a call that writes to the log, between two points.
func (l *fusedLog) step(before, after failpoint.Point, call func() error) error {
	return l.fuse.guard(func() error {
		err := l.points.Fail(before)
		if err == nil {
			err = call()
		}
		if err == nil {
			err = l.points.Fail(after)
		}
		return err
	})
}

// SaveSnapshots records a snapshot that was saved here. What comes next takes it for
// granted that the log knows it, so here no lie will do.
func (l *fusedLog) SaveSnapshots(updates []pb.Update) error {
	err := l.step(failpoint.SnapshotRecord, failpoint.SnapshotOnFile, func() error { return l.ILogDB.SaveSnapshots(updates) })
	if l.fuse.blown.Load() {
		return statemachine.ErrSnapshotAborted
	}
	return err
}

// RemoveEntriesTo forgets what a snapshot covers.
func (l *fusedLog) RemoveEntriesTo(group, member, index uint64) error {
	return l.step(failpoint.LogTruncate, failpoint.LogTruncated, func() error { return l.ILogDB.RemoveEntriesTo(group, member, index) })
}

// RemoveNodeData is called by the library, when [Host.RemoveGroup] has removed the data.
func (l *fusedLog) RemoveNodeData(_, _ uint64) error { return nil }

// remove removes what the log has of a replica that does not run.
func (l *fusedLog) remove(g replica.GroupID, member replica.MemberID) error {
	return l.fuse.guard(func() error { return l.ILogDB.RemoveNodeData(uint64(g), uint64(member)) })
}

// Close closes the log database. One that has failed may not come to an end, or
// panic; what it holds is given up then.
func (l *fusedLog) Close() error { return l.fuse.guardClose(l.ILogDB.Close) }
