package main

import (
	"context"
	"fmt"
	"time"
)

// members is the size of every ensemble. All members are in this process, with
// the disk below them and sockets in between.
const members = 3

const (
	lockPath       = "/lock"
	sessionTimeout = 60 * time.Second // etcd's default
	settleTimeout  = 60 * time.Second
	pollPause      = 10 * time.Millisecond
)

// The tick and the timeout of elections are the defaults of both systems, which
// are the same: a heartbeat every 100 ms, and elections after 1 s to 2 s of silence.
const (
	heartbeat       = 100 * time.Millisecond
	electionTimeout = time.Second // twice this at most
)

// A subject is an ensemble with a lock.
type subject interface {
	// contender opens a session at a member.
	contender(ctx context.Context, at int) (contender, error)
	// queued returns how many have asked for the lock and not released it.
	queued(ctx context.Context) (int, error)
	progress() progress
	close() error
}

// A contender is a session that wants the lock.
type contender interface {
	lock(ctx context.Context) error
	release(ctx context.Context) error
}

// A progress is how far the log of an ensemble is.
type progress struct {
	entries uint64 // of the log, applied by the most advanced member
	writes  uint64 // coord's zxid, etcd's revision
	leader  int    // the index of the member, or -1
}

// The subjects.
const (
	subjectCoord  = "coord"
	subjectEtcd   = "etcd"           // each call is one of gRPC, through a socket
	subjectInside = "etcd-inprocess" // each call is a function call into the member
)

var subjects = []string{subjectCoord, subjectEtcd, subjectInside}

func openSubject(ctx context.Context, name, dir string) (subject, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	switch name {
	case subjectCoord:
		return openCoord(ctx, dir)
	case subjectEtcd, subjectInside:
		return openEtcd(ctx, dir, name == subjectInside)
	}
	return nil, fmt.Errorf("subject %q is none of %q", name, subjects)
}
