package coord

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// serving returns the group that serves the znode at path as far as this member knows,
// once it runs here and this process may use it: the one place that routes. While the
// znode is on its way to a group it can be read where it was.
func (c *Coordinator) serving(ctx context.Context, path string) (*group, error) {
	if err := c.root.awaitJoined(ctx); err != nil {
		return nil, err // before, the table may be an old one
	}
	for {
		server, _ := c.root.state().serverOf(path)
		if server == rootGroup {
			return c.root, nil
		}
		g, err := c.running(ctx, server)
		if !errors.Is(err, errUnmounted) {
			return g, err
		}
	}
}

// running returns the group of a mount once it runs here and this process may use it.
// It fails with errUnmounted if the table does not have it, or not any more.
func (c *Coordinator) running(ctx context.Context, id GroupID) (*group, error) {
	for {
		g, changed := c.mounted.look(id)
		if g != nil {
			return g, g.awaitJoined(ctx)
		}
		if !c.root.state().mounts.has(id) {
			return nil, errUnmounted
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		}
	}
}

// serverOfRequest returns the group that executes a request, as far as this member knows, and
// whether what the request concerns is on its way to another group.
func (s *state) serverOfRequest(r *request) (server GroupID, moving bool, err error) {
	server = rootGroup
	if s.mounts.none() {
		return server, false, nil
	}
	for i := range r.ops {
		at, on := s.serverOf(r.ops[i].place())
		if i > 0 && at != server {
			return 0, false, s.crossed(&r.ops[0], &r.ops[i])
		}
		server, moving = at, moving || on || s.deletesMoving(&r.ops[i])
	}
	return server, moving, nil
}

// deletesMoving reports whether o deletes a mount point that is on its way.
func (s *state) deletesMoving(o *op) bool {
	return o.kind == opDelete && s.misplaced(o) == codeSealed
}

// crossed names two operations that no group can execute together.
func (s *state) crossed(a, b *op) error {
	name := func(o *op) string {
		if m := s.mounts.covering(o.place()); m != nil {
			return fmt.Sprintf("%v %s is for the mount %s", o.kind, quotePath(o.path), m.path)
		}
		return fmt.Sprintf("%v %s is for none", o.kind, quotePath(o.path))
	}
	return &OpError{Op: "multi", Err: ErrCrossMount, Detail: name(a) + ", " + name(b)}
}

// executing returns the group that is to execute a request of s, in which the session
// lives by then. It waits while what the request concerns is on its way, and an ephemeral
// waits for contact with the group of a mount, see pledged.
func (s *Session) executing(ctx context.Context, r *request) (*group, error) {
	if len(r.ops) == 0 || s.g.state().mounts.none() {
		return s.g, nil
	}
	for {
		changed := s.c.mounted.changes()
		server, moving, err := s.g.state().serverOfRequest(r)
		switch {
		case err != nil:
			return nil, err
		case moving:
			err = awaitChange(ctx, s.g, changed)
		case server == rootGroup:
			return s.g, nil
		default:
			var g *group
			if g, err = s.c.running(ctx, server); err == nil {
				err = s.enter(ctx, g)
			}
			if err == nil && ephemeralsIn(r) > 0 {
				err = g.awaitContact(ctx)
			}
			if err == nil {
				return g, nil
			}
			if misplaced(err) {
				err = s.c.awaitOtherTable(ctx, changed)
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// misplaced reports whether an error says no more than that another group is to be asked,
// now or in a moment.
func misplaced(err error) bool {
	return errors.Is(err, errUnmounted) || errors.Is(err, ErrWrongGroup) || errors.Is(err, codeSealed)
}

// awaitOtherTable waits until this member may know better which group serves what, after
// a group has said that it is not the one. The barrier has it know every step that was
// taken until now; one that is due is waited for.
func (c *Coordinator) awaitOtherTable(ctx context.Context, changed <-chan struct{}) error {
	if err := c.root.barrier(ctx); err != nil {
		return err
	}
	again := time.NewTimer(c.root.timing.touchEvery)
	defer again.Stop()
	select {
	case <-changed:
	case <-again.C: // the group's own state may be behind
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	return nil
}

// awaitChange waits until the table of mounts changes, or the groups that run here.
func awaitChange(ctx context.Context, root *group, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-root.ctx.Done():
		return context.Cause(root.ctx)
	}
}

// wasMisplaced reports whether a request was refused only because another group is to be
// asked. Nothing came of it then.
func (r *result) wasMisplaced() bool {
	code := r.firstError()
	return code == ErrWrongGroup || code == codeSealed
}

// execute proposes a request of this session to the group whose it is, for ctx and for
// timeout, and waits for its result.
func (s *Session) execute(ctx context.Context, r request, timeout time.Duration) (*result, error) { //nolint:gocritic // it is kept
	if len(r.ops) == 0 || s.g.state().mounts.none() {
		res, err := s.g.submit(ctx, s.ctx, r, timeout)
		if err != nil || !res.wasMisplaced() {
			return res, err
		}
	}
	waiting, cancel := s.waiting(ctx)
	defer cancel()
	for {
		changed := s.c.mounted.changes()
		g, err := s.executing(waiting, &r)
		if err != nil {
			return nil, err
		}
		res, err := g.submit(waiting, s.ctx, r, timeout)
		if err != nil || !res.wasMisplaced() {
			return res, err
		}
		if err := s.c.awaitOtherTable(waiting, changed); err != nil {
			return nil, err
		}
	}
}

// readFrom returns the state of the group that serves path, from which a read may be
// answered.
func (c *Coordinator) readFrom(ctx context.Context, path string, o readOptions) (*state, error) {
	if c.root.state().mounts.none() && !o.linearizable {
		return c.root.readable(ctx, o)
	}
	for {
		if o.allowStale {
			return c.serverHere(path).readable(ctx, o)
		}
		g, err := c.serving(ctx, path)
		if err != nil {
			return nil, err
		}
		st, err := g.readable(ctx, o)
		switch {
		case errors.Is(err, errUnmounted):
			continue
		case err != nil:
			return nil, err
		case !o.linearizable:
			return st, nil
		}
		// Another member may have known of a mount, or of an unmount, before this one.
		// A group that serves and is not sealed behind the barrier was asked rightly.
		if server, _ := c.root.state().serverOf(path); server == g.id && st.serves.sealed == 0 {
			return st, nil
		}
		if err := c.root.barrier(ctx); err != nil {
			return nil, err
		}
	}
}

// serverHere returns the group that serves path as far as this member knows and runs it.
func (c *Coordinator) serverHere(path string) *group {
	server, _ := c.root.state().serverOf(path)
	if g := c.mounted.get(server); g != nil {
		return g
	}
	return c.root
}

// reach waits until this member is at least at p, in all groups that it names, at most for
// a barrier: if it is behind even then, nobody has been there. What was unmounted since is
// the root group's.
func (c *Coordinator) reach(ctx context.Context, p Position) (places, error) {
	at, err := p.placesIn(c.root.state())
	if errors.Is(err, ErrInvalidPosition) {
		// A mount may be news here, and so may everything be: a member that has just
		// joined does not know its ensemble yet.
		if err := c.root.barrier(ctx); err != nil {
			return nil, err
		}
		at, err = p.placesIn(c.root.state())
	}
	for _, part := range at {
		g := c.root
		if part.group != g.id && err == nil {
			g, err = c.running(ctx, part.group)
		}
		if errors.Is(err, errUnmounted) {
			err = nil
			continue
		}
		if err == nil {
			err = g.reach(ctx, part)
		}
	}
	return at, err
}

// awaitMounts waits until the groups of the mounts that a watch is told of run here.
func (c *Coordinator) awaitMounts(ctx context.Context, path string, mode WatchMode) error {
	for m := range c.root.state().mounts.all() {
		if m.phase != mountServed || !concerns(path, mode, m.path) {
			continue
		}
		if _, err := c.running(ctx, m.group); err != nil && !errors.Is(err, errUnmounted) {
			return err
		}
	}
	return nil
}
