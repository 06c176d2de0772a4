package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A load is one measurement: so many contend for one lock.
type load struct {
	Contenders int
	Releases   int           // to watch, one at a time, before
	Duration   time.Duration // of the measurement, after every contender had its turn
}

// Figures are what was measured.
type figures struct {
	PerSecond float64 // grants
	P50, P99  time.Duration
	Entries   float64 // of the log, for one grant
	Writes    float64 // for one grant
	Woken     float64 // waiters, by one release
	Watched   int     // releases
	CPU       time.Duration
	Moved     bool   // the leader did
	Failure   string // why there are no figures
}

// A contest is a lock with its contenders. They first stand in line: the holder
// releases when the referee says so, and does not come back. Then the referee leaves:
// whoever has the lock releases it at once and asks for it again.
type contest struct {
	subject subject
	load    load
	who     []contender
	waits   []*askedContext
	began   time.Time

	holding chan int      // the holder, while there is a referee
	whistle chan struct{} // it may release
	free    chan struct{} // closed when the referee leaves
	stopped atomic.Bool   // nobody comes back any more

	holders  atomic.Int64
	released atomic.Int64 // when the holder called release, behind began
	grants   atomic.Int64

	mu        sync.Mutex
	measuring bool            // guarded by mu
	handovers []time.Duration // guarded by mu; those that were measured
}

// run measures a load on a subject.
func run(ctx context.Context, s subject, l load) (f figures, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &contest{
		subject: s, load: l, began: time.Now(),
		holding: make(chan int), whistle: make(chan struct{}), free: make(chan struct{}),
	}
	leader, err := awaitLeader(ctx, s)
	if err != nil {
		return figures{}, err
	}
	for i := range l.Contenders {
		who, err := s.contender(ctx, (leader+i)%members)
		if err != nil {
			return figures{}, fmt.Errorf("contender %d: %w", i, err)
		}
		c.who = append(c.who, who)
		c.waits = append(c.waits, &askedContext{Context: ctx})
	}
	var all sync.WaitGroup
	for i := range c.who {
		all.Go(func() {
			if err := c.contend(ctx, i); err != nil {
				cancel(fmt.Errorf("contender %d: %w", i, err))
			}
		})
	}
	err = c.referee(ctx, &f)
	if err == nil {
		err = c.measure(ctx, &f)
	}
	if err != nil {
		cancel(err)
	}
	all.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return f, err
}

func awaitLeader(ctx context.Context, s subject) (int, error) {
	for {
		if p := s.progress(); p.leader >= 0 {
			return p.leader, nil
		}
		if err := pause(ctx, pollPause); err != nil {
			return 0, fmt.Errorf("no leader: %w", err)
		}
	}
}

// contend is what one contender does.
func (c *contest) contend(ctx context.Context, i int) error {
	// The context that counts is a wait's alone: etcd would pay for it with goroutines.
	for wait := context.Context(c.waits[i]); ; wait = ctx {
		if err := c.who[i].lock(wait); err != nil {
			return err
		}
		if err := c.granted(); err != nil {
			return err
		}
		select {
		case c.holding <- i:
			select {
			case <-c.whistle:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case <-c.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		c.holders.Add(-1)
		c.released.Store(int64(time.Since(c.began)))
		if err := c.who[i].release(ctx); err != nil {
			return err
		}
		select {
		case <-c.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.stopped.Load() {
			return nil
		}
	}
}

// granted takes note that somebody has the lock.
func (c *contest) granted() error {
	took := time.Since(c.began) - time.Duration(c.released.Load())
	if n := c.holders.Add(1); n != 1 {
		return fmt.Errorf("%d hold the lock", n)
	}
	c.grants.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.measuring {
		c.handovers = append(c.handovers, took)
	}
	return nil
}

// referee has one holder after the other release, when all others wait and nobody is
// awake, and counts whom that wakes.
func (c *contest) referee(ctx context.Context, f *figures) error {
	defer close(c.free)
	holder, err := c.holder(ctx)
	if err != nil {
		return err
	}
	for queued := 0; queued < len(c.who); {
		if err := pause(ctx, pollPause); err != nil {
			return err
		}
		if queued, err = c.subject.queued(ctx); err != nil {
			return err
		}
	}
	before, err := c.quiet(ctx, time.Second) // a thousand that look take their time
	if err != nil {
		return err
	}
	woken := 0
	for f.Watched < min(c.load.Releases, len(c.who)-1) {
		last := holder
		if err := c.releaseOne(ctx); err != nil {
			return err
		}
		if holder, err = c.holder(ctx); err != nil {
			return err
		}
		after, err := c.quiet(ctx, 10*pollPause)
		if err != nil {
			return err
		}
		for i := range after {
			if i != last && (i == holder || after[i] != before[i]) {
				woken++
			}
		}
		before = after
		f.Watched++
		f.Woken = float64(woken) / float64(f.Watched)
	}
	return c.releaseOne(ctx)
}

func (c *contest) releaseOne(ctx context.Context) error {
	select {
	case c.whistle <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *contest) holder(ctx context.Context) (int, error) {
	select {
	case i := <-c.holding:
		return i, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// quiet waits until no waiter has asked its context anything for d, and returns how
// often each has.
func (c *contest) quiet(ctx context.Context, d time.Duration) ([]int64, error) {
	var last []int64
	for same := time.Duration(0); same < d; {
		if err := pause(ctx, pollPause); err != nil {
			return nil, err
		}
		var now []int64
		for _, w := range c.waits {
			now = append(now, w.asked.Load())
		}
		same += pollPause
		if !slices.Equal(last, now) {
			same = 0
		}
		last = now
	}
	return last, nil
}

// measure lets the contenders have the lock in turns. What counts begins when each
// had it once: until then those who waited for the referee are served.
func (c *contest) measure(ctx context.Context, f *figures) error {
	defer c.stopped.Store(true)
	first := c.grants.Load() + int64(len(c.who))
	for warm := time.Now().Add(c.load.Duration / 4); c.grants.Load() < first || time.Now().Before(warm); {
		if err := pause(ctx, pollPause); err != nil {
			return err
		}
	}
	c.measureNow(true)
	began, used, from := time.Now(), cpuTime(), c.subject.progress()
	if err := pause(ctx, c.load.Duration); err != nil {
		return err
	}
	c.measureNow(false)
	took, to := time.Since(began), c.subject.progress()
	used = cpuTime() - used

	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.handovers)
	n := len(c.handovers)
	if n == 0 {
		return errors.New("nobody was granted the lock")
	}
	f.PerSecond = float64(n) / took.Seconds()
	f.P50, f.P99 = c.handovers[n/2], c.handovers[n*99/100]
	f.Entries, f.Writes = float64(to.entries-from.entries)/float64(n), float64(to.writes-from.writes)/float64(n)
	f.CPU = used / time.Duration(n)
	f.Moved = from.leader != to.leader
	return nil
}

func (c *contest) measureNow(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measuring = on
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// An askedContext counts how often it is asked anything. That shows from outside
// that a waiter was woken, also one that only looks and waits on: whoever waits
// again asks again for what ends the wait.
type askedContext struct {
	context.Context

	asked atomic.Int64
}

func (c *askedContext) ask() context.Context {
	c.asked.Add(1)
	return c.Context
}

// Deadline implements [context.Context].
func (c *askedContext) Deadline() (time.Time, bool) { return c.ask().Deadline() }

// Done implements [context.Context].
func (c *askedContext) Done() <-chan struct{} { return c.ask().Done() }

// Err implements [context.Context].
func (c *askedContext) Err() error { return c.ask().Err() }

// Value implements [context.Context].
func (c *askedContext) Value(key any) any { return c.ask().Value(key) }
