package script_test

import (
	"reflect"
	"slices"
	"testing"

	"coord/conformance/script"
)

// TestRandom checks that what is drawn can be written down and read again, and that the
// kinds of operations are many.
func TestRandom(t *testing.T) {
	kinds := map[string]bool{}
	for _, p := range script.Profiles(1) {
		for i := range uint64(200) {
			s := script.Random(p, 1, i, 50)
			parsed, err := script.Parse(s.String())
			if err != nil {
				t.Fatalf("%v\n%s", err, s)
			}
			if parsed.String() != s.String() {
				t.Fatalf("got\n%swant\n%s", parsed, s)
			}
			if again := script.Random(p, 1, i, 50); !reflect.DeepEqual(s, again) {
				t.Fatal("the same seed draws another script")
			}
			for _, step := range s {
				kinds[step.Op.Kind] = true
				for _, sub := range step.Op.Ops {
					kinds[step.Op.Kind+" "+sub.Kind] = true
				}
			}
		}
	}
	if len(kinds) < 40 {
		t.Errorf("%d kinds: %v", len(kinds), kinds)
	}
}

func TestShrink(t *testing.T) {
	fails := func(s script.Script) bool {
		return slices.ContainsFunc(s, func(s script.Step) bool { return s.Op.Kind == "setData" && s.Op.Data == "x" })
	}
	for i := range uint64(50) {
		s := script.Random(script.Profiles(1)[0], 2, i, 50)
		if !fails(s) {
			continue
		}
		small := script.Shrink(s, fails)
		if len(small) != 1 || small[0].Op.Path != "" || small[0].Op.Version != 0 {
			t.Errorf("got %v", small)
		}
	}
}
