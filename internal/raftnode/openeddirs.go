package raftnode

import (
	"fmt"
	"path/filepath"
	"reflect"
	"sync"

	"github.com/lni/vfs"

	"coord/internal/raftnode/raftdir"
)

// opened keeps two Hosts of this process out of one directory. The library's
// lock does not: it is a POSIX record lock, which one process can take any
// number of times, and which all of them lose when the first one lets go.
var opened openedDirs

type openedDirs struct {
	mu   sync.Mutex // a leaf
	dirs map[openedDir]struct{}
}

type openedDir struct {
	fs   vfs.FS // nil: the disk
	path string
}

// claim takes cfg.Dir for one Host. The caller calls the returned function
// when the Host is closed.
func (o *openedDirs) claim(cfg *Config) (release func(), err error) {
	key := openedDir{fs: cfg.FS, path: filepath.Clean(cfg.Dir)}
	if raftdir.OnDisk(cfg.FS) {
		key.fs = nil
		key.path = realPath(cfg.Dir)
	} else if !reflect.TypeOf(cfg.FS).Comparable() {
		return func() {}, nil // a test's own; nothing tells two of them apart
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, taken := o.dirs[key]; taken {
		return nil, fmt.Errorf("raftnode: open %s: %w: this process is using it already", cfg.Dir, ErrDirLocked)
	}
	if o.dirs == nil {
		o.dirs = make(map[openedDir]struct{})
	}
	o.dirs[key] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.dirs, key)
	}, nil
}

// realPath returns the one name that a directory has whatever it was called,
// as far as it exists already.
func realPath(dir string) string {
	path, err := filepath.Abs(dir)
	if err != nil {
		return filepath.Clean(dir)
	}
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if resolved, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(resolved, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
