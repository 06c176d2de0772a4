package coord

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Code is the outcome of one operation, numbered as ZooKeeper numbers it
// (KeeperException.Code); coord's own codes start at -1000. Every Code but zero
// is an error and is its own sentinel: test for it with [errors.Is]. The number
// goes into the replicated log and onto the wire, so a Code, once released,
// never changes meaning.
type Code int32

// The answers of an ensemble. All of them are definite: the operation had no
// effect.
const (
	codeOK Code = 0

	// ErrSystemError says that the ensemble failed to execute the operation
	// because of a defect; every member failed alike and nothing was changed.
	ErrSystemError Code = -1
	// ErrRuntimeInconsistency marks the operations of a failed [Coordinator.Multi]
	// that come after the one that failed.
	ErrRuntimeInconsistency Code = -2
	// ErrMarshalling says that a request cannot be decoded or is of a form that
	// the operation does not accept.
	ErrMarshalling Code = -5
	// ErrUnimplemented says that the operation is switched off in this ensemble.
	ErrUnimplemented Code = -6
	// ErrBadArguments says that a path or another argument is malformed.
	ErrBadArguments Code = -8
	// ErrNewConfigNoQuorum says that too few of the voters that a change of members
	// would leave were heard of lately, see [Coordinator.Reconfigure].
	ErrNewConfigNoQuorum Code = -13
	// ErrReconfigInProgress says that an earlier change of members has not come to its
	// end yet.
	ErrReconfigInProgress Code = -14
	// ErrNoNode says that the znode, or the parent of the znode to create, does
	// not exist.
	ErrNoNode Code = -101
	// ErrNoAuth says that the ACL of the znode, or of its parent for create and
	// delete, does not let the caller do this.
	ErrNoAuth Code = -102
	// ErrBadVersion says that a condition of the operation does not hold: the
	// version, the czxid or the number of children is another one.
	ErrBadVersion Code = -103
	// ErrNoChildrenForEphemerals says that the parent is ephemeral.
	ErrNoChildrenForEphemerals Code = -108
	// ErrNodeExists says that the znode exists already.
	ErrNodeExists Code = -110
	// ErrNotEmpty says that the znode to delete has children.
	ErrNotEmpty Code = -111
	// ErrSessionExpired says that the session has ended: the ensemble expired or
	// closed it, or its own deadline has passed.
	ErrSessionExpired Code = -112
	// ErrInvalidACL says that an ACL is empty or has an entry of an unknown
	// scheme or form.
	ErrInvalidACL Code = -114
	// ErrAuthFailed says that a credential was not accepted.
	ErrAuthFailed Code = -115
	// ErrSessionMoved says that the session was resumed elsewhere and this handle
	// is void.
	ErrSessionMoved Code = -118
	// ErrQuotaExceeded says that a hard quota would be exceeded, see
	// [Coordinator.SetQuota]. The [OpError]'s Detail names the quota, its limits and
	// the usage, to callers who may read the quota.
	ErrQuotaExceeded Code = -125

	// ErrTooLarge says that data, a path, an ACL or a list of operations exceeds
	// its limit.
	ErrTooLarge Code = -1000
	// ErrNotANumber says that the data to add to is not a decimal 64-bit number.
	ErrNotANumber Code = -1001
	// ErrOverflow says that adding would leave the range of a 64-bit number.
	ErrOverflow Code = -1002
	// ErrNoSpace says that a voting member is short of disk space: the ensemble
	// takes deletes and sessions but no growth until it has space again.
	ErrNoSpace Code = -1003
	// ErrWrongGroup says that the group asked does not serve this path.
	ErrWrongGroup Code = -1004
	// ErrNoUser says that the ensemble has no native user of that name.
	ErrNoUser Code = -1005
	// ErrLimitExceeded says that a session, or all sessions of an identity on one
	// member, would have more than their [Limits] let them have, or a session more
	// ephemerals than the ensemble lets any have ([Config.MaxEphemerals]). The
	// error names the limit, its value, and whose it is.
	ErrLimitExceeded Code = -1006

	// ErrCrossMount says that the operations of one multi are for several groups: for
	// different mounts, or for a mount and what is outside. The error names two of them.
	// Creating and deleting a znode are for the group of its parent.
	ErrCrossMount Code = -1007
	// ErrMounted says that a mount point cannot be deleted or mounted again, and that
	// nothing inside or above a mount can be mounted.
	ErrMounted Code = -1008
	// codeSealed says that a znode is on its way from one group to another. Nobody is
	// told: whoever is refused so tries again behind the move.
	codeSealed Code = -1009
)

var codeTexts = map[Code]string{
	codeOK:                     "ok",
	ErrSystemError:             "system error",
	ErrRuntimeInconsistency:    "not executed because an earlier operation failed",
	ErrMarshalling:             "malformed request",
	ErrUnimplemented:           "not available in this ensemble",
	ErrBadArguments:            "bad arguments",
	ErrNewConfigNoQuorum:       "too few voters would be left that were heard of lately",
	ErrReconfigInProgress:      "an earlier change of members is under way",
	ErrNoNode:                  "no such znode",
	ErrNoAuth:                  "not allowed by the ACL",
	ErrBadVersion:              "version or other condition does not match",
	ErrNoChildrenForEphemerals: "ephemeral znodes cannot have children",
	ErrNodeExists:              "znode already exists",
	ErrNotEmpty:                "znode has children",
	ErrSessionExpired:          "session expired",
	ErrInvalidACL:              "invalid ACL",
	ErrAuthFailed:              "authentication failed",
	ErrSessionMoved:            "session moved to another handle",
	ErrQuotaExceeded:           "quota exceeded",
	ErrTooLarge:                "over the size limit",
	ErrNotANumber:              "data is not a 64-bit decimal number",
	ErrOverflow:                "number overflows 64 bits",
	ErrNoSpace:                 "a member is short of disk space",
	ErrWrongGroup:              "path is served by another group",
	ErrNoUser:                  "no such user",
	ErrLimitExceeded:           "over a limit",
	ErrCrossMount:              "operations for several mounts",
	ErrMounted:                 "a mount is there",
	codeSealed:                 "on its way to another group",
}

// Error returns a short text, for example "no such znode".
func (c Code) Error() string {
	if s, ok := codeTexts[c]; ok {
		return s
	}
	return "code " + strconv.Itoa(int(c))
}

// err turns c into an error, mapping success to a true nil: a zero Code in an
// error would not be nil.
func (c Code) err() error {
	if c == codeOK {
		return nil
	}
	return c
}

// Conditions of this process, as opposed to answers of the ensemble.
var (
	// ErrClosed is returned by every call on a Coordinator, Session or Watch
	// after it was closed.
	ErrClosed = errors.New("closed")

	// ErrSuspended is returned by reads while this member has no contact with a
	// quorum, so that its state may be stale. [AllowStale] reads anyway.
	ErrSuspended = errors.New("suspended: no contact with a quorum")

	// ErrUnknownOutcome marks the error of a write whose caller stopped waiting
	// (its context or [Config.OperationTimeout] ended, or the Coordinator was
	// closed) after the write had been handed to the log: it may or may not be
	// applied. Nothing marked so was refused; nothing not marked so was applied.
	ErrUnknownOutcome = errors.New("outcome unknown")

	// ErrTimeout is the cause when [Config.OperationTimeout] ended a call whose
	// context had not.
	ErrTimeout = errors.New("operation timed out")

	// ErrNotMember is returned by [Open] when the ensemble does not know
	// this member, or knows it as removed.
	ErrNotMember = errors.New("not a member of this ensemble")

	// ErrNoSuccessor is returned by [Coordinator.Drain] when this member leads and no
	// other voter can lead instead.
	ErrNoSuccessor = errors.New("no other voter can lead")

	// ErrFailed is returned by every call after this member had to stop itself:
	// [Coordinator.Health] says why.
	ErrFailed = errors.New("member failed")
)

// An OpError says which operation failed, on which path, and why.
type OpError struct {
	Op   string // the method in lower case, for example "create" or "setData"
	Path string // as the caller gave it; empty where there is none
	Err  error  // usually a Code; use errors.Is

	// Detail names the value and the limit, where there is something to say
	// beyond Err.
	Detail string
}

// Error returns for example "coord: create /a/b: no such znode".
func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString("coord: ")
	b.WriteString(e.Op)
	if e.Path != "" {
		b.WriteString(" ")
		b.WriteString(quotePath(e.Path))
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	return b.String()
}

// Unwrap returns e.Err.
func (e *OpError) Unwrap() error { return e.Err }

// A MultiError is the error of a [Coordinator.Multi] in which an operation
// failed: none of its operations was applied.
type MultiError struct {
	// Index is the position of the operation that failed.
	Index int
	// Err says which operation that was and why it failed.
	Err *OpError
	// Results has one element for each operation, as ZooKeeper reports them: nil
	// before Index, the failure at Index, [ErrRuntimeInconsistency] behind it.
	Results []error
}

// Error returns for example "coord: multi: operation 2: setData /a: no such znode".
func (e *MultiError) Error() string {
	return fmt.Sprintf("coord: multi: operation %d: %s", e.Index, strings.TrimPrefix(e.Err.Error(), "coord: "))
}

// Unwrap returns e.Err.
func (e *MultiError) Unwrap() error { return e.Err }

// An OutcomeError is the error of a write whose outcome is not known. It
// satisfies errors.Is for [ErrUnknownOutcome] and for the reason why the caller
// stopped waiting.
type OutcomeError struct {
	cause error
	p     *pending
}

// Error names the reason for which the caller stopped waiting.
func (e *OutcomeError) Error() string {
	return ErrUnknownOutcome.Error() + ": " + e.cause.Error()
}

// Unwrap returns ErrUnknownOutcome and the reason.
func (e *OutcomeError) Unwrap() []error { return []error{ErrUnknownOutcome, e.cause} }

// Outcome waits until the outcome is known or ctx ends. It returns nil if the
// write was applied, and the write's own error if it was refused. If the
// Coordinator was closed before the outcome was known, it stays unknown and the
// error satisfies errors.Is for [ErrUnknownOutcome].
func (e *OutcomeError) Outcome(ctx context.Context) error {
	select {
	case <-e.p.done:
		if e.p.err != nil {
			return e.p.err
		}
		return e.p.result.firstError().err()
	case <-ctx.Done():
		return &OutcomeError{cause: context.Cause(ctx), p: e.p}
	}
}

// Results is [OutcomeError.Outcome] that also tells what the write answered, an
// answer for each operation: the name of a sequential znode, for example.
func (e *OutcomeError) Results(ctx context.Context) ([]OpResult, error) {
	if err := e.Outcome(ctx); err != nil {
		return nil, err
	}
	return opResults(e.p.result.ops), nil
}
