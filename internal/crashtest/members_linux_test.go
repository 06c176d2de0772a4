package crashtest_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"coord"
)

// replaceWithin is how long the ensemble may take to answer a change of members.
const replaceWithin = 5 * time.Second

// replace has the ensemble have a new member instead of one that it has, on the same host.
// Whatever befalls the ensemble goes on.
func (x *chaos) replace(i int) {
	old := x.cfgs[i]
	x.newest++
	next := old
	next.ID, next.Members, next.Join = x.newest, nil, nil
	next.Dir = filepath.Join(x.dir, fmt.Sprint("member-", next.ID))
	if old.Journal != "" {
		next.Journal = next.Dir + ".journal"
	}
	next.Listen = x.addr(i, next.ID)
	for j := range x.cfgs {
		if j != i {
			next.Join = append(next.Join, x.addr(j, x.cfgs[j].ID))
		}
	}
	asked := (i + 1 + x.rng.IntN(len(x.hosts)-1)) % len(x.hosts)
	if !x.removed(x.proc(i), asked, request{
		Op: opReplace, Member: coord.Member{ID: next.ID, Addr: next.Listen}, ID: old.ID, Timeout: replaceWithin,
	}) {
		return
	}
	x.count("member replaced")
	x.l.note(map[string]any{"replaced": old.ID, "by": next.ID, "at": x.l.now()})
	x.cfgs[i] = next
	x.start(i)
}

// removed asks member j for a change that removes the member of p, and reports whether it
// came about. The process has to find out, and may do so before whoever has asked.
func (x *chaos) removed(p *process, j int, r request) bool {
	p.removed.Store(true)
	if !x.decided(j, r) {
		p.removed.Store(false)
		return false
	}
	p.ending.Store(true)
	x.leaving = append(x.leaving, p)
	return true
}

// addr returns where the member of that id is on a host.
func (x *chaos) addr(i int, id coord.MemberID) string {
	return fmt.Sprintf("%v:%d", x.hosts[i].Addr(), 7000+id)
}

// decided asks member j for a change of members and reports whether it came about, which
// takes fine weather if the answer was lost.
func (x *chaos) decided(j int, r request) bool {
	a, err := x.proc(j).call(r)
	switch {
	case err == nil:
		return true
	case a.Outcome == refused:
		if !environmental(&a) && a.Code != coord.ErrReconfigInProgress && a.Code != coord.ErrNewConfigNoQuorum {
			x.l.violate("the change of member %v to %v was refused: %s", r.ID, r.Member.ID, a.Error)
		}
		x.count("change of members refused")
		return false
	}
	// It is not known. What this member writes later is behind it.
	x.heal()
	x.must(j, request{Op: opSetData, Path: tickDir, Data: fmt.Sprint(j)})
	is := func(id coord.MemberID) bool {
		return slices.ContainsFunc(x.must(j, request{Op: opMembers}).Members, func(m coord.Member) bool { return m.ID == id })
	}
	if r.Member.ID != 0 && is(r.Member.ID) || r.Member.ID == 0 && !is(r.ID) {
		return true
	}
	x.count("change of members lost")
	return false
}

// awaitJoined starts those again that have given up joining, until all have joined.
func (x *chaos) awaitJoined() {
	x.t.Helper()
	for i := range x.cfgs {
		poll(x.t, readyBound, fmt.Sprint("member ", x.cfgs[i].ID, " to join"), func() bool {
			p := x.proc(i)
			select {
			case <-p.ready:
			case <-p.exited:
				if !p.ending.Load() {
					return true // awaitReady says why
				}
				x.count("join tried again")
				x.start(i)
				return false
			default:
				return false
			}
			return true
		})
	}
}

// settle waits until those who are to leave have, and the others have come.
func (x *chaos) settle() {
	x.t.Helper()
	for _, p := range x.leaving {
		select {
		case <-p.failed:
			x.count("member that found itself removed")
		case <-p.exited:
		case <-time.After(readyBound):
			x.l.violate("process %d of member %v, which was removed, goes on", p.n, p.cfg.ID)
		}
		p.kill()
	}
	x.leaving = nil
	x.awaitReady()
	poll(x.t, readyBound, "the members to be settled", func() bool {
		a, err := x.proc(0).call(request{Op: opMembers})
		return err == nil && a.Settled
	})
}
