package peernet

import "time"

// Limits of time and number. They are variables of a Net, so that tests can
// be quick; nothing else changes them.
type limits struct {
	dial      time.Duration // to reach a peer, before the handshake
	handshake time.Duration // for TLS and both openings
	idle      time.Duration // between two frames of a raft or snapshot connection
	progress  time.Duration // for the next part of a frame to arrive, or to leave
	verdict   time.Duration // for the answer to the last chunk of a snapshot
	call      time.Duration // for a call whose caller sets no deadline, and for serving any
	farewell  time.Duration // for a refused peer to read why
	logEvery  time.Duration // between two lines about the same link

	pending        int // handshakes under way that peers began
	pendingPerIP   int // of them from one IP address
	raftConns      int // open from one peer
	snapshotConns  int // open from one peer
	callConns      int // open from one peer
	strangers      int // connections of those that are no members
	strangersPerIP int // of them from one IP address
}

var defaultLimits = limits{
	dial:      5 * time.Second,
	handshake: 5 * time.Second,
	// The raft library closes what it has not used for a minute.
	idle:     2 * time.Minute,
	progress: 10 * time.Second,
	verdict:  time.Minute,
	call:     time.Minute,
	farewell: time.Second,
	logEvery: 10 * time.Second,

	pending:      128,
	pendingPerIP: 32,
	// Twice what a member opens at a time: connections of a peer that lost its
	// power look alive until the keep-alive fails.
	raftConns:     8,
	snapshotConns: 128,
	callConns:     32,
	// Each is one call that changes the ensemble, and few join at a time.
	strangers:      32,
	strangersPerIP: 8,
}

// Buffers of a connection.
const (
	// readBufferBytes is what is read at a time. Most frames fit and are
	// decoded in place.
	readBufferBytes = 32 << 10

	// stepBytes is how much of a large frame is sent or received under one
	// deadline: limits.progress for it lets links of 25 kB/s live.
	stepBytes = 256 << 10

	// keptBytes is the size up to which a connection keeps a buffer for the
	// next frame.
	keptBytes = 4 << 20
)
