package recipes

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"coord"
)

// A queue is a directory, a container with this mark as its data, of containers:
//
//	items-0000000000/0980-0000000042        an item: its priority and its place
//	items-0000000000/0980-0000000042/taken  ephemeral: its delivery, while it lasts
//	delayed/0001700000000000-0980-…         an item that is due at that time
//	dead/0980-…                             an item that is not delivered any more
//	ids/order-17                            the id of an item
//	takers/taker-…                          ephemeral: who waits for an item
//
// An item keeps its znode while it is delivered and given back, so the tree counts its
// deliveries, in its cversion, also those that end with a session, and its name does
// not change. Whatever else is in these directories is left alone.
const (
	queueMark   = "coord queue"
	shelfPrefix = "items-"
	delayedDir  = "delayed"
	deadDir     = "dead"
	idsDir      = "ids"
	takersDir   = "takers"
	takenName   = "taken"
)

// maxPriority is the largest priority, and the smallest one but for the sign.
const maxPriority = 1000

// itemPrefix returns what the names of items start with. They sort by priority, the
// largest first.
func itemPrefix(priority int) string { return fmt.Sprintf("%04d-", maxPriority-priority) }

// priorityOf returns the priority of the name of an item, a delayed or a dead one.
func priorityOf(name string) (int, bool) {
	digits, sequence, ok := strings.Cut(name, "-")
	if !ok || len(digits) != 4 || len(sequence) < 10 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n > 2*maxPriority {
		return 0, false
	}
	_, err = strconv.ParseInt(sequence, 10, 32)
	return maxPriority - int(n), err == nil
}

// duePrefix returns what the names of delayed items start with.
func duePrefix(dueMS int64, priority int) string {
	return fmt.Sprintf("%016d-%s", dueMS, itemPrefix(priority))
}

// dueOf returns when a delayed item is due, and its priority.
func dueOf(name string) (dueMS int64, priority int, ok bool) {
	digits, rest, ok := strings.Cut(name, "-")
	if !ok || len(digits) != 16 {
		return 0, 0, false
	}
	due, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, 0, false
	}
	priority, ok = priorityOf(rest)
	return int64(due), priority, ok
}

// An entry is the data of an item. What stands before the value has the same size
// whatever becomes of the item, so that one that is as large as data can be is never
// in the way.
type entry struct {
	deliveries int    // under names that it had before
	id         string // or nothing
	value      []byte
}

func (e entry) data() []byte {
	return append(fmt.Appendf(nil, "%010d %s\n", e.deliveries, e.id), e.value...)
}

var errNoEntry = errors.New("not put by a queue")

func parseEntry(data []byte) (entry, error) {
	head, value, ok := bytes.Cut(data, []byte("\n"))
	count, id, hasID := bytes.Cut(head, []byte(" "))
	n, err := strconv.ParseUint(string(count), 10, 31)
	if !ok || !hasID || len(count) != 10 || err != nil {
		return entry{value: data}, errNoEntry
	}
	return entry{int(n), string(id), value}, nil
}

// An item is a znode that a queue has put, in whatever directory it is.
type item struct {
	path     string
	priority int
	dueMS    int64 // of a delayed one
	stat     coord.Stat
	data     []byte // shared with the tree
}

// deliveries returns how often the item was delivered until it became free. Each was a
// child that came and went.
func (it item) deliveries() int {
	e, _ := parseEntry(it.data)
	return e.deliveries + int(it.stat.Cversion/2)
}

func (it item) claimPath() string { return join(it.path, takenName) }

// deleteOp deletes the item, and not another one at its path.
func (it item) deleteOp() coord.Op { return coord.DeleteOp(it.path, coord.WithCzxid(it.stat.Czxid)) }

// A stock is what a view shows of a queue.
type stock struct {
	v       *coord.View
	path    string
	stat    coord.Stat // zero if there is no queue
	marked  bool
	shelves []string // the paths of the directories of items, in order
}

// stockOf reads a stock. It fails if the directory is used for something else.
func stockOf(v *coord.View, path string) (*stock, error) {
	s := &stock{v: v, path: path}
	data, stat, err := v.Get(path)
	if errors.Is(err, coord.ErrNoNode) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.stat, s.marked = stat, string(data) == queueMark
	if !s.marked && (len(data) > 0 || stat.NumChildren > 0 || stat.EphemeralOwner != 0) {
		return nil, fmt.Errorf("%w: its data is not that of a queue", ErrOtherRecipe)
	}
	for name := range v.ChildrenAfter(path, shelfPrefix) {
		digits, ok := strings.CutPrefix(name, shelfPrefix)
		if !ok {
			break
		}
		if _, err := strconv.ParseUint(digits, 10, 31); err == nil && len(digits) == 10 {
			s.shelves = append(s.shelves, join(path, name))
		}
	}
	return s, nil
}

// dir returns the path of one of the directories.
func (s *stock) dir(name string) string { return join(s.path, name) }

// count returns how many children a directory has.
func (s *stock) count(dir string) int {
	_, stat, _ := s.v.Get(dir)
	return int(stat.NumChildren)
}

func (s *stock) has(path string) bool {
	_, _, err := s.v.Get(path)
	return err == nil
}

// item returns an item. What is ephemeral or may not be read is none.
func (s *stock) item(dir, name string, priority int) (item, bool) {
	path := join(dir, name)
	data, stat, err := s.v.Get(path)
	return item{path: path, priority: priority, stat: stat, data: data}, err == nil && stat.EphemeralOwner == 0
}

// free yields the items that can be taken, in the order in which they are to be.
func (s *stock) free() iter.Seq[item] {
	return func(yield func(item) bool) {
		for dir, name := range s.names() {
			priority, ok := priorityOf(name)
			if !ok {
				continue
			}
			if it, ok := s.item(dir, name, priority); ok && it.stat.NumChildren == 0 && !yield(it) {
				return
			}
		}
	}
}

// names yields the names on all shelves: those of a larger priority first, and of the
// same one those on an earlier shelf.
func (s *stock) names() iter.Seq2[string, string] {
	next := func(dir, after string) string {
		for name := range s.v.ChildrenAfter(dir, after) {
			return name
		}
		return ""
	}
	return func(yield func(dir, name string) bool) {
		if len(s.shelves) == 1 { // as nearly always
			for name := range s.v.ChildrenAfter(s.shelves[0], "") {
				if !yield(s.shelves[0], name) {
					return
				}
			}
			return
		}
		heads := make([]string, len(s.shelves))
		for i, dir := range s.shelves {
			heads[i] = next(dir, "")
		}
		for {
			best := -1
			for i, name := range heads {
				if name != "" && (best < 0 || rank(name) < rank(heads[best])) {
					best = i
				}
			}
			if best < 0 || !yield(s.shelves[best], heads[best]) {
				return
			}
			heads[best] = next(s.shelves[best], heads[best])
		}
	}
}

// rank returns the part of a name that says its priority.
func rank(name string) string { return name[:min(len(name), 5)] }

// listed yields the items of a directory, which parse knows by their names.
func (s *stock) listed(dir string, parse func(name string) (item, bool)) iter.Seq[item] {
	return func(yield func(item) bool) {
		for name := range s.v.ChildrenAfter(dir, "") {
			known, ok := parse(name)
			if !ok {
				continue
			}
			it, ok := s.item(dir, name, known.priority)
			it.dueMS = known.dueMS
			if ok && !yield(it) {
				return
			}
		}
	}
}

// delayed yields the delayed items in the order in which they are due, but those below
// which somebody has put something: these stay where they are.
func (s *stock) delayed() iter.Seq[item] {
	all := s.listed(s.dir(delayedDir), func(name string) (item, bool) {
		due, priority, ok := dueOf(name)
		return item{dueMS: due, priority: priority}, ok
	})
	return func(yield func(item) bool) {
		for it := range all {
			if it.stat.NumChildren == 0 && !yield(it) {
				return
			}
		}
	}
}

// dead yields the dead items.
func (s *stock) dead() iter.Seq[item] {
	return s.listed(s.dir(deadDir), func(name string) (item, bool) {
		priority, ok := priorityOf(name)
		return item{priority: priority}, ok
	})
}

// makeOps returns the operations that make the queue and a directory in it, unless
// they are there. They and all that create in the directory fail if a directory comes
// or goes meanwhile: so none is ever made without its mark.
func (s *stock) makeOps(dir string) []coord.Op {
	if s.has(dir) {
		return nil
	}
	var queue coord.Op
	switch {
	case s.stat == (coord.Stat{}):
		queue = coord.CreateOp(s.path, []byte(queueMark), coord.Container, coord.WithContainers())
	case !s.marked:
		queue = coord.SetDataOp(s.path, []byte(queueMark), coord.WithCzxid(s.stat.Czxid), coord.WithVersion(s.stat.Version))
	default:
		queue = coord.CheckOp(s.path, coord.WithCzxid(s.stat.Czxid))
	}
	return []coord.Op{queue, coord.CreateOp(dir, nil, coord.Container)}
}

// A shelf takes this many items before there is another one: the numbers at the ends of
// their names never start again at the other end of their range.
const shelfSize = 1 << 29

// shelf returns the shelf to put items on, and the one behind it. A put fails if that
// has come into being, so that nothing is put on a shelf behind whose back it stands.
func (s *stock) shelf(size int32) (dir, behind string) {
	number := s.nextShelf()
	if n := len(s.shelves); n > 0 {
		if _, stat, err := s.v.Get(s.shelves[n-1]); err != nil || (stat.Cversion+stat.NumChildren)/2 < size {
			number--
		}
	}
	return s.shelfDir(number), s.shelfDir(number + 1)
}

// nextShelf returns the number of the shelf that would come behind those that are there.
func (s *stock) nextShelf() int64 {
	if len(s.shelves) == 0 {
		return 0
	}
	last := s.shelves[len(s.shelves)-1]
	number, _ := strconv.ParseInt(last[len(last)-10:], 10, 32)
	return number + 1
}

func (s *stock) shelfDir(number int64) string {
	return s.dir(fmt.Sprintf("%s%010d", shelfPrefix, number))
}

// shelveOps returns the operations that put data on a shelf.
func (s *stock) shelveOps(size int32, items ...item) []coord.Op {
	dir, behind := s.shelf(size)
	ops := append(s.makeOps(dir), coord.CheckAbsentOp(behind))
	for _, it := range items {
		ops = append(ops, coord.CreateOp(join(dir, itemPrefix(it.priority)), it.data, coord.PersistentSequential))
	}
	return ops
}

// delayOps returns the operations that put a delayed item.
func (s *stock) delayOps(it item) []coord.Op {
	dir := s.dir(delayedDir)
	return append(s.makeOps(dir), coord.CreateOp(join(dir, duePrefix(it.dueMS, it.priority)), it.data, coord.PersistentSequential))
}

// buryOps returns the operations that make an item a dead one.
func (s *stock) buryOps(it item, deliveries int) []coord.Op {
	data := it.data
	if e, err := parseEntry(data); err == nil {
		e.deliveries = deliveries
		data = e.data()
	}
	dir := s.dir(deadDir)
	return append(s.makeOps(dir), it.deleteOp(), coord.CreateOp(join(dir, itemPrefix(it.priority)), data, coord.PersistentSequential))
}

// roomOps returns the operations that fail unless there is room for one more item in
// dir, if there may be bound of them in all. What is left is shared out over the
// directories, so that those who put at once seldom fail each other.
func (s *stock) roomOps(dir string, bound int) ([]coord.Op, error) {
	all := append(slices.Clip(s.shelves), s.shelfDir(s.nextShelf()), s.dir(delayedDir))
	room := bound
	for _, other := range all {
		room -= s.count(other)
	}
	if room < 1 {
		return nil, fmt.Errorf("%w: it may have %d items", ErrFull, bound)
	}
	share := (room - 1) / len(all)
	var ops []coord.Op
	for _, other := range all {
		switch {
		case other == dir: // gets what the others leave
		case !s.has(other):
			ops = append(ops, coord.CheckAbsentOp(other))
		default:
			ops = append(ops, coord.CheckFewerChildrenOp(other, int32(s.count(other)+share+1)))
			room -= share
		}
	}
	if s.has(dir) {
		ops = append(ops, coord.CheckFewerChildrenOp(dir, int32(s.count(dir)+room)))
	}
	return ops, nil
}
