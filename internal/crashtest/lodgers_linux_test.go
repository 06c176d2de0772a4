package crashtest_test

import (
	"fmt"
	"path/filepath"

	"coord"
)

// A lodger is a place where voters come and go: each is added with an id that nobody had,
// and removed later. So the ensemble grows and shrinks, and with it what makes a quorum.
type lodger struct {
	visitor              // p is nil if there is no member
	cfg     memberConfig // of the member
}

// haveLodgers makes places for lodgers.
func (x *chaos) haveLodgers(n int) {
	x.t.Helper()
	for i := range n {
		x.lodgers = append(x.lodgers, &lodger{visitor: x.newPlace(fmt.Sprint("lodger-", i+1))})
	}
}

// oneLodger has a voter come where none is, or the one that is there crash or go.
func (x *chaos) oneLodger() {
	g := x.lodgers[x.rng.IntN(len(x.lodgers))]
	switch {
	case g.p == nil:
		x.admit(g)
	case x.rng.IntN(2) == 0:
		x.count("lodger that was killed")
		g.p.kill()
		x.open(&g.visitor, &g.cfg)
	default:
		x.dismiss(g, x.rng.IntN(len(x.hosts)))
	}
}

// admit adds a voter, whatever befalls the ensemble, and starts it.
func (x *chaos) admit(g *lodger) {
	x.newest++
	cfg := x.joining(&g.visitor, x.newest)
	cfg.Dir = filepath.Join(x.dir, fmt.Sprint("member-", cfg.ID))
	if x.cfgs[0].Journal != "" {
		cfg.Journal = cfg.Dir + ".journal"
	}
	if !x.decided(x.rng.IntN(len(x.hosts)), request{Op: opReplace, Member: coord.Member{ID: cfg.ID, Addr: cfg.Listen}, Timeout: replaceWithin}) {
		return
	}
	x.count("lodger that came")
	x.l.note(map[string]any{"added": cfg.ID, "at": x.l.now()})
	g.cfg = cfg
	x.open(&g.visitor, &g.cfg)
}

// dismiss has member j remove a lodger, which has to find out.
func (x *chaos) dismiss(g *lodger, j int) {
	if !x.removed(g.p, j, request{Op: opReplace, ID: g.cfg.ID, Timeout: replaceWithin}) {
		return
	}
	x.count("lodger that went")
	x.l.note(map[string]any{"removed": g.cfg.ID, "at": x.l.now()})
	g.p = nil
}

// awaitLodgers is called in fine weather: each voter that was added joins, sooner or later,
// and writes. It returns how many are there.
func (x *chaos) awaitLodgers() (there int) {
	x.t.Helper()
	for _, g := range x.lodgers {
		if g.p == nil {
			continue
		}
		there++
		poll(x.t, readyBound, g.name+" to write", func() bool {
			select {
			case <-g.p.exited:
				x.count("join tried again")
				x.open(&g.visitor, &g.cfg)
				return false
			case <-g.p.ready:
				return g.writes()
			default:
				return false
			}
		})
	}
	return there
}

// dismissLodgers has all voters go that are not among procs.
func (x *chaos) dismissLodgers() {
	x.t.Helper()
	for _, g := range x.lodgers {
		if g.p != nil {
			poll(x.t, readyBound, g.name+" to be removed", func() bool {
				x.dismiss(g, 0)
				return g.p == nil
			})
		}
	}
	x.settle()
}
