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
//	R7  Of the changes of members that follow one [Membership], at most one is made.
//	    R2 and R3 hold for them too: nil means that this member knows of it, and
//	    an error that is not ErrUnknownOutcome that it was not and will not be made.
//	R8  Who was removed from a group is never part of it again.
package replica

import (
	"context"
	"errors"
	"fmt"
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

	// ErrRemoved says that this member was removed from the group. It never comes back
	// under its id.
	ErrRemoved = errors.New("member was removed")

	// ErrMembershipChanged says that a change of members was not made, because
	// others were made since the membership that it follows, or because the group
	// has one under way.
	ErrMembershipChanged = errors.New("membership has changed")

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

// A Standing is what a member counts for in the raft of one group.
type Standing uint8

const (
	// Gone members are not part of the group. One that was removed is never let in
	// again under its id.
	Gone Standing = iota
	// Voting members elect leaders and make up the quorum.
	Voting
	// Learning members are sent the log and do not count. Members that are added to
	// a running group begin like that.
	Learning
)

func (s Standing) String() string {
	switch s {
	case Gone:
		return "gone"
	case Voting:
		return "voting"
	case Learning:
		return "learning"
	}
	return fmt.Sprintf("standing %d", uint8(s))
}

// A Membership says who is part of a group.
type Membership struct {
	// Change tells one membership from those before. It grows.
	Change  uint64
	Members map[MemberID]Standing // Voting and Learning
	Removed map[MemberID]bool
}

// Allows returns nil if a member can be given another standing in one step, and
// otherwise why it cannot, whatever its group is doing.
func (m Membership) Allows(id MemberID, to Standing) error {
	was := m.Members[id]
	voters := 0
	for _, s := range m.Members {
		if s == Voting {
			voters++
		}
	}
	switch {
	case id == 0:
		return errors.New("there is no member 0")
	case m.Removed[id]:
		return fmt.Errorf("member %d was removed", id)
	case to == Gone && was == Voting && voters == 1:
		return fmt.Errorf("member %d is the last that votes", id)
	case to == Gone, was == Gone && to == Learning, was == Learning && to == Voting:
		return nil
	}
	return fmt.Errorf("member %d cannot go from %v to %v", id, was, to)
}

// A First says how a replica comes to be that never ran on this member.
type First struct {
	// Joins makes it an empty one that waits until the group's members, to whom it
	// was or will be added as Learning, send it the log.
	Joins bool

	// Voters are those whom the group starts with, this member included, and must be
	// the same on all of them. None means the members that the host was made with.
	Voters []MemberID
}

// The usual ways in which replicas come to be.
var (
	// Bootstrap makes a replica one of the first, which all start alike, on the members
	// that the host was made with.
	Bootstrap = First{}

	// Join makes it one that waits for the log.
	Join = First{Joins: true}
)

// A Host runs this member's replicas of any number of groups. All methods may
// be called concurrently.
type Host interface {
	// StartGroup starts this member's replica of g and returns without waiting
	// for other members. The Machine is empty; before anything is proposed the
	// host restores the newest snapshot into it and applies the log behind it.
	// first matters only if the replica never ran here. It returns ErrRemoved if this
	// member is known to have been removed from g.
	StartGroup(g GroupID, m Machine, first First) error

	// StopGroup stops this member's replica of g and waits until its Machine
	// is not called any more.
	StopGroup(ctx context.Context, g GroupID) error

	// Stored returns the groups that this member keeps anything of, whether they run or
	// not, in order.
	Stored() []GroupID

	// RemoveGroup removes for good what this member keeps of g, which must not run here,
	// and must never be started here again: it would have forgotten how it voted. What
	// is left behind by one that fails, or is cut short by a crash, is still Stored.
	RemoveGroup(ctx context.Context, g GroupID) error

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

	// Membership returns who was part of g at a moment after the call began.
	Membership(ctx context.Context, g GroupID) (Membership, error)

	// ChangeMember gives a member another standing, if the membership is still the one
	// whose Change is given: ErrMembershipChanged says that it is not, or that it cannot
	// be changed now. Only these changes are possible: Gone to Learning, Learning to
	// Voting, and anything to Gone, but not of the last one that votes. After
	// ErrUnknownOutcome, Membership tells.
	ChangeMember(ctx context.Context, g GroupID, change uint64, id MemberID, to Standing) error

	// SetMembers replaces what the host knows of where members are. Messages to and
	// from others are dropped. It says nothing of who is part of which group.
	SetMembers(addrs map[MemberID]string) error

	// Snapshot has the local replica of g save its state and compact its log,
	// and returns the index of the state saved.
	Snapshot(ctx context.Context, g GroupID) (index uint64, err error)

	// Close stops all groups and waits for every goroutine of the host. It may
	// be called any number of times.
	Close() error
}
