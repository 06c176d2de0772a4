package coord

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"slices"
)

// A View is the tree as it was at one moment: at one zxid, and if there are mounts, at one
// in each of their groups, see [Coordinator.Mount]. It never changes and may be kept and
// read by any number of goroutines; it holds the memory of what has been replaced since.
// The byte slices that it returns are shared with the tree and must not be modified.
//
// What a mount has while this member has no contact with a quorum of its group is not in
// the view: methods that return errors fail with [ErrSuspended] there, others leave it out.
type View struct {
	s          *state        // of the root group
	mounted    []mountedView // in the order of their paths
	identities []ID
	session    SessionID // 0: none
}

// A mountedView is what a view has of one mount.
type mountedView struct {
	m   *mount
	s   *state
	err error // why there is no s
}

// of returns the state that has the znode at path.
func (v *View) of(path string) (*state, error) {
	if len(v.mounted) == 0 {
		return v.s, nil
	}
	server, _ := v.s.serverOf(path)
	for i := range v.mounted {
		if mv := &v.mounted[i]; mv.m.group == server {
			return mv.s, mv.err
		}
	}
	return v.s, nil
}

// states yields those of all groups, the root group's first.
func (v *View) states() iter.Seq[*state] {
	return func(yield func(*state) bool) {
		if !yield(v.s) {
			return
		}
		for i := range v.mounted {
			if s := v.mounted[i].s; s != nil && !yield(s) {
				return
			}
		}
	}
}

// places returns how far the groups are of which there is something in the view.
func (v *View) places() places {
	at := places{whole(v.s.group, v.s.zxid)}
	for i := range v.mounted {
		if s := v.mounted[i].s; s != nil {
			at = at.with(whole(s.group, s.zxid))
		}
	}
	return at
}

// ZXID returns the zxid of the last write that the view reflects. If there are mounts it is
// the least of all groups: each shows every write up to it.
func (v *View) ZXID() ZXID {
	z := v.s.zxid
	for s := range v.states() {
		z = min(z, s.zxid)
	}
	return z
}

// Position returns the place of the view in the order of changes: a watch that
// starts [From] it tells everything that the view does not show.
func (v *View) Position() Position { return positionOf(v.s, v.places()...) }

// Digest returns the checksum of what clients can see at this place. It walks the
// whole tree. Views of the same [View.Position] have the same.
func (v *View) Digest() Digest {
	if len(v.mounted) == 0 {
		return v.s.digest()
	}
	h := sha256.New()
	for s := range v.states() {
		d := s.digest()
		_, _ = h.Write(d[:]) // never fails
	}
	return Digest(h.Sum(nil))
}

// fail returns the error of a method for a path.
func (v *View) fail(op, path string, err error, code Code) error {
	if err == nil {
		err = code.err()
	}
	if err == nil {
		return nil
	}
	return &OpError{Op: op, Path: path, Err: err}
}

// Get returns the data and stat of a znode. It fails with [ErrBadArguments],
// [ErrNoNode] and [ErrNoAuth]. The data must not be modified.
func (v *View) Get(path string) ([]byte, Stat, error) {
	s, err := v.of(path)
	if err != nil {
		return nil, Stat{}, v.fail("get", path, err, codeOK)
	}
	n, code := s.readable(path, v.identities)
	if code != codeOK {
		return nil, Stat{}, v.fail("get", path, nil, code)
	}
	return n.data, n.stat(), nil
}

// Children returns the names of the children of a znode, sorted, and its stat. It
// fails as Get does. The names belong to the caller.
func (v *View) Children(path string) ([]string, Stat, error) {
	s, err := v.of(path)
	if err != nil {
		return nil, Stat{}, v.fail("children", path, err, codeOK)
	}
	names, stat, code := s.children(path, listOptions{}, v.identities)
	return names, stat, v.fail("children", path, nil, code)
}

// ACL returns the access control list of a znode and its stat, as [Session.ACL] does.
// The list belongs to the caller.
func (v *View) ACL(path string) ([]ACL, Stat, error) {
	s, err := v.of(path)
	if err != nil {
		return nil, Stat{}, v.fail("acl", path, err, codeOK)
	}
	list, stat, code := s.aclOf(path, v.identities)
	return list, stat, v.fail("acl", path, nil, code)
}

// AllChildrenNumber returns the number of znodes below path, at any depth, whatever
// their ACLs. It walks them. It fails as Get does, and with [ErrSuspended] if some of it is
// not in the view.
func (v *View) AllChildrenNumber(path string) (int, error) {
	s, err := v.of(path)
	code := codeOK
	n := 0
	if err == nil {
		n, code = s.countBelow(path, v.identities)
	}
	for i := range v.mounted {
		mv := &v.mounted[i]
		for _, top := range []string{mv.m.path, quotaPlace(mv.m.path)} {
			switch {
			case top == path || !inSubtree(path, top):
			case mv.s == nil:
				err = mv.err
			default:
				n += mv.s.countAll(top)
			}
		}
	}
	if err := v.fail("allChildrenNumber", path, err, code); err != nil {
		return 0, err
	}
	return n, nil
}

// Ephemerals returns the paths, of those that start with prefix, of the ephemeral znodes
// of the session whose view this is, sorted. The prefix is one of strings, see
// [Session.Ephemerals]; a view of a [Coordinator] has none.
func (v *View) Ephemerals(prefix string) []string {
	var paths []string
	for s := range v.states() {
		paths = append(paths, s.ephemerals(v.session, prefix)...)
	}
	slices.Sort(paths)
	return paths
}

// ChildrenAfter yields the names of the children of a znode that come behind after,
// whether or not there is a child of that name, in their order; all of them behind the
// empty name. A step costs no more in a znode with a million children than in one with
// ten. Nothing is yielded if there is no znode at path or the reader may not read it;
// [View.Get] tells which.
func (v *View) ChildrenAfter(path, after string) iter.Seq[string] {
	return func(yield func(string) bool) {
		s, err := v.of(path)
		if err != nil {
			return
		}
		if _, code := s.readable(path, v.identities); code != codeOK {
			return
		}
		k, _ := keyOf(path)
		for name := range s.tree.childrenAfter(k, after) {
			if !yield(name) {
				return
			}
		}
	}
}

// A Znode is one step of a [View.Walk].
type Znode struct {
	Path string
	Data []byte // shared: not to be modified
	Stat Stat
}

// Walk yields the znode at path and everything below it that the reader may
// read. A parent comes before its children, and the children of one znode come
// together in the order of their names; what is below a mount point comes right behind
// that. Nothing is yielded if there is no znode at path or the reader may not read it;
// [View.Get] tells which.
func (v *View) Walk(path string) iter.Seq[Znode] {
	return func(yield func(Znode) bool) {
		for path, n := range v.initial(path, Subtree, v.identities) {
			if !yield(Znode{path, n.data, n.stat()}) {
				return
			}
		}
	}
}

// initial yields what a watch tells first: the znodes that it is about and that its
// reader may read, parents before children.
func (v *View) initial(path string, mode WatchMode, identities []ID) iter.Seq2[string, *znode] {
	return func(yield func(string, *znode) bool) {
		s, err := v.of(path)
		if err != nil {
			return
		}
		n, code := s.readable(path, identities)
		if code != codeOK || mode != Children && !yield(path, n) || mode == Node {
			return
		}
		k, _ := keyOf(path)
		if mode == Subtree {
			v.below(s, k, identities, yield)
			return
		}
		for name, n := range s.tree.childrenAfter(k, "") {
			child := joinPath(path, name)
			if n, ok := v.znode(s, child, n); ok && s.permits(n.acl, identities, PermRead) && !yield(child, n) {
				return
			}
		}
	}
}

// below yields what is below a znode of s and may be read, and reports whether yield
// wants more.
func (v *View) below(s *state, k treeKey, identities []ID, yield func(string, *znode) bool) (more bool) {
	for k, n := range s.tree.descendants(k) {
		path := k.path()
		n, ok := v.znode(s, path, n)
		if !ok || !s.permits(n.acl, identities, PermRead) {
			continue
		}
		if !yield(path, n) {
			return false
		}
		if of, err := v.of(path); err == nil && of != s && !v.below(of, k, identities, yield) {
			return false
		}
	}
	return true
}

// znode returns the znode at path, which s has as n unless it is the stub of what is
// mounted there.
func (v *View) znode(s *state, path string, n *znode) (*znode, bool) {
	of, err := v.of(path)
	if err != nil {
		return nil, false
	}
	if of == s {
		return n, true
	}
	return of.tree.find(path)
}

// readable finds a znode for a reader.
func (s *state) readable(path string, identities []ID) (*znode, Code) {
	n, ok := s.tree.find(path)
	switch {
	case !ok && !ValidPath(path):
		return nil, ErrBadArguments
	case !ok:
		return nil, ErrNoNode
	case !s.permits(n.acl, identities, PermRead):
		return nil, ErrNoAuth
	}
	return n, codeOK
}

// aclOf returns the ACL of a znode for a reader, redacted unless the reader may change
// it.
func (s *state) aclOf(path string, identities []ID) ([]ACL, Stat, Code) {
	n, code := s.readable(path, identities)
	if code == ErrNoAuth {
		if m, ok := s.tree.find(path); ok && s.permits(m.acl, identities, PermAdmin) {
			n, code = m, codeOK
		}
	}
	switch {
	case code != codeOK:
		return nil, Stat{}, code
	case !s.permits(n.acl, identities, PermAdmin):
		return redactACL(n.acl.list), n.stat(), codeOK
	}
	return slices.Clone(n.acl.list), n.stat(), codeOK
}

// countBelow returns the number of znodes below path.
func (s *state) countBelow(path string, identities []ID) (int, Code) {
	if _, code := s.readable(path, identities); code != codeOK {
		return 0, code
	}
	return s.countAll(path), codeOK
}

// countAll returns the number of znodes below path, whoever asks.
func (s *state) countAll(path string) int {
	k, _ := keyOf(path)
	return s.tree.countDescendants(k)
}

// children returns a page of the names of the children of a znode.
func (s *state) children(path string, o listOptions, identities []ID) ([]string, Stat, Code) {
	n, code := s.readable(path, identities)
	if code != codeOK {
		return nil, Stat{}, code
	}
	k, _ := keyOf(path)
	size := int(n.children)
	if o.limit > 0 {
		size = min(size, o.limit)
	}
	names := make([]string, 0, size)
	for name := range s.tree.childrenAfter(k, o.after) {
		names = append(names, name)
		if len(names) == o.limit {
			break
		}
	}
	return slices.Clip(names), n.stat(), codeOK
}

// view returns what this member may read now, for a session.
func (s *Session) view(ctx context.Context, o readOptions) (*View, error) {
	for {
		st, err := s.c.root.readable(ctx, o)
		if err != nil {
			return nil, err
		}
		v := &View{s: st, identities: s.ids(), session: s.id}
		if v.mounted, err = s.c.mountedViews(ctx, st, o); !errors.Is(err, errUnmounted) {
			return v, err
		}
	}
}

// mountedViews returns what there is to see of the mounts of the root group's state. It
// fails with errUnmounted if one of them is gone by now, and if ctx ends.
func (c *Coordinator) mountedViews(ctx context.Context, root *state, o readOptions) ([]mountedView, error) {
	var mounted []mountedView
	for m := range root.mounts.all() {
		if m.phase != mountServed {
			continue
		}
		mv := mountedView{m: m}
		g := c.mounted.get(m.group)
		if !o.allowStale {
			if g, mv.err = c.running(ctx, m.group); errors.Is(mv.err, errUnmounted) || ctx.Err() != nil {
				return nil, mv.err
			}
		}
		switch {
		case mv.err != nil:
		case g == nil:
			mv.err = ErrSuspended
		default:
			mv.s, mv.err = g.readable(ctx, o)
		}
		if errors.Is(mv.err, errUnmounted) {
			return nil, mv.err
		}
		mounted = append(mounted, mv)
	}
	return mounted, nil
}

// around returns the view that has s of one group, and of the others what is published.
func (c *Coordinator) around(s *state) *View {
	v := &View{s: s}
	if s.group != c.root.id {
		v.s = c.root.state()
	}
	for m := range v.s.mounts.all() {
		if m.phase != mountServed {
			continue
		}
		mv := mountedView{m: m}
		switch g := c.mounted.get(m.group); {
		case m.group == s.group:
			mv.s = s
		case g != nil && g.hasJoined():
			mv.s = g.state()
		default:
			mv.err = ErrSuspended
		}
		v.mounted = append(v.mounted, mv)
	}
	return v
}
