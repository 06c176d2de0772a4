package raftdir

import (
	"errors"

	"golang.org/x/sys/windows"
)

// sharingViolation tells whether err says that another handle is open.
func sharingViolation(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}
