package recipes_test

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// recordedZnodes makes the znodes of a case that was recorded of other libraries. It returns
// what the first of those who asked was answered.
func recordedZnodes(t *testing.T, c coord.Client, file, name string) (says string) {
	t.Helper()
	text, err := os.ReadFile("testdata/layouts/" + file)
	must(t, err)
	in := false
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[0] == "case":
			in = words[1] == name
		case in && len(words) == 7 && words[0] == "node":
			data, err := strconv.Unquote(words[3])
			must(t, err)
			mode := map[string]coord.CreateMode{"persistent": coord.Persistent, "ephemeral": coord.Ephemeral, "container": coord.Container}[words[2]]
			_, _, err = c.Create(t.Context(), words[1], []byte(data), mode)
			must(t, err)
		case in && len(words) > 2 && words[0] == "says" && says == "":
			says = strings.Join(words[2:], " ")
		}
	}
	return says
}

// A Party of kazoo is listed as kazoo lists it, and joined as kazoo joins it.
func TestKazooParty(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c, o := t.Context(), e.Follower(t.Context()), e.Leader(t.Context())
		want := recordedZnodes(t, o, "party.txt", "party")
		lists := make(chan string, 100)
		go func() {
			for list, err := range recipes.Members(ctx, o, "/party/p", coord.Raw()) {
				if err != nil {
					return
				}
				var all []string
				for _, m := range list {
					all = append(all, string(m.Value))
				}
				lists <- strings.Join(all, " ")
			}
		}()
		if got := <-lists; got != want || got != "id-of-a id-of-b" {
			t.Errorf("members %s, want %s", got, want)
		}
		join := func(path string) *recipes.Registration[[]byte] {
			t.Helper()
			r, err := recipes.Join(ctx, c, path, []byte("id-of-c"), coord.Raw(), recipes.JoinLayout(recipes.KazooParty))
			must(t, err)
			return r
		}
		r := join("/party/p")
		was, err := r.Registered(ctx)
		must(t, err)
		if !regexp.MustCompile("^/party/p/[0-9a-f]{32}__party__$").MatchString(was.Path) || value(t, o, was.Path) != "id-of-c" {
			t.Errorf("joined as %s with %s", was.Path, value(t, o, was.Path))
		}
		if got := <-lists; strings.Count(got, "id-of-") != 3 {
			t.Errorf("members %s", got)
		}
		expire(t, e, c)
		now, err := r.Registered(ctx)
		must(t, err)
		if now.Path != was.Path || now.Generation <= was.Generation {
			t.Errorf("it was %+v, and is %+v", was, now)
		}
		must(t, r.Unregister(ctx))
		if got := children(t, o, "/party/p"); strings.Count(got, "__party__") != 2 {
			t.Errorf("left: %s", got)
		}

		// kazoo does not make directories anew.
		r = join("/new/p")
		must(t, r.Unregister(ctx))
		time.Sleep(time.Minute)
		if got := children(t, o, "/new/p"); got != "" {
			t.Errorf("in the directory: %s", got)
		}
		if _, err := recipes.Register(ctx, c, "/x", nil, coord.Raw(), recipes.JoinLayout(recipes.KazooParty)); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Register in a layout of Join's = %v", err)
		}
		if _, err := recipes.Join(ctx, c, "/x", nil, coord.Raw(), recipes.JoinLayout(recipes.KazooLock)); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Join in a layout of locks = %v", err)
		}
	}, reapsSoon)
}
