package crashtest_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"coord"
)

const workersPerMember = 4

// A workload asks members for things until it is stopped.
type workload struct {
	e     *ensemble
	round int
	stop  chan struct{}
	wg    sync.WaitGroup
}

func (e *ensemble) startWorkload(seed uint64, round int) *workload {
	w := &workload{e: e, round: round, stop: make(chan struct{})}
	for i := range e.procs {
		for j := range workersPerMember {
			rng := rand.New(rand.NewPCG(seed, uint64(round)<<16|uint64(i)<<8|uint64(j)))
			w.wg.Go(func() { w.run(i, rng) })
		}
		for j, work := range []func(int, *rand.Rand){w.contend, w.produce, w.consume} {
			rng := rand.New(rand.NewPCG(seed, uint64(round)<<16|uint64(i)<<8|uint64(100+j)))
			w.wg.Go(func() { work(i, rng) })
		}
	}
	if e.moves() {
		rng := rand.New(rand.NewPCG(seed, uint64(round)<<16|200))
		w.wg.Go(func() { w.move(rng) })
	}
	return w
}

// finish waits for the requests that are under way: for their answers, or for
// the end of their processes.
func (w *workload) finish() {
	close(w.stop)
	w.wg.Wait()
}

// going reports whether the workload was not stopped.
func (w *workload) going() bool {
	select {
	case <-w.stop:
		return false
	default:
		return true
	}
}

// run asks one member. The ticker is the pace: a tree that grows without bound
// would make every later round slower.
func (w *workload) run(i int, rng *rand.Rand) {
	tick := time.NewTicker(time.Duration(15+rng.IntN(10)) * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.stop:
			return
		}
		// Some requests come before the member has joined.
		if p := w.e.proc(i); p.isReady() || p.alive() && rng.IntN(10) == 0 {
			w.ask(p, rng)
		}
	}
}

// ask makes one request.
func (w *workload) ask(p *process, rng *rand.Rand) {
	en := &entry{Round: w.round, Process: p.n, Delta: 1}
	session := w.e.held(p)
	via := "" // the Coordinator's own session
	if rng.IntN(2) == 0 {
		via = session
	}
	switch n := rng.IntN(100); {
	case n < 25:
		en.Kind, en.Path = seqCreate, seqDir+"/n-"
		w.do(p, rng, en, func() request {
			return request{Op: opCreate, Path: en.Path, Data: en.data(), Mode: coord.PersistentSequential, Session: via}
		})
	case n < 40:
		if target := w.e.l.takeTarget(rng); target != nil {
			en.Kind, en.Path, en.Target = delSeq, target.Reply.Path, target.ID
			w.do(p, rng, en, func() request { return request{Op: opDelete, Path: en.Path, Session: via} })
		}
	case n < 50:
		en.Kind, en.Path, en.Delta = add, counter(rng), 1+rng.Int64N(5)
		w.do(p, rng, en, func() request { return request{Op: opAdd, Path: en.Path, Delta: en.Delta, Session: via} })
	case n < 58:
		w.cas(p, rng, en, via)
	case n < 72:
		en.Kind, en.Path = regWrite, register(rng)
		w.do(p, rng, en, func() request { return request{Op: opSetData, Path: en.Path, Data: en.data(), Session: via} })
	case n < 80:
		en.Kind, en.Path = regRead, register(rng)
		w.do(p, rng, en, func() request { return request{Op: opGet, Path: en.Path, Session: via} })
	case n < 88:
		en.Kind, en.Path = pair, pairDir
		w.do(p, rng, en, func() request { return request{Op: opMulti, Ops: pairOps(en), Session: via} })
	case n < 91:
		en.Kind, en.Path = badPair, pairDir
		w.do(p, rng, en, func() request { return request{Op: opMulti, Ops: pairOps(en), Session: via} })
	case n < 96 && session != "":
		en.Kind, en.Session = ephemeral, session
		w.do(p, rng, en, func() request {
			en.Path = fmt.Sprintf("%s/e-%d", ephDir, en.ID)
			return request{Op: opCreate, Path: en.Path, Data: en.data(), Mode: coord.Ephemeral, Session: session}
		})
	default:
		if a, err := p.call(request{Op: opView}); err == nil {
			w.e.l.saw(fmt.Sprintf("process %d of member %v", p.n, p.cfg.ID), &a)
		}
	}
}

func counter(rng *rand.Rand) string  { return fmt.Sprint(ctrDir, "/", rng.IntN(nCtr)) }
func register(rng *rand.Rand) string { return fmt.Sprint(regDir, "/", rng.IntN(nReg)) }

// cas reads a counter and sets it to one more, if nobody else did meanwhile.
func (w *workload) cas(p *process, rng *rand.Rand, en *entry, via string) {
	en.Kind, en.Path = cas, counter(rng)
	a, err := p.call(request{Op: opGet, Path: en.Path, Session: via})
	if err != nil {
		return
	}
	value, err := strconv.ParseInt(a.Data, 10, 64)
	if err != nil {
		w.e.l.violate("%s has data %q", en.Path, a.Data)
		return
	}
	en.Version = a.Stat.Version
	w.do(p, rng, en, func() request {
		return request{Op: opSetData, Path: en.Path, Data: strconv.FormatInt(value+1, 10), Version: &en.Version, Session: via}
	})
}

// pairOps returns a multi of which a part can be told from the whole.
func pairOps(en *entry) []request {
	a, b := pairPaths(en)
	ops := []request{{Op: opCreate, Path: a, Data: en.data()}, {Op: opCreate, Path: b, Data: en.data()}}
	if en.Kind == badPair {
		never := int32(-2)
		return append(ops, request{Op: opCheck, Path: pairDir, Version: &never})
	}
	return append(ops, request{Op: opAdd, Path: pairCtr, Delta: 1})
}

// do enters a request into the ledger, sends it, and enters what comes of it.
func (w *workload) do(p *process, rng *rand.Rand, en *entry, ask func() request) {
	l := w.e.l
	l.begin(en)
	r := ask()
	if rng.IntN(20) == 0 {
		r.Timeout = time.Duration(1+rng.IntN(15)) * time.Millisecond // so that callers leave as well
	}
	floor := coord.ZXID(p.zxid.Load())
	ch, seq := p.send(&r)
	if ch == nil {
		l.end(en, 0, reply{Outcome: refused, Code: coord.ErrSessionExpired, ZXID: floor}, true, floor) // nobody was asked
		return
	}
	a, ok := <-ch
	l.end(en, seq, a, ok, floor)
}
