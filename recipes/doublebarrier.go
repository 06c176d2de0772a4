package recipes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"coord"
)

// Errors of the double barrier.
var (
	// ErrFull is returned when as many as a double barrier is for have entered
	// already, and not all of them have left.
	ErrFull = errors.New("recipes: full")
	// ErrOtherCount is returned when those who entered a double barrier before want
	// it to be for another number.
	ErrOtherCount = errors.New("recipes: another count")
)

// entrantPrefix is what the znodes of a double barrier are called before the number
// of their place.
const entrantPrefix = "entrant-"

// An Entered is the place of one that has entered a double barrier.
type Entered struct {
	c     *contender
	round coord.Stat // of the directory since it was full

	leaving sync.Once
	left    error // written by leaving
}

// Enter waits until n have entered the double barrier at path, s among them. Each
// of them calls Leave when it has done its work, which waits until all have.
//
// Guarantee: all n pass together: there is one write behind which the barrier is full,
// and nobody passes before it. Whoever comes then is refused with [ErrFull] until all
// n have left; then the next n may enter.
// Cost: one write to enter, another one for the last one if several came at once,
// and one to leave; more when two want the same place at once. Waiting costs none, and
// all are woken once.
// Session loss: before the barrier is full, it makes room for another one; behind
// that, it counts as having left. The session's own calls fail.
// Pitfall: a session may enter several times, and takes a place each time.
//
// It fails with [coord.ErrBadArguments] if n is not positive, with [ErrOtherCount] if
// somebody waits there for another number, with [ErrOtherRecipe] if the path is used
// for something else, with [ErrLost] if somebody deletes its znode, with the cause of
// ctx, and with what a write fails with. Nothing is left behind then, or not for
// longer than the session.
func Enter(ctx context.Context, s *coord.Session, path string, n int) (*Entered, error) {
	e, err := enterBoth(ctx, s, path, n)
	if err != nil {
		return nil, fmt.Errorf("enter %s: %w", path, err)
	}
	return e, nil
}

func enterBoth(ctx context.Context, s *coord.Session, path string, n int) (*Entered, error) {
	if err := present(ctx, s); err != nil {
		return nil, err
	}
	if n < 1 || n > math.MaxInt32 {
		return nil, fmt.Errorf("%w: a double barrier for %d", coord.ErrBadArguments, n)
	}
	c, err := enter(ctx, s, path, func(v *coord.View) ([]coord.Op, error) { return admit(v, path, n) })
	if err != nil {
		return nil, err
	}
	round, err := awaitFull(ctx, c, n)
	if err != nil {
		_ = c.leave(ctx) // goes on in the background
		return nil, err
	}
	return &Entered{c: c, round: round}, nil
}

// admit returns the operations that let one more enter, of which the last creates
// its znode.
//
// Each of n places is a name, so that no more than n can have one, and those who come
// at once are seldom in each other's way. Who takes the last one says that the barrier
// is full, in the same write. If two took the last places at once, neither knew: then
// the later one says so, see [awaitFull].
func admit(v *coord.View, path string, n int) ([]coord.Op, error) {
	r, err := roundOf(v, path)
	if err != nil {
		return nil, err
	}
	taken := len(r.entrants)
	mark := coord.SetDataOp(path, roundData(n, n == 1), coord.WithCzxid(r.stat.Czxid), coord.WithVersion(r.stat.Version))
	enter := func(place int) coord.Op {
		return coord.CreateOp(join(path, entrantPrefix+strconv.Itoa(place)), nil, coord.Ephemeral)
	}
	switch {
	case !r.exists:
		return []coord.Op{coord.CreateOp(path, roundData(n, n == 1), coord.Container, coord.WithContainers()), enter(0)}, nil
	case taken == 0: // everybody has left or given up
		return []coord.Op{coord.CheckChildrenOp(path, 0), mark, enter(0)}, nil
	case r.n != n:
		return nil, fmt.Errorf("%w: it is for %d, not %d", ErrOtherCount, r.n, n)
	case r.full || taken >= n:
		return nil, fmt.Errorf("%w: %d have entered", ErrFull, n)
	case taken == n-1:
		mark = coord.SetDataOp(path, roundData(n, true), coord.WithCzxid(r.stat.Czxid), coord.WithVersion(r.stat.Version))
		return []coord.Op{coord.CheckChildrenOp(path, int32(n-1)), mark, enter(r.freePlace())}, nil
	default:
		check := coord.CheckOp(path, coord.WithCzxid(r.stat.Czxid), coord.WithVersion(r.stat.Version))
		return []coord.Op{check, enter(r.freePlace())}, nil
	}
}

// awaitFull returns when the barrier is full, and the stat of its directory then.
func awaitFull(ctx context.Context, c *contender, n int) (coord.Stat, error) {
	for {
		var r round
		err := c.register(ctx, func(v *coord.View) (_ []string, err error) {
			r, err = roundOf(v, c.dir)
			return []string{c.dir}, err
		})
		if err != nil || r.full {
			return r.stat, err
		}
		if len(r.entrants) == n && r.latest == c.path {
			// Nobody who came before could know.
			_, err := c.s.Multi(ctx,
				coord.CheckChildrenOp(c.dir, int32(n)),
				coord.SetDataOp(c.dir, roundData(n, true), coord.WithCzxid(r.stat.Czxid), coord.WithVersion(r.stat.Version)))
			if err == nil || overtaken(err) {
				err = c.s.Sync(ctx, c.dir)
			}
			if err != nil {
				return coord.Stat{}, err
			}
			continue
		}
		if err := c.news(ctx); err != nil {
			return coord.Stat{}, err
		}
	}
}

// Leave says that this one has done its work, and waits until all that entered have
// left. One whose session has ended has left. Leave fails with the cause of ctx or of
// the session's context, and with what a write fails with; it has left then all the
// same, or does so in the background, and may be called again to wait.
func (e *Entered) Leave(ctx context.Context) error {
	if err := e.leave(ctx); err != nil {
		return fmt.Errorf("leave %s: %w", e.c.dir, err)
	}
	return nil
}

func (e *Entered) leave(ctx context.Context) error {
	first := false
	e.leaving.Do(func() {
		first = true
		e.left = e.c.leave(ctx)
	})
	if first && e.left != nil {
		return e.left
	}
	if err := present(ctx, e.c.s); err != nil {
		return err
	}
	// Whoever is gone by this member's state is gone: it shows all that entered.
	return lookUntil(ctx, e.c.s, coord.AllowStale(), func(v *coord.View) ([]coord.Registration, error) {
		r, err := roundOf(v, e.c.dir)
		if err != nil {
			return nil, err
		}
		if len(r.entrants) == 0 || r.stat.Czxid != e.round.Czxid || r.stat.Version != e.round.Version {
			return nil, nil // all have left, and others may have entered
		}
		// One of those who are left, so that few wake up for each that leaves.
		one := r.entrants[rand.IntN(len(r.entrants))]
		return []coord.Registration{{Path: join(e.c.dir, one), Type: coord.DataWatcher}}, nil
	})
}

// A round is what a view shows of a double barrier.
type round struct {
	exists   bool
	stat     coord.Stat // of the directory
	n        int
	full     bool
	entrants []string
	latest   string // the path of the one that entered last
}

const roundHead = "double barrier for "

// roundData returns the data of the directory.
func roundData(n int, full bool) []byte {
	data := roundHead + strconv.Itoa(n)
	if full {
		data += ", full"
	}
	return []byte(data)
}

// roundOf reads a round. It fails if the directory is used for something else.
func roundOf(v *coord.View, path string) (round, error) {
	data, stat, err := v.Get(path)
	if errors.Is(err, coord.ErrNoNode) {
		return round{}, nil
	}
	if err != nil {
		return round{}, err
	}
	r := round{exists: true, stat: stat}
	if len(data) > 0 || stat.NumChildren > 0 { // one without either is to be filled
		number, _ := strings.CutPrefix(string(data), roundHead)
		number, r.full = strings.CutSuffix(number, ", full")
		if r.n, err = strconv.Atoi(number); err != nil || string(roundData(r.n, r.full)) != string(data) {
			return round{}, fmt.Errorf("%w: its data is not that of a double barrier", ErrOtherRecipe)
		}
	}
	if r.entrants, _, err = v.Children(path); err != nil {
		return round{}, err
	}
	var latest coord.ZXID
	for _, name := range r.entrants {
		_, stat, err := v.Get(join(path, name))
		if err != nil {
			return round{}, err
		}
		if !strings.HasPrefix(name, entrantPrefix) || stat.EphemeralOwner == 0 {
			return round{}, fmt.Errorf("%w: it has a znode %s", ErrOtherRecipe, name)
		}
		if stat.Czxid >= latest {
			latest, r.latest = stat.Czxid, join(path, name)
		}
	}
	return r, nil
}

// freePlace returns one of the places that nobody has taken, any of them.
func (r *round) freePlace() int {
	taken := make(map[string]bool, len(r.entrants))
	for _, name := range r.entrants {
		taken[name] = true
	}
	var free []int
	for place := range r.n {
		if !taken[entrantPrefix+strconv.Itoa(place)] {
			free = append(free, place)
		}
	}
	return free[rand.IntN(len(free))]
}
