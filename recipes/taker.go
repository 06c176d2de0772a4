package recipes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"coord"
)

// maxBatch is how many items are taken in one write, and how many delayed ones put
// among the others.
const maxBatch = 1000

// Take waits for an item and takes it for s. It is in the hands of the caller until it is
// settled, or until s ends.
//
// It fails with the cause of ctx; with that of the session's context; at once with
// [coord.ErrSuspended] while this member has no contact with a quorum, but not any more
// once it waits; with [ErrLost] if somebody deletes its place in the line; with
// [ErrOtherRecipe] if the path is used for something else; with
// [coord.ErrTooManyWatches]; and with what reads and writes fail with. What it has left
// behind is then deleted in the background, or ends with the session; an item that it had
// taken without knowing counts as delivered.
//
// Items that cannot be decoded, and those that were delivered as often as
// [WithMaxDeliveries] allows, become dead letters on the way.
func (q *Queue[T]) Take(ctx context.Context, s *coord.Session) (*Delivery[T], error) {
	return one(q.take(ctx, s, 1, true))
}

// TryTake takes an item if there is one, as this member sees it, for which nobody waits
// already. Otherwise it fails with [ErrEmpty], and else as [Queue.Take] does.
func (q *Queue[T]) TryTake(ctx context.Context, s *coord.Session) (*Delivery[T], error) {
	return one(q.take(ctx, s, 1, false))
}

// TakeBatch waits for an item, and takes what there is, at most limit items, in one write
// and in order. Each of them is settled for itself; the [Delivery.AckOps] of several make
// one Multi. It fails as [Queue.Take] does, and with [coord.ErrBadArguments] if limit is
// not from 1 to 1000.
func (q *Queue[T]) TakeBatch(ctx context.Context, s *coord.Session, limit int) ([]*Delivery[T], error) {
	return q.take(ctx, s, limit, true)
}

func one[T any](ds []*Delivery[T], err error) (*Delivery[T], error) {
	if err != nil {
		return nil, err
	}
	return ds[0], nil
}

func (q *Queue[T]) take(ctx context.Context, s *coord.Session, limit int, waits bool) ([]*Delivery[T], error) {
	t := &taker[T]{q: q, s: s, limit: limit, waits: waits}
	ds, err := t.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("take from queue %s: %w", q.path, err)
	}
	return ds, nil
}

// A taker is one call that takes items. It takes what it finds at once, without a word
// to anybody, as long as there is more than those in the line can take. Otherwise it
// stands in the line.
type taker[T any] struct {
	q     *Queue[T]
	s     *coord.Session
	limit int
	waits bool

	place string // its znode in the line; "" if it does not stand there
	czxid coord.ZXID
	first bool // it stands there as the first
	set   *coord.WatchSet

	forbidden map[string]bool // items that s may not take
}

func (t *taker[T]) run(ctx context.Context) ([]*Delivery[T], error) {
	if err := t.q.present(ctx, t.s); err != nil {
		return nil, err
	}
	if t.limit < 1 || t.limit > maxBatch {
		return nil, fmt.Errorf("%w: a batch of %d, the limit is %d", coord.ErrBadArguments, t.limit, maxBatch)
	}
	defer t.close()
	ds, err := t.take(ctx)
	if err != nil && t.place != "" {
		leave(ctx, t.s, coord.DeleteOp(t.place, coord.WithCzxid(t.czxid)))
	}
	return ds, err
}

func (t *taker[T]) close() {
	if t.set != nil {
		t.set.Close()
	}
}

// take looks until it has something.
func (t *taker[T]) take(ctx context.Context) ([]*Delivery[T], error) {
	var how []coord.ReadOption
	for {
		s, err := t.q.look(ctx, t.s, how...)
		if err != nil {
			return nil, err
		}
		ds, next, err := t.step(ctx, s)
		if err != nil || ds != nil {
			return ds, err
		}
		if next == wait {
			how = []coord.ReadOption{coord.AllowStale()}       // it has been in contact with a quorum
			if err := t.wait(ctx, t.untilDue(s)); err != nil { // s must not stay in memory
				return nil, err
			}
		}
	}
}

// What to do behind a step that has taken nothing.
type next int

const (
	again next = iota // look again: something has changed
	wait              // until something does
)

// step does what a stock gives occasion to.
func (t *taker[T]) step(ctx context.Context, s *stock) ([]*Delivery[T], next, error) {
	ahead, last := s.line(t.place)
	if t.place != "" {
		if _, stat, err := s.v.Get(t.place); err != nil || stat.Czxid != t.czxid {
			t.place = ""
			return nil, again, lost(t.s)
		}
	}
	t.first = t.place != "" && ahead == 0
	if ahead == 0 {
		if ops := t.promoteOps(s); ops != nil {
			return nil, again, t.tidy(ctx, ops)
		}
	}
	t.q.mu.Lock()
	spread := t.q.crowd.spread()
	t.q.mu.Unlock()
	free := t.choose(s, ahead, spread, t.q.isClaimed)
	if len(free) == 0 { // those who claim may fail, and nobody would hear of it
		free = t.choose(s, ahead, spread, func(item) bool { return false })
	}
	if len(free) > 0 {
		ds, err := t.claim(ctx, s, t.pick(free, spread))
		return ds, again, err
	}
	if !t.waits {
		return nil, again, ErrEmpty
	}
	if t.place == "" {
		return nil, again, t.stand(ctx, s)
	}
	return nil, wait, t.register(s, last)
}

// lost is why a znode of a session is gone.
func lost(s *coord.Session) error {
	if err := context.Cause(s.Context()); err != nil {
		return err // the better reason
	}
	return ErrLost
}

// tidy does what any taker may do, one of them with success.
func (t *taker[T]) tidy(ctx context.Context, ops []coord.Op) error {
	_, err := t.s.Multi(ctx, ops...)
	if outdated(err) {
		return nil
	}
	return err
}

// promoteOps returns the operations that put delayed items that are due among the
// others, if there are any.
func (t *taker[T]) promoteOps(s *stock) []coord.Op {
	now := time.Now().UnixMilli()
	var due []item
	var gone []coord.Op
	bytes := 0
	for it := range s.delayed() {
		if bytes += len(it.data); it.dueMS > now || len(due) == maxBatch || len(due) > 0 && bytes > maxPromotedBytes {
			break
		}
		due, gone = append(due, it), append(gone, it.deleteOp())
	}
	if due == nil {
		return nil
	}
	return append(s.shelveOps(t.q.shelfSize, due...), gone...)
}

// maxPromotedBytes keeps a Multi far from its limit.
const maxPromotedBytes = 1 << 20

// choose returns items that could be taken, behind as many as those ahead will take. In
// a crowd it is more than is to be taken, but not of a smaller priority.
func (t *taker[T]) choose(s *stock, ahead, spread int, avoid func(item) bool) []item {
	want := max(t.limit, spread)
	var free []item
	for it := range s.free() {
		switch {
		case t.forbidden[it.path], avoid(it):
		case ahead > 0:
			ahead--
		case len(free) >= t.limit && it.priority != free[0].priority:
			return free
		default:
			free = append(free, it)
		}
		if len(free) == want {
			return free
		}
	}
	return free
}

// pick returns those to be taken now.
func (t *taker[T]) pick(free []item, spread int) []item {
	n := min(t.limit, len(free))
	from := 0
	if spread > 1 {
		from = rand.IntN(len(free) - n + 1)
	}
	return free[from : from+n]
}

// A crowd is how much takers of all members have been in each other's way of late: so
// they do not all want the first item, of which one alone would get it.
type crowd struct {
	heat int
	last time.Time
}

const (
	coolDown = time.Second
	maxHeat  = 64 // 8 for each doubling
)

// spread returns among how many items one is to be drawn.
func (c *crowd) spread() int {
	if time.Since(c.last) > coolDown {
		c.heat = 0
	}
	return 1 << (c.heat / 8)
}

func (c *crowd) collided() {
	c.spread() // forgets what is long ago
	c.heat, c.last = min(c.heat+8, maxHeat), time.Now()
}

func (c *crowd) passed() { c.heat = max(c.heat-1, 0) }

// isClaimed reports whether an item is about to be taken by others of this process.
func (q *Queue[T]) isClaimed(it item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.claiming[it.path] == it.stat.Czxid
}

// claim takes items, all or none.
func (t *taker[T]) claim(ctx context.Context, s *stock, items []item) ([]*Delivery[T], error) {
	ds := make([]*Delivery[T], len(items))
	ops := make([]coord.Op, 0, 2*len(items)+1)
	for i, it := range items {
		d, err := t.q.newDelivery(t.s, s, it)
		if err != nil {
			return nil, t.tidy(ctx, s.buryOps(it, it.deliveries()))
		}
		ds[i] = d
		ops = append(ops, coord.CheckOp(it.path, coord.WithCzxid(it.stat.Czxid)), coord.CreateOp(it.claimPath(), nil, coord.Ephemeral))
	}
	if t.place != "" {
		ops = append(ops, coord.DeleteOp(t.place, coord.WithCzxid(t.czxid)))
	}
	t.q.begin(items)
	results, err := t.s.Multi(ctx, ops...)
	t.q.end(items, outdated(err))
	if err != nil {
		return nil, t.refused(items, err)
	}
	t.place = ""
	var taken []*Delivery[T]
	for i, d := range ds {
		d.granted(results[2*i+1].Stat.Czxid)
		if d.recount(results[2*i].Stat) {
			taken = append(taken, d)
		} else {
			_ = d.giveUp(ctx, rejected, d.rejectOps) // it goes on in the background
		}
	}
	return taken, nil
}

// begin says which items are about to be taken.
func (q *Queue[T]) begin(items []item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		q.claiming[it.path] = it.stat.Czxid
	}
}

// end takes that back, and says whether others were faster.
func (q *Queue[T]) end(items []item, collided bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		delete(q.claiming, it.path)
	}
	if collided {
		q.crowd.collided()
	} else {
		q.crowd.passed()
	}
}

// refused says what a claim that failed means.
func (t *taker[T]) refused(items []item, err error) error {
	if unknown, ok := errors.AsType[*coord.OutcomeError](err); ok {
		go giveBack(t.s, unknown)
		return err
	}
	if outdated(err) {
		return nil
	}
	failed, ok := errors.AsType[*coord.MultiError](err)
	if ok && errors.Is(err, coord.ErrNoAuth) && failed.Index < 2*len(items) {
		// Somebody has made this item one that cannot be taken: the others can.
		if t.forbidden == nil {
			t.forbidden = map[string]bool{}
		}
		t.forbidden[items[failed.Index/2].path] = true
		return nil
	}
	return err
}

// giveBack deletes claims if they came into being after all.
func giveBack(s *coord.Session, unknown *coord.OutcomeError) {
	results, err := unknown.Results(s.Context())
	if err != nil {
		return // they were refused, or the session has ended, and they with it
	}
	for _, r := range results {
		if strings.HasSuffix(r.Path, "/"+takenName) {
			leaveInBackground(s, coord.DeleteOp(r.Path, coord.WithCzxid(r.Stat.Czxid)))
		}
	}
}

// leave deletes a znode of s whose absence is as good. If the ensemble does not answer,
// that goes on in the background until it has, or until the session has ended.
func leave(ctx context.Context, s *coord.Session, gone coord.Op) {
	if !left(ctx, s, gone) {
		go leaveInBackground(s, gone)
	}
}

func leaveInBackground(s *coord.Session, gone coord.Op) {
	for wait := retryPause; !left(s.Context(), s, gone); wait = min(2*wait, maxLeavePause) {
		if !pause(s.Context(), wait) {
			return
		}
	}
}

func left(ctx context.Context, s *coord.Session, gone coord.Op) bool {
	_, err := s.Multi(ctx, gone)
	return err == nil || errors.Is(err, coord.ErrNoNode) || errors.Is(err, coord.ErrBadVersion)
}

// stand goes to the end of the line.
func (t *taker[T]) stand(ctx context.Context, s *stock) error {
	dir := s.dir(takersDir)
	ops := append(s.makeOps(dir), coord.CreateOp(join(dir, takerPrefix), nil, coord.EphemeralSequential))
	results, err := t.s.Multi(ctx, ops...)
	if unknown, ok := errors.AsType[*coord.OutcomeError](err); ok {
		go func() {
			if results, err := unknown.Results(t.s.Context()); err == nil {
				last := results[len(results)-1]
				leaveInBackground(t.s, coord.DeleteOp(last.Path, coord.WithCzxid(last.Stat.Czxid)))
			}
		}()
		return err
	}
	if outdated(err) {
		return nil // look again
	}
	if err != nil {
		return err
	}
	last := results[len(results)-1]
	t.place, t.czxid = last.Path, last.Stat.Czxid
	return nil
}

// register registers for what can change what the stock has shown: for a taker that is
// not the first, only that the one before it, whose path is last, goes.
func (t *taker[T]) register(s *stock, last string) error {
	if t.set == nil {
		set, err := t.s.NewWatchSet(t.s.Context()) // this member has caught up
		if err != nil {
			return err
		}
		t.set = set
	}
	regs := []coord.Registration{{Path: t.place, Type: coord.DataWatcher}}
	if t.first {
		regs = append(regs, coord.Registration{Path: t.q.path, Type: coord.PersistentRecursiveWatcher})
	} else {
		regs = append(regs, coord.Registration{Path: last, Type: coord.DataWatcher})
	}
	err := t.set.Add(s.v, regs...)
	if ended(err) {
		t.set.Close()
		t.set = nil
		return nil // and wait returns at once
	}
	return err
}

// ended reports whether a set has ended because this member skipped changes, or has
// fallen behind.
func ended(err error) bool {
	_, overrun := errors.AsType[*coord.OverrunError](err)
	return overrun || isCompacted(err)
}

// wait returns when there may be something to take.
func (t *taker[T]) wait(ctx context.Context, untilDue time.Duration) error {
	if t.set == nil {
		return nil
	}
	due := time.NewTimer(untilDue)
	defer due.Stop()
	for {
		select {
		case <-t.set.Changed():
		case <-due.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.s.Context().Done():
			return context.Cause(t.s.Context())
		}
		news, err := t.news()
		if err != nil || news {
			return err
		}
	}
}

// untilDue returns how long to wait for the first of the delayed items. A clock that is
// set is noticed within a minute.
func (t *taker[T]) untilDue(s *stock) time.Duration {
	if t.first {
		for it := range s.delayed() {
			return min(max(0, time.Until(time.UnixMilli(it.dueMS))), time.Minute)
		}
	}
	return math.MaxInt64
}

// news takes what the set was told, and reports whether it matters. That an item is
// settled does not: with thousands of them, looking again each time would never end.
func (t *taker[T]) news() (bool, error) {
	events, err := t.set.Take(math.MaxUint64)
	if ended(err) {
		t.set.Close()
		t.set = nil
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for i, ev := range events {
		if t.matters(ev, events[i+1:]) {
			if t.q.onWake != nil {
				t.q.onWake(t.first)
			}
			return true, nil
		}
	}
	return false, nil
}

// matters reports whether there may be something to take behind an event. later are
// those that come behind it, of the same write and of others.
func (t *taker[T]) matters(ev coord.Event, later []coord.Event) bool {
	if !t.first || ev.Path == t.place {
		return true
	}
	dir, name, nested := strings.Cut(strings.TrimPrefix(ev.Path, join(t.q.path, "")), "/")
	switch {
	case !nested: // a directory
		return false
	case dir == delayedDir:
		return ev.Type == coord.NodeCreated
	case !strings.HasPrefix(dir, shelfPrefix):
		return false
	}
	it, isClaim := strings.CutSuffix(ev.Path, "/"+takenName)
	if !isClaim || !strings.Contains(name, "/") {
		return ev.Type == coord.NodeCreated
	}
	return ev.Type == coord.NodeDeleted && !slices.ContainsFunc(later, func(ev2 coord.Event) bool {
		return ev2.ZXID == ev.ZXID && ev2.Path == it && ev2.Type == coord.NodeDeleted
	})
}
