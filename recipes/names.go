package recipes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"coord"
)

// errNameTaken stands for [ErrTaken] until a quorum has confirmed it.
var errNameTaken = errors.New("somebody else has the name")

// ClaimName has s hold a name alone, among all that claim names in the directory at
// path. It does not wait: it fails with [ErrTaken] if somebody else has the name, or s
// itself.
//
// Guarantee: of all that were granted a name at path, at most one is Held at a time,
// by the clocks of their processes. The znode of a name is called as the name is, so
// the children of path are the names in use; [WithValue] says by whom.
// Cost: one write, one to release, and one for each time that others were faster. A
// name that is taken costs a question to a quorum and no write.
// Session loss: the Held ends, and the name is free.
// Pitfall: who comes back with another session finds its name taken until the old one
// has expired. To wait for a name, [Lock] a path that ends with it.
//
// It fails with [coord.ErrBadArguments] if no znode can be called so, with
// [ErrOtherRecipe] if the path is used for something else, with the cause of ctx, and
// with what reads and writes fail with. Nothing is left behind then, or not for longer
// than the session.
func ClaimName(ctx context.Context, s *coord.Session, path, name string, opts ...Option) (*Held, error) {
	h, err := takeName(ctx, s, path, name, opts)
	if errors.Is(err, errNameTaken) {
		err = ErrTaken
	}
	if err != nil {
		return nil, fmt.Errorf("claim the name %q at %s: %w", name, path, err)
	}
	return h, nil
}

func takeName(ctx context.Context, s *coord.Session, path, name string, opts []Option) (*Held, error) {
	n, err := claimant(ctx, s, opts)
	if err == nil {
		err = checkName("name", name)
	}
	if err != nil {
		return nil, err
	}
	return holdClaim(ctx, s, path, func(v *coord.View) ([]coord.Op, error) {
		ops, err := claimOps(v, path, namesMark, name, n.data())
		if err == nil && !absent(v, join(path, name)) {
			err = errNameTaken
		}
		return ops, err
	})
}

// claimant returns what somebody who claims has to say of itself.
func claimant(ctx context.Context, s *coord.Session, opts []Option) (note, error) {
	if err := present(ctx, s); err != nil {
		return note{}, err
	}
	return noteFor("names", opts)
}

// absent reports whether a view shows that there is no such znode. One that may not be
// read is there.
func absent(v *coord.View, path string) bool {
	_, _, err := v.Get(path)
	return errors.Is(err, coord.ErrNoNode)
}

// ClaimNumber has s hold a number of 0 to n-1 alone, among all that claim numbers in
// the directory at path: the lowest one that is free, or one of the next if others
// are faster to that. It is for what needs a small number of its own, as a worker that
// makes unique ids does.
//
// Guarantee: as of [ClaimName], for the number, which is the second result; its znode
// is called as the number is written.
// Cost: one write and one to release. Who finds that others were faster looks again,
// and chooses from twice as many: when k claim at once, none makes many more than log k
// attempts, of a write and a question to a quorum each.
// Session loss: the Held ends, and the number is free.
// Pitfall: a number is granted again as soon as it is free. What was made with it
// must be over when the Held's Context ends, and must not be made again by the next
// one: ids of a time and a number are unique only if the clock of the next one is not
// behind that of the last.
//
// It fails with [ErrFull] if all are taken, with [coord.ErrBadArguments] unless n is 1 to
// 2^31-1, and else as [ClaimName] does. Those who claim at one path may do so with
// different n.
func ClaimNumber(ctx context.Context, s *coord.Session, path string, n int, opts ...Option) (*Held, int, error) {
	h, number, err := takeNumber(ctx, s, path, n, opts)
	if err != nil {
		return nil, 0, fmt.Errorf("claim a number below %d at %s: %w", n, path, err)
	}
	return h, number, nil
}

func takeNumber(ctx context.Context, s *coord.Session, path string, n int, opts []Option) (*Held, int, error) {
	note, err := claimant(ctx, s, opts)
	if err != nil {
		return nil, 0, err
	}
	if n < 1 || n > math.MaxInt32 {
		return nil, 0, fmt.Errorf("%w: %d numbers, which is not in 1 to %d", coord.ErrBadArguments, n, math.MaxInt32)
	}
	number, among := 0, 1
	h, err := holdClaim(ctx, s, path, func(v *coord.View) ([]coord.Op, error) {
		free := freeNumbers(v, path, n, among)
		if len(free) > 0 {
			number, among = free[rand.IntN(len(free))], min(2*among, math.MaxInt32)
		}
		ops, err := claimOps(v, path, namesMark, strconv.Itoa(number), note.data())
		if err == nil && len(free) == 0 {
			err = fmt.Errorf("%w: all of %d are taken", ErrFull, n)
		}
		return ops, err
	})
	return h, number, err
}

// freeNumbers returns the lowest numbers below n that are free, at most so many.
func freeNumbers(v *coord.View, dir string, n, atMost int) []int {
	var free []int
	for number := 0; number < n && len(free) < atMost; number++ {
		if absent(v, join(dir, strconv.Itoa(number))) {
			free = append(free, number)
		}
	}
	return free
}
