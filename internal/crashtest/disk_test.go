package crashtest_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"coord/internal/failpoint"
)

// logFaults are the ways in which a log cannot be written: its next sync or write
// fails, or there is no space for it.
var logFaults = []string{"sync", "write", "space"}

// slowDisk has whatever a member syncs take longer.
func (e *ensemble) slowDisk(i int, by time.Duration) {
	if e.cfgs[i].Journal != "" {
		_, _ = e.proc(i).call(request{Op: opSlow, Timeout: by})
	}
}

// failLog has a member find that it cannot write its log, whereupon it is to stop
// itself, and starts it again behind a power cut. It reports whether the member found
// out: one that nobody hears may have nothing to write.
func (e *ensemble) failLog(i int, how string, rng *rand.Rand) (found bool) {
	if e.cfgs[i].Journal == "" {
		return false
	}
	p := e.proc(i)
	p.mayFail.Store(true)
	if _, err := p.call(request{Op: opFailLog, Data: how}); err != nil {
		e.crash(i, rng)
		return false
	}
	select {
	case <-p.failed:
		found = true
	case <-p.exited: // a violation
	case <-time.After(5 * time.Second):
	}
	nap(rng, 300*time.Millisecond)
	e.crash(i, rng)
	return found
}

// bytesLeft is what a full disk has: less than a member needs for the ensemble to grow,
// and more than it needs to go on.
const bytesLeft = 128 << 20

// fillDisk has a member find that its disk is nearly full, or no more, and tell the
// others.
func (e *ensemble) fillDisk(i int, full bool) {
	if e.cfgs[i].Journal == "" {
		return
	}
	left := int64(-1)
	if full {
		left = bytesLeft
		e.l.expectNoSpace()
	}
	_, _ = e.proc(i).call(request{Op: opSpace, Delta: left})
}

// crashAt kills a member where something becomes durable or known to others, in its
// life or from its start on, and starts it again. One that does not come to that place in
// time is killed where it is.
func (e *ensemble) crashAt(i int, at failpoint.Point, rng *rand.Rand) {
	spare := rng.Int64N(20) >> rng.IntN(5) // some places are rare
	p := e.proc(i)
	if rng.IntN(2) == 0 {
		e.kill(i)
		e.cfgs[i].Point, e.cfgs[i].Spare = at, spare
		p = e.start(i)
		e.cfgs[i].Point = ""
	} else {
		p.ending.Store(true)
		_, _ = p.call(request{Op: opPoint, Data: string(at), Delta: spare})
	}
	if at == failpoint.SessionClose || at == failpoint.AppliedNote || at == failpoint.Seal {
		_, _ = p.send(&request{Op: opClose}) // it leaves in good order only until then
	}
	select {
	case <-p.exited:
		if p.exitErr != nil {
			e.count("crash at a failpoint: " + string(at))
		}
	case <-time.After(5 * time.Second):
	}
	e.crash(i, rng)
}

// TestFailedLog fails the log of one member after the other. None goes on, no process
// ends, and nothing that was acknowledged is lost.
func TestFailedLog(t *testing.T) {
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	e := newEnsemble(t, keptDir(t), 3)
	for i := range e.cfgs {
		e.cfgs[i].Journal = e.cfgs[i].Dir + ".journal"
		e.start(i)
	}
	e.awaitReady()
	e.plant()
	for round, how := range logFaults {
		w := e.startWorkload(seed, round)
		nap(rng, 500*time.Millisecond)
		if !e.failLog(round, how, rng) {
			t.Errorf("member %d has not found that its log fails: %s", round+1, how)
		}
		e.awaitReady()
		w.finish()
		if !e.verify(rng) {
			t.Fatalf("round %d failed: -crash.seed=%d", round, seed)
		}
	}
	e.logs()
	e.summary()
}
