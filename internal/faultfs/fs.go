package faultfs

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/lni/vfs"
)

// memoryJournal is where New keeps second names.
const memoryJournal = "/.faultfs"

// An FS is a file system with faults. It is made by [New] or [OnDisk].
//
// Lock order: mu and faultMu are leaves; no call waits under either.
type FS struct {
	base    vfs.FS
	dir     string // of the second names, in base
	onDisk  bool
	inOrder bool // see InOrder

	faultMu sync.Mutex
	faults  []*armed // guarded by faultMu

	mu      sync.Mutex
	ledger  *ledger       // guarded by mu
	journal *journal      // guarded by mu; nil in memory
	off     chan struct{} // guarded by mu; closed while the power is off
	life    uint64        // guarded by mu; how often the power came back
	died    uint64        // guarded by mu; the first change behind Die, or 0
	dead    chan struct{} // guarded by mu; closed since Die
	space   int64         // guarded by mu; bytes that may still be written, or noLimit
	fuse    int           // guarded by mu; calls until the power goes off, 0 for never
}

var _ vfs.FS = (*FS)(nil)

const noLimit = math.MaxInt64

// New returns a file system over base, which is in memory: notes of what is not
// durable are kept in memory too.
func New(base vfs.FS) *FS {
	fs := &FS{base: base, dir: memoryJournal, ledger: newLedger(), off: make(chan struct{}), dead: make(chan struct{}), space: noLimit}
	// In memory this fails only if there is a file of that name, and then the first
	// change does, too.
	_ = base.MkdirAll(fs.dir, 0o700)
	return fs
}

// InOrder has a power cut never keep a later write or sector of a file where an earlier
// one is lost. It is for what lies on fs and takes that for corruption. It must be called
// before fs is used.
func (fs *FS) InOrder() *FS {
	fs.inOrder = true
	return fs
}

// OnDisk returns a file system over the disk that keeps its notes in the directory
// journal, which it makes if need be. If the journal holds notes, of a process
// that was killed, they are taken over: what was not synced then is not durable
// yet. An error means that the journal cannot be used.
func OnDisk(journal string) (*FS, error) {
	fs := &FS{base: vfs.Default, dir: journal, onDisk: true, ledger: newLedger(), off: make(chan struct{}), dead: make(chan struct{}), space: noLimit}
	if err := os.MkdirAll(journal, 0o700); err != nil {
		return nil, fmt.Errorf("faultfs: %w", err)
	}
	j, err := openJournal(journal, fs.ledger)
	if err != nil {
		return nil, fmt.Errorf("faultfs: open %s: %w", journal, err)
	}
	fs.journal = j
	return fs, nil
}

// OnDisk reports whether the paths of fs are those of the operating system.
func (fs *FS) OnDisk() bool { return fs.onDisk }

// Close gives up the journal, which stays. Nobody may use fs any more.
func (fs *FS) Close() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.journal == nil {
		return nil
	}
	return fs.journal.close()
}

// PowerOff has every change fail with [ErrPowerOff] from now on, and ends calls
// that are slow or stuck. Reads go on. Whoever uses fs is to be ended then, and
// PowerOn to be called when it is.
func (fs *FS) PowerOff() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !isClosed(fs.off) {
		close(fs.off)
	}
}

// PowerOffAfter turns the power off at the n-th change from now, which is not made
// any more: 1 is the next. It returns a channel that is closed then.
func (fs *FS) PowerOffAfter(n int) (off <-chan struct{}) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.fuse = max(n, 1)
	return fs.off
}

// PowerOn loses what was not synced before PowerOff, in part and by the seed, as
// the package comment says, and lets changes be made again. Files that are still
// open cannot be used any more. Faults stay.
func (fs *FS) PowerOn(seed uint64) (Loss, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := fs.forgetAfterlife(); err != nil {
		return Loss{}, fmt.Errorf("faultfs: %w", err)
	}
	loss, err := fs.lose(seed)
	if err != nil {
		return loss, fmt.Errorf("faultfs: %w", err)
	}
	fs.life++
	fs.fuse = 0
	if isClosed(fs.off) {
		fs.off = make(chan struct{})
	}
	return loss, nil
}

// SetSpace has fs be full, with ENOSPC, when it has grown by so many bytes more
// than was removed. A negative number takes the limit away.
func (fs *FS) SetSpace(bytes int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.space = bytes
	if bytes < 0 {
		fs.space = noLimit
	}
}

// signals returns a channel that is closed while the power is off, which it may go with
// this call of the kind op, and one that is closed from Die on.
func (fs *FS) signals(op Op) (off, dead <-chan struct{}) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.fuse > 0 && op&Changes != 0 {
		if fs.fuse--; fs.fuse == 0 && !isClosed(fs.off) {
			close(fs.off)
		}
	}
	return fs.off, fs.dead
}

// graveName returns the name under which a file or a removed directory is kept.
func graveName(what string, id uint64) string { return fmt.Sprintf("%s-%d", what, id) }

func (fs *FS) grave(id uint64) string { return fs.base.PathJoin(fs.dir, graveName("file", id)) }

func (fs *FS) treeGrave(id uint64) string { return fs.base.PathJoin(fs.dir, treeGrave(id)) }

// change notes c and makes it. The caller holds fs.mu.
func (fs *FS) change(c *change, do func() error) error {
	if isClosed(fs.off) {
		return ErrPowerOff // it went off between enter and here
	}
	c.Seq = fs.ledger.seq + 1
	if err := fs.note(c); err != nil {
		return err
	}
	if err := do(); err != nil {
		return errors.Join(err, fs.note(&change{Kind: kindAbort, Seq: c.Seq}))
	}
	return nil
}

// note writes c down before it is made.
func (fs *FS) note(c *change) error {
	if fs.journal != nil {
		if err := fs.journal.append(c, fs.ledger); err != nil {
			return fmt.Errorf("faultfs: journal: %w", err)
		}
	}
	fs.ledger.add(c)
	return nil
}

// adopt returns the id of the file at path, which exists, giving it one if it has
// none.
func (fs *FS) adopt(path string) (uint64, error) {
	if id := fs.ledger.names[path]; id != 0 {
		return id, nil
	}
	id := fs.ledger.nextID
	fs.ledger.nextID++
	if err := fs.base.Link(path, fs.grave(id)); err != nil {
		return 0, err
	}
	return id, fs.note(&change{Kind: kindAdopt, Seq: fs.ledger.seq, ID: id, Path: path})
}

// stat returns what is at path, or nil.
func (fs *FS) stat(path string) (os.FileInfo, error) {
	st, err := fs.base.Stat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	return st, err
}

// displaced returns the file at path, which is about to be replaced, or 0.
func (fs *FS) displaced(path string) (uint64, error) {
	st, err := fs.stat(path)
	if err != nil || st == nil || st.IsDir() {
		return 0, err
	}
	fs.give(st.Size())
	return fs.adopt(path)
}

// take takes n bytes of the space there is, and returns how many there were.
func (fs *FS) take(n int64) int64 {
	if fs.space == noLimit || n <= 0 {
		return n
	}
	n = min(n, max(fs.space, 0))
	fs.space -= n
	return n
}

// give gives n bytes back.
func (fs *FS) give(n int64) {
	if fs.space != noLimit {
		fs.space += n
	}
}

// Create implements vfs.FS.
func (fs *FS) Create(path string) (vfs.File, error) {
	path = filepath.Clean(path)
	if _, err := fs.enter(Create, path); err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.space <= 0 {
		return nil, &os.PathError{Op: "create", Path: path, Err: syscall.ENOSPC}
	}
	over, err := fs.displaced(path)
	if err != nil {
		return nil, err
	}
	c := &change{Kind: kindCreate, ID: fs.ledger.nextID, Path: path, Over: over}
	var f vfs.File
	err = fs.change(c, func() error {
		// The file that was there keeps its contents under its second name.
		if over != 0 {
			if err := fs.base.Rename(path, fs.base.PathJoin(fs.dir, "displaced")); err != nil {
				return err
			}
		}
		if f, err = fs.base.Create(path); err != nil {
			return err
		}
		return fs.base.Link(path, fs.grave(c.ID))
	})
	if err != nil {
		return nil, err
	}
	return fs.newFile(f, path, c.ID, false), nil
}

// newFile is called with fs.mu held.
func (fs *FS) newFile(f vfs.File, path string, id uint64, dir bool) *file {
	return &file{File: f, fs: fs, path: path, id: id, dir: dir, life: fs.life}
}

// Link implements vfs.FS.
func (fs *FS) Link(oldname, newname string) error {
	oldname, newname = filepath.Clean(oldname), filepath.Clean(newname)
	if _, err := fs.enter(Link, newname); err != nil {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: err}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if st, err := fs.stat(oldname); err != nil || st == nil {
		return fs.base.Link(oldname, newname) // it says why not
	}
	id, err := fs.adopt(oldname)
	if err != nil {
		return err
	}
	return fs.change(&change{Kind: kindLink, ID: id, Path: newname}, func() error { return fs.base.Link(oldname, newname) })
}

// Open implements vfs.FS.
func (fs *FS) Open(path string, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.open(Open, path, func(path string) (vfs.File, error) { return fs.base.Open(path, opts...) })
}

// OpenDir implements vfs.FS.
func (fs *FS) OpenDir(path string) (vfs.File, error) { return fs.open(Open, path, fs.base.OpenDir) }

// open opens a file that will not be written, or a directory.
func (fs *FS) open(op Op, path string, open func(string) (vfs.File, error)) (vfs.File, error) {
	path = filepath.Clean(path)
	if _, err := fs.enter(op, path); err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return fs.newFile(f, path, fs.ledger.names[path], st.IsDir()), nil
}

// OpenForAppend implements vfs.FS.
func (fs *FS) OpenForAppend(path string) (vfs.File, error) {
	path = filepath.Clean(path)
	if _, err := fs.enter(Write, path); err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f, err := fs.base.OpenForAppend(path)
	if err != nil {
		return nil, err
	}
	id, err := fs.adopt(path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	opened := fs.newFile(f, path, id, false)
	opened.pos = st.Size()
	return opened, nil
}

// Remove implements vfs.FS.
func (fs *FS) Remove(path string) error { return fs.remove(path, false) }

// RemoveAll implements vfs.FS.
func (fs *FS) RemoveAll(path string) error { return fs.remove(path, true) }

func (fs *FS) remove(path string, tree bool) error {
	path = filepath.Clean(path)
	if _, err := fs.enter(Remove, path); err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	st, err := fs.stat(path)
	switch {
	case err != nil:
		return err
	case st == nil && tree:
		return nil
	case st == nil:
		return fs.base.Remove(path) // it says why not
	case st.IsDir():
		return fs.removeDir(path, tree)
	}
	id, err := fs.adopt(path)
	if err != nil {
		return err
	}
	if err := fs.change(&change{Kind: kindRemove, ID: id, Path: path}, func() error { return fs.base.Remove(path) }); err != nil {
		return err
	}
	fs.give(st.Size())
	return nil
}

// removeDir puts a directory away.
func (fs *FS) removeDir(path string, tree bool) error {
	names, err := fs.base.List(path)
	if err != nil {
		return err
	}
	if len(names) > 0 && !tree {
		return &os.PathError{Op: "remove", Path: path, Err: syscall.ENOTEMPTY}
	}
	fs.give(fs.treeSize(path))
	c := &change{Kind: kindRemoveTree, ID: fs.ledger.nextID, Path: path}
	return fs.change(c, func() error { return fs.base.Rename(path, fs.treeGrave(c.ID)) })
}

// treeSize returns what the files below dir take, as far as that can be found out.
func (fs *FS) treeSize(dir string) (size int64) {
	names, _ := fs.base.List(dir)
	for _, name := range names {
		path := fs.base.PathJoin(dir, name)
		if st, err := fs.base.Stat(path); err == nil && st.IsDir() {
			size += fs.treeSize(path)
		} else if err == nil {
			size += st.Size()
		}
	}
	return size
}

// Rename implements vfs.FS.
func (fs *FS) Rename(oldname, newname string) error {
	oldname, newname = filepath.Clean(oldname), filepath.Clean(newname)
	if _, err := fs.enter(Rename, newname); err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	_, err := fs.rename(oldname, newname)
	return err
}

// rename returns the id of the file, if it is one.
func (fs *FS) rename(oldname, newname string) (uint64, error) {
	st, err := fs.stat(oldname)
	if err != nil || st == nil || oldname == newname {
		return 0, errors.Join(err, fs.base.Rename(oldname, newname))
	}
	c := &change{Kind: kindRename, From: oldname, Path: newname, Dir: st.IsDir()}
	if !c.Dir {
		if c.ID, err = fs.adopt(oldname); err != nil {
			return 0, err
		}
		if c.Over, err = fs.displaced(newname); err != nil {
			return 0, err
		}
	}
	return c.ID, fs.change(c, func() error { return fs.base.Rename(oldname, newname) })
}

// ReuseForWrite implements vfs.FS.
func (fs *FS) ReuseForWrite(oldname, newname string) (vfs.File, error) {
	oldname, newname = filepath.Clean(oldname), filepath.Clean(newname)
	if _, err := fs.enter(Rename, newname); err != nil {
		return nil, &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	id, err := fs.rename(oldname, newname)
	if err != nil {
		return nil, err
	}
	f, err := fs.base.ReuseForWrite(newname, newname)
	if err != nil {
		return nil, err
	}
	return fs.newFile(f, newname, id, false), nil
}

// MkdirAll implements vfs.FS.
func (fs *FS) MkdirAll(dir string, perm os.FileMode) error {
	dir = filepath.Clean(dir)
	if _, err := fs.enter(Mkdir, dir); err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var missing []string
	for at := dir; at != parentOf(at); at = parentOf(at) { // the root is there
		st, err := fs.stat(at)
		if err != nil {
			return err
		}
		if st != nil {
			break
		}
		missing = append([]string{at}, missing...)
	}
	if len(missing) == 0 {
		return fs.base.MkdirAll(dir, perm)
	}
	for _, at := range missing {
		if err := fs.change(&change{Kind: kindMkdir, Path: at}, func() error { return fs.base.MkdirAll(at, perm) }); err != nil {
			return err
		}
	}
	return nil
}

// Lock implements vfs.FS. A lock file is not something to be durable.
func (fs *FS) Lock(path string) (io.Closer, error) {
	if _, err := fs.enter(Create, path); err != nil {
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return fs.base.Lock(path)
}

// List implements vfs.FS.
func (fs *FS) List(dir string) ([]string, error) {
	if _, err := fs.enter(List, dir); err != nil {
		return nil, &os.PathError{Op: "list", Path: dir, Err: err}
	}
	return fs.base.List(dir)
}

// Stat implements vfs.FS.
func (fs *FS) Stat(path string) (os.FileInfo, error) {
	if _, err := fs.enter(Stat, path); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fs.base.Stat(path)
}

// PathBase implements vfs.FS.
func (fs *FS) PathBase(path string) string { return fs.base.PathBase(path) }

// PathJoin implements vfs.FS.
func (fs *FS) PathJoin(elem ...string) string { return fs.base.PathJoin(elem...) }

// PathDir implements vfs.FS.
func (fs *FS) PathDir(path string) string { return fs.base.PathDir(path) }

// GetDiskUsage implements vfs.FS. With SetSpace it tells what is left of that.
func (fs *FS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	fs.mu.Lock()
	space := fs.space
	fs.mu.Unlock()
	if space == noLimit {
		return fs.base.GetDiskUsage(path)
	}
	left := uint64(max(space, 0))
	return vfs.DiskUsage{AvailBytes: left, TotalBytes: left}, nil
}
