package main

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"

	"coord/bench/bare"
)

// A bareEnsemble is the raft library alone with a batcher for each group, which is the
// least that a program would build on it: what the groups themselves cost.
type bareEnsemble struct {
	hosts  []*dragonboat.NodeHost
	groups []*batcher
}

func openBare(ctx context.Context, dir string, groups int) (*bareEnsemble, error) {
	hosts, err := bare.Open(3, groups, func(i int) string { return filepath.Join(dir, "bare"+strconv.Itoa(i+1)) })
	e := &bareEnsemble{hosts: hosts}
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	for g := range groups {
		// As in coord, where the groups' leaders are shared out over the members.
		if err := e.lead(ctx, uint64(g+1), g%len(hosts)); err != nil {
			return nil, errors.Join(err, e.close())
		}
		b := &batcher{host: hosts[0], group: uint64(g + 1), wake: make(chan struct{}, 1), stop: make(chan struct{})}
		b.ended.Go(b.run)
		e.groups = append(e.groups, b)
	}
	return e, nil
}

// lead waits until a host leads a group.
func (e *bareEnsemble) lead(ctx context.Context, group uint64, host int) error {
	for {
		at, known := bare.Leader(e.hosts, group)
		switch {
		case known && at == host:
			return nil
		case known:
			_ = e.hosts[at].RequestLeaderTransfer(group, uint64(host+1)) // it may be busy
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (e *bareEnsemble) close() error {
	for _, b := range e.groups {
		close(b.stop)
		b.ended.Wait()
	}
	for _, nh := range e.hosts {
		nh.Close()
	}
	return nil
}

// A batcher has one batch of a group under way; what callers write meanwhile is the next.
type batcher struct {
	host  *dragonboat.NodeHost
	group uint64
	wake  chan struct{} // holds 1
	stop  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex
	queue []chan error // guarded by mu; one for each caller
}

// entryBytes is what a write of coord's takes in a batch, about.
const entryBytes = 96

// write returns when a batch with the caller's write is applied.
func (b *batcher) write() error {
	done := make(chan error, 1)
	b.mu.Lock()
	b.queue = append(b.queue, done)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return <-done
}

func (b *batcher) run() {
	session := b.host.GetNoOPSession(b.group)
	for {
		select {
		case <-b.wake:
		case <-b.stop:
			return
		}
		b.gather()
		b.mu.Lock()
		callers := b.queue
		b.queue = nil
		b.mu.Unlock()
		if len(callers) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
		_, err := b.host.SyncPropose(ctx, session, make([]byte, entryBytes*len(callers)))
		cancel()
		for _, done := range callers {
			done <- err
		}
	}
}

// gather does what coord's proposer does before it takes a batch.
func (b *batcher) gather() {
	for before := 0; ; {
		b.mu.Lock()
		n := len(b.queue)
		b.mu.Unlock()
		if n == before {
			return
		}
		before = n
		runtime.Gosched()
	}
}
