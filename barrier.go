package coord

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// A sharedBarrier lets all callers that arrive before a ReadIndex is sent share
// its answer. A caller that arrives later waits for the next one: the one under
// way may have been confirmed before the caller's earlier write was.
//
// One is under way at a time. A ReadIndex that is lost is never answered and
// never repeated by the raft library, and a follower's can be lost in a steady
// state; so an attempt is short and followed by another.
type sharedBarrier struct {
	start func(func()) bool // starts a goroutine, unless the group is being closed

	mu      sync.Mutex
	running bool          // guarded by mu
	next    *barrierRound // guarded by mu; gathers callers for the next round
}

type barrierRound struct {
	callers int
	done    chan struct{}
	err     error // set before done is closed
}

// wait returns nil once a ReadIndex that was sent after the call is answered.
// It ends with ctx, or with life, which is that of the group. A caller whose ctx
// is over when it comes is told so, however soon an answer would be there.
func (b *sharedBarrier) wait(ctx, life context.Context, readIndex func(context.Context) error, attempt time.Duration) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	if b.next == nil {
		b.next = &barrierRound{done: make(chan struct{})}
	}
	round := b.next
	round.callers++
	lead := !b.running
	if lead {
		b.running = true
	}
	b.mu.Unlock()
	if lead {
		// The rounds outlive this caller: others may have joined them.
		b.start(func() { b.run(life, readIndex, attempt) })
	}
	select {
	case <-round.done:
		return round.err
	case <-life.Done():
		return context.Cause(life)
	case <-ctx.Done():
		b.mu.Lock()
		round.callers--
		b.mu.Unlock()
		return context.Cause(ctx)
	}
}

// run serves rounds until nobody waits for the next one.
func (b *sharedBarrier) run(life context.Context, readIndex func(context.Context) error, attempt time.Duration) {
	for {
		b.mu.Lock()
		round := b.next
		b.next = nil
		if round == nil {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		round.err = b.serve(life, round, readIndex, attempt)
		close(round.done)
		runtime.Gosched() // those who were just answered may ask again, together
	}
}

// serve repeats the ReadIndex until it is answered, or until nobody waits.
func (b *sharedBarrier) serve(life context.Context, round *barrierRound, readIndex func(context.Context) error, attempt time.Duration) error {
	for {
		ctx, cancel := context.WithTimeout(life, attempt)
		err := readIndex(ctx)
		if err == nil {
			cancel()
			return nil
		}
		if life.Err() != nil {
			cancel()
			return context.Cause(life)
		}
		b.mu.Lock()
		abandoned := round.callers == 0
		b.mu.Unlock()
		if abandoned {
			cancel()
			return err
		}
		if ctx.Err() == nil {
			// Refused at once: no leader yet. Do not ask again in a tight loop.
			pause(life, attempt/16)
		}
		cancel()
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
