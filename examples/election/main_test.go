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
	if want := `^replica . leads\nits process ends\nreplica . leads\nit resigns\nreplica . leads\n$`; !regexp.MustCompile(want).MatchString(out.String()) {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
