package coord

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// A mountPhase says how far a mount is. Numbers are never reused.
type mountPhase uint8

const (
	// mountSealed: the znode is on its way into the group. Nobody writes to it.
	// mountServed follows, or the entry goes and the znode stays where it was.
	mountSealed mountPhase = 1
	// mountServed: the group serves the subtree. It ends when the root group takes
	// the znode back, and the entry goes.
	mountServed mountPhase = 2
)

// A mount is an entry of the root group's table: a subtree that another group serves,
// or is about to. It is immutable: an update puts a new one in its place.
type mount struct {
	path    string // the mount point
	group   GroupID
	phase   mountPhase
	sealed  ZXID           // of the seal; the zxids of the group begin behind it
	flipped ZXID           // of the flip, from which on the group serves; 0 before
	members []memberRecord // that the group starts with, all of whom vote: id and addresses
}

// maxMounts bounds the mounts of an ensemble: each is a group, with a log and goroutines
// of its own on every member.
const maxMounts = 1024

// A mountTable holds the mounts of an ensemble, in the root group.
//
// Invariants, checked by violations:
//
//	MT1  every path can be a mount point, and none is inside another
//	MT2  every group has one mount, and an id above the root group's that was given out
//	MT3  at a mount point and at the place of its quotas is a persistent znode without
//	     children; while the group serves it, it has no data
//	MT4  no zxid in the table is above the group's
//	MT5  only the root group has mounts; another group serves one mount point, and has
//	     nothing that is neither there nor below nor a quota of it
type mountTable struct {
	byPath ordered[mountItem]
	given  uint64 // group ids given out, one after the other behind the root group's
}

// A mountItem is a mount under its path, by which it can be looked up without making
// one.
type mountItem struct {
	path string
	m    *mount
}

func newMountTable() mountTable {
	return mountTable{byPath: newOrdered(func(a, b mountItem) bool { return a.path < b.path })}
}

func (t *mountTable) freeze() mountTable { return mountTable{t.byPath.freeze(), t.given} }

func (t *mountTable) none() bool { return t.byPath.len() == 0 }

func (t *mountTable) put(m *mount) { t.byPath.put(mountItem{m.path, m}) }

func (t *mountTable) drop(m *mount) { t.byPath.remove(mountItem{path: m.path}) }

// at returns the mount whose mount point is path, or nil.
func (t *mountTable) at(path string) *mount {
	it, _ := t.byPath.get(mountItem{path: path})
	return it.m
}

// covering returns the mount that path is in, or nil. path may be malformed: whoever
// is asked for it then says so.
func (t *mountTable) covering(path string) *mount {
	if t.none() {
		return nil
	}
	for path = mountedAs(path); path != pathRoot; path = parentPath(path) {
		if m := t.at(path); m != nil {
			return m
		}
	}
	return nil
}

// overlapping returns a mount that path is in or above, or nil.
func (t *mountTable) overlapping(path string) *mount {
	if m := t.covering(path); m != nil {
		return m
	}
	for it := range t.byPath.from(mountItem{path: path + "/"}) {
		if strings.HasPrefix(it.path, path+"/") {
			return it.m
		}
		break
	}
	return nil
}

// all yields the mounts in the order of their paths.
func (t *mountTable) all() iter.Seq[*mount] {
	return func(yield func(*mount) bool) {
		for it := range t.byPath.all() {
			if !yield(it.m) {
				return
			}
		}
	}
}

// has reports whether a group is that of a mount.
func (t *mountTable) has(group GroupID) bool {
	for m := range t.all() {
		if m.group == group {
			return true
		}
	}
	return false
}

// nextGroup returns the id that the next mount gets.
func (t *mountTable) nextGroup() GroupID { return rootGroup + 1 + GroupID(t.given) }

// mountedAs returns the path that decides which group serves the znode at path. The
// quotas of a subtree are served where the subtree is, because that is where it is
// counted.
func mountedAs(path string) string {
	if strings.HasPrefix(path, pathQuota+"/") {
		return path[len(pathQuota):]
	}
	return path
}

// quotaPlace returns the path below which the quotas of the subtree at path are.
func quotaPlace(path string) string { return pathQuota + path }

// mountable reports whether path can be a mount point. Nothing of the ensemble's own
// can, nor what would be a quota at the place of its quotas.
func mountable(path string) bool {
	if path == pathRoot || !ValidPath(path) || !ValidPath(quotaPlace(path)) || path == pathSystem || strings.HasPrefix(path, pathSystem+"/") {
		return false
	}
	names := strings.Split(path[1:], "/")
	return !slices.Contains(names, quotaLimitsName) && !slices.Contains(names, quotaStatsName)
}

// A mountPoint is what a group other than the root group serves.
type mountPoint struct {
	path   string // empty in the root group
	sealed ZXID   // when the group was sealed, to be unmounted; 0 before
}

// none reports whether the group is the root group.
func (p *mountPoint) none() bool { return p.path == "" }

// covers reports whether the znode at path is the group's to serve.
func (p *mountPoint) covers(path string) bool {
	path = mountedAs(path)
	return strings.HasPrefix(path, p.path) && (len(path) == len(p.path) || path[len(p.path)] == '/')
}

// tops returns the keys of the znodes whose parents the root group has.
func (p *mountPoint) tops() []treeKey {
	at, _ := keyOf(p.path)
	quotas, _ := keyOf(quotaPlace(p.path))
	return []treeKey{at, quotas}
}

// serverOf returns the group that serves the znode at path, as far as s knows: the
// group of a mount knows only what it serves itself. moving says that the znode is on
// its way from or into that group, which may be read and not written meanwhile.
func (s *state) serverOf(path string) (server GroupID, moving bool) {
	if !s.serves.none() {
		if s.serves.covers(path) {
			return s.group, s.serves.sealed != 0
		}
		return rootGroup, false
	}
	switch m := s.mounts.covering(path); {
	case m == nil:
		return s.group, false
	case m.phase == mountSealed:
		return s.group, true
	default:
		return m.group, false
	}
}

// place returns the path whose group executes o. Create and delete change the children
// of the parent, and the parent of a mount point keeps its name.
func (o *op) place() string {
	if o.kind == opCreate || o.kind == opDelete {
		return parentPath(o.path)
	}
	return o.path
}

// misplaced refuses an operation that is not this group's to execute, or not now. It
// comes before all other checks: a caller who asks the wrong group must not be told what
// only the right one knows.
func (s *state) misplaced(o *op) Code {
	if s.serves.none() && s.mounts.none() {
		return codeOK
	}
	server, moving := s.serverOf(o.place())
	switch {
	case server != s.group:
		return ErrWrongGroup
	case moving:
		return codeSealed
	case o.kind != opDelete || !s.serves.none():
		return codeOK
	}
	switch m := s.mounts.at(mountedAs(o.path)); {
	case m == nil:
		return codeOK
	case m.phase == mountSealed:
		return codeSealed
	default:
		return ErrMounted
	}
}

func (s *state) mountViolations() iter.Seq[error] {
	return func(yield func(error) bool) {
		if !s.serves.none() {
			s.servingViolations(yield)
			return
		}
		groups := map[GroupID]bool{}
		for m := range s.mounts.all() {
			groups[m.group] = true
			for _, err := range s.mountFaults(m) {
				if !yield(err) {
					return
				}
			}
		}
		if len(groups) != s.mounts.byPath.len() {
			yield(fmt.Errorf("MT2: %d mounts with %d groups", s.mounts.byPath.len(), len(groups)))
		}
	}
}

// mountFaults returns what is wrong with an entry of the table.
func (s *state) mountFaults(m *mount) []error {
	var errs []error
	report := func(broken bool, format string, args ...any) {
		if broken {
			errs = append(errs, fmt.Errorf(format+": mount %s", append(args, m.path)...))
		}
	}
	report(!mountable(m.path), "MT1: it cannot be a mount point")
	report(s.mounts.covering(parentPath(m.path)) != nil, "MT1: inside another")
	report(m.group <= rootGroup || m.group >= s.mounts.nextGroup(), "MT2: group %v, the next one is %v", m.group, s.mounts.nextGroup())
	report(m.phase != mountSealed && m.phase != mountServed, "MT2: phase %d", m.phase)
	for _, path := range []string{m.path, quotaPlace(m.path)} {
		n, ok := s.tree.find(path)
		report(!ok || n.kind != Persistent || n.children != 0, "MT3: no persistent znode without children at %s", path)
		report(ok && m.phase == mountServed && n.data != nil, "MT3: data at %s", path)
	}
	report((m.phase == mountServed) != (m.flipped > m.sealed) || m.flipped > s.zxid, "MT4: sealed at %v, flipped at %v, the zxid is %v", m.sealed, m.flipped, s.zxid)
	report(m.sealed > s.zxid, "MT4: sealed at %v, the zxid is %v", m.sealed, s.zxid)
	return errs
}

// servingViolations yields what is wrong with a group that is not the root group. That
// its znodes are below its tops is T1.
func (s *state) servingViolations(yield func(error) bool) {
	switch {
	case !mountable(s.serves.path):
		yield(fmt.Errorf("MT1: %s cannot be a mount point", s.serves.path))
	case !s.mounts.none() || s.mounts.given != 0:
		yield(fmt.Errorf("MT5: group %v, which serves %s, has mounts", s.group, s.serves.path))
	case !slices.Equal(s.tree.tops, s.serves.tops()):
		yield(fmt.Errorf("MT5: group %v, which serves %s, has the tops %q", s.group, s.serves.path, s.tree.tops))
	case s.serves.sealed > s.zxid:
		yield(fmt.Errorf("MT4: sealed at %v, the zxid is %v", s.serves.sealed, s.zxid))
	case s.serves.sealed != 0 && s.tree.nodes.len() != len(s.tree.tops):
		yield(fmt.Errorf("MT5: %d znodes in a group that was sealed when it was empty", s.tree.nodes.len()))
	}
}
