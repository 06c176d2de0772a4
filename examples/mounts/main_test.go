package main

import (
	"testing"

	"coord/examples/internal/exampletest"
)

func TestRun(t *testing.T) {
	exampletest.Prints(t, run, `/jobs has a group of its own
/settings has a group of its own
member 2 is told: NodeDataChanged /settings
member 2 sees /jobs ""
member 2 sees /jobs/1 "sweep"
a multi across mounts is refused: true
/settings is back, with v2
`)
}
