package main

import (
	"testing"

	"coord/examples/internal/exampletest"
)

func TestRun(t *testing.T) {
	exampletest.Prints(t, run, `bill 7 once more: true
bill 0 is in the hands of one that goes
bill 0 comes for the 2nd time
30 bills were sent, 0 are in the queue
`)
}
