package raftdir

import (
	pvfs "github.com/cockroachdb/pebble/vfs"
	"github.com/lni/vfs"
)

// OnDisk reports whether the paths of fs are those of the operating system: it is
// the disk, or lies over it and has a method OnDisk that says so.
func OnDisk(fs vfs.FS) bool {
	d, ok := fs.(interface{ OnDisk() bool })
	return fs == nil || fs == vfs.Default || ok && d.OnDisk()
}

// pebbleFS shows a file system to the log database.
func pebbleFS(fs vfs.FS) pvfs.FS {
	if fs == vfs.Default {
		return pvfs.Default
	}
	return pebbleView{fs}
}

// A pebbleView is a file system whose methods have the types that pebble wants.
type pebbleView struct{ vfs.FS }

func (v pebbleView) Create(name string) (pvfs.File, error) { return v.FS.Create(name) }

func (v pebbleView) Open(name string, _ ...pvfs.OpenOption) (pvfs.File, error) {
	return v.FS.Open(name)
}

func (v pebbleView) OpenDir(name string) (pvfs.File, error) { return v.FS.OpenDir(name) }

func (v pebbleView) ReuseForWrite(oldname, newname string) (pvfs.File, error) {
	return v.FS.ReuseForWrite(oldname, newname)
}

func (v pebbleView) GetDiskUsage(path string) (pvfs.DiskUsage, error) {
	u, err := v.FS.GetDiskUsage(path)
	return pvfs.DiskUsage(u), err
}
