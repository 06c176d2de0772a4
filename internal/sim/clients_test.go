package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"coord"
)

// The places of the tree that clients work on.
const (
	regDir  = "/r"
	pairDir = "/p"
	seqDir  = "/q"
	ctrDir  = "/c"
	ephDir  = "/e"

	nRegisters = 12
	nPairs     = 4
	nCounters  = 6
)

func register(i int) string { return fmt.Sprintf("%s/%d", regDir, i) }

func pairOf(i int) (a, b string) {
	return fmt.Sprintf("%s/%da", pairDir, i), fmt.Sprintf("%s/%db", pairDir, i)
}

func counter(i int) string { return fmt.Sprintf("%s/%d", ctrDir, i) }

// A client makes one call after another, on one member at a time.
type client struct {
	w    *world
	id   int
	dice *rand.Rand
	p    *process
	api  coord.Client
	sess *session // nil: the Coordinator's own
	gen  int      // of the handle on sess
	who  identity // that api speaks for

	seq      []string         // sequential znodes that were made here and nobody deletes
	versions map[string]int32 // of registers, as last read
	ttls     []string         // znodes with a time to live that were made here
	children []string         // below those, and below containers
}

func (w *world) newClient(id int) *client {
	return &client{w: w, id: id, dice: w.dice(uint64(id)), versions: map[string]int32{}}
}

// runClient is one client of the Coordinators, which makes calls by step.
func (w *world) runClient(id int, step func(*client)) {
	if !w.joins(uint64(id)) {
		return
	}
	c := w.newClient(id)
	for !w.stopping.Load() {
		if c.p == nil || c.p.killed.Load() != 0 || c.dice.IntN(50) == 0 {
			c.p = w.any(c.dice)
		}
		if c.p == nil {
			sleep(100 * time.Millisecond)
			continue
		}
		c.api = c.p.c
		for range 1 + c.dice.IntN(20) {
			c.act(func() { step(c) })
			if c.dice.IntN(4) == 0 {
				sleep(between(c.dice, 0, 20*time.Millisecond))
			}
		}
		sleep(between(c.dice, 0, w.o.think))
	}
}

// act does something with dice of its own, so that nothing else changes if the script
// leaves it out.
func (c *client) act(do func()) { c.w.act(uint64(c.id), &c.dice, do) }

// act does something of somebody with other dice than his.
func (w *world) act(who uint64, dice **rand.Rand, do func()) {
	w.mu.Lock()
	w.acts[who]++
	n := w.acts[who]
	w.mu.Unlock()
	if !w.o.script.does(who, n) {
		return
	}
	pace := *dice
	*dice = w.dice(forActs + who<<24 + n)
	do()
	*dice = pace
}

func between(dice *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(dice.Int64N(int64(most-least)))
}

// step makes one call.
func (c *client) step() {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	defer cancel()
	switch n := c.dice.IntN(100); {
	case n < 12:
		c.set(ctx, setRegister)
	case n < 22:
		c.set(ctx, casRegister)
	case n < 30:
		c.pair(ctx, movePair)
	case n < 33:
		c.pair(ctx, badMulti)
	case n < 40:
		c.create(ctx)
	case n < 45:
		c.delete(ctx)
	case n < 50:
		c.add(ctx)
	case n < 54:
		c.update(ctx)
	case n < 82:
		c.get(ctx)
	case n < 93:
		c.viewAll(ctx)
	case n < 96:
		c.list(ctx)
	case n < 97:
		c.crowd()
	default:
		c.sync(ctx)
	}
}

// crowd makes some calls at once, which share batches.
func (c *client) crowd() {
	var all sync.WaitGroup
	for range 2 + c.dice.IntN(30) {
		one := *c
		one.dice, one.seq, one.versions = rand.New(rand.NewPCG(c.w.o.seed, c.dice.Uint64())), nil, map[string]int32{}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), one.patience())
			defer cancel()
			switch one.dice.IntN(4) {
			case 0:
				one.set(ctx, setRegister)
			case 1:
				one.pair(ctx, movePair)
			case 2:
				one.create(ctx)
			case 3:
				one.add(ctx)
			}
		})
	}
	all.Wait()
}

// patience is how long a call is waited for: mostly for longer than it takes.
func (c *client) patience() time.Duration {
	switch c.dice.IntN(10) {
	case 0:
		return between(c.dice, time.Millisecond, 20*time.Millisecond)
	case 1:
		return between(c.dice, 20*time.Millisecond, time.Second)
	}
	return 10 * time.Second
}

func (c *client) begin(k kind, path string) *call {
	return c.beginCall(call{kind: k, path: path})
}

func (c *client) beginCall(q call) *call {
	q.client, q.process, q.member, q.sess, q.handle, q.who = c.id, c.p.number, c.p.member, c.sess, c.gen, c.who
	return c.w.ledger.begin(q)
}

// wrote enters what came of a write. What is unknown is asked for.
func (c *client) wrote(q *call, stat coord.Stat, err error) {
	if err == nil {
		q.zxid, q.stat = stat.Mzxid, stat
	}
	c.w.ledger.done(q, err)
	unexpected := q.outcome == refused && !c.excused(q, err)
	if unexpected {
		c.w.violate("G3: %v failed with %v", q, err)
	}
	if open, ok := errors.AsType[*coord.OutcomeError](err); ok {
		c.resolve(q, open)
	}
}

// resolve asks what became of a write.
func (c *client) resolve(q *call, open *coord.OutcomeError) {
	if c.dice.IntN(4) == 0 {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		c.w.unasked = append(c.w.unasked, openCall{q, open, c.p})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), between(c.dice, 0, 30*time.Second))
	defer cancel()
	results, err := open.Results(ctx)
	if errors.Is(err, coord.ErrUnknownOutcome) {
		return
	}
	q.late = true
	q.outcome = acked
	if err != nil {
		q.outcome = refused
		q.code, _ = errors.AsType[coord.Code](err)
	} else if len(results) > 0 {
		q.stat = results[0].Stat
	}
	c.w.trace.add("outcome of call %d: %v", q.id, err)
}

// An openCall is one whose outcome is asked for at the end.
type openCall struct {
	q    *call
	open *coord.OutcomeError
	p    *process
}

// askAll asks for the outcomes that nobody has asked for: a process that lives knows
// them all.
func (w *world) askAll() {
	for _, o := range w.unasked {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := o.open.Outcome(ctx)
		cancel()
		switch {
		case !errors.Is(err, coord.ErrUnknownOutcome):
			o.q.late, o.q.outcome = true, refused
			if err == nil {
				o.q.outcome = acked
			}
		case o.p.killed.Load() == 0:
			w.violate("G3: the outcome of %v is unknown at the end, in a process that lives: %v", o.q, err)
		}
	}
}

// excused reports whether a refusal says something that can be.
func (c *client) excused(q *call, err error) bool {
	for _, fine := range []error{
		coord.ErrSuspended, coord.ErrTimeout, coord.ErrClosed, context.DeadlineExceeded, context.Canceled,
		coord.ErrSessionExpired, coord.ErrSessionMoved,
		coord.ErrNotMember, // or else world.down finds out
	} {
		if errors.Is(err, fine) {
			return true
		}
	}
	switch {
	case errors.Is(err, coord.ErrBadVersion):
		return q.kind == casRegister || q.kind == updateCounter || q.kind == setACL
	case errors.Is(err, coord.ErrNoNode):
		return q.kind == badMulti || q.kind == refreshTTL || q.kind == createChild && !isContainer(q.path) // the checker looks at it
	case errors.Is(err, coord.ErrQuotaExceeded):
		return q.kind == createTTL || q.kind == createChild
	case errors.Is(err, coord.ErrNoAuth):
		return q.who != insider
	}
	return false
}

func (c *client) set(ctx context.Context, k kind) {
	path := register(c.dice.IntN(nRegisters))
	q := call{kind: k, path: path, version: coord.AnyVersion}
	if k == casRegister {
		q.version = c.versions[path]
	}
	p := c.beginCall(q)
	stat, err := c.api.SetData(ctx, path, []byte(p.data()), coord.WithVersion(p.version))
	if err == nil {
		c.versions[path] = stat.Version
	}
	c.wrote(p, stat, err)
}

// pair sets two registers in one write, so that their sum stays zero.
func (c *client) pair(ctx context.Context, k kind) {
	a, b := pairOf(c.dice.IntN(nPairs))
	q := c.begin(k, a)
	ops := []coord.Op{coord.SetDataOp(a, []byte(q.data())), coord.SetDataOp(b, []byte("-"+q.data()))}
	if k == badMulti {
		ops = append(ops, coord.CheckOp("/none"))
	}
	results, err := c.api.Multi(ctx, ops...)
	stat := coord.Stat{}
	if err == nil {
		stat = results[0].Stat
		if results[1].Stat.Mzxid != stat.Mzxid {
			c.w.violate("G7: %v took effect at %v and %v", q, stat.Mzxid, results[1].Stat.Mzxid)
		}
	}
	c.wrote(q, stat, err)
}

func (c *client) create(ctx context.Context) {
	q := c.begin(createSeq, seqDir)
	path, stat, err := c.api.Create(ctx, seqDir+"/n-", []byte(q.data()), coord.PersistentSequential)
	if err == nil {
		q.path = path
		c.seq = append(c.seq, path)
	}
	c.wrote(q, stat, err)
}

func (c *client) delete(ctx context.Context) {
	if len(c.seq) == 0 {
		return
	}
	last := len(c.seq) - 1
	q := c.begin(deleteSeq, c.seq[last])
	c.seq = c.seq[:last]
	c.wrote(q, coord.Stat{}, c.api.Delete(ctx, q.path))
}

func (c *client) add(ctx context.Context) {
	q := c.begin(addCounter, counter(c.dice.IntN(nCounters)))
	sum, stat, err := c.api.Add(ctx, q.path, 1)
	q.value = strconv.FormatInt(sum, 10)
	c.wrote(q, stat, err)
}

func (c *client) update(ctx context.Context) {
	q := c.begin(updateCounter, counter(c.dice.IntN(nCounters)))
	sum, stat, err := coord.NewTyped(c.api, coord.JSON[int64]()).Update(ctx, q.path, func(n int64) (int64, error) { return n + 1, nil })
	q.value = strconv.FormatInt(sum, 10)
	c.wrote(q, stat, err)
}

// reading returns the options of a read, and enters them.
func (c *client) reading(q *call) []coord.ReadOption {
	switch c.dice.IntN(10) {
	case 0, 1, 2:
		q.level = linearizable
		return []coord.ReadOption{coord.Linearizable()}
	case 3:
		q.level = stale
		return []coord.ReadOption{coord.AllowStale()}
	case 4:
		if pos := c.w.somePosition(); !pos.IsZero() {
			q.level = atLeast
			q.floor = zxidOf(pos)
			return []coord.ReadOption{coord.AtLeast(pos)}
		}
	}
	return nil
}

// read enters what came of a read, which reflects at least zxid.
func (c *client) read(q *call, before time.Duration, zxid coord.ZXID, err error) {
	if err == nil {
		q.zxid = zxid
	}
	c.w.ledger.done(q, err)
	if q.outcome != acked {
		if q.outcome == unknown || !c.excused(q, err) {
			c.w.violate("G3: %v failed with %v", q, err)
		}
		return
	}
	if q.level == plain || q.level == atLeast {
		c.w.checkReach(q, c.p, before)
	}
}

func (c *client) get(ctx context.Context) {
	q := call{kind: getRegister, path: register(c.dice.IntN(nRegisters))}
	if c.dice.IntN(8) == 0 {
		q.path = counter(c.dice.IntN(nCounters))
	}
	opts := c.reading(&q)
	before := c.w.now()
	p := c.beginCall(q)
	data, stat, err := c.api.Get(ctx, p.path, opts...)
	if err == nil {
		p.value, p.stat = string(data), stat
		c.versions[p.path] = stat.Version
	}
	c.read(p, before, stat.Mzxid, err)
}

func (c *client) viewAll(ctx context.Context) {
	q := call{kind: viewAll, path: "/", exact: true}
	opts := c.reading(&q)
	before := c.w.now()
	p := c.beginCall(q)
	v, err := c.api.View(ctx, opts...)
	if err != nil {
		c.read(p, before, 0, err)
		return
	}
	c.read(p, before, v.ZXID(), nil)
	if c.dice.IntN(8) == 0 {
		p.view = v // the checker looks into it
	}
	if v.ZXID()%97 == 0 || c.dice.IntN(500) == 0 {
		c.w.see(v, c.dice.IntN(10) == 0)
	}
	c.checkPairs(p, v)
	c.checkUsage(p, v)
}

func (c *client) checkPairs(q *call, v *coord.View) {
	a, b := pairOf(c.dice.IntN(nPairs))
	da, sa, errA := v.Get(a)
	db, sb, errB := v.Get(b)
	x, _ := strconv.Atoi(string(da))
	y, _ := strconv.Atoi(string(db))
	if errA != nil || errB != nil || x+y != 0 || x != 0 && sa.Mzxid != sb.Mzxid {
		c.w.violate("G7: %v shows %s %q of %v and %s %q of %v (%v, %v)", q, a, da, sa.Mzxid, b, db, sb.Mzxid, errA, errB)
	}
}

func (c *client) list(ctx context.Context) {
	q := call{kind: childrenSeq, path: seqDir}
	opts := c.reading(&q)
	before := c.w.now()
	p := c.beginCall(q)
	var list []coord.ListOption
	for _, o := range opts {
		list = append(list, o)
	}
	names, stat, err := c.api.Children(ctx, seqDir, list...)
	if err == nil {
		p.stat = stat
		if int(stat.NumChildren) != len(names) {
			c.w.violate("G7: %v tells %d names and NumChildren %d", p, len(names), stat.NumChildren)
		}
	}
	c.read(p, before, stat.Pzxid, err)
}

func (c *client) sync(ctx context.Context) {
	q := c.begin(syncAll, "/")
	q.level = linearizable
	c.w.ledger.done(q, c.api.Sync(ctx, "/"))
}

// checkReach checks that a read was not served by a member that nobody has heard, or
// that has heard nobody, for so long that it must know.
func (w *world) checkReach(q *call, p *process, before time.Duration) {
	since, out := w.outSince(p.seat)
	if out && w.now() == before && before-since > 2*w.election {
		w.violate("G15: %v was served at %v by member %v, which is out of reach since %v", q, before, p.member, since)
	}
}
