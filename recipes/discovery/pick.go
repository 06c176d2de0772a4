package discovery

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
)

// A Picker chooses among the healthy instances of a service, of which there is at least
// one, sorted by ID. It must not modify the list, and must be safe for concurrent use.
// What it remembers is its own: one picker is for one service.
type Picker interface {
	Pick(healthy []Instance) Instance
}

// RoundRobin returns a Picker that takes one after the other.
func RoundRobin() Picker { return &roundRobin{} }

type roundRobin struct{ n atomic.Uint64 }

// Pick implements [Picker].
func (p *roundRobin) Pick(healthy []Instance) Instance {
	return healthy[(p.n.Add(1)-1)%uint64(len(healthy))]
}

// Random returns a Picker that takes any, all alike.
func Random() Picker { return randomly{} }

type randomly struct{}

// Pick implements [Picker].
func (randomly) Pick(healthy []Instance) Instance { return healthy[rand.N(len(healthy))] }

// Weighted returns a Picker that takes any, each as often as its weight says.
func Weighted() Picker { return weighted{} }

type weighted struct{}

// Pick implements [Picker].
func (weighted) Pick(healthy []Instance) Instance {
	var total int64
	for _, in := range healthy {
		total += in.share()
	}
	n, last := rand.N(total), len(healthy)-1
	for _, in := range healthy[:last] {
		if n -= in.share(); n < 0 {
			return in
		}
	}
	return healthy[last]
}

// share is the weight that an instance is picked by. Those of a Service are in range.
func (in Instance) share() int64 { return int64(min(max(in.Weight, 1), MaxWeight)) }

// Sticky returns a Picker that stays with the instance that another one has chosen,
// for as long as that is there and healthy. An instance that comes back counts as the
// same, if nobody was picked meanwhile.
func Sticky(choose Picker) Picker { return &sticky{choose: choose} }

type sticky struct {
	choose Picker

	mu sync.Mutex
	id string // guarded by mu; empty before the first pick
}

// Pick implements [Picker].
func (p *sticky) Pick(healthy []Instance) Instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(healthy, func(in Instance) bool { return in.ID == p.id }); i >= 0 {
		return healthy[i]
	}
	in := p.choose.Pick(healthy)
	p.id = in.ID
	return in
}
