package sim_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/internal/invariants"
	"coord/internal/private"
)

var grantsFlag = flag.Int("sim.grants", 0, "grants in total that recipes are to make; 0 means as many as CI makes")

// grantsPerRun is how many grants one run makes: enough for some ten minutes of virtual
// time and dozens of faults.
const grantsPerRun = 10_000

// TestRecipes has clients use package recipes under faults, as TestSimulation does the
// tree, until the wanted number of grants was made.
func TestRecipes(t *testing.T) {
	total := 8_000
	if invariants.Enabled {
		total /= 10
	}
	if *grantsFlag > 0 {
		total = *grantsFlag
	}
	start, sum := time.Now(), contested{counts: map[string]int{}, faults: map[string]int{}}
	runAll(t, total, func(t *testing.T, seed uint64, left int) int {
		s := contend(t, recipeOptions(seed, min(grantsPerRun, left)))
		sum.add(s)
		return s.grants
	})
	took := time.Since(start)
	t.Logf("total: %d runs, %v of real time, %.0f grants a second: %v", sum.runs, took.Round(time.Millisecond), float64(sum.grants)/took.Seconds(), &sum)
}

// recipeOptions returns how the run of a seed goes.
func recipeOptions(seed uint64, grants int) options {
	return options{seed: seed, ops: grants, members: *membersFlag, silent: true}
}

// contend makes one run.
func contend(t *testing.T, o options) contested {
	t.Helper()
	var s contested
	inWorld(t, o, func(w *world) {
		c := newContest(w)
		c.run()
		s = c.summary()
		w.t.Logf("seed %d: %v", o.seed, &s)
		w.report("TestRecipes", fmt.Sprintf("-sim.grants=%d", o.ops))
	})
	return s
}

// A contest is a world whose clients use recipes, and nothing else.
type contest struct {
	w       *world
	places  []*place
	doubles []*doubleBarrier
	gates   []*gate
	depots  []*depot
	topics  []*topic
	shares  *shares
	numbers *numbers
	seers   []*observer

	healed  chan struct{}   // closed when all faults are over
	closing context.Context // ends when all that waits to the end may go
	close   context.CancelFunc
	waiting sync.WaitGroup // what goes on until closing

	mu     sync.Mutex
	counts map[string]int // guarded by mu; how often what happened
}

func newContest(w *world) *contest {
	c := &contest{w: w, counts: map[string]int{}, numbers: newNumbers(w), healed: make(chan struct{})}
	c.closing, c.close = context.WithCancel(context.Background())
	for i := range 18 {
		k := placeKinds[i%len(placeKinds)]
		c.places = append(c.places, newPlace(fmt.Sprintf("/places/%s-%d", k.name, i), k, w.violate))
	}
	w.skipped = func(p *process, d time.Duration) {
		for _, pl := range c.places {
			pl.skipped(p, d)
		}
		for _, q := range c.depots {
			q.skipped(p, d)
		}
	}
	c.doubles = []*doubleBarrier{newDouble(w, "/doubles/exact", 3), newDouble(w, "/doubles/crowded", 4)}
	c.gates = []*gate{{w: w, path: "/gates/a"}, {w: w, path: "/gates/b"}}
	c.depots = newDepots(c)
	c.topics = []*topic{newTopic(c, "/topics/a")}
	c.shares = newShares(c)
	return c
}

// count counts something that happened.
func (c *contest) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

// grants returns how many grants were made.
func (c *contest) grants() int {
	n := 0
	for _, p := range c.places {
		p.mu.Lock()
		n += len(p.grants)
		p.mu.Unlock()
	}
	return n
}

const guardedDir = "/guarded"

// guardedPath is the register of a place.
func (p *place) guardedPath() string {
	return guardedDir + "/" + p.path[strings.LastIndexByte(p.path, '/')+1:]
}

// setup starts the members and makes what is there from the start.
func (c *contest) setup() {
	w := c.w
	for _, m := range w.members {
		w.open(m.ID)
	}
	w.net.SetWeather(calm)
	w.ready()
	api := w.process(1).c
	w.mustCreate(api, guardedDir, nil)
	for _, p := range append(c.shares.places(), c.places...) {
		w.mustCreate(api, p.guardedPath(), []byte("0"))
	}
}

// run is one run.
func (c *contest) run() {
	w := c.w
	c.setup()
	chaos := make(chan struct{})
	go func() {
		defer close(chaos)
		w.runFaults()
	}()
	for id := range uint64(60) {
		if w.joins(id) {
			w.working.Go(func() { c.runContender(id) })
		}
	}
	c.startOthers()
	for c.grants() < w.o.ops && w.goesOn() {
		if w.now() > longest {
			w.violate("liveness: %d grants in %v", c.grants(), longest)
		}
	}
	w.stop()
	<-chaos
	w.trace.add("THE END: heal")
	w.rest(w.dice(forEnd))
	w.ready()
	close(c.healed)
	w.working.Wait()
	c.finish()
}

// startOthers starts those who play beside the contenders.
func (c *contest) startOthers() {
	w := c.w
	for id := range uint64(6) {
		if w.joins(100 + id) {
			w.working.Go(func() { c.runElected(100 + id) })
			c.observe(200 + id)
		}
	}
	for i, d := range c.doubles {
		if !w.joins(300 + uint64(10*i)) {
			continue
		}
		for id := range d.n + i { // one too many for the second
			w.working.Go(func() { d.run(w.dice(300 + uint64(10*i+id))) })
		}
	}
	for i, g := range c.gates {
		if who := 400 + 10*uint64(i); w.joins(who) {
			g.start(who)
		}
	}
	for i, d := range c.depots {
		if who := 700 + 50*uint64(i); w.joins(who) {
			d.start(who)
		}
	}
	for i, t := range c.topics {
		if who := 900 + 20*uint64(i); w.joins(who) {
			t.start(who)
		}
	}
	if w.joins(forShares) {
		c.shares.start(forShares)
	}
	if w.joins(980) {
		c.shares.startJobs(980)
	}
	for id := range uint64(3) {
		if w.joins(600 + id) {
			w.working.Go(func() { c.meddle(600 + id) })
		}
	}
	for id := range uint64(4) {
		if w.joins(500 + id) {
			w.working.Go(func() { c.numbers.run(w.dice(500 + id)) })
		}
	}
}

// finish checks what holds when all clients are gone.
func (c *contest) finish() {
	w := c.w
	c.checkObservers()
	for _, t := range c.topics {
		t.checkLast()
	}
	c.shares.checkOwned()
	c.shares.forget()
	c.close()
	c.waiting.Wait()
	sleep(settle + time.Minute) // and the reaper has come by
	w.ready()
	w.converge()
	w.checkMembers()
	for _, m := range w.members {
		p := w.process(m.ID)
		v, err := p.c.View(context.Background(), coord.Linearizable())
		if err != nil {
			w.violate("liveness: member %v cannot read at the end: %v", m.ID, err)
			continue
		}
		c.checkOrphans(p, v)
		for _, pl := range c.places {
			data, stat, err := v.Get(pl.guardedPath())
			if err != nil {
				w.violate("guards: %v", err)
			}
			pl.finish(string(data), stat)
		}
		c.numbers.finish(v)
		for _, d := range c.depots {
			d.finish(v)
		}
		for _, t := range c.topics {
			t.finish(v)
		}
		c.shares.finish(v)
		for _, err := range private.Violations(p.c) {
			w.violate("invariants: member %v: %v", m.ID, err)
		}
	}
	for _, m := range w.members {
		w.down(m.ID, false)
	}
}

// checkOrphans checks that nothing is left of clients that are gone.
func (c *contest) checkOrphans(p *process, v *coord.View) {
	for _, dir := range []string{"/places", "/doubles", "/gates", "/queues", sharesDir} {
		if _, _, err := v.Get(dir); !errors.Is(err, coord.ErrNoNode) {
			var left []string
			for z := range v.Walk(dir) {
				left = append(left, z.Path)
			}
			c.w.violate("orphans: on member %v %s is left with %v (%v)", p.member, dir, left, err)
		}
	}
	st := p.c.Status()
	if st.Watches != 0 {
		c.w.violate("orphans: member %v has %d watches", p.member, st.Watches)
	}
	if st.Sessions != len(c.w.members) {
		c.w.violate("orphans: member %v has %d sessions beside those of %d members", p.member, st.Sessions, len(c.w.members))
	}
}

// excusedRecipe reports whether a call of a recipe may fail so under faults.
func excusedRecipe(err error, also ...error) bool {
	for _, fine := range append(also,
		coord.ErrSuspended, coord.ErrTimeout, coord.ErrClosed, context.DeadlineExceeded, context.Canceled,
		coord.ErrSessionExpired, coord.ErrSessionMoved, coord.ErrUnknownOutcome,
		coord.ErrNotMember, // or else world.down finds out
	) {
		if errors.Is(err, fine) {
			return true
		}
	}
	return false
}

// impatient returns a context that mostly ends later than what it is for.
func impatient(dice *rand.Rand) (context.Context, context.CancelFunc) {
	d := 2 * time.Minute
	switch dice.IntN(8) {
	case 0:
		d = between(dice, 0, 10*time.Millisecond)
	case 1:
		d = between(dice, 10*time.Millisecond, time.Second)
	}
	return context.WithTimeout(context.Background(), d)
}

// A contested is what one or more runs were.
type contested struct {
	runs, grants int
	counts       map[string]int
	virtual      time.Duration
	elections    uint64
	faults       map[string]int
}

func (c *contest) summary() contested {
	for _, d := range c.doubles {
		c.counts["entered"] += d.rounds
	}
	for _, g := range c.gates {
		c.counts["let through"] += g.passed
	}
	c.counts["ids"], c.counts["sums"] = len(c.numbers.ids), len(c.numbers.sums)
	return contested{
		runs: 1, grants: c.grants(), counts: c.counts, virtual: c.w.now(),
		elections: c.w.net.Stats().Elections, faults: c.w.faults,
	}
}

func (s *contested) add(o contested) {
	s.runs += o.runs
	s.grants += o.grants
	s.virtual += o.virtual
	s.elections += o.elections
	for k, n := range o.counts {
		s.counts[k] += n
	}
	for k, n := range o.faults {
		s.faults[k] += n
	}
}

func (s *contested) String() string {
	n := 0
	for _, k := range s.faults {
		n += k
	}
	return fmt.Sprintf("%d grants, %v of virtual time, %d elections, %d faults (%s); %s", s.grants, s.virtual.Round(time.Second), s.elections,
		n, counted(s.faults), counted(s.counts))
}

func counted(m map[string]int) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(all, ", ")
}
