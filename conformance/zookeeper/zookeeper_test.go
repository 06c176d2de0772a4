package zookeeper_test

import (
	"net"
	"testing"
	"time"

	"coord/conformance/zookeeper"
)

func TestStart(t *testing.T) {
	for _, servers := range []int{1, 3} {
		began := time.Now()
		e, err := zookeeper.Start(t.Context(), zookeeper.Options{Servers: servers, Dir: t.TempDir(), Quick: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d servers took %v", servers, time.Since(began))
		if n := len(e.Addrs()); n != servers {
			t.Errorf("%d addresses", n)
		}
		e.Stop()
		for _, addr := range e.Addrs() {
			if c, err := net.Dial("tcp", addr); err == nil {
				_ = c.Close()
				t.Errorf("%s still listens", addr)
			}
		}
	}
}
