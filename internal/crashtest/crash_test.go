package crashtest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

var (
	roundsFlag = flag.Int("crash.rounds", 5, "rounds of TestCrash")
	powerFlag  = flag.Int("crash.power", 2, "rounds of TestPowerCut")
	seedFlag   = flag.Uint64("crash.seed", 0, "seed of the random tests; 0 picks one")
)

// seedOf returns the seed of a test, and prints it.
func seedOf(tb testing.TB) uint64 {
	tb.Helper()
	seed := *seedFlag
	for seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	tb.Logf("-crash.seed=%d", seed)
	return seed
}

// keptDir returns a directory that stays if the test fails.
func keptDir(tb testing.TB) string {
	tb.Helper()
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		return tb.ArtifactDir()
	}
	dir, err := os.MkdirTemp("", "coord-crashtest-") //nolint:usetesting // it stays if the test fails
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("kept: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

// TestCrash kills members at any moment and holds what is left against what was
// promised. See the package's comment.
func TestCrash(t *testing.T) { crash(t, *roundsFlag, nil) }

// TestPowerCut is TestCrash with members that lose, when they are killed, what was
// not synced, as in a power cut.
func TestPowerCut(t *testing.T) {
	crash(t, *powerFlag, func(c *memberConfig) { c.Journal = c.Dir + ".journal" })
}

func crash(t *testing.T, rounds int, change func(*memberConfig)) {
	t.Helper()
	seed := seedOf(t)
	dir := keptDir(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	e := newEnsemble(t, dir, 3)
	for i := range e.cfgs {
		if change != nil {
			change(&e.cfgs[i])
		}
	}
	for i := range e.cfgs { // the very first start is no safer than others
		e.start(i)
		for range rng.IntN(3) {
			e.count("first start")
			nap(rng, 200*time.Millisecond)
			e.proc(i).kill()
			e.start(i)
		}
	}
	e.awaitReady()
	e.plant()
	for round := range rounds {
		began := time.Now()
		w := e.startWorkload(seed, round)
		for range 1 + rng.IntN(3) {
			e.strike(rng)
		}
		e.awaitReady()
		nap(rng, 300*time.Millisecond)
		w.finish()
		struck := time.Since(began)
		if !e.verify(rng) {
			t.Fatalf("round %d failed: -crash.seed=%d", round, seed)
		}
		t.Logf("round %d: %v of which %v to check; %d entries", round, time.Since(began).Round(time.Millisecond), (time.Since(began) - struck).Round(time.Millisecond), len(e.l.entries))
	}
	for i := range e.procs {
		e.stop(i)
	}
	for i := range e.procs {
		e.start(i)
	}
	e.awaitReady()
	e.verify(rng)
	for i := range e.procs {
		e.proc(i).kill()
	}
	e.logs()
	t.Logf("%d processes; %v", e.starts, e.tally)
	e.summary()
}

// summary logs what the ledger was about.
func (e *ensemble) summary() {
	e.t.Helper()
	n := map[kind]map[outcome]int{}
	late := 0
	for _, en := range e.l.entries {
		if n[en.Kind] == nil {
			n[en.Kind] = map[outcome]int{}
		}
		n[en.Kind][en.Outcome]++
		if en.Late {
			late++
		}
	}
	e.t.Log(e.numbers())
	e.t.Logf("entries %v, of which %d became known late; %d sessions; %d states compared", n, late, len(e.l.sessions), len(e.l.digests))
}

// nap waits for a random time. What is tested here is that a crash may come at
// any moment, so there is no condition to wait for.
func nap(rng *rand.Rand, most time.Duration) {
	<-time.After(time.Duration(rng.Int64N(int64(most))))
}

// strike kills some members in some way and starts them again.
func (e *ensemble) strike(rng *rand.Rand) {
	victims := rng.Perm(len(e.procs))[:[]int{1, 1, 1, 2, 2, 3}[rng.IntN(6)]]
	switch rng.IntN(6) {
	case 5:
		e.freeze(victims, rng)
		return
	case 0:
		if i := e.leader(); i >= 0 {
			victims = []int{i}
			e.count("crash of the leader")
		}
	case 1:
		if e.awaitSnapshot(victims[0]) {
			e.count("crash while a snapshot is written")
		}
	case 2:
		if len(victims) == 1 { // not a crash at all
			nap(rng, 300*time.Millisecond)
			e.count("stop")
			e.stop(victims[0])
		}
	default:
		nap(rng, 600*time.Millisecond)
	}
	var wg sync.WaitGroup
	for _, i := range victims {
		// Each has its own dice: they run side by side.
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		wg.Go(func() { e.crash(i, own) })
	}
	wg.Wait()
	e.count(fmt.Sprint("crash of ", len(victims)))
}

// freeze stops members where they are, and has them go on later without knowing
// of the time between.
func (e *ensemble) freeze(victims []int, rng *rand.Rand) {
	if !canFreeze {
		return
	}
	e.count("frozen")
	for _, i := range victims {
		freeze(e.proc(i).cmd.Process)
	}
	nap(rng, sessionTimeout*3/2)
	for _, i := range victims {
		thaw(e.proc(i).cmd.Process)
	}
}

// kill ends a member, with what it has not synced if that is noted.
func (e *ensemble) kill(i int) {
	e.proc(i).kill()
	if e.cfgs[i].Journal != "" {
		e.count("power cut")
	}
}

// crash kills a member and starts it again, which may take a few attempts.
func (e *ensemble) crash(i int, rng *rand.Rand) {
	e.kill(i)
	if rng.IntN(4) == 0 {
		nap(rng, 1500*time.Millisecond) // long enough for an election
	}
	p := e.start(i)
	for rng.IntN(3) == 0 {
		if rng.IntN(2) == 0 {
			e.count("crash of one that starts")
			nap(rng, 400*time.Millisecond)
		} else {
			e.count("crash of one that is just ready")
			// The others may be down: then it is not ready before they are.
			select {
			case <-p.ready:
			case <-p.exited:
			case <-time.After(2 * time.Second):
			}
		}
		p.kill()
		p = e.start(i)
	}
}

// leader returns the member that leads, or -1 if none is known.
func (e *ensemble) leader() int {
	for i := range e.procs {
		if p := e.proc(i); p.isReady() {
			st := p.status()
			if at := slices.IndexFunc(e.cfgs, func(c memberConfig) bool { return c.ID == st.Leader }); at >= 0 {
				return at
			}
		}
	}
	return -1
}

// awaitSnapshot waits until a member is writing a snapshot, if it soon does.
func (e *ensemble) awaitSnapshot(i int) bool {
	pattern := filepath.Join(e.cfgs[i].Dir, "raft", "*", "*", "snapshot-part-*", "*", "*.generating")
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < time.Second; <-tick.C {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return true
		}
	}
	return false
}
