package recipes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"coord"
)

// A Contender is somebody that holds or waits for a lock, an election or permits of a
// semaphore.
type Contender struct {
	Path    string          // of its znode
	Value   []byte          // what it said of itself, see [WithValue]
	Session coord.SessionID // its session
	Fence   coord.ZXID      // its znode's czxid: larger for each later grant

	Holds            bool // it has what the others wait for
	Shared           bool // it holds, or would, together with others: see [RLock]
	ReleaseRequested bool // somebody has called [RequestRelease]
	Weight           int  // of permits; 0 if it is no semaphore
	Priority         int  // of a candidate
}

// Contenders returns who contends for the lock, the election or the semaphore at path,
// in the order of arrival: as the local member sees it, unless an option says
// [coord.Linearizable]. There is nobody where there is no znode. It fails as
// [coord.Session.View] does, for a path that is none, and with [coord.ErrNoAuth] if the
// directory or a contender's znode may not be read.
func Contenders(ctx context.Context, c coord.Client, path string, opts ...coord.ReadOption) ([]Contender, error) {
	if err := present(ctx, c); err != nil {
		return nil, err
	}
	v, err := c.View(ctx, opts...)
	if err != nil {
		return nil, err
	}
	f, err := familyIn(v, path, "")
	if err != nil {
		return nil, err
	}
	l, err := lineOf(v, path, f)
	if err != nil {
		return nil, err
	}
	return l.contenders(f.ruleIn(v, path))
}

// familyIn returns whose names a directory has, of a recipe or of any.
func familyIn(v *coord.View, dir, recipe string) (*family, error) {
	names, _, err := v.Children(dir)
	if err != nil && !errors.Is(err, coord.ErrNoNode) {
		return nil, err
	}
	var ofRecipe []*family
	for _, f := range families {
		if recipe == "" || f.recipe == recipe {
			ofRecipe = append(ofRecipe, f)
		}
	}
	for _, name := range names {
		for _, f := range ofRecipe {
			if _, ok := f.parse(dir, name); ok {
				return f, nil
			}
		}
	}
	return ofRecipe[0], nil
}

// ruleIn returns by which rule a family is granted what the directory stands for.
func (f *family) ruleIn(v *coord.View, dir string) rule {
	switch f.recipe {
	case "lock":
		return oneOrMany
	case "semaphore":
		permits, _, _ := permitsOf(v, dir)
		return atMost(permits)
	case "lease": // who waits has none
		return func(*line, int) verdict { return verdict{} }
	default:
		return alone
	}
}

// contenders returns all contenders in a line. Behind one that waits, nobody holds.
func (l *line) contenders(r rule) ([]Contender, error) {
	var all []Contender
	held := true
	for place, e := range l.all {
		if !l.contends(e) {
			continue
		}
		c, err := l.contender(e)
		if err != nil {
			return nil, err
		}
		held = held && r(l, place).granted
		c.Holds = held
		all = append(all, c)
	}
	return all, nil
}

// contender reads who an entrant is.
func (l *line) contender(e entrant) (Contender, error) {
	data, stat, err := l.v.Get(e.path)
	if err != nil {
		return Contender{}, err
	}
	n := parseNote(data)
	c := Contender{
		Path: e.path, Value: bytes.Clone(n.value), Session: stat.EphemeralOwner, Fence: stat.Czxid,
		Shared: e.shared || n.shared, ReleaseRequested: n.revoked,
	}
	switch name := path.Base(e.path); {
	case strings.HasPrefix(name, familyPermit.mark):
		c.Weight = max(e.number, 1)
	case strings.HasPrefix(name, familyCandidate.mark):
		c.Priority = e.number
	}
	return c, nil
}

// RequestRelease asks a contender to release what it holds, or to give up waiting for
// it: [Held.ReleaseRequested] tells it. Nothing more happens if it does not heed that.
// It costs one write, and does nothing if the contender is gone or was asked before.
//
// A contender of Curator's is asked as by Curator's Revoker, which replaces its data.
// RequestRelease fails with [coord.ErrBadArguments] if who has no Fence, and as
// [coord.Coordinator.SetData] does.
func RequestRelease(ctx context.Context, c coord.Client, who Contender) error {
	err := who.present(ctx, c)
	if err == nil {
		foreign := strings.HasPrefix(path.Base(who.Path), "_c_")
		err = rewrite(ctx, c, who.Path, who.Fence, func(n note) note {
			n.revoked = true
			if foreign {
				n.value = nil
			}
			return n
		})
	}
	if err != nil && !isGone(err) {
		return fmt.Errorf("request the release of %s: %w", who.Path, err)
	}
	return nil
}

// Break takes what a contender holds away from it, by deleting its znode, or its place
// in the line. The next one is granted at once, with a larger fence: the broken one
// may not have learned of it yet, and what it does then must be guarded, see
// [Held.Guard]. So may one that waits be granted at that very moment, by a member that
// is behind and has not seen it broken: it is Held until that member has, together with
// the one that is next. Its fence is the smaller one, and its guarded writes are refused.
// Break costs one write, and does nothing if the contender is gone. It fails
// with [coord.ErrBadArguments] if who has no Fence, and as [coord.Coordinator.Delete]
// does.
func Break(ctx context.Context, c coord.Client, who Contender) error {
	err := who.present(ctx, c)
	if err == nil {
		err = c.Delete(ctx, who.Path, coord.WithCzxid(who.Fence))
	}
	if err != nil && !isGone(err) {
		return fmt.Errorf("break %s: %w", who.Path, err)
	}
	return nil
}

// present fails if c cannot be asked, or if a contender is known by its path alone:
// without a fence, that would be anybody.
func (who Contender) present(ctx context.Context, c coord.Client) error {
	if who.Fence == 0 {
		return fmt.Errorf("%w: a contender without a fence", coord.ErrBadArguments)
	}
	return present(ctx, c)
}
