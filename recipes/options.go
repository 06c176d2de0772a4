package recipes

import (
	"bytes"
	"fmt"
	"math"

	"coord"
)

// An Option is an option of a recipe that hands out a [Held].
type Option func(*options)

type options struct {
	value    []byte
	layout   Layout
	priority *int
	weight   *int
}

// WithValue puts data into the contender's znode, for others to see who it is. They
// must not begin with "__REVOKE__" or "__SHARED__", which recipes write there.
func WithValue(value []byte) Option { return func(o *options) { o.value = value } }

// WithPriority has a candidate of an election lead before those of a lower priority
// that wait as well; by default it is 0, the lowest. Nobody who leads is driven out.
//
// A candidate whose turn it is goes behind if one of a higher priority waits, or one of
// its own that came before it and went behind. That costs one write each time, and for
// that moment others see it elected, in a term of its own that ends at once. It is
// another [Contender] then.
func WithPriority(priority int) Option { return func(o *options) { o.priority = &priority } }

// WithWeight has a semaphore count a holder as several; by default it is 1.
func WithWeight(weight int) Option { return func(o *options) { o.weight = &weight } }

// ticketOf makes the ticket that options ask for, and fails if the recipe has no such
// option.
func ticketOf(recipe string, r rule, opts []Option) (ticket, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	f, err := familyOf(recipe, o.layout)
	if err != nil {
		return ticket{}, err
	}
	t := ticket{family: f, rule: r, note: note{value: bytes.Clone(o.value)}}
	if err := checkValue(o.value); err != nil {
		return ticket{}, err
	}
	if o.priority != nil {
		if t.number, err = numberOf(f, familyCandidate, "priority", *o.priority, 0); err != nil {
			return ticket{}, err
		}
	}
	if o.weight != nil {
		if t.number, err = numberOf(f, familyPermit, "weight", *o.weight, 1); err != nil {
			return ticket{}, err
		}
	}
	return t, nil
}

// numberOf checks a number that only one family has.
func numberOf(f, only *family, what string, n, lowest int) (int, error) {
	if f != only {
		return 0, fmt.Errorf("%w: a %s of %d: the recipe %q has none in layout %q", coord.ErrBadArguments, what, n, f.recipe, f.layout)
	}
	if n < lowest || n > math.MaxInt32 {
		return 0, fmt.Errorf("%w: a %s of %d, which is not in %d to %d", coord.ErrBadArguments, what, n, lowest, math.MaxInt32)
	}
	return n, nil
}

// checkValue fails if a value would be taken for what recipes write in front of it.
func checkValue(value []byte) error {
	if isNote(value) {
		return fmt.Errorf("%w: a value that begins with %q or %q", coord.ErrBadArguments, revokeMark, sharedMark)
	}
	return nil
}
