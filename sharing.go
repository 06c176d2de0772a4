package coord

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A sharing is what the groups of one member know of each other. They write to one disk
// and run on the same processors, so what one of them has to write, the others wait for.
// Where there are groups of mounts, therefore,
//
//   - batches are smaller, and
//   - bulk gives way: behind a batch with a request of bulkBytes or more, a proposer rests
//     for restFactor times as long as the batch took, if another group has had a smaller
//     request lately, from whatever member.
//
// Nothing changes places for that: what comes behind bulk in its own group rests with it.
// A group that has bulk while all others are idle, or have bulk as well, has all there is.
// Only size tells the two apart, and not how much a group writes: groups of many callers
// with little each slow each other down alike, and resting would make none of them faster.
type sharing struct {
	mounts atomic.Int32 // how many groups of mounts run on this member

	mu    sync.Mutex
	last  lightWrite // guarded by mu; the latest
	other lightWrite // guarded by mu; the latest of any group but that of last
}

const (
	// maxSharedBytes bounds a batch where there are groups of mounts.
	maxSharedBytes = 1 << 17

	bulkBytes   = 16 << 10
	restFactor  = 7 // see docs/BENCHMARKS.md, Isolation
	lightWindow = time.Second
)

// A lightWrite is a batch with a request that is no bulk.
type lightWrite struct {
	group GroupID
	at    time.Time
}

// isBulk reports whether a request of so many encoded bytes is bulk.
func isBulk(bytes int64) bool { return bytes >= bulkBytes }

// batchBytes returns how many bytes a batch may have.
func (s *sharing) batchBytes() int64 {
	if s.mounts.Load() > 0 {
		return maxSharedBytes
	}
	return maxBatchBytes
}

// applied takes note of a batch of any member.
func (s *sharing) applied(g GroupID, b *batchCommand, now time.Time) {
	if s.mounts.Load() == 0 || !slices.ContainsFunc(b.requests, func(r request) bool { return !isBulk(requestBytes(&r)) }) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g != s.last.group {
		s.other = s.last
	}
	s.last = lightWrite{g, now}
}

// disturbs reports whether bulk of a group is in the way of another group.
func (s *sharing) disturbs(g GroupID, now time.Time) bool {
	if s.mounts.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	light := s.last
	if light.group == g {
		light = s.other
	}
	return now.Sub(light.at) < lightWindow // the zero time is long ago
}

// rest is called when a batch has been answered that was begun and ended then. It lasts
// for at most half of what there is between two signs of life.
func (p *proposer) rest(ctx context.Context, batch []*pending, begin, end time.Time) {
	bulk := slices.ContainsFunc(batch, func(q *pending) bool { return isBulk(q.size) })
	if bulk && p.g.shared.disturbs(p.g.id, end) {
		pause(ctx, min(restFactor*end.Sub(begin), p.g.timing.touchEvery/2))
	}
}
