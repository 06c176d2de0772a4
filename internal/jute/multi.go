package jute

// A MultiOp is one operation of a MultiRequest.
type MultiOp struct {
	Op      Op
	Request Record
}

// A MultiRequest is the request of multi and multiRead. Decoding accepts the
// operations that one of the two can have, and fails for all others; which of the
// two has which is the server's to check.
type MultiRequest struct{ Ops []MultiOp }

// appendMultiHeader appends the header of an operation or, with done, the end.
func appendMultiHeader(b []byte, o Op, done bool, err int32) []byte {
	return AppendInt(AppendBool(AppendInt(b, int32(o)), done), err)
}

func appendMultiEnd(b []byte) []byte { return appendMultiHeader(b, OpError, true, -1) }

// AppendTo implements Record.
func (r *MultiRequest) AppendTo(b []byte) []byte {
	for _, op := range r.Ops {
		b = op.Request.AppendTo(appendMultiHeader(b, op.Op, false, -1))
	}
	return appendMultiEnd(b)
}

// DecodeFrom implements Record.
func (r *MultiRequest) DecodeFrom(d *Decoder) {
	r.Ops = nil
	for {
		op, done, _ := Op(d.Int()), d.Bool(), d.Int()
		if d.err != nil || done {
			return
		}
		if !inMulti(op) {
			d.Fail("%v in a multi", op)
			return
		}
		if d.atNull() { // they begin with a path
			d.Fail("%v in a multi without a path", op)
			return
		}
		rec := NewRequest(op)
		rec.DecodeFrom(d)
		if d.err != nil {
			return
		}
		r.Ops = append(r.Ops, MultiOp{op, rec})
	}
}

// inMulti reports whether an operation can be part of a multi or a multiRead.
func inMulti(o Op) bool {
	switch o { //nolint:exhaustive // the others cannot
	case OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL, OpDelete, OpSetData, OpCheck, OpGetData, OpGetChildren:
		return true
	}
	return false
}

// A MultiResult is the answer to one operation of a multi.
type MultiResult struct {
	Op       Op     // OpError for one that failed, or was not made because another failed
	Err      Code   // of an OpError
	Response Record // nil for an OpError, and where there is none
}

// A MultiResponse is the answer of multi and multiRead.
type MultiResponse struct{ Results []MultiResult }

// AppendTo implements Record.
func (r *MultiResponse) AppendTo(b []byte) []byte {
	for _, res := range r.Results {
		b = res.appendTo(b)
	}
	return appendMultiEnd(b)
}

func (r *MultiResult) appendTo(b []byte) []byte {
	b = appendMultiHeader(b, r.Op, false, int32(r.Err))
	switch {
	case r.Op == OpError:
		return AppendInt(b, int32(r.Err))
	case r.Response != nil:
		return r.Response.AppendTo(b)
	}
	return b
}

// DecodeFrom implements Record.
func (r *MultiResponse) DecodeFrom(d *Decoder) {
	r.Results = nil
	for {
		op, done, err := Op(d.Int()), d.Bool(), Code(d.Int())
		if d.err != nil || done {
			return
		}
		res := MultiResult{Op: op, Err: err}
		switch {
		case op == OpError:
			res.Err = Code(d.Int())
		case !inMulti(op):
			d.Fail("%v in the answer of a multi", op)
			return
		default:
			if res.Response = NewResponse(op); res.Response != nil {
				res.Response.DecodeFrom(d)
			}
		}
		if d.err != nil {
			return
		}
		r.Results = append(r.Results, res)
	}
}
