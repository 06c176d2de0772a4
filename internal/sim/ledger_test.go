package sim_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"coord"
)

// A kind is what a call does.
type kind uint8

const (
	setRegister     kind = iota + 1 // its own id
	casRegister                     // its own id, if the version is still the one that was read
	movePair                        // its id to the one, minus its id to the other, in a Multi
	badMulti                        // a Multi with a condition that does not hold
	createSeq                       // a sequential znode, whose data is its id
	deleteSeq                       // of a znode that createSeq made
	addCounter                      // plus one
	updateCounter                   // plus one, by Typed.Update
	createTTL                       // a sequential znode with a time to live, whose data is its id
	refreshTTL                      // its id into such a znode
	createChild                     // below a container or such a znode, named by its id, which is its data
	deleteChild                     // of a znode that createChild made
	setACL                          // of a secret, if its ACL is the one that was read
	createEphemeral                 // sequential, whose data is its id
	getRegister
	getACL
	viewAll
	childrenSeq
	syncAll
	nKinds
)

var kindNames = [nKinds]string{
	"", "set", "cas", "multi", "badMulti", "create", "delete", "add", "update", "createTTL", "refresh", "createChild", "deleteChild",
	"setACL", "ephemeral", "get", "getACL", "view", "children", "sync",
}

func (k kind) String() string { return kindNames[k] }

func (k kind) writes() bool { return k <= createEphemeral }

// marks reports whether a call leaves data in the tree by which its write is found.
func (k kind) marks() bool {
	return k.writes() && !slices.Contains([]kind{deleteSeq, deleteChild, addCounter, updateCounter, setACL}, k)
}

// A level says how fresh a read must be.
type level uint8

const (
	plain level = iota
	linearizable
	stale
	atLeast
)

// An outcome is what is known of a call.
type outcome uint8

const (
	pending outcome = iota
	acked
	refused // for sure
	unknown
)

func (o outcome) String() string {
	return [...]string{"pending", "acknowledged", "refused", "unknown"}[o]
}

// A call is one request of a client and what came of it.
type call struct {
	id      int
	kind    kind
	level   level
	client  int
	process int
	member  coord.MemberID
	sess    *session // nil: the Coordinator's own
	handle  int      // of sess
	who     identity // that it spoke for
	path    string
	version int32         // that a cas, or a setACL, was conditional on
	ttl     time.Duration // of a createTTL

	begin, end uint64 // ticks of the ledger: what ends before something begins has the lower one
	outcome    outcome
	late       bool // the outcome became known later
	code       coord.Code
	zxid       coord.ZXID // of the write, if it was acknowledged; of the state that a read saw at least
	exact      bool       // of a read: it saw just that state
	value      string     // that was read or, of a counter, written
	stat       coord.Stat
	floor      coord.ZXID // of a read at least some Position: that
	view       *coord.View
}

// data is what the call writes: nothing else in a run writes the same.
func (c *call) data() string { return strconv.Itoa(c.id) }

func (c *call) String() string {
	return fmt.Sprintf("call %d (%v %s, client %d, process %d, ticks %d to %d)", c.id, c.kind, c.path, c.client, c.process, c.begin, c.end)
}

// A ledger holds what was asked and told. Ticks order calls in real time, also those
// of one moment of virtual time.
type ledger struct {
	start time.Time
	trace *trace
	ticks atomic.Uint64
	ids   atomic.Int64

	mu         sync.Mutex
	calls      []*call // guarded by mu
	violations []error // guarded by mu
}

func newLedger() *ledger { return &ledger{} }

// violate takes note of a broken promise.
func (l *ledger) violate(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.violations) < 40 { // more says no more
		l.violations = append(l.violations, fmt.Errorf("at %v: %w", time.Since(l.start), err))
	}
	l.trace.add("VIOLATION %v", err)
}

// found returns the violations until now.
func (l *ledger) found() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.violations
}

// begin enters a call.
func (l *ledger) begin(c call) *call {
	c.id = int(l.ids.Add(1))
	l.mu.Lock()
	l.calls = append(l.calls, &c)
	l.mu.Unlock()
	c.begin = l.ticks.Add(1)
	return &c
}

// done enters what came of a call.
func (l *ledger) done(c *call, err error) {
	c.end = l.ticks.Add(1)
	switch {
	case err == nil:
		c.outcome = acked
	case errors.Is(err, coord.ErrUnknownOutcome):
		c.outcome = unknown
	default:
		c.outcome = refused
		c.code, _ = errors.AsType[coord.Code](err)
	}
	l.trace.call(c, err)
}

// operations returns how many calls were made.
func (l *ledger) operations() int { return int(l.ids.Load()) }

// A trace keeps the last things that happened, to be shown when a run fails.
type trace struct {
	start time.Time

	mu    sync.Mutex
	lines [400]traced // guarded by mu; a ring
	next  int         // guarded by mu
}

// A traced thing is written out only if it is shown.
type traced struct {
	at     time.Duration
	format string
	args   []any
	call   call
	err    error
}

func (t *trace) add(format string, args ...any) {
	t.put(traced{format: format, args: args})
}

func (t *trace) call(c *call, err error) { t.put(traced{call: *c, err: err}) }

func (t *trace) put(x traced) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.at = time.Since(t.start)
	t.lines[t.next%len(t.lines)] = x
	t.next++
}

// String returns what is kept, the oldest first.
func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []byte
	for i := range t.lines {
		x := t.lines[(t.next+i)%len(t.lines)]
		switch {
		case x.format != "":
			out = fmt.Appendf(out, "%12v  %s\n", x.at, fmt.Sprintf(x.format, x.args...))
		case x.call.id != 0:
			out = fmt.Appendf(out, "%12v  %v -> %v %q %v\n", x.at, &x.call, x.call.zxid, x.call.value, x.err)
		}
	}
	return string(out)
}
