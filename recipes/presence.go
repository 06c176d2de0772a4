package recipes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"coord"
)

// run brings about what is wanted in one session after the other.
func (p *presence) run() {
	defer close(p.done)
	for s := range p.c.Sessions(p.ctx) {
		p.attend(s)
		p.tell(func() { p.session, p.err = nil, context.Cause(s.Context()) })
	}
	p.cancel(context.Cause(p.c.Context())) // unless something else has ended it
}

// attend keeps the znode in its place until s or p ends.
func (p *presence) attend(s *coord.Session) {
	l := &lookout{c: s}
	defer l.close()
	sure := false // that nothing newer is known anywhere; what s has written shows in any case
	again := retryPause
	var patience <-chan time.Time // runs while somebody else's znode is in the way
	for p.ctx.Err() == nil && s.Context().Err() == nil {
		var retry <-chan time.Time
		err := p.settle(s, l, sure)
		sure = errors.Is(err, errBehind)
		if errors.Is(err, errAgain) {
			continue
		}
		p.tell(func() { p.err = err })
		switch {
		case err == nil:
			again, patience = retryPause, nil
		case s.Context().Err() != nil:
			continue
		case errors.Is(err, errOccupied) && !p.ever:
			if patience == nil {
				patience = time.After(2 * s.Timeout())
			}
		case p.ends(err):
			p.cancel(err)
			continue
		default:
			retry, again = time.After(again), min(2*again, maxLeavePause)
		}
		select {
		case <-l.changed():
		case <-p.wake:
		case <-retry:
		case <-patience:
			p.cancel(err)
		case <-p.ctx.Done():
		case <-s.Context().Done():
		}
	}
	if p.session == s {
		p.withdraw(s)
	}
}

// ends reports whether an error ends p. What refuses the first incarnation does, unless
// it passes. Later ones are tried again, unless the path has gone to somebody else.
func (p *presence) ends(err error) bool {
	return errors.Is(err, ErrTaken) || !p.ever && !passes(err)
}

// errOccupied says that a znode of another session is at the path.
var errOccupied = fmt.Errorf("%w by another session", ErrTaken)

// settle looks at the tree, registers for what may change there, and does what is
// left to do. It fails with errAgain if it must look again, and
// with errBehind if it must be sure then.
func (p *presence) settle(s *coord.Session, l *lookout, sure bool) error {
	how := coord.AllowStale()
	if sure {
		how = coord.Linearizable()
	}
	var there coord.Znode
	_, err := l.next(p.ctx, how, func(v *coord.View) (_ []coord.Registration, err error) {
		there, err = p.look(v)
		if err != nil || there.Path == "" {
			return nil, err
		}
		return []coord.Registration{{Path: there.Path, Type: coord.DataWatcher}}, nil
	})
	if err != nil {
		return err
	}
	owner := there.Stat.EphemeralOwner
	switch {
	case there.Path == "" || slices.Contains(p.past, owner):
		return p.appear(s, there)
	case there.Stat.Czxid == p.now.Generation && owner == s.ID():
		return p.rewrite(s)
	case there.Stat.Czxid == p.now.Generation:
		return p.appear(s, there)
	case owner != 0 && owner != s.ID() && p.o.takeOver && !p.ever:
		return p.appear(s, there)
	case !sure:
		return errBehind
	case owner == 0 || owner == s.ID():
		return fmt.Errorf("%w: %s is a znode that was not left by an earlier session", ErrTaken, there.Path)
	}
	return fmt.Errorf("%w: %s is of the session %v", errOccupied, there.Path, owner)
}

// look returns the znode that is where p's own is to be, or was, if there is one.
func (p *presence) look(v *coord.View) (coord.Znode, error) {
	path := p.path
	if p.o.sequential {
		path = p.now.Path
	}
	if !p.ever {
		parent := parentOf(p.path)
		if err := checkDirectory(v, parent, &family{recipe: "registration"}); err != nil && !errors.Is(err, coord.ErrNoAuth) {
			return coord.Znode{}, err // one may create where one may not list
		}
	}
	if path == "" {
		return coord.Znode{}, nil
	}
	_, stat, err := v.Get(path)
	if errors.Is(err, coord.ErrNoNode) || p.o.sequential && err == nil && stat.Czxid != p.now.Generation {
		return coord.Znode{}, nil
	}
	return coord.Znode{Path: path, Stat: stat}, err
}

// appear makes an incarnation, in the place of what is there.
func (p *presence) appear(s *coord.Session, there coord.Znode) error {
	p.tell(func() { p.session = nil })
	data, n := p.wants()
	mode := coord.Ephemeral
	if p.o.sequential {
		mode = coord.EphemeralSequential
	}
	opts := []coord.CreateOption{mode, coord.WithContainers()}
	if p.o.lasting {
		opts[1] = coord.WithParents()
	}
	if p.o.acl != nil {
		opts = append(opts, coord.WithACL(p.o.acl...))
	}
	ops := []coord.Op{coord.CreateOp(p.path, data, opts...)}
	if there.Path != "" {
		ops = slices.Insert(ops, 0, coord.DeleteOp(there.Path, coord.WithCzxid(there.Stat.Czxid)))
	}
	results, err := p.write(s, n, ops...)
	if err != nil {
		if s.Context().Err() != nil {
			p.past = append(p.past, s.ID()) // it may have been made
		}
		return err
	}
	made := results[len(results)-1]
	p.ever, p.past, p.good = true, nil, data
	p.tell(func() {
		p.now = Incarnation{Path: made.Path, Generation: made.Stat.Czxid, Session: s.ID()}
		p.session, p.held, p.err = s, n, nil
	})
	return errAgain // to register for the znode
}

// rewrite has the znode hold what is wanted.
func (p *presence) rewrite(s *coord.Session) error {
	data, n := p.wants()
	if p.held == n {
		return nil
	}
	_, err := p.write(s, n, coord.SetDataOp(p.now.Path, data, coord.WithCzxid(p.now.Generation)))
	if err != nil {
		return err
	}
	p.good = data
	p.tell(func() { p.held = n })
	return errAgain // something else may be wanted by now
}

func (p *presence) wants() (data []byte, n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want, p.wanted
}

// write makes a write whose outcome is known in the end, or the session has ended. One
// that is refused, with the data numbered n, puts the data back that was held before.
func (p *presence) write(s *coord.Session, n uint64, ops ...coord.Op) ([]coord.OpResult, error) {
	results, err := s.Multi(s.Context(), ops...)
	if unknown, ok := errors.AsType[*coord.OutcomeError](err); ok {
		results, err = unknown.Results(s.Context())
	}
	switch {
	case err == nil || s.Context().Err() != nil || passes(err):
		return results, err
	case errors.Is(err, coord.ErrNoNode), errors.Is(err, coord.ErrNodeExists), errors.Is(err, coord.ErrBadVersion):
		return nil, fmt.Errorf("%w: %w", errBehind, err)
	}
	if !p.ever || p.held == n {
		return nil, err
	}
	p.tell(func() {
		p.refused, p.refusal = n, err
		if p.wanted == n {
			p.wanted++
			p.want, p.held = p.good, p.wanted
		}
	})
	return nil, errBehind
}

// withdraw deletes the znode, whose absence is as good, until it succeeds or s ends.
func (p *presence) withdraw(s *coord.Session) {
	remove := func() bool {
		err := s.Delete(s.Context(), p.now.Path, coord.WithCzxid(p.now.Generation))
		return err == nil || errors.Is(err, coord.ErrNoNode) || errors.Is(err, coord.ErrBadVersion)
	}
	for wait := retryPause; !remove(); wait = min(2*wait, maxLeavePause) {
		if !pause(s.Context(), wait) {
			return
		}
	}
}
