package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// names returns the members of a list, and what they say.
func names(list []recipes.Member[string]) string {
	var all []string
	for _, m := range list {
		text := m.Name + "=" + m.Value
		if m.Err != nil {
			text = m.Name + "!"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// observed reads lists in the background.
func observed(ctx context.Context, c coord.Client, path string) (<-chan string, <-chan error) {
	lists := make(chan string, 1000)
	return lists, inBackground(func() error {
		for list, err := range recipes.Members(ctx, c, path, coord.JSON[string]()) {
			if err != nil {
				return err
			}
			lists <- names(list)
		}
		return nil
	})
}

// awaitList reads until there is a list.
func awaitList(t *testing.T, lists <-chan string, want string) {
	t.Helper()
	last := "nothing"
	for {
		select {
		case last = <-lists:
			if last == want {
				return
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("the last list is %q, want %q", last, want)
		}
	}
}

func TestMembers(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, watcher := e.Follower(t.Context()), e.Leader(t.Context())
		ctx, cancel := context.WithCancelCause(t.Context())
		lists, ended := observed(ctx, watcher, "/g")
		if got := <-lists; got != "" {
			t.Errorf("the first list is %q", got)
		}
		a := mustRegister(t, c, "/g/a", "1")
		awaitList(t, lists, "a=1")
		b, err := recipes.Join(ctx, other(e, c), "/g", "2", coord.JSON[string]())
		must(t, err)
		name := strings.TrimPrefix(incarnation(t, b).Path, "/g/")
		awaitList(t, lists, "a=1 "+name+"=2")
		must(t, a.Update(ctx, "3"))
		awaitList(t, lists, "a=3 "+name+"=2")

		// kazoo's Party: what is not ephemeral is nobody. A value that does not decode,
		// and one that may not be read, end nothing.
		_, _, err = c.Create(ctx, "/g/persistent", nil)
		must(t, err)
		_, _, err = c.Create(ctx, "/g/bad", []byte("{"), coord.Ephemeral)
		must(t, err)
		nobody := coord.WithACL(coord.ACL{Perms: coord.PermDelete, ID: coord.ID{Scheme: "world", ID: "anyone"}})
		_, _, err = c.Create(ctx, "/g/hidden", nil, coord.Ephemeral, nobody)
		must(t, err)
		_, _, err = c.Create(ctx, "/g/zz", []byte(`""`), coord.Ephemeral)
		must(t, err)
		awaitList(t, lists, "a=3 bad! hidden! "+name+"=2 zz=")

		// A member that is gone, and the directory with it.
		for _, name := range []string{"bad", "hidden", "persistent", "zz"} {
			must(t, c.Delete(ctx, "/g/"+name))
		}
		must(t, b.Unregister(ctx))
		must(t, a.Unregister(ctx))
		awaitList(t, lists, "")
		eventually(t, "the directory to vanish", func() bool { return children(t, c, "/g") == "none" })
		_, err = recipes.Join(ctx, c, "/g", "4", coord.JSON[string]())
		must(t, err)
		awaitList(t, lists, "member-0000000000=4")
		why := errors.New("enough")
		cancel(why)
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("Members ended with %v", err)
		}
	}, reapsSoon)
}

// A member whose session ends is gone, and back in the next one.
func TestMembersOverSessions(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		lists, _ := observed(t.Context(), other(e, c), "/g")
		r := mustRegister(t, c, "/g/a", "1")
		awaitList(t, lists, "a=1")
		e.Isolate(c)
		awaitList(t, lists, "")
		own, _ := observed(t.Context(), c, "/g") // without a quorum
		awaitList(t, own, "a=1")
		e.Heal()
		awaitList(t, lists, "a=1")
		must(t, r.Unregister(t.Context()))
		awaitList(t, lists, "")
		awaitList(t, own, "")
	})
}

// A reader that is slow skips versions, never the latest, whatever it skips.
func TestMembersSlowReader(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		read := 0
		for list, err := range recipes.Members(t.Context(), c, "/g", coord.JSON[string]()) {
			must(t, err)
			if read++; read == 1 {
				for i := range 100 { // more than its watch holds
					_, _, err := c.Create(t.Context(), fmt.Sprintf("/g/%02d", i), []byte(`"x"`), coord.Ephemeral, coord.WithContainers())
					must(t, err)
				}
				continue
			}
			if len(list) == 100 {
				break
			}
		}
		if read > 3 {
			t.Errorf("%d lists", read)
		}
		noWatches(t, e)
	}, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = 8 }))
}

// A member that was deleted and made anew is another one, also with the same value and
// version (CURATOR-391).
func TestMembersSeeRecreation_CURATOR391(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		_, was, err := c.Create(ctx, "/g/a", []byte(`"x"`), coord.Ephemeral, coord.WithContainers())
		must(t, err)
		first := true
		for list, err := range recipes.Members(ctx, c, "/g", coord.JSON[string]()) {
			must(t, err)
			if first {
				first = false
				_, err := c.Multi(ctx, coord.DeleteOp("/g/a"), coord.CreateOp("/g/a", []byte(`"x"`), coord.Ephemeral))
				must(t, err)
				continue
			}
			if now := list[0].Stat; now.Czxid == was.Czxid || now.Version != was.Version {
				t.Errorf("it is %+v", now)
			}
			break
		}
	})
}

func TestMembersRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		mustLock(t, s, "/lock")
		fails := func(ctx context.Context, c coord.Client, path string, want error) {
			t.Helper()
			errs := []error{}
			for list, err := range recipes.Members(ctx, c, path, coord.JSON[string]()) {
				if list == nil || err != nil {
					errs = append(errs, err)
				}
			}
			if len(errs) == 0 || !errors.Is(errs[len(errs)-1], want) || slices.ContainsFunc(errs[:len(errs)-1], func(err error) bool { return err != nil }) {
				t.Errorf("Members of %q = %v, want %v", path, errs, want)
			}
		}
		for _, path := range badPaths {
			fails(t.Context(), c, path, coord.ErrBadArguments)
		}
		fails(t.Context(), c, "/lock", recipes.ErrOtherRecipe)
		fails(t.Context(), nil, "/g", coord.ErrBadArguments)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		fails(ended, c, "/g", context.Canceled)
		_, err := recipes.Join(ended, c, "/g", "x", coord.JSON[string]())
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Join = %v", err)
		}
		_, end := observed(t.Context(), s, "/g")
		time.Sleep(time.Second)
		must(t, s.Close())
		if err := <-end; !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Members = %v", err)
		}
		fails(t.Context(), s, "/g", coord.ErrClosed)
		e.Stop(c)
		fails(t.Context(), c, "/g", coord.ErrClosed)
		noWatches(t, e)
	})
}
