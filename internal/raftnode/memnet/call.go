package memnet

import (
	"context"
	"fmt"
	"time"

	"coord/internal/replica"
)

// A Serve answers the calls of members.
type Serve func(ctx context.Context, from replica.MemberID, method string, body []byte) ([]byte, error)

// Serve has f answer calls of the member at addr while it listens. Nil ends
// that; a call under way is not waited for.
func (n *Net) Serve(addr string, f Serve) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f == nil {
		delete(n.serves, addr)
		return
	}
	n.serves[addr] = f
}

// Call has the member at to answer a call of member caller, which is at from.
// A member that does not listen, or serves no calls, is an error at once; if
// the link between them is cut in either direction, Call returns when ctx ends.
// Request and answer have the delay of a message each.
func (n *Net) Call(ctx context.Context, from string, caller replica.MemberID, to, method string, body []byte) ([]byte, error) {
	n.mu.Lock()
	serve, listens := n.serves[to], n.endpoints[to] != nil
	there, back := link{from, to}, link{to, from}
	cut := n.cutLocked(there) || n.cutLocked(back)
	delay := n.delayLocked(there) + n.delayLocked(back)
	n.mu.Unlock()
	lost := func() error {
		<-ctx.Done()
		return fmt.Errorf("memnet: call %q of %s: %w", method, to, context.Cause(ctx))
	}
	switch {
	case cut:
		return nil, lost()
	case !listens:
		return nil, fmt.Errorf("memnet: call %q of %s: nobody is there", method, to)
	case serve == nil:
		return nil, fmt.Errorf("memnet: call %q of %s: it answers no calls", method, to)
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, lost()
		}
	}
	return serve(ctx, caller, method, body)
}
