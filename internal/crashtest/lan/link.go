//go:build linux

package lan

import (
	"math/rand/v2"
	"sync"
	"time"
)

// maxInFlight is how many packets a link holds back at most. What is more is lost, as
// in a router whose queue is full.
const maxInFlight = 4096

// Stats counts the packets of one direction.
type Stats struct {
	Delivered  uint64
	Lost       uint64 // also cut off, and those that a full queue has dropped
	Duplicated uint64
	Damaged    uint64
	Late       uint64 // of those delivered: held back for some time
}

// Plus returns the sum of two counts.
func (s Stats) Plus(o Stats) Stats {
	return Stats{
		Delivered: s.Delivered + o.Delivered, Lost: s.Lost + o.Lost, Duplicated: s.Duplicated + o.Duplicated,
		Damaged: s.Damaged + o.Damaged, Late: s.Late + o.Late,
	}
}

// A link is one direction between two hosts.
type link struct {
	to *Host

	mu       sync.Mutex
	weather  Weather    // guarded by mu
	dice     *rand.Rand // guarded by mu
	stats    Stats      // guarded by mu
	inFlight int        // guarded by mu
	free     time.Time  // guarded by mu; when what was sent is through, at Rate
}

// carry takes a packet, which it may change only before it returns.
func (l *link) carry(p packet) {
	f := l.decide(p)
	if f.late <= 0 {
		for range f.copies {
			l.deliver(p)
		}
		return
	}
	held := append(packet(nil), p...)
	time.AfterFunc(f.late, func() {
		if l.stillFlying() {
			for range f.copies {
				l.deliver(held)
			}
		}
	})
}

// decide throws the dice for a packet, counts, and damages it if it is so decided.
func (l *link) decide(p packet) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	f := l.weather.fateOf(l.dice, len(p), max(0, l.free.Sub(now)))
	if f.copies == 0 || f.late > 0 && l.inFlight >= maxInFlight {
		l.stats.Lost++
		return fate{}
	}
	if l.weather.Rate > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		l.free = l.free.Add(transmission(len(p), l.weather.Rate))
	}
	if f.damage && p.damage(l.dice.Uint64()) {
		l.stats.Damaged++
	}
	if f.copies > 1 {
		l.stats.Duplicated++
	}
	if f.late > 0 {
		l.stats.Late++
		l.inFlight++
	}
	return f
}

// stillFlying ends the flight of a packet, and reports whether it arrives: what is on
// its way when a link is cut does not.
func (l *link) stillFlying() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	if l.weather.Cut {
		l.stats.Lost++
	}
	return !l.weather.Cut
}

func (l *link) deliver(p packet) {
	arrived := l.to.receive(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if arrived {
		l.stats.Delivered++
	} else {
		l.stats.Lost++
	}
}

func (l *link) setWeather(w Weather) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.weather = w
}

func (l *link) count() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}
