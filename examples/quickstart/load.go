package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"coord"
)

// A load is the writing of a source by several members, and the record of what
// was acknowledged.
type load struct {
	deadline time.Duration
	queue    chan job      // has room for all jobs, so that giving one back never waits
	half     chan struct{} // closed when half of the jobs are done
	begun    time.Time

	mu       sync.Mutex
	total    int
	acked    map[string]string      // guarded by mu; znode path to checksum, which is "" for a directory
	times    []time.Time            // guarded by mu; of the acknowledgements
	underWay map[coord.MemberID]int // guarded by mu; jobs handed out and not answered
	retried  int                    // guarded by mu
	found    int                    // guarded by mu; retried and found to be written
}

// A job is one znode to write.
type job struct {
	entry
	again bool // an earlier attempt may have written it
}

func newLoad(s *source, deadline time.Duration) *load {
	l := &load{
		deadline: deadline, total: len(s.entries), queue: make(chan job, len(s.entries)), half: make(chan struct{}),
		acked: map[string]string{}, underWay: map[coord.MemberID]int{},
	}
	for _, e := range s.entries {
		l.queue <- job{entry: e}
	}
	return l
}

// run writes everything, with some writers on each member. Jobs that were with a
// member when it was killed go to the others.
func (l *load) run(ctx context.Context, members []*process, writers int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(l.deadline, func() { cancel(fmt.Errorf("no acknowledgement for %v", l.deadline)) })
	defer silent.Stop()
	l.begun = time.Now()
	// In a small tree not everything is under way at the same time.
	writers = min(writers, max(1, l.total/(4*len(members))))
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range members {
		for range writers {
			g.Go(func() error { return l.work(ctx, p, silent) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if n := len(l.acked); n != l.total { // nobody works any more
		return fmt.Errorf("no member is left, with %d of %d acknowledged", n, l.total)
	}
	return nil
}

// work is one writer on one member.
func (l *load) work(ctx context.Context, p *process, silent *time.Timer) error {
	for {
		var j job
		var more bool
		select {
		case j, more = <-l.queue:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !more {
			return nil
		}
		sum, reply, err := l.put(ctx, p, j)
		_, exited := errors.AsType[*exitError](err)
		switch {
		case exited && p.killed.Load():
			l.giveBack(j)
			return nil
		case err != nil:
			return err
		case reply.Unknown:
			l.giveBack(j)
		default:
			silent.Reset(l.deadline)
			l.acknowledge(j, sum, reply.Found)
		}
	}
}

// put hands one job to a member and returns the checksum of the data.
func (l *load) put(ctx context.Context, p *process, j job) (string, PutReply, error) {
	args, sum := PutArgs{Path: j.path, Again: j.again}, ""
	if !j.dir {
		var err error
		if args.Data, err = os.ReadFile(j.file); err != nil {
			return "", PutReply{}, err
		}
		sum = checksum(args.Data)
	}
	l.mu.Lock()
	l.underWay[p.id]++
	l.mu.Unlock()
	var reply PutReply
	err := p.call(ctx, "Put", args, &reply)
	l.mu.Lock()
	l.underWay[p.id]--
	l.mu.Unlock()
	return sum, reply, err
}

func (l *load) giveBack(j job) {
	j.again = true
	l.mu.Lock()
	l.retried++
	l.mu.Unlock()
	l.queue <- j
}

func (l *load) acknowledge(j job, sum string, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[j.path] = sum
	l.times = append(l.times, time.Now())
	if found && j.again {
		l.found++
	}
	if len(l.acked) == (l.total+1)/2 {
		close(l.half)
	}
	if len(l.acked) == l.total {
		close(l.queue)
	}
}

// progress returns how many jobs are done and how many are with a member.
func (l *load) progress(id coord.MemberID) (done, underWay int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked), l.underWay[id]
}

// longestGap returns the longest time between two consecutive times of which the
// second is after since.
func longestGap(times []time.Time, since time.Time) time.Duration {
	var longest time.Duration
	for i := 1; i < len(times); i++ {
		if times[i].After(since) {
			longest = max(longest, times[i].Sub(times[i-1]))
		}
	}
	return longest
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
