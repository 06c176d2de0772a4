// Command growing has one member become three while it serves, and then go itself: all
// three run in this program, on loopback. It prints what happens and ends by itself.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"coord"
	"coord/internal/loopback"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "growing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "growing-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	addrs, err := loopback.FreeAddrs(3)
	if err != nil {
		return err
	}
	// A member that others are to join needs an address that they can dial.
	first, err := open(ctx, coord.Config{ID: 1, Dir: filepath.Join(dir, "1"), Listen: addrs[0]})
	if err != nil {
		return err
	}
	defer func() { _ = first.Close() }()
	if _, _, err := first.Create(ctx, "/greeting", []byte("hello")); err != nil {
		return err
	}
	fmt.Fprintln(out, "member 1 has written /greeting")

	var members []*coord.Coordinator
	for id := coord.MemberID(2); id <= 3; id++ {
		m, err := grow(ctx, first, coord.Member{ID: id, Addr: addrs[id-1]}, dir)
		if err != nil {
			return err
		}
		defer func() { _ = m.Close() }()
		members = append(members, m)
		fmt.Fprintf(out, "member %v has joined and votes\n", id)
	}

	if err := members[0].RemoveMember(ctx, 1); err != nil {
		return err
	}
	<-first.Context().Done() // it notices, and stops
	fmt.Fprintln(out, "member 1 was removed")
	data, _, err := members[1].Get(ctx, "/greeting")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "member 3 reads /greeting: %s\n", data)
	return nil
}

// grow adds a voter and starts it: in a service, the operator does the one and a new
// process the other. The call returns when the new member has its vote.
func grow(ctx context.Context, through *coord.Coordinator, m coord.Member, dir string) (*coord.Coordinator, error) {
	if err := through.AddMember(ctx, m); err != nil {
		return nil, err
	}
	c, err := open(ctx, coord.Config{
		ID: m.ID, Dir: filepath.Join(dir, strconv.FormatUint(uint64(m.ID), 10)), Listen: m.Addr,
		Join: []string{through.Configuration().Members[0].Addr},
	})
	if err != nil {
		return nil, err
	}
	return c, through.AwaitSettled(ctx)
}

func open(ctx context.Context, cfg coord.Config) (*coord.Coordinator, error) {
	cfg.Name = "growing"
	cfg.ElectionTimeout = 500 * time.Millisecond
	cfg.Logger = slog.New(slog.DiscardHandler)
	c, err := coord.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return c, c.Ready(ctx)
}
