package sim_test

import (
	"math/rand/v2"
	"slices"
	"time"

	"coord"
	"coord/internal/memraft"
	"coord/internal/private"
	"coord/internal/replica"
)

// calm is the weather between faults: a network within one building.
var calm = memraft.Weather{MinDelay: 100 * time.Microsecond, MaxDelay: 2 * time.Millisecond}

// A fault does something to some members. What it leaves behind is undone by heal,
// and by starting what is down.
type fault struct {
	name   string
	weight int
	do     func(w *world, dice *rand.Rand, victim coord.MemberID)
}

var faults = []fault{
	{"crash", 6, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.down(victim, false) }},
	{"stop", 2, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.down(victim, true) }},
	{"crash all", 1, func(w *world, _ *rand.Rand, _ coord.MemberID) {
		for _, m := range w.members {
			w.down(m.ID, false)
		}
	}},
	{"isolate", 5, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.isolate(victim) }},
	{"isolate leader", 4, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.isolate(w.leader(victim)) }},
	{"crash leader", 4, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.down(w.leader(victim), false) }},
	{"cut one way", 4, func(w *world, dice *rand.Rand, victim coord.MemberID) { w.cutOff(victim, w.other(dice)) }},
	{"mute", 3, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.cutAll(victim, true) }},
	{"deafen", 3, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.cutAll(victim, false) }},
	{"cut pair", 4, func(w *world, dice *rand.Rand, victim coord.MemberID) {
		o := w.other(dice)
		w.cutOff(victim, o)
		w.cutOff(o, victim)
	}},
	{"flap", 5, func(w *world, dice *rand.Rand, victim coord.MemberID) { w.flap(dice, victim) }},
	{"pause", 5, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.pause(victim) }},
	{"pause leader", 3, func(w *world, _ *rand.Rand, victim coord.MemberID) { w.pause(w.leader(victim)) }},
	{"loss", 4, func(w *world, dice *rand.Rand, _ coord.MemberID) {
		weather := calm
		weather.Loss = dice.Float64() * 0.3
		w.net.SetWeather(weather)
	}},
	{"delay", 4, func(w *world, dice *rand.Rand, _ coord.MemberID) {
		weather := calm
		weather.MaxDelay = between(dice, 10*time.Millisecond, time.Second)
		weather.Reorder = dice.IntN(2) == 0
		w.net.SetWeather(weather)
	}},
	{"late proposals", 5, func(w *world, dice *rand.Rand, _ coord.MemberID) {
		weather := calm
		weather.Stall, weather.MaxStall = dice.Float64()/2, between(dice, time.Second, 30*time.Second)
		weather.Deaf, weather.Refuse = dice.Float64()/4, dice.Float64()/4
		w.net.SetWeather(weather)
	}},
	{"slow apply", 4, func(w *world, dice *rand.Rand, victim coord.MemberID) {
		id, _ := w.sitting(victim)
		w.net.SetApplyLag(replica.MemberID(id), between(dice, time.Millisecond, 2*time.Second))
	}},
	{"move leader", 6, func(w *world, _ *rand.Rand, victim coord.MemberID) {
		if p := w.process(victim); p != nil {
			private.Lead(p.c)
		}
	}},
	{"snapshot", 6, func(w *world, _ *rand.Rand, victim coord.MemberID) {
		if p := w.process(victim); p != nil && !w.isPaused(victim) {
			_ = private.Snapshot(p.c) // it may be refused
		}
	}},
	{"replace", 8, func(w *world, dice *rand.Rand, victim coord.MemberID) { w.replace(dice, victim) }},
	{"guest", 12, func(w *world, dice *rand.Rand, _ coord.MemberID) { w.guest(dice) }},
	{"clock jump", 3, func(w *world, dice *rand.Rand, victim coord.MemberID) {
		w.skipClock(victim, between(dice, 0, 60*time.Second))
	}},
}

// gentle are the faults after which no session may expire of a member that they
// spare, see world.runGentle.
var gentle = []string{"crash", "crash leader", "stop", "move leader", "snapshot"}

// runFaults takes one step after another until the clients have come to an end.
func (w *world) runFaults() {
	for s := range w.steps() {
		w.nap(s.at - w.now())
		if w.stopping.Load() {
			return
		}
		w.mu.Lock()
		w.done = append(w.done, step{index: s.index, at: w.now(), name: s.name, victim: s.victim})
		w.mu.Unlock()
		dice := w.dice(forSteps + s.index)
		if s.name == heal {
			w.mend(dice)
			continue
		}
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == s.name })
		w.inject(faults[i], dice, s.victim)
	}
}

// nap sleeps, but not when all is over.
func (w *world) nap(d time.Duration) {
	for until := w.now() + d; w.now() < until && !w.stopping.Load(); {
		sleep(min(until-w.now(), 500*time.Millisecond))
	}
}

func pick(dice *rand.Rand) fault {
	sum := 0
	for _, f := range faults {
		sum += f.weight
	}
	n := dice.IntN(sum)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("unreachable")
}

// count takes note of what was done to the ensemble.
func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[what]++
}

func (w *world) inject(f fault, dice *rand.Rand, victim coord.MemberID) {
	w.count(f.name)
	w.trace.add("FAULT %s, member %v", f.name, victim)
	f.do(w, dice, victim)
}

// mend undoes what faults have left, in any order.
func (w *world) mend(dice *rand.Rand) {
	if dice.IntN(3) == 0 {
		w.revive(dice)
	}
	w.trace.add("HEAL")
	w.heal()
	w.revive(dice)
	w.resolve(dice)
	w.revive(dice)
}

// revive starts what is down, unless it has to join and cannot yet.
func (w *world) revive(dice *rand.Rand) {
	for _, m := range w.members {
		if w.process(m.ID) == nil {
			w.nap(between(dice, 0, time.Second))
			w.trace.add("START seat %v", m.ID)
			w.open(m.ID)
		}
	}
}

// other returns some member.
func (w *world) other(dice *rand.Rand) coord.MemberID {
	return coord.MemberID(1 + dice.IntN(len(w.members)))
}

// leader returns who leads in the eyes of some member, or else the given one.
func (w *world) leader(otherwise coord.MemberID) coord.MemberID {
	for _, m := range w.members {
		if p := w.process(m.ID); p != nil {
			if st := p.c.Status(); st.Role == coord.Leading {
				return m.ID
			}
		}
	}
	return otherwise
}

// cutAll cuts what a member sends, or what it is sent.
func (w *world) cutAll(id coord.MemberID, sent bool) {
	for _, m := range w.members {
		if sent {
			w.cutOff(id, m.ID)
		} else {
			w.cutOff(m.ID, id)
		}
	}
}

// flap cuts a member off and has it back, again and again, and leaves it cut off.
func (w *world) flap(dice *rand.Rand, victim coord.MemberID) {
	for range 1 + dice.IntN(8) {
		switch dice.IntN(3) {
		case 0:
			w.isolate(victim)
		case 1:
			w.cutAll(victim, true)
		case 2:
			w.cutAll(victim, false)
		}
		w.nap(between(dice, 0, 2*w.election))
		w.healLinks()
		w.nap(between(dice, 0, 200*time.Millisecond))
	}
	w.isolate(victim)
}

func (w *world) isPaused(id coord.MemberID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paused[id]
}
