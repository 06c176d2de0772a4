// Package loopback finds addresses for members that talk to each other on one machine,
// in tests and examples.
package loopback

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports are taken from below those that systems hand out for outgoing connections,
// so that one stays free while its member is down.
const low, high = 10000, 30000

// FreeAddrs returns n addresses that nobody listens on.
func FreeAddrs(n int) ([]string, error) {
	const attempts = 1000
	var addrs []string
	for range attempts {
		if len(addrs) == n {
			return addrs, nil
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(low+rand.IntN(high-low)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // at the end, so that no address is found twice
		addrs = append(addrs, addr)
	}
	return nil, errors.New("found no free loopback ports")
}
