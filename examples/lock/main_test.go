package main

import (
	"testing"

	"coord/examples/internal/exampletest"
)

func TestRun(t *testing.T) {
	exampletest.Prints(t, run, `30 transfers by 3 replicas: ann has 70, ben has 30
`)
}
