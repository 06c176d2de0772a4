package recipes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"coord"
)

// permitsHead is what the data of a semaphore's directory begin with.
const permitsHead = "semaphore for "

// Acquire waits until s has a permit of the semaphore at path, of which there are
// permits, in the order of arrival. With [WithWeight] it takes several at once.
//
// Guarantee: the permits of all that are Held at path are at most that many, by the
// clocks of their processes. Those who use a semaphore at the same time agree on the
// number: it is written there, and who has another one is refused with
// [ErrOtherCount]. When its directory is empty, it may be used with another number.
// Cost: one write, one to release, and one more for who has somebody behind it when
// it is granted. Waiting costs none, and a release wakes one waiter.
// Session loss: the wait fails, or the Held ends, with the cause of the session's
// context.
// Pitfall: who wants many permits holds up all that come behind, also those who want
// few: nobody is overtaken.
//
// It fails with [coord.ErrBadArguments] unless permits is 1 to 2^31-1 and not less
// than the weight, and else as [Lock] does.
func Acquire(ctx context.Context, s *coord.Session, path string, permits int, opts ...Option) (*Held, error) {
	t, err := permitTicket(permits, opts)
	if err == nil {
		var h *Held
		if h, err = t.acquire(ctx, s, path, t.standFor(path, permits)); err == nil {
			return h, nil
		}
	}
	return nil, fmt.Errorf("acquire a permit of %s: %w", path, err)
}

// TryAcquire is Acquire for those who do not want to wait: it fails with [ErrTaken] if
// there are not enough permits, or somebody waits for some, as [TryLock] does.
func TryAcquire(ctx context.Context, s *coord.Session, path string, permits int, opts ...Option) (*Held, error) {
	t, err := permitTicket(permits, opts)
	if err == nil {
		var h *Held
		if h, err = t.tryAcquire(ctx, s, path, t.standFor(path, permits)); err == nil {
			return h, nil
		}
	}
	return nil, fmt.Errorf("try to acquire a permit of %s: %w", path, err)
}

func permitTicket(permits int, opts []Option) (ticket, error) {
	if permits < 1 || permits > math.MaxInt32 {
		return ticket{}, fmt.Errorf("%w: a semaphore for %d, which is not in 1 to %d", coord.ErrBadArguments, permits, math.MaxInt32)
	}
	t, err := ticketOf("semaphore", atMost(permits), opts)
	if err != nil {
		return ticket{}, err
	}
	t.number = max(t.number, 1)
	if t.number > permits {
		return ticket{}, fmt.Errorf("%w: a weight of %d in a semaphore for %d", coord.ErrBadArguments, t.number, permits)
	}
	return t, nil
}

// standFor is the admission to a directory whose data say how many permits there are.
func (t ticket) standFor(dir string, permits int) admission {
	return func(v *coord.View) ([]coord.Op, error) {
		there, stat, err := permitsOf(v, dir)
		data, enter := []byte(permitsHead+strconv.Itoa(permits)), t.op(dir)
		switch {
		case errors.Is(err, coord.ErrNoNode):
			return []coord.Op{coord.CreateOp(dir, data, coord.Container, coord.WithContainers()), enter}, nil
		case err != nil:
			return nil, err
		}
		l, err := lineOf(v, dir, t.family)
		if err != nil {
			return nil, err
		}
		_, used := l.first()
		switch {
		case there == permits:
			return []coord.Op{coord.CheckOp(dir, coord.WithCzxid(stat.Czxid), coord.WithVersion(stat.Version)), enter}, nil
		case there == 0 && !used: // and nobody can come to use it meanwhile
			return []coord.Op{coord.SetDataOp(dir, data, coord.WithCzxid(stat.Czxid), coord.WithVersion(stat.Version)), enter}, nil
		case stat.NumChildren == 0:
			set := coord.SetDataOp(dir, data, coord.WithCzxid(stat.Czxid), coord.WithVersion(stat.Version))
			return []coord.Op{coord.CheckChildrenOp(dir, 0), set, enter}, nil
		default:
			return nil, fmt.Errorf("%w: it is for %d, not %d", ErrOtherCount, there, permits)
		}
	}
}

// permitsOf returns how many permits a semaphore has: none if nobody has said yet. It
// fails if the directory is used for something else.
func permitsOf(v *coord.View, dir string) (int, coord.Stat, error) {
	data, stat, err := v.Get(dir)
	if err != nil {
		return 0, stat, err
	}
	if err := checkDirectory(v, dir, familyPermit); err != nil {
		return 0, stat, err
	}
	if len(data) == 0 {
		return 0, stat, nil
	}
	number, ok := strings.CutPrefix(string(data), permitsHead)
	if n := atoi(number); ok && n > 0 {
		return n, stat, nil
	}
	return 0, stat, fmt.Errorf("%w: its data is not that of a semaphore", ErrOtherRecipe)
}

// atMost is the rule of what has so many permits.
//
// Those that are granted are the first ones of the line. Of the others only the first
// one waits for them; each of the rest waits for the one before it, which changes its
// znode when it sees that it is granted and that somebody is behind it. Whoever comes
// behind it later sees so itself.
func atMost(permits int) rule {
	return func(l *line, place int) verdict {
		free := permits
		var holders []string
		for _, e := range l.all[:place] {
			if !l.contends(e) {
				continue
			}
			if free -= max(e.number, 1); free < 0 {
				before, _ := l.lastBefore(place)
				return verdict{waitFor: []string{before.path}}
			}
			holders = append(holders, e.path)
		}
		if free -= max(l.all[place].number, 1); free < 0 {
			return verdict{waitFor: holders}
		}
		return verdict{granted: true, stirs: slices.ContainsFunc(l.all[place+1:], l.contends)}
	}
}
