package sim_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"coord"
)

// A place is one path at which a recipe grants something, with all that was found out
// about it. Its mutex puts into one order what happened at one moment of virtual time.
type place struct {
	path    string
	kind    placeKind
	limit   int64 // how much may be held at a time; who holds as much holds it alone
	violate func(format string, args ...any)

	mu       sync.Mutex
	held     []*grant              // guarded by mu; whose end nobody has seen
	grants   []*grant              // guarded by mu; all
	fences   map[coord.ZXID]*grant // guarded by mu
	top      coord.ZXID            // guarded by mu; the highest fence
	topAlone coord.ZXID            // guarded by mu; and that of those who held it alone
	guarded  guarded               // guarded by mu
}

// A grant is what one holder was given.
type grant struct {
	at     *place
	fence  coord.ZXID
	weight int64
	who    string
	check  func() error // nil while it is held
	first  coord.ZXID   // of a state in which it was granted; 0 if none was seen
	p      *process
	s      *coord.Session // nil if it does not end with one

	over     bool // guarded by place.mu; its end was seen, or its release begins
	released bool // guarded by place.mu; its release has ended well
}

func (g *grant) String() string {
	return fmt.Sprintf("%s with fence %v of %s", g.who, g.fence, g.at.path)
}

// alone reports whether nobody else may have anything.
func (g *grant) alone() bool { return g.weight == g.at.limit }

// conflicts reports whether two may not hold at the same time.
func (g *grant) conflicts(o *grant) bool { return g.weight+o.weight > g.at.limit }

func newPlace(path string, k placeKind, violate func(string, ...any)) *place {
	return &place{
		path: path, kind: k, limit: k.limit, violate: violate, fences: map[coord.ZXID]*grant{},
		guarded: guarded{versions: map[int32]written{}},
	}
}

// granted enters a grant.
func (p *place) granted(g *grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.at = p
	if o := p.fences[g.fence]; o != nil {
		p.violate("fences: %v was granted after %v", g, o)
	}
	p.fences[g.fence] = g
	p.grants = append(p.grants, g)
	p.held = append(p.held, g)
	p.lookLocked()
	// One that is over when it arrives may be late; so may one that was broken while it
	// waited and does not know.
	if !g.over && !p.kind.breakable {
		if g.fence <= p.topAlone || g.alone() && g.fence <= p.top {
			p.violate("fences: %v was granted after %v", g, p.fences[p.top])
		}
	}
	p.top = max(p.top, g.fence)
	if g.alone() {
		p.topAlone = max(p.topAlone, g.fence)
	}
}

// look returns what a holder finds when it looks whether it still is one.
func (p *place) look(g *grant) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := g.over
	p.lookLocked()
	err := g.check()
	if was && err == nil {
		p.violate("exclusivity: %v was over and is held again", g)
	}
	return err
}

// lookLocked checks that those who hold the place may do so together. Who does when it
// is asked twice did all the time in between, so all of those did at once.
func (p *place) lookLocked() {
	for range 2 {
		p.held = slices.DeleteFunc(p.held, func(g *grant) bool {
			g.over = g.over || g.check() != nil
			return g.over
		})
	}
	var sum int64
	for _, g := range p.held {
		sum += g.weight
	}
	if sum > p.limit && !p.kind.breakable {
		p.violate("exclusivity: %v hold at once what only %d may", p.held, p.limit)
		p.held = p.held[len(p.held)-1:] // to say it once
	}
}

// weigh is to be told before a holder has less.
func (p *place) weigh(g *grant, weight int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.weight = weight
}

// skipped checks, when the clock of a process has run ahead, that whose session is over
// by then knows it at once.
func (p *place) skipped(proc *process, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.held {
		if g.p == proc && g.s != nil && g.s.Timeout() <= d && g.check() == nil {
			p.violate("exclusivity: %v is held after a pause of %v, for which its session does not last", g, d)
		}
	}
}

// ending is to be told before a holder gives back what it has.
func (p *place) ending(g *grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.over = true
	p.lookLocked()
}

// gone is to be told when a holder knows that it has given it back.
func (p *place) gone(g *grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.released = true
}

// lost reports whether g cannot be held any more: it was given back, or somebody else
// was given what g may not have beside it.
func (p *place) lost(g *grant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.released {
		return true
	}
	for _, o := range slices.Backward(p.grants) {
		if o.fence <= g.fence {
			return false // earlier ones have lower fences; who was late does not matter here
		}
		if o.conflicts(g) {
			return true
		}
	}
	return false
}

// What is guarded is a znode that only holders of a place write to, each its fence. It is
// what a grant is to protect.
type guarded struct {
	versions map[int32]written
	unknown  int // writes of which nobody knows what became
}

// A written is what one version of a register is.
type written struct {
	by   *grant
	zxid coord.ZXID
}

// wrote enters what came of a guarded write. lost says whether its grant was lost for
// certain when it began.
func (p *place) wrote(g *grant, lost bool, stat coord.Stat, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, coord.ErrUnknownOutcome) {
		p.guarded.unknown++
		return
	}
	if err != nil {
		return
	}
	if lost {
		p.violate("guards: a guarded write of %v succeeded though it was lost", g)
	}
	if o, ok := p.guarded.versions[stat.Version]; ok {
		p.violate("guards: %v and %v have both written version %d", g, o.by, stat.Version)
	}
	p.guarded.versions[stat.Version] = written{g, stat.Mzxid}
}

// finish checks what can only be checked when all is known: that the register at the
// end, and its history, are what the order of grants allows.
func (p *place) finish(data string, last coord.Stat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.guarded
	if missing := int(last.Version) - len(r.versions); missing < 0 || missing > r.unknown {
		p.violate("guards: the register of %s has version %d, but %d writes succeeded and of %d that is unknown", p.path, last.Version, len(r.versions), r.unknown)
	}
	if w, ok := r.versions[last.Version]; ok && data != fenceText(w.by.fence) {
		p.violate("guards: the register of %s has %s of %v at the end", p.path, data, w.by)
	}
	p.checkOrder()
	p.checkFirst()
}

func fenceText(z coord.ZXID) string { return strconv.FormatUint(uint64(z), 10) }

// checkOrder checks that of two who may not hold at once the one with the lower fence
// wrote first.
func (p *place) checkOrder() {
	var before []written
	for v := range int32(len(p.guarded.versions) + p.guarded.unknown + 1) {
		w, ok := p.guarded.versions[v]
		if !ok {
			continue
		}
		// The highest of each weight is enough: there are few weights.
		known := false
		for i, b := range before {
			if b.by.fence > w.by.fence && b.by.conflicts(w.by) {
				p.violate("guards: %v wrote version %d after %v", w.by, v, b.by)
			}
			if b.by.weight == w.by.weight {
				known = true
				if w.by.fence > b.by.fence {
					before[i] = w
				}
			}
			if b.zxid >= w.zxid {
				p.violate("guards: version %d by %v has zxid %v, after %v", v, w.by, w.zxid, b.zxid)
			}
		}
		if !known {
			before = append(before, w)
		}
	}
}

// checkFirst checks that nobody wrote when the state showed already that a later one
// had been granted.
func (p *place) checkFirst() {
	grants := slices.DeleteFunc(slices.Clone(p.grants), func(g *grant) bool { return g.first == 0 })
	slices.SortFunc(grants, func(a, b *grant) int { return int(int64(b.fence) - int64(a.fence)) }) // the latest first
	var writes []written
	for _, w := range p.guarded.versions {
		writes = append(writes, w)
	}
	slices.SortFunc(writes, func(a, b written) int { return int(int64(b.by.fence) - int64(a.by.fence)) })
	earliest := map[int64]*grant{} // by weight, of those with higher fences
	for _, w := range writes {
		for len(grants) > 0 && grants[0].fence > w.by.fence {
			g := grants[0]
			grants = grants[1:]
			if e := earliest[g.weight]; e == nil || g.first < e.first {
				earliest[g.weight] = g
			}
		}
		for _, g := range earliest {
			if g.conflicts(w.by) && w.zxid > g.first {
				p.violate("guards: %v wrote at %v, behind %v, where %v had been granted", w.by, w.zxid, g.first, g)
			}
		}
	}
}
