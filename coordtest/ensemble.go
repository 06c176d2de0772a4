package coordtest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/internal/private"
	"coord/internal/raftnode"
	"coord/internal/raftnode/memnet"
)

// settleTimeout is how long an ensemble may take for what it always does in the
// end: elect a leader, catch up, stop. It is far more than it needs.
const settleTimeout = 60 * time.Second

// An Ensemble is a set of members in this process. Its methods fail the test
// rather than return an error, and must be called from the test's goroutine,
// but for Member.
type Ensemble struct {
	t     testing.TB
	net   *memnet.Net
	label string

	mu      sync.Mutex
	members map[coord.MemberID]*member // guarded by mu
}

// A member is one place in the ensemble: what survives a crash, and the process
// that runs there at the moment.
type member struct {
	cfg     coord.Config
	memory  *raftnode.Memory
	running *coord.Coordinator // nil while it is down
	last    *coord.Coordinator // the newest, running or not
}

// An Option changes how an ensemble is made.
type Option func(*options)

type options struct {
	onDisk bool
	tweak  []func(*coord.Config)
}

// OnDisk keeps logs and snapshots on the disk, in a temporary directory of the
// test, as a real member does. The network stays in memory.
func OnDisk() Option { return func(o *options) { o.onDisk = true } }

// WithConfig changes the configuration of every member before it is opened. ID,
// Dir and InitialMembers are the ensemble's own.
func WithConfig(change func(*coord.Config)) Option {
	return func(o *options) { o.tweak = append(o.tweak, change) }
}

// WithElectionTimeout sets [coord.Config.ElectionTimeout], which is a second otherwise: a
// busy machine does not take that for a silence. Inside a synctest bubble even long ones
// cost nothing.
func WithElectionTimeout(d time.Duration) Option {
	return WithConfig(func(c *coord.Config) { c.ElectionTimeout = d })
}

var ensembles atomic.Uint64

// NewEnsemble starts an ensemble of n members, numbered from 1, and waits until
// all of them are ready. It is closed and checked when the test ends.
func NewEnsemble(tb testing.TB, n int, opts ...Option) *Ensemble {
	tb.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	e := &Ensemble{t: tb, net: memnet.New(), label: strconv.FormatUint(ensembles.Add(1), 10), members: map[coord.MemberID]*member{}}
	var initial []coord.Member
	for i := 1; i <= n; i++ {
		initial = append(initial, coord.Member{ID: coord.MemberID(i), Addr: fmt.Sprintf("member-%d:1", i)})
	}
	dir := "/coordtest"
	if o.onDisk {
		dir = tb.TempDir()
	}
	for _, in := range initial {
		m := &member{memory: raftnode.NewMemory(e.net)}
		if o.onDisk {
			m.memory = raftnode.OnDisk(e.net)
		}
		m.cfg = coord.Config{ElectionTimeout: time.Second, Logger: slog.New(slog.DiscardHandler)}
		for _, tweak := range o.tweak {
			tweak(&m.cfg)
		}
		m.cfg.Name = "coordtest-" + e.label
		m.cfg.ID, m.cfg.InitialMembers = in.ID, initial
		m.cfg.Dir = filepath.Join(dir, in.ID.String())
		e.members[in.ID] = m
	}
	tb.Cleanup(e.finish)
	for _, id := range e.ids() {
		e.start(id)
	}
	e.hasten()
	for _, id := range e.ids() {
		e.ready(e.Member(int(id)))
	}
	return e
}

// rootGroup is the group that every ensemble has.
const rootGroup = 1

// hasten has the first member stand for election, as long as there is no leader, so
// that no test waits for an election timeout before it begins. It asks several times,
// with a pause, because the others may not be listening yet, and nothing tells when.
func (e *Ensemble) hasten() {
	first := e.members[1]
	addr := first.cfg.InitialMembers[0].Addr
	for range 20 {
		if first.last.Status().Leader != 0 {
			return
		}
		first.memory.Hasten(first.cfg.Name, 1, addr, rootGroup)
		time.Sleep(time.Millisecond)
	}
}

func (e *Ensemble) ids() []coord.MemberID {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.members))
}

// Size returns the number of members, running or not.
func (e *Ensemble) Size() int { return len(e.ids()) }

// Member returns the member numbered i, from 1 to Size, whether or not it is
// running.
func (e *Ensemble) Member(i int) *coord.Coordinator {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.members[coord.MemberID(i)]
	if m == nil {
		e.t.Fatalf("coordtest: no member %d in an ensemble of %d", i, len(e.members))
	}
	return m.last
}

// Running returns the members that are running, in the order of their ids.
func (e *Ensemble) Running() []*coord.Coordinator {
	e.mu.Lock()
	defer e.mu.Unlock()
	var running []*coord.Coordinator
	for _, id := range slices.Sorted(maps.Keys(e.members)) {
		if c := e.members[id].running; c != nil {
			running = append(running, c)
		}
	}
	return running
}

// Leader waits for a member that leads and is acknowledged by a quorum, and
// returns it.
func (e *Ensemble) Leader(ctx context.Context) *coord.Coordinator {
	e.t.Helper()
	var leader *coord.Coordinator
	e.wait(ctx, "a leader", func() bool {
		for _, c := range e.Running() {
			if st := c.Status(); st.Role == coord.Leading && c.Sync(ctx, "/") == nil && c.Status().Role == coord.Leading {
				leader = c
				return true
			}
		}
		return false
	})
	return leader
}

// Follower returns a running member that follows the present leader.
func (e *Ensemble) Follower(ctx context.Context) *coord.Coordinator {
	e.t.Helper()
	var follower *coord.Coordinator
	e.wait(ctx, "a follower", func() bool {
		leader := e.Leader(ctx).Status().Member
		for _, c := range e.Running() {
			if st := c.Status(); st.Role == coord.Following && st.Leader == leader && c.Health() == nil {
				follower = c
				return true
			}
		}
		return false
	})
	return follower
}

// Kill ends a member as a crash would: nothing is closed in good order. What it
// had on its disk stays.
func (e *Ensemble) Kill(c *coord.Coordinator) {
	e.t.Helper()
	e.down(c)
	if err := private.Kill(c); err != nil {
		e.t.Fatalf("coordtest: kill member %v: %v", c.Status().Member, err)
	}
}

// Stop closes a member in good order.
func (e *Ensemble) Stop(c *coord.Coordinator) {
	e.t.Helper()
	e.down(c)
	if err := c.Close(); err != nil {
		e.t.Fatalf("coordtest: close member %v: %v", c.Status().Member, err)
	}
}

func (e *Ensemble) down(c *coord.Coordinator) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.members[c.Status().Member]
	if m == nil || m.running != c {
		e.t.Fatalf("coordtest: member %v is not running here", c.Status().Member)
	}
	m.running = nil
}

// Restart starts the member at the place of c, which is down, and returns it
// without waiting until it is ready.
func (e *Ensemble) Restart(c *coord.Coordinator) *coord.Coordinator {
	e.t.Helper()
	return e.start(c.Status().Member)
}

func (e *Ensemble) start(id coord.MemberID) *coord.Coordinator {
	e.t.Helper()
	e.mu.Lock()
	m := e.members[id]
	cfg, running := m.cfg, m.running
	e.mu.Unlock()
	if running != nil {
		e.t.Fatalf("coordtest: member %v is running", id)
	}
	private.SetMemory(&cfg, m.memory)
	var c *coord.Coordinator
	var err error
	// Every goroutine that starts from here carries the label, so that finish can
	// tell this ensemble's from others.
	pprof.Do(context.Background(), pprof.Labels("coordtest", e.label), func(ctx context.Context) {
		c, err = coord.Open(ctx, cfg)
	})
	if err != nil {
		e.t.Fatalf("coordtest: start member %v: %v", id, err)
	}
	e.mu.Lock()
	m.running, m.last = c, c
	e.mu.Unlock()
	return c
}

// ready waits until c is.
func (e *Ensemble) ready(c *coord.Coordinator) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		e.t.Fatalf("coordtest: member %v: %v", c.Status().Member, err)
	}
}

// Isolate cuts a member off from all others. Messages are lost in silence.
func (e *Ensemble) Isolate(c *coord.Coordinator) { e.net.Isolate(addrOf(c)) }

// Heal undoes every Isolate.
func (e *Ensemble) Heal() { e.net.Heal() }

func addrOf(c *coord.Coordinator) string { return fmt.Sprintf("member-%v:1", c.Status().Member) }

// Converged waits until all running members have applied the same writes.
func (e *Ensemble) Converged(ctx context.Context) {
	e.t.Helper()
	e.wait(ctx, "the members to converge", func() bool {
		seen := map[coord.ZXID]bool{}
		for _, c := range e.Running() {
			if c.Sync(ctx, "/") != nil {
				return false
			}
			seen[c.Status().ZXID] = true
		}
		return len(seen) <= 1
	})
}

// wait polls until done says yes, and fails the test if it does not in time.
func (e *Ensemble) wait(ctx context.Context, what string, done func() bool) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			e.t.Fatalf("coordtest: waiting for %s: %v; %s", what, context.Cause(ctx), e.describe())
		}
	}
}

func (e *Ensemble) describe() string {
	var b strings.Builder
	for _, c := range e.Running() {
		st := c.Status()
		fmt.Fprintf(&b, "member %v: %v, leader %v, term %d, zxid %v, health %v; ", st.Member, st.Role, st.Leader, st.Term, st.ZXID, c.Health())
	}
	return b.String()
}

// finish heals, checks and closes the ensemble.
func (e *Ensemble) finish() {
	e.t.Helper()
	e.Heal()
	e.check()
	var closing sync.WaitGroup
	for _, c := range e.Running() {
		closing.Go(func() {
			if err := private.Kill(c); err != nil {
				e.t.Errorf("coordtest: close member %v: %v", c.Status().Member, err)
			}
		})
	}
	closing.Wait()
	e.checkGoroutines()
}

// check fails the test if a member's invariants are broken or members differ.
func (e *Ensemble) check() {
	e.t.Helper()
	running := e.Running()
	for _, c := range running {
		for _, err := range private.Violations(c) {
			e.t.Errorf("coordtest: member %v: broken invariant: %v", c.Status().Member, err)
		}
	}
	if e.t.Failed() || len(running) <= e.Size()/2 {
		return // without a quorum they need not agree
	}
	e.wait(context.Background(), "equal digests at equal zxids", func() bool {
		digests, zxids := map[coord.Digest]bool{}, map[coord.ZXID]bool{}
		for _, c := range running {
			v, err := c.View(context.Background(), coord.Linearizable())
			if err != nil {
				return c.Context().Err() != nil
			}
			zxids[v.ZXID()] = true
			digests[v.Digest()] = true
		}
		if len(zxids) == 1 && len(digests) > 1 {
			e.t.Errorf("coordtest: members differ at the same zxid: %s", e.describe())
			return true
		}
		return len(zxids) == 1
	})
}

// checkGoroutines fails the test if a goroutine of the ensemble is left.
func (e *Ensemble) checkGoroutines() {
	e.t.Helper()
	label := fmt.Sprintf("%q:%q", "coordtest", e.label)
	var left string
	for range 1000 {
		if left = goroutinesWith(label); left == "" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	e.t.Errorf("coordtest: goroutines left behind:\n%s", left)
}

// goroutinesWith returns the stacks of the goroutines that carry a label.
func goroutinesWith(label string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return err.Error()
	}
	var left []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, label) {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// Lose has the network swallow that share of all messages, from 0 to 1, chosen
// by a generator with this seed. Zero ends it.
func (e *Ensemble) Lose(share float64, seed uint64) { e.net.Lose(share, seed) }

// Lead has c lead, and waits until it does.
func (e *Ensemble) Lead(ctx context.Context, c *coord.Coordinator) {
	e.t.Helper()
	e.wait(ctx, "a transfer of leadership", func() bool {
		if c.Status().Role == coord.Leading {
			return true
		}
		private.Lead(c)
		return false
	})
}
