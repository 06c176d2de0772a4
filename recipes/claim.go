package recipes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"coord"
)

// A claim is a contender whose name is fixed: nobody stands in line behind it. It is
// an ephemeral znode in a directory whose data say which recipe it belongs to.

// The data of the directories of claims.
const (
	namesMark = "names"
	tasksMark = "tasks"
)

// markDirectory returns the operation behind which a directory is there and has the
// mark of a recipe. It fails if the directory is used for something else.
func markDirectory(v *coord.View, dir, mark string) (coord.Op, error) {
	data, stat, err := v.Get(dir)
	switch {
	case errors.Is(err, coord.ErrNoNode):
		return coord.CreateOp(dir, []byte(mark), coord.Container, coord.WithContainers()), nil
	case err != nil:
		return coord.Op{}, err
	case string(data) == mark:
		return coord.CheckOp(dir, coord.WithCzxid(stat.Czxid), coord.WithVersion(stat.Version)), nil
	case len(data) == 0 && stat.NumChildren == 0: // nobody uses it
		return coord.SetDataOp(dir, []byte(mark), coord.WithCzxid(stat.Czxid), coord.WithVersion(stat.Version)), nil
	}
	return coord.Op{}, fmt.Errorf("%w: its data is not that of %s", ErrOtherRecipe, mark)
}

// claimOps returns the operations that claim a name in a directory with a mark.
func claimOps(v *coord.View, dir, mark, name string, data []byte) ([]coord.Op, error) {
	first, err := markDirectory(v, dir, mark)
	return []coord.Op{first, coord.CreateOp(join(dir, name), data, coord.Ephemeral)}, err
}

// checkName fails if a znode cannot be called so.
func checkName(what, name string) error {
	if strings.Contains(name, "/") || !coord.ValidPath("/"+name) || name == "" {
		return fmt.Errorf("%w: a %s %q, which is no name of a znode", coord.ErrBadArguments, what, name)
	}
	return nil
}

// noteFor returns the note that options ask for, of a recipe that has none but
// [WithValue].
func noteFor(recipe string, opts []Option) (note, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if o.layout != Coord || o.priority != nil || o.weight != nil {
		return note{}, fmt.Errorf("%w: the recipe %q has no option but that of a value", coord.ErrBadArguments, recipe)
	}
	return note{value: o.value}, checkValue(o.value)
}

// holdClaim claims a name that the view of pick shows to be free.
func holdClaim(ctx context.Context, s *coord.Session, dir string, pick admission) (*Held, error) {
	c, err := enter(ctx, s, dir, pick)
	if err != nil {
		return nil, err
	}
	return newHeld(c, nil), nil
}
