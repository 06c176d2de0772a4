// Package clock measures how much time has passed for the world outside this
// process, also while its machine was suspended. Go's monotonic clock stands still
// then, and a process that trusts it believes to hold what the ensemble has long
// given to others.
package clock

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Clock tells how much time has passed since it was made: the monotonic clock
// of the process, plus every suspension of the machine that the operating system
// reports, plus every leap by which the wall clock got ahead of both. A wall clock
// that is set back takes nothing away: the clock never goes back, and never runs
// slower than the monotonic clock.
//
// It may so run ahead of the truth, when somebody sets the wall clock forward.
// That is the safe side for whoever gives up something by this clock.
//
// All methods may be called concurrently. The zero value is not ready: see [New].
type Clock struct {
	read    func() (mono, wall time.Duration)  // since the start, at one moment
	suspend func() (least, most time.Duration) // for how long the machine was suspended since some moment
	first   time.Duration                      // at most this at the start
	ahead   atomic.Int64                       // by how much the clock is ahead of the monotonic one
	seen    atomic.Pointer[sight]              // what the last look found
	frozen  atomic.Pointer[chan struct{}]      // closed by Thaw; nil while the clock can be read

	mu        sync.Mutex
	suspended time.Duration // guarded by mu; what the system has reported since the start
}

// A sight is what one thorough look at the clocks found.
type sight struct {
	at   time.Duration // by the monotonic clock
	gap  time.Duration // how far the wall clock was ahead of the monotonic one
	lead time.Duration // how far it was ahead of that and of suspensions
}

const (
	// lookEvery is how long the system is not asked for suspensions while the
	// wall clock keeps pace with the monotonic one: asking costs a system call, and
	// a suspension shows in the wall clock as well.
	lookEvery = time.Millisecond

	// jitter is by how much clocks may move against each other before that is taken
	// for more than two readings not being made at one moment.
	jitter = time.Millisecond
	// setBack is by how much it must fall behind to have been set back.
	setBack = 10 * time.Millisecond
)

// New returns a clock that starts now.
func New() *Clock {
	start := time.Now()
	wall := start.UnixNano()
	return newClock(func() (time.Duration, time.Duration) {
		now := time.Now()
		return now.Sub(start), time.Duration(now.UnixNano() - wall)
	}, suspended)
}

func newClock(read func() (mono, wall time.Duration), suspend func() (least, most time.Duration)) *Clock {
	c := &Clock{read: read, suspend: suspend}
	_, c.first = suspend()
	c.seen.Store(&sight{})
	return c
}

// Elapsed returns how much time has passed since the clock was made.
func (c *Clock) Elapsed() time.Duration {
	c.Await()
	mono, gap := c.sight()
	s := c.seen.Load()
	moved := s.moved(gap)
	if moved { // or it seems so to a thread that lost its processor between the two clocks
		mono, gap = c.sight()
	}
	if moved || mono-s.at >= lookEvery {
		c.look(mono, gap)
	}
	return mono + time.Duration(c.ahead.Load())
}

// sight reads the monotonic clock, and by how much the wall clock is ahead of it.
func (c *Clock) sight() (mono, gap time.Duration) {
	mono, wall := c.read()
	return mono, wall - mono
}

// moved reports whether the wall clock has moved against the monotonic one.
func (s *sight) moved(gap time.Duration) bool { return gap-s.gap > jitter || s.gap-gap > jitter }

// look compares the clocks and puts what it finds into ahead.
func (c *Clock) look(mono, gap time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.seen.Load()
	if mono < s.at {
		return // somebody has looked since
	}
	ahead := time.Duration(0)
	// What is counted has happened for sure: of two readings that are not one
	// moment, an error would be counted, too, and add up.
	if least, _ := c.suspend(); least-c.first > c.suspended+jitter {
		ahead += least - c.first - c.suspended
		c.suspended = least - c.first
	}
	lead := gap - c.suspended
	switch {
	case lead > s.lead:
		ahead += lead - s.lead
	case lead > s.lead-setBack:
		lead = s.lead // or what comes back of it would count as a leap
	}
	c.ahead.Add(int64(ahead))
	c.seen.Store(&sight{at: mono, gap: gap, lead: lead})
}

// Skip has the clock run ahead by d, as a suspension of the machine does. It is
// for tests.
func (c *Clock) Skip(d time.Duration) { c.ahead.Add(int64(d)) }

// Freeze has everybody who reads the clock wait until [Clock.Thaw], as does a process
// that is stopped: what it does by time it does not do then, and learns how late it
// is as soon as it runs again. The time goes on. It is for tests.
func (c *Clock) Freeze() {
	stop := make(chan struct{})
	c.frozen.CompareAndSwap(nil, &stop)
}

// Thaw ends Freeze.
func (c *Clock) Thaw() {
	if stop := c.frozen.Swap(nil); stop != nil {
		close(*stop)
	}
}

// Await returns at once unless the clock is frozen, and else when it is not any more.
func (c *Clock) Await() {
	for stop := c.frozen.Load(); stop != nil; stop = c.frozen.Load() {
		<-*stop
	}
}
