package raftdir

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"

	"github.com/lni/vfs"
)

// lockName is the file that is locked while a directory is open.
const lockName = "LOCK"

// errLocked is what lockFile returns when somebody else holds the lock.
var errLocked = errors.New("locked")

// lockDir takes the lock of dir. On the disk it is a lock of the operating
// system that also excludes a second Open of the same process: the library's
// vfs.Lock cannot do that, because fcntl locks belong to the process and are
// dropped when any descriptor of the file is closed. Other file systems live
// in this process, so a table is enough for them.
func lockDir(fs vfs.FS, dir string) (io.Closer, error) {
	path := fs.PathJoin(dir, lockName)
	var c io.Closer
	var err error
	if OnDisk(fs) {
		c, err = lockFile(path)
	} else {
		c, err = lockInMemory(fs, dir)
	}
	if errors.Is(err, errLocked) {
		return nil, &Error{
			Kind: ErrInUse, Path: dir, Offset: -1,
			Detail: "another member, in this process or another, has it open",
			Remedy: "stop the other one first, or give this member its own directory",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return c, nil
}

// memLock names a directory of a file system in memory.
type memLock struct {
	fs  any
	dir string
}

// memLocks holds the directories open in this process.
var memLocks struct {
	mu   sync.Mutex
	held map[memLock]bool // guarded by mu
}

// lockInMemory enters dir into memLocks.
func lockInMemory(fs vfs.FS, dir string) (io.Closer, error) {
	if !reflect.TypeOf(fs).Comparable() {
		return nil, fmt.Errorf("file system of type %T has no identity; use a pointer type", fs)
	}
	l := memLock{fs: fs, dir: dir}
	memLocks.mu.Lock()
	defer memLocks.mu.Unlock()
	if memLocks.held[l] {
		return nil, errLocked
	}
	if memLocks.held == nil {
		memLocks.held = make(map[memLock]bool)
	}
	memLocks.held[l] = true
	return l, nil
}

// Close releases the lock.
func (l memLock) Close() error {
	memLocks.mu.Lock()
	defer memLocks.mu.Unlock()
	delete(memLocks.held, l)
	return nil
}
