package coord

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"coord/internal/failpoint"
	"coord/internal/replica"
)

// Bounds of a batch and of what waits in front of it.
const (
	maxBatchRequests = 2048
	maxBatchBytes    = 1 << 20 // a single larger request makes a batch of its own; see sharing

	// The queue holds 64 MiB, of which every request takes at least 4 KiB, so
	// 16384 small requests. Callers beyond that wait in order of arrival.
	maxQueueBytes  = 64 << 20
	minQueuedBytes = 4 << 10

	// maxOwnRequests bounds what the member itself has in the queue: it may have to
	// let go of a million sessions at once, which need no request to end.
	maxOwnRequests = 4096

	// maxSilencesPerTouch leaves the rest to the next touches.
	maxSilencesPerTouch = 1 << 16

	requestOverhead = 96 // encoded bytes of a request beside its paths and data, about
	idOverhead      = 8  // encoded bytes of an identity beside its texts, at most
)

// A pending is one caller's request on its way through the log.
type pending struct {
	req    request
	size   int64 // encoded bytes, about
	done   chan struct{}
	result result // set before done is closed
	err    error  // set before done is closed; nil if result holds the answer
	taken  bool   // guarded by proposer.mu: it is in a batch, so its outcome is open
	own    bool   // it is the member's, see submitOwn

	keptView
}

// A proposer is this member's way into the log of one group. It has one batch
// under way; what callers submit meanwhile becomes the next, so a lone write
// leaves at once and batches grow with the load. Requests keep the order of
// their submission.
//
// Exactly once: the process first starts an incarnation with a hello, and names
// every batch {member, incarnation, number}. Once a number has been attempted,
// its bytes are frozen and proposed again, at once after a change of leader,
// until the published state shows that it was applied. The state keeps the
// results of the last number, so an attempt that was applied though nobody
// heard of it is answered as well, and one that is applied again changes
// nothing.
type proposer struct {
	g    *group
	addr string

	ensemble string
	initial  *initCommand        // nil: this member may not start the group
	seeded   func() *initCommand // of a mount's group: initial as things stand; else nil
	space    *semaphore.Weighted
	wake     chan struct{} // holds 1: there is something in the queue

	// Owned by run.
	enc         *encoder
	requests    []request // of a batch while it is encoded
	incarnation uint64
	number      uint64

	mu      sync.Mutex
	queue   []*pending         // guarded by mu
	closed  error              // guarded by mu
	leader  replica.MemberID   // guarded by mu; as of the attempt under way
	attempt context.CancelFunc // guarded by mu; ends the attempt under way
	report  diskReport         // guarded by mu; what the next touch says of the disk

	creating map[SessionID]int // guarded by mu; requests under way, by the session to which each may leave an ephemeral

	held     *hold     // guarded by mu; nil unless it is to begin nothing
	silences []silence // guarded by mu; changes that the next touch carries
	underway underway  // guarded by mu
}

// A diskReport is what a member says of its disk.
type diskReport struct {
	freeBytes uint64
	low       bool
}

func newProposer(g *group, cfg *Config) *proposer {
	return &proposer{
		g: g, addr: cfg.advertised(), ensemble: cfg.Name, initial: cfg.initCommand(),
		space: semaphore.NewWeighted(maxQueueBytes), wake: make(chan struct{}, 1), enc: newEncoder(), creating: map[SessionID]int{},
	}
}

// trySubmit queues a request, or returns nil if it would have to wait.
func (p *proposer) trySubmit(r request) (*pending, error) {
	q := newPending(r)
	if !p.space.TryAcquire(q.cost()) {
		return nil, nil
	}
	return p.push(q)
}

// submit queues a request. It waits for space in the queue, in order of arrival.
func (p *proposer) submit(ctx context.Context, r request) (*pending, error) {
	q := newPending(r)
	if err := p.space.Acquire(ctx, q.cost()); err != nil {
		return nil, context.Cause(ctx)
	}
	return p.push(q)
}

// submitOwn queues a request of the member itself: an expiry, or the end of a
// session that nobody here uses any more. It goes before those of callers and needs
// no place in the queue, or a member that has more work than it can do would keep
// what the dead hold. It fails if very many wait already.
func (p *proposer) submitOwn(r request) (*pending, error) {
	q := newPending(r)
	q.own = true
	return p.push(q)
}

var errOwnQueueFull = errors.New("too many requests of this member wait")

func newPending(r request) *pending {
	return &pending{req: r, size: requestBytes(&r), done: make(chan struct{})}
}

// cost returns what q takes of the queue.
func (q *pending) cost() int64 {
	if q.own {
		return 0
	}
	return min(max(q.size, minQueuedBytes), maxQueueBytes)
}

// isDone reports whether q has been answered.
func (q *pending) isDone() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

// push queues q, for which space was acquired if it takes any.
func (p *proposer) push(q *pending) (*pending, error) {
	p.mu.Lock()
	if err := p.closed; err != nil {
		p.mu.Unlock()
		p.space.Release(q.cost())
		return nil, err
	}
	at := len(p.queue)
	if q.own {
		at = 0
		for at < len(p.queue) && p.queue[at].own {
			at++
		}
		if at == maxOwnRequests {
			p.mu.Unlock()
			return nil, errOwnQueueFull
		}
	}
	p.queue = slices.Insert(p.queue, at, q)
	p.countLocked(q, 1)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return q, nil
}

// withdraw takes q out of the queue. It reports false if q is in a batch already.
func (p *proposer) withdraw(q *pending) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q.taken {
		return false
	}
	if p.closed != nil {
		return true // refused by stop
	}
	for i, have := range p.queue {
		if have == q {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			p.countLocked(q, -1)
			q.taken = true
			p.space.Release(q.cost())
			return true
		}
	}
	return false
}

// finish tells whoever waits for q that it is answered, or that nobody will know. What an
// answer tells is published before.
func (p *proposer) finish(q *pending) {
	if ephemeralsIn(&q.req) > 0 {
		p.mu.Lock()
		p.countLocked(q, -1)
		p.mu.Unlock()
	}
	close(q.done)
}

// countLocked counts q, or does not count it any more, if it may leave an ephemeral.
func (p *proposer) countLocked(q *pending, by int) {
	if ephemeralsIn(&q.req) == 0 {
		return
	}
	if p.creating[q.req.session] += by; p.creating[q.req.session] == 0 {
		delete(p.creating, q.req.session)
	}
}

// creates reports whether something is under way that may leave a session an ephemeral.
func (p *proposer) creates(id SessionID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.creating[id] > 0
}

// requestBytes estimates the encoded size of r.
func requestBytes(r *request) int64 {
	n := int64(requestOverhead)
	for _, id := range r.identities {
		n += int64(len(id.Scheme)+len(id.ID)) + idOverhead
	}
	for i := range r.ops {
		o := &r.ops[i]
		n += int64(len(o.path)+len(o.data)) + requestOverhead
		n += aclBytes(o.acl)
	}
	for _, x := range r.reaps {
		n += int64(len(x.path)) + 32
	}
	if r.user != nil {
		n += int64(len(r.user.name) + len(r.user.hash.reveal()))
	}
	if r.template != nil {
		n += int64(len(r.template.path)) + aclBytes(r.template.list)
	}
	if r.change != nil {
		n += settingsBytes(&r.change.from) + settingsBytes(&r.change.to)
	}
	if r.step != nil && r.step.back != nil {
		n += int64(len(r.step.back.node.data)+len(r.step.back.quotas.data)) + aclBytes(r.step.back.node.acl) + aclBytes(r.step.back.quotas.acl)
	}
	if r.decree != nil {
		n += r.decree.size()
	}
	return n + int64(len(r.expiries))*32 + int64(len(r.forgotten))*10
}

func aclBytes(list []ACL) int64 {
	n := int64(0)
	for _, a := range list {
		n += int64(len(a.ID.Scheme)+len(a.ID.ID)) + 16
	}
	return n
}

func settingsBytes(set *settings) int64 {
	n := aclBytes(set.defaultACL) + int64(len(set.superDigest)) + requestOverhead
	for _, scheme := range set.schemes {
		n += int64(len(scheme)) + idOverhead
	}
	return n
}

// take returns the requests of the next batch.
func (p *proposer) take() []*pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, bytes, most := 0, int64(0), p.g.shared.batchBytes()
	for n < len(p.queue) && n < maxBatchRequests {
		if bytes += p.queue[n].size; n > 0 && bytes > most {
			break
		}
		n++
	}
	if n == 0 {
		return nil
	}
	batch := make([]*pending, n)
	copy(batch, p.queue)
	rest := copy(p.queue, p.queue[n:])
	clear(p.queue[rest:])
	p.queue = p.queue[:rest]
	for _, q := range batch {
		q.taken = true
		p.space.Release(q.cost())
	}
	return batch
}

// gather lets callers that can run, such as those who were just answered, submit
// before the next batch leaves: it yields for as long as the queue grows. Without
// it the first of them would have a batch, and a round of fsyncs, to itself.
func (p *proposer) gather() {
	for before := 0; ; {
		p.mu.Lock()
		n := len(p.queue)
		p.mu.Unlock()
		if n == before || n >= maxBatchRequests {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// run is the proposer's goroutine.
func (p *proposer) run() {
	err := p.serve(p.g.ctx)
	if p.g.ctx.Err() == nil && !errors.Is(err, errRemoved) {
		p.g.fail(err)
	}
	// One that was removed goes on to vote until raft does without it: its vote may be
	// needed for that. Then the host says so, or whoever is asked where the others are.
	p.stop(cmp.Or(context.Cause(p.g.ctx), err))
}

// errRemoved says that the group has removed this member.
var errRemoved = fmt.Errorf("%w: it was removed", ErrNotMember)

// serve joins the group and then proposes batches until ctx ends, or until there
// is a reason why this process cannot go on.
func (p *proposer) serve(ctx context.Context) error {
	if err := p.join(ctx); err != nil {
		return err
	}
	p.g.tellVersions()
	p.g.timeStoodStill.Store(true)
	// The first batch is a touch alone: from it on, the ensemble counts the silence
	// of this process, and the process that of the ensemble.
	if err := p.commit(ctx, nil, true); err != nil {
		return err
	}
	close(p.g.joined)
	touch := time.NewTicker(p.g.timing.touchEvery)
	defer touch.Stop()
	due := false
	for {
		p.waitOut(ctx)
		if !due {
			p.gather()
		}
		batch := p.refuseUnavailable(p.g.state(), p.take())
		if len(batch) == 0 && !due {
			select {
			case <-p.wake:
			case <-touch.C:
				due = true
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		began := time.Now()
		if err := p.commit(ctx, batch, due || takesSession(batch)); err != nil {
			p.abandon(batch, err)
			return err
		}
		p.rest(ctx, batch, began, time.Now())
		select {
		case <-touch.C:
			due = true
		default:
			due = false
		}
	}
}

// takesSession reports whether a batch may bring this process a session. A touch
// goes with it then: the session's time, here and at the leader, would otherwise
// count from a touch that may be long past, for example before a pause.
func takesSession(batch []*pending) bool {
	return slices.ContainsFunc(batch, func(q *pending) bool {
		return q.req.kind == requestOpenSession || q.req.kind == requestResume
	})
}

// stop refuses whatever is in the queue or still comes, because of err.
func (p *proposer) stop(err error) {
	p.mu.Lock()
	p.closed = err
	queue := p.queue
	p.queue = nil
	p.mu.Unlock()
	for _, q := range queue {
		q.err = err
		p.finish(q)
		p.space.Release(q.cost())
	}
}

// abandon ends the callers of a batch whose outcome nobody will learn, because of
// err.
func (p *proposer) abandon(batch []*pending, err error) {
	for _, q := range batch {
		q.err = &OutcomeError{cause: err, p: q}
		p.finish(q)
	}
}

// join starts the group, if nobody has, and then this process's incarnation.
// Nothing else is proposed, and nothing read, before. The record that it follows
// may be out of date while the log is replayed; the compare-and-set then fails
// and is tried again.
func (p *proposer) join(ctx context.Context) error {
	nonce := randomUint64()
	for ctx.Err() == nil {
		if err := p.g.barrier(ctx); err != nil {
			return err
		}
		s := p.g.state()
		if !s.started() {
			in := p.initial
			if p.seeded != nil {
				in = p.seeded()
			}
			if in != nil {
				p.propose(ctx, &command{kind: commandInit, group: p.g.id, member: p.g.member, init: in}, in.version)
			} else {
				pause(ctx, p.g.timing.retry)
			}
			continue
		}
		m := s.members.get(p.g.member)
		if err := p.admitted(s, m); err != nil {
			return err
		}
		if m.nonce == nonce && m.incarnation > 0 {
			p.incarnation = m.incarnation
			return nil
		}
		p.propose(ctx, &command{
			kind: commandHello, group: p.g.id, member: p.g.member,
			hello: &helloCommand{expected: m.incarnation, nonce: nonce, addr: p.addr},
		}, s.format())
	}
	return context.Cause(ctx)
}

func randomUint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

// admitted checks that the group takes this member.
func (p *proposer) admitted(s *state, m *memberRecord) error {
	switch {
	case s.ensemble != p.ensemble:
		return fmt.Errorf("%w: it is %q, not %q", ErrNotMember, s.ensemble, p.ensemble)
	case m == nil:
		return fmt.Errorf("%w: ensemble %q has no member %v", ErrNotMember, s.ensemble, p.g.member)
	case m.removed:
		return fmt.Errorf("%w from ensemble %q: member %v", errRemoved, s.ensemble, p.g.member)
	}
	return nil
}

// propose makes one attempt at a command whose success shows in the state.
func (p *proposer) propose(ctx context.Context, cmd *command, version FormatVersion) {
	p.enc.buf.Reset()
	p.enc.command(cmd, version)
	p.try(ctx, p.enc.buf.Bytes())
}

// commit proposes a batch until it is applied, and answers its callers. An error
// means that its outcome stays unknown.
//
// It is written in the version in force, which all members read, unless it puts a later
// one into force. That can only rise until the batch is applied.
func (p *proposer) commit(ctx context.Context, batch []*pending, withTouch bool) error {
	s := p.g.state()
	version := s.format()
	b := &batchCommand{incarnation: p.incarnation, number: p.number + 1, observed: p.g.highest.load()}
	if withTouch {
		b.touch = p.touch()
	}
	b.requests = p.requests[:0]
	for _, q := range batch {
		b.requests = append(b.requests, q.req)
		version = max(version, q.req.version)
	}
	p.enc.buf.Reset()
	p.enc.command(&command{kind: commandBatch, group: p.g.id, member: p.g.member, batch: b}, version)
	clear(b.requests) // what they refer to must not live on
	p.requests = b.requests
	frozen := p.enc.buf.Bytes()
	if len(frozen) > maxCommandBytes {
		return p.refuse(batch, b.touch)
	}
	first := p.g.clock.Elapsed()
	before, err := p.record()
	if err != nil {
		return err
	}
	p.setUnderway(underway{b.incarnation, b.number, batch})
	rec, err := p.repeat(ctx, b.number, frozen)
	p.setUnderway(underway{})
	if err != nil {
		return err
	}
	if len(rec.results) != len(batch) { // no member writes that
		return fmt.Errorf("batch %d of %d requests has %d results", b.number, len(batch), len(rec.results))
	}
	p.number = b.number
	switch {
	case b.touch == nil:
	case rec.touches > before.touches:
		p.touched(first)
	default:
		p.keep(b.touch) // the batch failed as a whole, its touch with it
	}
	p.g.points.Hit(failpoint.Reply)
	p.settleViews(batch)
	for i, q := range batch {
		q.result = rec.results[i]
		p.finish(q)
	}
	return nil
}

// refuseUnavailable answers those requests that the version in force does not have, and
// returns the others. The log never sees them: members that are older could not read it.
func (p *proposer) refuseUnavailable(s *state, batch []*pending) []*pending {
	return slices.DeleteFunc(batch, func(q *pending) bool {
		if s.available(&q.req) {
			return false
		}
		q.err = ErrUnimplemented
		p.finish(q)
		return true
	})
}

// refuse answers a batch that no log takes and no member could read. Nothing of it
// was attempted, so its number is free.
func (p *proposer) refuse(batch []*pending, t *touch) error {
	for _, q := range batch {
		q.err = ErrTooLarge
		p.finish(q)
	}
	if t != nil {
		p.keep(t)
	}
	return nil
}

// keep has the next touch carry the changes of one that had no effect.
func (p *proposer) keep(t *touch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silences = append(t.silences, p.silences...)
}

// repeat attempts a frozen batch until this member's record shows its number.
func (p *proposer) repeat(ctx context.Context, number uint64, frozen []byte) (*memberRecord, error) {
	for {
		p.try(ctx, frozen)
		m, err := p.record()
		switch {
		case m != nil && m.incarnation == p.incarnation && m.number == number && m.digest == digestOf(frozen):
			return m, nil // even if it has removed this member
		case err != nil:
			return nil, err
		case m.number >= number:
			return nil, fmt.Errorf("batch %d of member %v was applied with other bytes", number, p.g.member)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
	}
}

// record returns what the group knows of this process. An error means that it does
// not take this process any more.
func (p *proposer) record() (*memberRecord, error) {
	m := p.g.state().members.get(p.g.member)
	switch {
	case m == nil || m.removed:
		return m, fmt.Errorf("%w: member %v", errRemoved, p.g.member)
	case m.incarnation != p.incarnation:
		return m, fmt.Errorf("another process runs as member %v: incarnation %d has followed %d", p.g.member, m.incarnation, p.incarnation)
	}
	return m, nil
}

// try makes one attempt at proposing b. The state shows whether it was applied.
// It ends early when another leader is elected, because a proposal that was
// forwarded to the old one is lost without a word.
func (p *proposer) try(ctx context.Context, b []byte) {
	attempt, cancel := context.WithTimeout(ctx, p.g.timing.proposeAttempt)
	defer cancel()
	role := p.g.currentRole()
	p.mu.Lock()
	p.leader, p.attempt = role.Leader, cancel
	p.mu.Unlock()
	p.g.points.Hit(failpoint.ProposeBegin)
	err := p.g.host.Propose(attempt, replica.GroupID(p.g.id), b)
	p.g.points.Hit(failpoint.ProposeEnd)
	p.mu.Lock()
	p.attempt = nil
	p.mu.Unlock()
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, replica.ErrNotReady) || errors.Is(err, replica.ErrBusy):
		pause(ctx, p.g.timing.retry)
	case errors.Is(err, replica.ErrUnknownOutcome):
		p.g.log.Debug("attempt without an answer", slog.Any("err", err))
	default:
		p.g.log.Warn("proposal refused", slog.Any("err", err))
		pause(ctx, p.g.timing.retry)
	}
}

// leaderChanged ends an attempt that went to another leader, and a hold that was for
// its successor.
func (p *proposer) leaderChanged(r replica.Role) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil && r.Leader != 0 && r.Leader != p.held.leader {
		p.endHoldLocked(p.held)
	}
	if p.attempt != nil && r.Leader != 0 && r.Leader != p.leader {
		p.attempt()
	}
}

// touch returns the sign of life that goes with the next batch.
func (p *proposer) touch() *touch {
	p.mu.Lock()
	n := min(len(p.silences), maxSilencesPerTouch)
	t := &touch{freeBytes: p.report.freeBytes, lowOnSpace: p.report.low, silences: p.silences[:n:n]}
	p.silences = p.silences[n:]
	p.mu.Unlock()
	if p.g.leading() {
		t.markMS = time.Now().UnixMilli()
		t.gapMS = p.markGap(t.markMS).Milliseconds()
	}
	return t
}

// markGap returns how much time a mark may claim to have passed: what this member
// has measured since it last saw group time move. But group time stood still
// while the whole ensemble was down, so the first leader after that asks for the
// largest step until group time has reached its clock.
func (p *proposer) markGap(nowMS int64) time.Duration {
	behind := time.Duration(nowMS-p.g.state().timeMS) * time.Millisecond
	if behind <= 2*p.g.timing.touchEvery {
		p.g.timeStoodStill.Store(false)
	}
	if p.g.timeStoodStill.Load() {
		return maxTimeStepMS * time.Millisecond
	}
	return max(p.g.sinceMark(), time.Millisecond)
}

// touched takes note of an acknowledged touch whose first attempt began at
// first: the sessions of this process live on from there.
func (p *proposer) touched(first time.Duration) { p.g.lastTouch.Store(max(int64(first), 1)) }

// silence has the next touch say that this process no longer speaks for a
// session.
func (p *proposer) silence(id SessionID, generation uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silences = append(p.silences, silence{id, generation, true})
}

// reportDisk sets what the next touch says of the disk.
func (p *proposer) reportDisk(r diskReport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report = r
}
