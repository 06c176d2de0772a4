package crashtest_test

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/internal/invariants"
)

var restartsFlag = flag.Int("rolling.restarts", 3, "restarts of TestRolling")

// A guest is a client outside the ensemble, such as a server of ZooKeeper's clients has.
// It works through one member and goes to another with its session when that one is about
// to be restarted. Each of its calls has to succeed.
type guest struct {
	r       *rolling
	n       int
	locks   bool // each time, it takes the lock that others want as well
	at      int  // the member
	token   string
	id      coord.SessionID
	counted int64
	calls   int
	moves   int
	longest time.Duration // of the calls that wait for no other guest
}

// A rolling is a rolling restart and those who work meanwhile.
type rolling struct {
	e       *ensemble
	holding atomic.Int32
	grants  atomic.Int64

	mu      sync.Mutex
	leaving int         // guarded by mu; the member that takes no guests, or -1
	guests  map[int]int // guarded by mu; by member
	gone    chan struct{}
}

// TestRolling restarts members of an ensemble of processes, one after the other, drained
// and in good order, on half of the processors of a machine that has two, while guests
// call without pause.
func TestRolling(t *testing.T) {
	r := newRolling(t)
	var guests []*guest
	for n := range 6 {
		g := &guest{r: r, n: n, locks: n%3 == 0, at: n % len(r.e.procs)}
		g.arrive()
		guests = append(guests, g)
	}
	stop := make(chan struct{})
	var working sync.WaitGroup
	for _, g := range guests {
		working.Go(func() { g.work(stop) })
	}
	for n := range *restartsFlag {
		if !r.restart(n % len(r.e.procs)) {
			break
		}
	}
	close(stop)
	working.Wait()
	calls, moves, longest := 0, 0, time.Duration(0)
	for _, g := range guests {
		calls, moves, longest = calls+g.calls, moves+g.moves, max(longest, g.longest)
		g.leaves()
	}
	if calls == 0 || moves == 0 || r.grants.Load() == 0 {
		t.Errorf("%d calls, %d moves, %d grants", calls, moves, r.grants.Load())
	}
	t.Logf("%d restarts, %d calls, %d grants of one lock, %d moves of %d sessions; the longest call took %v, at an election timeout of %v",
		*restartsFlag, calls, r.grants.Load(), moves, len(guests), longest.Round(time.Millisecond), r.e.cfgs[0].ElectionTimeout)
	for i := range r.e.procs {
		r.e.stop(i)
	}
	r.e.logs()
}

func newRolling(t *testing.T) *rolling {
	t.Helper()
	e := newEnsemble(t, keptDir(t), 3)
	for i := range e.cfgs {
		if invariants.Enabled { // three members with the race detector on one processor
			e.cfgs[i].ElectionTimeout, e.cfgs[i].SessionTimeout = 4*electionTimeout, 4*sessionTimeout
		}
		e.cfgs[i].Procs, e.cfgs[i].SnapshotEntries, e.cfgs[i].OpenACL = 1, 2000, true
		if taskset, err := exec.LookPath("taskset"); err == nil {
			e.cfgs[i].command = func(program string) *exec.Cmd { return exec.Command(taskset, "-c", "0", program) }
		}
		e.start(i)
	}
	e.awaitReady()
	e.plant()
	e.must(0, request{Op: opCreate, Path: "/guests"})
	return &rolling{e: e, leaving: -1, guests: map[int]int{}, gone: make(chan struct{})}
}

// restart restarts a member in the order of docs/SERVE.md.
func (r *rolling) restart(i int) bool {
	r.e.t.Helper()
	began := time.Now()
	p := r.e.proc(i)
	led := p.status().Role
	if _, err := p.call(request{Op: opDrain, Timeout: readyBound}); err != nil {
		r.e.t.Errorf("drain: %v", err)
		return false
	}
	drained := time.Since(began)
	r.empty(i)
	r.e.stop(i)
	p = r.e.start(i)
	ctx, cancel := context.WithTimeout(r.e.t.Context(), readyBound)
	defer cancel()
	if err := p.awaitStart(ctx); err != nil {
		r.e.t.Errorf("restart: %v", err)
		return false
	}
	r.mu.Lock()
	r.leaving = -1
	r.mu.Unlock()
	r.e.t.Logf("member %d, %v, was drained in %v and back after %v", i+1, led, drained.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	return !r.e.t.Failed()
}

// empty has the guests of a member leave and waits until they have.
func (r *rolling) empty(i int) {
	r.mu.Lock()
	r.leaving = i
	for r.guests[i] > 0 {
		gone := r.gone
		r.mu.Unlock()
		<-gone
		r.mu.Lock()
	}
	r.mu.Unlock()
}

// step counts a guest in at one member, or out.
func (r *rolling) step(i, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.guests[i] += by
	close(r.gone)
	r.gone = make(chan struct{})
}

func (r *rolling) isLeaving(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leaving == i
}

func (g *guest) node() string    { return fmt.Sprint("/guests/", g.n) }
func (g *guest) session() string { return fmt.Sprint("guest-", g.n) }

// call has the guest's member do something.
func (g *guest) call(r request) (reply, error) {
	g.calls++
	return g.r.e.proc(g.at).call(r)
}

func (g *guest) arrive() {
	t := g.r.e.t
	t.Helper()
	a, err := g.call(request{Op: opClient, Path: g.session(), Timeout: sessionTimeout * 4})
	if err == nil {
		g.id, g.token = a.ID, a.Data
		_, err = g.call(request{Op: opCreate, Path: g.node(), Data: "0", Session: g.session()})
	}
	if err == nil {
		_, err = g.call(request{Op: opCreate, Path: g.node() + "/e", Mode: coord.Ephemeral, Session: g.session()})
	}
	if err != nil {
		t.Fatal(err)
	}
	g.r.step(g.at, 1)
}

// work calls without pause until stop is closed or something fails.
func (g *guest) work(stop <-chan struct{}) {
	defer func() { g.r.step(g.at, -1) }()
	for {
		select {
		case <-stop:
			return
		default:
		}
		err := g.follow()
		if err == nil && g.locks {
			err = g.locked()
		} else if err == nil {
			err = g.count()
		}
		if err != nil {
			g.r.e.t.Errorf("guest %d, after %d calls: %v", g.n, g.calls, err)
			return
		}
	}
}

// follow goes to another member if this one is about to end.
func (g *guest) follow() error {
	if !g.r.isLeaving(g.at) {
		return nil
	}
	from := g.at
	g.at = (g.at + 1 + g.n%2) % len(g.r.e.procs)
	g.r.step(g.at, 1)
	began := time.Now()
	a, err := g.call(request{Op: opMove, Path: g.session(), Data: g.token, Timeout: sessionTimeout * 4})
	g.longest = max(g.longest, time.Since(began))
	g.r.step(from, -1)
	g.moves++
	if err == nil && a.ID != g.id {
		err = fmt.Errorf("the session is %v, want %v", a.ID, g.id)
	}
	return err
}

// count adds one to the guest's own number.
func (g *guest) count() error {
	began := time.Now()
	a, err := g.call(request{Op: opAdd, Path: g.node(), Delta: 1, Session: g.session()})
	g.longest = max(g.longest, time.Since(began))
	if g.counted++; err == nil && a.Value != g.counted {
		err = fmt.Errorf("the number is %d, want %d", a.Value, g.counted)
	}
	return err
}

// locked counts while the guest holds a lock.
func (g *guest) locked() error {
	key := g.session()
	if _, err := g.call(request{Op: opHold, Path: "/lock", Key: key, Session: g.session()}); err != nil {
		return err
	}
	if n := g.r.holding.Add(1); n != 1 {
		return fmt.Errorf("%d hold the lock", n)
	}
	g.r.grants.Add(1)
	err := g.count()
	g.r.holding.Add(-1)
	if _, e := g.call(request{Op: opRelease, Key: key}); err == nil {
		err = e
	}
	return err
}

// leaves checks that the guest's session is the one that it came with.
func (g *guest) leaves() {
	t := g.r.e.t
	t.Helper()
	a, err := g.call(request{Op: opGet, Path: g.node() + "/e", Session: g.session()})
	if err != nil || a.Stat.EphemeralOwner != g.id || a.State != coord.Connected {
		t.Errorf("the session of guest %d is %v, and its ephemeral %+v; %v", g.n, a.State, a.Stat, err)
	}
}
