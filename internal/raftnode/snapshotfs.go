package raftnode

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/lni/dragonboat/v4/statemachine"
	"github.com/lni/vfs"

	"coord/internal/failpoint"
)

// A snapshotFS is the file system of the library, but for its log database. The
// library ends the process when the files of a snapshot that is saved here cannot
// be made, written, synced, renamed or removed. All that is harmless: the log is
// there without the snapshot, and what is left over is removed at the next start.
// So such a failure is shown to the library as the machine's wish to give up the
// snapshot, and a failed removal as a success.
//
// A snapshot that is being received is not this one's business: failures to write
// it end on goroutines of package peernet, which answers them.
type snapshotFS struct {
	vfs.FS
	log    *slog.Logger
	points *failpoint.Set

	mu    sync.Mutex
	fresh map[string]bool // guarded by mu; directories with names that the next sync must make durable
}

var (
	snapshotParts = regexp.MustCompile(`(^|[/\\])snapshot-part-[0-9]+[/\\]`)
	rootName      = regexp.MustCompile(`^snapshot-[0-9]+-[0-9]+$`) // the directory of a replica's snapshots
	restingName   = regexp.MustCompile(`^snapshot-[0-9A-F]+$`)
)

// guarded reports whether path is in the directory of a snapshot that is saved
// here or at rest.
func guarded(path string) bool {
	return snapshotParts.MatchString(path) && !isReceiving(path)
}

func isReceiving(path string) bool { return strings.Contains(path, ".receiving") }

// abort returns the error that costs the snapshot only.
func (fs *snapshotFS) abort(path string, err error) error {
	if err == nil || !guarded(path) || os.IsNotExist(err) || os.IsExist(err) {
		return err
	}
	fs.log.Warn("snapshot given up", slog.String("file", filepath.Base(path)), slog.Any("err", err))
	// Only one error is wrapped: the library's way to look for one knows no trees.
	return fmt.Errorf("%w: %v", statemachine.ErrSnapshotAborted, err) //nolint:errorlint // see above
}

// forgive turns the failure to remove something into a success.
func (fs *snapshotFS) forgive(path string, err error) error {
	if err == nil || !snapshotParts.MatchString(path) || os.IsNotExist(err) {
		return err
	}
	fs.log.Warn("file of a snapshot not removed", slog.String("file", filepath.Base(path)), slog.Any("err", err))
	return nil
}

func (fs *snapshotFS) wrap(path string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if !guarded(path) {
		return f, nil
	}
	return &snapshotFile{File: f, fs: fs, path: path}, nil
}

func (fs *snapshotFS) Create(path string) (vfs.File, error) {
	if isReceiving(path) {
		fs.points.Hit(failpoint.SnapshotReceive)
	}
	f, err := fs.FS.Create(path)
	return fs.wrap(path, f, fs.abort(path, err))
}

func (fs *snapshotFS) OpenDir(path string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(path)
	return fs.wrap(path, f, err)
}

func (fs *snapshotFS) MkdirAll(path string, perm os.FileMode) error {
	err := fs.FS.MkdirAll(path, perm)
	if err == nil {
		fs.expect(path)
	}
	return fs.abort(path, err)
}

// expect notes that path gets a name that is to be made durable.
func (fs *snapshotFS) expect(path string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.fresh == nil {
		fs.fresh = map[string]bool{}
	}
	fs.fresh[fs.PathDir(path)] = true
}

// expected reports whether a sync of the directory is to make a name durable, and
// not only a removal.
func (fs *snapshotFS) expected(dir string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fresh := fs.fresh[dir]
	delete(fs.fresh, dir)
	return fresh
}

func (fs *snapshotFS) Rename(oldpath, newpath string) error {
	if isReceiving(oldpath) {
		fs.points.Hit(failpoint.SnapshotArrived)
		return fs.FS.Rename(oldpath, newpath)
	}
	if !guarded(newpath) {
		return fs.FS.Rename(oldpath, newpath)
	}
	err := fs.points.Fail(failpoint.SnapshotRename)
	if err == nil {
		err = fs.FS.Rename(oldpath, newpath)
	}
	if err == nil {
		fs.expect(newpath)
	}
	if err == nil {
		err = fs.points.Fail(failpoint.SnapshotRenamed)
	}
	return fs.abort(newpath, err)
}

// Open is for reading: a snapshot that is sent, or restored.
func (fs *snapshotFS) Open(path string, opts ...vfs.OpenOption) (vfs.File, error) {
	if guarded(path) && filepath.Ext(path) == ".gbsnap" {
		fs.points.Hit(failpoint.SnapshotSend)
	}
	return fs.FS.Open(path, opts...)
}

// OpenForAppend is for what is received.
func (fs *snapshotFS) OpenForAppend(path string) (vfs.File, error) {
	if isReceiving(path) {
		fs.points.Hit(failpoint.SnapshotReceive)
	}
	return fs.FS.OpenForAppend(path)
}

func (fs *snapshotFS) Remove(path string) error { return fs.forgive(path, fs.FS.Remove(path)) }

func (fs *snapshotFS) RemoveAll(path string) error { return fs.forgive(path, fs.FS.RemoveAll(path)) }

func (fs *snapshotFS) Lock(path string) (io.Closer, error) { return fs.FS.Lock(path) }

// A snapshotFile is a file or directory of a snapshotFS.
type snapshotFile struct {
	vfs.File
	fs   *snapshotFS
	path string
}

func (f *snapshotFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.fs.abort(f.path, err)
}

func (f *snapshotFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.fs.abort(f.path, err)
}

// Sync of a directory after a removal alone need not succeed. In that of a snapshot
// at rest nothing else is done.
func (f *snapshotFile) Sync() error {
	expected := f.fs.expected(f.path)
	err := f.File.Sync()
	name := filepath.Base(f.path)
	if restingName.MatchString(name) || rootName.MatchString(name) && !expected {
		return f.fs.forgive(f.path, err)
	}
	return f.fs.abort(f.path, err)
}
