package main

import (
	"bytes"
	"testing"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	const want = `all are well: 127.0.0.1:8081 127.0.0.1:8082 127.0.0.1:8083 127.0.0.1:8081
host-2 is not: 127.0.0.1:8081 127.0.0.1:8083 127.0.0.1:8081 127.0.0.1:8083
host-2 is again: 127.0.0.1:8081 127.0.0.1:8082 127.0.0.1:8083 127.0.0.1:8081
host-2 has unregistered: 127.0.0.1:8081 127.0.0.1:8083 127.0.0.1:8081 127.0.0.1:8083
host-3 has gone home: 127.0.0.1:8081 127.0.0.1:8081 127.0.0.1:8081 127.0.0.1:8081
`
	if out.String() != want {
		t.Errorf("it prints\n%swant\n%s", out.String(), want)
	}
}
