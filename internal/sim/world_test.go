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
	"coord/internal/raftnode/memnet"
	"coord/internal/replica"
)

// A world is one ensemble, with all that is done to it and found out about it.
type world struct {
	t        *testing.T
	o        options
	start    time.Time
	net      *memraft.Net
	election time.Duration  // coord.Config.ElectionTimeout
	calls    *memnet.Net    // of member to member, beside raft
	members  []coord.Member // that the ensemble began with; each stands for its seat, see sitting
	ledger   *ledger
	history  *history
	trace    *trace
	stopping atomic.Bool                       // clients come to an end
	skipped  func(p *process, d time.Duration) // if set, called when the clock of p has run ahead by d
	working  sync.WaitGroup                    // clients, sessions, watchers
	watching sync.WaitGroup                    // recorders and monitors, which go on to the end

	mu       sync.Mutex
	seated   map[coord.MemberID]coord.MemberID        // guarded by mu; see sitting
	newest   coord.MemberID                           // guarded by mu; that was ever given out
	disks    map[coord.MemberID]vfs.FS                // guarded by mu; what lies beside the logs, by id
	doubts   map[coord.MemberID]coord.Reconfiguration // guarded by mu; by seat, changes of which it is not known whether they were made
	running  map[coord.MemberID]*process              // guarded by mu; this and what follows is by seat
	up       map[coord.MemberID]bool                  // guarded by mu; those that run, and those that are closing
	started  int                                      // guarded by mu; processes
	paused   map[coord.MemberID]bool                  // guarded by mu
	cut      map[[2]coord.MemberID]bool               // guarded by mu; from, to
	out      map[coord.MemberID]time.Duration         // guarded by mu; since when nobody hears a member and is heard by it
	faults   map[string]int                           // guarded by mu; by kind
	sessions []*session                               // guarded by mu
	streams  []*stream                                // guarded by mu
	sights   []*sight                                 // guarded by mu
	spies    []*spy                                   // guarded by mu
	found    found                                    // set at the end
	unasked  []openCall                               // guarded by mu
	position coord.Position                           // guarded by mu; some that was seen
	views    []keptView                               // guarded by mu
	digests  map[coord.ZXID]coord.Digest              // guarded by mu
	looked   int                                      // guarded by mu; how many digests were compared
	done     []step                                   // guarded by mu; what was done to the ensemble
	acts     map[uint64]uint64                        // guarded by mu; how many of whom, of those who take part
	stopped  time.Duration                            // guarded by mu; when the clients were to come to an end
}

// A process is one life of a member.
type process struct {
	number  int // unique in the world
	seat    coord.MemberID
	member  coord.MemberID
	c       *coord.Coordinator
	killed  atomic.Int64 // when, as world.now tells it; 0 while it lives
	removed bool         // its member may have been, so that it may have failed; of runFaults
}

// excuses reports whether a process may have failed so.
func (p *process) excuses(err error) bool { return p.removed && errors.Is(err, coord.ErrNotMember) }

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
		t: t, o: o, start: time.Now(), net: memraft.NewNet(o.seed), calls: memnet.New(),
		election: time.Second + time.Duration(rng.Int64N(int64(time.Second))).Round(100*time.Millisecond),
		ledger:   newLedger(), history: newHistory(), trace: &trace{start: time.Now()},
		seated: map[coord.MemberID]coord.MemberID{}, disks: map[coord.MemberID]vfs.FS{}, doubts: map[coord.MemberID]coord.Reconfiguration{},
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
		w.members = append(w.members, coord.Member{ID: coord.MemberID(i), Addr: addrOf(coord.MemberID(i))})
	}
	w.newest = coord.MemberID(n)
	w.calls.Delay(calm.MinDelay, calm.MaxDelay-calm.MinDelay)
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

// open starts the member that has a seat, and reports whether it runs: one that has never
// run has to join first, which takes another one that answers.
func (w *world) open(seat coord.MemberID) bool {
	id, disk := w.sitting(seat)
	joins := id != seat || seat >= firstGuest
	cfg := coord.Config{
		Name: "sim", ID: id, Dir: "/sim", InitialMembers: w.members, ElectionTimeout: w.election,
		MinSessionTimeout: 2 * w.election, MaxSessionTimeout: maxSession, SnapshotEntries: 100 + w.o.seed%7*100,
		WatchBuffer: 16, HistoryEvents: 3000, Logger: slog.New(slog.DiscardHandler), ReapInterval: 10 * time.Second,
		ContainerGrace: containerGrace, ObserverGrace: 30 * time.Second,
	}
	if joins {
		cfg.InitialMembers, cfg.Addr, cfg.Join = nil, addrOf(id), w.addrsBeside(seat)
	}
	if seat >= firstGuest {
		cfg.ID, disk = 0, vfs.NewMem()
	}
	private.SetMemory(&cfg, &raftnode.Memory{Net: w.calls, FS: disk, Open: w.openHost})
	c, err := coord.Open(context.Background(), cfg)
	_, doubtful := w.doubt(seat)
	if joins && errors.Is(err, coord.ErrTimeout) || doubtful && errors.Is(err, coord.ErrNotMember) {
		w.trace.add("member %v does not run: %v", id, err)
		return false
	}
	if err != nil {
		panic(fmt.Sprintf("open member %v: %v", id, err)) // in whatever goroutine: nothing else ends a bubble
	}
	w.mu.Lock()
	w.started++
	p := &process{number: w.started, seat: seat, member: id, c: c, removed: doubtful}
	if seat >= firstGuest {
		p.member, p.removed = c.Status().Member, true // when it is silent for long
		w.seatLocked(seat, p.member)
	}
	w.running[seat], w.up[seat] = p, true
	w.reachLocked()
	w.mu.Unlock()
	if !w.o.silent {
		w.watching.Go(func() { w.record(p) })
	}
	return true
}

// process returns what runs on a seat, or nil.
func (w *world) process(seat coord.MemberID) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running[seat]
}

// any returns some process that runs, or nil.
func (w *world) any(dice *rand.Rand) *process {
	if p := w.process(firstGuest + coord.MemberID(dice.IntN(4*guests))); p != nil {
		return p
	}
	return w.process(coord.MemberID(1 + dice.IntN(len(w.members))))
}

// down ends what runs on a seat: in good order, or as a crash does.
func (w *world) down(seat coord.MemberID, order bool) {
	w.mu.Lock()
	p := w.running[seat]
	delete(w.running, seat)
	w.mu.Unlock()
	if p == nil {
		return
	}
	p.killed.Store(int64(w.now()))
	if err := context.Cause(p.c.Context()); err != nil && !p.excuses(err) {
		w.violate("liveness: member %v had failed: %v", p.member, err)
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
	if err := end(p.c); err != nil && !p.excuses(err) {
		w.violate("liveness: member %v did not close: %v", p.member, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.up, seat)
	w.reachLocked()
}

// cutOff cuts one direction.
func (w *world) cutOff(from, to coord.MemberID) {
	if from == to {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]coord.MemberID{from, to}] = true
	w.reachLocked()
	w.cutLocked(from, to)
}

// cutLocked cuts one direction between those who are on two seats.
func (w *world) cutLocked(from, to coord.MemberID) {
	f, t := w.sittingLocked(from), w.sittingLocked(to)
	w.net.Cut(replica.MemberID(f), replica.MemberID(t))
	w.calls.CutOneWay(w.addrLocked(from), w.addrLocked(to))
}

func (w *world) isolate(seat coord.MemberID) {
	for _, m := range w.members {
		w.cutOff(seat, m.ID)
		w.cutOff(m.ID, seat)
	}
}

func (w *world) pause(seat coord.MemberID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.net.Pause(replica.MemberID(w.sittingLocked(seat)))
	w.calls.Pause(w.addrLocked(seat))
	w.paused[seat] = true
	w.reachLocked()
}

// healLinks ends all cuts.
func (w *world) healLinks() {
	w.mu.Lock()
	clear(w.cut)
	w.reachLocked()
	w.mu.Unlock()
	w.net.Heal()
	w.calls.Heal()
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
		id, _ := w.sitting(m.ID)
		w.net.Resume(replica.MemberID(id))
		w.net.SetApplyLag(replica.MemberID(id), 0)
		w.calls.Resume(addrOf(id))
	}
}

// reachLocked works out which seats have no member elsewhere that they hear and that
// hears them: nothing that they ask is acknowledged by a quorum.
func (w *world) reachLocked() {
	now := w.now()
	for seat := range w.seats() {
		alone := true
		for _, o := range w.members {
			if o.ID != seat && w.up[o.ID] && !w.paused[o.ID] && !w.cut[[2]coord.MemberID{seat, o.ID}] && !w.cut[[2]coord.MemberID{o.ID, seat}] {
				alone = false
			}
		}
		if alone || w.paused[seat] || !w.up[seat] {
			if _, was := w.out[seat]; !was {
				w.out[seat] = now
			}
			continue
		}
		delete(w.out, seat)
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
