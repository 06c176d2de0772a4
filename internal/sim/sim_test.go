package sim_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/internal/bubble"
	"coord/internal/deterministic"
	"coord/internal/invariants"
	"coord/internal/private"
)

var (
	seedFlag     = flag.Uint64("sim.seed", 0, "the first seed; 0 means the usual ones")
	opsFlag      = flag.Int("sim.ops", 0, "operations in total; 0 means as many as CI makes")
	durationFlag = flag.Duration("sim.duration", 0, "begin no run after this much real time; 0 means no bound")
	membersFlag  = flag.Int("sim.members", 0, "size of the ensemble; 0 means 3, and 5 for every fourth seed")
	hangFlag     = flag.Duration("sim.hang", 30*time.Minute, "how much real time a run may take before it hangs, and the process ends and says where")
)

// opsPerRun is how many operations one run makes: enough for some minutes of virtual
// time and dozens of faults.
const opsPerRun = 25_000

// Options say how one run goes.
type options struct {
	seed    uint64
	ops     int
	members int           // 0: the seed says
	think   time.Duration // at most, between two bursts of a client
	gentle  bool          // only leaders change
	silent  bool          // nobody writes the history down
	script  *script       // nil: all of the run
}

// TestSimulation runs ensembles in virtual time under faults until it has made the
// wanted number of operations, each run with a seed of its own.
func TestSimulation(t *testing.T) {
	total := 200_000
	if invariants.Enabled {
		total /= 10
	}
	if *opsFlag > 0 {
		total = *opsFlag
	}
	start, sum := time.Now(), summary{faults: map[string]int{}}
	runAll(t, total, func(t *testing.T, seed uint64, left int) int {
		s := simulate(t, simOptions(seed, min(opsPerRun, left)))
		sum.add(s)
		return s.ops
	})
	t.Logf("total: %d runs, %v of real time: %v", sum.runs, time.Since(start).Round(time.Millisecond), &sum)
}

// simOptions returns how the run of a seed goes.
func simOptions(seed uint64, ops int) options {
	o := options{seed: seed, ops: ops, members: *membersFlag, think: 6 * time.Second, gentle: seed%8 == 5}
	if seed%3 == 0 {
		o.think = 2 * time.Second
	}
	return o
}

// runAll makes runs, each with the next seed, until they have made the wanted number together,
// one has failed, or the time that the command line allows is over.
func runAll(t *testing.T, wanted int, run func(t *testing.T, seed uint64, left int) (made int)) {
	t.Helper()
	seed := max(*seedFlag, 1)
	// A run keeps all that was said until its end, and little else: it is not worth
	// looking through it often.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	start := time.Now()
	for made := 0; made < wanted && !t.Failed(); seed++ {
		if *durationFlag > 0 && time.Since(start) > *durationFlag {
			return
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { made += run(t, seed, wanted-made) })
	}
}

// simulate makes one run.
func simulate(t *testing.T, o options) summary {
	t.Helper()
	var s summary
	inWorld(t, o, func(w *world) {
		w.run()
		s = w.summary()
		w.t.Logf("seed %d: %v", o.seed, &s)
		w.report("TestSimulation", fmt.Sprintf("-sim.ops=%d", o.ops))
	})
	return s
}

// inWorld makes a world in virtual time for run. One that hangs ends the process.
func inWorld(t *testing.T, o options, run func(w *world)) {
	t.Helper()
	deterministic.Start(t, o.schedule())
	var made atomic.Pointer[world]
	about := func() string {
		w := made.Load()
		if w == nil {
			return ""
		}
		return fmt.Sprintf("seed %d: %v\n%v", o.seed, w.ledger.found(), w.trace)
	}
	bubble.RunWithin(t, bubble.Limits{Virtual: 2 * longest, Real: *hangFlag, About: about}, func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		deterministic.Collect(stop)
		w := newWorld(t, o)
		made.Store(w)
		run(w)
	})
}

// schedule returns what the order of goroutines comes from.
func (o options) schedule() uint64 {
	if o.script == nil {
		return o.seed
	}
	return o.seed + o.script.schedule<<32
}

// report says what the run has found, and how to find it again.
func (w *world) report(test, flags string) {
	w.t.Helper()
	logTrace(w.t)
	w.keepScript()
	errs := w.ledger.found()
	if len(errs) == 0 {
		return
	}
	for _, err := range errs {
		w.t.Error(err)
	}
	w.t.Errorf("the last of the trace:\n%v", w.trace)
	w.t.Errorf("repeat with: go test ./internal/sim -run %s -sim.seed=%d %s", test, w.o.seed, flags)
	w.t.Errorf("make it small with: make sim-shrink TEST=%s SEED=%d", test, w.o.seed)
}

// logTrace says what two runs of a seed have in common, if they are deterministic.
func logTrace(t *testing.T) {
	t.Helper()
	if deterministic.Enabled {
		events, hash := deterministic.Trace()
		t.Logf("trace: %d events, hash %016x", events, hash)
	}
}

// run is one run, from the first member to the last check.
func (w *world) run() {
	w.setup()
	chaos, guard := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(chaos)
		if w.o.gentle {
			w.runGentle()
		} else {
			w.runFaults()
		}
	}()
	for id := range 24 {
		w.working.Go(func() { w.runClient(id, (*client).step) })
	}
	for id := range 20 {
		w.working.Go(func() { w.runSessions(100 + id) })
	}
	w.startAll(keepers, func(id int) { w.runClient(id, (*client).keep) })
	w.startAll(outsiders, w.runOutsider)
	w.startAll(guards, func(id int) { w.runClient(id, (*client).guard) })
	for id := range uint64(8) {
		if w.joins(forWatchers + id) {
			w.working.Go(func() { w.runWatcher(w.dice(forWatchers + id)) })
		}
	}
	go func() {
		defer close(guard)
		for w.ledger.operations() < w.o.ops && w.goesOn() {
			if w.now() > longest {
				w.violate("liveness: %d operations in %v", w.ledger.operations(), longest)
			}
		}
		w.stop()
	}()
	<-guard
	<-chaos
	w.trace.add("THE END: heal")
	w.rest(w.dice(forEnd))
	w.ready()
	w.working.Wait()
	w.finish()
}

// Those who work on what nobody else does, by their dice.
var (
	keepers   = []uint64{200, 201, 202, 203}
	outsiders = []uint64{300, 301, 302} // one for each person
	guards    = []uint64{320, 321}
)

// startAll starts those of some that play.
func (w *world) startAll(all []uint64, run func(id int)) {
	for _, id := range all {
		if w.o.script.plays(id) {
			w.working.Go(func() { run(int(id)) })
		}
	}
}

// goesOn lets a second pass, or less, and reports whether clients may go on by what the
// script says and what was found.
func (w *world) goesOn() bool {
	if len(w.ledger.found()) > 0 {
		return false
	}
	left := time.Second
	if until := w.o.script.until; until > 0 {
		left = min(left, until-w.now())
	}
	sleep(left)
	return left > 0
}

// stop has the clients come to an end.
func (w *world) stop() {
	w.mu.Lock()
	w.stopped = w.now()
	w.mu.Unlock()
	w.stopping.Store(true)
}

// longest is how long a run may take, and how long its end may: far longer than any
// does.
const longest = 12 * time.Hour

// sleep lets virtual time pass: all that uses it runs in a bubble.
func sleep(d time.Duration) { time.Sleep(d) }

// settle is how long it takes until nothing is left of a session that nobody holds:
// it may be resumed, and left again, while that is waited for.
const settle = 3 * maxSession

// finish lets everything come to rest, and checks it.
func (w *world) finish() {
	time.Sleep(settle)
	w.ready()
	w.askAll()
	w.checkMembers()
	rested, zxid := w.now(), w.converge()
	held := w.heldSessions()
	for _, m := range w.members {
		p := w.process(m.ID)
		if err := p.c.Health(); err != nil {
			w.violate("liveness: member %v at the end: %v", m.ID, err)
		}
		for _, err := range private.Violations(p.c) {
			w.violate("invariants: member %v: %v", m.ID, err)
		}
		if n, want := p.c.Status().Sessions, len(held)+len(w.members); n != want {
			w.violate("G9: member %v has %d sessions, but %d are held", m.ID, n, want)
		}
	}
	for _, k := range w.views {
		if d := k.view.Digest(); d != k.digest {
			w.violate("G8: the view at %v has changed", k.view.ZXID())
		}
	}
	time.Sleep(3 * time.Second) // for the last marks of progress
	for _, m := range w.members {
		w.down(m.ID, false)
	}
	w.watching.Wait()
	c := &checker{
		calls: w.ledger.calls, past: w.history.past(zxid), sessions: w.sessions, streams: w.streams, held: held, violate: w.violate,
		suspend: 2 * w.election, start: w.start, rested: rested, sights: w.sights, spies: w.spies,
	}
	c.run()
	w.found = c.found
}

// converge waits until all members have applied the same writes, compares them, and
// returns the zxid.
func (w *world) converge() coord.ZXID {
	for range 1000 {
		zxids := map[coord.ZXID]bool{}
		var last coord.ZXID
		for _, m := range w.members {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			v, err := w.process(m.ID).c.View(ctx, coord.Linearizable())
			cancel()
			if err != nil {
				w.violate("liveness: member %v cannot read at the end: %v", m.ID, err)
				return 0
			}
			last = v.ZXID()
			zxids[last] = true
			w.see(v, false)
		}
		if len(zxids) == 1 {
			return last
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.violate("liveness: the members do not converge")
	return 0
}

// heldSessions returns the sessions on which a handle is alive.
func (w *world) heldSessions() map[coord.SessionID]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	held := map[coord.SessionID]bool{}
	for _, s := range w.sessions {
		for _, h := range s.handles {
			if h.s.State() == coord.Connected {
				if held[s.id] {
					w.violate("G16: two handles of session %v are alive", s.id)
				}
				held[s.id] = true
			}
		}
	}
	return held
}

// runGentle changes leaders, and restarts all members but one, and checks that no
// session of that one ends (G11).
func (w *world) runGentle() {
	dice := w.dice(forFaults)
	keeper := w.process(w.members[len(w.members)-1].ID)
	s, err := keeper.c.NewSession(context.Background(), coord.SessionOptions{Timeout: 3 * w.election})
	if err != nil {
		w.t.Fatal(err)
	}
	h := w.adopt(&session{}, keeper, s)
	for !w.stopping.Load() {
		w.nap(between(dice, 3*w.election, 6*w.election))
		for _, f := range faults {
			victim := coord.MemberID(1 + dice.IntN(len(w.members)-1))
			if f.name == gentle[dice.IntN(len(gentle))] {
				if f.name == "crash leader" && w.leader(victim) == keeper.member {
					continue
				}
				w.inject(f, dice, victim)
				break
			}
		}
		w.nap(between(dice, 0, 10*time.Second))
		w.revive(dice)
		w.ready()
	}
	if err := h.s.Context().Err(); err != nil {
		w.violate("G11: %v ended though only leaders have changed: %v", h, context.Cause(h.s.Context()))
	}
}

// A summary is what one or more runs were.
type summary struct {
	runs, ops, sessions, streams, digests int
	acked, refused, unknown               int
	virtual                               time.Duration
	elections, restores                   uint64
	found                                 found
	faults                                map[string]int
}

func (w *world) summary() summary {
	s := summary{
		runs: 1, ops: w.ledger.operations(), sessions: len(w.sessions), streams: len(w.streams), digests: w.looked,
		virtual: w.now(), faults: w.faults, found: w.found,
	}
	st := w.net.Stats()
	s.elections, s.restores = st.Elections, st.Restores
	for _, q := range w.ledger.calls {
		switch q.outcome {
		case acked:
			s.acked++
		case refused:
			s.refused++
		case unknown, pending:
			s.unknown++
		}
	}
	return s
}

func (s *summary) add(o summary) {
	s.runs += o.runs
	s.ops += o.ops
	s.sessions += o.sessions
	s.streams += o.streams
	s.digests += o.digests
	s.acked += o.acked
	s.refused += o.refused
	s.unknown += o.unknown
	s.virtual += o.virtual
	s.elections += o.elections
	s.restores += o.restores
	s.found.add(o.found)
	for k, n := range o.faults {
		s.faults[k] += n
	}
}

func (s *summary) String() string {
	var kinds []string
	n := 0
	for _, k := range slices.Sorted(maps.Keys(s.faults)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, s.faults[k]))
		n += s.faults[k]
	}
	return fmt.Sprintf("%d ops (%d acknowledged, %d refused, %d unknown), %d sessions, %d streams, %d digests compared, %v, %v of virtual time, "+
		"%d elections, %d snapshots restored, %d faults (%s)", s.ops, s.acked, s.refused, s.unknown, s.sessions, s.streams, s.digests, &s.found,
		s.virtual.Round(time.Second), s.elections, s.restores, n, strings.Join(kinds, ", "))
}
