package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"coord"
	"coord/recipes"
)

// What is held is a [recipes.Held], or is like one.
type held interface {
	Context() context.Context
	Check() error
	Fence() coord.ZXID
	Guard() coord.Op
	Path() string
	Release(ctx context.Context) error
}

// A hold does something while it has what it was given. check tells whether it still
// has.
type hold func(h held, check func() error, weight int64)

// A way is one way to be granted something at a place.
type way struct {
	name string
	get  func(ctx context.Context, n *contender, path string, do hold) error
}

// A placeKind is a kind of places.
type placeKind struct {
	name      string
	limit     int64 // how much may be held at a time
	ways      []way // to be granted some of it; the first one waits
	allowed   []error
	breakable bool // somebody takes it away from its holders
}

// placeKinds are all kinds of places. A recipe that returns a Held needs a line here.
var placeKinds = []placeKind{
	{name: "lock", limit: 1, ways: []way{{"lock", lock}, {"lock", lock}, {"trylock", tryLock}, {"withlock", withLock}}},
	{name: "election", limit: 1, ways: []way{{"campaign", campaign}}},
	{name: "readwrite", limit: readers, ways: []way{{"write lock", writeLock}, {"rlock", rLock}, {"rlock", rLock}, {"tryrlock", tryRLock}}},
	{name: "semaphore", limit: permits, ways: []way{{"acquire", acquire}, {"acquire", acquire}, {"tryacquire", tryAcquire}}},
	{name: "broken", limit: 1, ways: []way{{"lock to be broken", lock}}, allowed: []error{recipes.ErrLost}, breakable: true},
	{name: "lease", limit: 1, ways: []way{{"lease", takeLease}, {"lease", takeLease}, {"trylease", tryLease}}, allowed: []error{recipes.ErrLapsed}},
}

const (
	readers = 1000 // more than there are
	permits = 5
)

func lock(ctx context.Context, n *contender, path string, do hold) error {
	h, err := recipes.Lock(ctx, n.s, path)
	if err == nil {
		do(h, h.Check, 1)
	}
	return err
}

func tryLock(ctx context.Context, n *contender, path string, do hold) error {
	h, err := recipes.TryLock(ctx, n.s, path)
	if err == nil {
		do(h, h.Check, 1)
	}
	return taken(err)
}

// errTaken says that a place was taken, which is an answer.
var errTaken = errors.New("taken")

func taken(err error) error {
	if errors.Is(err, recipes.ErrTaken) {
		return errTaken
	}
	return err
}

func withLock(ctx context.Context, n *contender, path string, do hold) error {
	return recipes.WithLock(ctx, n.s, path, func(ctx context.Context, h *recipes.Held) error {
		do(h, func() error { return context.Cause(ctx) }, 1)
		return nil
	})
}

func writeLock(ctx context.Context, n *contender, path string, do hold) error {
	h, err := recipes.Lock(ctx, n.s, path)
	if err == nil {
		do(h, h.Check, readers)
	}
	return err
}

func rLock(ctx context.Context, n *contender, path string, do hold) error {
	h, err := recipes.RLock(ctx, n.s, path)
	if err == nil {
		do(h, h.Check, 1)
	}
	return err
}

func tryRLock(ctx context.Context, n *contender, path string, do hold) error {
	h, err := recipes.TryRLock(ctx, n.s, path)
	if err == nil {
		do(h, h.Check, 1)
	}
	return taken(err)
}

// weight is that of all permits now and then, and else of one or two.
func weight(dice *rand.Rand) int {
	if dice.IntN(8) == 0 {
		return permits
	}
	return 1 + dice.IntN(2)
}

func acquire(ctx context.Context, n *contender, path string, do hold) error {
	some := weight(n.dice)
	h, err := recipes.Acquire(ctx, n.s, path, permits, recipes.WithWeight(some))
	if err == nil {
		do(h, h.Check, int64(some))
	}
	return err
}

func tryAcquire(ctx context.Context, n *contender, path string, do hold) error {
	some := weight(n.dice)
	h, err := recipes.TryAcquire(ctx, n.s, path, permits, recipes.WithWeight(some))
	if err == nil {
		do(h, h.Check, int64(some))
	}
	return taken(err)
}

func campaign(ctx context.Context, n *contender, path string, do hold) error {
	h, err := recipes.Campaign(ctx, n.s, path, fmt.Append(nil, n.dice.Uint32()), recipes.WithPriority(max(0, n.dice.IntN(6)-3)))
	if err == nil {
		do(h, h.Check, 1)
	}
	return err
}

func takeLease(ctx context.Context, n *contender, path string, do hold) error {
	l, err := recipes.TakeLease(ctx, n.p.c, path, between(n.dice, time.Second, 20*time.Second))
	if err == nil {
		do(l, l.Check, 1)
	}
	return err
}

func tryLease(ctx context.Context, n *contender, path string, do hold) error {
	l, err := recipes.TryLease(ctx, n.p.c, path, between(n.dice, time.Second, 20*time.Second))
	if err == nil {
		do(l, l.Check, 1)
	}
	return taken(err)
}

// A contender is one goroutine that is granted one place after the other, by one
// session after the other.
type contender struct {
	c    *contest
	id   uint64
	dice *rand.Rand
	p    *process
	s    *coord.Session
}

// runContender is one contender.
func (c *contest) runContender(id uint64) {
	n := &contender{c: c, id: id, dice: c.w.dice(id)}
	for !c.w.stopping.Load() {
		if n.begin() {
			for n.s.Context().Err() == nil && !c.w.stopping.Load() && n.dice.IntN(30) != 0 {
				n.c.w.act(n.id, &n.dice, n.burst)
			}
			if !c.w.stopping.Load() {
				n.part()
			}
		}
		sleep(between(n.dice, 0, time.Second))
	}
	<-c.healed
	sleep(time.Minute)
	n.checkLeft()
	n.last()
}

// begin opens a session with some member.
func (n *contender) begin() bool {
	n.p = n.c.w.any(n.dice)
	if n.p == nil {
		return false
	}
	ctx, cancel := impatient(n.dice)
	defer cancel()
	timeout := between(n.dice, 0, 10*time.Second)
	if n.dice.IntN(4) == 0 {
		timeout = between(n.dice, 0, maxSession)
	}
	s, err := n.p.c.NewSession(ctx, coord.SessionOptions{Timeout: timeout})
	if err != nil {
		return false
	}
	n.s = s
	n.c.count("sessions")
	return true
}

// burst is granted something some times.
func (n *contender) burst() {
	p := n.c.places[n.dice.IntN(len(n.c.places))]
	switch n.dice.IntN(12) {
	case 1:
		n.all()
	case 0: // several of one session
		var all sync.WaitGroup
		for range 2 + n.dice.IntN(3) {
			one := *n
			one.dice = rand.New(rand.NewPCG(n.c.w.o.seed, n.dice.Uint64()))
			all.Go(func() { one.turn(p) })
		}
		all.Wait()
	default:
		for range 1 + n.dice.IntN(20) {
			if !n.turn(p) {
				break
			}
		}
	}
	sleep(between(n.dice, 0, 2*time.Second))
}

// turn is granted a place once, and reports whether it was.
func (n *contender) turn(p *place) bool {
	ctx, cancel := impatient(n.dice)
	defer cancel()
	w := p.kind.ways[n.dice.IntN(len(p.kind.ways))]
	granted := false
	err := w.get(ctx, n, p.path, func(h held, check func() error, weight int64) {
		granted = true
		n.c.count(w.name)
		n.hold(p, h, check, weight)
	})
	switch {
	case err == nil:
	case errors.Is(err, errTaken):
		n.c.count("taken")
	case excusedRecipe(err, p.kind.allowed...):
		n.c.count("in vain")
	default:
		n.c.w.violate("liveness: %s of %s by session %v: %v", w.name, p.path, n.s.ID(), err)
	}
	return granted
}

// hold has a place for a while.
func (n *contender) hold(p *place, h held, check func() error, weight int64) {
	g := n.enter(p, h, check, weight)
	for range n.dice.IntN(3) {
		n.pause(h)
		n.use(p, g, h)
		n.rewrite(p, g, h)
	}
	n.release(p, g, h)
}

// rewrite changes what the znode of a holder says, now and then, and renews leases.
func (n *contender) rewrite(p *place, g *grant, h held) {
	ctx, cancel := impatient(n.dice)
	defer cancel()
	var err error
	switch h := h.(type) {
	case *recipes.Lease:
		err = h.Renew(ctx)
	case *recipes.Held:
		switch r := n.dice.IntN(20); {
		case r == 0:
			err = h.SetValue(ctx, fmt.Append(nil, n.dice.Uint32()))
		case r < 8 && p.kind.name == "readwrite" && g.weight == readers:
			n.c.count("downgrades")
			p.weigh(g, 1) // from now on at the latest
			err = h.Downgrade(ctx)
		}
	}
	if err != nil && h.Check() == nil && !p.kind.breakable && !excusedRecipe(err) {
		n.c.w.violate("liveness: writing into the znode of %v: %v", g, err)
	}
}

// all is granted some locks at once.
func (n *contender) all() {
	var at []*place
	var paths []string
	for _, i := range n.dice.Perm(len(n.c.places)) {
		if p := n.c.places[i]; len(at) < 3 && (p.kind.name == "lock" || p.kind.name == "readwrite") {
			at, paths = append(at, p), append(paths, p.path)
		}
	}
	ctx, cancel := impatient(n.dice)
	defer cancel()
	all, err := recipes.LockAll(ctx, n.s, paths)
	if err != nil {
		if !excusedRecipe(err) {
			n.c.w.violate("liveness: LockAll: %v", err)
		}
		return
	}
	n.c.count("lockall")
	var grants []*grant
	for i, h := range all.Held() {
		grants = append(grants, n.enter(at[i], h, all.Check, at[i].limit))
	}
	n.pause(all.Held()[0])
	for i, h := range all.Held() {
		n.use(at[i], grants[i], h)
	}
	for i, g := range grants {
		at[i].ending(g)
	}
	if err := all.Release(ctx); err == nil && n.s.Context().Err() == nil {
		for i, g := range grants {
			at[i].gone(g)
		}
	}
}

// enter enters a grant.
func (n *contender) enter(p *place, h held, check func() error, weight int64) *grant {
	proc := n.p
	g := &grant{
		fence: h.Fence(), weight: weight, who: fmt.Sprintf("contender %d on member %v", n.id, proc.member),
		p: proc, s: sessionOf(h),
		check: func() error {
			if proc.killed.Load() != 0 {
				return coord.ErrClosed // nobody is there to ask
			}
			return check()
		},
	}
	if v, err := n.clientOf(h).View(context.Background(), coord.AllowStale()); err == nil {
		if _, stat, err := v.Get(h.Path()); err == nil && stat.Czxid == h.Fence() {
			g.first = v.ZXID()
		}
	}
	if g.s != nil {
		g.who += fmt.Sprintf(", session %v", g.s.ID())
	}
	p.granted(g)
	n.c.w.trace.add("GRANTED %v", g)
	return g
}

// A lasting is what something is held through.
type lasting interface {
	coord.Client
	Context() context.Context
}

// clientOf returns what something is held through.
func (n *contender) clientOf(h held) lasting {
	if s := sessionOf(h); s != nil {
		return s
	}
	return n.p.c
}

// sessionOf returns the session that something is held by, or nil.
func sessionOf(h held) *coord.Session {
	if h, ok := h.(interface{ Session() *coord.Session }); ok {
		return h.Session()
	}
	return nil
}

// pause lets time pass: mostly little, or none, and sometimes more than the session
// lasts. A holder whose process is paused, or that nobody hears, mostly sleeps on until
// that is over.
func (n *contender) pause(h held) {
	w := n.c.w
	switch r := n.dice.IntN(400); {
	case r < 200:
	case r < 380:
		sleep(between(n.dice, 0, 50*time.Millisecond))
	case r < 395:
		sleep(between(n.dice, 0, 2*time.Second))
	case r < 398:
		w.nap(between(n.dice, 0, 30*time.Second))
	default:
		wait, cancel := context.WithTimeout(h.Context(), between(n.dice, 0, 30*time.Second))
		<-wait.Done()
		cancel()
	}
	if n.dice.IntN(4) == 0 {
		return
	}
	for _, out := w.outSince(n.p.seat); out && n.p.killed.Load() == 0 && !w.stopping.Load(); _, out = w.outSince(n.p.seat) {
		sleep(between(n.dice, 0, time.Second))
	}
}

// use looks whether the place is held, and writes under its guard in any case.
func (n *contender) use(p *place, g *grant, h held) {
	err := p.look(g)
	if err != nil {
		n.c.count("lost")
		if p.lost(g) {
			n.c.count("overtaken")
		}
	}
	if err == nil && n.dice.IntN(3) != 0 {
		return
	}
	n.write(p, g, h)
}

// write writes to the register of the place, through the session or around it.
func (n *contender) write(p *place, g *grant, h held) {
	var api coord.Client = n.clientOf(h)
	if n.dice.IntN(2) == 0 {
		api = n.p.c
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lost, held := p.lost(g), p.look(g) == nil
	results, err := api.Multi(ctx, h.Guard(), coord.SetDataOp(p.guardedPath(), []byte(fenceText(h.Fence()))))
	if open, ok := errors.AsType[*coord.OutcomeError](err); ok {
		results, err = open.Results(ctx)
	}
	var stat coord.Stat
	if err == nil {
		stat = results[1].Stat
	}
	p.wrote(g, lost, stat, err)
	refused := errors.Is(err, coord.ErrNoNode) || errors.Is(err, coord.ErrBadVersion)
	switch {
	case err == nil:
		n.c.count("guarded writes")
	case refused:
		n.c.count("refused by guards")
	case !excusedRecipe(err):
		n.c.w.violate("guards: a write of %v: %v", g, err)
	}
	if refused && held && p.look(g) == nil && !p.kind.breakable {
		n.c.w.violate("guards: a write of %v was refused though it is held: %v", g, err)
	}
}

// release gives the place back, in some way.
func (n *contender) release(p *place, g *grant, h held) {
	if n.p.killed.Load() != 0 {
		n.c.count("holders crashed")
	}
	p.ending(g)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch n.dice.IntN(20) {
	case 0:
		cancel()
	case 1:
		ctx = h.Context()
	case 2:
		ctx, cancel = context.WithTimeout(ctx, between(n.dice, 0, 3*time.Millisecond))
		defer cancel()
	case 3:
		n.c.w.working.Go(func() { _ = h.Release(ctx) })
	case 4:
		if n.dice.IntN(8) == 0 {
			_ = n.s.Close() // the znode ends with it
			return
		}
	}
	err := h.Release(ctx)
	switch {
	case h.Check() == nil:
		n.c.w.violate("exclusivity: %v is held behind its release (%v)", g, err)
	case err != nil && !excusedRecipe(err, append(p.kind.allowed, recipes.ErrReleased)...):
		n.c.w.violate("liveness: the release of %v: %v", g, err)
	case err == nil && n.clientOf(h).Context().Err() == nil:
		p.gone(g)
		if n.dice.IntN(20) == 0 {
			n.write(p, g, h)
		}
	}
}

// part ends the use of a session: it is closed, or taken over by another process that
// closes it.
func (n *contender) part() {
	if n.dice.IntN(8) == 0 {
		n.resume()
	}
	_ = n.s.Close()
}

func (n *contender) resume() {
	p := n.c.w.any(n.dice)
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := p.c.Resume(ctx, n.s.Token(), coord.SessionOptions{})
	if err != nil {
		return
	}
	n.c.count("sessions resumed")
	_ = n.s.Close()
	n.s, n.p = s, p
}

// checkLeft checks that a session that lives has no znodes when nobody asks for
// anything, and all that went on in the background has come to an end.
func (n *contender) checkLeft() {
	if n.s == nil {
		return
	}
	left, err := n.s.Ephemerals(context.Background(), "/", coord.Linearizable())
	if n.s.Context().Err() == nil && (err != nil || len(left) > 0) {
		n.c.w.violate("orphans: session %v, of which nobody holds anything, has %v (%v)", n.s.ID(), left, err)
	}
	if err == nil {
		n.c.count("sessions at the end")
	}
	_ = n.s.Close()
}

// last is granted a place when all faults are over, which must work.
func (n *contender) last() {
	n.p = n.c.w.any(n.dice)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	s, err := n.p.c.NewSession(ctx, coord.SessionOptions{Timeout: maxSession})
	if err != nil {
		n.c.w.violate("liveness: no session at the end: %v", err)
		return
	}
	n.s = s
	defer func() { _ = s.Close() }()
	p := n.c.places[int(n.id)%len(n.c.places)]
	err = p.kind.ways[0].get(ctx, n, p.path, func(h held, check func() error, weight int64) {
		n.release(p, n.enter(p, h, check, weight), h)
	})
	if err != nil {
		n.c.w.violate("liveness: %s of %s at the end: %v", p.kind.ways[0].name, p.path, err)
	}
}

// runElected has a process lead an election again and again.
func (c *contest) runElected(id uint64) {
	n := &contender{c: c, id: id, dice: c.w.dice(id)}
	for !c.w.stopping.Load() {
		sleep(between(n.dice, 0, time.Second))
		if n.p = c.w.any(n.dice); n.p == nil {
			continue
		}
		p := c.places[1] // an election
		ctx, cancel := context.WithTimeout(context.Background(), between(n.dice, 0, 2*time.Minute))
		stop := c.w.whenStopping(cancel)
		var running atomic.Bool
		err := recipes.RunElected(ctx, n.p.c, p.path, func(ctx context.Context, h *recipes.Held) error {
			if !running.CompareAndSwap(false, true) {
				c.w.violate("elections: a process serves two terms of %s at a time", p.path)
			}
			defer running.Store(false)
			c.count("runelected")
			g := n.enter(p, h, func() error { return context.Cause(ctx) }, 1)
			defer p.ending(g)
			for range n.dice.IntN(3) {
				n.pause(h)
				n.use(p, g, h)
			}
			if n.dice.IntN(3) == 0 {
				<-ctx.Done()
			}
			return nil
		}, recipes.WithValue(fmt.Append(nil, id)))
		cancel()
		stop()
		if err != nil && !excusedRecipe(err) {
			c.w.violate("liveness: RunElected: %v", err)
		}
	}
}

// whenStopping calls f when the clients are to come to an end, unless it is stopped
// before.
func (w *world) whenStopping(f func()) (stop func()) {
	done := make(chan struct{})
	w.working.Go(func() {
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				if w.stopping.Load() {
					f()
				}
			}
		}
	})
	return func() { close(done) }
}

// An observer follows an election.
type observer struct {
	mu   sync.Mutex
	last recipes.Contender // guarded by mu; what it was told last
}

// observe has an observer follow the first election, to the end.
func (c *contest) observe(id uint64) {
	dice, o, p := c.w.dice(id), &observer{}, c.places[1]
	c.seers = append(c.seers, o)
	c.waiting.Go(func() {
		for c.closing.Err() == nil {
			if proc := c.w.any(dice); proc != nil {
				ctx, cancel := context.WithTimeout(c.closing, between(dice, 0, 10*time.Minute))
				c.follow(ctx, o, proc, p)
				cancel()
			}
			sleep(between(dice, 0, time.Second))
		}
	})
}

// follow is one Observe.
func (c *contest) follow(ctx context.Context, o *observer, proc *process, p *place) {
	var top coord.ZXID
	for l, err := range recipes.Observe(ctx, proc.c, p.path) {
		if err != nil {
			if !excusedRecipe(err) {
				c.w.violate("elections: Observe on member %v: %v", proc.member, err)
			}
			return
		}
		c.count("observed")
		if l.Fence != 0 && l.Fence < top {
			c.w.violate("elections: an observer was told fence %v after %v", l.Fence, top)
		}
		top = max(top, l.Fence)
		o.mu.Lock()
		o.last = l
		o.mu.Unlock()
	}
}

// checkObservers checks that all observers are told of the leader at the end.
func (c *contest) checkObservers() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := c.w.process(1).c.NewSession(ctx, coord.SessionOptions{})
	if err != nil {
		c.w.violate("liveness: no session at the end: %v", err)
		return
	}
	defer func() { _ = s.Close() }()
	h, err := recipes.Campaign(ctx, s, c.places[1].path, []byte("the last"))
	if err != nil {
		c.w.violate("liveness: Campaign at the end: %v", err)
		return
	}
	sleep(30 * time.Second)
	for _, o := range c.seers {
		o.mu.Lock()
		if o.last.Fence != h.Fence() || string(o.last.Value) != "the last" {
			c.w.violate("elections: an observer has %+v at the end, want fence %v", o.last, h.Fence())
		}
		o.mu.Unlock()
	}
}

// meddle asks contenders to release what they have, and takes it away from them where
// that is allowed.
func (c *contest) meddle(id uint64) {
	dice := c.w.dice(id)
	for !c.w.stopping.Load() {
		sleep(between(dice, 0, 2*time.Second))
		proc, p := c.w.any(dice), c.places[dice.IntN(len(c.places))]
		if proc == nil {
			continue
		}
		ctx, cancel := impatient(dice)
		c.meddleWith(ctx, dice, proc, p)
		cancel()
	}
}

func (c *contest) meddleWith(ctx context.Context, dice *rand.Rand, proc *process, p *place) {
	all, err := recipes.Contenders(ctx, proc.c, p.path)
	if err != nil && !excusedRecipe(err) {
		c.w.violate("liveness: Contenders of %s: %v", p.path, err)
	}
	if len(all) == 0 {
		return
	}
	who := all[dice.IntN(min(len(all), 3))]
	meddle, what := recipes.RequestRelease, "release requests"
	if p.kind.breakable && dice.IntN(2) == 0 {
		meddle, what = recipes.Break, "breaks"
	}
	err = meddle(ctx, proc.c, who)
	if err != nil && !excusedRecipe(err) {
		c.w.violate("liveness: %s of %+v: %v", what, who, err)
	}
	c.count(what)
}
