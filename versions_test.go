package coord_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"coord"
	"coord/coordtest"
	"coord/internal/private"
)

// inVersion1 has an ensemble start as one of an older binary has.
func inVersion1() coordtest.Option {
	return coordtest.WithConfig(func(c *coord.Config) { coord.StartIn(c, 1) })
}

// TestNewEnsemblesStartWithTheNewestVersion asks one what is in force.
func TestNewEnsemblesStartWithTheNewestVersion(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	v, err := c.Versions(t.Context())
	if err != nil || v.Active != coord.NewestFormat || len(v.Members) != 1 {
		t.Errorf("Versions = %+v, %v, want version %d in force and one member", v, err, coord.NewestFormat)
	}
	if st := c.Status(); st.FormatVersion != coord.NewestFormat || st.OldestFormat != coord.OldestFormat || st.NewestFormat != coord.NewestFormat {
		t.Errorf("Status = %+v, want version %d in force, and %d to %d", st, coord.NewestFormat, coord.OldestFormat, coord.NewestFormat)
	}
	if err := c.ActivateVersion(t.Context(), coord.NewestFormat); err != nil {
		t.Errorf("ActivateVersion of what is in force = %v", err)
	}
}

// TestActivateVersion raises the version of an ensemble that an older binary has
// started, with one member down at first, and restarts it from the log and a snapshot.
func TestActivateVersion(t *testing.T) {
	var log lockedBuffer
	e := coordtest.NewEnsemble(t, 3, inVersion1(), coordtest.WithConfig(func(c *coord.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}))
	a := e.Member(1)
	mustCreate(t, a, "/before", "x")
	if !strings.Contains(log.String(), "a newer format version can be activated") || strings.Contains(log.String(), "msg=audit") {
		t.Errorf("the log does not say that a version can be activated, or says that one was:\n%s", log.String())
	}
	for name, v := range map[string]coord.FormatVersion{"none": 0, "the next": coord.NewestFormat + 1} {
		if err := a.ActivateVersion(t.Context(), v); !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), "1 to 2") {
			t.Errorf("ActivateVersion of %s = %v, want ErrBadArguments and what can be", name, err)
		}
	}

	down := e.Member(3)
	e.Stop(down)
	err := a.ActivateVersion(t.Context(), 2)
	if !errors.Is(err, coord.ErrVersionRefused) || !strings.Contains(err.Error(), "member 3 has not answered") {
		t.Errorf("ActivateVersion with a member down = %v, want ErrVersionRefused and the member", err)
	}
	if v, err := a.Versions(t.Context()); err != nil || v.Active != 1 || v.Members[2].Err == nil || v.Members[1].Newest != 2 {
		t.Errorf("Versions with a member down = %+v, %v", v, err)
	}
	e.Restart(down)
	if err := a.ActivateVersion(t.Context(), 2); err != nil {
		t.Fatalf("ActivateVersion = %v", err)
	}
	if err := e.Member(2).ActivateVersion(t.Context(), 1); !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), "2 is in force") {
		t.Errorf("ActivateVersion of a version that has been followed = %v, want ErrBadArguments", err)
	}
	if !strings.Contains(log.String(), `act="activate format version" outcome=ok version=2`) ||
		!strings.Contains(log.String(), `act="activate format version" outcome=failed version=2`) {
		t.Errorf("the audit log lacks an activation or its refusal:\n%s", log.String())
	}
	mustCreate(t, a, "/after", "y")
	for i := range 3 {
		c := e.Member(i + 1)
		if i == 1 {
			if err := private.Snapshot(c); err != nil {
				t.Fatal(err)
			}
		}
		e.Stop(c)
		c = e.Restart(c)
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Sync(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		v, err := c.Versions(t.Context())
		want := []coord.MemberVersions{{Member: 1, Oldest: 1, Newest: 2}, {Member: 2, Oldest: 1, Newest: 2}, {Member: 3, Oldest: 1, Newest: 2}}
		if err != nil || v.Active != 2 || !slices.Equal(v.Members, want) {
			t.Errorf("Versions of member %d, started again = %+v, %v", i+1, v, err)
		}
	}
}

// TestActivateVersionOfAClosedMember asks one that is gone.
func TestActivateVersionOfAClosedMember(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, inVersion1())
	c := e.Member(1)
	e.Stop(c)
	if err := c.ActivateVersion(t.Context(), 2); !errors.Is(err, coord.ErrClosed) {
		t.Errorf("ActivateVersion = %v, want ErrClosed", err)
	}
	if v, err := c.Versions(t.Context()); !errors.Is(err, coord.ErrClosed) {
		t.Errorf("Versions = %+v, %v, want ErrClosed", v, err)
	}
}

// TestActivateVersionConcurrently has all members do it at once.
func TestActivateVersionConcurrently(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, inVersion1())
	var all sync.WaitGroup
	for _, c := range e.Running() {
		all.Go(func() {
			if err := c.ActivateVersion(t.Context(), 2); err != nil {
				t.Errorf("ActivateVersion on member %v = %v", c.Status().Member, err)
			}
			if v := c.Status().FormatVersion; v != 2 {
				t.Errorf("version %d is in force on member %v behind ActivateVersion", v, c.Status().Member)
			}
		})
	}
	all.Wait()
}
