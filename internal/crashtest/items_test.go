package crashtest_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The queue, and where the takers of its items leave a trace of each.
const (
	queuePath = "/queue"
	doneDir   = "/done"

	takeFor = time.Second // how long a taker waits
)

// An item is one value of the queue, named by a number.
type item struct {
	put  outcome
	done bool // it was found to be, in an earlier round
}

// The items are what producers were told.
type items struct {
	mu       sync.Mutex
	findings                  // guarded by mu
	all      map[uint64]*item // guarded by mu
}

func (q *items) begin() (id uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	id = uint64(len(q.all) + 1)
	q.all[id] = &item{put: unknown}
	return id
}

func (q *items) end(id uint64, o outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if o != pending {
		q.all[id].put = o
	}
}

// check checks that each item whose put was acknowledged was acknowledged once, now
// that the queue is empty, and no other.
func (q *items) check(o *observation) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	done := map[uint64]int{}
	for path, n := range o.nodes {
		if !strings.HasPrefix(path, doneDir+"/") {
			continue
		}
		id, err := strconv.ParseUint(n.Data, 10, 64)
		if err != nil || q.all[id] == nil {
			q.wrong("queue: %s has %q, which nobody put", path, n.Data)
			continue
		}
		done[id]++
	}
	for id, it := range q.all {
		switch n := done[id]; {
		case n > 1:
			q.wrong("queue: item %d was acknowledged %d times", id, n)
		case n == 1 && it.put == refused:
			q.wrong("queue: item %d was acknowledged, but its put was refused", id)
		case n == 0 && it.put == acked:
			q.wrong("queue: item %d is lost", id)
		case n == 0 && it.done:
			q.wrong("queue: item %d was acknowledged in an earlier round, and is not any more", id)
		case n == 0: // what was unknown has not happened, and cannot any more
			it.put = refused
		default:
			it.done = true
		}
	}
	return q.found()
}

// produce puts items.
func (w *workload) produce(i int, rng *rand.Rand) {
	for w.going() {
		nap(rng, 100*time.Millisecond)
		p := w.e.proc(i)
		if !p.isReady() {
			continue
		}
		id := w.e.items.begin()
		a, err := p.call(request{Op: opPut, Path: queuePath, Data: fmt.Sprint(id), Timeout: patience(rng)})
		if err == nil || a.Outcome != acked {
			w.e.items.end(id, a.Outcome)
		}
	}
}

// consume takes items and acknowledges most of them.
func (w *workload) consume(i int, rng *rand.Rand) {
	for n := 0; w.going(); n++ {
		p := w.e.proc(i)
		if !w.e.takeOne(p, fmt.Sprintf("%d/%d/%d", w.round, i, n), rng) {
			nap(rng, 100*time.Millisecond)
		}
	}
}

// takeOne takes an item and settles it. It reports whether there was one.
func (e *ensemble) takeOne(p *process, key string, rng *rand.Rand) bool {
	session := e.held(p)
	if session == "" {
		return false
	}
	a, err := p.call(request{Op: opTake, Path: queuePath, Session: session, Key: key, Timeout: takeFor})
	if err != nil {
		return false
	}
	nap(rng, 50*time.Millisecond)
	if rng.IntN(6) == 0 {
		_, _ = p.call(request{Op: opNack, Key: key, Timeout: takeFor}) // else it is tried again in the background
		return true
	}
	// An item that is not settled stays with the session, so this goes on until it is,
	// or the session is over. Ack finds out what came of an earlier attempt.
	for e.held(p) == session && p.alive() {
		if a, err := p.call(request{Op: opAck, Key: key, Path: doneDir + "/d-", Data: a.Data, Timeout: patience(rng)}); err == nil || a.Outcome == refused && !environmental(&a) {
			break
		}
		nap(rng, 20*time.Millisecond)
	}
	return true
}

// patience is how long a call is waited for: mostly longer than it takes.
func patience(rng *rand.Rand) time.Duration {
	if rng.IntN(10) == 0 {
		return time.Duration(1+rng.IntN(15)) * time.Millisecond
	}
	return 3 * time.Second
}

// drain takes what is left in the queue.
func (e *ensemble) drain(rng *rand.Rand) {
	e.t.Helper()
	n := 0
	poll(e.t, readyBound, "the queue to be empty", func() bool {
		p := e.proc(rng.IntN(len(e.procs)))
		n++
		for e.takeOne(p, fmt.Sprintf("drain/%d/%d", len(e.items.all), n), rng) {
			n++
		}
		a, err := p.call(request{Op: opLen, Path: queuePath})
		return err == nil && a.Value == 0
	})
}
