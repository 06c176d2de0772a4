package crashtest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coord"
	"coord/internal/crashtest/lan"
	"coord/internal/failpoint"
	"coord/internal/pki"
)

var (
	minutesFlag = flag.Float64("chaos.minutes", 0, "begin no run of TestChaos after so many minutes; 0 makes one short run")
	reportFlag  = flag.String("chaos.report", "", "where TestChaos writes its report, in Markdown")
)

// roundsPerRun is how many rounds of faults one ensemble lives through.
const roundsPerRun = 8

// TestChaos runs ensembles, each with a seed of its own, whose members are processes
// on hosts of a network of their own, in any weather.
func TestChaos(t *testing.T) {
	if err := lan.Available(); err != nil {
		t.Skip(err)
	}
	seed, began := seedOf(t), time.Now()
	sum := newReport(seed)
	defer sum.write(t, *reportFlag)
	for n := uint64(0); n == 0 || time.Since(began).Minutes() < *minutesFlag; n++ {
		rounds := roundsPerRun
		if *minutesFlag == 0 {
			rounds = 2
		}
		if !t.Run(fmt.Sprintf("seed=%d", seed+n), func(t *testing.T) { runChaos(t, seed+n, rounds, sum) }) {
			t.Errorf("repeat with: go test ./internal/crashtest -run TestChaos -crash.seed=%d -chaos.minutes=1", seed+n)
			return
		}
	}
}

// A chaos is an ensemble on a network, and what befalls it.
type chaos struct {
	*ensemble
	lan       *lan.LAN
	hosts     []*lan.Host
	authority *pki.Authority // nil if the members speak plain text
	rng       *rand.Rand

	replaces bool           // members are replaced
	newest   coord.MemberID // that there ever was, but for visitors
	leaving  []*process     // of members that were removed
	visitors []*visitor     // nil if there are none
	lodgers  []*lodger      // likewise
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	n := 3
	if seed%4 == 3 {
		n = 5
	}
	x := &chaos{ensemble: newEnsemble(t, keptDir(t), n), lan: lan.New(seed), rng: rand.New(rand.NewPCG(seed, 1))}
	t.Cleanup(func() {
		if err := x.lan.Close(); err != nil {
			t.Error(err)
		}
	})
	x.replaces, x.newest = seed%5 == 1 || seed%5 >= 3, coord.MemberID(n) //nolint:gosec // 3 or 5
	var members []coord.Member
	for i := range x.cfgs {
		h, err := x.lan.Join()
		if err != nil {
			t.Fatal(err)
		}
		x.hosts = append(x.hosts, h)
		members = append(members, coord.Member{ID: x.cfgs[i].ID, Addr: x.addr(i, x.cfgs[i].ID)})
	}
	for i := range x.cfgs {
		x.cfgs[i].Members = members
		x.cfgs[i].command = func(program string) *exec.Cmd { return x.hosts[i].Command(t.Context(), program) }
		x.cfgs[i].SnapshotEntries = []uint64{150, 500, 5000}[seed%3]
		x.cfgs[i].ObserverGrace = visitorGrace
	}
	if seed%3 != 0 { // whoever is killed loses what was not synced
		for i := range x.cfgs {
			x.cfgs[i].Journal = x.cfgs[i].Dir + ".journal"
		}
	}
	x.secure(seed%2 == 0)
	if x.replaces {
		x.haveVisitors(2)
		x.haveLodgers(2)
	}
	return x
}

// secure has the members trust certificates of one authority, or anybody.
func (x *chaos) secure(with bool) {
	x.t.Helper()
	for i := range x.cfgs {
		x.cfgs[i].Insecure = !with
	}
	if !with {
		return
	}
	dir := filepath.Join(x.dir, "pki")
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		x.authority, err = pki.New(dir)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	x.certify()
}

// certify gives each member a certificate, in the place of the one that it has.
func (x *chaos) certify() {
	for i := range x.cfgs {
		cert, key, err := x.authority.Issue(fmt.Sprint("member-", i+1), x.hosts[i].Addr().AsSlice())
		if err != nil {
			x.t.Error(err)
			return
		}
		x.cfgs[i].Cert, x.cfgs[i].Key, x.cfgs[i].CA = cert, key, x.authority.CA
	}
}

// runChaos is the life of one ensemble.
func runChaos(t *testing.T, seed uint64, rounds int, sum *report) {
	t.Helper()
	x := newChaos(t, seed)
	defer sum.add(x)
	for i := range x.cfgs {
		x.start(i)
	}
	x.awaitReady()
	x.plant()
	for _, v := range x.visitors {
		x.invite(v)
	}
	if seed%5 >= 2 {
		x.haveMoves()
	}
	for round := range rounds {
		began := time.Now()
		w := x.startWorkload(seed, round)
		for range 1 + x.rng.IntN(3) {
			x.afflict(x.pick())
		}
		x.heal()
		x.awaitJoined()
		x.awaitReady()
		lodgers := x.awaitLodgers()
		x.settle()
		x.visited(lodgers + x.awaitVisitors())
		nap(x.rng, 300*time.Millisecond)
		w.finish()
		if !x.verify(x.rng) {
			t.Fatalf("round %d failed", round)
		}
		t.Logf("round %d: %v", round, time.Since(began).Round(time.Millisecond))
	}
	x.dismissLodgers()
	x.dismissVisitors()
	for i := range x.procs {
		x.stop(i)
	}
	x.logs()
	t.Log(x.tally)
	x.summary()
}

// awaitOpened waits until no process is about to open its member.
func (x *chaos) awaitOpened() {
	for i := range x.cfgs {
		p := x.proc(i)
		select {
		case <-p.opened:
		case <-p.exited:
		}
	}
}

// An affliction is something that befalls an ensemble. What it leaves is undone by
// heal.
type affliction struct {
	name   string
	weight int
	do     func(x *chaos)
}

var afflictions = []affliction{
	{"strike", 6, func(x *chaos) { x.strike(x.rng) }},
	{"freeze", 4, func(x *chaos) { x.freeze(x.rng.Perm(len(x.hosts))[:1+x.rng.IntN(2)], x.rng) }},
	{"isolate", 4, func(x *chaos) { x.isolate(x.some()) }},
	{"isolate leader", 4, func(x *chaos) { x.isolate(x.someLeader()) }},
	{"mute", 3, func(x *chaos) { x.around(x.some(), true, false, cut) }},
	{"deafen", 3, func(x *chaos) { x.around(x.someLeader(), false, true, cut) }},
	{"cut one way", 3, func(x *chaos) { a, b := x.two(); x.lan.SetWeather(a, b, cut) }},
	{"cut two apart", 4, func(x *chaos) {
		a, b := x.two()
		x.lan.SetWeather(a, b, cut)
		x.lan.SetWeather(b, a, cut)
	}},
	{"flap", 3, func(x *chaos) { x.flap(x.some()) }},
	{"loss", 3, func(x *chaos) { x.everywhere(lan.Weather{Loss: x.rng.Float64() * 0.2}) }},
	{"delay", 3, func(x *chaos) {
		x.everywhere(lan.Weather{Delay: x.upTo(150 * time.Millisecond), Jitter: x.upTo(50 * time.Millisecond)})
	}},
	{"slow link", 2, func(x *chaos) { x.around(x.some(), true, true, lan.Weather{Rate: 20_000 + x.rng.IntN(200_000)}) }},
	{"repeats and reorders", 2, func(x *chaos) { x.everywhere(lan.Weather{Duplicate: 0.2, Jitter: x.upTo(10 * time.Millisecond)}) }},
	{"damage", 3, func(x *chaos) { x.everywhere(lan.Weather{Damage: x.rng.Float64() * 0.05}) }},
	{"all at once", 3, func(x *chaos) {
		x.everywhere(lan.Weather{
			Delay: x.upTo(20 * time.Millisecond), Jitter: x.upTo(20 * time.Millisecond), Loss: 0.05, Duplicate: 0.05, Damage: 0.01,
		})
		x.strike(x.rng)
	}},
	{"isolate and crash", 3, func(x *chaos) {
		x.isolate(x.some())
		x.strike(x.rng)
	}},
	{"clock jump", 2, func(x *chaos) { x.jump(x.rng.IntN(len(x.hosts))) }},
	{"flap", 2, func(x *chaos) {
		if x.authority != nil { // new certificates are for the connections that follow
			x.heal()        // so that one that joins can
			x.awaitOpened() // one that starts may not find half of a file
			x.certify()
			x.count("new certificates")
		}
		x.flap(x.some())
	}},
}

// diskAfflictions befall members with a journal.
var diskAfflictions = []affliction{
	{"slow disk", 3, func(x *chaos) { x.slowDisk(x.rng.IntN(len(x.hosts)), x.upTo(200*time.Millisecond)) }},
	{"failed log", 4, func(x *chaos) { x.failLog(x.rng.IntN(len(x.hosts)), logFaults[x.rng.IntN(len(logFaults))], x.rng) }},
	{"full disk", 3, func(x *chaos) { x.fillDisk(x.rng.IntN(len(x.hosts)), true) }},
}

// memberAfflictions change who the members are.
var memberAfflictions = []affliction{
	{"replace", 8, func(x *chaos) { x.replace(x.rng.IntN(len(x.hosts))) }},
	{"replace and crash", 4, func(x *chaos) {
		x.replace(x.rng.IntN(len(x.hosts)))
		x.strike(x.rng)
	}},
	{"isolate and replace", 4, func(x *chaos) {
		i := x.rng.IntN(len(x.hosts))
		x.isolate(x.hosts[i])
		x.replace(i)
	}},
	{"lodgers", 10, func(x *chaos) {
		for range 1 + x.rng.IntN(3) {
			x.oneLodger()
		}
	}},
	{"isolate a lodger", 4, func(x *chaos) { x.isolate(x.lodgers[x.rng.IntN(len(x.lodgers))].host) }},
	{"visitors", 10, func(x *chaos) {
		for range 1 + x.rng.IntN(3) {
			x.oneVisitor()
		}
	}},
	{"isolate a visitor", 4, func(x *chaos) { x.isolate(x.visitors[x.rng.IntN(len(x.visitors))].host) }},
	{"loss around a visitor", 4, func(x *chaos) {
		x.around(x.visitors[x.rng.IntN(len(x.visitors))].host, true, true, lan.Weather{Loss: x.rng.Float64() * 0.3})
	}},
}

// pointAfflictions are for a binary with failpoints.
var pointAfflictions = []affliction{
	{"crash at a failpoint", 8, func(x *chaos) {
		x.crashAt(x.rng.IntN(len(x.hosts)), failpoint.Points[x.rng.IntN(len(failpoint.Points))], x.rng)
	}},
}

var cut = lan.Weather{Cut: true}

func (x *chaos) pick() affliction {
	possible := slices.Clone(afflictions)
	if x.cfgs[0].Journal != "" {
		possible = append(possible, diskAfflictions...)
	}
	if x.replaces {
		possible = append(possible, memberAfflictions...)
	}
	if failpoint.Enabled {
		possible = append(possible, pointAfflictions...)
	}
	sum := 0
	for _, a := range possible {
		sum += a.weight
	}
	n := x.rng.IntN(sum)
	for _, a := range possible {
		if n -= a.weight; n < 0 {
			return a
		}
	}
	panic("unreachable")
}

// afflict does one thing, lets it last, and sometimes undoes it.
func (x *chaos) afflict(a affliction) {
	x.l.note(map[string]any{"affliction": a.name, "at": x.l.now()})
	x.count(a.name)
	a.do(x)
	nap(x.rng, 3*time.Second)
	if x.rng.IntN(2) == 0 {
		x.heal()
	}
}

// heal makes the weather fine, and disks quick and empty. Whatever else is done to
// members undoes itself.
func (x *chaos) heal() {
	x.lan.Clear()
	for i := range x.hosts {
		x.slowDisk(i, 0)
		x.fillDisk(i, false)
	}
}

func (x *chaos) some() *lan.Host { return x.hosts[x.rng.IntN(len(x.hosts))] }

func (x *chaos) someLeader() *lan.Host {
	if i := x.leader(); i >= 0 {
		return x.hosts[i]
	}
	return x.some()
}

func (x *chaos) two() (a, b *lan.Host) {
	p := x.rng.Perm(len(x.hosts))
	return x.hosts[p[0]], x.hosts[p[1]]
}

func (x *chaos) upTo(most time.Duration) time.Duration {
	return time.Duration(x.rng.Int64N(int64(most)))
}

// around sets the weather of what a host sends, hears, or both.
func (x *chaos) around(h *lan.Host, sent, heard bool, w lan.Weather) {
	for _, other := range x.hosts {
		if other == h {
			continue
		}
		if sent {
			x.lan.SetWeather(h, other, w)
		}
		if heard {
			x.lan.SetWeather(other, h, w)
		}
	}
}

func (x *chaos) isolate(h *lan.Host) { x.around(h, true, true, cut) }

func (x *chaos) everywhere(w lan.Weather) {
	for _, h := range x.hosts {
		x.around(h, true, false, w)
	}
}

// flap cuts a host off and has it back, again and again.
func (x *chaos) flap(h *lan.Host) {
	for range 2 + x.rng.IntN(5) {
		x.around(h, x.rng.IntN(3) > 0, x.rng.IntN(3) > 0, cut)
		nap(x.rng, 2*electionTimeout)
		x.heal()
		nap(x.rng, electionTimeout/2)
	}
}

// jump has the clock of a member's process run ahead, as after its machine was
// suspended. What is said of how long sessions live is then not true of the
// ensemble's sessions, for that member may be the one that measures.
func (x *chaos) jump(i int) {
	x.l.excuse()
	_, _ = x.proc(i).call(request{Op: opSkip, Timeout: x.upTo(time.Minute)})
	x.l.excuse()
}

// A report is about all runs of a TestChaos.
type report struct {
	seed     uint64 // of the first
	began    time.Time
	runs     int
	faults   map[string]int
	packets  lan.Stats
	entries  map[outcome]int
	numbers  map[string]int
	rejected bool
}

func newReport(seed uint64) *report {
	return &report{seed: seed, began: time.Now(), faults: map[string]int{}, entries: map[outcome]int{}, numbers: map[string]int{}}
}

// add adds a run that has ended.
func (r *report) add(x *chaos) {
	r.runs++
	r.packets = r.packets.Plus(x.lan.Stats())
	for what, n := range x.tally {
		r.faults[what] += n
	}
	for _, e := range x.l.entries {
		r.entries[e.Outcome]++
	}
	for what, n := range x.numbers() {
		r.numbers[what] += n
	}
	r.rejected = r.rejected || x.t.Failed()
}
