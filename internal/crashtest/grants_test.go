package crashtest_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"coord"
)

// The locks and what they protect.
const (
	lockDir  = "/lock"
	guardDir = "/guard"
	nLocks   = 3

	holdFor = 2 * time.Second // how long a contender waits
)

func lockPath(k int) string  { return fmt.Sprint(lockDir, "/", k) }
func guardPath(k int) string { return fmt.Sprint(guardDir, "/", k) }

// A grant is one holder of one lock.
type grant struct {
	place   int
	process int
	fence   coord.ZXID
	known   time.Duration // the parent was told of it by then
}

// A guarded is a write that was acknowledged to a holder.
type guarded struct {
	grant   *grant
	version int32
}

// The grants are what contenders for locks were told.
type grants struct {
	now func() time.Duration

	mu       sync.Mutex
	findings                   // guarded by mu
	all      [nLocks][]*grant  // guarded by mu; by fence
	writes   [nLocks][]guarded // guarded by mu
	looks    int               // guarded by mu
}

// highest returns the highest fence that is known.
func (g *grants) highest(place int) coord.ZXID {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.all[place]); n > 0 {
		return g.all[place][n-1].fence
	}
	return 0
}

// enter enters a grant that was asked for when below was the highest fence.
func (g *grants) enter(n *grant, below coord.ZXID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n.known = g.now()
	if n.fence <= below {
		g.wrong("fence: process %d was granted lock %d with %v, asked for when %v was known", n.process, n.place, n.fence, below)
	}
	i, found := slices.BinarySearchFunc(g.all[n.place], n.fence, func(x *grant, z coord.ZXID) int { return cmp.Compare(x.fence, z) })
	if found {
		g.wrong("fence: processes %d and %d were both granted lock %d with %v", g.all[n.place][i].process, n.process, n.place, n.fence)
	}
	g.all[n.place] = slices.Insert(g.all[n.place], i, n)
}

// held enters that a holder was told that it holds its lock, or had a guarded write
// acknowledged, by a request that was sent at a time.
func (g *grants) held(n *grant, sent time.Duration, how string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looks++
	for _, later := range slices.Backward(g.all[n.place]) {
		if later.fence <= n.fence {
			return
		}
		if later.known < sent {
			g.wrong("exclusivity: process %d held lock %d with %v at %v (%s), but process %d was granted it with %v at %v", n.process, n.place, n.fence, sent, how, later.process, later.fence, later.known)
			return
		}
	}
}

// count returns how many there were.
func (g *grants) count() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, of := range g.all {
		n += len(of)
	}
	return n
}

func (g *grants) wrote(n *grant, version int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes[n.place] = append(g.writes[n.place], guarded{n, version})
}

// check checks that guarded writes are in the order of the fences, and that no two
// were the same.
func (g *grants) check(o *observation) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for place := range g.writes {
		ws := g.writes[place]
		slices.SortFunc(ws, func(a, b guarded) int { return cmp.Compare(a.version, b.version) })
		for i := 1; i < len(ws); i++ {
			if a, b := ws[i-1], ws[i]; a.version == b.version || a.grant.fence > b.grant.fence {
				g.wrong("guard: lock %d: version %d was written with fence %v, version %d with %v", place, a.version, a.grant.fence, b.version, b.grant.fence)
			}
		}
		if n := len(ws); n > 0 {
			if have := o.nodes[guardPath(place)].Stat.Version; have < ws[n-1].version {
				g.wrong("guard: lock %d: version %d was acknowledged, but %d is there", place, ws[n-1].version, have)
			}
			g.writes[place] = ws[n-1:]
		}
	}
	return g.found()
}

// contend has a member's processes take locks, use them and let go.
func (w *workload) contend(i int, rng *rand.Rand) {
	for n := 0; w.going(); n++ {
		nap(rng, 100*time.Millisecond)
		p := w.e.proc(i)
		session := w.e.held(p)
		if session == "" {
			continue
		}
		place := rng.IntN(nLocks)
		below := w.e.grants.highest(place)
		key := fmt.Sprintf("%d/%d/%d", w.round, i, n)
		a, err := p.call(request{Op: opHold, Path: lockPath(place), Session: session, Key: key, Timeout: holdFor})
		if err != nil {
			continue
		}
		g := &grant{place: place, process: p.n, fence: a.Fence}
		w.e.grants.enter(g, below)
		for range rng.IntN(6) {
			nap(rng, 150*time.Millisecond)
			w.use(p, key, g, rng)
		}
		// The session may last longer than the faults: whoever holds lets go.
		_, _ = p.call(request{Op: opRelease, Key: key, Timeout: holdFor})
	}
}

// use looks whether a lock is held, or writes what it protects.
func (w *workload) use(p *process, key string, g *grant, rng *rand.Rand) {
	sent := w.e.l.now()
	if rng.IntN(2) == 0 {
		if _, err := p.call(request{Op: opStill, Key: key}); err == nil {
			w.e.grants.held(g, sent, "by Check")
		}
		return
	}
	a, err := p.call(request{Op: opGuard, Key: key, Path: guardPath(g.place), Data: key, Timeout: holdFor})
	if err == nil {
		w.e.grants.held(g, sent, "by a guarded write")
		w.e.grants.wrote(g, a.Stat.Version)
	}
}
