package coord_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"coord"
	"coord/coordtest"
	"coord/internal/private"
)

func aclOf(t *testing.T, c coord.Client, path string) []coord.ACL {
	t.Helper()
	list, _, err := c.ACL(t.Context(), path, coord.Linearizable())
	if err != nil {
		t.Fatalf("ACL(%s) = %v", path, err)
	}
	return list
}

// TestTemplatesAreOfTheEnsemble sets a template on one member, which holds for a create
// that comes behind it on any other, and after restarts from log and snapshot.
func TestTemplatesAreOfTheEnsemble(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	a := e.Member(1)
	mustCreate(t, a, "/app", "", coord.WithACL(coord.OpenACL()...))
	list := append(coord.CreatorAllACL(), coord.ReadOnlyACL()...)
	if err := a.SetACLTemplate(t.Context(), "/app", list, coord.Enforced()); err != nil {
		t.Fatal(err)
	}
	list[0].Perms = 0 // it was copied
	ann := coord.ID{Scheme: "x509", ID: "CN=ann"}
	want := []coord.ACL{{Perms: coord.PermAll, ID: ann}, coord.ReadOnlyACL()[0]}
	for round, name := range []string{"log", "snapshot"} {
		for i := range 3 {
			s := external(t, e.Member(i+1), ann)
			path, _ := mustCreate(t, s, "/app/n", "", coord.PersistentSequential, coord.WithACL(coord.OpenACL()...))
			if got := aclOf(t, s, path); !slices.Equal(got, want) {
				t.Errorf("%s has the ACL %v, want %v", path, got, want)
			}
		}
		if _, _, err := external(t, a).Create(t.Context(), "/app/n", nil, coord.WithACL(coord.OpenACL()...)); !errors.Is(err, coord.ErrInvalidACL) {
			t.Errorf("Create by nobody = %v, want ErrInvalidACL", err)
		}
		e.Converged(t.Context())
		for _, m := range e.Running() {
			if round == 1 {
				if err := private.Snapshot(m); err != nil {
					t.Fatal(err)
				}
			}
			e.Kill(m)
		}
		for i := range 3 {
			e.Restart(e.Member(i + 1))
		}
		a = e.Member(1)
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		all, err := a.ACLTemplates(t.Context())
		if err != nil || len(all) != 1 || all[0].Path != "/app" || !all[0].Enforced || !slices.Equal(all[0].ACL, append(coord.CreatorAllACL(), coord.ReadOnlyACL()...)) {
			t.Errorf("after a restart from the %s: ACLTemplates = %+v, %v", name, all, err)
		}
		all[0].ACL[0].Perms = 0 // the caller's
	}
	if err := a.SetACLTemplate(t.Context(), "/app", nil); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, e.Member(2), "/app/open", "", coord.WithACL(coord.OpenACL()...))
	if got := aclOf(t, a, "/app/open"); !slices.Equal(got, coord.OpenACL()) {
		t.Errorf("without a template: ACL %v, want the one that was named", got)
	}
	if all, err := a.ACLTemplates(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("ACLTemplates = %v, %v, want none", all, err)
	}
}

func TestBadTemplates(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	long := coord.ACL{Perms: 1, ID: coord.ID{Scheme: "x509", ID: "CN=" + strings.Repeat("a", 1024)}}
	for _, test := range []struct {
		path string
		list []coord.ACL
		want error
		says string
	}{
		{"app", coord.OpenACL(), coord.ErrBadArguments, "slash"},
		{"/app/", nil, coord.ErrBadArguments, "slash"},
		{"/app", []coord.ACL{{Perms: 1, ID: coord.ID{Scheme: "world", ID: "bob"}}}, coord.ErrInvalidACL, "/app"},
		{"/app", []coord.ACL{long}, coord.ErrInvalidACL, "1027 bytes, the limit is 1024"},
		{"/app", slices.Repeat(coord.OpenACL(), 1025), coord.ErrInvalidACL, "1025 entries, the limit is 1024"},
	} {
		if err := c.SetACLTemplate(t.Context(), test.path, test.list); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("SetACLTemplate(%q, %d entries) = %v, want %v that says %q", test.path, len(test.list), err, test.want, test.says)
		}
	}
}
