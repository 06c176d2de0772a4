// Command mounts gives subtrees raft groups of their own: three members run in this
// program, on loopback, with jobs and settings that do not wait for each other. It prints what
// happens and ends by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"coord"
	"coord/internal/loopback"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mounts:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "mounts-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	members, err := open(ctx, dir)
	for _, m := range members {
		defer func() { _ = m.Close() }()
	}
	if err != nil {
		return err
	}
	a, b := members[0], members[1]

	// /jobs was named in the configuration; /settings is mounted while everything runs.
	if _, _, err := a.Create(ctx, "/settings", []byte("v1")); err != nil {
		return err
	}
	if err := a.Mount(ctx, "/settings"); err != nil {
		return err
	}
	for m := b.Mounts(); len(m) < 2 || !m[0].Served || !m[1].Served; m = b.Mounts() {
		time.Sleep(10 * time.Millisecond) // until the configured one is made, too
	}
	for _, m := range b.Mounts() {
		fmt.Fprintf(out, "%s has a group of its own\n", m.Path)
	}

	// To readers it is one tree: one watch, one view.
	w, err := b.Watch(ctx, "/", coord.Subtree)
	if err != nil {
		return err
	}
	if _, err := a.SetData(ctx, "/settings", []byte("v2")); err != nil {
		return err
	}
	for ev, err := range w.Events() {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "member 2 is told:", ev.Type, ev.Path)
		break
	}
	if _, _, err := a.Create(ctx, "/jobs/1", []byte("sweep")); err != nil {
		return err
	}
	v, err := b.View(ctx, coord.Linearizable())
	if err != nil {
		return err
	}
	for z := range v.Walk("/jobs") {
		fmt.Fprintf(out, "member 2 sees %s %q\n", z.Path, z.Data)
	}

	// What no two groups can do together is refused, and an empty mount can be taken back.
	_, err = a.Multi(ctx, coord.DeleteOp("/jobs/1"), coord.SetDataOp("/settings", []byte("v3")))
	fmt.Fprintln(out, "a multi across mounts is refused:", errors.Is(err, coord.ErrCrossMount))
	if err := a.Unmount(ctx, "/settings"); err != nil {
		return err
	}
	data, _, err := b.Get(ctx, "/settings", coord.Linearizable())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "/settings is back, with %s\n", data)
	return nil
}

// open starts three members.
func open(ctx context.Context, dir string) (members []*coord.Coordinator, err error) {
	addrs, err := loopback.FreeAddrs(3)
	if err != nil {
		return nil, err
	}
	var initial []coord.Member
	for i, addr := range addrs {
		initial = append(initial, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	for _, m := range initial {
		c, err := coord.Open(ctx, coord.Config{
			Name: "mounts", ID: m.ID, Dir: filepath.Join(dir, m.ID.String()), InitialMembers: initial,
			Mounts: []string{"/jobs"}, ElectionTimeout: 500 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return members, err
		}
		members = append(members, c)
	}
	for _, c := range members {
		if err := c.Ready(ctx); err != nil {
			return members, err
		}
	}
	return members, nil
}
