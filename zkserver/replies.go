package zkserver

import (
	"errors"
	"strings"

	"coord"
	"coord/internal/jute"
)

// answer makes the answer to the first request of the backlog, behind the notifications
// that the client must have had before (C2). An error ends the connection without one.
func (c *conn) answer(r *request) error {
	if err := c.vouch(); err != nil {
		return err
	}
	switch {
	case r.op == jute.OpAuth:
		c.reply(r.xid, 0, r.code, nil) // Java's clients ask as XidAuth, Go's as any other
		c.closing = r.code != jute.OK
		return nil
	case !known(r.op):
		c.reply(r.xid, -1, jute.Unimplemented, nil)
		c.closing = true
		return nil
	case r.op == jute.OpCloseSession:
		return c.answerClose(r)
	case r.write != nil:
		return c.answerWrite(r)
	}
	if r.sync != nil {
		if r.sync.err != nil {
			return r.sync.err
		}
		r.code = r.sync.code
	}
	v, err := c.backlog.viewOf(r, c.now)
	switch {
	case err != nil:
		return err
	case v == nil:
		return errViewLost
	case r.code != jute.OK:
		return c.sendFrom(v, r.xid, r.code, nil)
	}
	return c.answerFrom(v, r)
}

// sendFrom tells the notifications of what v shows, and then an answer from it.
func (c *conn) sendFrom(v *coord.View, xid int32, code jute.Code, body jute.Record) error {
	if code != jute.OK {
		body = nil
	}
	err := c.notifyShown(v)
	if err == nil {
		c.reply(xid, int64(v.ZXID()), code, body)
	}
	return err
}

// sendWrite tells the notifications up to a write, and then its answer. The client takes the
// zxid of the answer for what it has seen of everything, so if there are mounts it is not
// that of the write, which is of one group, but the least of all.
func (c *conn) sendWrite(r *request, code jute.Code, body jute.Record) error {
	if code != jute.OK {
		body = nil
	}
	seen := r.write.ZXID()
	err := c.notify(seen)
	if err == nil && c.s.mounted() {
		var v *coord.View
		if v, err = c.now(); err == nil {
			seen = min(seen, v.ZXID())
		}
	}
	if err == nil {
		c.reply(r.xid, int64(seen), code, body)
	}
	return err
}

// answerWrite answers a write, whose outcome is known.
func (c *conn) answerWrite(r *request) error {
	results, err := r.write.Results(c.ctx)
	if r.op == jute.OpMulti {
		return c.answerMulti(r, results, err)
	}
	code, ok := codeOf(err)
	if !ok {
		return err
	}
	var body jute.Record
	if code == jute.OK {
		body = resultOf(r.op, results[0])
	}
	return c.sendWrite(r, code, body)
}

// resultOf returns the answer to an operation that succeeded.
func resultOf(o jute.Op, res coord.OpResult) jute.Record {
	switch o { //nolint:exhaustive // the others have none
	case jute.OpCreate:
		return &jute.CreateResponse{Path: res.Path}
	case jute.OpCreate2, jute.OpCreateContainer, jute.OpCreateTTL:
		return &jute.Create2Response{Path: res.Path, Stat: statOf(res.Stat)}
	case jute.OpSetData, jute.OpSetACL:
		return &jute.StatResponse{Stat: statOf(res.Stat)}
	}
	return nil
}

// answerMulti answers a multi. Its failure is no failure of the request: the answer
// has what became of each operation.
func (c *conn) answerMulti(r *request, results []coord.OpResult, err error) error {
	failed, ok := errors.AsType[*coord.MultiError](err)
	if !ok {
		code, ok := codeOf(err)
		if !ok {
			return err
		}
		return c.sendWrite(r, code, succeeded(r.body.(*jute.MultiRequest), results))
	}
	resp, err := c.failedMulti(r, failed)
	if err != nil {
		return err
	}
	return c.sendWrite(r, jute.OK, resp)
}

func succeeded(req *jute.MultiRequest, results []coord.OpResult) *jute.MultiResponse {
	resp := &jute.MultiResponse{}
	for i, res := range results {
		o := req.Ops[i].Op
		body := resultOf(o, res)
		switch o { //nolint:exhaustive // the others are told by their own numbers
		case jute.OpCreateContainer, jute.OpCreateTTL:
			o = jute.OpCreate2
		case jute.OpCheck:
			body = nil
		}
		resp.Results = append(resp.Results, jute.MultiResult{Op: o, Response: body})
	}
	return resp
}

func (c *conn) failedMulti(r *request, failed *coord.MultiError) (*jute.MultiResponse, error) {
	n := len(r.body.(*jute.MultiRequest).Ops)
	code, ok := codeOf(failed.Err)
	if !ok {
		return nil, failed
	}
	if r.fault != jute.OK && failed.Index == r.faultAt {
		code = r.fault
	}
	resp := &jute.MultiResponse{Results: make([]jute.MultiResult, n)}
	for i := range resp.Results {
		res := &resp.Results[i]
		res.Op = jute.OpError
		switch {
		case i == failed.Index:
			res.Err = code
		case i > failed.Index:
			res.Err = jute.RuntimeInconsistency
		}
	}
	return resp, nil
}

// answerClose ends the session, and the connection behind the answer.
func (c *conn) answerClose(r *request) error {
	c.unlink()
	if err := c.session.Close(); err != nil {
		return err
	}
	c.closing = true
	if c.local {
		c.s.locals.leave(c, int64(c.id), 0) // before its client can learn that it is closed
	}
	v, err := c.s.c.View(c.ctx, coord.AllowStale())
	if err != nil {
		return err
	}
	return c.sendFrom(v, r.xid, jute.OK, nil)
}

// answerFrom answers what changes nothing from a view.
func (c *conn) answerFrom(v *coord.View, r *request) error {
	switch req := r.body.(type) {
	case *jute.ReadRequest:
		return c.answerRead(v, r, req)
	case *jute.PathRequest:
		body, code := readPath(v, r.op, req.Path)
		return c.sendFrom(v, r.xid, code, body)
	case *jute.PrefixRequest:
		return c.sendFrom(v, r.xid, jute.OK, &jute.StringsResponse{Strings: ephemerals(v, req.Prefix)})
	case *jute.SyncRecord:
		return c.sendFrom(v, r.xid, jute.OK, req)
	case *jute.ReconfigRequest:
		return c.sendFrom(v, r.xid, jute.OK, r.sync.config)
	case *jute.MultiRequest:
		body, code := multiRead(v, req, c.s.o.MaxOutstandingBytes)
		return c.sendFrom(v, r.xid, code, body)
	case *jute.WatchRequest:
		return c.answerWatch(v, r, req)
	case *jute.CheckWatchesRequest:
		return c.answerWatch(v, r, &req.WatchRequest)
	case *jute.SetWatchesRequest:
		return c.setWatches(v, r.xid, &jute.SetWatches2Request{SetWatchesRequest: *req})
	case *jute.SetWatches2Request:
		return c.setWatches(v, r.xid, req)
	}
	if r.op == jute.OpWhoAmI {
		return c.sendFrom(v, r.xid, jute.OK, c.whoAmI())
	}
	return c.sendFrom(v, jute.XidPing, jute.OK, nil)
}

// vouch returns nil while the ensemble will let the session live for two thirds of its
// timeout. Whatever a client hears makes it believe in its session for as long (C4).
func (c *conn) vouch() error {
	if !c.local && c.session.SinceSignOfLife() > c.timeout/3 {
		return errQuorumLost
	}
	return nil
}

// readPathOf returns the path that a read means: the empty one is the root's.
func readPathOf(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

// readCode returns what a read answers to an error: a path that is none names no znode.
func readCode(err error) jute.Code {
	if errors.Is(err, coord.ErrBadArguments) {
		return jute.NoNode
	}
	code, ok := codeOf(err)
	if !ok {
		return jute.SystemError // views have no other errors
	}
	return code
}

// answerRead answers the reads that can set a watch, and sets it.
func (c *conn) answerRead(v *coord.View, r *request, req *jute.ReadRequest) error {
	if r.op == jute.OpExists && strings.Contains(req.Path, "\x00") {
		return c.sendFrom(v, r.xid, jute.BadArguments, nil)
	}
	body, code := read(v, r.op, req.Path)
	if req.Watch && (code == jute.OK || code == jute.NoNode && r.op == jute.OpExists) {
		t := coord.DataWatcher
		if r.op == jute.OpGetChildren || r.op == jute.OpGetChildren2 {
			t = coord.ChildrenWatcher
		}
		refused, err := c.watch(v, coord.Registration{Path: req.Path, Type: t})
		if err != nil {
			return err
		}
		if refused != jute.OK {
			code = refused
		}
	}
	return c.sendFrom(v, r.xid, code, body)
}

// read answers exists, getData, getChildren and getChildren2.
func read(v *coord.View, o jute.Op, path string) (jute.Record, jute.Code) {
	path = readPathOf(path)
	switch o { //nolint:exhaustive // see above
	case jute.OpGetChildren, jute.OpGetChildren2:
		names, stat, err := v.Children(path)
		if err != nil {
			return nil, readCode(err)
		}
		if o == jute.OpGetChildren {
			return &jute.StringsResponse{Strings: names}, jute.OK
		}
		return &jute.GetChildren2Response{Children: names, Stat: statOf(stat)}, jute.OK
	}
	data, stat, err := v.Get(path)
	if err != nil {
		return nil, readCode(err)
	}
	if o == jute.OpExists {
		return &jute.StatResponse{Stat: statOf(stat)}, jute.OK
	}
	return &jute.GetDataResponse{Data: data, Stat: statOf(stat)}, jute.OK
}

// readPath answers getACL and getAllChildrenNumber.
func readPath(v *coord.View, o jute.Op, path string) (jute.Record, jute.Code) {
	path = readPathOf(path)
	if o == jute.OpGetAllChildrenNumber {
		n, err := v.AllChildrenNumber(path)
		if err != nil {
			return nil, readCode(err)
		}
		return &jute.IntResponse{Value: int32(n)}, jute.OK
	}
	list, stat, err := v.ACL(path)
	if err != nil {
		return nil, readCode(err)
	}
	acl := make([]jute.ACL, len(list))
	for i, a := range list {
		acl[i] = jute.ACL{Perms: int32(a.Perms), Scheme: a.ID.Scheme, ID: a.ID.ID}
	}
	return &jute.GetACLResponse{ACL: acl, Stat: statOf(stat)}, jute.OK
}

// ephemerals returns those of the session whose paths begin with a prefix.
func ephemerals(v *coord.View, prefix string) []string {
	if strings.TrimSpace(prefix) == "" {
		prefix = "/"
	}
	paths := v.Ephemerals(prefix)
	if paths == nil {
		paths = []string{}
	}
	return paths
}

// multiRead answers several reads from one view, each by itself. Flags for watches in it
// mean nothing. It is refused if the answers to several are longer than limit: a few bytes
// can ask for the same megabytes over and over.
func multiRead(v *coord.View, req *jute.MultiRequest, limit int) (jute.Record, jute.Code) {
	resp := &jute.MultiResponse{}
	size := 0
	for _, o := range req.Ops {
		if o.Op != jute.OpGetData && o.Op != jute.OpGetChildren {
			return nil, jute.MarshallingError
		}
		res := jute.MultiResult{Op: o.Op}
		if res.Response, res.Err = read(v, o.Op, o.Request.(*jute.ReadRequest).Path); res.Err != jute.OK {
			res.Op = jute.OpError
		}
		resp.Results = append(resp.Results, res)
		if size += bytesOf(res.Response); size > limit && len(req.Ops) > 1 {
			return nil, jute.BadArguments
		}
	}
	return resp, jute.OK
}

// bytesOf returns how long the answer to a read of a multiRead is, about.
func bytesOf(r jute.Record) int {
	const about = 80 // a header and a Stat
	switch r := r.(type) {
	case *jute.GetDataResponse:
		return about + len(r.Data)
	case *jute.StringsResponse:
		n := about
		for _, name := range r.Strings {
			n += 4 + len(name)
		}
		return n
	}
	return about
}

// whoAmI tells the client who it is, without secrets.
func (c *conn) whoAmI() *jute.WhoAmIResponse {
	resp := &jute.WhoAmIResponse{Clients: []jute.ClientInfo{}}
	for _, id := range c.session.Identities() {
		user := id.ID
		if id.Scheme == "digest" {
			user, _, _ = strings.Cut(user, ":")
		}
		resp.Clients = append(resp.Clients, jute.ClientInfo{Scheme: id.Scheme, User: user})
	}
	return resp
}

func statOf(s coord.Stat) jute.Stat {
	return jute.Stat{
		Czxid: int64(s.Czxid), Mzxid: int64(s.Mzxid), Ctime: s.Ctime, Mtime: s.Mtime,
		Version: s.Version, Cversion: s.Cversion, Aversion: s.Aversion, EphemeralOwner: int64(s.EphemeralOwner),
		DataLength: s.DataLength, NumChildren: s.NumChildren, Pzxid: int64(s.Pzxid),
	}
}
