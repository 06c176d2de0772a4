package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"coord"
)

// Errors of partitions.
var (
	// ErrOtherSet is returned when others share out another set of partitions at the
	// same path.
	ErrOtherSet = errors.New("recipes: another set of partitions")
	// ErrMoved ends the context of who works on a partition that another member is to
	// have.
	ErrMoved = errors.New("recipes: the partition is to be handed over")
)

// defaultSettleTime is how long members wait for more of them to come or go.
const defaultSettleTime = time.Second

// maxClaims is the number of partitions that are claimed in one write.
const maxClaims = 1000

// partitionsHead is what the data of the directory begin with; the names of the
// partitions follow, one a line.
const partitionsHead = "partitions\n"

var familyPartitionMember = &family{recipe: "partitions", mark: "member-"}

// A Partition is one partition that this member owns, from the call of the function
// that works on it until that has returned, or until it is lost.
type Partition struct {
	name string
	h    *Held
}

// Name returns which partition it is.
func (p *Partition) Name() string { return p.name }

// Context ends when the partition is lost, before anybody else can own it, or released:
// it goes on while it is to be handed over, which the context of the function tells,
// for what is to be done then. See [Held.Context].
func (p *Partition) Context() context.Context { return p.h.Context() }

// Check returns nil while this member owns the partition, by this process's clock,
// also while it is to be handed over. See [Held.Check].
func (p *Partition) Check() error { return p.h.Check() }

// Fence returns a number that is larger for each later owner of the same partition, see
// [Held.Fence].
func (p *Partition) Fence() coord.ZXID { return p.h.Fence() }

// Guard returns an operation that makes a Multi fail with [coord.ErrNoNode] or
// [coord.ErrBadVersion] unless this member owns the partition at that moment, see
// [Held.Guard].
func (p *Partition) Guard() coord.Op { return p.h.Guard() }

// A PartitionOption is an option of [RunPartitions].
type PartitionOption func(*partitioner)

// WithSettleTime has a member wait for d, from when it learns that members have come
// or gone until it acts on that, so that what comes and goes in that time moves
// nothing. By default it is a second.
func WithSettleTime(d time.Duration) PartitionOption {
	return func(p *partitioner) { p.settle = d }
}

// RunPartitions takes part in sharing out partitions over all that call it at path.
// It calls f, in a goroutine of its own, for each partition that it owns, with a
// context that ends with ctx, when the partition is lost, and when another member is
// to have it, which f must heed: nobody else gets the partition before f has returned.
// The cause is [ErrMoved] then. Partitions and members are matched by their names alone, so
// that all members come to the same: each has as many as any other, or one more, and
// few move when a member comes or goes.
//
// Guarantee: of all that f is called for, at most one owns a partition at a time, by
// the clocks of their processes; f is not called twice at a time for one partition by
// one RunPartitions. Each partition is owned in the end, when no member comes or goes
// and every f heeds its context.
// Cost: one write to take part and one for all partitions that are free by then; for
// each that moves, one to release it, and one to take it over, together with others that
// are released at the same time; one for each to leave. Who comes or goes wakes every
// member once; a partition that is released wakes the one that is to have it. Each
// member matches p partitions with m members in p*m*log(p*m) steps.
// Session loss: ends the contexts of all, and not RunPartitions: it takes part again with
// the next session of c, when the functions have returned. A process is known by its
// member id: if it is back within the settle time, it gets what it had.
// Pitfall: a member whose f does not return keeps its partition until its session
// ends, and does not take part again before. What f does behind the end of [Partition.Context] is
// not the owner's: guard it.
//
// When f returns while its context lasts, or panics, RunPartitions ends: it ends the
// contexts of the others, releases what it owns, and returns f's error, also if that is
// nil; so f decides when it has had enough. What f returns because its context has
// ended is not looked at.
//
// All that take part at a time agree on the set of partitions, whatever its order: it
// is written at path, and who has another one is refused with [ErrOtherSet]. When
// nobody takes part, it may be another one.
//
// RunPartitions fails with [coord.ErrBadArguments] if there are no partitions, one is
// there twice or no znode can be called so, or for a settle time that is negative;
// with [ErrOtherRecipe] if the path is used for something else; with the cause of ctx;
// with why c has ended; and with what reads and writes fail with, but for what passes.
func RunPartitions(ctx context.Context, c *coord.Coordinator, path string, partitions []string, f func(ctx context.Context, p *Partition) error, opts ...PartitionOption) error {
	p := &partitioner{path: path, names: slices.Sorted(slices.Values(partitions)), f: f, settle: defaultSettleTime}
	for _, opt := range opts {
		opt(p)
	}
	if err := p.check(ctx, c); err != nil {
		return fmt.Errorf("run partitions of %s: %w", path, err)
	}
	p.data, p.key = []byte(partitionsHead+strings.Join(p.names, "\n")), c.Status().Member.String()
	for s := range c.Sessions(ctx) {
		for s.Context().Err() == nil {
			over, err := p.takePart(ctx, s)
			switch {
			case over:
				return err
			case ctx.Err() == nil && (passes(err) || s.Context().Err() != nil):
				pause(s.Context(), retryPause)
			default:
				return fmt.Errorf("run partitions of %s: %w", path, err)
			}
		}
	}
	return fmt.Errorf("run partitions of %s: %w", path, cmp.Or(context.Cause(ctx), context.Cause(c.Context())))
}

// A partitioner is what stays the same from session to session.
type partitioner struct {
	path   string
	names  []string // of the partitions, sorted
	data   []byte   // of the directory
	key    string   // what this member is known by
	settle time.Duration
	f      func(ctx context.Context, p *Partition) error
}

func (p *partitioner) check(ctx context.Context, c *coord.Coordinator) error {
	if err := present(ctx, c); err != nil {
		return err
	}
	if len(p.names) == 0 || p.settle < 0 {
		return fmt.Errorf("%w: %d partitions, with a settle time of %v", coord.ErrBadArguments, len(p.names), p.settle)
	}
	for i, name := range p.names {
		if err := checkName("partition", name); err != nil {
			return err
		}
		if i > 0 && name == p.names[i-1] {
			return fmt.Errorf("%w: the partition %q twice", coord.ErrBadArguments, name)
		}
	}
	return nil
}

// The members are in a directory of their own, so that only their coming and going
// wakes all, and not each partition that moves.

func (p *partitioner) members() string          { return join(p.path, "members") }
func (p *partitioner) owners() string           { return join(p.path, "owners") }
func (p *partitioner) owner(name string) string { return join(p.owners(), name) }

// takePart takes part until the session ends, or the call is over.
func (p *partitioner) takePart(ctx context.Context, s *coord.Session) (over bool, err error) {
	me, err := enter(ctx, s, p.path, p.admit)
	if err != nil {
		return false, err
	}
	sh := newShare(ctx, p, me)
	err = sh.follow()
	sh.crew.cancel(err)
	_ = me.leave(ctx) // goes on in the background
	if over, err := sh.crew.wait(); over {
		return true, err
	}
	return false, err
}

// A share is the part of the partitions that is this member's, in one session.
type share struct {
	*partitioner

	ctx     context.Context // of the call
	me      *contender
	crew    *crew // those who work on partitions
	lookout *lookout

	members  []string    // as acted upon
	name     string      // of this one among them
	mine     []string    // the partitions that this one is to own then
	settling *time.Timer // runs since the members are others, or is nil
	act      bool        // on the members as they are now

	mu      sync.Mutex                         // a leaf
	working map[string]context.CancelCauseFunc // guarded by mu; of the partitions that are owned
	ended   chan struct{}                      // has a signal when one is not any more
}

func newShare(ctx context.Context, p *partitioner, me *contender) *share {
	me.set.Close() // the lookout has its own
	return &share{
		partitioner: p, ctx: ctx, me: me, crew: newCrew(ctx), lookout: &lookout{c: me.s},
		working: make(map[string]context.CancelCauseFunc), ended: make(chan struct{}, 1),
	}
}

// follow hands over and claims partitions as members come and go. It returns why that
// has ended.
func (sh *share) follow() error {
	defer sh.lookout.close()
	for {
		var free []string
		_, err := sh.lookout.next(sh.crew.ctx, coord.AllowStale(), func(v *coord.View) (regs []coord.Registration, err error) {
			free, regs, err = sh.plan(v)
			return regs, err
		})
		if err != nil {
			return err
		}
		if len(free) > 0 {
			switch err := sh.claim(free[:min(len(free), maxClaims)]); {
			case err == nil:
			case passes(err):
				pause(sh.crew.ctx, retryPause) // what it owns it keeps
			default:
				return err
			}
			continue
		}
		if err := sh.wait(); err != nil {
			return err
		}
	}
}

// wait returns when there may be something to do.
func (sh *share) wait() error {
	var settled <-chan time.Time
	if sh.settling != nil {
		settled = sh.settling.C
	}
	select {
	case <-sh.lookout.set.Changed():
	case <-sh.ended:
	case <-settled:
		sh.settling, sh.act = nil, true
	case <-sh.crew.ctx.Done():
		return context.Cause(sh.crew.ctx)
	case <-sh.me.s.Context().Done():
		return context.Cause(sh.me.s.Context())
	}
	return nil
}

// plan returns which partitions are to be claimed, and what to wait for. It has those
// handed over that others are to have.
func (sh *share) plan(v *coord.View) (free []string, regs []coord.Registration, err error) {
	if _, stat, err := v.Get(sh.me.path); err != nil || stat.Czxid != sh.me.czxid {
		return nil, nil, cmp.Or(context.Cause(sh.me.s.Context()), ErrLost)
	}
	members, me, err := sh.taking(v)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case sh.act:
		sh.act = false
		sh.rematch(members, me)
	case sh.settling == nil && (me != sh.name || !slices.Equal(members, sh.members)):
		sh.settling = time.NewTimer(sh.settle)
	}
	regs = []coord.Registration{{Path: sh.me.path, Type: coord.DataWatcher}, {Path: sh.partitioner.members(), Type: coord.ChildrenWatcher}}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, name := range sh.mine {
		if sh.working[name] != nil {
			continue
		}
		if absent(v, sh.owner(name)) {
			free = append(free, name)
		} else {
			regs = append(regs, coord.Registration{Path: sh.owner(name), Type: coord.DataWatcher})
		}
	}
	return free, regs, nil
}

// taking returns by which names the members that take part are known, sorted, and which
// one is this. A process that takes part several times has several names.
func (sh *share) taking(v *coord.View) (members []string, me string, err error) {
	l, err := lineOf(v, sh.partitioner.members(), familyPartitionMember)
	if err != nil {
		return nil, "", err
	}
	times := make(map[string]int)
	for _, e := range l.all {
		if !l.contends(e) {
			continue // nobody would work on what it is to have
		}
		data, _, err := v.Get(e.path)
		if err != nil {
			return nil, "", err
		}
		name := fmt.Sprintf("%s/%d", data, times[string(data)])
		times[string(data)]++
		members = append(members, name)
		if e.path == sh.me.path {
			me = name
		}
	}
	slices.Sort(members)
	return members, me, nil
}

// rematch acts on a change of members.
func (sh *share) rematch(members []string, me string) {
	before := sh.mine
	sh.members, sh.name, sh.mine = members, me, match(sh.names, members)[me]
	slices.Sort(sh.mine)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, name := range before {
		if _, still := slices.BinarySearch(sh.mine, name); still {
			continue
		}
		sh.lookout.set.Remove(sh.owner(name), coord.DataWatcher)
		if handOver := sh.working[name]; handOver != nil {
			handOver(ErrMoved)
		}
	}
}

// claim claims partitions that nobody owned when this one looked, and starts work on
// them.
func (sh *share) claim(names []string) error {
	ops := []coord.Op{coord.CheckOp(sh.me.path, coord.WithCzxid(sh.me.czxid))}
	for _, name := range names {
		ops = append(ops, coord.CreateOp(sh.owner(name), nil, coord.Ephemeral, coord.WithContainers()))
	}
	claims, err := tryEnter(sh.crew.ctx, sh.me.s, make([]string, len(names)), ops)
	if overtaken(err) {
		return sh.me.s.Sync(sh.crew.ctx, sh.path)
	}
	if err != nil {
		return err
	}
	for i, c := range claims {
		sh.own(names[i], newHeld(c, nil))
	}
	return nil
}

// own has f work on a partition until it returns, and releases it then.
func (sh *share) own(name string, h *Held) {
	ctx, handOver := context.WithCancelCause(sh.crew.ctx)
	sh.mu.Lock()
	sh.working[name] = handOver
	sh.mu.Unlock()
	sh.crew.start(func() (over bool, err error) {
		bound, unbind := h.bind(ctx)
		defer unbind()
		err = sh.f(bound, &Partition{name, h})
		switch {
		case bound.Err() == nil:
			return true, err
		case h.Check() == nil || h.lost():
			return false, nil
		default:
			return true, fmt.Errorf("partition %q of %s: %w", name, sh.path, h.Check())
		}
	}, func() {
		_ = h.Release(sh.ctx) // goes on in the background
		sh.disown(name)
	})
}

func (sh *share) disown(name string) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.working[name](nil)
	delete(sh.working, name)
	select {
	case sh.ended <- struct{}{}:
	default:
	}
}

// admit is the admission to the members.
func (p *partitioner) admit(v *coord.View) ([]coord.Op, error) {
	enter := coord.CreateOp(join(p.members(), familyPartitionMember.name(false, 0)), []byte(p.key), coord.EphemeralSequential, coord.WithContainers())
	data, stat, err := v.Get(p.path)
	switch {
	case errors.Is(err, coord.ErrNoNode):
		return []coord.Op{coord.CreateOp(p.path, p.data, coord.Container, coord.WithContainers()), enter}, nil
	case err != nil:
		return nil, err
	case string(data) == string(p.data):
		return []coord.Op{coord.CheckOp(p.path, coord.WithCzxid(stat.Czxid), coord.WithVersion(stat.Version)), enter}, nil
	case !strings.HasPrefix(string(data), partitionsHead) && (len(data) > 0 || stat.NumChildren > 0):
		return nil, fmt.Errorf("%w: its data is not that of partitions", ErrOtherRecipe)
	}
	var ops []coord.Op
	for _, dir := range []string{p.members(), p.owners()} {
		_, stat, err := v.Get(dir)
		switch {
		case errors.Is(err, coord.ErrNoNode):
			ops = append(ops, coord.CheckAbsentOp(dir))
		case err != nil:
			return nil, err
		case stat.NumChildren == 0:
			ops = append(ops, coord.CheckChildrenOp(dir, 0))
		default:
			return nil, p.differs(data)
		}
	}
	set := coord.SetDataOp(p.path, p.data, coord.WithCzxid(stat.Czxid), coord.WithVersion(stat.Version))
	return append(ops, set, enter), nil
}

// differs tells what the difference is to the set that others share out.
func (p *partitioner) differs(data []byte) error {
	theirs := strings.Split(strings.TrimPrefix(string(data), partitionsHead), "\n")
	only := func(some, others []string) string {
		for _, name := range some {
			if !slices.Contains(others, name) {
				return fmt.Sprintf(", %q among them", name)
			}
		}
		return ""
	}
	return fmt.Errorf("%w: it is shared out as %d%s, not as %d%s", ErrOtherSet,
		len(theirs), only(theirs, p.names), len(p.names), only(p.names, theirs))
}
