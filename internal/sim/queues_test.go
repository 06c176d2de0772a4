package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"coord"
	"coord/recipes"
)

// A depot is one queue, with all that was found out about it.
type depot struct {
	c             *contest
	w             *world
	path          string
	bound         int // 0: none
	maxDeliveries int // 0: any number
	careless      int // of ten deliveries, how many are not acknowledged

	// What is asked of the recipe, so that tests of the checkers can break it.
	put   func(q *recipes.Queue[int64], ctx context.Context, value int64, opts ...recipes.PutOption) error
	ack   func(d *recipes.Delivery[int64], ctx context.Context, also ...coord.Op) error
	check func(d *recipes.Delivery[int64]) error

	mu     sync.Mutex
	queues map[*process]*recipes.Queue[int64] // guarded by mu
	goods  map[int64]*good                    // guarded by mu; by their values
	missed int                                // guarded by mu; how many items may have been delivered to nobody
}

// A good is one item that was to be put into a queue. It is a place as well, which at
// most one delivery may hold at a time.
type good struct {
	*place
	value    int64
	id       string
	priority int
	due      time.Time // it must not be delivered before

	// What follows is guarded by depot.mu.
	put       outcome
	handed    []handing
	acked     tally      // how often it was acknowledged
	counted   tally      // the part of these that the tree counts, in the same write
	last      coord.ZXID // the fence of the delivery that was acknowledged
	refused   bool       // somebody has tried to reject it
	putBack   bool       // somebody has tried to put it back, and its deliveries count anew
	discarded tally
}

func (g *good) String() string { return "item " + g.path }

// A handing is what a delivery says of itself.
type handing struct {
	fence  coord.ZXID
	number int
}

// A handed is a delivery as what is held.
type handed struct{ *recipes.Delivery[int64] }

// Path returns the path of what stands for it.
func (h handed) Path() string { return h.Delivery.Path() + "/taken" }

// Release gives it back.
func (h handed) Release(ctx context.Context) error { return h.Nack(ctx, 0) }

func newDepots(c *contest) []*depot {
	all := []*depot{
		{path: "/queues/plain", careless: 2},
		{path: "/queues/bound", careless: 2, bound: 8},
		{path: "/queues/dying", careless: 6, maxDeliveries: 3},
	}
	for _, d := range all {
		d.c, d.w = c, c.w
		d.put, d.ack, d.check = (*recipes.Queue[int64]).Put, (*recipes.Delivery[int64]).Ack, (*recipes.Delivery[int64]).Check
		d.queues, d.goods = map[*process]*recipes.Queue[int64]{}, map[int64]*good{}
	}
	return all
}

// start starts all who use a queue. They throw dice from id on.
func (d *depot) start(id uint64) {
	for i := range uint64(2) {
		d.w.working.Go(func() { d.produce(d.w.dice(id + i)) })
	}
	for i := range uint64(5) {
		d.w.working.Go(func() { d.runConsumer(id + 10 + i) })
	}
	d.w.working.Go(func() { d.look(d.w.dice(id + 20)) })
	d.w.working.Go(func() { d.drain(id + 21) })
}

// queue returns the queue as a process has it.
func (d *depot) queue(p *process) *recipes.Queue[int64] {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[p]
	if q == nil {
		var opts []recipes.QueueOption
		if d.bound > 0 {
			opts = append(opts, recipes.WithBound(d.bound))
		}
		if d.maxDeliveries > 0 {
			opts = append(opts, recipes.WithMaxDeliveries(d.maxDeliveries))
		}
		q = recipes.NewQueue(p.c, d.path, coord.JSON[int64](), opts...)
		d.queues[p] = q
	}
	return q
}

// skipped is told when the clock of a process has run ahead.
func (d *depot) skipped(p *process, by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.goods {
		g.skipped(p, by)
	}
}

// produce puts items until all comes to an end.
func (d *depot) produce(dice *rand.Rand) {
	for !d.w.stopping.Load() {
		sleep(between(dice, 0, 2*time.Second))
		p := d.w.any(dice)
		if p == nil {
			continue
		}
		n, err := d.queue(p).Len(context.Background(), coord.AllowStale())
		if err != nil && !excusedRecipe(err) {
			d.w.violate("queues: the length of %s: %v", d.path, err)
		}
		for range dice.IntN(5) {
			if n < 40 {
				d.putOne(dice, p)
			}
		}
	}
}

// putOne puts an item that has a register.
func (d *depot) putOne(dice *rand.Rand, p *process) {
	g, opts := d.newGood(dice)
	if _, _, err := p.c.Create(context.Background(), g.guardedPath(), []byte("0")); err != nil {
		return
	}
	ctx, cancel := impatient(dice)
	defer cancel()
	err := d.put(d.queue(p), ctx, g.value, opts...)
	if open, ok := errors.AsType[*coord.OutcomeError](err); ok {
		d.c.count("puts without an answer")
		d.w.working.Go(func() {
			late, cancel := context.WithTimeout(context.Background(), longest)
			defer cancel()
			d.sort(g, open.Outcome(late))
		})
		return
	}
	d.sort(g, err)
	switch own := strings.HasPrefix(g.id, "own"); {
	case err == nil:
		d.c.count("puts")
		if v, err := p.c.View(context.Background(), coord.AllowStale()); err == nil {
			d.audit(v)
		}
	case errors.Is(err, recipes.ErrFull) && d.bound > 0:
		d.c.count("puts into a full queue")
	case errors.Is(err, recipes.ErrSameID) && g.id != "" && !own:
		d.c.count("puts of an id that is there")
	case !excusedRecipe(err):
		d.w.violate("queues: %v could not be put: %v", g, err)
	}
}

// newGood makes up an item.
func (d *depot) newGood(dice *rand.Rand) (*good, []recipes.PutOption) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := &good{value: int64(len(d.goods)), due: time.Now()}
	g.place = newPlace(fmt.Sprintf("%s-%d", d.path, g.value), placeKind{name: "queue", limit: 1}, d.w.violate)
	d.goods[g.value] = g
	var opts []recipes.PutOption
	if dice.IntN(4) == 0 {
		g.priority = dice.IntN(5) - 2
		opts = append(opts, recipes.Priority(g.priority))
	}
	if dice.IntN(4) == 0 {
		wait := between(dice, 0, 10*time.Second)
		g.due = g.due.Add(wait)
		opts = append(opts, recipes.Delay(wait))
	}
	switch dice.IntN(4) {
	case 0:
		g.id = fmt.Sprintf("some-%d", dice.IntN(4))
		opts = append(opts, recipes.ID(g.id))
	case 1:
		g.id = fmt.Sprintf("own-%d", g.value) // it is never there already
		opts = append(opts, recipes.ID(g.id))
	}
	return g, opts
}

// sort enters what came of a put.
func (d *depot) sort(g *good, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		g.put = acked
	case errors.Is(err, coord.ErrUnknownOutcome):
		g.put = unknown
	default:
		g.put = refused
	}
}

// runConsumer takes items, by one session after the other.
func (d *depot) runConsumer(id uint64) {
	n := &contender{c: d.c, id: id, dice: d.w.dice(id)}
	for !d.w.stopping.Load() {
		if n.begin() {
			for n.s.Context().Err() == nil && !d.w.stopping.Load() && n.dice.IntN(30) != 0 {
				d.consume(n)
			}
			if !d.w.stopping.Load() {
				n.part()
			}
		}
		sleep(between(n.dice, 0, time.Second))
	}
	<-d.c.healed
	sleep(time.Minute)
	n.checkLeft()
}

// consume takes what it gets, and settles it.
func (d *depot) consume(n *contender) {
	ctx, cancel := impatient(n.dice)
	defer cancel()
	stop := d.w.whenStopping(cancel)
	defer stop()
	q, limit := d.queue(n.p), 1
	var all []*recipes.Delivery[int64]
	var one *recipes.Delivery[int64]
	var err error
	switch n.dice.IntN(5) {
	case 0:
		one, err = q.TryTake(ctx, n.s)
	case 1, 2:
		limit = 1 + n.dice.IntN(5)
		all, err = q.TakeBatch(ctx, n.s, limit)
	default:
		one, err = q.Take(ctx, n.s)
	}
	switch {
	case errors.Is(err, recipes.ErrEmpty):
		d.c.count("nothing to take")
	case errors.Is(err, coord.ErrUnknownOutcome):
		d.c.count("takes without an answer")
		d.mu.Lock()
		d.missed += limit
		d.mu.Unlock()
	case err != nil && !excusedRecipe(err):
		d.w.violate("queues: taking from %s by session %v: %v", d.path, n.s.ID(), err)
	}
	if one != nil {
		all = append(all, one)
	}
	d.holdAll(n, all)
}

// holdAll has some deliveries for a while, and settles them one after the other.
func (d *depot) holdAll(n *contender, all []*recipes.Delivery[int64]) {
	if len(all) > 1 {
		d.c.count("batches")
	}
	goods, grants := make([]*good, len(all)), make([]*grant, len(all))
	for i, del := range all {
		g := d.delivered(del.Value, handing{del.Fence(), del.Deliveries()}, del.ID(), del.Priority())
		if i > 0 && del.Priority() > all[i-1].Priority() {
			d.w.violate("queues: of one batch, %v comes behind one of a smaller priority", g)
		}
		goods[i], grants[i] = g, n.enter(g.place, handed{del}, func() error { return d.check(del) }, 1)
	}
	for i, del := range all {
		for range n.dice.IntN(3) {
			n.pause(handed{del})
			n.use(goods[i].place, grants[i], handed{del})
		}
		d.settle(n, goods[i], grants[i], del)
	}
}

// delivered enters a delivery, and returns its item.
func (d *depot) delivered(value int64, h handing, id string, priority int) *good {
	d.c.count("deliveries")
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.goods[value]
	if g.id != id || g.priority != priority {
		d.w.violate("queues: %v is delivered with id %q and priority %d, want %q and %d", g, id, priority, g.id, g.priority)
	}
	if time.Now().Before(g.due) {
		d.w.violate("queues: %v is delivered %v before it is due", g, time.Until(g.due))
	}
	if g.put == refused {
		d.w.violate("queues: %v is delivered though it was refused", g)
	}
	if g.last != 0 && h.fence > g.last {
		d.w.violate("queues: %v is delivered with fence %v behind %v, which acknowledged it", g, h.fence, g.last)
	}
	if d.maxDeliveries > 0 && h.number > d.maxDeliveries {
		d.w.violate("deliveries: %v is delivered for the %dth time", g, h.number)
	}
	for _, o := range g.handed {
		if !g.putBack && (o.fence < h.fence) != (o.number < h.number) {
			d.w.violate("deliveries: %v is delivered with fence %v for the %dth time, and with %v for the %dth", g, h.fence, h.number, o.fence, o.number)
		}
	}
	g.handed = append(g.handed, h)
	return g
}

// settle settles a delivery in some way.
func (d *depot) settle(n *contender, g *good, gr *grant, del *recipes.Delivery[int64]) {
	if n.p.killed.Load() != 0 {
		d.c.count("consumers crashed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch n.dice.IntN(20) {
	case 0:
		cancel()
	case 1:
		ctx, cancel = context.WithTimeout(ctx, between(n.dice, 0, 3*time.Millisecond))
		defer cancel()
	}
	g.ending(gr)
	if n.dice.IntN(10) >= d.careless {
		d.acknowledge(ctx, n, g, gr, del)
		return
	}
	if n.dice.IntN(10) == 0 { // the item ends with the session
		d.c.count("dropped deliveries")
		_ = n.s.Close()
		return
	}
	var err error
	switch n.dice.IntN(5) {
	case 0:
		d.mu.Lock()
		g.refused = true
		d.mu.Unlock()
		d.c.count("rejects")
		err = del.Reject(ctx)
	case 1, 2:
		d.c.count("nacks with a delay")
		err = del.Nack(ctx, between(n.dice, 0, 5*time.Second))
	default:
		d.c.count("nacks")
		err = del.Nack(ctx, 0)
	}
	switch {
	case d.check(del) == nil:
		d.w.violate("exclusivity: %v is held behind its end (%v)", gr, err)
	case err == nil:
		g.gone(gr)
		if n.dice.IntN(10) == 0 {
			n.write(g.place, gr, handed{del})
		}
	case !excusedRecipe(err) && n.s.Context().Err() == nil:
		d.w.violate("queues: giving back %v: %v", gr, err)
	}
}

// acknowledge acknowledges a delivery, mostly in one write with an entry below the
// register of the item.
func (d *depot) acknowledge(ctx context.Context, n *contender, g *good, gr *grant, del *recipes.Delivery[int64]) {
	var also []coord.Op
	if n.dice.IntN(4) != 0 {
		also = append(also, coord.CreateOp(g.guardedPath()+"/ack-", nil, coord.PersistentSequential))
	}
	lost := g.lost(gr)
	inMulti := n.dice.IntN(4) == 0
	for range 3 {
		var err error
		if inMulti {
			var api coord.Client = n.s
			if n.dice.IntN(2) == 0 {
				api = n.p.c
			}
			_, err = api.Multi(ctx, append(del.AckOps(), also...)...)
		} else {
			err = d.ack(del, ctx, also...)
		}
		if open, ok := errors.AsType[*coord.OutcomeError](err); ok {
			d.c.count("acks without an answer")
			late, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			err = open.Outcome(late)
			cancel()
			if err == nil && !inMulti {
				if again := d.ack(del, context.Background(), also...); again != nil {
					d.w.violate("queues: %v was acknowledged, but to do so again says %v", gr, again)
				}
			}
		}
		d.acknowledged(g, gr, len(also) > 0, lost, err)
		switch {
		case err == nil:
			d.c.count("acks")
			g.gone(gr)
			if inMulti { // of which the delivery is not told at once
				wait, cancel := context.WithTimeout(del.Context(), 10*time.Minute)
				<-wait.Done()
				cancel()
			}
			if d.check(del) == nil {
				d.w.violate("exclusivity: %v is held though it was acknowledged", gr)
			}
			if n.dice.IntN(10) == 0 {
				n.write(g.place, gr, handed{del})
			}
			return
		case inMulti && (errors.Is(err, coord.ErrNoNode) || errors.Is(err, coord.ErrBadVersion)) && del.Check() != nil:
		case !excusedRecipe(err) && n.s.Context().Err() == nil && (inMulti || !errors.Is(err, recipes.ErrLost) || del.Check() == nil):
			d.w.violate("queues: acknowledging %v: %v", gr, err)
		}
		if errors.Is(err, coord.ErrUnknownOutcome) || del.Check() != nil {
			break
		}
		next, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ctx = next //nolint:fatcontext // a new one, and not in the old one
	}
	_ = n.s.Close() // it has the item no longer
}

// acknowledged enters what came of an acknowledgement. lost says that its delivery was
// lost for certain when it began.
func (d *depot) acknowledged(g *good, gr *grant, counted, lost bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var t tally
	switch {
	case err == nil:
		t.sure = 1
		g.last = gr.fence
		if lost {
			d.w.violate("guards: %v has acknowledged what it had lost", gr)
		}
	case errors.Is(err, coord.ErrUnknownOutcome):
		t.maybe = 1
	}
	g.acked.add(t)
	if counted {
		g.counted.add(t)
	}
}

func (t *tally) add(o tally) {
	t.sure += o.sure
	t.maybe += o.maybe
}

// look looks at the queue, and after its dead letters, until all comes to an end.
func (d *depot) look(dice *rand.Rand) {
	for !d.w.stopping.Load() {
		sleep(between(dice, 0, time.Second))
		p := d.w.any(dice)
		if p == nil {
			continue
		}
		if v, err := p.c.View(context.Background(), coord.AllowStale()); err == nil {
			d.audit(v)
		}
		if dice.IntN(8) == 0 {
			d.bury(dice, p, false)
		}
	}
}

// audit checks what a state shows of the queue: that it has no more than it may have,
// no id and no item twice, and just the ids of its items.
func (d *depot) audit(v *coord.View) {
	ids, values, there, items := map[string]bool{}, map[string]bool{}, map[string]bool{}, 0
	for z := range v.Walk(d.path) {
		dir, name, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(z.Path, d.path), "/"), "/")
		switch {
		case name == "" || strings.Contains(name, "/") || dir == "takers":
			continue
		case dir == "ids":
			there[name] = true
			continue
		case dir != "dead":
			items++
		}
		id, value := split(z.Data)
		if values[value] {
			d.w.violate("queues: item %s is twice in %s at %v", value, d.path, v.ZXID())
		}
		values[value] = true
		if id == "" {
			continue
		}
		if ids[id] {
			d.w.violate("ids: %s is twice in %s at %v", id, d.path, v.ZXID())
		}
		ids[id] = true
	}
	for id := range ids {
		if !there[id] {
			d.w.violate("ids: %s of an item is not among the ids of %s at %v", id, d.path, v.ZXID())
		}
	}
	for id := range there {
		if !ids[id] {
			d.w.violate("ids: %s is not the id of any item of %s at %v", id, d.path, v.ZXID())
		}
	}
	if d.bound > 0 && items > d.bound {
		d.w.violate("bounds: there are %d items in %s at %v, which may have %d", items, d.path, v.ZXID(), d.bound)
	}
}

// split returns the id and the value that an item's data has.
func split(data []byte) (id, value string) {
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	_, name, _ := bytes.Cut(head, []byte(" "))
	return string(name), string(rest)
}

// bury looks after dead letters: it puts some back, discards some, and leaves some. In
// the end it discards them all.
func (d *depot) bury(dice *rand.Rand, p *process, all bool) {
	ctx, cancel := impatient(dice)
	if all {
		ctx, cancel = context.WithTimeout(context.Background(), 10*time.Minute)
	}
	defer cancel()
	letters, err := d.queue(p).DeadLetters(ctx, coord.Linearizable())
	if err != nil && (all || !excusedRecipe(err)) {
		d.w.violate("queues: dead letters of %s: %v", d.path, err)
	}
	for _, l := range letters {
		g := d.died(l.Value, l.Deliveries, l.Err)
		switch r := dice.IntN(3); {
		case r == 1 && !all:
			d.mu.Lock()
			g.putBack = true
			d.mu.Unlock()
			err = d.queue(p).PutBack(ctx, l)
			d.c.count("put back")
		case r == 2 || all:
			err = d.queue(p).Discard(ctx, l)
			d.discard(g, err)
			d.c.count("discarded")
		}
		if err != nil && (all || !excusedRecipe(err, coord.ErrNoNode, recipes.ErrFull)) {
			d.w.violate("queues: settling the dead letter of %v: %v", g, err)
		}
	}
}

// died enters a dead letter, and returns its item.
func (d *depot) died(value int64, deliveries int, err error) *good {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.goods[value]
	if err != nil {
		d.w.violate("queues: the dead letter of %v: %v", g, err)
	}
	if !g.refused && (d.maxDeliveries == 0 || deliveries < d.maxDeliveries) {
		d.w.violate("deliveries: %v has died of %d deliveries", g, deliveries)
	}
	return g
}

func (d *depot) discard(g *good, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		g.discarded.sure++
	case errors.Is(err, coord.ErrUnknownOutcome):
		g.discarded.maybe++
	}
}

// drain takes all that is left when all is healed and nobody else takes anything.
func (d *depot) drain(id uint64) {
	<-d.c.healed
	sleep(3 * time.Minute)
	n := &contender{c: d.c, id: id, dice: d.w.dice(id)}
	n.p = d.w.any(n.dice)
	s, err := n.p.c.NewSession(context.Background(), coord.SessionOptions{Timeout: maxSession})
	if err != nil {
		d.w.violate("liveness: no session at the end: %v", err)
		return
	}
	n.s = s
	defer func() { _ = s.Close() }()
	q := d.queue(n.p)
	for begin := d.w.now(); ; {
		left, err := q.Len(context.Background(), coord.Linearizable())
		if err != nil || left > 0 && d.w.now() > begin+time.Hour {
			d.w.violate("liveness: %d items are left in %s (%v)", left, d.path, err)
			return
		}
		if left == 0 || len(d.w.ledger.found()) > 0 { // more says no more
			break
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		all, err := q.TakeBatch(ctx, s, 100)
		cancel()
		if left, _ := q.Len(context.Background(), coord.Linearizable()); err != nil && left > 0 {
			d.w.violate("liveness: of %d items in %s at the end: %v", left, d.path, err)
			return
		}
		for _, del := range all {
			g := d.delivered(del.Value, handing{del.Fence(), del.Deliveries()}, del.ID(), del.Priority())
			gr := n.enter(g.place, handed{del}, func() error { return d.check(del) }, 1)
			g.ending(gr)
			err := d.ack(del, context.Background(), coord.CreateOp(g.guardedPath()+"/ack-", nil, coord.PersistentSequential))
			if err != nil {
				d.w.violate("liveness: %v cannot be acknowledged at the end: %v", gr, err)
			}
			d.acknowledged(g, gr, true, false, err)
		}
	}
	d.bury(n.dice, n.p, true)
}

// finish checks the state at the end, when all items are settled.
func (d *depot) finish(v *coord.View) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.audit(v)
	there := map[string]bool{}
	for z := range v.Walk(d.path) {
		if _, value := split(z.Data); value != "" {
			there[value] = true
		}
	}
	skipped := 0
	for _, g := range d.goods {
		data, stat, err := v.Get(g.guardedPath())
		if err != nil && g.put != pending {
			d.w.violate("guards: %v", err)
			continue
		}
		g.finish(string(data), stat)
		value, _ := json.Marshal(g.value)
		d.account(g, there[string(value)], int64(stat.NumChildren))
		if most := g.most(); !g.putBack {
			skipped += most - len(g.handed)
		}
	}
	if skipped > d.missed {
		d.w.violate("deliveries: %d deliveries of %s were counted that nobody has, but at most %d are not known", skipped, d.path, d.missed)
	}
}

// most returns the highest number of a delivery.
func (g *good) most() int {
	most := 0
	for _, h := range g.handed {
		most = max(most, h.number)
	}
	return most
}

// account checks that all that was told of one item agrees: whether it is there at the
// end, and how many acknowledgements the tree has counted.
func (d *depot) account(g *good, there bool, count int64) {
	all := g.acked.sure + g.acked.maybe + g.discarded.sure + g.discarded.maybe
	switch {
	case count > 1 || g.acked.sure > 1:
		d.w.violate("queues: %v was acknowledged %d times by what was told, and %d times by the tree", g, g.acked.sure, count)
	case count < g.counted.sure || count > g.counted.sure+g.counted.maybe:
		d.w.violate("queues: %v was acknowledged %d times by the tree, want %d and at most %d more", g, count, g.counted.sure, g.counted.maybe)
	case there && (g.acked.sure > 0 || count > 0 || g.discarded.sure > 0):
		d.w.violate("queues: %v was acknowledged or discarded and is there", g)
	case g.acked.sure > 0 && g.discarded.sure > 0:
		d.w.violate("queues: %v was acknowledged and discarded", g)
	case g.put == acked && !there && all == 0:
		d.w.violate("queues: %v is lost", g)
	case g.put == refused && (there || len(g.handed) > 0 || all > 0):
		d.w.violate("queues: %v was refused and put", g)
	case len(g.handed) > 0 && !there && all == 0:
		d.w.violate("queues: %v was there and is lost", g)
	}
}
