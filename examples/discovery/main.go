// Command discovery shows three processes of a service finding each other: they are the
// ensemble, register themselves with it, and pick one another for a request. One says
// that it is not well, one leaves, one dies, and each time the others know.
//
//	go run ./examples/discovery
//
// All three run in this process, over loopback, for the sake of the example. In life each
// would be one process, and the only difference is where main is.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"coord/examples/internal/ensemble"
	"coord/recipes/discovery"
)

const (
	root    = "/services"
	service = "billing"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	err := run(ctx, os.Stdout)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "discovery:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	members, closeAll, err := ensemble.Open(ctx, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()

	// Each member is an instance of the service.
	var registered []*discovery.Registration
	for i, c := range members {
		in := discovery.Instance{ID: fmt.Sprintf("host-%d", i+1), Address: "127.0.0.1", Port: 8081 + i}
		r, err := discovery.Register(ctx, c, root, service, in)
		if err != nil {
			return err
		}
		registered = append(registered, r)
	}

	// And each could ask for the others. The first one does.
	billing, err := discovery.Open(members[0], root, service)
	if err != nil {
		return err
	}
	defer billing.Close()
	if err := show(ctx, out, billing, "all are well", "host-1 host-2 host-3"); err != nil {
		return err
	}
	if err := registered[1].SetHealth(ctx, discovery.Unhealthy); err != nil {
		return err
	}
	if err := show(ctx, out, billing, "host-2 is not", "host-1 host-3"); err != nil {
		return err
	}
	if err := registered[1].SetHealth(ctx, discovery.Healthy); err != nil {
		return err
	}
	if err := show(ctx, out, billing, "host-2 is again", "host-1 host-2 host-3"); err != nil {
		return err
	}
	if err := registered[1].Unregister(ctx); err != nil {
		return err
	}
	if err := show(ctx, out, billing, "host-2 has unregistered", "host-1 host-3"); err != nil {
		return err
	}
	if err := members[2].Close(); err != nil { // a crash would be noticed after the timeout of its session
		return err
	}
	return show(ctx, out, billing, "host-3 has gone home", "host-1")
}

// show waits until these instances are healthy, and has each picked in its turn.
func show(ctx context.Context, out io.Writer, s *discovery.Service, what, want string) error {
	for u, err := range s.Watch(ctx) {
		if err != nil {
			return err
		}
		var ids []string
		for _, in := range u.Healthy() {
			ids = append(ids, in.ID)
		}
		if strings.Join(ids, " ") == want {
			break
		}
	}
	picked := []string{what + ":"}
	picker := discovery.RoundRobin()
	for range 4 {
		in, err := s.Pick(ctx, picker)
		if err != nil {
			return err
		}
		picked = append(picked, in.HostPort())
	}
	_, err := fmt.Fprintln(out, strings.Join(picked, " "))
	return err
}
