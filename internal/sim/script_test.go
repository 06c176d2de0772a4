package sim_test

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord"
)

// A script is a run, part by part, so that parts can be left out: each has its own dice,
// and the others do what they did. The zero value of a field leaves it to the seed.
//
// Its text is a line for each field, and lines that begin with "#":
//
//	test TestSimulation
//	seed 17
//	schedule 1
//	members 3
//	until 1m3.5s
//	actor 3: 1-17 40
//	actor 101: all
//	fault 4: 12.5s crash leader, member 2
type script struct {
	about    []string // the comments
	test     string   // TestSimulation or TestRecipes
	seed     uint64
	schedule uint64 // another one has goroutines run in another order
	members  int
	until    time.Duration // clients come to an end then

	explicit bool           // actors and steps are all there are
	actors   map[uint64]set // those who play, and which of their acts
	steps    []step
}

// A step is one thing that is done to an ensemble.
type step struct {
	index  uint64 // of its dice
	at     time.Duration
	name   string // of a fault, or heal
	victim coord.MemberID
}

// heal is the step that undoes what faults have left.
const heal = "heal"

func (s step) String() string {
	return fmt.Sprintf("fault %d: %v %s, member %v", s.index, s.at, s.name, s.victim)
}

// A set is some of the acts of one actor, which are numbered from 1 on. Nil is all of them.
type set []span

// A span is from one number to another, both included.
type span struct{ from, to uint64 }

func (s set) has(n uint64) bool {
	return s == nil || slices.ContainsFunc(s, func(p span) bool { return p.from <= n && n <= p.to })
}

func (s set) String() string {
	switch {
	case s == nil:
		return "all"
	case len(s) == 0:
		return "none"
	}
	var parts []string
	for _, p := range s {
		if p.from == p.to {
			parts = append(parts, strconv.FormatUint(p.from, 10))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", p.from, p.to))
		}
	}
	return strings.Join(parts, " ")
}

func parseSet(text string) (set, error) {
	s := set{}
	switch text {
	case "all":
		return nil, nil
	case "none":
		return s, nil
	}
	for part := range strings.FieldsSeq(text) {
		from, to, two := strings.Cut(part, "-")
		p := span{}
		var err error
		if p.from, err = strconv.ParseUint(from, 10, 64); err != nil {
			return nil, err
		}
		p.to = p.from
		if two {
			if p.to, err = strconv.ParseUint(to, 10, 64); err != nil {
				return nil, err
			}
		}
		s = append(s, p)
	}
	return s, nil
}

// plays reports whether somebody takes part. Others are not started.
func (s *script) plays(who uint64) bool {
	if !s.explicit {
		return true
	}
	_, ok := s.actors[who]
	return ok
}

// anyOf reports whether one of some takes part: what only they work on need not be made
// for others, to whom nothing of it matters then.
func (s *script) anyOf(all ...uint64) bool { return slices.ContainsFunc(all, s.plays) }

// does reports whether an act of somebody is to take place.
func (s *script) does(who, act uint64) bool { return !s.explicit || s.actors[who].has(act) }

// String returns the text of the script, which parseScript reads.
func (s *script) String() string {
	var out strings.Builder
	for _, line := range s.about {
		fmt.Fprintf(&out, "# %s\n", line)
	}
	fmt.Fprintf(&out, "test %s\nseed %d\nschedule %d\nmembers %d\nuntil %v\n", s.test, s.seed, s.schedule, s.members, s.until)
	if !s.explicit {
		return out.String()
	}
	fmt.Fprintln(&out, "explicit")
	for _, who := range slices.Sorted(maps.Keys(s.actors)) {
		fmt.Fprintf(&out, "actor %d: %v\n", who, s.actors[who])
	}
	for _, st := range s.steps {
		fmt.Fprintln(&out, st)
	}
	return out.String()
}

func parseScript(text string) (*script, error) {
	s := &script{actors: map[uint64]set{}}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if err := s.parseLine(line); err != nil {
			return nil, fmt.Errorf("line %d, %q: %w", i+1, line, err)
		}
	}
	if s.test == "" {
		s.test = "TestSimulation"
	}
	return s, nil
}

func (s *script) parseLine(line string) (err error) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "":
	case "#":
		s.about = append(s.about, rest)
	case "test":
		s.test = rest
	case "seed":
		s.seed, err = strconv.ParseUint(rest, 10, 64)
	case "schedule":
		s.schedule, err = strconv.ParseUint(rest, 10, 64)
	case "members":
		s.members, err = strconv.Atoi(rest)
	case "until":
		s.until, err = time.ParseDuration(rest)
	case "explicit":
		s.explicit = true
	case "actor":
		who, acts, _ := strings.Cut(rest, ": ")
		var n uint64
		if n, err = strconv.ParseUint(who, 10, 64); err == nil {
			s.actors[n], err = parseSet(acts)
		}
	case "fault":
		var st step
		if st, err = parseStep(rest); err == nil {
			s.steps = append(s.steps, st)
		}
	default:
		err = fmt.Errorf("no field %q", word)
	}
	return err
}

func parseStep(text string) (step, error) {
	index, rest, _ := strings.Cut(text, ": ")
	at, rest, _ := strings.Cut(rest, " ")
	name, victim, _ := strings.Cut(rest, ", member ")
	s := step{name: name}
	var err, errAt, errVictim error
	s.index, err = strconv.ParseUint(index, 10, 64)
	s.at, errAt = time.ParseDuration(at)
	id, errVictim := strconv.ParseUint(victim, 10, 64)
	s.victim = coord.MemberID(id)
	known := name == heal || slices.ContainsFunc(faults, func(f fault) bool { return f.name == name })
	if err = cmp.Or(err, errAt, errVictim); err == nil && !known {
		err = fmt.Errorf("no fault %q", name)
	}
	return s, err
}

// drawn yields the steps that a seed has in store, without an end. They depend on nothing
// but the seed and on how long each takes.
func (w *world) drawn() iter.Seq[step] {
	return func(yield func(step) bool) {
		dice := w.dice(forFaults)
		at, index := w.now(), uint64(0)
		next := func(name string, victim coord.MemberID) bool {
			index++
			return yield(step{index: index, at: at, name: name, victim: victim})
		}
		wait := func(most time.Duration) { at = max(at, w.now()) + between(dice, 0, most) }
		for {
			wait(10 * time.Second)
			victim := w.other(dice)
			for range 1 + dice.IntN(3) {
				if !next(pick(dice).name, victim) {
					return
				}
				if dice.IntN(2) == 0 { // else the same has several at once
					victim = w.other(dice)
				}
				wait(3 * time.Second)
			}
			wait(15 * time.Second)
			if !next(heal, 0) {
				return
			}
		}
	}
}

// steps yields what is to be done to the ensemble.
func (w *world) steps() iter.Seq[step] {
	if w.o.script.explicit {
		return slices.Values(w.o.script.steps)
	}
	return w.drawn()
}

// played returns what this run was, with all its parts.
func (w *world) played() *script {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := *w.o.script
	s.explicit, s.steps, s.actors = true, w.done, map[uint64]set{}
	s.until, s.members = w.stopped, len(w.members)
	for who, acts := range w.acts {
		s.actors[who] = nil
		if acts > 0 {
			s.actors[who] = set{{1, acts}}
		}
		if given := w.o.script.actors[who]; given != nil && w.o.script.explicit {
			s.actors[who] = given
		}
	}
	return &s
}

// joins takes note that somebody takes part, and reports whether that is so.
func (w *world) joins(who uint64) bool {
	if !w.o.script.plays(who) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acts[who] += 0
	return true
}
