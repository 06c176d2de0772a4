package faultfs

import (
	"path/filepath"
	"slices"
	"strings"
)

// A kind says what a change is about.
type kind uint8

const (
	kindAdopt      kind = iota + 1 // a file that was there before got an id
	kindCreate                     // a file was made, perhaps in the place of another
	kindWrite                      // bytes of a file were written
	kindLink                       // a file got another name
	kindRemove                     // a name was removed
	kindRename                     // a name was changed, perhaps to that of another file
	kindMkdir                      // a directory was made
	kindRemoveTree                 // a directory was removed with all that was in it
	kindSync                       // what was written to a file before Upto is durable
	kindSyncDir                    // what was changed in a directory before Upto is durable
	kindAbort                      // the change before failed
)

// A change is one record of the journal: what was done, and what undoes it. Paths
// are those of now, see repath.
type change struct {
	_msgpack struct{} `msgpack:",as_array"` //nolint:unused // msgpack looks for it

	Seq  uint64
	Kind kind
	ID   uint64 // of the file; of kindRemoveTree the name of the grave
	Path string
	From string // of kindRename
	Over uint64 // of kindCreate and kindRename: the file that was there, or 0
	Dir  bool   // of kindRename: it is a directory

	Off     int64  // of kindWrite
	Len     int64  // of kindWrite: bytes written
	Old     []byte // of kindWrite: what was there, as far as there was anything
	OldSize int64  // of kindWrite: of the file
	Upto    uint64 // of kindSync and kindSyncDir
}

// A ledger knows which changes are not durable yet.
type ledger struct {
	seq     uint64            // of the last change
	nextID  uint64            // of the next file or grave
	names   map[string]uint64 // the files that have an id, by path
	pending []*change         // not durable, in order
	graves  map[uint64]bool   // the files that have a second name
	done    []uint64          // files whose second name is not needed any more
	trees   []uint64          // removed directories, likewise
}

func newLedger() *ledger {
	return &ledger{nextID: 1, names: map[string]uint64{}, graves: map[uint64]bool{}}
}

// inside reports whether path is below dir.
func inside(path, dir string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(dir, string(filepath.Separator))+string(filepath.Separator))
}

// treeGrave is what the path of a removed directory begins with in the ledger.
func treeGrave(id uint64) string { return graveName("tree", id) }

// add enters a change.
func (l *ledger) add(c *change) {
	l.seq = max(l.seq, c.Seq)
	l.nextID = max(l.nextID, c.ID+1, c.Over+1)
	switch c.Kind {
	case kindAdopt:
		l.names[c.Path] = c.ID
		l.graves[c.ID] = true
	case kindAbort:
		l.abort()
	case kindSync:
		l.synced(func(p *change) bool {
			return p.Kind == kindWrite && p.ID == c.ID && p.Seq < c.Upto || p.Kind == kindCreate && p.Over != 0 && p.ID == c.ID
		})
	case kindSyncDir:
		l.synced(func(p *change) bool { return p.Kind != kindWrite && parentOf(p.Path) == c.Path && p.Seq < c.Upto })
		l.sweep()
	case kindCreate, kindWrite, kindLink, kindRemove, kindRename, kindMkdir, kindRemoveTree:
		l.pending = append(l.pending, c)
		l.name(c)
	}
}

// name keeps the names up to date.
func (l *ledger) name(c *change) {
	switch c.Kind {
	case kindCreate:
		l.names[c.Path] = c.ID
		l.graves[c.ID] = true
	case kindLink:
		l.names[c.Path] = c.ID
	case kindRemove:
		delete(l.names, c.Path)
	case kindRename:
		if c.Dir {
			l.repath(c.From, c.Path)
		} else {
			delete(l.names, c.From)
			l.names[c.Path] = c.ID
		}
	case kindAdopt, kindWrite, kindMkdir, kindSync, kindSyncDir, kindAbort: // no file has another name
	case kindRemoveTree:
		l.repath(c.Path, treeGrave(c.ID))
	}
}

// abort takes the last change back, which was not made.
func (l *ledger) abort() {
	n := len(l.pending) - 1
	if n < 0 {
		return
	}
	c := l.pending[n]
	l.pending = l.pending[:n]
	l.unname(c)
}

// unname is the inverse of name.
func (l *ledger) unname(c *change) {
	switch c.Kind {
	case kindCreate:
		delete(l.names, c.Path)
		if c.Over != 0 {
			l.names[c.Path] = c.Over
		}
	case kindLink:
		delete(l.names, c.Path)
	case kindRemove:
		l.names[c.Path] = c.ID
	case kindRename:
		if c.Dir {
			l.repath(c.Path, c.From)
			return
		}
		delete(l.names, c.Path)
		l.names[c.From] = c.ID
		if c.Over != 0 {
			l.names[c.Path] = c.Over
		}
	case kindAdopt, kindWrite, kindMkdir, kindSync, kindSyncDir, kindAbort: // no file has another name
	case kindRemoveTree:
		l.repath(treeGrave(c.ID), c.Path)
	}
}

// repath has everything that is known about the inside of a directory follow it
// to its new name, so that the changes in it can be undone where it is now, and
// are made durable by a sync of it under that name.
func (l *ledger) repath(from, to string) {
	move := func(path string) string {
		if inside(path, from) {
			return to + path[len(from):]
		}
		return path
	}
	for _, c := range l.pending {
		c.Path, c.From = move(c.Path), move(c.From)
	}
	names := make(map[string]uint64, len(l.names))
	for path, id := range l.names {
		names[move(path)] = id
	}
	l.names = names
}

// synced forgets the changes that are durable now.
func (l *ledger) synced(is func(*change) bool) {
	for _, c := range l.pending {
		if c.Kind == kindRemoveTree && is(c) {
			l.buryTree(c.ID)
		}
	}
	l.pending = slices.DeleteFunc(l.pending, func(c *change) bool { return c.Kind == kindAdopt || is(c) })
}

// buryTree forgets what was in a directory that is gone for good.
func (l *ledger) buryTree(id uint64) {
	grave := treeGrave(id)
	for path := range l.names {
		if inside(path, grave) {
			delete(l.names, path)
		}
	}
	for _, c := range l.pending {
		if inside(c.Path, grave) {
			c.Kind = kindAdopt // nothing that is pending; synced takes it out
		}
	}
	l.trees = append(l.trees, id)
}

// sweep finds the files that have no name and that no undoing will give one:
// nobody will see them again.
func (l *ledger) sweep() {
	needed := map[uint64]bool{}
	for _, id := range l.names {
		needed[id] = true
	}
	for _, c := range l.pending {
		if c.Kind != kindWrite {
			needed[c.ID], needed[c.Over] = true, true
		}
	}
	for id := range l.graves {
		if !needed[id] {
			delete(l.graves, id)
			l.done = append(l.done, id)
		}
	}
	l.pending = slices.DeleteFunc(l.pending, func(c *change) bool { return c.Kind == kindWrite && !needed[c.ID] })
}

// parentOf returns the directory that path is in.
func parentOf(path string) string { return filepath.Dir(path) }
