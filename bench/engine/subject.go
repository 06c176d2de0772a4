package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"
)

// Settings say what a subject is made of.
type settings struct {
	Subject string // coord or bare
	Hosts   int
	Dir     string
	Znodes  int
	Payload int
	Timeout time.Duration // of every call
}

// A subject is an ensemble, all of its members in this process, that loads are
// put on.
type subject interface {
	// leader returns the index of the member that leads.
	leader() (int, error)
	// call returns what the callers of an operation do at a member.
	call(op string, at int) (call, error)
	close() error
}

// settleTimeout is how long an ensemble may take to elect a leader.
const settleTimeout = time.Minute

func openSubject(ctx context.Context, s settings) (subject, error) {
	switch s.Subject {
	case "coord":
		return openCoord(ctx, s)
	case "bare":
		return openBare(ctx, s)
	}
	return nil, fmt.Errorf("subject %q is neither coord nor bare", s.Subject)
}

// run puts a load on a subject.
func run(s subject, l load) (figures, error) {
	leader, err := s.leader()
	if err != nil {
		return figures{}, err
	}
	at := leader
	if l.At == "follower" {
		at++ // modulo the number of members, see call
	}
	do, err := s.call(l.Op, at)
	if err != nil {
		return figures{}, err
	}
	f := measure(l.Callers, l.Duration, do)
	after, err := s.leader()
	f.LeaderChange = err != nil || after != leader
	return f, nil
}

// awaitLeader asks until there is a leader.
func awaitLeader(ask func() (int, bool)) (int, error) {
	for until := time.Now().Add(settleTimeout); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if i, ok := ask(); ok {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no leader within %v", settleTimeout)
}

func memberDir(s settings, i int) string { return filepath.Join(s.Dir, s.Subject, strconv.Itoa(i+1)) }

// payload returns bytes that do not compress.
func payload(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}

// spread returns a number below n that looks drawn at random.
func spread(caller, turn, n int) int {
	x := (uint64(caller)<<40 + uint64(turn) + 1) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return int((x >> 32) % uint64(n))
}
