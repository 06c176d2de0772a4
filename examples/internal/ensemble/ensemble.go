// Package ensemble opens an ensemble for an example: several members in one process,
// over loopback and in a temporary directory. A real service opens one member in each
// of its replicas.
package ensemble

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"coord"
	"coord/internal/loopback"
)

// Open opens n members that are ready. What it returns closes those that are open and
// removes their directory. Each configuration goes through tweak before it is used.
func Open(ctx context.Context, n int, tweak ...func(*coord.Config) error) (_ []*coord.Coordinator, closeAll func() error, err error) {
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
	addrs, err := loopback.FreeAddrs(n)
	var members []coord.Member
	for i, addr := range addrs {
		members = append(members, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	for i := 0; i < n && err == nil; i++ {
		cfg := coord.Config{
			ID: members[i].ID, InitialMembers: members, Dir: filepath.Join(dir, members[i].ID.String()),
			ElectionTimeout: 500 * time.Millisecond, // the machine is not shared with much else
			SessionTimeout:  2 * time.Second,
			Logger:          slog.New(slog.DiscardHandler),
		}
		var c *coord.Coordinator
		if c, err = open(ctx, cfg, tweak); err == nil {
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

func open(ctx context.Context, cfg coord.Config, tweak []func(*coord.Config) error) (*coord.Coordinator, error) {
	for _, f := range tweak {
		if err := f(&cfg); err != nil {
			return nil, err
		}
	}
	return coord.Open(ctx, cfg)
}
