package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/lni/dragonboat/v4"

	"coord/bench/bare"
)

// A bareSubject is an ensemble of dragonboat alone, set up as
// [coord/internal/raftnode] sets it up, above a state machine that does nothing.
type bareSubject struct {
	settings
	hosts []*dragonboat.NodeHost
	data  []byte
}

const bareGroup = 1 // the only one

func openBare(_ context.Context, s settings) (*bareSubject, error) {
	b := &bareSubject{settings: s, data: payload(s.Payload)}
	var err error
	b.hosts, err = bare.Open(s.Hosts, 1, func(i int) string { return memberDir(s, i) })
	if err == nil {
		_, err = b.leader()
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bareSubject) leader() (int, error) {
	return awaitLeader(func() (int, bool) { return bare.Leader(b.hosts, bareGroup) })
}

func (b *bareSubject) call(op string, at int) (call, error) {
	nh := b.hosts[at%len(b.hosts)]
	session := nh.GetNoOPSession(bareGroup)
	switch op {
	case opSet, opMix:
		return func(int, int) error {
			ctx, cancel := context.WithTimeout(context.Background(), b.Timeout)
			defer cancel()
			_, err := nh.SyncPropose(ctx, session, b.data)
			return err
		}, nil
	case opGet:
		return func(int, int) error {
			_, err := nh.StaleRead(bareGroup, nil)
			return err
		}, nil
	case opRead:
		return func(int, int) error {
			ctx, cancel := context.WithTimeout(context.Background(), b.Timeout)
			defer cancel()
			_, err := nh.SyncRead(ctx, bareGroup, nil)
			return err
		}, nil
	}
	return nil, fmt.Errorf("unknown operation %q", op)
}

func (b *bareSubject) close() error {
	for _, nh := range b.hosts {
		nh.Close()
	}
	return nil
}
