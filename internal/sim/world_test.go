package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/vfs"

	"coord"
	"coord/internal/memraft"
	"coord/internal/private"
	"coord/internal/raftnode"
	"coord/internal/replica"
)

// A world is one ensemble, with all that is done to it and found out about it.
type world struct {
	t        *testing.T
	o        options
	start    time.Time
	net      *memraft.Net
	election time.Duration // coord.Config.ElectionTimeout
	members  []coord.Member
	ledger   *ledger
	history  *history
	trace    *trace
	stopping atomic.Bool                       // clients come to an end
	skipped  func(p *process, d time.Duration) // if set, called when the clock of p has run ahead by d
	working  sync.WaitGroup                    // clients, sessions, watchers
	watching sync.WaitGroup                    // recorders and monitors, which go on to the end

	mu       sync.Mutex
	running  map[coord.MemberID]*process      // guarded by mu
	up       map[coord.MemberID]bool          // guarded by mu; those that run, and those that are closing
	started  int                              // guarded by mu; processes
	paused   map[coord.MemberID]bool          // guarded by mu
	cut      map[[2]coord.MemberID]bool       // guarded by mu; from, to
	out      map[coord.MemberID]time.Duration // guarded by mu; since when nobody hears a member and is heard by it
	faults   map[string]int                   // guarded by mu; by kind
	sessions []*session                       // guarded by mu
	streams  []*stream                        // guarded by mu
	sights   []*sight                         // guarded by mu
	spies    []*spy                           // guarded by mu
	found    found                            // set at the end
	unasked  []openCall                       // guarded by mu
	position coord.Position                   // guarded by mu; some that was seen
	views    []keptView                       // guarded by mu
	digests  map[coord.ZXID]coord.Digest      // guarded by mu
	looked   int                              // guarded by mu; how many digests were compared
	done     []step                           // guarded by mu; what was done to the ensemble
	acts     map[uint64]uint64                // guarded by mu; how many of whom, of those who take part
	stopped  time.Duration                    // guarded by mu; when the clients were to come to an end
}

// A process is one life of a member.
type process struct {
	number int // unique in the world
	member coord.MemberID
	c      *coord.Coordinator
	killed atomic.Int64 // when, as world.now tells it; 0 while it lives
}

// A keptView is looked at again at the end.
type keptView struct {
	view   *coord.View
	digest coord.Digest
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	if o.script == nil {
		o.script = &script{seed: o.seed}
	}
	rng := rand.New(rand.NewPCG(o.seed, forWorld))
	w := &world{
		t: t, o: o, start: time.Now(), net: memraft.NewNet(o.seed),
		election: time.Second + time.Duration(rng.Int64N(int64(time.Second))).Round(100*time.Millisecond),
		ledger:   newLedger(), history: newHistory(), trace: &trace{start: time.Now()},
		running: map[coord.MemberID]*process{}, up: map[coord.MemberID]bool{}, paused: map[coord.MemberID]bool{},
		cut: map[[2]coord.MemberID]bool{}, out: map[coord.MemberID]time.Duration{}, faults: map[string]int{},
		digests: map[coord.ZXID]coord.Digest{}, acts: map[uint64]uint64{},
	}
	w.ledger.trace, w.ledger.start = w.trace, w.start
	n := 3
	if o.members > 0 {
		n = o.members
	} else if o.seed%4 == 3 {
		n = 5
	}
	for i := 1; i <= n; i++ {
		w.members = append(w.members, coord.Member{ID: coord.MemberID(i), Addr: fmt.Sprintf("member-%d:1", i)})
	}
	return w
}

// now returns how much virtual time has passed.
func (w *world) now() time.Duration { return time.Since(w.start) }

// dice returns the generator of one goroutine. It depends on the seed and on who
// that is, not on which of them comes first.
func (w *world) dice(who uint64) *rand.Rand { return rand.New(rand.NewPCG(w.o.seed, who)) }

// Those who throw dice. Clients and users of sessions have their numbers, up to 999.
const (
	forWorld uint64 = 1000 + iota
	forFaults
	forEnd
	forWatchers                  // and the next
	forSteps    uint64 = 1 << 32 // and more
	forActs     uint64 = 1 << 40 // and more
	forRivals   uint64 = 2000    // and more
)

// violate takes note of a broken promise.
func (w *world) violate(format string, args ...any) { w.ledger.violate(format, args...) }

// open starts a member.
func (w *world) open(id coord.MemberID) {
	cfg := coord.Config{
		Name: "sim", ID: id, Dir: "/sim", InitialMembers: w.members, ElectionTimeout: w.election,
		MinSessionTimeout: 2 * w.election, MaxSessionTimeout: maxSession, SnapshotEntries: 100 + w.o.seed%7*100,
		WatchBuffer: 16, HistoryEvents: 3000, Logger: slog.New(slog.DiscardHandler), ReapInterval: 10 * time.Second,
		ContainerGrace: containerGrace,
	}
	// What lies beside the log is new at each start: the simulated disk has it all.
	private.SetMemory(&cfg, &raftnode.Memory{FS: vfs.NewMem(), Open: w.openHost})
	c, err := coord.Open(context.Background(), cfg)
	if err != nil {
		panic(fmt.Sprintf("open member %v: %v", id, err)) // in whatever goroutine: nothing else ends a bubble
	}
	w.mu.Lock()
	w.started++
	p := &process{number: w.started, member: id, c: c}
	w.running[id], w.up[id] = p, true
	w.reachLocked()
	w.mu.Unlock()
	if !w.o.silent {
		w.watching.Go(func() { w.record(p) })
	}
}

func (w *world) openHost(c raftnode.Config) (replica.Host, error) {
	var members []replica.MemberID
	for id := range c.Members {
		members = append(members, id)
	}
	slices.Sort(members)
	return w.net.Open(memraft.Config{
		Member: c.Member, Members: members, Election: time.Duration(c.ElectionTicks) * c.Tick, Heartbeat: time.Duration(c.HeartbeatTicks) * c.Tick,
		SnapshotEntries: c.SnapshotEntries, CompactionOverhead: c.CompactionOverhead, OnRole: c.OnRole, OnRemoved: c.OnRemoved,
	})
}

// process returns what runs as a member, or nil.
func (w *world) process(id coord.MemberID) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running[id]
}

// any returns some process that runs, or nil.
func (w *world) any(dice *rand.Rand) *process {
	return w.process(coord.MemberID(1 + dice.IntN(len(w.members))))
}

// down ends a member: in good order, or as a crash does.
func (w *world) down(id coord.MemberID, order bool) {
	w.mu.Lock()
	p := w.running[id]
	delete(w.running, id)
	w.mu.Unlock()
	if p == nil {
		return
	}
	p.killed.Store(int64(w.now()))
	if p.c.Context().Err() != nil {
		w.violate("liveness: member %v had failed: %v", id, context.Cause(p.c.Context()))
	}
	if !order {
		for _, h := range w.handlesOf(p) {
			if h.s.State() == coord.Connected {
				h.crashed = w.now()
			}
		}
	}
	end := private.Kill
	if order {
		end = func(c any) error { return c.(*coord.Coordinator).Close() }
	}
	if err := end(p.c); err != nil {
		w.violate("liveness: member %v did not close: %v", id, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.up, id)
	w.reachLocked()
}

// cutOff cuts one direction.
func (w *world) cutOff(from, to coord.MemberID) {
	if from == to {
		return
	}
	w.mu.Lock()
	w.cut[[2]coord.MemberID{from, to}] = true
	w.reachLocked()
	w.mu.Unlock()
	w.net.Cut(replica.MemberID(from), replica.MemberID(to))
}

func (w *world) isolate(id coord.MemberID) {
	for _, m := range w.members {
		w.cutOff(id, m.ID)
		w.cutOff(m.ID, id)
	}
}

func (w *world) pause(id coord.MemberID) {
	w.net.Pause(replica.MemberID(id))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused[id] = true
	w.reachLocked()
}

// healLinks ends all cuts.
func (w *world) healLinks() {
	w.mu.Lock()
	clear(w.cut)
	w.reachLocked()
	w.mu.Unlock()
	w.net.Heal()
}

// heal ends everything but what members that are down need.
func (w *world) heal() {
	w.healLinks()
	w.mu.Lock()
	clear(w.paused)
	w.reachLocked()
	w.mu.Unlock()
	w.net.SetWeather(calm)
	for _, m := range w.members {
		w.net.Resume(replica.MemberID(m.ID))
		w.net.SetApplyLag(replica.MemberID(m.ID), 0)
	}
}

// reachLocked works out which members have no other that they hear and that hears
// them: nothing that they ask is acknowledged by a quorum.
func (w *world) reachLocked() {
	now := w.now()
	for _, m := range w.members {
		alone := true
		for _, o := range w.members {
			if o.ID != m.ID && w.up[o.ID] && !w.paused[o.ID] && !w.cut[[2]coord.MemberID{m.ID, o.ID}] && !w.cut[[2]coord.MemberID{o.ID, m.ID}] {
				alone = false
			}
		}
		if alone || w.paused[m.ID] || !w.up[m.ID] {
			if _, was := w.out[m.ID]; !was {
				w.out[m.ID] = now
			}
			continue
		}
		delete(w.out, m.ID)
	}
}

// outSince returns since when a member is out of reach of a quorum, and whether it is.
func (w *world) outSince(id coord.MemberID) (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	since, out := w.out[id]
	return since, out
}

// see keeps a view, and compares its digest with that of others.
func (w *world) see(v *coord.View, keep bool) {
	d := v.Digest()
	w.seeDigest(v.ZXID(), d)
	w.mu.Lock()
	defer w.mu.Unlock()
	if keep && len(w.views) < 100 {
		w.views = append(w.views, keptView{v, d})
	}
	w.position = v.Position()
}

// seeDigest compares a digest with what other members have at the same zxid.
func (w *world) seeDigest(z coord.ZXID, d coord.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was, ok := w.digests[z]; ok {
		w.looked++
		if was != d {
			w.violate("G14: digests %v and %v at %v", was, d, z)
		}
	}
	w.digests[z] = d
}

// somePosition returns a place that some member has reached.
func (w *world) somePosition() coord.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.position
}

// skipClock has the clock of a member run ahead, and checks that the handles which
// are over by then know it at once.
func (w *world) skipClock(id coord.MemberID, d time.Duration) {
	p := w.process(id)
	if p == nil {
		return
	}
	private.SkipClock(p.c, d)
	if w.skipped != nil {
		w.skipped(p, d)
	}
	for _, h := range w.handlesOf(p) {
		if h.s.Timeout() > d {
			continue
		}
		if h.s.Context().Err() == nil {
			w.violate("G18: %v is alive after a pause of %v", h, d)
		}
		_, _, err := h.s.Create(context.Background(), "/late-", nil, coord.PersistentSequential)
		if err == nil || errors.Is(err, coord.ErrUnknownOutcome) {
			w.violate("G18: %v proposed something after a pause of %v: %v", h, d, err)
		}
	}
}

// handlesOf returns the handles of a process.
func (w *world) handlesOf(p *process) []*handle {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*handle
	for _, s := range w.sessions {
		for _, h := range s.handles {
			if h.p == p {
				all = append(all, h)
			}
		}
	}
	return all
}

// ready waits until all members are.
func (w *world) ready() {
	for _, m := range w.members {
		p := w.process(m.ID)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		if err := p.c.Ready(ctx); err != nil {
			w.violate("liveness: member %v is not ready after 5 minutes: %v", m.ID, err)
		}
		cancel()
	}
}

// setup makes the znodes that clients work on.
func (w *world) setup() {
	for _, m := range w.members {
		w.open(m.ID)
	}
	w.net.SetWeather(calm)
	w.ready()
	c := w.process(1).c
	for _, dir := range []string{regDir, pairDir, seqDir, ctrDir, ephDir} {
		w.mustCreate(c, dir, nil)
	}
	for i := range nRegisters {
		w.mustCreate(c, register(i), []byte("0"))
	}
	for i := range nPairs {
		a, b := pairOf(i)
		w.mustCreate(c, a, []byte("0"))
		w.mustCreate(c, b, []byte("0"))
	}
	for i := range nCounters {
		w.mustCreate(c, counter(i), []byte("0"))
	}
	if w.o.script.anyOf(keepers...) {
		w.setupVanishing(c)
	}
	if w.o.script.anyOf(slices.Concat(outsiders, guards)...) {
		w.setupSecrets(c)
	}
	w.ready()
	for _, m := range w.members {
		if err := w.process(m.ID).c.Sync(context.Background(), "/"); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) mustCreate(c *coord.Coordinator, path string, data []byte, opts ...coord.CreateOption) {
	if _, _, err := c.Create(context.Background(), path, data, opts...); err != nil {
		w.t.Fatalf("create %s: %v", path, err)
	}
}
