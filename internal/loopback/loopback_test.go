package loopback_test

import (
	"net"
	"slices"
	"testing"

	"coord/internal/loopback"
)

func TestFreeAddrs(t *testing.T) {
	addrs, err := loopback.FreeAddrs(20)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("nobody can listen: %v", err)
			continue
		}
		_ = l.Close()
	}
	slices.Sort(addrs)
	if n := len(slices.Compact(addrs)); n != 20 {
		t.Errorf("%d different addresses, want 20", n)
	}
}
