package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
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
	// ErrTaken is returned by the Try functions when somebody else is first.
	ErrTaken = errors.New("recipes: taken")
	// ErrOtherRecipe is returned when a directory has the znodes of another recipe.
	ErrOtherRecipe = errors.New("recipes: the path is used by another recipe")
)

// A kind is a kind of contender: what its znode is called before the number, and
// the recipe it belongs to.
type kind struct {
	recipe string
	prefix string
}

var (
	kindLock      = kind{"lock", "lock-"}
	kindCandidate = kind{"election", "candidate-"}

	kinds = []kind{kindLock, kindCandidate}
)

// The time between attempts to delete a contender's znode, and to enter again, starts
// with retryPause. It doubles up to maxLeavePause: a deletion that is refused, because
// somebody has changed an ACL, is a write each time.
const (
	retryPause    = 100 * time.Millisecond
	maxLeavePause = 10 * time.Second
)

// A contender is one ephemeral sequential znode in the directory of a recipe.
type contender struct {
	s     *coord.Session
	dir   string
	kind  kind
	path  string
	seq   int32
	czxid coord.ZXID
	set   *coord.WatchSet
}

// enter puts a contender into a directory. Whatever becomes of ctx, none is left
// behind when it fails, or not for longer than its session.
func enter(ctx context.Context, s *coord.Session, dir string, k kind, value []byte) (*contender, error) {
	set, err := s.NewWatchSet(ctx)
	if err != nil {
		return nil, err
	}
	c := &contender{s: s, dir: dir, kind: k, set: set}
	path, stat, err := s.Create(ctx, join(dir, k.prefix), value, coord.EphemeralSequential, coord.WithContainers())
	if unknown, ok := errors.AsType[*coord.OutcomeError](err); ok {
		go c.undo(unknown)
		return nil, err
	}
	if err != nil {
		set.Close()
		return nil, err
	}
	c.made(path, stat)
	return c, nil
}

// undo deletes the contender if it came into being after all.
func (c *contender) undo(unknown *coord.OutcomeError) {
	results, err := unknown.Results(c.s.Context())
	if err != nil {
		c.set.Close()
		return // it was refused, or the session has ended, and the znode with it
	}
	c.made(results[0].Path, results[0].Stat)
	c.leaveInBackground()
}

func (c *contender) made(path string, stat coord.Stat) {
	c.path, c.czxid = path, stat.Czxid
	c.seq, _ = sequenceOf(path[strings.LastIndexByte(path, '/')+1:], c.kind.prefix)
}

// await returns when nobody is before c. It needs no quorum: that those before it
// are gone is a fact as soon as any state shows it, because whoever comes later is
// behind it.
func (c *contender) await(ctx context.Context) error {
	for {
		first, err := c.isFirst(ctx)
		if err != nil || first {
			return err
		}
		select {
		case <-c.set.Changed():
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.s.Context().Done():
			return context.Cause(c.s.Context())
		}
	}
}

// isFirst reports whether nobody is before c. It registers for what can change
// that, and for c's own znode.
func (c *contender) isFirst(ctx context.Context) (bool, error) {
	first := false
	err := c.register(ctx, func(v *coord.View) (string, error) {
		before, err := c.before(v)
		first = before == ""
		return before, err
	})
	return first && err == nil, err
}

// stays returns nil while c exists. It registers for its end.
func (c *contender) stays(ctx context.Context) error {
	return c.register(ctx, func(*coord.View) (string, error) { return "", nil })
}

// register registers for c's own znode and for another one that is chosen from a
// view, both behind that view.
func (c *contender) register(ctx context.Context, choose func(*coord.View) (path string, err error)) error {
	for {
		v, err := c.look(ctx)
		if err != nil {
			return err
		}
		other, err := choose(v)
		if err != nil {
			return err
		}
		regs := []coord.Registration{{Path: c.path, Type: coord.DataWatcher}}
		if other != "" {
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
		// The end of the session is the better reason, if it is one.
		return nil, cmp.Or(context.Cause(c.s.Context()), ErrLost)
	}
	return v, nil
}

// drain takes what the set was told. One that has ended, because this member skipped
// changes, is replaced.
func (c *contender) drain(ctx context.Context) error {
	_, err := c.set.Take(math.MaxUint64)
	if err == nil || !isCompacted(err) {
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

// before returns the path of the last contender before c, or nothing.
func (c *contender) before(v *coord.View) (string, error) {
	names, _, err := v.Children(c.dir)
	if err != nil {
		return "", err
	}
	var last string
	var lastSeq int32
	for _, name := range names {
		seq, ok := sequenceOf(name, c.kind.prefix)
		if !ok || !precedes(seq, c.seq) || last != "" && !precedes(lastSeq, seq) {
			continue
		}
		if path := join(c.dir, name); contends(v, path) {
			last, lastSeq = path, seq
		}
	}
	return last, nil
}

// contends reports whether a znode is that of a contender: only ephemerals are. What
// else is called like one would stay for ever.
func contends(v *coord.View, path string) bool {
	_, stat, err := v.Get(path)
	return err == nil && stat.EphemeralOwner != 0 || errors.Is(err, coord.ErrNoAuth)
}

// checkDirectory fails if a directory has znodes of another recipe.
func checkDirectory(v *coord.View, dir string, k kind) error {
	names, _, err := v.Children(dir)
	if errors.Is(err, coord.ErrNoNode) {
		return nil
	}
	for _, name := range names {
		for _, other := range kinds {
			if _, ok := sequenceOf(name, other.prefix); ok && other.recipe != k.recipe {
				return fmt.Errorf("%w: it has a znode %s, as the recipe %q has", ErrOtherRecipe, name, other.recipe)
			}
		}
	}
	return err
}

// precedes orders sequence numbers, which start again at the other end of their
// range: those of one directory are never 2^31 apart (RFC 1982).
func precedes(a, b int32) bool { return a-b < 0 }

// sequenceOf returns the number behind a prefix.
func sequenceOf(name, prefix string) (int32, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || len(digits) < 10 {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	return int32(n), err == nil
}

// leave deletes the contender. If the ensemble does not answer, that goes on in the
// background until it has, or until the session has ended.
func (c *contender) leave(ctx context.Context) error {
	err := c.remove(ctx)
	if err != nil && c.s.Context().Err() == nil {
		go c.leaveInBackground()
		return err
	}
	c.set.Close()
	return nil // the znode ends with the session
}

// leaveInBackground tries until it succeeds or the session has ended.
func (c *contender) leaveInBackground() {
	defer c.set.Close()
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
	if errors.Is(err, coord.ErrNoNode) || errors.Is(err, coord.ErrBadVersion) {
		return nil
	}
	return err
}

func join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}
