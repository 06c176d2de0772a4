package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"

	"coord"
	"coord/bench/machine"
	"coord/internal/private"
	"coord/recipes"
)

type coordSubject struct{ members []*coord.Coordinator }

func openCoord(ctx context.Context, dir string) (_ *coordSubject, err error) {
	s := &coordSubject{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	addrs, err := machine.FreeAddrs(members)
	if err != nil {
		return nil, err
	}
	cfg := coord.Config{Name: "bench", ElectionTimeout: 2 * electionTimeout, Logger: slog.New(slog.DiscardHandler)}
	for i, addr := range addrs {
		cfg.InitialMembers = append(cfg.InitialMembers, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	for i := range addrs {
		cfg.ID, cfg.Dir = coord.MemberID(i+1), filepath.Join(dir, strconv.Itoa(i+1))
		m, err := coord.Open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		s.members = append(s.members, m)
	}
	for _, m := range s.members {
		if err := m.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *coordSubject) contender(ctx context.Context, at int) (contender, error) {
	session, err := s.members[at].NewSession(ctx, coord.SessionOptions{Timeout: sessionTimeout})
	return &coordContender{session: session}, err
}

func (s *coordSubject) queued(ctx context.Context) (int, error) {
	n, err := s.members[0].AllChildrenNumber(ctx, lockPath)
	if errors.Is(err, coord.ErrNoNode) {
		return 0, nil
	}
	return n, err
}

func (s *coordSubject) progress() progress {
	p := progress{leader: -1}
	for i, m := range s.members {
		st := m.Status()
		p.entries, p.writes = max(p.entries, private.Applied(m)), max(p.writes, uint64(st.ZXID))
		if st.Role == coord.Leading {
			p.leader = i
		}
	}
	return p
}

// close does without good order: the last member would wait for a quorum.
func (s *coordSubject) close() error {
	var errs []error
	for _, m := range s.members {
		errs = append(errs, private.Kill(m))
	}
	return errors.Join(errs...)
}

type coordContender struct {
	session *coord.Session
	held    *recipes.Held
}

func (c *coordContender) lock(ctx context.Context) (err error) {
	c.held, err = recipes.Lock(ctx, c.session, lockPath)
	return err
}

func (c *coordContender) release(ctx context.Context) error { return c.held.Release(ctx) }
