package recipes

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	"coord"
)

// Errors of recipes. Those of coord come as they are.
var (
	// ErrLost ends a Held, or a wait, whose znode somebody else has deleted, or has
	// forbidden its session to read.
	ErrLost = errors.New("recipes: deleted by somebody else")
	// ErrReleased ends a Held that was released.
	ErrReleased = errors.New("recipes: released")
	// ErrTaken is returned by the Try functions when somebody else is first, and by
	// Register when somebody else's znode is at its path.
	ErrTaken = errors.New("recipes: taken")
	// ErrOtherRecipe is returned when a directory has the znodes of another recipe.
	ErrOtherRecipe = errors.New("recipes: the path is used by another recipe")
)

// The time between attempts to delete a contender's znode, and to enter again, starts
// with retryPause. It doubles up to maxLeavePause: a deletion that is refused, because
// somebody has changed an ACL, is a write each time.
const (
	retryPause    = 100 * time.Millisecond
	maxLeavePause = 10 * time.Second
)

// A contender is one ephemeral znode in the directory of a recipe.
type contender struct {
	s     *coord.Session
	dir   string
	path  string
	czxid coord.ZXID
	set   *coord.WatchSet
	waits []string // other paths that set is registered for, as far as they are there
}

// An admission returns the operations that put contenders into directories as a view
// shows them. The last ones create their znodes; what comes before them fails if a
// directory is another one by then.
type admission func(v *coord.View) ([]coord.Op, error)

// enter puts a contender into a directory. Nobody is refused by a member that may be
// behind, but with ErrTaken. Whatever becomes of ctx, nothing is left behind when it
// fails, or not for longer than the session.
func enter(ctx context.Context, s *coord.Session, dir string, admit admission) (*contender, error) {
	all, err := enterAll(ctx, s, []string{dir}, admit)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// enterAll puts a contender into each directory, in one write.
func enterAll(ctx context.Context, s *coord.Session, dirs []string, admit admission) ([]*contender, error) {
	if s == nil {
		return nil, coord.ErrSessionExpired
	}
	var how []coord.ReadOption
	for {
		v, err := s.View(ctx, how...)
		if err != nil {
			return nil, err
		}
		ops, err := admit(v)
		switch {
		case err == nil:
			all, err := tryEnter(ctx, s, dirs, ops)
			if !overtaken(err) {
				return all, err
			}
		case how != nil || errors.Is(err, ErrTaken) || errors.Is(err, coord.ErrBadArguments):
			return nil, err
		}
		how = []coord.ReadOption{coord.Linearizable()}
	}
}

// overtaken reports whether a write failed because a directory was another one than
// the view showed.
func overtaken(err error) bool { return errors.Is(err, coord.ErrNodeExists) || isGone(err) }

// isGone reports whether an operation on a certain znode failed because that does not
// exist any more.
func isGone(err error) bool {
	return errors.Is(err, coord.ErrNoNode) || errors.Is(err, coord.ErrBadVersion)
}

func tryEnter(ctx context.Context, s *coord.Session, dirs []string, ops []coord.Op) ([]*contender, error) {
	all := make([]*contender, len(dirs))
	closeAll := func() {
		for _, c := range all {
			if c != nil {
				c.set.Close()
			}
		}
	}
	for i, dir := range dirs {
		set, err := s.NewWatchSet(ctx)
		if err != nil {
			closeAll()
			return nil, err
		}
		all[i] = &contender{s: s, dir: dir, set: set}
	}
	results, err := s.Multi(ctx, ops...)
	if err != nil {
		closeAll()
		undo(s, err, len(dirs))
		return nil, err
	}
	for i, r := range results[len(results)-len(dirs):] {
		all[i].made(r)
	}
	return all, nil
}

func (c *contender) made(r coord.OpResult) { c.path, c.czxid = r.Path, r.Stat.Czxid }

// undo deletes what the last n operations of a Multi have created, if its outcome is
// unknown and it has happened after all. It does so in the background.
func undo(s *coord.Session, err error, n int) {
	unknown, ok := errors.AsType[*coord.OutcomeError](err)
	if !ok {
		return
	}
	go func() {
		results, err := unknown.Results(s.Context())
		if err != nil {
			return // it was refused, or the session has ended, and the znodes with it
		}
		for _, r := range results[len(results)-n:] {
			c := &contender{s: s}
			c.made(r)
			c.removeInBackground()
		}
	}()
}

// register registers for c's own znode and for others that are chosen from a view,
// all behind that view. With none chosen, those of the last time wake c no more.
func (c *contender) register(ctx context.Context, choose func(v *coord.View) (paths []string, err error)) error {
	for {
		v, err := c.look(ctx)
		if err != nil {
			return err
		}
		others, err := choose(v)
		if err != nil {
			return err
		}
		if len(others) == 0 {
			for _, other := range c.waits {
				c.set.Remove(other, coord.DataWatcher)
			}
		}
		c.waits = others
		regs := make([]coord.Registration, 0, 1+len(others))
		regs = append(regs, coord.Registration{Path: c.path, Type: coord.DataWatcher})
		for _, other := range others {
			regs = append(regs, coord.Registration{Path: other, Type: coord.DataWatcher})
		}
		switch err := c.set.Add(v, regs...); {
		case err == nil:
			return context.Cause(c.s.Context())
		case !isCompacted(err):
			return err
		}
	}
}

// news waits for what c registered for.
func (c *contender) news(ctx context.Context) error {
	select {
	case <-c.set.Changed():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.s.Context().Done():
		return context.Cause(c.s.Context())
	}
}

// look returns a view in which c exists. What the set was told before, it shows.
func (c *contender) look(ctx context.Context) (*coord.View, error) {
	if err := c.drain(ctx); err != nil {
		return nil, err
	}
	v, err := c.s.View(ctx, coord.AllowStale())
	if err != nil {
		return nil, err
	}
	if _, stat, err := v.Get(c.path); err != nil || stat.Czxid != c.czxid {
		return nil, lossOf(c.s)
	}
	return v, nil
}

// lossOf returns why a znode of a session is gone. The end of the session is the better
// reason, if it is one.
func lossOf(s *coord.Session) error { return cmp.Or(context.Cause(s.Context()), ErrLost) }

// drain takes what the set was told. One that has ended, because this member or the set
// skipped changes, is replaced.
func (c *contender) drain(ctx context.Context) error {
	_, err := c.set.Take(math.MaxUint64)
	if err == nil || !skipped(err) {
		return err
	}
	set, err := c.s.NewWatchSet(ctx)
	if err != nil {
		return err
	}
	c.set.Close()
	c.set = set
	return nil
}

func isCompacted(err error) bool {
	_, ok := errors.AsType[*coord.CompactedError](err)
	return ok
}

// rewrite changes the note of c's znode, unless change returns it as it was. It fails
// with [coord.ErrNoNode] or [coord.ErrBadVersion] when the znode is gone.
func (c *contender) rewrite(ctx context.Context, change func(note) note) error {
	return rewrite(ctx, c.s, c.path, c.czxid, change)
}

func rewrite(ctx context.Context, c coord.Client, path string, czxid coord.ZXID, change func(note) note) error {
	how, behind := coord.AllowStale(), true
	for {
		v, err := c.View(ctx, how)
		if err != nil {
			return err
		}
		data, stat, err := v.Get(path)
		switch {
		case err == nil && stat.Czxid == czxid:
			changed := change(parseNote(data)).data()
			if bytes.Equal(changed, data) {
				return nil
			}
			_, err = c.SetData(ctx, path, changed, coord.WithCzxid(czxid), coord.WithVersion(stat.Version))
			if !errors.Is(err, coord.ErrBadVersion) {
				return err
			}
		case err != nil && !isGone(err):
			return err
		case !behind:
			return cmp.Or(err, error(coord.ErrBadVersion))
		}
		how, behind = coord.Linearizable(), false
	}
}

// leave deletes the contender. If the ensemble does not answer, that goes on in the
// background until it has, or until the session has ended.
func (c *contender) leave(ctx context.Context) error {
	c.set.Close()
	err := c.remove(ctx)
	if err != nil && c.s.Context().Err() == nil {
		go c.removeInBackground()
		return err
	}
	return nil // the znode ends with the session
}

// removeInBackground tries until it succeeds or the session has ended.
func (c *contender) removeInBackground() {
	for wait := retryPause; c.remove(c.s.Context()) != nil; wait = min(2*wait, maxLeavePause) {
		if !pause(c.s.Context(), wait) {
			return
		}
	}
}

// pause waits for d, and reports false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// remove deletes the znode, whose absence is as good.
func (c *contender) remove(ctx context.Context) error {
	err := c.s.Delete(ctx, c.path, coord.WithCzxid(c.czxid))
	if isGone(err) {
		return nil
	}
	return err
}
