package main

import (
	"testing"

	"coord/examples/internal/exampletest"
)

func TestRun(t *testing.T) {
	exampletest.Prints(t, run, `replica . leads
its process ends
replica . leads
it resigns
replica . leads
`)
}
