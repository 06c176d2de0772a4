package main

import (
	"strings"
	"testing"
	"time"
)

// TestMeasures runs all of it for a moment: what it prints has every group and figure.
func TestMeasures(t *testing.T) {
	var out strings.Builder
	p := plan{groups: []int{1, 2}, shards: []int{1}, callers: 4, duration: 50 * time.Millisecond, idle: 50 * time.Millisecond, rounds: 1, dir: t.TempDir()}
	if err := p.execute(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"nothing mounted", "1 groups: ", "2 groups: ", "beside one that is saturated", "a batcher, 2 groups: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

func TestNumbers(t *testing.T) {
	if got, err := numbers("1,4", 1, 4); err != nil || len(got) != 2 || got[1] != 4 {
		t.Errorf("numbers = %v, %v", got, err)
	}
	for _, list := range []string{"", "x", "0", "5", "1,,2"} {
		if _, err := numbers(list, 1, 4); err == nil {
			t.Errorf("numbers(%q) is taken", list)
		}
	}
}
