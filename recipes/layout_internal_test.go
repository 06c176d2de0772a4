package recipes

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// What coord reads out of a directory is in the order that the other libraries put it
// in, by their own functions; see testdata/layouts/order.txt.
func TestOrderIsThatOfOtherLibraries(t *testing.T) {
	layouts := map[string]*family{}
	for who, f := range map[string]struct {
		recipe string
		layout Layout
	}{
		"curator:lock-":    {"lock", CuratorLock},
		"kazoo:lock+lock-": {"lock", CuratorLock},
		"curator:rw":       {"lock", CuratorReadWriteLock},
		"curator:latch-":   {"election", CuratorLeaderLatch},
		"kazoo:lock":       {"election", KazooLock},
		"kazoo:write":      {"lock", KazooLock},
		"kazoo:read":       {"lock", KazooLock},
	} {
		var err error
		if layouts[who], err = familyOf(f.recipe, f.layout); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("testdata/layouts/order.txt")
	if err != nil {
		t.Fatal(err)
	}
	names, compared := map[string][]string{}, map[string]int{}
	for text := range strings.Lines(string(data)) {
		switch words := strings.Fields(text); {
		case len(words) > 2 && words[0] == "names":
			names[words[1]] = words[2:]
		case len(words) > 2 && words[0] == "order":
			who, f := words[2], layouts[words[2]]
			if f == nil {
				t.Fatalf("the order of %s is not compared", who)
			}
			theirs, ours := words[3:], f.order(names[words[1]])
			common := func(of, in []string) []string {
				return slices.DeleteFunc(slices.Clone(of), func(name string) bool {
					e, ok := f.parse("/", name)
					return !ok || e.seq < 0 || !slices.Contains(in, name)
				})
			}
			if got, want := common(ours, theirs), common(theirs, ours); !slices.Equal(got, want) {
				t.Errorf("case %s, %s:\n%q\nis their order, ours\n%q", words[1], who, want, got)
			} else if len(got) > 1 {
				compared[who]++
			}
		}
	}
	for who := range layouts {
		if compared[who] == 0 {
			t.Errorf("no order of %s is compared", who)
		}
	}
}

// order returns the names of a family in its order.
func (f *family) order(names []string) []string {
	var all []entrant
	for _, name := range names {
		if e, ok := f.parse("/", name); ok {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, f.compare)
	var order []string
	for _, e := range all {
		order = append(order, path.Base(e.path))
	}
	return order
}
