package coordtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"coord"
	"coord/internal/private"
)

// A Fault is one kind of what a [Nemesis] does.
type Fault string

// The faults of a nemesis. Those that last are undone after a while.
const (
	Kills       Fault = "kill"         // a member crashes, and starts again
	PowerCuts   Fault = "power cut"    // a machine crashes, see [Ensemble.PowerCut], and starts again
	Stops       Fault = "stop"         // a member closes in good order, and starts again
	Pauses      Fault = "pause"        // a member is frozen, and resumed
	Isolations  Fault = "isolate"      // a member is cut off from all others, and back
	Cuts        Fault = "cut"          // a link is cut, and mended
	OneWayCuts  Fault = "cut one way"  // a link is cut in one direction, and mended
	Delays      Fault = "delay"        // all messages from and to a member take longer, for a while
	Losses      Fault = "lose"         // up to a third of all messages are lost, for a while
	SlowDisks   Fault = "slow disk"    // each sync of a member takes longer, for a while
	LeaderMoves Fault = "leader moves" // another member is asked to lead
	Snapshots   Fault = "snapshot"     // a member saves a snapshot and cuts its log
	ClockLeaps  Fault = "clock leap"   // a member's clock runs ahead, see [Ensemble.SkipClock]
)

// everyFault is what a nemesis chooses from by default, in the order in which dice
// are thrown.
var everyFault = []Fault{
	Kills, PowerCuts, Stops, Pauses, Isolations, Cuts, OneWayCuts, Delays, Losses, SlowDisks, LeaderMoves, Snapshots, ClockLeaps,
}

// Faults say what a [Nemesis] does. The zero value is ready for use.
type Faults struct {
	// Kinds are those to choose from; one that is named twice comes twice as often. Nil
	// means all that the ensemble can have: on a real disk, on real sockets and with one
	// member these are fewer.
	Kinds []Fault

	// AtOnce is how many members may be down, paused, cut off or slow at a time. Zero
	// means so many that the others are a quorum, and 1 in an ensemble of one or two.
	AtOnce int

	// Every is the time between two faults, on average. Zero means two election timeouts.
	Every time.Duration

	// Lasting is how long a fault lasts at most, and by how much a clock leaps. Zero means
	// five election timeouts.
	Lasting time.Duration

	_ struct{}
}

// A Nemesis does one thing after another to an ensemble while a test's own work goes
// on. What, to whom and for how long is decided by the ensemble's seed.
type Nemesis struct {
	e       *Ensemble
	f       Faults
	dice    *rand.Rand
	stop    chan struct{}
	done    chan struct{}
	stopped sync.Once

	// Owned by the goroutine run until done is closed.
	standing []standing
	counts   map[Fault]int
}

// A standing fault is one that is to be undone.
type standing struct {
	until  time.Time
	fault  Fault
	member coord.MemberID // 0: none, it is on the network as a whole
	undo   func() error
}

// StartFaults has a nemesis do what f says, until it is stopped, or the test ends.
func (e *Ensemble) StartFaults(f Faults) *Nemesis {
	e.t.Helper()
	e.must("start faults", e.completeFaults(&f))
	n := &Nemesis{
		e: e, f: f, dice: dice(e.o.seed, forNemesis), stop: make(chan struct{}), done: make(chan struct{}), counts: map[Fault]int{},
	}
	e.mu.Lock()
	e.nemeses = append(e.nemeses, n)
	e.mu.Unlock()
	go n.run()
	return n
}

// completeFaults fills in defaults, and says what is wrong.
func (e *Ensemble) completeFaults(f *Faults) error {
	election := e.place(1).cfg.ElectionTimeout
	if election == 0 {
		election = 2 * time.Second // coord's own default
	}
	switch {
	case f.AtOnce < 0 || f.AtOnce > e.Size():
		return fmt.Errorf("AtOnce %d: it must be from 0 to %d, the number of members", f.AtOnce, e.Size())
	case f.Every < 0 || f.Lasting < 0:
		return fmt.Errorf("the times Every %v, Lasting %v: neither may be negative", f.Every, f.Lasting)
	}
	for _, kind := range f.Kinds {
		if err := e.canHave(kind); err != nil {
			return err
		}
	}
	if f.Kinds == nil {
		f.Kinds = slices.DeleteFunc(slices.Clone(everyFault), func(kind Fault) bool { return e.canHave(kind) != nil })
	}
	if len(f.Kinds) == 0 {
		return errors.New("the list Kinds is empty: leave it nil for all")
	}
	if f.AtOnce == 0 {
		f.AtOnce = max((e.Size()-1)/2, 1)
	}
	if f.Every == 0 {
		f.Every = 2 * election
	}
	if f.Lasting == 0 {
		f.Lasting = 5 * election
	}
	return nil
}

// canHave returns why the ensemble cannot have such a fault, or nil.
func (e *Ensemble) canHave(kind Fault) error {
	switch kind {
	case Kills, Stops, Snapshots, ClockLeaps:
		return nil
	case PowerCuts:
		return e.mayCutPower(e.place(1))
	case SlowDisks:
		return e.mayHarmDisk(e.place(1))
	case Pauses:
		if e.net == nil {
			return fmt.Errorf("%q needs the network in memory: leave OnSockets out", kind)
		}
		return nil
	case Isolations, Cuts, OneWayCuts, Delays, Losses:
		if e.net == nil {
			return fmt.Errorf("%q needs the network in memory: leave OnSockets out", kind)
		}
	case LeaderMoves:
	default:
		return fmt.Errorf("%q is no fault", kind)
	}
	if e.Size() == 1 {
		return fmt.Errorf("%q needs more than one member", kind)
	}
	return nil
}

// Stop ends the faults, undoes those that last, and waits until all members are ready.
// Further calls do nothing. It must be called from the test's goroutine.
func (n *Nemesis) Stop() {
	n.e.t.Helper()
	n.stopped.Do(func() {
		n.halt()
		for _, c := range n.e.Running() {
			n.e.ready(c)
		}
	})
}

// halt ends the faults and undoes them.
func (n *Nemesis) halt() {
	select {
	case <-n.stop:
	default:
		close(n.stop)
	}
	<-n.done
}

// Count returns how many faults of each kind there were. It must not be called before
// Stop.
func (n *Nemesis) Count() map[Fault]int {
	n.e.t.Helper()
	select {
	case <-n.done:
	default:
		n.e.t.Fatalf("coordtest: Nemesis.Count before Stop: it is still at work")
	}
	return n.counts
}

// stopNemeses ends those that the test has left at work.
func (e *Ensemble) stopNemeses() {
	e.mu.Lock()
	nemeses := e.nemeses
	e.mu.Unlock()
	for _, n := range nemeses {
		n.halt()
	}
}

// run does one fault after another. The dice of a round are always thrown alike,
// whatever becomes of it, so that the seed alone decides what comes next.
func (n *Nemesis) run() {
	defer close(n.done)
	defer n.undo(time.Time{})
	for {
		gap := time.Duration(n.dice.Int64N(int64(2*n.f.Every) + 1))
		kind := n.f.Kinds[n.dice.IntN(len(n.f.Kinds))]
		aim := n.aim()
		lasting := time.Duration(n.dice.Int64N(int64(n.f.Lasting)) + 1)
		if !n.wait(time.Now().Add(gap)) {
			return
		}
		n.strike(kind, aim, lasting)
	}
}

// An aim says whom a fault is to hit.
type aim struct {
	leader        bool
	victim, other coord.MemberID
	share         float64
}

func (n *Nemesis) aim() aim {
	size := n.e.Size()
	a := aim{leader: n.dice.IntN(3) == 0, share: n.dice.Float64()}
	first := n.dice.IntN(size)
	a.victim, a.other = coord.MemberID(first+1), coord.MemberID((first+1+n.dice.IntN(max(size-1, 1)))%size+1)
	return a
}

// wait sleeps until then, undoes what is due meanwhile, and reports whether to go on.
func (n *Nemesis) wait(then time.Time) bool {
	for {
		n.undo(time.Now())
		next := then
		for _, s := range n.standing {
			if s.until.Before(next) {
				next = s.until
			}
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-n.stop:
			timer.Stop()
			return false
		}
		if !time.Now().Before(then) {
			return true
		}
	}
}

// undo undoes what is over by now; all of it if that is zero.
func (n *Nemesis) undo(now time.Time) {
	n.standing = slices.DeleteFunc(n.standing, func(s standing) bool {
		if !now.IsZero() && s.until.After(now) {
			return false
		}
		if err := s.undo(); err != nil {
			n.e.trace.add("nemesis: %s of member %v not undone: %v", s.fault, s.member, err)
		}
		return true
	})
}

// strike does one fault, unless its victim or too many others have one already, or the
// test itself has ended the victim.
func (n *Nemesis) strike(kind Fault, a aim, lasting time.Duration) {
	if a.leader {
		a.victim = n.leader(a.victim)
	}
	if a.other == a.victim {
		a.other = a.victim%coord.MemberID(n.e.Size()) + 1
	}
	if n.busy(kind, a.victim) {
		return
	}
	n.e.trace.add("nemesis: %s, member %v", kind, a.victim)
	undo, err := n.do(kind, a, lasting)
	if err != nil {
		n.e.trace.add("nemesis: no %s: %v", kind, err)
		return
	}
	n.counts[kind]++
	if undo != nil {
		s := standing{until: time.Now().Add(lasting), fault: kind, member: a.victim, undo: undo}
		if kind == Losses {
			s.member = 0
		}
		n.standing = append(n.standing, s)
	}
}

// busy reports whether there is no room for a fault.
func (n *Nemesis) busy(kind Fault, victim coord.MemberID) bool {
	hit := 0
	for _, s := range n.standing {
		if s.member == victim || s.fault == Losses && kind == Losses {
			return true
		}
		if s.member != 0 {
			hit++
		}
	}
	return kind.lasts() && kind != Losses && hit >= n.f.AtOnce
}

// lasts reports whether a fault is there until it is undone.
func (f Fault) lasts() bool { return f != LeaderMoves && f != Snapshots && f != ClockLeaps }

// leader returns who leads in its own eyes, or else the given member.
func (n *Nemesis) leader(otherwise coord.MemberID) coord.MemberID {
	for _, c := range n.e.Running() {
		if st := c.Status(); st.Role == coord.Leading {
			return st.Member
		}
	}
	return otherwise
}

// do does one fault, and returns what undoes it, if anything does.
func (n *Nemesis) do(kind Fault, a aim, lasting time.Duration) (undo func() error, err error) {
	e := n.e
	e.mu.Lock()
	m := e.place(a.victim)
	c, other := m.last, e.place(a.other)
	oc := other.last
	e.mu.Unlock()
	restart := func() error {
		_, err := e.restart(c)
		return err
	}
	switch kind {
	case Kills:
		return restart, e.kill(c)
	case PowerCuts:
		return restart, e.powerCut(c)
	case Stops:
		return restart, e.stop(c)
	case Pauses:
		return func() error { return e.resume(c) }, e.pause(c)
	case Isolations:
		return func() error { return e.mend(m, nil) }, e.isolate(c)
	case Cuts:
		return func() error { return e.mend(m, other) }, e.cut(c, oc, true)
	case OneWayCuts:
		return func() error { return e.mend(m, other) }, e.cut(c, oc, false)
	case Delays:
		late := lasting / 20
		return func() error { return e.delay(0, 0, []*coord.Coordinator{c}) }, e.delay(late, late, []*coord.Coordinator{c})
	case Losses:
		return func() error { return e.lose(0, e.o.seed) }, e.lose(a.share/3, e.o.seed)
	case SlowDisks:
		return func() error { return e.slowDisk(c, 0) }, e.slowDisk(c, lasting/20)
	case LeaderMoves, Snapshots, ClockLeaps:
	}
	return nil, n.prod(kind, c, lasting)
}

// prod does what needs no undoing.
func (n *Nemesis) prod(kind Fault, c *coord.Coordinator, lasting time.Duration) error {
	if kind == ClockLeaps {
		return n.e.skipClock(c, lasting)
	}
	m, err := n.e.runningMember(c)
	if err != nil || m.paused {
		return err
	}
	if kind == LeaderMoves {
		private.Lead(c)
		return nil
	}
	return private.Snapshot(c)
}

// mend undoes what a nemesis did to the links of m, or to the one with other.
func (e *Ensemble) mend(m, other *member) error {
	if other == nil {
		e.trace.add("member %v: not isolated any more", m.id)
		e.net.Rejoin(m.addr)
		return nil
	}
	e.trace.add("members %v and %v: mended", m.id, other.id)
	e.net.Mend(m.addr, other.addr)
	e.net.Mend(other.addr, m.addr)
	return nil
}
