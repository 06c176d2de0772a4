package differ_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/coordtest"

	"coord/conformance/differ"
	"coord/conformance/script"
	"coord/conformance/subject"
)

// TestScripts compares coord with ZooKeeper by the scripts in testdata.
func TestScripts(t *testing.T) {
	pair := newPair(t, 1)
	for name, s := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			traces, err := pair.Run(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if differences := pair.Differences(traces); len(differences) > 0 {
				t.Error(strings.Join(differences, "\n"))
			}
		})
	}
}

// TestDifferences checks that what is known to differ does, as it is written down beside
// the reason. -rewrite writes it down anew.
func TestDifferences(t *testing.T) {
	files, err := filepath.Glob("testdata/differences/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := differ.NewPair(subject.ZooKeeper(t, 1), subject.Coord(t, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			before, want, _ := strings.Cut(string(text), separator)
			s, err := script.Parse(before)
			if err != nil {
				t.Fatal(err)
			}
			traces, err := pair.Run(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(pair.Differences(traces), "\n")
			switch {
			case got == "":
				t.Error("nothing differs")
			case *rewrite:
				if err := os.WriteFile(file, []byte(before+separator+got), 0o644); err != nil {
					t.Fatal(err)
				}
			case got != want:
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

const separator = "----\n"

var rewrite = flag.Bool("rewrite", false, "write down what differs")

// TestRandom compares coord with ZooKeeper by random scripts: a lone member, and three
// whose clients go from one to another.
func TestRandom(t *testing.T) {
	total, kinds := 0, map[string]int{}
	for _, members := range []int{1, 3} {
		// A member that a busy machine keeps from being heard disconnects its clients. Random
		// scripts are many, and have no short timeouts: there is no need to hurry.
		pair := newPair(t, members, coordtest.WithElectionTimeout(5*time.Second))
		pair.Apart = true
		for _, profile := range script.Profiles(members) {
			t.Run(fmt.Sprint(profile.Name, members), func(t *testing.T) {
				done := compareRandom(t, pair, profile, *operations/4)
				total += done.steps
				maps.Copy(kinds, done.kinds)
			})
		}
	}
	t.Logf("%d operations of %d kinds", total, len(kinds))
	const usual, enough = 5000, 30
	if total >= max(usual, *operations) && len(kinds) < enough {
		t.Errorf("%d kinds of operations, want %d: %q", len(kinds), enough, slices.Sorted(maps.Keys(kinds)))
	}
}

// newPair returns a pair of a ZooKeeper and of members of coord. Where these are several,
// ZooKeeper is one server by several names: three members have to answer as if they were
// one. An ensemble of 3.8.0 in its place would not do: it never answers a multi with a null
// path, nor anything that has to be agreed on after it, and now and then no sync.
func newPair(t *testing.T, members int, opts ...coordtest.Option) *differ.Pair {
	t.Helper()
	reference := subject.ZooKeeper(t, 1)
	reference.Addrs = slices.Repeat(reference.Addrs, members)
	pair, err := differ.NewPair(reference, subject.Coord(t, members, opts...), differ.Known)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pair.Close)
	return pair
}
