// Package memnet is a raft transport within one process: a network for tests,
// whose links can be cut and made to lose messages. Members are named by the
// addresses of their configurations, which mean nothing outside their [Net].
//
// A message that does not arrive, be the link cut or lossy or the member down,
// looks sent to its sender, as a packet to a host without power does. An error
// would trip the circuit breaker that the raft library keeps for each address,
// and the link would stay dead for up to 1.5 s after it was healed or the
// member was back.
//
// Nothing here opens a socket or holds a lock while it calls out, so a Net works
// inside a testing/synctest bubble. It must then be made, used and given up inside
// that bubble.
package memnet

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// A link is one direction between two addresses.
type link struct{ from, to string }

// A Net connects any number of members. Its methods may be called
// concurrently, also while messages are on their way.
type Net struct {
	mu        sync.Mutex // a leaf: nothing is called while it is held
	endpoints map[string]*endpoint
	serves    map[string]Serve
	welcomes  map[string]Welcome
	cut       map[link]bool
	isolated  map[string]bool
	paused    map[string]chan struct{} // closed by Resume
	lines     map[link]*line           // of the links on which something is under way
	loss      float64
	delay     delay            // of every message
	delays    map[string]delay // of those from and to a member
	rnd       *rand.Rand
	stats     Stats
}

// Stats counts what a [Net] has carried. A message batch counts as one.
type Stats struct {
	Delivered uint64 // batches and snapshot chunks that reached their target
	Lost      uint64 // swallowed by a cut or lossy link, or the member was down
}

var _ config.TransportFactory = (*Net)(nil)

// New returns a Net without members, cuts and losses.
func New() *Net {
	return &Net{
		endpoints: make(map[string]*endpoint),
		serves:    make(map[string]Serve),
		welcomes:  make(map[string]Welcome),
		cut:       make(map[link]bool),
		isolated:  make(map[string]bool),
		paused:    make(map[string]chan struct{}),
		lines:     make(map[link]*line),
		delays:    make(map[string]delay),
		rnd:       rand.New(rand.NewPCG(1, 1)),
	}
}

// Isolate cuts every link to and from addr, also those to members that join
// later.
func (n *Net) Isolate(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isolated[addr] = true
}

// Cut cuts the link between a and b in both directions.
func (n *Net) Cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link{a, b}] = true
	n.cut[link{b, a}] = true
}

// CutOneWay cuts the link on which from sends to to. Messages the other way
// still arrive.
func (n *Net) CutOneWay(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link{from, to}] = true
}

// Rejoin undoes Isolate for one member.
func (n *Net) Rejoin(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.isolated, addr)
}

// Mend undoes what Cut and CutOneWay did to the link on which from sends to to.
func (n *Net) Mend(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, link{from, to})
}

// Heal undoes every Isolate, Cut and CutOneWay. It touches neither losses and
// delays, see [Net.Clear], nor pauses.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	clear(n.isolated)
}

// Stats returns the counters so far.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Create returns the transport of one member. The raft library calls it.
func (n *Net) Create(c config.NodeHostConfig, onBatch raftio.MessageHandler, onChunk raftio.ChunkHandler) raftio.ITransport {
	return &endpoint{net: n, addr: c.RaftAddress, onBatch: onBatch, onChunk: onChunk, closed: make(chan struct{})}
}

// Validate reports whether addr can name a member: any non-empty text can.
func (n *Net) Validate(addr string) bool { return addr != "" }

// listen makes e reachable at its address.
func (n *Net) listen(e *endpoint) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoints[e.addr] != nil {
		return fmt.Errorf("memnet: address %s is in use", e.addr)
	}
	n.endpoints[e.addr] = e
	return nil
}

// forget makes e unreachable, and loses what is under way from and to it. An
// endpoint that never listened, or whose address another one has taken since, leaves
// the table as it is.
func (n *Net) forget(e *endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoints[e.addr] == e {
		delete(n.endpoints, e.addr)
		n.dropLinesLocked(e.addr)
	}
}

// cutLocked reports whether nothing gets on the link, or off it.
func (n *Net) cutLocked(l link) bool {
	return n.cut[l] || n.isolated[l.from] || n.isolated[l.to] || n.paused[l.from] != nil
}

// targetLocked returns the endpoint that gets a message now, or nil if nobody is
// there. It must be left with calls.Done when the message is handled.
func (n *Net) targetLocked(addr string) *endpoint {
	target := n.endpoints[addr]
	if target == nil {
		n.stats.Lost++
		return nil
	}
	n.stats.Delivered++
	target.calls.Add(1)
	return target
}

// Inject hands a batch to the member at addr, as though another one had sent it.
func (n *Net) Inject(addr string, batch raftpb.MessageBatch) {
	n.mu.Lock()
	target := n.targetLocked(addr)
	n.mu.Unlock()
	n.deliver(target, func(e *endpoint) { e.onBatch(batch) })
}
