package coord

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A Client is what a [Coordinator] and a [Session] have in common: the
// operations on the tree. Both are safe for concurrent use, and both see their
// own writes.
//
// Arguments are copied before a call returns; results belong to the caller. A
// call ends when it is done, when its context ends, when the session ends, or
// after [Config.OperationTimeout]. A write that was handed to the log by then
// fails with an error that satisfies errors.Is for [ErrUnknownOutcome]; every
// other error means that the write had no effect.
type Client interface {
	Create(ctx context.Context, path string, data []byte, opts ...CreateOption) (string, Stat, error)
	Get(ctx context.Context, path string, opts ...ReadOption) ([]byte, Stat, error)
	Exists(ctx context.Context, path string, opts ...ReadOption) (Stat, bool, error)
	SetData(ctx context.Context, path string, data []byte, opts ...SetDataOption) (Stat, error)
	Delete(ctx context.Context, path string, opts ...DeleteOption) error
	Children(ctx context.Context, path string, opts ...ListOption) ([]string, Stat, error)
	AllChildrenNumber(ctx context.Context, path string, opts ...ReadOption) (int, error)
	Ephemerals(ctx context.Context, prefix string, opts ...ReadOption) ([]string, error)
	ACL(ctx context.Context, path string, opts ...ReadOption) ([]ACL, Stat, error)
	SetACL(ctx context.Context, path string, list []ACL, opts ...SetACLOption) (Stat, error)
	Add(ctx context.Context, path string, delta int64, opts ...SetDataOption) (int64, Stat, error)
	Multi(ctx context.Context, ops ...Op) ([]OpResult, error)
	Sync(ctx context.Context, path string) error
	View(ctx context.Context, opts ...ReadOption) (*View, error)
	Watch(ctx context.Context, path string, mode WatchMode, opts ...WatchOption) (*Watch, error)
	NewWatchSet(ctx context.Context) (*WatchSet, error)
}

var (
	_ Client = (*Coordinator)(nil)
	_ Client = (*Session)(nil)
)

// Create makes a znode and returns its path, which differs from the given one
// for the sequential modes, and its stat. Null data (nil) and empty data are
// different values. The default mode is [Persistent].
//
// Errors, the first that applies: [ErrBadArguments] (mode, time to live),
// [ErrTooLarge], [ErrSessionExpired], [ErrInvalidACL], [ErrNoNode] (no parent),
// [ErrNoAuth], [ErrBadArguments] (path), [ErrNodeExists],
// [ErrNoChildrenForEphemerals], [ErrNoSpace], [ErrQuotaExceeded], [ErrLimitExceeded].
func (s *Session) Create(ctx context.Context, path string, data []byte, opts ...CreateOption) (string, Stat, error) {
	res, err := s.write(ctx, CreateOp(path, data, opts...).op)
	return res.path, res.stat, err
}

// Get returns the data and stat of a znode. It fails with [ErrNoNode],
// [ErrNoAuth] and [ErrSuspended].
func (s *Session) Get(ctx context.Context, path string, opts ...ReadOption) ([]byte, Stat, error) {
	st, err := s.read(ctx, "get", path, readOptionsOf(opts))
	if err != nil {
		return nil, Stat{}, err
	}
	n, code := st.readable(path, s.ids())
	if code != codeOK {
		return nil, Stat{}, &OpError{Op: "get", Path: path, Err: code, Detail: pathDetail(path, code)}
	}
	return bytes.Clone(n.data), n.stat(), nil
}

// Exists returns the stat of a znode and whether it exists.
func (s *Session) Exists(ctx context.Context, path string, opts ...ReadOption) (Stat, bool, error) {
	st, err := s.read(ctx, "exists", path, readOptionsOf(opts))
	if err != nil {
		return Stat{}, false, err
	}
	n, code := st.readable(path, s.ids())
	switch code {
	case codeOK:
		return n.stat(), true, nil
	case ErrNoNode:
		return Stat{}, false, nil
	}
	return Stat{}, false, &OpError{Op: "exists", Path: path, Err: code, Detail: pathDetail(path, code)}
}

// SetData replaces the data of a znode and returns its new stat. Setting the same
// bytes is a change like any other.
//
// Errors, the first that applies: [ErrTooLarge], [ErrSessionExpired],
// [ErrBadArguments], [ErrNoNode], [ErrNoAuth], [ErrNoSpace], [ErrQuotaExceeded],
// [ErrBadVersion].
func (s *Session) SetData(ctx context.Context, path string, data []byte, opts ...SetDataOption) (Stat, error) {
	res, err := s.write(ctx, SetDataOp(path, data, opts...).op)
	return res.stat, err
}

// Delete deletes a znode without children.
//
// Errors, the first that applies: [ErrSessionExpired], [ErrBadArguments],
// [ErrNoNode], [ErrNoAuth], [ErrBadVersion], [ErrNotEmpty].
func (s *Session) Delete(ctx context.Context, path string, opts ...DeleteOption) error {
	_, err := s.write(ctx, DeleteOp(path, opts...).op)
	return err
}

// Children returns the names of the children of a znode, sorted by bytes, and the
// stat of the znode. [After] and [Limit] make pages of it.
func (s *Session) Children(ctx context.Context, path string, opts ...ListOption) ([]string, Stat, error) {
	var o listOptions
	for _, opt := range opts {
		opt.applyList(&o)
	}
	if o.limit < 0 {
		return nil, Stat{}, &OpError{Op: "children", Path: path, Err: ErrBadArguments, Detail: fmt.Sprintf("Limit(%d)", o.limit)}
	}
	st, err := s.read(ctx, "children", path, o.readOptions)
	if err != nil {
		return nil, Stat{}, err
	}
	names, stat, code := st.children(path, o, s.ids())
	if code != codeOK {
		return nil, Stat{}, &OpError{Op: "children", Path: path, Err: code, Detail: pathDetail(path, code)}
	}
	return names, stat, nil
}

// AllChildrenNumber returns the number of znodes below path, at any depth,
// whatever their ACLs. It walks them.
func (s *Session) AllChildrenNumber(ctx context.Context, path string, opts ...ReadOption) (int, error) {
	if !s.g.state().mounts.none() {
		v, err := s.View(ctx, opts...)
		if err != nil {
			return 0, err
		}
		return v.AllChildrenNumber(path)
	}
	st, err := s.read(ctx, "allChildrenNumber", path, readOptionsOf(opts))
	if err != nil {
		return 0, err
	}
	n, code := st.countBelow(path, s.ids())
	if code != codeOK {
		return 0, &OpError{Op: "allChildrenNumber", Path: path, Err: code, Detail: pathDetail(path, code)}
	}
	return n, nil
}

// Ephemerals returns the paths of the session's own ephemeral znodes that start
// with prefix, sorted. The prefix is one of strings: "/a" is one of "/ab".
func (s *Session) Ephemerals(ctx context.Context, prefix string, opts ...ReadOption) ([]string, error) {
	if !s.g.state().mounts.none() {
		v, err := s.View(ctx, opts...)
		if err != nil {
			return nil, err
		}
		return v.Ephemerals(prefix), nil
	}
	st, err := s.read(ctx, "ephemerals", prefix, readOptionsOf(opts))
	if err != nil {
		return nil, err
	}
	return st.ephemerals(s.id, prefix), nil
}

// ACL returns the access control list of a znode and its stat. It needs
// [PermRead] or [PermAdmin]; without the latter, hashes of passwords are masked.
func (s *Session) ACL(ctx context.Context, path string, opts ...ReadOption) ([]ACL, Stat, error) {
	st, err := s.read(ctx, "acl", path, readOptionsOf(opts))
	if err != nil {
		return nil, Stat{}, err
	}
	list, stat, code := st.aclOf(path, s.ids())
	if code != codeOK {
		return nil, Stat{}, &OpError{Op: "acl", Path: path, Err: code, Detail: pathDetail(path, code)}
	}
	return list, stat, nil
}

// SetACL replaces the access control list of a znode and returns its new stat.
// [WithVersion] compares with the version of the ACL.
//
// Errors, the first that applies: [ErrSessionExpired], [ErrBadArguments],
// [ErrInvalidACL], [ErrNoNode], [ErrNoAuth], [ErrBadVersion].
func (s *Session) SetACL(ctx context.Context, path string, list []ACL, opts ...SetACLOption) (Stat, error) {
	o := SetACLOp(path, list, opts...).op
	res, err := s.write(ctx, o)
	s.auditSetACL(path, o.acl, res.stat, err)
	return res.stat, err
}

func (s *Session) auditSetACL(path string, list []ACL, stat Stat, err error) {
	about := []slog.Attr{slog.String("session", s.id.String()), auditIDs(s.ids()), slog.String("path", cutText(path)), s.c.auditACL(list)}
	if err == nil {
		about = append(about, slog.Int("aversion", int(stat.Aversion)))
	}
	s.c.auditResult(actSetACL, err, about...)
}

// Add adds delta to the data of a znode, which is a decimal number, and returns
// the sum, exactly once. See [AddOp].
func (s *Session) Add(ctx context.Context, path string, delta int64, opts ...SetDataOption) (int64, Stat, error) {
	res, err := s.write(ctx, AddOp(path, delta, opts...).op)
	return res.value, res.stat, err
}

// Multi executes all operations in order, as one write with one zxid, or none.
// Each sees what the earlier ones did; nobody sees a part. If one fails, the
// error is a [*MultiError].
func (s *Session) Multi(ctx context.Context, ops ...Op) ([]OpResult, error) {
	list, err := s.multiOps(ctx, ops)
	if err != nil {
		return nil, err
	}
	q, err := s.submit(ctx, request{kind: requestMulti, ops: list})
	if err != nil {
		err = &OpError{Op: "multi", Err: err}
		s.auditOps(list, nil, err)
		return nil, err
	}
	results, err := s.answerMulti(list, q)
	s.auditOps(list, q, err)
	return results, err
}

// multiOps returns the operations of a multi with data of their own, if nothing is wrong
// with them that can be seen before they are proposed.
func (s *Session) multiOps(ctx context.Context, ops []Op) ([]op, error) {
	if err := checkMultiCount(len(ops)); err != nil {
		return nil, err
	}
	list := make([]op, len(ops))
	for i := range ops {
		list[i] = ops[i].op
		list[i].data = bytes.Clone(list[i].data)
		if err := s.checkOp(ctx, &list[i]); err != nil {
			return nil, refusedMulti(len(ops), i, err)
		}
	}
	return list, checkMulti(list)
}

// answerMulti returns the answer to a multi as its caller sees it.
func (s *Session) answerMulti(ops []op, res *result) ([]OpResult, error) {
	if res.code != codeOK {
		return nil, &OpError{Op: "multi", Err: res.code}
	}
	if res.firstError() != codeOK {
		failed := multiError(ops, res.ops)
		failed.Err.Detail = s.detail(&ops[failed.Index], res.ops[failed.Index])
		return nil, failed
	}
	return opResults(res.ops), nil
}

// Sync waits until this member reflects every write that was acknowledged, by
// any member, before the call; reads after it see them.
func (s *Session) Sync(ctx context.Context, path string) error {
	_, err := s.read(ctx, "sync", path, readOptions{linearizable: true})
	return err
}

// View returns the tree as it is now. See [View].
func (s *Session) View(ctx context.Context, opts ...ReadOption) (*View, error) {
	var v *View
	err := s.reading(ctx, "view", "", readOptionsOf(opts), func(ctx context.Context, o readOptions) (err error) {
		v, err = s.view(ctx, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Watch opens a stream of the changes to path, from now on unless an option says
// otherwise: a read that comes after it, on the same member, misses nothing that
// the stream does not tell. The znode need not exist. ctx bounds the whole stream.
// A member without a quorum can be watched: what happens is told when it is known.
//
// Options: [WithInitial], [From], [WithData], [WithTypes], [WithProgress].
func (s *Session) Watch(ctx context.Context, path string, mode WatchMode, opts ...WatchOption) (*Watch, error) {
	var o watchOptions
	for _, opt := range opts {
		opt.applyWatch(&o)
	}
	fault := pathFault(path)
	if fault == "" {
		fault = o.fault()
	}
	if mode != Node && mode != Children && mode != Subtree {
		fault = mode.String()
	}
	if fault != "" {
		return nil, &OpError{Op: "watch", Path: path, Err: ErrBadArguments, Detail: fault}
	}
	// ctx is that of the whole stream; opening it waits no longer than other calls.
	waiting, cancel := s.waiting(ctx)
	defer cancel()
	err := s.alive()
	if err == nil {
		err = s.prepareWatch(waiting, path, mode, &o)
	}
	var w *Watch
	if err == nil {
		w, err = s.c.root.watch(ctx, s, path, mode, o)
	}
	if err != nil {
		return nil, &OpError{Op: "watch", Path: path, Err: err}
	}
	return w, nil
}

// prepareWatch waits until what a watch is about to tell is known here.
func (s *Session) prepareWatch(ctx context.Context, path string, mode WatchMode, o *watchOptions) (err error) {
	if err = s.c.root.awaitJoined(ctx); err != nil {
		return err
	}
	if err = s.c.awaitMounts(ctx, path, mode); err != nil {
		return err
	}
	switch {
	case o.from != nil:
		o.at, err = s.c.reach(ctx, *o.from)
	case o.initial:
		o.view, err = s.view(ctx, readOptions{allowStale: true})
	}
	return err
}

// write executes one operation.
func (s *Session) write(ctx context.Context, o op) (opResult, error) {
	o.data = bytes.Clone(o.data)
	if err := s.checkOp(ctx, &o); err != nil {
		return opResult{}, err
	}
	res, err := s.submit(ctx, request{kind: requestWrite, ops: []op{o}})
	if err != nil {
		return opResult{}, &OpError{Op: o.kind.String(), Path: o.path, Err: err}
	}
	return s.answerWrite(&o, res)
}

// answerWrite returns the answer to one operation as its caller sees it.
func (s *Session) answerWrite(o *op, res *result) (opResult, error) {
	if res.code != codeOK {
		return opResult{}, &OpError{Op: o.kind.String(), Path: o.path, Err: res.code}
	}
	answer := res.ops[0]
	if answer.code != codeOK {
		return opResult{}, &OpError{Op: o.kind.String(), Path: o.path, Err: answer.code, Detail: s.detail(o, answer)}
	}
	return answer, nil
}

// detail says what there is to say about a refusal beyond its code, as things stand
// now.
func (s *Session) detail(o *op, answer opResult) string {
	switch answer.code {
	case ErrBadArguments:
		return cmp.Or(pathFault(o.path), quotaTextFault(o))
	case ErrQuotaExceeded:
		return s.c.serverHere(answer.path).state().quotaDetail(answer.path, s.ids())
	case ErrLimitExceeded:
		return s.ephemeralsDetail()
	}
	return ""
}

// checkOp finds what is wrong with an operation before it is proposed. The
// ensemble checks it again; here the error can name the value and the limit.
func (s *Session) checkOp(ctx context.Context, o *op) error {
	if _, known := opNames[o.kind]; !known {
		return &OpError{Op: "multi", Err: ErrBadArguments, Detail: "an operation is the zero Op"}
	}
	if err := s.checkData(ctx, o); err != nil {
		return err
	}
	if fault := aclFault(o.acl); fault != "" {
		return &OpError{Op: o.kind.String(), Path: o.path, Err: ErrInvalidACL, Detail: fault}
	}
	if len(o.path) > maxPathBytes {
		return &OpError{
			Op: o.kind.String(), Path: o.path, Err: ErrBadArguments,
			Detail: fmt.Sprintf("path of %d bytes, the limit is %d", len(o.path), maxPathBytes),
		}
	}
	return nil
}

// checkData refuses data that the settings refuse. If those that are known here do, it
// asks the ensemble: another member may have changed them.
func (s *Session) checkData(ctx context.Context, o *op) error {
	st, bytes := s.c.root.state(), int64(len(o.data))
	if !st.started() || bytes <= st.settings.maxDataBytes {
		return nil
	}
	if bytes <= maxMaxDataBytes {
		var err error
		if st, err = s.read(ctx, o.kind.String(), o.path, readOptions{linearizable: true}); err != nil {
			return err
		}
	}
	if most := st.settings.maxDataBytes; bytes > most {
		return &OpError{
			Op: o.kind.String(), Path: o.path, Err: ErrTooLarge,
			Detail: fmt.Sprintf("%d bytes of data, the limit is %d", bytes, most),
		}
	}
	return nil
}

func pathDetail(path string, code Code) string {
	if code == ErrBadArguments {
		return pathFault(path)
	}
	return ""
}

// read returns the state that a read may be answered from.
func (s *Session) read(ctx context.Context, name, path string, o readOptions) (*state, error) {
	var st *state
	err := s.reading(ctx, name, path, o, func(ctx context.Context, o readOptions) (err error) {
		st, err = s.c.readFrom(ctx, path, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

// reading has a read made, if the session may make it, for ctx and the operation timeout.
func (s *Session) reading(ctx context.Context, name, path string, o readOptions, read func(context.Context, readOptions) error) error {
	if o.allowStale && (o.linearizable || o.atLeast != nil) {
		return &OpError{Op: name, Path: path, Err: ErrBadArguments, Detail: "AllowStale excludes Linearizable and AtLeast"}
	}
	err := s.alive()
	if o.allowStale && !s.closedByUser() {
		err = nil // the state is no older for the session's end
	}
	if err == nil {
		waiting := ctx
		if o.linearizable || o.atLeast != nil || !s.g.hasJoined() || !s.g.state().mounts.none() {
			var cancel context.CancelFunc
			waiting, cancel = s.waiting(ctx)
			defer cancel()
		}
		if o.atLeast != nil {
			_, err = s.c.reach(waiting, *o.atLeast)
		}
		if err == nil {
			err = read(waiting, o)
		}
	}
	if err != nil {
		return &OpError{Op: name, Path: path, Err: err}
	}
	return nil
}

// waiting returns the context of a call that may have to wait: it ends with ctx,
// with the session, and when the operation timeout has passed.
func (s *Session) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(s.ctx, func() { end(context.Cause(s.ctx)) })
	if endsWithin(ctx, s.c.cfg.OperationTimeout) {
		return ctx, func() {
			unlink()
			end(nil)
		}
	}
	timed, cancel := context.WithTimeoutCause(ctx, s.c.cfg.OperationTimeout, ErrTimeout)
	return timed, func() {
		unlink()
		cancel()
		end(nil)
	}
}

// submit proposes a request of this session and waits for its result.
func (s *Session) submit(ctx context.Context, r request) (*result, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	r.session, r.generation, r.identities = s.id, s.generation, s.ids()
	if s.meter == nil {
		return s.execute(ctx, r, s.c.cfg.OperationTimeout)
	}
	return s.submitLimited(ctx, r)
}

// submitLimited is submit for a session with limits: the request waits for its turn.
func (s *Session) submitLimited(ctx context.Context, r request) (*result, error) {
	begin := time.Now()
	waiting, cancel := s.waiting(ctx)
	err := s.meter.admit(waiting, &r)
	cancel()
	if err != nil {
		return nil, err
	}
	var res *result
	if err = s.alive(); err == nil {
		res, err = s.execute(ctx, r, s.c.cfg.OperationTimeout-time.Since(begin))
	}
	s.meter.settle(&r, err)
	return res, err
}

// submit proposes a request and waits for its result, for ctx, for timeout, and
// for the end of life.
func (g *group) submit(ctx, life context.Context, r request, timeout time.Duration) (*result, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	r.timeMS = time.Now().UnixMilli()
	q, timeout, err := g.enqueue(ctx, life, r, timeout)
	if err != nil {
		return nil, err
	}
	var late <-chan time.Time
	if !endsWithin(ctx, timeout) {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-q.done:
		if q.err != nil {
			return nil, q.err
		}
		return &q.result, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-late:
		err = ErrTimeout
	case <-life.Done():
		err = context.Cause(life)
	}
	if g.proposer.withdraw(q) {
		return nil, err
	}
	return g.lastChance(q, err)
}

// endsWithin reports whether ctx ends by itself before timeout has passed, so that
// no timer is needed beside it.
func endsWithin(ctx context.Context, timeout time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= timeout
}

// enqueue waits for a place in the queue, for ctx, for timeout, and for the end of
// life. It returns what is left of timeout.
func (g *group) enqueue(ctx, life context.Context, r request, timeout time.Duration) (*pending, time.Duration, error) {
	if q, err := g.proposer.trySubmit(r); q != nil || err != nil {
		return q, timeout, err
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrTimeout)
	defer cancel()
	unlink := context.AfterFunc(life, cancel)
	defer unlink()
	q, err := g.proposer.submit(ctx, r)
	if err != nil && life.Err() != nil {
		err = context.Cause(life)
	}
	return q, timeout - time.Since(begin), err
}

// lastChance returns the answer if it came just now.
func (g *group) lastChance(q *pending, cause error) (*result, error) {
	select {
	case <-q.done:
		if q.err == nil {
			return &q.result, nil
		}
		if !errors.Is(q.err, ErrUnknownOutcome) {
			return nil, q.err
		}
	default:
	}
	return nil, &OutcomeError{cause: cause, p: q}
}
