// Package private lets coord's own test package reach what users must not: the
// root package puts functions here when it is initialised, and coordtest calls
// them. They take and return any, because this package must not import root.
package private

import (
	"context"
	"time"

	"coord/internal/raftnode"
)

var (
	// SetMemory has the member that cfg, a *coord.Config, describes live in
	// memory.
	SetMemory func(cfg any, m *raftnode.Memory)

	// Kill ends a *coord.Coordinator as a crash would, as far as the other
	// members can see: no session is closed and no leadership handed over.
	Kill func(c any) error

	// Violations returns the broken invariants of a *coord.Coordinator's state.
	Violations func(c any) []error

	// SkipClock has the clock of a *coord.Coordinator run ahead, as it does when its
	// machine was suspended.
	SkipClock func(c any, d time.Duration)

	// Freeze has a *coord.Coordinator stand still, as a stopped process does, as far as
	// its own users can see: what asks it for anything that depends on the time waits,
	// and so do its log and its duties, until thaw is called.
	Freeze func(c any) (thaw func())

	// Expire has a *coord.Coordinator propose once that a session's time is over, and
	// reports whether it knows such a session. The ensemble refuses that if it has
	// heard of the session meanwhile.
	Expire func(c any, session uint64) (lives bool)

	// Fail has a *coord.Coordinator stop itself, as it does when it cannot go on.
	Fail func(c any, err error)

	// CheckDisk has a *coord.Coordinator look at its free space now, and not only every
	// few seconds.
	CheckDisk func(c any)

	// Lead asks that a *coord.Coordinator lead its groups.
	Lead func(c any)

	// Snapshot has a *coord.Coordinator save a snapshot and cut its log.
	Snapshot func(c any) error

	// StopMounted ends what a *coord.Coordinator does in the group of the mount at path, as
	// if only that had failed.
	StopMounted func(ctx context.Context, c any, path string) error

	// Applied returns the index of the log entry that a *coord.Coordinator has applied
	// last: how many rounds of raft there were. It is 0 behind a snapshot that it was
	// sent or started from, until it applies an entry.
	Applied func(c any) uint64
)
