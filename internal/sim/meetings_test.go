package sim_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"coord"
	"coord/recipes"
)

// A doubleBarrier is one that is used for one round after the other.
type doubleBarrier struct {
	w    *world
	path string
	n    int

	mu     sync.Mutex
	inside map[*entrant]bool // guarded by mu; who may have a place
	rounds int               // guarded by mu; how often somebody passed
}

// An entrant is one attempt to enter. It has no place before it is begun, nor when it
// has left, or its session has ended.
type entrant struct {
	s       *coord.Session
	p       *process
	passed  bool
	leaving bool
	round   [2]int64 // that it is in when it has passed
}

func newDouble(w *world, path string, n int) *doubleBarrier {
	return &doubleBarrier{w: w, path: path, n: n, inside: map[*entrant]bool{}}
}

// working reports whether e relies on the others being there.
func (e *entrant) working() bool {
	return e.passed && !e.leaving && e.p.killed.Load() == 0 && e.s.Context().Err() == nil
}

// begin is to be told before somebody enters.
func (d *doubleBarrier) begin(s *coord.Session, p *process) *entrant {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := &entrant{s: s, p: p}
	d.inside[e] = true
	return e
}

// pass is to be told when somebody may pass, in which round.
func (d *doubleBarrier) pass(e *entrant, round [2]int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.passed, e.round = true, round
	d.rounds++
	if len(d.inside) < d.n {
		d.w.violate("double barrier: somebody passes %s for %d, but at most %d have entered", d.path, d.n, len(d.inside))
	}
	together := 0
	for o := range d.inside {
		if !o.passed || !e.working() {
			continue
		}
		if o.round == e.round {
			together++
		} else if o.working() {
			d.w.violate("double barrier: somebody passes %s in round %v, but somebody else works in round %v", d.path, e.round, o.round)
		}
	}
	if together > d.n {
		d.w.violate("double barrier: %d have passed %s for %d", together, d.path, d.n)
	}
}

// leave is to be told before somebody leaves.
func (d *doubleBarrier) leave(e *entrant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.leaving = true
}

// left is to be told when somebody was told that all have left.
func (d *doubleBarrier) left(e *entrant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for o := range d.inside {
		if o.round == e.round && o.working() {
			d.w.violate("double barrier: somebody leaves %s in round %v where somebody else works", d.path, e.round)
		}
	}
}

// out is to be told when somebody has no place for sure.
func (d *doubleBarrier) out(e *entrant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.inside, e)
}

// run is one that enters and leaves again and again.
func (d *doubleBarrier) run(dice *rand.Rand) {
	for !d.w.stopping.Load() {
		if p := d.w.any(dice); p != nil {
			d.member(dice, p)
		}
		sleep(between(dice, 0, time.Second))
	}
}

// member enters and leaves with one session, as long as nothing goes wrong.
func (d *doubleBarrier) member(dice *rand.Rand, p *process) {
	s, err := p.c.NewSession(context.Background(), coord.SessionOptions{Timeout: between(dice, 0, 8*time.Second)})
	if err != nil {
		return
	}
	var ghosts []*entrant // that may have a place until the session has ended
	for !d.w.stopping.Load() && s.Context().Err() == nil && dice.IntN(10) != 0 {
		if e := d.once(dice, s, p); e != nil {
			ghosts = append(ghosts, e)
		}
		sleep(between(dice, 0, 500*time.Millisecond))
	}
	closed := s.Close() == nil && errors.Is(context.Cause(s.Context()), coord.ErrClosed) && p.killed.Load() == 0
	d.w.working.Go(func() {
		if !closed { // the session lives on for its timeout
			sleep(settle)
		}
		for _, e := range ghosts {
			d.out(e)
		}
	})
}

// once enters and leaves, and returns the entrant if it may have a place.
func (d *doubleBarrier) once(dice *rand.Rand, s *coord.Session, p *process) *entrant {
	ctx, cancel := impatient(dice)
	defer cancel()
	stop := d.w.whenStopping(cancel)
	defer stop()
	e := d.begin(s, p)
	in, err := recipes.Enter(ctx, s, d.path, d.n)
	if err != nil {
		if !excusedRecipe(err, recipes.ErrFull) {
			d.w.violate("double barrier: Enter %s: %v", d.path, err)
		}
		if errors.Is(err, recipes.ErrFull) {
			d.out(e)
			return nil
		}
		return e
	}
	var round [2]int64
	if v, err := s.View(context.Background(), coord.AllowStale()); err == nil {
		_, stat, _ := v.Get(d.path)
		round = [2]int64{int64(stat.Czxid), int64(stat.Version)}
	}
	d.pass(e, round)
	if dice.IntN(2) == 0 {
		sleep(between(dice, 0, time.Second))
	}
	d.leave(e)
	if err := in.Leave(ctx); err != nil {
		if !excusedRecipe(err) {
			d.w.violate("double barrier: Leave %s: %v", d.path, err)
		}
		return e
	}
	d.left(e)
	d.out(e)
	return nil
}

// A gate is a barrier that one sets and clears, while others wait.
type gate struct {
	w    *world
	path string

	mu     sync.Mutex
	ticks  uint64 // guarded by mu
	since  uint64 // guarded by mu; since when it is set for sure; 0 if it may be clear
	passed int    // guarded by mu
}

func (g *gate) tick() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ticks++
	return g.ticks
}

// set says since now that the gate is set, or that it may be clear.
func (g *gate) set(set bool) {
	now := g.tick()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since = 0
	if set {
		g.since = now
	}
}

// pass checks somebody who waited since a tick and passes.
func (g *gate) pass(begin uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passed++
	if g.since != 0 && g.since < begin {
		g.w.violate("barrier: somebody passes %s, which was set all the time", g.path)
	}
}

func (g *gate) start(id uint64) {
	g.w.working.Go(func() { g.keep(g.w.dice(id)) })
	for i := range uint64(4) {
		g.w.working.Go(func() { g.wait(g.w.dice(id + 1 + i)) })
	}
}

// keep sets and clears the gate, and leaves it clear.
func (g *gate) keep(dice *rand.Rand) {
	do := func(what func(*recipes.Barrier, context.Context) error) bool {
		p := g.w.any(dice)
		if p == nil {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := what(recipes.NewBarrier(p.c, g.path), ctx)
		if open, ok := errors.AsType[*coord.OutcomeError](err); ok {
			// What comes late must not be mistaken for what is done next.
			late, cancel := context.WithTimeout(context.Background(), longest)
			defer cancel()
			err = open.Outcome(late)
		}
		if err != nil && !excusedRecipe(err) && !errors.Is(err, coord.ErrNodeExists) && !errors.Is(err, coord.ErrNoNode) && !errors.Is(err, coord.ErrBadVersion) {
			g.w.violate("barrier: %s: %v", g.path, err)
		}
		return err == nil
	}
	for !g.w.stopping.Load() {
		if do((*recipes.Barrier).Set) {
			g.set(true)
		}
		sleep(between(dice, 0, 2*time.Second))
		g.set(false)
		do((*recipes.Barrier).Clear)
		sleep(between(dice, 0, 500*time.Millisecond))
	}
	for !do((*recipes.Barrier).Clear) {
		sleep(time.Second)
	}
}

// wait waits for the gate again and again.
func (g *gate) wait(dice *rand.Rand) {
	for !g.w.stopping.Load() {
		sleep(between(dice, 0, time.Second))
		p := g.w.any(dice)
		if p == nil {
			continue
		}
		ctx, cancel := impatient(dice)
		begin := g.tick()
		err := recipes.NewBarrier(p.c, g.path).Wait(ctx)
		cancel()
		switch {
		case err == nil:
			g.pass(begin)
		case !excusedRecipe(err):
			g.w.violate("barrier: Wait for %s: %v", g.path, err)
		}
	}
}
