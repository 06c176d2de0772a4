package coord_test

import (
	"slices"
	"testing"

	"coord"
	"coord/coordtest"
)

// ChildrenAfter yields what Children lists, from any name on, and nothing that the
// reader may not read.
func TestViewChildrenAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/a", "")
		for _, name := range []string{"b", "d", "d0", "c", "b/x"} {
			mustCreate(t, c, "/a/"+name, "")
		}
		mustCreate(t, c, "/secret", "")
		mustCreate(t, c, "/secret/s", "")
		if _, err := c.SetACL(t.Context(), "/secret", []coord.ACL{{Perms: coord.PermAdmin, ID: coord.ID{Scheme: "world", ID: "anyone"}}}); err != nil {
			t.Fatal(err)
		}
		v := mustView(t, c)
		mustCreate(t, c, "/a/later", "")
		for _, test := range []struct {
			path, after string
			want        []string
		}{
			{"/a", "", []string{"b", "c", "d", "d0"}},
			{"/a", "b", []string{"c", "d", "d0"}},
			{"/a", "c5", []string{"d", "d0"}},
			{"/a", "d", []string{"d0"}},
			{"/a", "d0", nil},
			{"/", "a", []string{"secret", "zookeeper"}},
			{"/a/c", "", nil},
			{"/nope", "", nil},
			{"", "", nil},
			{"/secret", "", nil},
		} {
			if got := slices.Collect(v.ChildrenAfter(test.path, test.after)); !slices.Equal(got, test.want) {
				t.Errorf("ChildrenAfter(%q, %q) = %v, want %v", test.path, test.after, got, test.want)
			}
		}
		for name := range v.ChildrenAfter("/a", "b") {
			if name != "c" {
				t.Errorf("the first behind b is %s", name)
			}
			break
		}
	})
}
