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
	return (&taker[T]{q: q, s: s, limit: 1, waits: true}).one(ctx)
}

// TryTake takes an item if there is one, as this member sees it, for which nobody waits
// already. Otherwise it fails with [ErrEmpty], and else as [Queue.Take] does.
func (q *Queue[T]) TryTake(ctx context.Context, s *coord.Session) (*Delivery[T], error) {
	return (&taker[T]{q: q, s: s, limit: 1, waits: false}).one(ctx)
}

// TakeBatch waits for an item, and takes what there is, at most limit items, in one write
// and in order. Each of them is settled for itself; the [Delivery.AckOps] of several make
// one Multi. It fails as [Queue.Take] does, and with [coord.ErrBadArguments] if limit is
// not from 1 to 1000.
func (q *Queue[T]) TakeBatch(ctx context.Context, s *coord.Session, limit int) ([]*Delivery[T], error) {
	return (&taker[T]{q: q, s: s, limit: limit, waits: true}).batch(ctx)
}

// one returns the only delivery of a batch of one.
func (t *taker[T]) one(ctx context.Context) (*Delivery[T], error) {
	ds, err := t.batch(ctx)
	if err != nil {
		return nil, err
	}
	return ds[0], nil
}

func (t *taker[T]) batch(ctx context.Context) ([]*Delivery[T], error) {
	ds, err := t.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("take from queue %s: %w", t.q.path, err)
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

	place  *contender // in the line; nil if it does not stand there
	ahead  int        // how many stand before it, all of the line if it does not
	before string     // the path of the last one of those, if it does

	forbidden map[string]bool // items that s may not take
}

func (t *taker[T]) run(ctx context.Context) ([]*Delivery[T], error) {
	if err := t.q.present(ctx, t.s); err != nil {
		return nil, err
	}
	if t.limit < 1 || t.limit > maxBatch {
		return nil, fmt.Errorf("%w: a batch of %d, the limit is %d", coord.ErrBadArguments, t.limit, maxBatch)
	}
	ds, err := t.take(ctx)
	if err != nil && t.place != nil {
		_ = t.place.leave(ctx) // goes on in the background
	}
	return ds, err
}

// take looks until it has something.
func (t *taker[T]) take(ctx context.Context) ([]*Delivery[T], error) {
	var how []coord.ReadOption
	for {
		s, err := t.q.look(ctx, t.s, how...)
		if err != nil {
			return nil, err
		}
		if err := t.locate(s); err != nil {
			return nil, err
		}
		if ops := t.promoteOps(s); ops != nil {
			err = t.tidy(ctx, ops)
		} else if free := t.choose(s); len(free) > 0 {
			var ds []*Delivery[T]
			if ds, err = t.claim(ctx, s, free); ds != nil {
				return ds, nil
			}
		} else if !t.waits {
			err = ErrEmpty
		} else if t.place == nil {
			err = t.stand(ctx)
		} else {
			how = []coord.ReadOption{coord.AllowStale()} // it has been in contact with a quorum
			var registered bool
			if registered, err = t.register(ctx, s); registered {
				err = t.wait(ctx, t.dueAt(s)) // s must not stay in memory
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// locate finds out who stands before t.
func (t *taker[T]) locate(s *stock) error {
	dir := s.dir(takersDir)
	if t.place == nil {
		t.ahead, t.before = s.count(dir), ""
		return nil
	}
	if _, stat, err := s.v.Get(t.place.path); err != nil || stat.Czxid != t.place.czxid {
		return lossOf(t.s)
	}
	l, err := lineOf(s.v, dir, familyTaker)
	if err != nil {
		return err
	}
	t.ahead, t.before = 0, ""
	for _, e := range l.all[:l.at(t.place.path)] {
		if l.contends(e) {
			t.ahead, t.before = t.ahead+1, e.path
		}
	}
	return nil
}

// first reports whether t stands in the line as the first.
func (t *taker[T]) first() bool { return t.place != nil && t.ahead == 0 }

// tidy does what any taker may do, one of them with success. That an item has children
// means that somebody has taken it.
func (t *taker[T]) tidy(ctx context.Context, ops []coord.Op) error {
	_, err := t.s.Multi(ctx, ops...)
	if overtaken(err) || errors.Is(err, coord.ErrNotEmpty) {
		return nil
	}
	return err
}

// promoteOps returns the operations that put delayed items that are due among the
// others, if there are any and nobody stands before t who will do so.
func (t *taker[T]) promoteOps(s *stock) []coord.Op {
	if t.ahead > 0 {
		return nil
	}
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

// choose returns the items to be taken now. In a crowd they are drawn from among more.
func (t *taker[T]) choose(s *stock) []item {
	spread := t.q.spread()
	free := t.candidates(s, spread, t.q.isClaimed)
	if len(free) == 0 { // those who claim may fail, and nobody would hear of it
		free = t.candidates(s, spread, func(item) bool { return false })
	}
	n := min(t.limit, len(free))
	from := 0
	if spread > 1 {
		from = rand.IntN(len(free) - n + 1)
	}
	return free[from : from+n]
}

// candidates returns items that could be taken, behind as many as those ahead will take:
// as many as are to be taken, and up to spread of them if they are of one priority.
func (t *taker[T]) candidates(s *stock, spread int, avoid func(item) bool) []item {
	want := max(t.limit, spread)
	ahead := t.ahead
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

// spread returns among how many items one is to be drawn.
func (q *Queue[T]) spread() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.crowd.spread()
}

// isClaimed reports whether an item is about to be taken by others of this process.
func (q *Queue[T]) isClaimed(it item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.claiming[it.path] == it.stat.Czxid
}

// claim takes items, all or none, and gives up its place in the line for them. It
// returns nothing if somebody was faster.
func (t *taker[T]) claim(ctx context.Context, s *stock, items []item) ([]*Delivery[T], error) {
	ds := make([]*Delivery[T], len(items))
	var leave, checks, creates []coord.Op
	if t.place != nil {
		leave = []coord.Op{coord.DeleteOp(t.place.path, coord.WithCzxid(t.place.czxid))}
	}
	for i, it := range items {
		d, err := t.q.newDelivery(t.s, s, it)
		if err != nil {
			return nil, t.tidy(ctx, s.buryOps(it, it.deliveries()))
		}
		ds[i] = d
		checks = append(checks, coord.CheckOp(it.path, coord.WithCzxid(it.stat.Czxid)))
		creates = append(creates, coord.CreateOp(it.claimPath(), nil, coord.Ephemeral))
	}
	t.q.begin(items)
	results, err := t.s.Multi(ctx, slices.Concat(leave, checks, creates)...)
	t.q.end(items, overtaken(err))
	if err != nil {
		undo(t.s, err, len(items))
		return nil, t.refused(items, len(leave), err)
	}
	if t.place != nil {
		t.place.set.Close()
		t.place = nil
	}
	var taken []*Delivery[T]
	checked, created := results[len(leave):], results[len(leave)+len(checks):]
	for i, d := range ds {
		d.claim = created[i].Stat.Czxid
		if d.recount(checked[i].Stat) {
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

// refused says what a claim that failed means, whose operations on the items are those
// from first on.
func (t *taker[T]) refused(items []item, first int, err error) error {
	if overtaken(err) {
		return nil
	}
	failed, ok := errors.AsType[*coord.MultiError](err)
	if !ok || !errors.Is(err, coord.ErrNoAuth) || failed.Index < first {
		return err
	}
	// Somebody has made this item one that cannot be taken: the others can.
	if t.forbidden == nil {
		t.forbidden = map[string]bool{}
	}
	t.forbidden[items[(failed.Index-first)%len(items)].path] = true
	return nil
}

// stand goes to the end of the line.
func (t *taker[T]) stand(ctx context.Context) (err error) {
	dir := join(t.q.path, takersDir)
	t.place, err = enter(ctx, t.s, dir, func(v *coord.View) ([]coord.Op, error) {
		s, err := stockOf(v, t.q.path)
		if err != nil {
			return nil, err
		}
		return append(s.makeOps(dir), ticket{family: familyTaker}.op(dir)), nil
	})
	return err
}

// register registers for what can change what the stock has shown: for a taker that is
// not the first, only that the one before it goes. It reports false if this member
// skipped changes, so that there is a new set, and nothing to wait for.
func (t *taker[T]) register(ctx context.Context, s *stock) (bool, error) {
	regs := []coord.Registration{{Path: t.place.path, Type: coord.DataWatcher}}
	if t.first() {
		regs = append(regs, coord.Registration{Path: t.q.path, Type: coord.PersistentRecursiveWatcher})
	} else {
		regs = append(regs, coord.Registration{Path: t.before, Type: coord.DataWatcher})
	}
	err := t.place.set.Add(s.v, regs...)
	if skipped(err) {
		return false, t.place.drain(ctx)
	}
	return err == nil, err
}

// wait returns when there may be something to take, or at a time, if it is one.
func (t *taker[T]) wait(ctx context.Context, due time.Time) error {
	for {
		var err error
		if due.IsZero() {
			err = t.place.news(ctx)
		} else {
			err = t.place.newsBefore(ctx, due)
		}
		if err != nil {
			return err
		}
		events, err := t.place.set.Take(math.MaxUint64)
		if skipped(err) {
			return t.place.drain(ctx)
		}
		if err != nil || t.wakes(events) || !due.IsZero() && !time.Now().Before(due) {
			return err
		}
	}
}

// dueAt returns when the first of the delayed items is to be looked at by t, or nothing. A
// clock that is set is noticed within a minute.
func (t *taker[T]) dueAt(s *stock) time.Time {
	if t.first() {
		for it := range s.delayed() {
			due, soon := time.UnixMilli(it.dueMS), time.Now().Add(time.Minute)
			if due.Before(soon) {
				return due
			}
			return soon
		}
	}
	return time.Time{}
}

// wakes reports whether one of the events matters. That an item is settled does not:
// with thousands of them, looking again each time would never end.
func (t *taker[T]) wakes(events []coord.Event) bool {
	for i, ev := range events {
		if !t.matters(ev, events[i+1:]) {
			continue
		}
		if t.q.onWake != nil {
			t.q.onWake(t.first())
		}
		return true
	}
	return false
}

// matters reports whether there may be something to take behind an event. later are
// those that come behind it, of the same write and of others.
func (t *taker[T]) matters(ev coord.Event, later []coord.Event) bool {
	if !t.first() || ev.Path == t.place.path {
		return true
	}
	dir, name, _ := strings.Cut(strings.TrimPrefix(ev.Path, join(t.q.path, "")), "/")
	if name == "" || dir != delayedDir && !strings.HasPrefix(dir, shelfPrefix) {
		return false
	}
	child := strings.IndexByte(name, '/')
	if child < 0 {
		return ev.Type == coord.NodeCreated
	}
	// What is below an item, its claim for one, keeps it from being taken.
	it := strings.TrimSuffix(ev.Path, name[child:])
	return ev.Type == coord.NodeDeleted && !slices.ContainsFunc(later, func(ev2 coord.Event) bool {
		return ev2.ZXID == ev.ZXID && ev2.Path == it && ev2.Type == coord.NodeDeleted
	})
}
