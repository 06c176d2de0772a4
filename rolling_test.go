package coord_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// A town is the members that clients from outside may use, and how many use each: what
// a server of them knows, which has them leave before its member ends.
type town struct {
	mu      sync.Mutex
	open    []*coord.Coordinator       // guarded by mu
	guests  map[*coord.Coordinator]int // guarded by mu
	changed chan struct{}              // guarded by mu; closed when somebody has left
}

func newTown(members []*coord.Coordinator) *town {
	return &town{open: slices.Clone(members), guests: map[*coord.Coordinator]int{}, changed: make(chan struct{})}
}

// enter takes a client to a member that is open.
func (w *town) enter(n int) *coord.Coordinator {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := w.open[n%len(w.open)]
	w.guests[to]++
	return to
}

// leave says that a client has gone from a member, with its session.
func (w *town) leave(c *coord.Coordinator) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.guests[c]--
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *town) isOpen(c *coord.Coordinator) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.open, c)
}

// close has the clients of a member leave, and waits until they have.
func (w *town) close(c *coord.Coordinator) {
	w.mu.Lock()
	w.open = slices.DeleteFunc(w.open, func(o *coord.Coordinator) bool { return o == c })
	for w.guests[c] > 0 {
		changed := w.changed
		w.mu.Unlock()
		<-changed
		w.mu.Lock()
	}
	w.mu.Unlock()
}

func (w *town) reopen(c *coord.Coordinator) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, c)
}

// A roamer is a client from outside. It goes from one member to another with its
// session, between two calls, and each of its calls has to succeed.
type roamer struct {
	t     *testing.T
	w     *town
	n     int
	at    *coord.Coordinator
	s     *coord.Session
	calls int
	pause time.Duration // of its longest call that waits for nobody's lock
	moves int
}

func (r *roamer) node() string { return "/roamers/" + strconv.Itoa(r.n) }

// arrive opens the session, with a znode of its own and an ephemeral one.
func (r *roamer) arrive() {
	r.t.Helper()
	var err error
	r.at = r.w.enter(r.n)
	if r.s, err = r.at.NewSession(r.t.Context(), coord.SessionOptions{External: true, Timeout: 30 * time.Second}); err != nil {
		r.t.Fatal(err)
	}
	mustCreate(r.t, r.s, r.node(), "0", coord.WithParents())
	mustCreate(r.t, r.s, r.node()+"/e", "", coord.Ephemeral)
}

// follow resumes the session on another member if this one is being closed.
func (r *roamer) follow() error {
	if r.w.isOpen(r.at) {
		return nil
	}
	to := r.w.enter(r.n)
	s, err := to.Resume(r.t.Context(), r.s.Token(), coord.SessionOptions{External: true, Timeout: 30 * time.Second})
	if err != nil {
		r.w.leave(to)
		return fmt.Errorf("resume on member %v: %w", to.Status().Member, err)
	}
	r.w.leave(r.at)
	r.at, r.s, r.moves = to, s, r.moves+1
	return nil
}

// timed makes a call and notes how long it took.
func (r *roamer) timed(call func() error) error {
	began := time.Now()
	err := call()
	r.pause, r.calls = max(r.pause, time.Since(began)), r.calls+1
	return err
}

// count adds to the roamer's own number, which nobody else changes.
func (r *roamer) count() error {
	want := int64(r.calls + 1)
	return r.timed(func() error {
		got, _, err := r.s.Add(r.t.Context(), r.node(), 1)
		if err == nil && got != want {
			return fmt.Errorf("the number is %d, want %d", got, want)
		}
		return err
	})
}

// roam writes without pause until stop is closed.
func (r *roamer) roam(stop <-chan struct{}, turn func(*roamer) error) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		err := r.follow()
		if err == nil {
			err = turn(r)
		}
		if err != nil {
			r.t.Errorf("roamer %d, on member %v, after %d calls: %v", r.n, r.at.Status().Member, r.calls, err)
			r.w.leave(r.at) // nobody shall wait for it
			return
		}
	}
}

// holder returns a turn in which the roamer holds the lock that all of them want.
func holder(holding *atomic.Int32, grants *atomic.Int64) func(*roamer) error {
	last := new(atomic.Int64) // fence
	return func(r *roamer) error {
		held, err := recipes.Lock(r.t.Context(), r.s, "/lock")
		if err != nil {
			return err
		}
		if n := holding.Add(1); n != 1 {
			return fmt.Errorf("%d hold the lock", n)
		}
		if fence := int64(held.Fence()); fence <= last.Swap(fence) {
			return fmt.Errorf("fence %d behind a higher one", fence)
		}
		err = r.count()
		grants.Add(1)
		holding.Add(-1)
		if e := held.Release(r.t.Context()); err == nil {
			err = e
		}
		return err
	}
}

// TestRollingRestart restarts all three members of an ensemble on disks and sockets, one
// after the other, under callers that write without pause.
func TestRollingRestart(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.OnDisk(), coordtest.OnSockets(), coordtest.WithConfig(func(c *coord.Config) { c.DefaultACL = coord.OpenACL() }))
	w := newTown(e.Running())
	var holding atomic.Int32
	var grants atomic.Int64
	lock := holder(&holding, &grants)
	var all []*roamer
	for n := range 8 {
		r := &roamer{t: t, w: w, n: n}
		r.arrive()
		all = append(all, r)
	}
	stop := make(chan struct{})
	var roaming sync.WaitGroup
	for n, r := range all {
		turn := (*roamer).count
		if n%4 == 0 {
			turn = lock
		}
		roaming.Go(func() { r.roam(stop, turn) })
	}
	// The leader goes first, so that leadership moves at least once.
	for _, id := range []coord.MemberID{e.Leader(t.Context()).Status().Member, 1, 2, 3} {
		restartDrained(t, e, w, e.Member(int(id)))
	}
	close(stop)
	roaming.Wait()

	calls, moves, longest := 0, 0, time.Duration(0)
	for _, r := range all {
		calls, moves, longest = calls+r.calls, moves+r.moves, max(longest, r.pause)
		if r.s.State() != coord.Connected {
			t.Errorf("the session of roamer %d is %v", r.n, r.s.State())
		}
		if _, st := mustGet(t, r.s, r.node()+"/e", coord.Linearizable()); st.EphemeralOwner != r.s.ID() {
			t.Errorf("the ephemeral of roamer %d is of session %v, want %v", r.n, st.EphemeralOwner, r.s.ID())
		}
		if got, _ := mustGet(t, r.s, r.node(), coord.Linearizable()); got != strconv.Itoa(r.calls) {
			t.Errorf("roamer %d has counted %s, want %d", r.n, got, r.calls)
		}
	}
	if moves < len(all) || grants.Load() == 0 {
		t.Errorf("%d moves of %d roamers, %d grants", moves, len(all), grants.Load())
	}
	t.Logf("%d calls, %d grants, %d moves of sessions; the longest call took %v", calls, grants.Load(), moves, longest)
}

// restartDrained restarts a member in the order of docs/SERVE.md, and checks that its end
// is no election for the others.
func restartDrained(t *testing.T, e *coordtest.Ensemble, w *town, c *coord.Coordinator) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id, began := c.Status().Member, time.Now()
	led := c.Status().Role == coord.Leading
	if err := c.Drain(ctx); err != nil {
		t.Fatalf("Drain of member %v: %v", id, err)
	}
	drained := time.Since(began)
	w.close(c)
	left := time.Since(began)
	others := slices.DeleteFunc(e.Running(), func(o *coord.Coordinator) bool { return o == c })
	before := others[0].Status()
	e.Stop(c)
	again := e.Restart(c)
	if err := again.Ready(ctx); err != nil {
		t.Fatalf("member %v is not ready again: %v", id, err)
	}
	for _, o := range others {
		if st := o.Status(); st.Term != before.Term || st.Leader != before.Leader {
			t.Errorf("member %v sees member %v lead in term %d, before the restart it was %v in %d", st.Member, st.Leader, st.Term, before.Leader, before.Term)
		}
	}
	w.reopen(again)
	t.Logf("member %v (leading: %v): drained in %v, clients gone after %v, back after %v", id, led, drained.Round(time.Millisecond), left.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}
