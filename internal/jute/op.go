package jute

import "fmt"

// An Op is the opcode of a request.
type Op int32

// The opcodes of ZooKeeper's client protocol.
const (
	OpNotification         Op = 0
	OpCreate               Op = 1
	OpDelete               Op = 2
	OpExists               Op = 3
	OpGetData              Op = 4
	OpSetData              Op = 5
	OpGetACL               Op = 6
	OpSetACL               Op = 7
	OpGetChildren          Op = 8
	OpSync                 Op = 9
	OpPing                 Op = 11
	OpGetChildren2         Op = 12
	OpCheck                Op = 13
	OpMulti                Op = 14
	OpCreate2              Op = 15
	OpReconfig             Op = 16
	OpCheckWatches         Op = 17
	OpRemoveWatches        Op = 18
	OpCreateContainer      Op = 19
	OpDeleteContainer      Op = 20
	OpCreateTTL            Op = 21
	OpMultiRead            Op = 22
	OpAuth                 Op = 100
	OpSetWatches           Op = 101
	OpSASL                 Op = 102
	OpGetEphemerals        Op = 103
	OpGetAllChildrenNumber Op = 104
	OpSetWatches2          Op = 105
	OpAddWatch             Op = 106
	OpWhoAmI               Op = 107
	OpCreateSession        Op = -10
	OpCloseSession         Op = -11
	OpError                Op = -1
)

// opNames has ZooKeeper's names of the opcodes.
var opNames = map[Op]string{
	OpNotification: "notification", OpCreate: "create", OpDelete: "delete", OpExists: "exists", OpGetData: "getData",
	OpSetData: "setData", OpGetACL: "getACL", OpSetACL: "setACL", OpGetChildren: "getChildren", OpSync: "sync", OpPing: "ping",
	OpGetChildren2: "getChildren2", OpCheck: "check", OpMulti: "multi", OpCreate2: "create2", OpReconfig: "reconfig",
	OpCheckWatches: "checkWatches", OpRemoveWatches: "removeWatches", OpCreateContainer: "createContainer",
	OpDeleteContainer: "deleteContainer", OpCreateTTL: "createTTL", OpMultiRead: "multiRead", OpAuth: "auth",
	OpSetWatches: "setWatches", OpSASL: "sasl", OpGetEphemerals: "getEphemerals", OpGetAllChildrenNumber: "getAllChildrenNumber",
	OpSetWatches2: "setWatches2", OpAddWatch: "addWatch", OpWhoAmI: "whoAmI", OpCreateSession: "createSession",
	OpCloseSession: "closeSession", OpError: "error",
}

// String returns ZooKeeper's name of the opcode.
func (o Op) String() string {
	if name, ok := opNames[o]; ok {
		return name
	}
	return fmt.Sprintf("Op(%d)", int32(o))
}

// shapes has the records of each operation: a new request and a new answer, nil
// where there is none.
var shapes = map[Op]struct{ request, response func() Record }{
	OpCreate:               {record[CreateRequest], record[CreateResponse]},
	OpCreate2:              {record[CreateRequest], record[Create2Response]},
	OpCreateContainer:      {record[CreateRequest], record[Create2Response]},
	OpCreateTTL:            {record[CreateTTLRequest], record[Create2Response]},
	OpDelete:               {record[VersionRequest], nil},
	OpDeleteContainer:      {record[PathRequest], nil},
	OpExists:               {record[ReadRequest], record[StatResponse]},
	OpGetData:              {record[ReadRequest], record[GetDataResponse]},
	OpSetData:              {record[SetDataRequest], record[StatResponse]},
	OpGetACL:               {record[PathRequest], record[GetACLResponse]},
	OpSetACL:               {record[SetACLRequest], record[StatResponse]},
	OpGetChildren:          {record[ReadRequest], record[StringsResponse]},
	OpGetChildren2:         {record[ReadRequest], record[GetChildren2Response]},
	OpSync:                 {record[SyncRecord], record[SyncRecord]},
	OpPing:                 {nil, nil},
	OpCheck:                {record[VersionRequest], nil},
	OpMulti:                {record[MultiRequest], record[MultiResponse]},
	OpMultiRead:            {record[MultiRequest], record[MultiResponse]},
	OpReconfig:             {record[ReconfigRequest], record[GetDataResponse]},
	OpCheckWatches:         {record[CheckWatchesRequest], nil},
	OpRemoveWatches:        {record[WatchRequest], nil},
	OpAddWatch:             {record[WatchRequest], record[IntResponse]},
	OpSetWatches:           {record[SetWatchesRequest], nil},
	OpSetWatches2:          {record[SetWatches2Request], nil},
	OpGetEphemerals:        {record[PrefixRequest], record[StringsResponse]},
	OpGetAllChildrenNumber: {record[PathRequest], record[IntResponse]},
	OpWhoAmI:               {nil, record[WhoAmIResponse]},
	OpAuth:                 {record[AuthRequest], nil},
	OpSASL:                 {record[SASLRecord], record[SASLRecord]},
	OpCloseSession:         {nil, nil},
	OpNotification:         {nil, record[WatcherEvent]},
	OpError:                {nil, record[IntResponse]},
}

// record returns a new record of a type whose pointer is one.
func record[T any, P interface {
	*T
	Record
}]() Record {
	return P(new(T))
}

// NewRequest returns an empty request of an operation, or nil if its requests are
// headers alone or it is unknown.
func NewRequest(o Op) Record {
	if s := shapes[o]; s.request != nil {
		return s.request()
	}
	return nil
}

// NewResponse returns an empty answer of an operation, or nil if its answers are
// headers alone or it is unknown.
func NewResponse(o Op) Record {
	if s := shapes[o]; s.response != nil {
		return s.response()
	}
	return nil
}
