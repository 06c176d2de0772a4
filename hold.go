package coord

import (
	"context"
	"time"

	"coord/internal/replica"
)

// A hold keeps a proposer from beginning batches, so that leadership can be handed
// over: the raft library does that in a quiet moment only. Nobody is refused
// meanwhile; what callers submit waits. A hold ends by itself, when it has lasted for
// its time or another leader is known.
type hold struct {
	until  time.Time        // it has no effect from then on
	leader replica.MemberID // whose successor is being made

	quiet chan struct{} // closed by the proposer's goroutine when nothing is under way
	over  chan struct{} // closed, under proposer.mu, when the hold has ended
}

// holdBack has the proposer begin nothing more, for at most so long, and waits until
// nothing of it is under way, or ctx ends. If somebody else holds it already, that
// hold counts, and release ends neither.
func (p *proposer) holdBack(ctx context.Context, most time.Duration) (release func()) {
	h := &hold{until: time.Now().Add(most), leader: p.g.currentRole().Leader, quiet: make(chan struct{}), over: make(chan struct{})}
	release = func() { p.endHold(h) }
	p.mu.Lock()
	if p.held != nil && time.Now().Before(p.held.until) {
		h, release = p.held, func() {}
	} else {
		p.endHoldLocked(p.held)
		p.held = h
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	select {
	case <-h.quiet:
	case <-h.over:
	case <-ctx.Done():
	case <-p.g.ctx.Done():
	}
	return release
}

// endHold has the proposer go on.
func (p *proposer) endHold(h *hold) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endHoldLocked(h)
}

func (p *proposer) endHoldLocked(h *hold) {
	if h != nil && p.held == h {
		p.held = nil
		close(h.over)
	}
}

// waitOut is called by the proposer's goroutine between two batches, and returns when
// nobody holds it. So however often it is held, a batch goes between two holds.
func (p *proposer) waitOut(ctx context.Context) {
	p.mu.Lock()
	h := p.held
	p.mu.Unlock()
	if h == nil {
		return
	}
	defer p.endHold(h)
	close(h.quiet)
	left := time.NewTimer(time.Until(h.until))
	defer left.Stop()
	select {
	case <-h.over:
	case <-left.C:
	case <-ctx.Done():
	}
}
