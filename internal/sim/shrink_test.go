package sim_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	scriptFlag = flag.String("sim.script", "", "a script to run, by its file")
	recordFlag = flag.String("sim.record", "", "a file for the script of what was run")
	shrinkFlag = flag.String("sim.shrink", "", "the test whose run of sim.seed is to be made small: TestSimulation or TestRecipes")
	withinFlag = flag.Duration("sim.within", 5*time.Minute, "how long a run may be made smaller")
	keepFlag   = flag.String("sim.keep", "", "a file for the small script")
)

// maxOps is how many operations a script may make.
const maxOps = 1 << 30

// TestScripts runs again what was found once.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.script")
	if *scriptFlag != "" {
		files = []string{*scriptFlag}
	}
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseScript(string(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if s.test == "TestRecipes" {
		o := recipeOptions(s.seed, grantsPerRun)
		contend(t, o.of(s, grantsPerRun))
		return
	}
	o := simOptions(s.seed, opsPerRun)
	simulate(t, o.of(s, opsPerRun))
}

// of returns the options of a script's run.
func (o options) of(s *script, ops int) options {
	o.script, o.members, o.ops = s, s.members, ops
	if s.until > 0 {
		o.ops = maxOps
	}
	return o
}

// keepScript writes down what was run, if the command line asks for it.
func (w *world) keepScript() {
	if *recordFlag == "" {
		return
	}
	s := w.played()
	s.about = nil
	for _, err := range w.ledger.found() {
		s.about = append(s.about, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	const readable = 60
	if calls := w.ledger.calls; len(calls) <= readable {
		for _, c := range calls {
			s.about = append(s.about, fmt.Sprintf("%v: %v, %v %q", c, c.outcome, c.zxid, c.value))
		}
	}
	if err := os.WriteFile(*recordFlag, []byte(s.String()), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestShrink makes a run that fails small: it leaves out what it can, as long as the same
// promise is broken (delta debugging: Zeller and Hildebrandt, "Simplifying and Isolating
// Failure-Inducing Input").
func TestShrink(t *testing.T) {
	if *shrinkFlag == "" {
		t.Skip("-sim.shrink is not set")
	}
	s := &script{test: *shrinkFlag, seed: max(*seedFlag, 1), members: *membersFlag}
	if *scriptFlag != "" {
		text, err := os.ReadFile(*scriptFlag)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = parseScript(string(text)); err != nil {
			t.Fatal(err)
		}
	}
	k := &shrinker{t: t, dir: t.TempDir(), until: time.Now().Add(*withinFlag)}
	k.run = k.runProcess
	if !k.begin(s) {
		t.Fatalf("the run does not fail, or not the same way twice: %v", s)
	}
	k.shrink()
	t.Logf("after %d runs:\n%v", k.runs, k.best)
	if *keepFlag != "" {
		if err := os.WriteFile(*keepFlag, []byte(k.best.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A shrinker looks for a small script that fails as the first one did.
type shrinker struct {
	t     *testing.T
	dir   string
	until time.Time // no run is begun after that
	runs  int
	took  time.Duration // the last run
	class string        // the promise that is broken
	run   func(*script) (found []string, played *script)
	best  *script // the smallest one that breaks it
}

// begin runs the script as it is.
func (k *shrinker) begin(s *script) bool {
	k.runs++
	found, played := k.run(s)
	if len(found) == 0 || played == nil {
		return false
	}
	k.class = found[0]
	k.t.Logf("it fails with %q", k.class)
	return k.try(played)
}

// try runs a script, and keeps it if it fails as wanted. Goroutines run in another order
// when something is left out, so several orders are tried, if that does not take long.
func (k *shrinker) try(s *script) bool {
	const orders, long = 3, 3 * time.Second
	for i := range orders {
		if time.Now().After(k.until) || i > 0 && k.took > long {
			return false
		}
		k.runs++
		start := time.Now()
		found, played := k.run(s)
		k.took = time.Since(start)
		if slices.Contains(found, k.class) {
			k.best = s
			if played != nil {
				k.best = played
			}
			return true
		}
		next := *s
		next.schedule++
		s = &next
	}
	return false
}

var (
	violationPattern = regexp.MustCompile(`(?m)^\s+\S+_test\.go:\d+: at [^ ]+: ([A-Za-z][A-Za-z0-9, ]*):`)
	panicPattern     = regexp.MustCompile(`(?m)^(?:panic|fatal error): (.{0,40})`)
)

// runProcess runs a script in a process of its own, since it may end that. It returns the
// promises that were broken, and what was played, if that is known.
func (k *shrinker) runProcess(s *script) (found []string, played *script) {
	k.t.Helper()
	file, record := filepath.Join(k.dir, "in"), filepath.Join(k.dir, "out")
	if err := os.WriteFile(file, []byte(s.String()), 0o600); err != nil {
		k.t.Fatal(err)
	}
	_ = os.Remove(record) // of the run before, if there was one
	ctx, cancel := context.WithTimeout(k.t.Context(), 5*time.Minute)
	defer cancel()
	out, _ := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestScripts$", "-sim.script", file, "-sim.record", record, "-sim.hang=2m").CombinedOutput() // its status says no more
	for _, m := range violationPattern.FindAllSubmatch(out, -1) {
		found = append(found, string(m[1]))
	}
	for _, m := range panicPattern.FindAllSubmatch(out, -1) {
		found = append(found, "panic "+string(m[1]))
	}
	if text, err := os.ReadFile(record); err == nil {
		if played, err = parseScript(string(text)); err != nil {
			k.t.Fatalf("a script that was written cannot be read: %v\n%s", err, text)
		}
	}
	return found, played
}

// shrink leaves parts out until none can be spared, or time is over.
func (k *shrinker) shrink() {
	for before := -1; before != k.best.size() && time.Now().Before(k.until); {
		before = k.best.size()
		k.shorten()
		k.leaveOut("actors", func(s *script) int { return len(s.actors) }, func(s *script, keep func(int) bool) {
			all := slices.Sorted(maps.Keys(s.actors))
			s.actors = maps.Clone(s.actors)
			for i, who := range all {
				if !keep(i) {
					delete(s.actors, who)
				}
			}
		})
		k.shorten()
		k.leaveOut("steps", func(s *script) int { return len(s.steps) }, func(s *script, keep func(int) bool) {
			var steps []step
			for i, st := range s.steps {
				if keep(i) {
					steps = append(steps, st)
				}
			}
			s.steps = steps
		})
		k.fewerMembers()
		k.leaveOut("acts", (*script).numberOfActs, (*script).keepActs)
	}
}

// size is how much there is to read.
func (s *script) size() int { return len(s.actors) + len(s.steps) + s.numberOfActs() }

// shorten ends the run sooner.
func (k *shrinker) shorten() {
	for _, eighths := range []int{1, 2, 4, 6} {
		s := *k.best
		s.until = k.best.until * time.Duration(eighths) / 8
		if k.try(&s) {
			return
		}
	}
}

func (k *shrinker) fewerMembers() {
	if k.best.members <= 3 {
		return
	}
	s := *k.best
	s.members = 3
	s.steps = nil
	for _, st := range k.best.steps {
		st.victim = min(st.victim, 3)
		s.steps = append(s.steps, st)
	}
	k.try(&s)
}

// leaveOut tries without one half of the parts, and the other, then without quarters, and
// so on.
func (k *shrinker) leaveOut(what string, count func(*script) int, reduce func(s *script, keep func(int) bool)) {
	for chunks := 1; ; {
		n := count(k.best)
		if n == 0 || time.Now().After(k.until) {
			break
		}
		chunks = min(chunks, n)
		reduced := false
		for i := range chunks {
			from, to := i*n/chunks, (i+1)*n/chunks
			s := *k.best
			reduce(&s, func(j int) bool { return j < from || j >= to })
			if k.try(&s) && count(k.best) < n {
				reduced = true
				break
			}
		}
		switch {
		case reduced:
			chunks = max(chunks-1, 1)
		case chunks >= n:
			k.t.Logf("%d %s are left after %d runs", n, what, k.runs)
			return
		default:
			chunks *= 2
		}
	}
	k.t.Logf("%d %s are left after %d runs", count(k.best), what, k.runs)
}

// An act is one of an actor.
type act struct{ who, number uint64 }

func (s *script) allActs() []act {
	var all []act
	for _, who := range slices.Sorted(maps.Keys(s.actors)) {
		for _, p := range s.actors[who] {
			for n := p.from; n <= p.to; n++ {
				all = append(all, act{who, n})
			}
		}
	}
	return all
}

func (s *script) numberOfActs() int { return len(s.allActs()) }

// keepActs leaves out the acts that are not to be kept. Actors stay.
func (s *script) keepActs(keep func(int) bool) {
	actors := map[uint64]set{}
	for who, acts := range s.actors {
		if acts != nil {
			acts = set{}
		}
		actors[who] = acts
	}
	for i, a := range s.allActs() {
		if keep(i) {
			actors[a.who] = actors[a.who].with(a.number)
		}
	}
	s.actors = actors
}

// with adds a number that is above all others.
func (s set) with(n uint64) set {
	if last := len(s) - 1; last >= 0 && s[last].to+1 == n {
		s[last].to = n
		return s
	}
	return append(s, span{n, n})
}

func TestScriptText(t *testing.T) {
	s := &script{
		about: []string{"What it is about."}, test: "TestSimulation", seed: 17, schedule: 1, members: 3, until: 1500 * time.Millisecond,
		explicit: true, actors: map[uint64]set{3: {{1, 17}, {40, 40}}, 4: {}, 101: nil},
		steps: []step{{4, 12500 * time.Millisecond, "crash leader", 2}, {5, time.Minute, heal, 0}},
	}
	if got, err := parseScript("explicit\nactor 4: " + set{}.String()); err != nil || got.plays(3) || !got.plays(4) || got.does(4, 1) {
		t.Errorf("an actor without acts: %+v, %v", got, err)
	}
	got, err := parseScript(s.String())
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", s) {
		t.Fatalf("read back: %+v, %v\nwant %+v", got, err, s)
	}
	for _, bad := range []string{"seed x", "actor 1: 5-", "fault 1: 3s dance, member 1", "what 1", "until 5"} {
		if _, err := parseScript(bad); err == nil {
			t.Errorf("%q was taken for a script", bad)
		}
	}
}

// TestShrinker shrinks something whose failure is known: it needs two steps and one act.
func TestShrinker(t *testing.T) {
	s := &script{explicit: true, members: 5, until: time.Hour, actors: map[uint64]set{1: {{1, 20}}, 2: {{1, 20}}, 3: nil}}
	for i := range uint64(30) {
		s.steps = append(s.steps, step{index: i, name: heal, victim: 5})
	}
	k := &shrinker{t: t, until: time.Now().Add(time.Hour), run: func(s *script) (found []string, played *script) {
		steps := 0
		for _, st := range s.steps {
			if st.index == 3 || st.index == 22 {
				steps++
			}
		}
		if acts, ok := s.actors[2]; steps == 2 && ok && acts.has(7) && s.until > time.Minute {
			return []string{"G1"}, s
		}
		return []string{"G2"}, s
	}}
	k.class, k.best = "G1", s
	k.shrink()
	want := "test \nseed 0\nschedule 0\nmembers 3\nuntil 1m3.28125s\nexplicit\nactor 2: 7\nfault 3: 0s heal, member 3\nfault 22: 0s heal, member 3\n"
	if k.best.String() != want {
		t.Errorf("left:\n%v\nwant:\n%v", k.best, want)
	}
}
