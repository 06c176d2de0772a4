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
	if want := `^30 transfers by 3 replicas: ann has 70, ben has 30\n$`; !regexp.MustCompile(want).MatchString(out.String()) {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
