//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package raftdir

import (
	"errors"
	"io"
	"io/fs"

	"github.com/lni/vfs"
)

// lockFile opens path for this handle alone, which is how vfs locks on
// Windows; where vfs cannot lock, its error is passed on.
func lockFile(path string) (io.Closer, error) {
	c, err := vfs.Default.Lock(path)
	if err == nil {
		return c, nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || !sharingViolation(err) {
		return nil, err
	}
	return nil, errLocked
}
