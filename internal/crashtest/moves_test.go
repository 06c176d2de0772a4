package crashtest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"coord"
)

// The places that are mounts from the beginning, in ensembles that have some. Only what is
// empty can become one.
var mountsForGood = []string{seqDir, ephDir}

// mountsForAWhile returns the places that are mounted and unmounted all the time: they have
// no children.
func mountsForAWhile() (paths []string) {
	for i := range nCtr {
		paths = append(paths, fmt.Sprint(ctrDir, "/", i))
	}
	for i := range nReg {
		paths = append(paths, fmt.Sprint(regDir, "/", i))
	}
	return paths
}

// haveMoves has the ensemble serve parts of the tree by raft groups of their own from now
// on.
func (e *ensemble) haveMoves() {
	e.t.Helper()
	e.l.mu.Lock()
	e.l.moving = true
	e.l.mu.Unlock()
	for _, path := range mountsForGood {
		var a reply
		var err error
		if !poll(e.t, readyBound, "mount", func() bool {
			a, err = e.proc(0).call(request{Op: opMount, Path: path})
			return err == nil || a.Code == coord.ErrMounted
		}) {
			e.t.Fatal(err)
		}
	}
}

// moves reports whether the ensemble has mounts.
func (e *ensemble) moves() bool {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	return e.l.moving
}

// move mounts and unmounts what others work on, wherever they are asked to.
func (w *workload) move(rng *rand.Rand) {
	const patience = 3 * time.Second
	paths := mountsForAWhile()
	for w.going() {
		nap(rng, 600*time.Millisecond)
		p := w.e.proc(rng.IntN(len(w.e.procs)))
		if !p.isReady() {
			continue
		}
		op := []string{opMount, opUnmount}[rng.IntN(2)]
		path := paths[rng.IntN(len(paths))]
		a, err := p.call(request{Op: op, Path: path, Timeout: patience})
		switch {
		case err == nil:
			w.e.count(op)
		case a.Outcome == refused && !moveRefused(&a):
			w.e.l.violate("%s of %s by process %d was refused: %s", op, path, p.n, a.Error)
		}
	}
}

// moveRefused reports whether a mount or unmount can be refused in this way.
func moveRefused(a *reply) bool {
	return environmental(a) || strings.Contains(a.Error, "the mount was taken back meanwhile") ||
		slices.Contains([]coord.Code{coord.ErrMounted, coord.ErrBadArguments, coord.ErrReconfigInProgress}, a.Code)
}

// decideMoved has a process answer a write in every domain beside the root group's, see
// decide. It changes nothing.
func (e *ensemble) decideMoved(i int) {
	e.t.Helper()
	anyVersion := int32(-1)
	for _, path := range slices.Concat(mountsForGood, mountsForAWhile()) {
		e.must(i, request{Op: opMulti, Ops: []request{{Op: opCheck, Path: path, Version: &anyVersion}}})
	}
}
