package coord

import (
	"fmt"
	"strings"
	"testing"
)

// TestTemplatesHaveALimit fills the table.
func TestTemplatesHaveALimit(t *testing.T) {
	s := newTestState()
	for i := range maxTemplates {
		s.putTemplate(template{path: fmt.Sprintf("/t%d", i), list: OpenACL()})
	}
	set := func(path string, list []ACL) request {
		return request{kind: requestSetTemplate, template: &template{path: path, list: list}}
	}
	results, _ := applyRequests(s, set("/one too many", OpenACL()), set("/t7", ReadOnlyACL()), set("/t8", nil), set("/one too many", OpenACL()))
	for i, want := range []Code{ErrTooLarge, codeOK, codeOK, codeOK} {
		if results[i].code != want {
			t.Errorf("request %d: %v, want %v", i, results[i].code, want)
		}
	}
}

// TestTemplatesShareEntries sees that what is created below a template has one ACL, and
// that the entry of a template that no znode has yet is not forgotten.
func TestTemplatesShareEntries(t *testing.T) {
	s := newTestState()
	list := []ACL{{PermAll, member}, {PermRead, ID{schemeUser, "eve"}}}
	applyRequests(s, request{kind: requestSetTemplate, template: &template{path: "/a", list: list}})
	applyRequests(s, writeOf(op{kind: opCreate, path: "/a/b/c", parents: persistentParents}), writeOf(op{kind: opCreate, path: "/d", acl: list}))
	want := s.templates.nearest("/a/x").acl
	for _, path := range []string{"/a", "/a/b", "/a/b/c", "/d"} {
		if n, ok := s.tree.find(path); !ok || n.acl != want {
			t.Errorf("%s has another entry", path)
		}
	}
}

// BenchmarkDeepTemplates creates a path of many parents, and finds the templates of all
// of them in one walk.
func BenchmarkDeepTemplates(b *testing.B) {
	path := strings.Repeat("/d", 2000)
	for _, templates := range []int{0, maxTemplates} {
		b.Run(fmt.Sprint(templates), func(b *testing.B) {
			s := newTestState()
			for i := range templates {
				s.putTemplate(template{path: fmt.Sprintf("/t%d", i), list: OpenACL()})
			}
			for b.Loop() {
				c := s.freeze()
				applyRequests(c, writeOf(op{kind: opCreate, path: path, parents: persistentParents}))
			}
		})
	}
}
