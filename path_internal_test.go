package coord

import (
	"slices"
	"strings"
	"testing"
)

func TestValidPath(t *testing.T) {
	for _, c := range []struct {
		path  string
		fault string // part of it; empty if the path is valid
	}{
		{"/", ""},
		{"/a", ""},
		{"/a/b", ""},
		{"/...", ""},
		{"/.x", ""},
		{"/a..b", ""},
		{"/x.", ""},
		{"/ ", ""},
		{"/~", ""},
		{"/\u00a0", ""},
		{"/\ud7ff", ""},
		{"/\uf900", ""},
		{"/\uffef", ""},
		{"/" + strings.Repeat("x", 4095), ""},
		{"", "empty"},
		{"a", "does not start with a slash"},
		{"a/b", "does not start with a slash"},
		{"/a/", "ends with a slash"},
		{"//", "ends with a slash"},
		{"//a", "empty component"},
		{"/a//b", "empty component"},
		{"/.", `relative component "."`},
		{"/..", `relative component ".."`},
		{"/a/.", `relative component "."`},
		{"/a/../b", `relative component ".."`},
		{"/./a", `relative component "."`},
		{"/\x00", "control character"},
		{"/a\x1fb", "control character"},
		{"/\x7f", "control character"},
		{"/\u0080", "control character"},
		{"/\u009f", "control character"},
		{"/\ue000", `'\ue000'`},
		{"/\uf8ff", `'\uf8ff'`},
		{"/\ufff0", `'\ufff0'`},
		{"/\ufffd", `'\ufffd'`},
		{"/\uffff", `'\uffff'`},
		{"/\U00010000", `'\U00010000'`},
		{"/\xff", "not valid UTF-8"},
		{"/\xc0\xaf", "not valid UTF-8"},
		{"/\xed\xa0\x80", "not valid UTF-8"},
		{"/a\xc3", "not valid UTF-8"},
		{"/" + strings.Repeat("x", 4096), "4097 bytes, the limit is 4096"},
	} {
		fault := pathFault(c.path)
		if (fault == "") != (c.fault == "") || !strings.Contains(fault, c.fault) {
			t.Errorf("pathFault(%.20q) = %q, want %q in it", c.path, fault, c.fault)
		}
		if got, want := ValidPath(c.path), c.fault == ""; got != want {
			t.Errorf("ValidPath(%.20q) = %v, want %v", c.path, got, want)
		}
		if got := modelPathOK(c.path); got != (c.fault == "") {
			t.Errorf("modelPathOK(%.20q) = %v: the model is wrong", c.path, got)
		}
	}
}

// TestTreeKey shows the order that keys give to paths.
func TestTreeKey(t *testing.T) {
	paths := []string{ // in order
		"/", "/!", "/a", "/a!", "/ab", "/b", "/a/a", "/a/b", "/a/b/c", "/a!/x", "/ab/x", "/b/x",
	}
	var last treeKey
	for i, p := range paths {
		k, ok := keyOf(p)
		if !ok || k.path() != p {
			t.Errorf("keyOf(%q) = %q, %v, which is the path %q", p, k, ok, k.path())
		}
		if i > 0 && k <= last {
			t.Errorf("%q does not sort behind %q", p, paths[i-1])
		}
		last = k
		var below []string
		from, to := k.subtree()
		for _, q := range paths {
			if kq, _ := keyOf(q); from <= kq && kq < to {
				below = append(below, q)
			}
		}
		want := slices.DeleteFunc(slices.Clone(paths), func(q string) bool {
			return q == "/" || p != "/" && !strings.HasPrefix(q, p+"/")
		})
		if !slices.Equal(below, want) {
			t.Errorf("below %q are %q, want %q", p, below, want)
		}
	}
	for _, p := range []string{"", "a", "/\x00", "/a\x01b", "/" + strings.Repeat("x", 4096)} {
		if k, ok := keyOf(p); ok {
			t.Errorf("keyOf(%.20q) = %q, want none", p, k)
		}
	}
}

func TestChildrenAfter(t *testing.T) {
	s := newTestState()
	for _, p := range []string{"/p", "/p/b", "/p/a", "/p/c", "/p/b/x", "/p!", "/pa"} {
		applyRequests(s, writeOf(op{kind: opCreate, path: p}))
	}
	for _, c := range []struct {
		path, after string
		want        []string
	}{
		{"/p", "", []string{"a", "b", "c"}},
		{"/p", "a", []string{"b", "c"}},
		{"/p", "aa", []string{"b", "c"}},
		{"/p", "c", nil},
		{"/p", "\x00", []string{"a", "b", "c"}},
		{"/p/b", "", []string{"x"}},
		{"/p/a", "", nil},
		{"/", "", []string{"p", "p!", "pa", "zookeeper"}},
		{"/", "p", []string{"p!", "pa", "zookeeper"}},
	} {
		k, _ := keyOf(c.path)
		var got []string
		for name, n := range s.tree.childrenAfter(k, c.after) {
			if n == nil {
				t.Errorf("child %q of %q has no znode", name, c.path)
			}
			got = append(got, name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("children of %q after %q = %q, want %q", c.path, c.after, got, c.want)
		}
	}
	if got := s.tree.countDescendants(""); got != 10 {
		t.Errorf("the root has %d descendants, want 10", got)
	}
}
