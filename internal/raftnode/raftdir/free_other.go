//go:build !(darwin || linux)

package raftdir

import "errors"

// freeBytes does not know the free space on this system.
func freeBytes(string) (uint64, error) { return 0, errors.ErrUnsupported }
