// Package replica is the seam between coord and consensus: what one member's
// groups need from a replicated log, as a small set of types over bytes and
// group ids. It knows nothing of znodes, and its implementations
// ([coord/internal/raftnode] over dragonboat, [coord/internal/memraft] for simulations)
// know nothing of coord.
//
// An implementation owes its user these guarantees:
//
//	R1  Every member's [Machine] of a group is given the same entries in the
//	    same order, with strictly increasing indexes (gaps are allowed).
//	R2  When Propose returns nil, the command was applied to the local
//	    Machine, and Machine.Apply had returned, before.
//	R3  An error that does not satisfy errors.Is(err, ErrUnknownOutcome) means
//	    that the command was not and will not be applied.
//	R4  When ReadIndex returns nil, the local Machine has been given every
//	    entry that was committed when ReadIndex was called.
//	R5  Machine.Apply, Prepare and Restore of one group never overlap each
//	    other; Save runs beside Apply.
//	R6  An entry may be applied more than once in the life of a log only if it
//	    was proposed more than once.
package replica

import (
	"context"
	"errors"
	"io"
)

// A GroupID names one raft group of an ensemble. It is never zero.
type GroupID uint64

// A MemberID names one member of an ensemble. It is never zero and never
// reused.
type MemberID uint64

// The errors of a Host. Only ErrUnknownOutcome leaves open whether a command
// was or will be applied.
var (
	// ErrUnknownOutcome marks a proposal that was handed to the log and whose
	// end this member did not see: it may be applied later, even long after.
	ErrUnknownOutcome = errors.New("outcome unknown")

	// ErrNotReady says that no leader is known, or that the local replica has
	// not loaded its log yet. It is worth trying again after a heartbeat.
	ErrNotReady = errors.New("group has no leader in sight")

	// ErrBusy says that a local queue is full. It is worth trying again soon.
	ErrBusy = errors.New("group is busy")

	// ErrTooLarge says that the command can never be accepted.
	ErrTooLarge = errors.New("command is too large for the log")

	// ErrClosed says that the host or the group was closed before the call.
	ErrClosed = errors.New("replica is closed")

	// ErrNoGroup says that the host runs no such group.
	ErrNoGroup = errors.New("no such group on this member")

	// ErrSnapshotAborted is returned by Machine.Save to give up a snapshot
	// without any harm: the log is simply not compacted.
	ErrSnapshotAborted = errors.New("snapshot aborted")

	// ErrSnapshotStopped is returned by Machine.Save and Restore when the
	// given stop channel was closed.
	ErrSnapshotStopped = errors.New("snapshot stopped")
)

// An Entry is one command of a group's log.
type Entry struct {
	Index uint64
	Cmd   []byte // valid only during Apply: copy what is kept
}

// A Machine is the state that a group's log is applied to on one member.
// Business failures are recorded in the state; a Machine that cannot go on
// stops itself (it ignores further entries and aborts snapshots) and has its
// owner close the group.
type Machine interface {
	// Apply executes entries in order. Batch boundaries mean nothing and
	// differ between members.
	Apply(entries []Entry)

	// Prepare returns a point in time of the state that Save can write while
	// Apply goes on. It is cheap.
	Prepare() (point any)

	// Save writes the state at point. It gives up with ErrSnapshotStopped
	// soon after stop is closed.
	Save(point any, w io.Writer, stop <-chan struct{}) error

	// Restore replaces the state by what Save wrote. After an error the state
	// is what it was before.
	Restore(r io.Reader, stop <-chan struct{}) error
}

// A Role is one member's view of who leads a group.
type Role struct {
	Leader MemberID // 0: none known
	Term   uint64
}

// A Host runs this member's replicas of any number of groups. All methods may
// be called concurrently.
type Host interface {
	// StartGroup starts this member's replica of g and returns without waiting
	// for other members. The Machine is empty; before anything is proposed the
	// host restores the newest snapshot into it and applies the log behind it.
	StartGroup(g GroupID, m Machine) error

	// StopGroup stops this member's replica of g and waits until its Machine
	// is not called any more.
	StopGroup(ctx context.Context, g GroupID) error

	// Propose appends cmd to the log of g and waits until it is applied on
	// this member. It does not retry.
	Propose(ctx context.Context, g GroupID, cmd []byte) error

	// ReadIndex waits until the local Machine has caught up with everything
	// committed before the call. It does not retry: lost messages make it end
	// with ctx.
	ReadIndex(ctx context.Context, g GroupID) error

	// Role returns this member's view of g: a hint, not a fact. Anything that
	// matters is decided by the log.
	Role(g GroupID) Role

	// TransferLeadership asks that to lead g. It is a request: nothing says
	// whether it will be met but a later change of Role.
	TransferLeadership(ctx context.Context, g GroupID, to MemberID) error

	// Snapshot has the local replica of g save its state and compact its log,
	// and returns the index of the state saved.
	Snapshot(ctx context.Context, g GroupID) (index uint64, err error)

	// Close stops all groups and waits for every goroutine of the host. It may
	// be called any number of times.
	Close() error
}
