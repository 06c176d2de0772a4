package zkserver

import (
	"errors"

	"coord"
	"coord/internal/jute"
)

// codes has what clients are told for each answer of an ensemble. ZooKeeper's own codes
// are its numbers; coord's have to be told by those that clients know.
var codes = map[coord.Code]jute.Code{
	coord.ErrSystemError:             jute.SystemError,
	coord.ErrRuntimeInconsistency:    jute.RuntimeInconsistency,
	coord.ErrMarshalling:             jute.MarshallingError,
	coord.ErrUnimplemented:           jute.Unimplemented,
	coord.ErrBadArguments:            jute.BadArguments,
	coord.ErrNewConfigNoQuorum:       jute.NewConfigNoQuorum,
	coord.ErrReconfigInProgress:      jute.ReconfigInProgress,
	coord.ErrNoNode:                  jute.NoNode,
	coord.ErrNoAuth:                  jute.NoAuth,
	coord.ErrBadVersion:              jute.BadVersion,
	coord.ErrNoChildrenForEphemerals: jute.NoChildrenForEphemerals,
	coord.ErrNodeExists:              jute.NodeExists,
	coord.ErrNotEmpty:                jute.NotEmpty,
	coord.ErrSessionExpired:          jute.SessionExpired,
	coord.ErrInvalidACL:              jute.InvalidACL,
	coord.ErrAuthFailed:              jute.AuthFailed,
	coord.ErrSessionMoved:            jute.SessionMoved,
	coord.ErrQuotaExceeded:           jute.QuotaExceeded,

	coord.ErrTooLarge:      jute.BadArguments,
	coord.ErrNotANumber:    jute.BadArguments,
	coord.ErrOverflow:      jute.BadArguments,
	coord.ErrNoSpace:       jute.QuotaExceeded,
	coord.ErrWrongGroup:    jute.SystemError, // never told, see codeOf
	coord.ErrCrossMount:    jute.BadArguments,
	coord.ErrMounted:       jute.NotEmpty,
	coord.ErrNoUser:        jute.SystemError,
	coord.ErrLimitExceeded: jute.QuotaExceeded,
}

// codeOf returns what a client is told of an error, or ok as false if it cannot be told
// because the session has ended, this member cannot serve, the znode of a write was on its
// way to or from a mount, or nobody knows what became of a write: its connection is closed
// then (C3).
func codeOf(err error) (code jute.Code, ok bool) {
	if err == nil {
		return jute.OK, true
	}
	if errors.Is(err, coord.ErrWrongGroup) || errors.Is(err, coord.ErrUnknownOutcome) || errors.Is(err, coord.ErrSessionExpired) || errors.Is(err, coord.ErrSessionMoved) {
		return 0, false
	}
	if errors.Is(err, coord.ErrTooManyWatches) {
		return jute.QuotaExceeded, true
	}
	answer, ok := errors.AsType[coord.Code](err)
	if !ok {
		return 0, false
	}
	code, ok = codes[answer]
	return code, ok
}
