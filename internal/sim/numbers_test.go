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

// Numbers are what clients count, by a Counter, by IDs and in a Value.
type numbers struct {
	w *world

	mu      sync.Mutex
	sums    map[int64]bool // guarded by mu; that Add returned
	ids     map[int64]bool // guarded by mu
	added   tally          // guarded by mu
	updated tally          // guarded by mu
}

// A tally is a sum of which not all is known.
type tally struct{ sure, maybe int64 }

const (
	counterPath = "/numbers/sum"
	idsPath     = "/numbers/ids"
	valuePath   = "/numbers/value"
)

func newNumbers(w *world) *numbers {
	return &numbers{w: w, sums: map[int64]bool{}, ids: map[int64]bool{}}
}

// run is one client.
func (n *numbers) run(dice *rand.Rand) {
	for !n.w.stopping.Load() {
		sleep(between(dice, 0, 3*time.Second))
		p := n.w.any(dice)
		if p == nil {
			continue
		}
		ids := recipes.NewIDs(p.c, idsPath, 1+dice.Int64N(20))
		last := int64(0)
		for range dice.IntN(20) {
			ctx, cancel := impatient(dice)
			switch dice.IntN(4) {
			case 0:
				n.add(ctx, p, 1+dice.Int64N(1000))
			case 1:
				n.update(ctx, p)
			default:
				last = n.take(ctx, ids, last)
			}
			cancel()
		}
	}
}

// sort enters by how much a write has changed a sum.
func (n *numbers) sort(t *tally, delta int64, err error) {
	if open, ok := errors.AsType[*coord.OutcomeError](err); ok {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = open.Outcome(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err == nil:
		t.sure += delta
	case errors.Is(err, coord.ErrUnknownOutcome):
		t.maybe += delta
	}
}

func (n *numbers) add(ctx context.Context, p *process, delta int64) {
	sum, err := recipes.NewCounter(p.c, counterPath).Add(ctx, delta)
	if err != nil && !excusedRecipe(err) {
		n.w.violate("numbers: Add: %v", err)
	}
	n.sort(&n.added, delta, err)
	if err == nil {
		n.once(n.sums, sum, "sum")
	}
}

// once checks that a number is new.
func (n *numbers) once(seen map[int64]bool, number int64, what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if seen[number] {
		n.w.violate("numbers: %s %d comes twice", what, number)
	}
	seen[number] = true
}

func (n *numbers) take(ctx context.Context, ids *recipes.IDs, last int64) int64 {
	id, err := ids.Next(ctx)
	if err != nil {
		if !excusedRecipe(err) {
			n.w.violate("numbers: Next: %v", err)
		}
		return last
	}
	if id <= last {
		n.w.violate("numbers: id %d comes after %d", id, last)
	}
	n.once(n.ids, id, "id")
	return id
}

func (n *numbers) update(ctx context.Context, p *process) {
	_, _, err := recipes.NewValue(p.c, valuePath, coord.JSON[int64]()).Update(ctx, func(old int64) (int64, error) { return old + 1, nil })
	if err != nil && !excusedRecipe(err) {
		n.w.violate("numbers: Update: %v", err)
	}
	n.sort(&n.updated, 1, err)
}

// finish checks the sums at the end.
func (n *numbers) finish(v *coord.View) {
	n.mu.Lock()
	defer n.mu.Unlock()
	check := func(path string, t tally) {
		data, _, err := v.Get(path)
		if errors.Is(err, coord.ErrNoNode) && t.sure == 0 {
			return
		}
		sum, bad := coord.JSON[int64]().Decode(data)
		if err != nil || bad != nil || sum < t.sure || sum > t.sure+t.maybe {
			n.w.violate("numbers: %s is %q (%v), want %d and at most %d more", path, data, err, t.sure, t.maybe)
		}
	}
	check(counterPath, n.added)
	check(valuePath, n.updated)
}
