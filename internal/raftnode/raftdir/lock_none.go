//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package raftdir

// sharingViolation is never true: vfs cannot lock here at all.
func sharingViolation(error) bool { return false }
