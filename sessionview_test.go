package coord_test

import (
	"fmt"
	"slices"
	"testing"

	"coord"
	"coord/coordtest"
)

// TestViewShowsSessions has the code of the ensemble see all sessions, as they were at
// the zxid of the view, and nobody else any.
func TestViewShowsSessions(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	ctx := t.Context()
	outside, err := c.NewSession(ctx, coord.SessionOptions{External: true, Timeout: 20e9})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Create(ctx, "/open", nil, coord.WithACL(coord.OpenACL()...)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/open/b", "/open/a"} {
		if _, _, err := outside.Create(ctx, path, nil, coord.Ephemeral, coord.WithACL(coord.OpenACL()...)); err != nil {
			t.Fatal(err)
		}
	}
	v, err := c.View(ctx)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := outside.View(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := outside.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for s := range v.Sessions() {
		if s.External {
			got = append(got, fmt.Sprint(s.ID == outside.ID(), s.Timeout, s.Ephemerals, slices.Collect(v.EphemeralsOf(s.ID))))
		}
	}
	if want := []string{"true 20s 2 [/open/a /open/b]"}; !slices.Equal(got, want) || v.EphemeralCount() != 2 {
		t.Errorf("external sessions %q with %d ephemerals, want %q with 2", got, v.EphemeralCount(), want)
	}
	if n := theirs.EphemeralCount(); n != 0 {
		t.Errorf("a client sees that there are %d ephemerals", n)
	}
	for s := range theirs.Sessions() {
		t.Errorf("a client sees session %v", s.ID)
	}
	for path := range theirs.EphemeralsOf(outside.ID()) {
		t.Errorf("a client sees %s as an ephemeral of a session", path)
	}
}

func TestWatchSetRegistrations(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	ws, err := c.NewWatchSet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	v, err := c.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []coord.Registration{
		{Path: "/a", Type: coord.ChildrenWatcher},
		{Path: "/a", Type: coord.DataWatcher},
		{Path: "/b", Type: coord.PersistentWatcher},
		{Path: "/c", Type: coord.PersistentRecursiveWatcher},
	}
	if err := ws.Add(v, want...); err != nil {
		t.Fatal(err)
	}
	got := ws.Registrations(10)
	slices.SortFunc(got, func(a, b coord.Registration) int {
		return slices.Compare([]string{a.Path, a.Type.String()}, []string{b.Path, b.Type.String()})
	})
	if !slices.Equal(got, want) {
		t.Errorf("registrations %v, want %v", got, want)
	}
	if n := len(ws.Registrations(3)); n != 3 {
		t.Errorf("%d registrations, the limit is 3", n)
	}
}
