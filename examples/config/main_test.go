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
	if want := `^version 2: level info, timeout 1s, 2 banned\nversion 3: level debug, timeout 1s, 2 banned\nversion 4 is not settings\n$`; !regexp.MustCompile(want).MatchString(out.String()) {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
