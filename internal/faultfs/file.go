package faultfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/lni/vfs"
)

// A file is an open file or directory. As with those of the operating system,
// whoever shares one must keep order among its reads and writes.
type file struct {
	vfs.File // of the file system below; its descriptor is not to be seen

	fs   *FS
	path string // under which it was opened
	id   uint64 // 0 if nobody has changed it
	dir  bool
	life uint64 // of fs, when it was opened
	pos  int64  // where the next Write goes
}

// dead reports whether the power was off since f was opened. fs.mu is held.
func (f *file) dead() bool { return f.life != f.fs.life }

// read makes one call that reads.
func (f *file) read(do func() (int, error), p []byte) (int, error) {
	v, err := f.fs.enter(Read, f.path)
	if err != nil {
		return 0, &os.PathError{Op: "read", Path: f.path, Err: err}
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.dead() {
		return 0, &os.PathError{Op: "read", Path: f.path, Err: ErrPowerOff}
	}
	n, err := do()
	flipBit(v.flip, p[:n])
	return n, err
}

// Read implements vfs.File.
func (f *file) Read(p []byte) (int, error) {
	return f.read(func() (int, error) {
		n, err := f.File.Read(p)
		f.pos += int64(n)
		return n, err
	}, p)
}

// ReadAt implements vfs.File.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	return f.read(func() (int, error) {
		n, err := f.File.ReadAt(p, off)
		if err == nil && n < len(p) {
			err = io.EOF // the file system in memory forgets to say it
		}
		return n, err
	}, p)
}

// Seek implements vfs.File.
func (f *file) Seek(offset int64, whence int) (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, err := f.File.Seek(offset, whence)
	if err == nil && whence == io.SeekStart {
		f.pos = n
	}
	return n, err
}

// Write implements vfs.File.
func (f *file) Write(p []byte) (int, error) {
	if _, err := f.fs.enter(Write, f.path); err != nil {
		return 0, &os.PathError{Op: "write", Path: f.path, Err: err}
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, err := f.write(p, f.pos, f.File.Write)
	f.pos += int64(n)
	return n, err
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if _, err := f.fs.enter(Write, f.path); err != nil {
		return 0, &os.PathError{Op: "write", Path: f.path, Err: err}
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.write(p, off, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

// write notes what is at off and writes p there with do.
func (f *file) write(p []byte, off int64, do func([]byte) (int, error)) (int, error) {
	if f.dead() {
		return 0, &os.PathError{Op: "write", Path: f.path, Err: ErrPowerOff}
	}
	if f.id == 0 || len(p) == 0 {
		return do(p) // it was not opened for writing: the file system below says so
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := st.Size()
	var full error
	if grows := max(off+int64(len(p))-size, 0); grows > 0 {
		if got := f.fs.take(grows); got < grows {
			p = p[:int64(len(p))-(grows-got)]
			full = &os.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
		}
	}
	if len(p) == 0 {
		return 0, full
	}
	old, err := f.fs.before(f.id, off, min(int64(len(p)), max(size-off, 0)))
	if err != nil {
		return 0, err
	}
	c := &change{Kind: kindWrite, ID: f.id, Off: off, Len: int64(len(p)), Old: old, OldSize: size}
	n := 0
	var failed error // then some of it may have been written, so the change stays
	err = f.fs.change(c, func() error {
		n, failed = do(p)
		return nil
	})
	if err = errors.Join(err, failed); err != nil {
		return n, err
	}
	return n, full
}

// before returns n bytes of a file at off, which will be overwritten.
func (fs *FS) before(id uint64, off, n int64) ([]byte, error) {
	if n <= 0 {
		return nil, nil
	}
	f, err := fs.base.Open(fs.grave(id))
	if err != nil {
		return nil, err
	}
	old := make([]byte, n)
	_, err = f.ReadAt(old, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("faultfs: read what is overwritten: %w", err)
	}
	return old, nil
}

// Sync implements vfs.File. What was written before the call is durable when it
// returns nil.
func (f *file) Sync() error {
	op := Sync
	if f.dir {
		op = SyncDir
	}
	f.fs.mu.Lock()
	upto := f.fs.ledger.seq + 1
	f.fs.mu.Unlock()
	v, err := f.fs.enter(op, f.path)
	if err != nil {
		return &os.PathError{Op: "sync", Path: f.path, Err: err}
	}
	if v.lie {
		return nil
	}
	if err := f.File.Sync(); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.dead() || isClosed(f.fs.off) {
		return &os.PathError{Op: "sync", Path: f.path, Err: ErrPowerOff}
	}
	switch {
	case f.fs.died != 0:
		return nil
	case f.dir:
		return f.fs.durable(&change{Kind: kindSyncDir, Path: f.path, Upto: upto})
	case f.id != 0:
		return f.fs.durable(&change{Kind: kindSync, ID: f.id, Upto: upto})
	}
	return nil
}

// durable notes that changes cannot be lost any more, and forgets what would have
// undone them.
func (fs *FS) durable(c *change) error {
	c.Seq = fs.ledger.seq
	if err := fs.note(c); err != nil {
		return err
	}
	fs.bury()
	return nil
}

// bury removes second names that nobody needs. One that stays does no harm.
func (fs *FS) bury() {
	for _, id := range fs.ledger.done {
		_ = fs.base.RemoveAll(fs.grave(id))
	}
	for _, id := range fs.ledger.trees {
		_ = fs.base.RemoveAll(fs.treeGrave(id))
	}
	fs.ledger.done, fs.ledger.trees = nil, nil
}

// Close implements vfs.File.
func (f *file) Close() error { return f.File.Close() }
