package zkserver

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"coord"
	"coord/internal/jute"
)

// A connInfo is what four-letter words tell of a connection.
type connInfo struct {
	remote      net.Addr
	established time.Time
	outstanding int
	received    int64
	sent        int64

	watches  *coord.WatchSet // nil: none yet
	session  coord.SessionID // 0: none yet
	timeout  time.Duration
	lastOp   jute.Op // meaningless before the first
	lastXid  int32   // negative before the first
	lastZXID int64
	lastAt   time.Time // of the last answer

	lastLatency, minLatency, avgLatency, maxLatency time.Duration
}

// A serverInfo is what four-letter words tell of all connections together, since the
// server began or the last srst.
type serverInfo struct {
	received, sent int64
	outstanding    int
	connections    int

	minLatency, avgLatency, maxLatency time.Duration
}

// A latencies is the shortest, longest and mean time that requests took.
type latencies struct {
	n                 int64
	last, least, most time.Duration
	sum               time.Duration
}

func (l *latencies) add(d time.Duration) {
	if l.n == 0 || d < l.least {
		l.least = d
	}
	l.n++
	l.last, l.most, l.sum = d, max(l.most, d), l.sum+d
}

func (l *latencies) mean() time.Duration {
	if l.n == 0 {
		return 0
	}
	return l.sum / time.Duration(l.n)
}

// connCounts are the numbers of one connection.
type connCounts struct {
	established time.Time

	mu             sync.Mutex // a leaf
	received, sent int64      // guarded by mu, as the rest
	session        coord.SessionID
	timeout        time.Duration
	lastOp         jute.Op
	lastXid        int32
	lastZXID       int64
	lastAt         time.Time
	latency        latencies
	watches        *coord.WatchSet // nil before the first registration
	server         *serverCounts
}

// serverCounts are the numbers of all connections together.
type serverCounts struct {
	received, sent, sentBytes, rejected atomic.Int64

	mu      sync.Mutex
	latency latencies // guarded by mu
}

func (c *serverCounts) reset() {
	c.received.Store(0)
	c.sent.Store(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency = latencies{}
}

func (c *connCounts) connected(id coord.SessionID, timeout time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.timeout, c.lastXid = id, timeout, -1
	c.received, c.sent = c.received+1, c.sent+1 // the handshake
}

// watching takes note of where the connection's watches are.
func (c *connCounts) watching(set *coord.WatchSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watches = set
}

// asked takes note of a four-letter word, told of its answer.
func (c *connCounts) asked() (told func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received++
	c.lastXid = -1
	c.server.received.Add(1)
	return func() { c.server.sent.Add(1) }
}

// took takes note of a request.
func (c *connCounts) took(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received++
	c.lastOp = r.op
	if r.xid >= 0 {
		c.lastXid = r.xid
	}
}

// wrote takes note of an answer or a notification.
func (c *connCounts) wrote(zxid int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	c.lastZXID = max(c.lastZXID, zxid)
}

// answered takes note of how long a request took.
func (c *connCounts) answered(r *request) {
	now := time.Now()
	took := now.Sub(r.at)
	c.mu.Lock()
	c.latency.add(took)
	c.lastAt = now
	c.mu.Unlock()
	if c.server != nil {
		c.server.mu.Lock()
		c.server.latency.add(took)
		c.server.mu.Unlock()
	}
}

// reset forgets what cons counts.
func (c *connCounts) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received, c.sent, c.latency = 0, 0, latencies{}
}

// info returns what is known of a connection.
func (c *conn) info() connInfo {
	n := &c.counts
	n.mu.Lock()
	defer n.mu.Unlock()
	return connInfo{
		remote: c.raw.RemoteAddr(), established: n.established, outstanding: c.backlog.len(), received: n.received, sent: n.sent,
		watches: n.watches, session: n.session, timeout: n.timeout, lastOp: n.lastOp, lastXid: n.lastXid, lastZXID: n.lastZXID, lastAt: n.lastAt,
		lastLatency: n.latency.last, minLatency: n.latency.least, avgLatency: n.latency.mean(), maxLatency: n.latency.most,
	}
}

// info returns what is known of all connections together.
func (s *Server) info() serverInfo {
	conns, _ := s.of(nil)
	i := serverInfo{received: s.counts.received.Load(), sent: s.counts.sent.Load(), connections: len(conns)}
	for _, c := range conns {
		i.outstanding += c.backlog.len()
	}
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	l := &s.counts.latency
	i.minLatency, i.avgLatency, i.maxLatency = l.least, l.mean(), l.most
	return i
}

// connections returns what is known of each connection.
func (s *Server) connections() []connInfo {
	conns, _ := s.of(nil)
	infos := make([]connInfo, len(conns))
	for i, c := range conns {
		infos[i] = c.info()
	}
	return infos
}

// resetStats forgets what info counts; resetConnections what connections counts.
func (s *Server) resetStats() { s.counts.reset() }

func (s *Server) resetConnections() {
	conns, _ := s.of(nil)
	for _, c := range conns {
		c.counts.reset()
	}
}
