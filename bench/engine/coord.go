package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	"coord"
	"coord/bench/machine"
)

const (
	benchRoot   = "/bench"
	perDir      = 1000 // znodes below one parent
	perMulti    = 500  // znodes created by one write
	fillCallers = 8
)

// A coordSubject is an ensemble of coord.
type coordSubject struct {
	settings
	members []*coord.Coordinator
	paths   []string
	data    []byte
}

func openCoord(ctx context.Context, s settings) (_ *coordSubject, err error) {
	c := &coordSubject{settings: s, data: payload(s.Payload)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	addrs, err := machine.FreeAddrs(s.Hosts)
	if err != nil {
		return nil, err
	}
	cfg := coord.Config{Name: "bench", OperationTimeout: s.Timeout, Logger: slog.New(slog.DiscardHandler)}
	for i, addr := range addrs {
		cfg.InitialMembers = append(cfg.InitialMembers, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	for i := range addrs {
		cfg.ID, cfg.Dir = coord.MemberID(i+1), memberDir(s, i)
		m, err := coord.Open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		c.members = append(c.members, m)
	}
	ready, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, m := range c.members {
		if err := m.Ready(ready); err != nil {
			return nil, err
		}
	}
	return c, c.fill(ctx)
}

// fill makes the znodes.
func (c *coordSubject) fill(ctx context.Context) error {
	leader, err := c.leader()
	if err != nil {
		return err
	}
	m := c.members[leader]
	ops := []coord.Op{coord.CreateOp(benchRoot, nil)}
	for d := range (c.Znodes + perDir - 1) / perDir {
		ops = append(ops, coord.CreateOp(benchRoot+"/d"+strconv.Itoa(d), nil))
	}
	if _, err := m.Multi(ctx, ops...); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	for i := range c.Znodes {
		c.paths = append(c.paths, fmt.Sprintf("%s/d%d/n%03d", benchRoot, i/perDir, i%perDir))
	}
	var (
		next  atomic.Int64
		fault atomic.Pointer[error]
		all   sync.WaitGroup
	)
	for range fillCallers {
		all.Go(func() {
			for fault.Load() == nil {
				from := int(next.Add(perMulti)) - perMulti
				if from >= len(c.paths) {
					return
				}
				var ops []coord.Op
				for _, p := range c.paths[from:min(from+perMulti, len(c.paths))] {
					ops = append(ops, coord.CreateOp(p, c.data))
				}
				if _, err := m.Multi(ctx, ops...); err != nil {
					fault.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Wait()
	if err := fault.Load(); err != nil {
		return fmt.Errorf("fill: %w", *err)
	}
	return nil
}

func (c *coordSubject) leader() (int, error) {
	return awaitLeader(func() (int, bool) {
		for i, m := range c.members {
			if st := m.Status(); st.Role == coord.Leading && st.HasQuorum {
				return i, true
			}
		}
		return 0, false
	})
}

func (c *coordSubject) call(op string, at int) (call, error) {
	m := c.members[at%len(c.members)]
	path := func(caller, n int) string { return c.paths[spread(caller, n, len(c.paths))] }
	// Every call that goes through the log has a deadline of its own, as it has
	// in a service and as bare dragonboat demands.
	within := func(do func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
		defer cancel()
		return do(ctx)
	}
	switch op {
	case opSet:
		return func(caller, n int) error {
			return within(func(ctx context.Context) error {
				_, err := m.SetData(ctx, path(caller, n), c.data)
				return err
			})
		}, nil
	case opMix:
		return func(caller, n int) error {
			own := fmt.Sprintf("%s/d0/%s-c%d-%d", benchRoot, strconv.Itoa(at), caller, n/2)
			return within(func(ctx context.Context) error {
				if n%2 == 0 {
					_, _, err := m.Create(ctx, own, c.data)
					if errors.Is(err, coord.ErrNodeExists) {
						return nil // an earlier load ended between the two
					}
					return err
				}
				return m.Delete(ctx, own)
			})
		}, nil
	case opGet:
		return func(caller, n int) error {
			_, _, err := m.Get(context.Background(), path(caller, n))
			return err
		}, nil
	case opRead:
		return func(caller, n int) error {
			return within(func(ctx context.Context) error {
				_, _, err := m.Get(ctx, path(caller, n), coord.Linearizable())
				return err
			})
		}, nil
	}
	return nil, fmt.Errorf("unknown operation %q", op)
}

func (c *coordSubject) close() error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
