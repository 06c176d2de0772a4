// Package ensemble opens an ensemble for an example: several members in one process,
// over loopback and in a temporary directory. A real service opens one member in each
// of its replicas.
package ensemble

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"coord"
)

// Open opens n members that are ready. What it returns closes those that are open and
// removes their directory.
func Open(ctx context.Context, n int) (_ []*coord.Coordinator, closeAll func() error, err error) {
	dir, err := os.MkdirTemp("", "coord-example-")
	if err != nil {
		return nil, nil, err
	}
	var opened []*coord.Coordinator
	closeAll = func() error {
		var errs []error
		for _, c := range opened {
			errs = append(errs, c.Close())
		}
		return errors.Join(append(errs, os.RemoveAll(dir))...)
	}
	members, err := freeMembers(n)
	for i := 0; i < n && err == nil; i++ {
		var c *coord.Coordinator
		c, err = coord.Open(ctx, coord.Config{
			ID: members[i].ID, InitialMembers: members, Dir: filepath.Join(dir, members[i].ID.String()),
			ElectionTimeout: 500 * time.Millisecond, // the machine is not shared with much else
			SessionTimeout:  2 * time.Second,
			Logger:          slog.New(slog.DiscardHandler),
		})
		if err == nil {
			opened = append(opened, c)
		}
	}
	for _, c := range opened {
		err = errors.Join(err, c.Ready(ctx))
	}
	if err != nil {
		return nil, nil, errors.Join(err, closeAll())
	}
	return opened, closeAll, nil
}

// freeMembers finds loopback ports that nobody uses.
func freeMembers(n int) ([]coord.Member, error) {
	const low, high, attempts = 15000, 30000, 1000 // systems choose higher ones for outgoing connections
	var members []coord.Member
	for range attempts {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(low+rand.IntN(high-low)))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer func() { _ = ln.Close() }() // at the end, so that no port is found twice
		members = append(members, coord.Member{ID: coord.MemberID(len(members) + 1), Addr: addr})
		if len(members) == n {
			return members, nil
		}
	}
	return nil, errors.New("found no free loopback ports")
}
