package sim_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"coord"
	"coord/recipes"
)

// Shares are what processes share out among them: partitions, tasks that are to be done
// once, names and numbers. What is owned is a place, which one may hold at a time.
type shares struct {
	c          *contest
	w          *world
	partitions map[string]*place
	names      map[string]*place
	numbers    []*place

	mu    sync.Mutex
	tasks []*task // guarded by mu; the last one is being done, the others may be
	jobs  []*job  // guarded by mu; likewise
}

// A task is to be done once.
type task struct {
	*place
	dir string

	mu       sync.Mutex
	tried    int  // guarded by mu; how often somebody has done it, recorded or not
	recorded int  // guarded by mu; how often somebody was told that he has
	done     bool // guarded by mu; somebody was told that it is done
}

const sharesDir = "/shares"

func newShares(c *contest) *shares {
	s := &shares{c: c, w: c.w, partitions: map[string]*place{}, names: map[string]*place{}}
	own := func(what string, of any) *place {
		return newPlace(fmt.Sprintf("%s/%s-%v", sharesDir, what, of), placeKind{name: what, limit: 1}, c.w.violate)
	}
	for i := range 5 {
		s.partitions[fmt.Sprint(i)] = own("partition", i)
	}
	for _, name := range []string{"a", "b"} {
		s.names[name] = own("name", name)
	}
	for i := range 4 {
		s.numbers = append(s.numbers, own("number", i))
	}
	return s
}

// places returns all places, and their registers are to be made.
func (s *shares) places() []*place {
	all := append([]*place{}, s.numbers...)
	for _, p := range s.partitions {
		all = append(all, p)
	}
	for _, p := range s.names {
		all = append(all, p)
	}
	return all
}

// forShares is the number of the first of those who share.
const forShares = 950

// start starts all who take part. They throw dice from id on.
func (s *shares) start(id uint64) {
	for i := range uint64(5) {
		s.c.waiting.Go(func() { s.own(id + i) })
	}
	for i := range uint64(4) {
		s.w.working.Go(func() { s.work(id+10+i, s.tryTask) })
		s.w.working.Go(func() { s.work(id+20+i, s.claim) })
	}
}

// owned is a partition as what is held.
type owned struct{ *recipes.Partition }

// Path says that nothing is known of its znode.
func (o owned) Path() string { return "" }

// Release does nothing: it is released when the function returns.
func (o owned) Release(context.Context) error { return nil }

// own takes part in sharing out partitions, to the end.
func (s *shares) own(id uint64) {
	n := &contender{c: s.c, id: id, dice: s.w.dice(id)}
	var names []string
	for name := range s.partitions {
		names = append(names, name)
	}
	var dice sync.Mutex // several functions run at a time
	throw := func(k int) int {
		dice.Lock()
		defer dice.Unlock()
		return n.dice.IntN(k)
	}
	for s.c.closing.Err() == nil {
		sleep(time.Duration(throw(1000)) * time.Millisecond)
		proc := s.w.any(n.dice)
		if proc == nil {
			continue
		}
		ctx, cancel := context.WithCancel(s.c.closing)
		if !s.w.stopping.Load() {
			ctx, cancel = context.WithTimeout(s.c.closing, time.Duration(throw(180))*time.Second)
		}
		var running sync.Map
		err := recipes.RunPartitions(ctx, proc.c, sharesDir+"/partitions", names, func(ctx context.Context, p *recipes.Partition) error {
			if _, twice := running.LoadOrStore(p.Name(), true); twice {
				s.w.violate("partitions: partition %s is worked on twice by one process", p.Name())
			}
			defer running.Delete(p.Name())
			s.c.count("partitions")
			one := &contender{c: s.c, id: id, dice: s.w.dice(uint64(p.Fence())), p: proc}
			pl := s.partitions[p.Name()]
			g := one.enter(pl, owned{p}, p.Check, 1)
			defer pl.ending(g)
			for ctx.Err() == nil {
				wait, cancel := context.WithTimeout(ctx, between(one.dice, 0, 30*time.Second))
				<-wait.Done()
				cancel()
				if one.use(pl, g, owned{p}); throw(50) == 0 && !s.w.stopping.Load() {
					return nil // it has had enough
				}
			}
			if throw(3) == 0 { // it hands over in its own time
				sleep(time.Duration(throw(2000)) * time.Millisecond)
				one.use(pl, g, owned{p})
			}
			return nil
		})
		cancel()
		if err != nil && !excusedRecipe(err) {
			s.w.violate("liveness: RunPartitions: %v", err)
		}
	}
}

// checkOwned checks that all partitions are owned when all is healed and nobody comes
// or goes.
func (s *shares) checkOwned() {
	sleep(5 * time.Minute)
	if !s.w.o.script.plays(forShares) {
		return
	}
	for name, p := range s.partitions {
		p.mu.Lock()
		p.lookLocked()
		if len(p.held) != 1 {
			s.w.violate("partitions: %s has the owners %v at the end", name, p.held)
		}
		p.mu.Unlock()
	}
}

// work has somebody do something again and again, by one session after the other.
func (s *shares) work(id uint64, what func(ctx context.Context, n *contender)) {
	n := &contender{c: s.c, id: id, dice: s.w.dice(id)}
	for !s.w.stopping.Load() {
		if n.begin() {
			for n.s.Context().Err() == nil && !s.w.stopping.Load() && n.dice.IntN(30) != 0 {
				ctx, cancel := impatient(n.dice)
				what(ctx, n)
				cancel()
				sleep(between(n.dice, 0, 2*time.Second))
			}
			if !s.w.stopping.Load() {
				n.part()
			}
		}
		sleep(between(n.dice, 0, time.Second))
	}
	<-s.c.healed
	sleep(time.Minute)
	n.checkLeft()
}

// claim claims a name or a number, and has it for a while.
func (s *shares) claim(ctx context.Context, n *contender) {
	var h *recipes.Held
	var p *place
	var err error
	if n.dice.IntN(2) == 0 {
		for name, of := range s.names {
			p = of
			h, err = recipes.ClaimName(ctx, n.s, sharesDir+"/names", name)
			break
		}
	} else {
		var number int
		if h, number, err = recipes.ClaimNumber(ctx, n.s, sharesDir+"/numbers", len(s.numbers)); err == nil {
			p = s.numbers[number]
		}
	}
	if err == nil {
		s.c.count("claims")
		n.hold(p, h, h.Check, 1)
	} else if !excusedRecipe(err, recipes.ErrTaken, recipes.ErrFull) {
		s.w.violate("liveness: claiming a name or a number: %v", err)
	}
}

// errUndone is why a task fails.
var errUndone = errors.New("undone")

// tryTask does a task, or waits until it is done.
func (s *shares) tryTask(ctx context.Context, n *contender) {
	t := s.task(n)
	if t == nil {
		return
	}
	did := false
	ran, err := recipes.RunOnce(ctx, n.s, t.dir, func(_ context.Context, h *recipes.Held) error {
		g := n.enter(t.place, h, h.Check, 1)
		t.begins(g)
		n.pause(h)
		n.use(t.place, g, h)
		t.ending(g)
		if n.dice.IntN(3) == 0 {
			return errUndone
		}
		did = true
		t.tries()
		return nil
	})
	switch {
	case err == nil:
		s.c.count("tasks")
		t.told(ran, did)
	case !excusedRecipe(err, errUndone):
		s.w.violate("liveness: RunOnce: %v", err)
	}
}

// task returns the task to be done, the next one if that is done.
func (s *shares) task(n *contender) *task {
	s.mu.Lock()
	k := len(s.tasks)
	if k > 0 && !s.tasks[k-1].isDone() {
		defer s.mu.Unlock()
		return s.tasks[k-1]
	}
	s.mu.Unlock()
	dir := fmt.Sprintf("%s/task-%d", sharesDir, k)
	t := &task{place: newPlace(dir, placeKind{name: "task", limit: 1}, s.w.violate), dir: dir}
	_, _, err := n.p.c.Create(context.Background(), t.guardedPath(), []byte("0"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tasks) != k || err != nil && !errors.Is(err, coord.ErrNodeExists) {
		return nil // somebody was faster, or it does not work now
	}
	s.tasks = append(s.tasks, t)
	return t
}

func (t *task) isDone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done
}

// begins is to be told when somebody begins to do it.
func (t *task) begins(g *grant) {
	held := g.check() == nil
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done && held {
		t.violate("tasks: %v begins what is done", g)
	}
}

// tries is to be told when somebody has done it.
func (t *task) tries() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tried++
}

// told is to be told when somebody was told that it is done, and whether he has done it.
func (t *task) told(ran, did bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	if ran {
		t.recorded++
	}
	switch {
	case ran != did:
		t.violate("tasks: who was told that he has done %s (%v) has done so (%v)", t.dir, ran, did)
	case t.tried == 0:
		t.violate("tasks: %s is done, but nobody has done it", t.dir)
	case t.recorded > 1:
		t.violate("tasks: %s was done %d times", t.dir, t.recorded)
	}
}

// forget clears up what tasks leave for ever.
func (s *shares) forget() {
	for _, t := range s.tasks {
		if err := recipes.Forget(context.Background(), s.w.process(1).c, t.dir); err != nil {
			s.w.violate("liveness: forgetting %s: %v", t.dir, err)
		}
	}
	for _, j := range s.jobs {
		if err := recipes.Forget(context.Background(), s.w.process(1).c, j.dir); err != nil {
			s.w.violate("liveness: forgetting %s: %v", j.dir, err)
		}
	}
}

// finish checks the registers at the end.
func (s *shares) finish(v *coord.View) {
	all := s.places()
	for _, t := range s.tasks {
		all = append(all, t.place)
	}
	for _, j := range s.jobs {
		for _, t := range j.tasks {
			all = append(all, t.place)
		}
	}
	for _, p := range all {
		data, stat, err := v.Get(p.guardedPath())
		if err != nil {
			s.w.violate("guards: %v", err)
		}
		p.finish(string(data), stat)
	}
}
