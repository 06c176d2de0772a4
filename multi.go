package coord

import (
	"errors"
	"strconv"
)

// An Op is one operation of a [Coordinator.Multi]. The functions whose names end
// in Op make one.
type Op struct{ op op }

// An OpResult is the answer to one operation of a [Coordinator.Multi].
type OpResult struct {
	Path  string // of a create, with the sequence number
	Stat  Stat   // as of that operation; zero for DeleteOp and CheckAbsentOp
	Value int64  // of an AddOp: the sum
}

// CreateOp creates a znode, as [Coordinator.Create] does.
func CreateOp(path string, data []byte, opts ...CreateOption) Op {
	o := op{kind: opCreate, path: path, data: data, version: AnyVersion}
	for _, opt := range opts {
		opt.applyCreate(&o)
	}
	return Op{o}
}

// SetDataOp sets the data of a znode, as [Coordinator.SetData] does.
func SetDataOp(path string, data []byte, opts ...SetDataOption) Op {
	o := op{kind: opSetData, path: path, data: data, version: AnyVersion}
	for _, opt := range opts {
		opt.applySetData(&o)
	}
	return Op{o}
}

// DeleteOp deletes a znode, as [Coordinator.Delete] does.
func DeleteOp(path string, opts ...DeleteOption) Op {
	o := op{kind: opDelete, path: path, version: AnyVersion}
	for _, opt := range opts {
		opt.applyDelete(&o)
	}
	return Op{o}
}

// SetACLOp replaces the access control list of a znode, as [Coordinator.SetACL] does.
func SetACLOp(path string, list []ACL, opts ...SetACLOption) Op {
	o := op{kind: opSetACL, path: path, acl: append([]ACL{}, list...), version: AnyVersion}
	for _, opt := range opts {
		opt.applySetACL(&o)
	}
	return Op{o}
}

// CheckOp changes nothing and fails unless the znode exists and the conditions
// hold: [ErrNoNode], [ErrBadVersion].
func CheckOp(path string, opts ...CheckOption) Op {
	o := op{kind: opCheck, path: path, version: AnyVersion}
	for _, opt := range opts {
		opt.applyCheck(&o)
	}
	return Op{o}
}

// CheckAbsentOp changes nothing and fails with [ErrNodeExists] if the znode
// exists.
func CheckAbsentOp(path string) Op {
	return Op{op{kind: opCheckAbsent, path: path, version: AnyVersion}}
}

// CheckChildrenOp changes nothing and fails with [ErrBadVersion] unless the znode
// has exactly n children.
func CheckChildrenOp(path string, n int32, opts ...CheckOption) Op {
	o := op{kind: opCheckChildren, path: path, count: n, version: AnyVersion}
	for _, opt := range opts {
		opt.applyCheck(&o)
	}
	return Op{o}
}

// CheckFewerChildrenOp changes nothing and fails with [ErrBadVersion] unless the
// znode has fewer than n children. In front of a CreateOp it is a bound on their
// number that no two writers can pass at once.
func CheckFewerChildrenOp(path string, n int32, opts ...CheckOption) Op {
	o := op{kind: opCheckFewerChildren, path: path, count: n, version: AnyVersion}
	for _, opt := range opts {
		opt.applyCheck(&o)
	}
	return Op{o}
}

// AddOp adds delta to the data of a znode, which is a decimal 64-bit number, or
// null or empty for zero. [OpResult.Value] is the sum. It fails with
// [ErrNotANumber] or [ErrOverflow].
func AddOp(path string, delta int64, opts ...SetDataOption) Op {
	o := op{kind: opAdd, path: path, delta: delta, version: AnyVersion}
	for _, opt := range opts {
		opt.applySetData(&o)
	}
	return Op{o}
}

// opResults returns answers as callers see them.
func opResults(results []opResult) []OpResult {
	out := make([]OpResult, len(results))
	for i, r := range results {
		out[i] = OpResult{Path: r.path, Stat: r.stat, Value: r.value}
	}
	return out
}

// multiError turns the results of a failed multi into its error.
func multiError(ops []op, results []opResult) *MultiError {
	e := &MultiError{Results: make([]error, len(results))}
	for i := len(results) - 1; i >= 0; i-- {
		e.Results[i] = results[i].code.err()
		if c := results[i].code; c != codeOK && c != ErrRuntimeInconsistency {
			e.Index = i
			e.Err = &OpError{Op: ops[i].kind.String(), Path: ops[i].path, Err: c}
		}
	}
	return e
}

// refusedMulti is the error of a multi of which one operation was refused before it was
// proposed.
func refusedMulti(n, index int, err error) error {
	refused, ok := errors.AsType[*OpError](err)
	code, definite := errors.AsType[Code](err)
	if !ok || !definite {
		return err
	}
	e := &MultiError{Index: index, Err: refused, Results: make([]error, n)}
	for i := index; i < n; i++ {
		e.Results[i] = ErrRuntimeInconsistency
	}
	e.Results[index] = code
	return e
}

// checkMultiCount refuses a multi of too many operations.
func checkMultiCount(n int) error {
	if n > maxOpsPerMulti {
		return &OpError{Op: "multi", Err: ErrTooLarge, Detail: strconv.Itoa(n) + " operations, the limit is " + strconv.Itoa(maxOpsPerMulti)}
	}
	return nil
}

// checkMulti finds what is wrong with a multi as a whole before it is proposed.
func checkMulti(ops []op) error {
	bytes := requestBytes(&request{ops: ops})
	if bytes > maxMultiBytes {
		return &OpError{Op: "multi", Err: ErrTooLarge, Detail: strconv.FormatInt(bytes, 10) + " bytes, the limit is " + strconv.Itoa(maxMultiBytes)}
	}
	return nil
}

// maxMultiBytes limits the encoded size of one request: a quarter of what the
// raft library's message batches hold.
const maxMultiBytes = 32 << 20
