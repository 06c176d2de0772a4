package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTool(t *testing.T) {
	var out bytes.Buffer
	err := command(t.Context(), []string{"-znodes", "50", "-updates", "10", "-callers", "4", "-busy", "100ms", "-dir", t.TempDir()}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"50 znodes", "loaded 50 entries", "one update at a time", "4 callers"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output says nothing of %q:\n%s", want, out.String())
		}
	}
}

func TestCommandRefuses(t *testing.T) {
	for _, args := range [][]string{{"-znodes", "0"}, {"-updates", "0"}, {"-callers", "0"}, {"-nonsense"}} {
		if err := command(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
