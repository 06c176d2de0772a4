package raftnode

import (
	"errors"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"

	"github.com/lni/vfs"
)

// A fusedFS is a file system below a log database that writes on goroutines of its
// own: a change that fails blows the fuse. Nothing waits here, where the log database
// has its mutex, which others need, also to end; who called it waits in fuse.guard.
type fusedFS struct {
	vfs.FS
	fuse *fuse
}

// change makes one call that changes something. That something is there, or is
// not, is no failure. Nothing changes any more once the fuse has blown.
func (fs *fusedFS) change(call func() error) error {
	if fs.fuse.blown.Load() {
		return errLogFailed
	}
	err := call()
	if err == nil || errors.Is(err, iofs.ErrNotExist) || errors.Is(err, iofs.ErrExist) || fs.fuse.passes() {
		return err
	}
	fs.fuse.blow(err)
	return err
}

// open makes one call that opens a file to write it.
func (fs *fusedFS) open(call func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := fs.change(func() (err error) {
		f, err = call()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &fusedFile{File: f, fs: fs}, nil
}

func (fs *fusedFS) Create(name string) (vfs.File, error) {
	return fs.open(func() (vfs.File, error) { return fs.FS.Create(name) })
}

func (fs *fusedFS) OpenForAppend(name string) (vfs.File, error) {
	return fs.open(func() (vfs.File, error) { return fs.FS.OpenForAppend(name) })
}

func (fs *fusedFS) ReuseForWrite(oldname, newname string) (vfs.File, error) {
	return fs.open(func() (vfs.File, error) { return fs.FS.ReuseForWrite(oldname, newname) })
}

// Open is for reading, or for syncing a directory.
func (fs *fusedFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &fusedFile{File: f, fs: fs}, nil
}

func (fs *fusedFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &fusedFile{File: f, fs: fs}, nil
}

func (fs *fusedFS) Link(oldname, newname string) error {
	return fs.change(func() error { return fs.FS.Link(oldname, newname) })
}

// What cannot be removed harms nobody: it is not needed any more, and is there as well
// after a crash right before. The log database removes it on a goroutine of its own,
// which ends the process with a panic if it is told, also while a replica starts.
func (fs *fusedFS) Remove(name string) error { return fs.forgive(name, fs.FS.Remove(name)) }

func (fs *fusedFS) RemoveAll(name string) error { return fs.forgive(name, fs.FS.RemoveAll(name)) }

func (fs *fusedFS) forgive(name string, err error) error {
	if err == nil || errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	fs.fuse.log.Warn("file of the log not removed", slog.String("file", fs.PathBase(name)), slog.Any("err", err))
	return nil
}

func (fs *fusedFS) Rename(oldname, newname string) error {
	return fs.change(func() error { return fs.FS.Rename(oldname, newname) })
}

func (fs *fusedFS) MkdirAll(dir string, perm os.FileMode) error {
	return fs.change(func() error { return fs.FS.MkdirAll(dir, perm) })
}

// Lock does not write anything.
func (fs *fusedFS) Lock(name string) (io.Closer, error) { return fs.FS.Lock(name) }

// A fusedFile is a file of a fusedFS.
type fusedFile struct {
	vfs.File
	fs *fusedFS
}

func (f *fusedFile) Write(p []byte) (n int, err error) {
	err = f.fs.change(func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *fusedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fs.change(func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

// Sync says that all is well once the fuse has blown. It is what the log database does on
// a goroutine of its own, which ends the process with a panic if it fails, while the call
// for which it does so waits for it and then in fuse.guard.
func (f *fusedFile) Sync() error {
	err := f.fs.change(f.File.Sync)
	if f.fs.fuse.blown.Load() {
		return nil
	}
	return err
}
