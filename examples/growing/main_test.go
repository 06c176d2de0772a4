package main

import (
	"testing"

	"coord/examples/internal/exampletest"
)

func TestRun(t *testing.T) {
	exampletest.Prints(t, run, `member 1 has written /greeting
member 2 has joined and votes
member 3 has joined and votes
member 1 was removed
member 3 reads /greeting: hello
`)
}
