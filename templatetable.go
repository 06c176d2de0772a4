package coord

import "slices"

// A template says which ACL the znodes get that are created at a path and below. It
// is immutable: an update puts a new one in its place.
type template struct {
	path     string
	list     []ACL     // with auth as it is
	acl      *aclEntry // of list; nil if it has auth, which is another for each creator
	enforced bool      // also for those that name an ACL
}

// A templateTable holds the templates of a group by their paths.
type templateTable struct{ byPath ordered[templateItem] }

// A templateItem is a template under its path, by which it can be looked up without
// making one.
type templateItem struct {
	path string
	t    *template
}

// maxTemplates bounds the templates of a group.
const maxTemplates = 10_000

func newTemplateTable() templateTable {
	return templateTable{byPath: newOrdered(func(a, b templateItem) bool { return a.path < b.path })}
}

func (t *templateTable) freeze() templateTable { return templateTable{t.byPath.freeze()} }

// at returns the template of path itself, or otherwise.
func (t *templateTable) at(path string, otherwise *template) *template {
	if found, ok := t.byPath.get(templateItem{path: path}); ok {
		return found.t
	}
	return otherwise
}

// nearest returns the template of path or of its nearest ancestor that has one, or
// nil.
func (t *templateTable) nearest(path string) *template {
	for t.byPath.len() > 0 {
		if found := t.at(path, nil); found != nil || path == pathRoot {
			return found
		}
		path = parentPath(path)
	}
	return nil
}

// put makes t the template of its path. list must not be changed afterwards.
func (s *state) putTemplate(t template) {
	t.acl = nil
	if !slices.ContainsFunc(t.list, func(a ACL) bool { return a.ID.Scheme == schemeAuth }) {
		t.acl = s.acls.intern(t.list)
	}
	s.templates.byPath.put(templateItem{t.path, &t})
}

// setTemplate sets the template of a path, or removes it if the list is empty.
func (x *execution) setTemplate() result {
	t := *x.r.template
	switch {
	case x.r.identities != nil:
		return x.refused(ErrNoAuth)
	case !ValidPath(t.path):
		return x.refused(ErrBadArguments)
	case len(t.list) == 0:
		x.s.templates.byPath.remove(templateItem{path: t.path})
		x.s.decree()
		return result{zxid: x.s.zxid}
	}
	// For a caller who is auth, auth stays what it is.
	list, code := x.s.settings.normalizeACL(t.list, []ID{{Scheme: schemeAuth}})
	switch {
	case code != codeOK:
		return x.refused(code)
	case x.s.templates.at(t.path, nil) == nil && x.s.templates.byPath.len() >= maxTemplates:
		return x.refused(ErrTooLarge)
	case x.s.growthRefused():
		return x.refused(ErrNoSpace)
	}
	t.list = list
	x.s.putTemplate(t)
	x.s.decree()
	return result{zxid: x.s.zxid}
}

// aclUnder returns the ACL of what is created where t is the nearest template, or
// nil, by an operation that names an ACL, or nil.
func (x *execution) aclUnder(t *template, named *aclEntry) (*aclEntry, Code) {
	switch {
	case named != nil && (t == nil || !t.enforced):
		return named, codeOK
	case t == nil:
		return x.s.defaultACL, codeOK
	case t.acl != nil:
		return t.acl, codeOK
	}
	return x.resolveACL(t.list)
}
