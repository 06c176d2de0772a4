package coord

import (
	"iter"
	"slices"
)

// A View is the tree of one group as it was at one zxid. It never changes and
// may be kept and read by any number of goroutines; it holds the memory of what
// has been replaced since. The byte slices that it returns are shared with the
// tree and must not be modified.
type View struct {
	s          *state
	identities []ID
	session    SessionID // 0: none
}

// ZXID returns the zxid of the last write that the view reflects.
func (v *View) ZXID() ZXID { return v.s.zxid }

// Position returns the place of the view in the order of changes: a watch that
// starts [From] it tells everything that the view does not show.
func (v *View) Position() Position {
	return positionOf(v.s, groupPosition{v.s.group, v.s.zxid, allEvents})
}

// Digest returns the checksum of what clients can see at this zxid. It walks the
// whole tree.
func (v *View) Digest() Digest { return v.s.digest() }

// Get returns the data and stat of a znode. It fails with [ErrBadArguments],
// [ErrNoNode] and [ErrNoAuth]. The data must not be modified.
func (v *View) Get(path string) ([]byte, Stat, error) {
	n, code := v.s.readable(path, v.identities)
	if code != codeOK {
		return nil, Stat{}, &OpError{Op: "get", Path: path, Err: code}
	}
	return n.data, n.stat(), nil
}

// Children returns the names of the children of a znode, sorted, and its stat. It
// fails as Get does. The names belong to the caller.
func (v *View) Children(path string) ([]string, Stat, error) {
	names, stat, code := v.s.children(path, listOptions{}, v.identities)
	if code != codeOK {
		return nil, Stat{}, &OpError{Op: "children", Path: path, Err: code}
	}
	return names, stat, nil
}

// ACL returns the access control list of a znode and its stat, as [Session.ACL] does.
// The list belongs to the caller.
func (v *View) ACL(path string) ([]ACL, Stat, error) {
	list, stat, code := v.s.aclOf(path, v.identities)
	if code != codeOK {
		return nil, Stat{}, &OpError{Op: "acl", Path: path, Err: code}
	}
	return list, stat, nil
}

// AllChildrenNumber returns the number of znodes below path, at any depth, whatever
// their ACLs. It walks them. It fails as Get does.
func (v *View) AllChildrenNumber(path string) (int, error) {
	n, code := v.s.countBelow(path, v.identities)
	if code != codeOK {
		return 0, &OpError{Op: "allChildrenNumber", Path: path, Err: code}
	}
	return n, nil
}

// Ephemerals returns the paths, of those that start with prefix, of the ephemeral znodes
// of the session whose view this is, sorted. The prefix is one of strings, see
// [Session.Ephemerals]; a view of a [Coordinator] has none.
func (v *View) Ephemerals(prefix string) []string { return v.s.ephemerals(v.session, prefix) }

// ChildrenAfter yields the names of the children of a znode that come behind after,
// whether or not there is a child of that name, in their order; all of them behind the
// empty name. A step costs no more in a znode with a million children than in one with
// ten. Nothing is yielded if there is no znode at path or the reader may not read it;
// [View.Get] tells which.
func (v *View) ChildrenAfter(path, after string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if _, code := v.s.readable(path, v.identities); code != codeOK {
			return
		}
		k, _ := keyOf(path)
		for name := range v.s.tree.childrenAfter(k, after) {
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
// together in the order of their names. Nothing is yielded if there is no znode at
// path or the reader may not read it; [View.Get] tells which.
func (v *View) Walk(path string) iter.Seq[Znode] {
	return func(yield func(Znode) bool) {
		n, code := v.s.readable(path, v.identities)
		if code != codeOK || !yield(Znode{path, n.data, n.stat()}) {
			return
		}
		k, _ := keyOf(path)
		for k, n := range v.s.tree.descendants(k) {
			if v.s.permits(n.acl, v.identities, PermRead) && !yield(Znode{k.path(), n.data, n.stat()}) {
				return
			}
		}
	}
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
	k, _ := keyOf(path)
	return s.tree.countDescendants(k), codeOK
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
