package zkserver

import (
	"context"
	"errors"
	"time"

	"coord"
	"coord/internal/jute"
)

// runReader takes requests from the wire until the client has none any more: nil is
// because it said so, or because of drain.
func (c *conn) runReader() error {
	for {
		frame, err := c.frames.nextWithin(c.s.o.MaxFrame, c.timeout)
		if c.isDraining() {
			return nil
		}
		if err != nil {
			return err
		}
		last, err := c.take(frame)
		if err != nil || last {
			return err
		}
	}
}

// take puts a request into the backlog, and begins what it asks for if it is a write. It
// reports whether it is the last one of the connection.
func (c *conn) take(frame []byte) (last bool, err error) {
	r := &request{size: len(frame), at: time.Now()}
	d := jute.NewDecoder(frame)
	var h jute.RequestHeader
	h.DecodeFrom(d)
	if d.Err() != nil {
		return false, d.Err()
	}
	r.xid, r.op = h.Xid, h.Op
	c.s.counts.received.Add(1)
	c.counts.took(r)
	if err := c.backlog.awaitRoom(c.ctx, r.size); err != nil {
		return false, err
	}
	if r.body = jute.NewRequest(r.op); r.body != nil {
		r.body.DecodeFrom(d)
	}
	if d.Err() != nil {
		r.code = jute.MarshallingError
	} else if err := c.begin(r); err != nil {
		return false, err
	}
	c.backlog.add(r)
	return !known(r.op) || r.op == jute.OpCloseSession || r.op == jute.OpAuth && r.code != jute.OK, nil
}

// known reports whether clients may send requests of an operation.
func known(o jute.Op) bool {
	switch o {
	case jute.OpCreate, jute.OpDelete, jute.OpExists, jute.OpGetData, jute.OpSetData, jute.OpGetACL, jute.OpSetACL,
		jute.OpGetChildren, jute.OpSync, jute.OpPing, jute.OpGetChildren2, jute.OpMulti, jute.OpCreate2, jute.OpReconfig,
		jute.OpCheckWatches, jute.OpRemoveWatches, jute.OpCreateContainer, jute.OpDeleteContainer, jute.OpCreateTTL,
		jute.OpMultiRead, jute.OpAuth, jute.OpSetWatches, jute.OpGetEphemerals, jute.OpGetAllChildrenNumber,
		jute.OpSetWatches2, jute.OpAddWatch, jute.OpWhoAmI, jute.OpCloseSession:
		return true
	case jute.OpNotification, jute.OpError, jute.OpCreateSession, // never a client's
		jute.OpCheck, // of a multi only
		jute.OpSASL:
		return false
	}
	return false
}

// begin begins what a request asks for, if that is not left to the writer. An error ends
// the connection.
func (c *conn) begin(r *request) error {
	if c.readOnly && writes(r.op) {
		r.code = jute.NotReadOnly
		return nil
	}
	switch r.op { //nolint:exhaustive // the others are the writer's
	case jute.OpAuth:
		return c.authenticate(r)
	case jute.OpSync:
		r.sync = c.beginSync()
		return nil
	case jute.OpMulti:
		return c.beginMulti(r)
	case jute.OpReconfig:
		return c.beginReconfig(r)
	}
	if _, does := createsEphemeral(r.body); c.local && does {
		r.code = jute.EphemeralOnLocalSession
		return nil
	}
	op, code, ok := writeOp(r.op, r.body)
	if !ok || code != jute.OK {
		r.code = code
		return nil
	}
	return c.beginWrite(r, func() (*coord.Write, error) { return c.session.Begin(c.ctx, op) })
}

// beginWrite begins a write behind what waits.
func (c *conn) beginWrite(r *request, begin func() (*coord.Write, error)) error {
	if err := c.fixViews(); err != nil {
		return err
	}
	w, err := begin()
	if err == nil {
		r.write = w
		return nil
	}
	code, ok := codeOf(err)
	if !ok {
		return err
	}
	r.code = code
	return nil
}

// fixViews has what waits be answered from what is there before the next change (C1).
func (c *conn) fixViews() error {
	for {
		wait, err := c.backlog.fixViews(c.now, c.s.mounted)
		if err != nil || wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
}

// beginSync begins what has this member reflect what was acknowledged anywhere by now.
func (c *conn) beginSync() *barrier {
	b := &barrier{done: make(chan struct{})}
	c.s.wg.Go(func() {
		defer close(b.done)
		b.err = c.session.Sync(c.ctx, "")
	})
	return b
}

// authenticate adds what a client proves to what it is. It is done when it comes, as
// in ZooKeeper, though it is answered in its turn.
func (c *conn) authenticate(r *request) error {
	req := r.body.(*jute.AuthRequest)
	if req.Scheme == "x509" { // whoever has a certificate has shown it
		for _, id := range c.session.Identities() {
			if id.Scheme == "x509" {
				return nil
			}
		}
	}
	err := c.session.AddAuth(c.ctx, req.Scheme, req.Auth)
	if err == nil {
		return nil
	}
	if _, ok := codeOf(err); !ok {
		return err
	}
	r.code = jute.AuthFailed
	return nil
}

// writeOp returns the operation of the ensemble that a request stands for, and ok if it is
// one. If code is not OK, it is refused as it is.
func writeOp(o jute.Op, body jute.Record) (op coord.Op, code jute.Code, ok bool) {
	switch req := body.(type) {
	case *jute.CreateRequest:
		op, code = createOp(o, req, 0)
	case *jute.CreateTTLRequest:
		op, code = createOp(o, &req.CreateRequest, req.TTL)
	case *jute.VersionRequest:
		if o == jute.OpCheck {
			op = coord.CheckOp(req.Path, coord.WithVersion(req.Version))
		} else {
			op = coord.DeleteOp(req.Path, coord.WithVersion(req.Version))
		}
	case *jute.SetDataRequest:
		op = coord.SetDataOp(req.Path, req.Data, coord.WithVersion(req.Version))
	case *jute.SetACLRequest:
		op = coord.SetACLOp(req.Path, aclsOf(req.ACL), coord.WithVersion(req.Version))
	case *jute.PathRequest:
		if o == jute.OpDeleteContainer { // the leader's own
			return op, jute.BadArguments, true
		}
		return op, 0, false
	default:
		return op, 0, false
	}
	return op, code, true
}

// createOp returns the operation of one of the creates. The opcode decides whether a
// container or a znode with a time to live is made, as in ZooKeeper; see opInMulti.
func createOp(o jute.Op, req *jute.CreateRequest, ttlMS int64) (coord.Op, jute.Code) {
	if req.Flags < 0 || req.Flags > int32(coord.PersistentSequentialTTL) {
		return coord.Op{}, jute.BadArguments
	}
	mode := coord.CreateMode(req.Flags)
	opts := []coord.CreateOption{coord.WithACL(aclsOf(req.ACL)...)}
	ttl := mode == coord.PersistentTTL || mode == coord.PersistentSequentialTTL
	switch {
	case o == jute.OpCreateTTL && !ttl:
		return coord.Op{}, jute.BadArguments
	case o == jute.OpCreateTTL:
		opts = append(opts, coord.WithTTL(time.Duration(min(max(ttlMS, 0), maxTTLMS+1))*time.Millisecond))
	case o == jute.OpCreateContainer && mode != coord.Container && mode != coord.Persistent && !ttl:
		return coord.Op{}, jute.BadArguments // nothing is a container and that
	case o == jute.OpCreateContainer && !ttl:
		mode = coord.Container
	case mode == coord.Container:
		mode = coord.Persistent
	}
	return coord.CreateOp(req.Path, req.Data, append(opts, mode)...), jute.OK
}

// maxTTLMS is the longest time to live, in milliseconds.
const maxTTLMS = 1<<40 - 1

func aclsOf(list []jute.ACL) []coord.ACL {
	acl := make([]coord.ACL, len(list))
	for i, a := range list {
		acl[i] = coord.ACL{Perms: coord.Perm(a.Perms), ID: coord.ID{Scheme: a.Scheme, ID: a.ID}}
	}
	return acl
}

// beginMulti begins a multi, unless it is malformed as a whole.
func (c *conn) beginMulti(r *request) error {
	req := r.body.(*jute.MultiRequest)
	ops := make([]coord.Op, len(req.Ops))
	for i := range req.Ops {
		o := &req.Ops[i]
		o.Op = opInMulti(*o)
		op, code, ok := writeOp(o.Op, o.Request)
		if !ok || code != jute.OK || misfit(*o) {
			r.code = jute.MarshallingError
			return nil
		}
		ops[i] = op
	}
	// An operation that is refused before anything is proposed may have one before it that
	// fails, and the client is told of the first. So the ensemble is asked about those before,
	// with one behind them that always fails.
	instead := func(index int, code jute.Code) (*coord.Write, error) {
		r.fault, r.faultAt = code, index
		return c.session.BeginMulti(c.ctx, append(ops[:index:index], failingOp)...)
	}
	return c.beginWrite(r, func() (*coord.Write, error) {
		if i, does := createsEphemeral(req); c.local && does {
			return instead(i, jute.EphemeralOnLocalSession)
		}
		w, err := c.session.BeginMulti(c.ctx, ops...)
		refused, ok := errors.AsType[*coord.MultiError](err)
		if !ok {
			return w, err
		}
		code, ok := codeOf(refused.Err)
		if !ok {
			return w, err
		}
		return instead(refused.Index, code)
	})
}

// opInMulti returns what an operation of a multi is. Of those that create a znode without
// a time to live, the mode decides and not the opcode.
func opInMulti(o jute.MultiOp) jute.Op {
	req, ok := o.Request.(*jute.CreateRequest)
	switch {
	case !ok:
		return o.Op
	case req.Flags == int32(coord.Container):
		return jute.OpCreateContainer
	}
	return jute.OpCreate
}

// misfit reports whether an operation of a multi asks for a time to live by its mode and
// has no place for one.
func misfit(o jute.MultiOp) bool {
	req, ok := o.Request.(*jute.CreateRequest)
	return ok && (req.Flags == int32(coord.PersistentTTL) || req.Flags == int32(coord.PersistentSequentialTTL))
}

// failingOp fails whatever there is: no version is negative but -1.
var failingOp = coord.CheckOp("/", coord.WithVersion(-2))
