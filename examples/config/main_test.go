package main

import (
	"testing"

	"coord/examples/internal/exampletest"
)

func TestRun(t *testing.T) {
	exampletest.Prints(t, run, `version 2: level info, timeout 1s, 2 banned
version 3: level debug, timeout 1s, 2 banned
version 4 is not settings
`)
}
