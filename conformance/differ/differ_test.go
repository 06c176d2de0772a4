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

	"coord/conformance/differ"
	"coord/conformance/script"
	"coord/conformance/subject"
)

// TestSame compares ZooKeeper with itself: whatever differs is a fault of the comparison.
func TestSame(t *testing.T) {
	a, b := subject.ZooKeeper(t, 1), subject.ZooKeeper(t, 1)
	b.Name = "ZooKeeper again"
	pair, err := differ.NewPair(a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	for _, profile := range script.Profiles(1) {
		t.Run(profile.Name, func(t *testing.T) { compareRandom(t, pair, profile, *operations/10) })
	}
	for name, s := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			traces, err := pair.Run(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if differences := pair.Differences(traces); len(differences) > 0 {
				t.Error(strings.Join(differences, "\n"))
			}
			for _, answer := range traces[0] {
				t.Logf("%v\n    %v", answer.Step, strings.ReplaceAll(answer.String(), "\n", "\n    "))
			}
		})
	}
}

// scripts returns the scripts in testdata, by name.
func scripts(t *testing.T) map[string]script.Script {
	t.Helper()
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts: %v", len(files), err)
	}
	all := map[string]script.Script{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := script.Parse(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".script")] = s
	}
	return all
}

// The flags of random comparisons.
var (
	shrinking  = flag.Duration("shrinking", time.Minute, "how long to look for a smaller script that differs")
	operations = flag.Int("operations", 5000, "random operations to compare")
	seed       = flag.Uint64("seed", 1, "what random operations are drawn from")
)

// compareRandom compares random operations, and shrinks the script that differs. It
// returns what was compared.
func compareRandom(t *testing.T, pair *differ.Pair, p script.Profile, operations int) *tally {
	t.Helper()
	const perScript = 40
	done := &tally{kinds: map[string]int{}, answers: map[string]int{}}
	for number := uint64(0); done.steps < operations; number++ {
		s := script.Random(p, *seed, number, perScript)
		traces, err := pair.Run(t.Context(), s)
		if err != nil {
			t.Fatalf("script %d: %v\n%s", number, err, s)
		}
		done.add(traces[0])
		if pair.Diff(traces) == "" {
			continue
		}
		t.Logf("seed %d, script %d:\n%s", *seed, number, pair.Diff(traces))
		deadline := time.Now().Add(*shrinking)
		small := script.Shrink(s, func(s script.Script) bool {
			if time.Now().After(deadline) {
				return false
			}
			difference, err := pair.Compare(t.Context(), s)
			return err == nil && difference != ""
		})
		difference, err := pair.Compare(t.Context(), small)
		t.Fatalf("seed %d, script %d: %v\n%s\nof\n%s", *seed, number, err, difference, small)
	}
	t.Log(done)
	return done
}

// A tally says what was compared.
type tally struct {
	steps   int            // operations, each of a multi not counted by itself
	kinds   map[string]int // how often each kind of operation was carried out, in a multi or not
	answers map[string]int // how often each kind of answer was seen
}

func (c *tally) add(t differ.Trace) {
	for _, answer := range t {
		c.steps++
		c.kinds[answer.Step.Op.Kind]++
		for _, sub := range answer.Step.Op.Ops {
			c.kinds[sub.Kind]++
		}
		for _, line := range answer.Lines {
			words := strings.Fields(line)
			if len(words) > 2 && words[1] == "multi" {
				for _, part := range strings.Split(line, "{")[1:] {
					c.answers["multi: "+strings.Join(strings.Fields(part)[:1], " ")]++
				}
			}
			c.answers[strings.Join(words[1:min(3, len(words))], " ")]++
		}
	}
}

// String returns the tally for people.
func (c *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d operations of %d kinds; answers:", c.steps, len(c.kinds))
	for _, key := range slices.Sorted(maps.Keys(c.answers)) {
		fmt.Fprintf(&b, "\n%6d %s", c.answers[key], key)
	}
	return b.String()
}
