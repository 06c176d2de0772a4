package coord

import (
	"bytes"
	"context"
	"slices"
	"time"
)

// A Write is a write that was begun with [Session.Begin] or [Session.BeginMulti] and
// goes its way whether or not anybody waits for it. Its methods may be called
// concurrently.
type Write struct {
	s     *Session
	g     *group // that executes it
	ops   []op   // without data
	multi bool
	q     *pending
}

// Begin starts a write and returns before its outcome is known, so that one caller
// can have many under way, which go through the log together. Those that one
// goroutine begins take effect in the order in which it begins them, also relative to
// writes of the session that it waits for; one that fails does not keep later ones
// from being made. That order is one for each mount.
//
// A write that is under way when its znode moves to another group or back, see
// [Coordinator.Mount], may be refused with [ErrWrongGroup]: nothing came of it, and it can
// be begun again.
//
// While the member has as many requests in wait as it takes, Begin waits for a place,
// in order of arrival, for ctx, the end of the session, and [Config.OperationTimeout].
// An error means that nothing was begun: it is one that the operation would have
// returned before anything was proposed, or one of that wait.
func (s *Session) Begin(ctx context.Context, o Op) (*Write, error) {
	one := o.op
	one.data = bytes.Clone(one.data)
	if err := s.checkOp(ctx, &one); err != nil {
		return nil, err
	}
	w, err := s.begin(ctx, request{kind: requestWrite, ops: []op{one}})
	if err != nil {
		return nil, &OpError{Op: one.kind.String(), Path: one.path, Err: err}
	}
	return w, nil
}

// BeginMulti is [Session.Begin] of a [Session.Multi].
func (s *Session) BeginMulti(ctx context.Context, ops ...Op) (*Write, error) {
	list, err := s.multiOps(ctx, ops)
	if err != nil {
		return nil, err
	}
	w, err := s.begin(ctx, request{kind: requestMulti, ops: list})
	if err != nil {
		return nil, &OpError{Op: "multi", Err: err}
	}
	return w, nil
}

// executingNow is executing for whoever does not wait for the result: it waits only if
// there is something to wait for.
func (s *Session) executingNow(ctx context.Context, r *request) (*group, error) {
	if s.g.state().mounts.none() {
		return s.g, nil
	}
	waiting, cancel := s.waiting(ctx)
	defer cancel()
	return s.executing(waiting, r)
}

func (s *Session) begin(ctx context.Context, r request) (*Write, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	began := time.Now()
	r.session, r.generation, r.identities = s.id, s.generation, s.ids()
	if s.meter != nil {
		waiting, cancel := s.waiting(ctx)
		err := s.meter.admit(waiting, &r)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	err := s.alive()
	var g *group
	if err == nil {
		g, err = s.executingNow(ctx, &r)
	}
	var q *pending
	if err == nil {
		r.timeMS = time.Now().UnixMilli()
		q, _, err = g.enqueue(ctx, s.ctx, r, s.c.cfg.OperationTimeout-time.Since(began))
	}
	if err != nil {
		s.meter.settle(&r, err)
		return nil, err
	}
	w := &Write{s: s, g: g, ops: withoutData(r.ops), multi: r.kind == requestMulti, q: q}
	if s.meter != nil && ephemeralsIn(&r) > 0 || changesACL(&r) {
		s.g.spawn(w.runFollow)
	}
	return w, nil
}

func changesACL(r *request) bool {
	return slices.ContainsFunc(r.ops, func(o op) bool { return o.kind == opSetACL })
}

// withoutData returns what errors and the audit log tell of operations, so that a Write
// that somebody keeps does not hold their data.
func withoutData(ops []op) []op {
	ops = slices.Clone(ops)
	for i := range ops {
		ops[i].data = nil
	}
	return ops
}

// runFollow does what is due when the outcome of a write is known, whoever waits for it:
// ephemerals are counted no more that were only proposed, and changes of ACLs are audited.
// There are at most as many of these as the queue and a batch hold.
func (w *Write) runFollow() {
	select {
	case <-w.q.done:
	case <-w.g.ctx.Done():
	}
	_, err := w.outcome()
	w.s.meter.settle(&w.q.req, err)
	w.s.auditOps(w.ops, &w.q.result, err)
}

// Done returns a channel that is closed when the outcome is known; or when the
// Coordinator has closed or failed, so that it never will be. By then the member's
// reads reflect the write.
func (w *Write) Done() <-chan struct{} { return w.q.done }

// ZXID returns the place of the write in the order of all writes. One that the ensemble
// has refused has a place as well. It is zero while the outcome is not known.
func (w *Write) ZXID() ZXID {
	if !w.q.isDone() || w.q.err != nil {
		return 0
	}
	return w.q.result.zxid
}

// Results waits until the write is Done, and for ctx and the end of the session, and
// returns what the write answered: for each operation its result, or its error as the
// method of that name returns it, a [*MultiError] for a multi. If the wait has
// ended before the outcome was known, the error satisfies errors.Is for
// [ErrUnknownOutcome]; the write goes on, and Results may be called again.
func (w *Write) Results(ctx context.Context) ([]OpResult, error) {
	if !w.q.isDone() {
		select {
		case <-w.q.done:
		case <-ctx.Done():
			return nil, w.unknown(context.Cause(ctx))
		case <-w.s.ctx.Done():
			return nil, w.unknown(context.Cause(w.s.ctx))
		}
	}
	return w.outcome()
}

func (w *Write) unknown(cause error) error { return w.fail(&OutcomeError{cause: cause, p: w.q}) }

func (w *Write) fail(err error) error {
	if w.multi {
		return &OpError{Op: "multi", Err: err}
	}
	return &OpError{Op: w.ops[0].kind.String(), Path: w.ops[0].path, Err: err}
}

// outcome returns what is known of a write that is done, or never will be.
func (w *Write) outcome() ([]OpResult, error) {
	switch {
	case !w.q.isDone():
		return nil, w.unknown(context.Cause(w.g.ctx))
	case w.q.err != nil:
		return nil, w.fail(w.q.err)
	case w.q.result.wasMisplaced():
		return nil, w.fail(ErrWrongGroup)
	case w.multi:
		return w.s.answerMulti(w.ops, &w.q.result)
	}
	res, err := w.s.answerWrite(&w.ops[0], &w.q.result)
	if err != nil {
		return nil, err
	}
	return opResults([]opResult{res}), nil
}

// auditOps tells the audit log of each change of an ACL among ops.
func (s *Session) auditOps(ops []op, res *result, err error) {
	for i := range ops {
		if ops[i].kind != opSetACL {
			continue
		}
		var stat Stat
		if err == nil {
			stat = res.ops[i].stat
		}
		s.auditSetACL(ops[i].path, ops[i].acl, stat, err)
	}
}

// SinceSignOfLife returns how long ago the last sign of life was sent that the ensemble
// has acknowledged: it ends no session of this process before the session's timeout has
// passed since then. A server that promises its client something tells it by this how
// long the promise is good for.
func (s *Session) SinceSignOfLife() time.Duration { return s.sinceSign() }

// Leave ends the handle and leaves the session to itself, without waiting: its ephemerals
// stay until its timeout has passed or it is resumed, on whatever member. It is what a
// server does whose client has gone, and may come back. Further calls do nothing.
func (s *Session) Leave() {
	if s.ended() || !s.end(ErrClosed) || s.id == 0 {
		return
	}
	s.hush()
	s.leaveElsewhere()
	s.g.release(s)
}
