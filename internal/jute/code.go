package jute

import "fmt"

// A Code is the outcome of a request, as the header of its answer has it.
type Code int32

// ZooKeeper's codes (KeeperException.Code) but for those that only its clients
// make up.
const (
	OK                       Code = 0
	SystemError              Code = -1
	RuntimeInconsistency     Code = -2
	DataInconsistency        Code = -3
	MarshallingError         Code = -5
	Unimplemented            Code = -6
	OperationTimeout         Code = -7
	BadArguments             Code = -8
	NewConfigNoQuorum        Code = -13
	ReconfigInProgress       Code = -14
	APIError                 Code = -100
	NoNode                   Code = -101
	NoAuth                   Code = -102
	BadVersion               Code = -103
	NoChildrenForEphemerals  Code = -108
	NodeExists               Code = -110
	NotEmpty                 Code = -111
	SessionExpired           Code = -112
	InvalidACL               Code = -114
	AuthFailed               Code = -115
	SessionMoved             Code = -118
	NotReadOnly              Code = -119
	EphemeralOnLocalSession  Code = -120
	NoWatcher                Code = -121
	ReconfigDisabled         Code = -123
	SessionClosedRequireAuth Code = -124
	QuotaExceeded            Code = -125
	ThrottledOp              Code = -127
)

var codeNames = map[Code]string{
	OK: "ok", SystemError: "system error", RuntimeInconsistency: "runtime inconsistency", DataInconsistency: "data inconsistency",
	MarshallingError: "marshalling error", Unimplemented: "unimplemented", OperationTimeout: "operation timeout",
	BadArguments: "bad arguments", NewConfigNoQuorum: "new config has no quorum", ReconfigInProgress: "reconfig in progress",
	APIError: "api error", NoNode: "no node", NoAuth: "no auth", BadVersion: "bad version",
	NoChildrenForEphemerals: "no children for ephemerals", NodeExists: "node exists", NotEmpty: "not empty",
	SessionExpired: "session expired", InvalidACL: "invalid ACL", AuthFailed: "auth failed", SessionMoved: "session moved",
	NotReadOnly: "not read-only", EphemeralOnLocalSession: "ephemeral on local session", NoWatcher: "no watcher",
	ReconfigDisabled: "reconfig disabled", SessionClosedRequireAuth: "session closed: auth required",
	QuotaExceeded: "quota exceeded", ThrottledOp: "throttled",
}

// String returns the name of the code in lower case.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("Code(%d)", int32(c))
}
