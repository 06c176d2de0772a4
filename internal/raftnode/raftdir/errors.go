package raftdir

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of refusal. An [Error] wraps one of them together with the path,
// what was found there and what to do about it.
var (
	// ErrInUse says that another process, or another [Open] in this one, holds
	// the directory.
	ErrInUse = errors.New("data directory is in use")

	// ErrWrongMember says that the directory belongs to another member of the
	// same ensemble.
	ErrWrongMember = errors.New("data directory belongs to another member")

	// ErrWrongEnsemble says that the directory belongs to another ensemble.
	ErrWrongEnsemble = errors.New("data directory belongs to another ensemble")

	// ErrWrongVoters says that the initial members given differ from those of
	// the first start.
	ErrWrongVoters = errors.New("initial members differ from the first start")

	// ErrSettings says that a setting that is fixed for the life of a
	// directory was changed, or that its layout is not one this package made.
	ErrSettings = errors.New("settings do not fit the data directory")

	// ErrVersion says that the manifest was written by a version of this
	// package that this one does not know.
	ErrVersion = errors.New("data directory has an unknown format")

	// ErrCorrupt says that a file is damaged or missing.
	ErrCorrupt = errors.New("data directory is corrupt")

	// ErrRolledBack says that files are sound but older than what this member
	// is known to have done: raft does not survive a member that forgets.
	ErrRolledBack = errors.New("data directory went back in time")

	// ErrStrangeDirectory says that a member of the ensemble came with another
	// directory than the one it was first seen with.
	ErrStrangeDirectory = errors.New("member has another data directory than before")

	// ErrWorkingDirectory says that a file in the working directory changes
	// constants of the raft library.
	ErrWorkingDirectory = errors.New("working directory changes the raft library")
)

// The remedies that several errors share.
const (
	remedyRejoin = "keep a copy for inspection, remove this member from the ensemble and let it join again " +
		"under a new member id with an empty directory; never reuse the old id"
	remedyOwnDir = "give every member a directory of its own, or start the member this directory belongs to"
)

// Error is a refusal of a data directory. errors.Is against the Err… values
// of this package tells its kind.
type Error struct {
	Kind   error  // one of the Err… values
	Path   string // the file or directory at fault
	Offset int64  // in Path, in bytes; -1 if the fault is not at one place
	Detail string // what was found, with both values if two disagree
	Remedy string // what to do next
	Cause  error  // what the system or a library said, or nil
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Path, e.Kind)
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at offset %d", e.Offset)
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if e.Remedy != "" {
		fmt.Fprintf(&b, " (%s)", e.Remedy)
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// corrupt is the error for damage in path at offset off, -1 for none.
func corrupt(path string, off int64, format string, args ...any) *Error {
	return &Error{Kind: ErrCorrupt, Path: path, Offset: off, Detail: fmt.Sprintf(format, args...), Remedy: remedyRejoin}
}

// corruptBy is corrupt for damage that somebody else found.
func corruptBy(path string, cause error, format string, args ...any) *Error {
	e := corrupt(path, -1, format, args...)
	e.Cause = cause
	return e
}

// rolledBack is the error for sound files that are too old.
func rolledBack(path, format string, args ...any) *Error {
	return &Error{Kind: ErrRolledBack, Path: path, Offset: -1, Detail: fmt.Sprintf(format, args...), Remedy: remedyRejoin}
}
