package main

import (
	"regexp"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("opens three members")
	}
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if want := `^bill 7 once more: true\nbill 0 is in the hands of one that goes\nbill 0 comes for the 2nd time\n30 bills were sent, 0 are in the queue\n$`; !regexp.MustCompile(want).MatchString(out.String()) {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
