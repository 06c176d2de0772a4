package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/internal/loopback"
)

const (
	electionTimeout = 500 * time.Millisecond
	suspendAfter    = 2 * electionTimeout
	sessionTimeout  = 2500 * time.Millisecond

	// A dead session ends within its timeout of the moment at which there is a
	// leader, plus this for elections, the leader's look at its clock, and a busy
	// machine.
	expiryBound = 10 * time.Second
	readyBound  = 60 * time.Second
)

// An ensemble is some members, each a process or none, and a ledger.
type ensemble struct {
	t       testing.TB
	dir     string
	l       *ledger
	grants  *grants
	items   *items
	history *history
	cfgs    []memberConfig

	patience time.Duration // how long to wait for the sessions of the dead to end

	wg sync.WaitGroup // the keepers

	mu       sync.Mutex
	procs    []*process        // guarded by mu; the last of each member
	starts   int               // guarded by mu
	holds    map[string]string // guarded by mu; the name of the session that a process holds, by key of the process
	tally    map[string]int    // guarded by mu; what was done to them
	visiting int               // guarded by mu; processes that are not among procs, and have each a session
}

func newEnsemble(tb testing.TB, dir string, n int) *ensemble {
	tb.Helper()
	out, err := os.Create(filepath.Join(dir, "ledger.jsonl"))
	if err != nil {
		tb.Fatal(err)
	}
	l := newLedger(out)
	e := &ensemble{
		t: tb, dir: dir, l: l, grants: &grants{now: l.now}, items: &items{all: map[uint64]*item{}}, history: newHistory(l.now),
		holds: map[string]string{}, tally: map[string]int{}, patience: sessionTimeout + expiryBound,
	}
	tb.Cleanup(func() {
		e.l.flush()
		_ = out.Close()
	})
	var members []coord.Member
	for i, addr := range freeAddrs(tb, n) {
		members = append(members, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	for i := range members {
		e.cfgs = append(e.cfgs, memberConfig{
			Name: "crash", ID: members[i].ID, Dir: filepath.Join(dir, fmt.Sprint("member-", i+1)), Members: members,
			ElectionTimeout: electionTimeout, SessionTimeout: sessionTimeout, OperationTimeout: 5 * time.Second,
			SnapshotEntries: 150,
		})
	}
	e.procs = make([]*process, len(members))
	tb.Cleanup(e.wg.Wait) // runs when the processes were killed
	return e
}

func freeAddrs(tb testing.TB, n int) []string {
	tb.Helper()
	addrs, err := loopback.FreeAddrs(n)
	if err != nil {
		tb.Fatal(err)
	}
	return addrs
}

// start starts a process for member i.
func (e *ensemble) start(i int) *process {
	e.mu.Lock()
	e.starts++
	n := e.starts
	e.mu.Unlock()
	p := launch(e.t, n, &e.cfgs[i], filepath.Join(e.dir, fmt.Sprintf("member-%d.log", i+1)), e.event)
	e.mu.Lock()
	e.procs[i] = p
	floor := e.l.floor()
	e.mu.Unlock()
	e.l.note(map[string]any{"start": n, "member": i + 1, "at": e.l.now()})
	e.wg.Go(func() { e.keep(p, floor) })
	return p
}

func (l *ledger) floor() coord.ZXID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.maxZXID[theRest]
}

// event is called for what a process says without being asked.
func (e *ensemble) event(p *process, r reply) {
	switch r.Event {
	case eventOutcome:
		e.l.late(p.n, &r)
	case eventRecording, eventTold:
		e.history.hear(p.cfg.ID, &r)
	case eventFailed, eventOpenFailed:
		if r.Event == eventFailed && p.mayFail.Load() && strings.Contains(r.Error, logFailed) {
			e.count("log that could not be written")
			return
		}
		if p.triesToJoin(&r) {
			p.ending.Store(true)
			return
		}
		if p.removed.Load() && (strings.Contains(r.Error, coord.ErrNotMember.Error()) || strings.Contains(r.Error, removedBeforeItJoined)) {
			return
		}
		e.l.violate("process %d of member %v: %s: %s", p.n, p.cfg.ID, r.Event, r.Error)
	}
}

// keep looks after one process: it has it hold a session, asks how that stands,
// and takes note of its end. floor is what was acknowledged before the process
// was started.
func (e *ensemble) keep(p *process, floor coord.ZXID) {
	prefix := fmt.Sprintf("p%d/", p.n)
	defer func() {
		<-p.exited
		e.l.note(map[string]any{"exit": p.n, "at": e.l.now(), "ours": p.ending.Load()})
		e.l.dead(prefix, false) // if the farewell was not noted before
		if !p.ending.Load() {
			e.l.violate("%w", p.exitError())
		}
	}()
	select {
	case <-p.ready:
	case <-p.exited:
		return
	}
	if z := coord.ZXID(p.zxid.Load()); z < floor {
		e.l.violate("process %d of member %v was ready at %v, but %v was acknowledged before it started", p.n, p.cfg.ID, z, floor)
	}
	_, _ = p.call(request{Op: opRecord, Data: e.history.position(p.cfg.ID).String()})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for key, n := "", 0; ; {
		if key == "" {
			n++
			key = e.hold(p, fmt.Sprint(prefix, "s", n))
		} else if !e.ask(p, key) {
			key = ""
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return
		}
	}
}

// hold has p open a session, and returns its key, or "".
func (e *ensemble) hold(p *process, key string) string {
	a, err := p.call(request{Op: opSession, Path: key, Timeout: p.cfg.SessionTimeout})
	if err != nil {
		return ""
	}
	if a.Timeout != p.cfg.SessionTimeout {
		e.l.violate("session %s was granted %v, want %v", key, a.Timeout, p.cfg.SessionTimeout)
	}
	e.l.openSession(key, a.ID, a.Timeout)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.holds[fmt.Sprint(p.n)] = key
	return key
}

// ask asks how a session stands, and reports whether its handle is alive.
func (e *ensemble) ask(p *process, key string) bool {
	at := e.l.now()
	a, err := p.call(request{Op: opState, Session: key})
	if err != nil {
		return false
	}
	e.l.connected(key, a.State, at)
	if a.State == coord.Connected || a.State == coord.Suspended {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.holds[fmt.Sprint(p.n)] == key {
		delete(e.holds, fmt.Sprint(p.n))
	}
	return false
}

func (e *ensemble) proc(i int) *process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.procs[i]
}

func (e *ensemble) held(p *process) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.holds[fmt.Sprint(p.n)]
}

func (e *ensemble) count(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tally[what]++
}

// awaitReady waits until every member is. It fails the test if one is not.
func (e *ensemble) awaitReady() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyBound)
	defer cancel()
	for i := range e.procs {
		if err := e.proc(i).awaitStart(ctx); err != nil {
			e.t.Fatal(err)
		}
	}
}

// must has a member do something that succeeds sooner or later.
func (e *ensemble) must(i int, r request) reply {
	e.t.Helper()
	var last reply
	var err error
	ok := poll(e.t, readyBound, r.Op, func() bool {
		last, err = e.proc(i).call(r)
		return err == nil || last.Code == coord.ErrNodeExists
	})
	if !ok {
		e.t.Fatal(err)
	}
	return last
}

// plant makes what the workload works on.
func (e *ensemble) plant() {
	e.t.Helper()
	for _, dir := range []string{seqDir, ctrDir, regDir, pairDir, ephDir, tickDir, lockDir, guardDir, doneDir} {
		e.must(0, request{Op: opCreate, Path: dir})
	}
	for i := range nLocks {
		e.must(0, request{Op: opCreate, Path: guardPath(i)})
	}
	for i := range nCtr {
		e.must(0, request{Op: opCreate, Path: fmt.Sprint(ctrDir, "/", i), Data: "0"})
	}
	e.must(0, request{Op: opCreate, Path: pairCtr, Data: "0"})
	for i := range nReg {
		e.must(0, request{Op: opCreate, Path: fmt.Sprint(regDir, "/", i)})
	}
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	for i := range nCtr {
		e.l.values[fmt.Sprint(ctrDir, "/", i)] = settled{data: "0"}
	}
	e.l.values[pairCtr] = settled{data: "0"}
	for i := range nReg {
		e.l.values[fmt.Sprint(regDir, "/", i)] = settled{}
	}
}

// decide has every process answer a write, which decides what it was asked
// before: a process's requests are executed in the order in which it took them.
func (e *ensemble) decide() {
	e.t.Helper()
	for i := range e.procs {
		e.must(i, request{Op: opSetData, Path: tickDir, Data: fmt.Sprint(i)})
		if e.moves() {
			e.decideMoved(i)
		}
	}
}

// observe waits until the dead have left and all members show the same, and
// returns what they show.
func (e *ensemble) observe(rng *rand.Rand) *observation {
	e.t.Helper()
	o := &observation{suspend: suspendAfter}
	e.awaitDead(rng, o)
	ok := poll(e.t, readyBound, "all members to show the same tree", func() bool {
		o.views = map[coord.MemberID]reply{}
		for i := range e.procs {
			v, err := e.proc(i).call(request{Op: opView})
			if err != nil {
				return false
			}
			e.l.saw(fmt.Sprint("member ", e.cfgs[i].ID), &v)
			o.views[e.cfgs[i].ID] = v
		}
		d, err := e.proc(rng.IntN(len(e.procs))).call(request{Op: opDump})
		if err != nil {
			return false
		}
		e.l.saw("the dump", &d)
		o.nodes = map[string]node{}
		o.is(&d)
		for _, n := range d.Nodes {
			o.nodes[n.Path] = n
		}
		for _, v := range o.views {
			if placeOf(&v) != o.place {
				return false
			}
		}
		return e.history.reached(o)
	})
	if !ok {
		e.t.Logf("views: %+v", o.views)
	}
	o.held = map[string]bool{}
	for i := range e.procs {
		if key := e.held(e.proc(i)); key != "" && e.ask(e.proc(i), key) {
			o.held[key] = true
		}
	}
	return o
}

// is has o be of the place of a view.
func (o *observation) is(view *reply) {
	o.zxid, o.place = view.ZXID, placeOf(view)
	pos, err := coord.ParsePosition(view.Position)
	if err != nil {
		panic(err) // the member has printed it
	}
	o.groups = placesOf(pos)
	delete(o.groups, rootGroup)
}

// dying returns the sessions that have ended, as far as is known here.
func (l *ledger) dying() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	dead := map[string]bool{}
	for key, s := range l.sessions {
		if s.died != 0 {
			dead[key] = true
		}
	}
	return dead
}

// awaitDead waits until no session is left but those of the living. If there
// still are some when time is up, the checker says which.
func (e *ensemble) awaitDead(rng *rand.Rand, o *observation) {
	o.missing = map[string]time.Duration{}
	began := time.Now()
	o.dead = e.l.dying() // who dies later has time until the next round
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		p := e.proc(rng.IntN(len(e.procs)))
		gone, err := e.look(p, o)
		if err == nil {
			o.sessions, o.wantSess = p.status().Sessions, e.living()
			if gone && o.sessions == o.wantSess {
				return
			}
		}
		if time.Since(began) > e.patience {
			return
		}
		<-tick.C
	}
}

// visited says how many processes are there that are not among procs.
func (e *ensemble) visited(by int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.visiting = by
}

// living counts the sessions that the processes hold, their own included.
func (e *ensemble) living() int {
	e.mu.Lock()
	n := e.visiting
	e.mu.Unlock()
	for i := range e.procs {
		n++
		if key := e.held(e.proc(i)); key != "" && e.ask(e.proc(i), key) {
			n++
		}
	}
	return n
}

// look takes note of the ephemerals that are missing, and reports whether those
// of dead sessions all are.
func (e *ensemble) look(p *process, o *observation) (gone bool, err error) {
	a, err := p.call(request{Op: opChildren, Path: ephDir})
	if err != nil {
		return false, err
	}
	at := e.l.now()
	there := map[string]bool{}
	for _, name := range a.Children {
		there[ephDir+"/"+name] = true
	}
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	gone = true
	for _, en := range e.l.entries {
		if en.Kind != ephemeral {
			continue
		}
		s := e.l.sessions[en.Session]
		if there[en.Path] {
			gone = gone && !o.dead[s.key]
		} else if _, known := o.missing[en.Path]; !known && !s.gone {
			o.missing[en.Path] = at
		}
	}
	return gone, nil
}

// verify observes and checks.
func (e *ensemble) verify(rng *rand.Rand) bool {
	e.t.Helper()
	e.drain(rng)
	e.decide()
	o := e.observe(rng)
	err := errors.Join(e.l.check(o, e.history), e.grants.check(o), e.items.check(o), e.history.check(o))
	e.l.note(map[string]any{"checked": len(o.nodes), "at": e.l.now(), "zxid": o.zxid, "err": fmt.Sprint(err)})
	if err != nil {
		e.t.Errorf("not explained by the ledger:\n%v", err)
	}
	return err == nil && !e.t.Failed()
}

// logs looks for panics and races in what the members have logged.
func (e *ensemble) logs() {
	e.t.Helper()
	for i := range e.procs {
		path := filepath.Join(e.dir, fmt.Sprintf("member-%d.log", i+1))
		data, err := os.ReadFile(path)
		if err != nil {
			e.t.Error(err)
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			if faulty(line) {
				e.t.Errorf("%s:\n%s", path, tail(path))
				break
			}
		}
	}
}

// stop has a member close in good order.
func (e *ensemble) stop(i int) {
	e.t.Helper()
	p := e.proc(i)
	p.ending.Store(true)
	a, err := p.call(request{Op: opClose})
	if err == nil {
		e.l.dead(fmt.Sprintf("p%d/", p.n), true)
	}
	select {
	case <-p.exited:
	case <-time.After(readyBound):
		e.t.Errorf("process %d of member %d did not end after Close", p.n, i+1)
		p.kill()
	}
	if err != nil && a.Seq == 0 && !errors.Is(err, context.Canceled) {
		e.t.Errorf("close: %v: %v", err, tail(p.logPath))
	}
}

// numbers returns how much the ensemble has made and the checkers have looked at.
func (e *ensemble) numbers() map[string]int {
	return map[string]int{
		"processes started":                          e.starts,
		"sessions":                                   len(e.l.sessions),
		"states compared by digest":                  len(e.l.digests),
		"register calls judged by porcupine":         e.l.judged,
		"registers that porcupine did not decide":    e.l.undecided,
		"locks granted":                              e.grants.count(),
		"looks of holders and guarded writes":        e.grants.looks,
		"items put into the queue":                   len(e.items.all),
		"changes told to recorders in all processes": e.history.told,
	}
}
