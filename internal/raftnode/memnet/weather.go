package memnet

import (
	"math/rand/v2"
	"time"
)

// A delay is how long messages take: latency, and up to jitter more, by chance.
type delay struct{ latency, jitter time.Duration }

// Lose makes every link swallow the given share of message batches, from 0
// (none) to 1 (all), chosen by a generator with the given seed. Snapshot
// chunks are exempt: they travel on a stream of their own that either lives or
// breaks, so losing one of them is no fault of a real network.
func (n *Net) Lose(rate float64, seed uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = rate
	n.rnd = rand.New(rand.NewPCG(seed, seed))
}

// Delay has every message between two members arrive after latency and up to jitter
// more, chosen by the generator of [Net.Lose]. Messages of one link keep their order.
// Zeros end it.
func (n *Net) Delay(latency, jitter time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = delay{latency, jitter}
}

// DelayMember is Delay for the messages from and to the member at addr. It adds to
// that of all messages, and of the member at the other end.
func (n *Net) DelayMember(addr string, latency, jitter time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delays[addr] = delay{latency, jitter}
}

// Clear ends all losses and delays. What is under way arrives when it would have.
func (n *Net) Clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.delay = 0, delay{}
	clear(n.delays)
}

// delayLocked returns how long the next message on a link takes.
func (n *Net) delayLocked(l link) time.Duration {
	sum := time.Duration(0)
	for _, d := range []delay{n.delay, n.delays[l.from], n.delays[l.to]} {
		sum += d.latency
		if d.jitter > 0 {
			sum += time.Duration(n.rnd.Int64N(int64(d.jitter)))
		}
	}
	return sum
}

// Pause is what the network sees of the member at addr standing still: it sends
// nothing, and what it is sent waits until [Net.Resume], as in the buffers of its
// machine.
func (n *Net) Pause(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paused[addr] == nil {
		n.paused[addr] = make(chan struct{})
	}
}

// Resume ends Pause.
func (n *Net) Resume(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if resumed := n.paused[addr]; resumed != nil {
		close(resumed)
		delete(n.paused, addr)
	}
}
