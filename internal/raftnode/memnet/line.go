package memnet

import "time"

// maxWaiting is how many parcels a line holds. What comes beyond them is lost, as it
// is when the buffers of a real network are full.
const maxWaiting = 4096

// A line is what is under way on one link, in the order in which it was sent. There
// is one only while something is; its goroutine belongs to the sender and ends with
// it, and so does what is under way then.
type line struct {
	parcels []parcel  // guarded by Net.mu
	last    time.Time // guarded by Net.mu; when the newest parcel arrives
}

// A parcel is one message that arrives later.
type parcel struct {
	due  time.Time
	hand func(*endpoint)
}

// send has hand called with the endpoint at to: at once, or when the message has
// had its delay and its target runs, or never.
func (n *Net) send(from *endpoint, to string, hand func(*endpoint)) {
	l := link{from.addr, to}
	n.mu.Lock()
	if n.cutLocked(l) || n.loss > 0 && n.rnd.Float64() < n.loss {
		n.stats.Lost++
		n.mu.Unlock()
		return
	}
	delay, under := n.delayLocked(l), n.lines[l]
	if delay == 0 && under == nil && n.paused[to] == nil {
		target := n.targetLocked(to)
		n.mu.Unlock()
		n.deliver(target, hand)
		return
	}
	defer n.mu.Unlock()
	n.queueLocked(from, l, under, parcel{time.Now().Add(delay), hand})
}

// queueLocked puts a parcel on a line, which it starts if there is none.
func (n *Net) queueLocked(from *endpoint, l link, under *line, p parcel) {
	if n.endpoints[from.addr] != from { // closed: nobody waits for its lines any more
		n.stats.Lost++
		return
	}
	if under == nil {
		under = &line{}
		n.lines[l] = under
		from.lines.Go(func() { n.runLine(from, l, under) })
	}
	if len(under.parcels) >= maxWaiting {
		n.stats.Lost++
		return
	}
	if p.due.Before(under.last) {
		p.due = under.last // nothing overtakes on a link, as on a TCP connection
	}
	under.last = p.due
	under.parcels = append(under.parcels, p)
}

// runLine delivers what is on a line until there is nothing any more.
func (n *Net) runLine(from *endpoint, l link, under *line) {
	for {
		n.mu.Lock()
		if len(under.parcels) == 0 {
			if n.lines[l] == under {
				delete(n.lines, l)
			}
			n.mu.Unlock()
			return
		}
		p, resumed := under.parcels[0], n.paused[l.to]
		if wait := time.Until(p.due); wait > 0 || resumed != nil {
			n.mu.Unlock()
			from.sleep(wait, resumed)
			continue
		}
		under.parcels = under.parcels[1:]
		var target *endpoint
		if n.cutLocked(l) {
			n.stats.Lost++
		} else {
			target = n.targetLocked(l.to)
		}
		n.mu.Unlock()
		n.deliver(target, p.hand)
	}
}

// deliver calls hand with target, unless that is nil.
func (n *Net) deliver(target *endpoint, hand func(*endpoint)) {
	if target != nil {
		defer target.calls.Done()
		hand(target)
	}
}

// dropLinesLocked loses what is under way from or to an address.
func (n *Net) dropLinesLocked(addr string) {
	for l, under := range n.lines {
		if l.from == addr || l.to == addr {
			n.stats.Lost += uint64(len(under.parcels))
			under.parcels = nil
			delete(n.lines, l)
		}
	}
}

// sleep waits until d has passed, then until resumed is closed, if that is not nil;
// and not longer than until the endpoint is closed.
func (e *endpoint) sleep(d time.Duration, resumed <-chan struct{}) {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-e.closed:
			return
		}
	}
	if resumed != nil {
		select {
		case <-resumed:
		case <-e.closed:
		}
	}
}
