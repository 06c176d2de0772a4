package main

import (
	"testing"

	"coord/examples/internal/exampletest"
)

func TestRun(t *testing.T) {
	exampletest.Prints(t, run, `3 members over mutual TLS
ann reads /payroll/ann: 100 coins
ann reads /internal: not allowed by the ACL
ben reads /payroll/ann: not allowed by the ACL
ben reads /internal: not allowed by the ACL
nobody reads /payroll/ann: not allowed by the ACL
nobody reads /internal: not allowed by the ACL
who comes as a member with another authority's certificate: refused
who comes as a member without any: refused
`)
}
