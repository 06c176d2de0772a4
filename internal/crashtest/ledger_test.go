package crashtest_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"coord"
)

// A kind is what an entry of the ledger tried.
type kind string

const (
	seqCreate kind = "seqCreate" // a sequential znode below /seq, whose data is the entry's id
	delSeq    kind = "delete"    // of the znode that entry Target made
	add       kind = "add"       // Delta to a counter
	cas       kind = "cas"       // a counter plus one, if its version is still the one that was read
	regWrite  kind = "write"     // the entry's id to a register
	regRead   kind = "read"      // of a register, linearizable
	pair      kind = "multi"     // two znodes and a count, all or none
	badPair   kind = "badMulti"  // two znodes and a condition that does not hold
	ephemeral kind = "ephemeral" // a znode of Session
)

// The places of the tree that the workload works on.
const (
	seqDir  = "/seq"
	ctrDir  = "/ctr"
	regDir  = "/reg"
	pairDir = "/pair"
	ephDir  = "/eph"
	tickDir = "/tick"      // the parent's own, see ensemble.decide
	pairCtr = "/ctr/pairs" // counts pairs
	nCtr    = 3
	nReg    = 3
)

// An entry is one request and what came of it.
type entry struct {
	ID      uint64        `json:"id"`
	Round   int           `json:"round"`
	Process int           `json:"process"`
	Kind    kind          `json:"kind"`
	Path    string        `json:"path"`
	Target  uint64        `json:"target,omitempty"`
	Delta   int64         `json:"delta,omitempty"`
	Version int32         `json:"version,omitempty"` // that a cas was conditional on
	Session string        `json:"session,omitempty"`
	Floor   coord.ZXID    `json:"floor,omitempty"` // acknowledged to anybody before it was sent
	Begin   time.Duration `json:"begin"`           // since the test began
	End     time.Duration `json:"end,omitempty"`
	Outcome outcome       `json:"outcome"`
	Reply   *reply        `json:"reply,omitempty"`
	Late    bool          `json:"late,omitempty"` // the outcome became known behind the answer
	Counted bool          `json:"-"`              // it is in a settled value
}

// data is what the entry writes: nothing else in the test writes the same.
func (e *entry) data() string { return fmt.Sprint(e.ID) }

// A settled is what a counter or a register was found to be after a round.
type settled struct {
	version int32
	value   int64
	data    string
}

// A session is one session of a process, with a name of its own.
type session struct {
	key     string
	id      coord.SessionID
	timeout time.Duration

	lastConnected time.Duration // the last question that was answered with "connected" was sent then
	died          time.Duration // its process was killed or its handle ended; 0 while it lives
	farewell      bool          // it was closed in good order
	excused       bool          // it may have ended at any time
	gone          bool          // none of its ephemerals was left when we looked for them in vain
}

// A ledger holds what was asked and answered, and what was found.
type ledger struct {
	start time.Time

	mu         sync.Mutex
	out        *bufio.Writer // guarded by mu
	entries    []*entry      // guarded by mu
	open       map[[2]uint64]*entry
	deletable  []*entry // guarded by mu; acknowledged seqCreates that nobody was asked to delete
	values     map[string]settled
	sessions   map[string]*session
	digests    map[string]string     // guarded by mu; by the position of the view
	maxZXID    map[string]coord.ZXID // guarded by mu; of an acknowledged write or a linearizable read, by domain
	moving     bool                  // guarded by mu; there are mounts
	violations []error               // guarded by mu; found on the way
	judged     int                   // guarded by mu; calls that porcupine found an order for
	undecided  int                   // guarded by mu; registers for which it was not done in time
	noSpace    bool                  // guarded by mu; some disk was full
}

func newLedger(w io.Writer) *ledger {
	return &ledger{
		start: time.Now(), out: bufio.NewWriter(w), open: map[[2]uint64]*entry{},
		values: map[string]settled{}, sessions: map[string]*session{}, digests: map[string]string{}, maxZXID: map[string]coord.ZXID{},
	}
}

func (l *ledger) now() time.Duration { return time.Since(l.start) }

// violate takes note of a broken promise.
func (l *ledger) violate(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violateLocked(format, args...)
}

func (l *ledger) violateLocked(format string, args ...any) {
	l.violations = append(l.violations, fmt.Errorf(format, args...))
}

// note writes something into the ledger's file.
func (l *ledger) note(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(v)
}

func (l *ledger) noteLocked(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		l.violateLocked("ledger: %w", err)
		return
	}
	_, _ = l.out.Write(append(line, '\n'))
}

func (l *ledger) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.out.Flush()
}

// begin enters a request before it is sent.
func (l *ledger) begin(e *entry) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.ID = uint64(len(l.entries) + 1)
	e.Floor = l.maxZXID[l.domainLocked(e)]
	e.Begin = l.now()
	l.entries = append(l.entries, e)
	return e
}

// end enters what came of a request: an answer, or that its process went without
// one. floor is what the process had shown when the request was sent.
func (l *ledger) end(e *entry, seq uint64, a reply, answered bool, floor coord.ZXID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.End = l.now()
	if !answered {
		e.Outcome = unknown
		l.noteLocked(e)
		return
	}
	e.Outcome, e.Reply = a.Outcome, &a
	if e.Outcome == unknown {
		l.open[[2]uint64{uint64(e.Process), seq}] = e
	}
	if a.ZXID < floor {
		l.violateLocked("process %d went back in time: it answered entry %d at %v and had shown %v before that was sent", e.Process, e.ID, a.ZXID, floor)
	}
	if e.Outcome == acked {
		domain := l.domainLocked(e)
		if domain == theRest && a.ZXID < e.Floor { // what is told with an answer is the root group's
			l.violateLocked("entry %d (%s) was acknowledged by process %d at %v, but %v was acknowledged before it was sent", e.ID, e.Kind, e.Process, a.ZXID, e.Floor)
		}
		l.maxZXID[domain] = max(l.maxZXID[domain], e.zxid())
		if e.Kind == seqCreate {
			l.deletable = append(l.deletable, e)
		}
	}
	l.noteLocked(e)
}

// late enters an outcome that became known behind the answer.
func (l *ledger) late(process int, a *reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := [2]uint64{uint64(process), a.Seq}
	e := l.open[k]
	if e == nil {
		return // its answer is still on the way, or it is no entry of the ledger
	}
	delete(l.open, k)
	if e.Outcome != unknown && e.Outcome != a.Outcome {
		l.violateLocked("entry %d (%s %s) was found to be %s, but Outcome says %s", e.ID, e.Kind, e.Path, e.Outcome, a.Outcome)
		return
	}
	e.Outcome, e.Late = a.Outcome, true
	l.noteLocked(e)
}

// zxid returns the zxid of the entry's write or, of a read, of the write that it
// saw; 0 if the answer does not tell.
func (e *entry) zxid() coord.ZXID {
	switch {
	case e.Outcome != acked || e.Reply == nil || e.Late:
		return 0
	case e.Kind == pair && len(e.Reply.Results) > 0:
		return e.Reply.Results[0].Stat.Czxid
	case e.Reply.Stat == nil:
		return 0
	}
	return e.Reply.Stat.Mzxid
}

// takeTarget returns a znode to delete, which nobody else is given.
func (l *ledger) takeTarget(rng *rand.Rand) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.deletable) == 0 {
		return nil
	}
	i := rng.IntN(len(l.deletable))
	e := l.deletable[i]
	last := len(l.deletable) - 1
	l.deletable[i] = l.deletable[last]
	l.deletable = l.deletable[:last]
	return e
}

// A domain is what one group serves at any time: what is, or may come to be, a mount. The
// order of zxids means something within it only.
const theRest = ""

// domainLocked returns the domain of what an entry is about.
func (l *ledger) domainLocked(e *entry) string {
	if !l.moving {
		return theRest
	}
	for _, mount := range slices.Concat(mountsForGood, mountsForAWhile()) {
		if e.Path == mount || strings.HasPrefix(e.Path, mount+"/") {
			return mount
		}
	}
	return theRest
}

// saw takes note of the digest of a view.
func (l *ledger) saw(who string, view *reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := placeOf(view)
	if was, ok := l.digests[at]; ok && was != view.Digest {
		l.violateLocked("%s has digest %.8s at %s, where %.8s was seen before", who, view.Digest, at, was)
		return
	}
	l.digests[at] = view.Digest
}

// placeOf returns what views that show the same have in common.
func placeOf(view *reply) string { return cmp.Or(view.Position, view.ZXID.String()) }

// openSession enters a session.
func (l *ledger) openSession(key string, id coord.SessionID, timeout time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[key] = &session{key: key, id: id, timeout: timeout, lastConnected: l.now()}
}

// connected takes note of a session's state, which was asked for at the time at.
func (l *ledger) connected(key string, state coord.SessionState, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[key]
	if s == nil || s.died != 0 {
		return
	}
	switch state {
	case coord.Connected:
		s.lastConnected = max(s.lastConnected, at)
	case coord.Expired:
		s.died = l.now()
	case coord.Closed: // by its process, which may be asked before it says goodbye
		s.died, s.farewell = l.now(), true
	case coord.Suspended:
	}
}

// excuse takes note that nothing is known of how long the present sessions live.
func (l *ledger) excuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sessions {
		s.excused = true
	}
}

// expectNoSpace takes note that a disk is full from now on.
func (l *ledger) expectNoSpace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noSpace = true
}

// dead takes note of the end of a process.
func (l *ledger) dead(prefix string, farewell bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, s := range l.sessions {
		if len(key) > len(prefix) && key[:len(prefix)] == prefix && s.died == 0 {
			s.died, s.farewell = l.now(), farewell
		}
	}
}
