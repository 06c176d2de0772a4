package coordtest

import (
	"errors"
	"fmt"
	"time"

	"coord"
)

// The faults of the network. What a cut swallows is lost in silence, as with a cable
// that was pulled: no error tells the sender. They may be put on members that are down.
// All of them need the network in memory.

// Isolate cuts a member off from all others, in both directions.
func (e *Ensemble) Isolate(c *coord.Coordinator) {
	e.t.Helper()
	e.must("isolate", e.isolate(c))
}

// Cut cuts the link between two members, in both directions. Others still reach both:
// a partial partition.
func (e *Ensemble) Cut(a, b *coord.Coordinator) {
	e.t.Helper()
	e.must("cut", e.cut(a, b, true))
}

// CutOneWay cuts the link in one direction: to does not hear from any more, and is
// heard.
func (e *Ensemble) CutOneWay(from, to *coord.Coordinator) {
	e.t.Helper()
	e.must("cut one way", e.cut(from, to, false))
}

// Split cuts every link between the members of side and all others.
func (e *Ensemble) Split(side ...*coord.Coordinator) {
	e.t.Helper()
	e.must("split", e.split(side))
}

// Delay has every message take latency, and up to jitter more, by chance. Messages on
// one link do not overtake each other. If members are named, those from and to them are
// delayed by that in addition. Zeros end it, as does [Ensemble.Heal].
func (e *Ensemble) Delay(latency, jitter time.Duration, members ...*coord.Coordinator) {
	e.t.Helper()
	e.must("delay", e.delay(latency, jitter, members))
}

// Lose has the network swallow that share of all messages, from 0 to 1, chosen
// by a generator with this seed; [Ensemble.Seed] is one. Zero ends it, as does
// [Ensemble.Heal].
func (e *Ensemble) Lose(share float64, seed uint64) {
	e.t.Helper()
	e.must("lose", e.lose(share, seed))
}

// Heal undoes everything that was done to the network.
func (e *Ensemble) Heal() {
	if e.net != nil {
		e.trace.add("the network is healed")
		e.net.Heal()
		e.net.Clear()
	}
}

// wire returns the place that c is a process of, if faults can be put on its links.
func (e *Ensemble) wire(c *coord.Coordinator) (*member, error) {
	m, err := e.memberOf(c)
	if err == nil && e.net == nil {
		err = errors.New("the network is real: leave OnSockets out")
	}
	return m, err
}

func (e *Ensemble) isolate(c *coord.Coordinator) error {
	m, err := e.wire(c)
	if err != nil {
		return err
	}
	e.trace.add("member %v: isolated", m.id)
	e.net.Isolate(m.addr)
	return nil
}

func (e *Ensemble) cut(from, to *coord.Coordinator, both bool) error {
	a, err := e.wire(from)
	if err != nil {
		return err
	}
	b, err := e.wire(to)
	if err != nil {
		return err
	}
	if a == b {
		return fmt.Errorf("member %v has no link to itself", a.id)
	}
	if both {
		e.trace.add("members %v and %v: cut", a.id, b.id)
		e.net.Cut(a.addr, b.addr)
		return nil
	}
	e.trace.add("members %v to %v: cut one way", a.id, b.id)
	e.net.CutOneWay(a.addr, b.addr)
	return nil
}

func (e *Ensemble) split(side []*coord.Coordinator) error {
	in := map[coord.MemberID]bool{}
	for _, c := range side {
		m, err := e.wire(c)
		if err != nil {
			return err
		}
		in[m.id] = true
	}
	if len(in) == 0 || len(in) == e.Size() {
		return fmt.Errorf("%d of %d members on one side leaves nobody on the other", len(in), e.Size())
	}
	for _, a := range e.ids() {
		for _, b := range e.ids() {
			if in[a] && !in[b] {
				e.net.Cut(e.place(a).addr, e.place(b).addr)
			}
		}
	}
	e.trace.add("split: %v here, the others there", in)
	return nil
}

func (e *Ensemble) delay(latency, jitter time.Duration, members []*coord.Coordinator) error {
	if latency < 0 || jitter < 0 {
		return fmt.Errorf("latency %v, jitter %v: neither may be negative", latency, jitter)
	}
	if e.net == nil {
		return errors.New("the network is real: leave OnSockets out")
	}
	if len(members) == 0 {
		e.trace.add("all messages take %v to %v", latency, latency+jitter)
		e.net.Delay(latency, jitter)
	}
	for _, c := range members {
		m, err := e.wire(c)
		if err != nil {
			return err
		}
		e.trace.add("member %v: messages take %v to %v more", m.id, latency, latency+jitter)
		e.net.DelayMember(m.addr, latency, jitter)
	}
	return nil
}

func (e *Ensemble) lose(share float64, seed uint64) error {
	if !(share >= 0 && share <= 1) { // false for NaN, too
		return fmt.Errorf("a share of %v: it must be from 0 to 1", share)
	}
	if e.net == nil {
		return errors.New("the network is real: leave OnSockets out")
	}
	e.trace.add("%.0f %% of all messages are lost", 100*share)
	e.net.Lose(share, seed)
	return nil
}
