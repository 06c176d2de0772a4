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

// Listen has addr listen for calls alone, until stop is called: its member's raft talks
// over another network.
func (n *Net) Listen(addr string) (stop func() error, err error) {
	e := &endpoint{net: n, addr: addr, closed: make(chan struct{})}
	return e.Close, n.listen(e)
}

// Call has the member at to answer a call of member caller, which is at from.
// A member that does not listen, or serves no calls, is an error at once; if
// the link between them is cut in either direction, Call returns when ctx ends.
// Request and answer have the delay of a message each.
func (n *Net) Call(ctx context.Context, from string, caller replica.MemberID, to, method string, body []byte) ([]byte, error) {
	serve, err := reach(ctx, n, n.serves, from, to, method)
	if err != nil {
		return nil, err
	}
	return serve(ctx, caller, method, body)
}

// A Stranger is what a process that is no member says about itself.
type Stranger struct{ Ensemble, Directory, Addr string }

// A Welcome answers the calls of strangers.
type Welcome func(ctx context.Context, from Stranger, method string, body []byte) ([]byte, error)

// Welcome has f answer calls of strangers at addr while it listens. Nil ends that.
func (n *Net) Welcome(addr string, f Welcome) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f == nil {
		delete(n.welcomes, addr)
		return
	}
	n.welcomes[addr] = f
}

// Introduce has the member at to answer a call of a process that is no member. It is
// as Call for the rest.
func (n *Net) Introduce(ctx context.Context, from Stranger, to, method string, body []byte) ([]byte, error) {
	welcome, err := reach(ctx, n, n.welcomes, from.Addr, to, method)
	if err != nil {
		return nil, err
	}
	return welcome(ctx, from, method, body)
}

// reach waits until a call has arrived, and as long as its answer will be under way,
// and returns who answers it.
func reach[F Serve | Welcome](ctx context.Context, n *Net, answerers map[string]F, from, to, method string) (F, error) {
	n.mu.Lock()
	answer, answers := answerers[to]
	listens := n.endpoints[to] != nil
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
	case !answers:
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
	return answer, nil
}
