package recipes

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coord"
)

// A family is the contenders of one recipe in one layout: what their znodes are
// called. All that are in one directory stand in one line.
//
// A name is a prefix that only other libraries use, the mark of the family, a number
// of the recipe's own and a dash if it has one, and the number of the sequence. Who has
// gone behind has one more in front of that, and a dash: the one of the sequence that
// it had at first, without a sign.
type family struct {
	recipe string
	layout Layout
	mark   string // of those that hold alone
	shared string // of those that hold together with others that do; "" if there are none

	// numbered says that names may have a number of the recipe's own.
	numbered bool
	// prefix makes what new names begin with; nil for coord's own, which have none. Those
	// of others may begin with anything, be of persistent znodes, and have no negative
	// numbers: other libraries put these in another order.
	prefix func() string
	// lasting says that directories are persistent, because another library does not
	// expect them to vanish.
	lasting bool
}

var (
	familyLock      = &family{recipe: "lock", mark: "lock-", shared: "read-"}
	familyCandidate = &family{recipe: "election", mark: "candidate-", numbered: true}
	familyPermit    = &family{recipe: "semaphore", mark: "permit-", numbered: true}
	familyLeaseWait = &family{recipe: "lease", mark: "waiter-"}
	familyTaker     = &family{recipe: "queue", mark: "taker-"} // in a directory of the queue's

	// The first one of a recipe is coord's own.
	families = []*family{
		familyLock, familyCandidate, familyPermit, familyLeaseWait,
		{recipe: "lock", layout: CuratorLock, mark: "lock-", prefix: protection},
		{recipe: "lock", layout: CuratorReadWriteLock, mark: "__WRIT__", shared: "__READ__", prefix: protection},
		{recipe: "lock", layout: KazooLock, mark: "__lock__", shared: "__rlock__", prefix: digits, lasting: true},
		{recipe: "election", layout: CuratorLeaderLatch, mark: "latch-", prefix: protection},
		{recipe: "election", layout: CuratorLeaderSelector, mark: "lock-", prefix: protection},
		{recipe: "election", layout: KazooLock, mark: "__lock__", prefix: digits, lasting: true},
	}
)

// digits is a prefix as kazoo's.
func digits() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// protection is a prefix as Curator's and go-zookeeper's.
func protection() string { return "_c_" + digits() + "-" }

// familyOf returns the family of a recipe in a layout.
func familyOf(recipe string, l Layout) (*family, error) {
	for _, f := range families {
		if f.recipe == recipe && f.layout == l {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%w: there is no layout %q of the recipe %q", coord.ErrBadArguments, l, recipe)
}

// name returns what a znode is to be called, up to the number of the sequence.
func (f *family) name(shared bool, number int) string {
	name := f.mark
	if shared {
		name = f.shared
	}
	if f.prefix != nil {
		name = f.prefix() + name
	}
	if number != 0 {
		name += strconv.Itoa(number) + "-"
	}
	return name
}

// nameBehind returns what a znode is to be called that takes an entrant's place at the
// end of the line.
func (f *family) nameBehind(e entrant) string {
	return f.mark + strconv.Itoa(e.number) + "-" + strconv.FormatUint(uint64(uint32(e.since)), 10) + "-"
}

// An entrant is a name in a directory that may be a contender's.
type entrant struct {
	path   string
	shared bool  // by its name
	number int   // of the recipe's own
	seq    int32 // of the sequence
	since  int32 // the same, before it went behind
}

// parse reads a name.
func (f *family) parse(dir, name string) (entrant, bool) {
	for _, mark := range []string{f.mark, f.shared} {
		before, rest, ok := cutLast(name, mark)
		if mark == "" || !ok || before != "" && f.prefix == nil {
			continue
		}
		e := entrant{shared: mark != f.mark}
		var since string
		if f.numbered {
			if number, seq, ok := strings.Cut(rest, "-"); ok && number != "" {
				e.number, rest = atoi(number), seq
				if first, seq, ok := strings.Cut(rest, "-"); ok && first != "" {
					since, rest = first, seq
				}
			}
		}
		if e.seq, ok = sequenceOf(rest); !ok || e.number < 0 {
			continue
		}
		e.path, e.since = join(dir, name), e.seq
		if since != "" {
			n, err := strconv.ParseUint(since, 10, 32)
			if err != nil {
				continue
			}
			e.since = int32(uint32(n))
		}
		return e, true
	}
	return entrant{}, false
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// atoi returns a number that is not negative, or -1.
func atoi(digits string) int {
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

// sequenceOf returns the number that the tree has put at the end of a name.
func sequenceOf(digits string) (int32, bool) {
	if len(digits) < 10 {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	return int32(n), err == nil
}

// precedes orders sequence numbers, which start again at the other end of their
// range: those of one directory are never 2^31 apart (RFC 1982).
func precedes(a, b int32) bool { return a-b < 0 }

// compare orders entrants. Other libraries do not know that numbers start again.
func (f *family) compare(a, b entrant) int {
	switch {
	case f.prefix != nil && a.seq != b.seq:
		return cmp.Compare(a.seq, b.seq)
	case precedes(a.seq, b.seq):
		return -1
	case precedes(b.seq, a.seq):
		return 1
	}
	return cmp.Compare(a.path, b.path)
}

// A line is the entrants of a directory in a view, in the order of their sequence.
type line struct {
	v      *coord.View
	family *family
	all    []entrant
}

// lineOf returns the line in a directory, which is empty if there is none.
func lineOf(v *coord.View, dir string, f *family) (*line, error) {
	names, _, err := v.Children(dir)
	if err != nil && !errors.Is(err, coord.ErrNoNode) {
		return nil, err
	}
	l := &line{v: v, family: f, all: make([]entrant, 0, len(names))}
	for _, name := range names {
		if e, ok := f.parse(dir, name); ok {
			l.all = append(l.all, e)
		}
	}
	slices.SortFunc(l.all, f.compare)
	return l, nil
}

// at returns the place of a path. It is there, if the view shows it.
func (l *line) at(path string) int {
	return slices.IndexFunc(l.all, func(e entrant) bool { return e.path == path })
}

// contends reports whether an entrant is a contender. Of coord's own only ephemerals
// are: what else is called like one would stay for ever.
func (l *line) contends(e entrant) bool {
	_, stat, err := l.v.Get(e.path)
	return err == nil && (stat.EphemeralOwner != 0 || l.family.prefix != nil) || errors.Is(err, coord.ErrNoAuth)
}

// shares reports whether a contender holds together with others that do: by its
// name, or because it has said so since.
func (l *line) shares(e entrant) bool {
	if e.shared {
		return true
	}
	data, _, err := l.v.Get(e.path)
	return err == nil && parseNote(data).shared
}

// lastBefore returns the last contender before a place of which all conditions hold,
// or nothing.
func (l *line) lastBefore(place int, conditions ...func(entrant) bool) (entrant, bool) {
	for _, e := range slices.Backward(l.all[:place]) {
		if l.contends(e) && !slices.ContainsFunc(conditions, func(holds func(entrant) bool) bool { return !holds(e) }) {
			return e, true
		}
	}
	return entrant{}, false
}

// first returns the first contender, or nothing.
func (l *line) first() (entrant, bool) {
	for _, e := range l.all {
		if l.contends(e) {
			return e, true
		}
	}
	return entrant{}, false
}

// A verdict is what a rule says of one place in a line.
type verdict struct {
	granted bool
	// waitFor are paths: unless one of them is deleted, or has new data, nothing can
	// change for who is not granted.
	waitFor []string
	// passes says that it is somebody's turn who lets others go first.
	passes bool
	// stirs says that somebody behind waits for who is granted without need, and has
	// to look again.
	stirs bool
}

// A rule decides who is granted. It is granted to nobody before whom it could still be
// granted to somebody else, so that whoever comes later changes nothing.
type rule func(l *line, place int) verdict

// alone is the rule of what has one holder.
func alone(l *line, place int) verdict {
	before, ok := l.lastBefore(place)
	if !ok {
		return verdict{granted: true}
	}
	return verdict{waitFor: []string{before.path}}
}

// checkDirectory fails if a directory is used by another recipe, or in another layout.
func checkDirectory(v *coord.View, dir string, f *family) error {
	names, _, err := v.Children(dir)
	if errors.Is(err, coord.ErrNoNode) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := f.parse(dir, name); ok {
			continue
		}
		for _, other := range families {
			if _, ok := other.parse(dir, name); ok {
				return fmt.Errorf("%w: it has a znode %s, as the recipe %q has in the layout %q", ErrOtherRecipe, name, other.recipe, other.layout)
			}
		}
	}
	return checkMark(v, dir, f.recipe)
}

// checkMark fails if the data of a directory are those of another recipe.
func checkMark(v *coord.View, dir, recipe string) error {
	data, _, err := v.Get(dir)
	if err != nil {
		return err
	}
	if other := recipeOf(data); other != "" && other != recipe {
		return fmt.Errorf("%w: its data is that of a %s", ErrOtherRecipe, other)
	}
	return nil
}

// recipeOf returns which recipe writes such data into its znode, if that can be told.
func recipeOf(data []byte) string {
	switch text := string(data); {
	case text == barrierMark:
		return "barrier"
	case text == namesMark, text == tasksMark:
		return text
	case strings.HasPrefix(text, roundHead):
		return "double barrier"
	case strings.HasPrefix(text, permitsHead):
		return "semaphore"
	case text == queueMark:
		return "queue"
	case strings.HasPrefix(text, partitionsHead):
		return "partitions"
	}
	return ""
}

func join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}
