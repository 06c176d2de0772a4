package main

import (
	"testing"

	"coord/examples/internal/exampletest"
)

func TestRun(t *testing.T) {
	exampletest.Prints(t, run, `all are well: 127.0.0.1:8081 127.0.0.1:8082 127.0.0.1:8083 127.0.0.1:8081
host-2 is not: 127.0.0.1:8081 127.0.0.1:8083 127.0.0.1:8081 127.0.0.1:8083
host-2 is again: 127.0.0.1:8081 127.0.0.1:8082 127.0.0.1:8083 127.0.0.1:8081
host-2 has unregistered: 127.0.0.1:8081 127.0.0.1:8083 127.0.0.1:8081 127.0.0.1:8083
host-3 has gone home: 127.0.0.1:8081 127.0.0.1:8081 127.0.0.1:8081 127.0.0.1:8081
`)
}
