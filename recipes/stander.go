package recipes

import (
	"cmp"
	"context"
	"fmt"
	"path"

	"coord"
)

// A ticket is what somebody stands in line as.
type ticket struct {
	family *family
	rule   rule
	shared bool
	number int // of the recipe's own, in the name
	note   note
}

// A stander is a contender that stands in line.
type stander struct {
	*contender
	ticket
}

// op returns the operation that gives a stander its place.
func (t ticket) op(dir string, opts ...coord.CreateOption) coord.Op {
	opts = append([]coord.CreateOption{coord.EphemeralSequential}, opts...)
	return coord.CreateOp(join(dir, t.family.name(t.shared, t.number)), t.note.data(), opts...)
}

// standIn is the admission to a directory that has no data.
func (t ticket) standIn(dir string) admission {
	return func(v *coord.View) ([]coord.Op, error) {
		if err := checkDirectory(v, dir, t.family); err != nil {
			return nil, err
		}
		if t.family.lasting {
			return []coord.Op{t.op(dir, coord.WithParents())}, nil
		}
		return []coord.Op{t.op(dir, coord.WithContainers())}, nil
	}
}

// acquire stands in line, and waits until it is granted.
func (t ticket) acquire(ctx context.Context, s *coord.Session, dir string, admit admission) (*Held, error) {
	c, err := enter(ctx, s, dir, admit)
	if err != nil {
		return nil, err
	}
	return (&stander{c, t}).acquire(ctx)
}

// checkOwnNumber fails if a stander's number is not in the order of other libraries.
func (s *stander) checkOwnNumber() error {
	if e, ok := s.family.parse(s.dir, path.Base(s.path)); ok && e.seq < 0 && s.family.prefix != nil {
		return fmt.Errorf("%w: the number of %s, in the order of other libraries", coord.ErrOverflow, s.path)
	}
	return nil
}

// tryAcquire stands in line only if it looks as if it were granted at once, and does
// not wait.
func (t ticket) tryAcquire(ctx context.Context, s *coord.Session, dir string, admit admission) (*Held, error) {
	c, err := enter(ctx, s, dir, func(v *coord.View) ([]coord.Op, error) {
		ops, err := admit(v)
		if err != nil {
			return nil, err
		}
		l, err := lineOf(v, dir, t.family)
		if err != nil {
			return nil, err
		}
		l.all = append(l.all, entrant{shared: t.shared, number: t.number}) // who is to come
		if !t.rule(l, len(l.all)-1).granted {
			return nil, ErrTaken
		}
		return ops, nil
	})
	if err != nil {
		return nil, err
	}
	entered := &stander{c, t}
	verdict, err := entered.judge(ctx)
	if err != nil || !verdict.granted {
		_ = c.leave(ctx) // goes on in the background
		return nil, cmp.Or(err, ErrTaken)
	}
	return entered.hold(verdict), nil
}

// acquire waits until s is granted.
func (s *stander) acquire(ctx context.Context) (*Held, error) {
	verdict, err := s.await(ctx)
	if err != nil {
		_ = s.leave(ctx) // goes on in the background
		return nil, err
	}
	return s.hold(verdict), nil
}

func (s *stander) hold(v verdict) *Held {
	if v.stirs {
		go s.stir()
	}
	return newHeld(s.contender, s.family)
}

// await returns when s is granted. It needs no quorum: that those before it are gone
// is a fact as soon as any state shows it, because whoever comes later is behind it.
func (s *stander) await(ctx context.Context) (verdict, error) {
	for {
		verdict, err := s.judge(ctx)
		switch {
		case err != nil || verdict.granted:
			return verdict, err
		case verdict.passes:
			err = s.goBehind(ctx)
		default:
			err = s.news(ctx)
		}
		if err != nil {
			return verdict, err
		}
	}
}

// judge has the rule look at the line. It registers for what can change the verdict,
// and for the stander's own znode.
func (s *stander) judge(ctx context.Context) (verdict, error) {
	var says verdict
	if err := s.checkOwnNumber(); err != nil {
		return says, err
	}
	err := s.register(ctx, func(v *coord.View) ([]string, error) {
		l, err := lineOf(v, s.dir, s.family)
		if err != nil {
			return nil, err
		}
		says = s.rule(l, l.at(s.path))
		return says.waitFor, nil
	})
	return says, err
}

// goBehind gives up the stander's place for one at the end of the line. What was said
// of it there goes with it.
func (s *stander) goBehind(ctx context.Context) error {
	data, stat, err := s.s.Get(ctx, s.path, coord.AllowStale())
	if isGone(err) {
		return nil // the next look tells why
	}
	if err != nil {
		return err
	}
	e, _ := s.family.parse(s.dir, path.Base(s.path))
	results, err := s.s.Multi(ctx,
		coord.DeleteOp(s.path, coord.WithCzxid(s.czxid), coord.WithVersion(stat.Version)),
		coord.CreateOp(join(s.dir, s.family.nameBehind(e)), data, coord.EphemeralSequential))
	switch {
	case err == nil:
		s.made(results[1])
		return nil
	case overtaken(err):
		return nil // it is gone, or another one: the next look tells
	}
	undo(s.s, err, 1) // of the new place; who fails leaves the old one
	return err
}

// stir wakes who waits behind a stander that is granted, so that it looks again. It
// ends with the znode, or when somebody else has changed it.
func (s *stander) stir() {
	for wait := retryPause; ; wait = min(2*wait, maxLeavePause) {
		err := s.touch(s.s.Context())
		if err == nil || isGone(err) || !pause(s.s.Context(), wait) {
			return
		}
	}
}

// touch writes the data that are there.
func (s *stander) touch(ctx context.Context) error {
	data, stat, err := s.s.Get(ctx, s.path, coord.AllowStale())
	if err != nil {
		return err
	}
	_, err = s.s.SetData(ctx, s.path, data, coord.WithCzxid(s.czxid), coord.WithVersion(stat.Version))
	return err
}
