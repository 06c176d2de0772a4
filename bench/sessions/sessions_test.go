package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestTool runs all of it with few sessions.
func TestTool(t *testing.T) {
	var out bytes.Buffer
	err := command(t.Context(), []string{"-sessions", "50", "-closes", "20", "-rounds", "1", "-timeout", "4s", "-idle", "100ms", "-dir", t.TempDir()}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"change of leader, without", "opened 50 sessions", "change of leader, with them", "closed 20 sessions", "owned the other 30"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output says nothing of %q:\n%s", want, out.String())
		}
	}
}

func TestCommandRefuses(t *testing.T) {
	for _, args := range [][]string{{"-sessions", "0"}, {"-sessions", "5", "-closes", "5"}, {"-rounds", "0"}, {"-nonsense"}} {
		if err := command(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
