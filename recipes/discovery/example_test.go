package discovery_test

import (
	"context"
	"fmt"
	"os"

	"coord"
	"coord/recipes/discovery"
)

// Three instances of a service, one of which does not want to be picked.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	c, err := coord.Open(ctx, coord.Config{Dir: dir})
	if err != nil {
		panic(err)
	}
	defer func() { _ = c.Close() }()

	for _, id := range []string{"a", "b", "c"} { // on any members
		in := discovery.Instance{ID: id, Address: "host-" + id, Port: 8080}
		r, err := discovery.Register(ctx, c, "/services", "billing", in)
		if err != nil {
			panic(err)
		}
		if id == "b" {
			if err := r.SetHealth(ctx, discovery.Unhealthy); err != nil {
				panic(err)
			}
		}
	}
	billing, err := discovery.Open(c, "/services", "billing")
	if err != nil {
		panic(err)
	}
	defer billing.Close()
	picker := discovery.RoundRobin()
	for range 3 {
		in, err := billing.Pick(ctx, picker)
		fmt.Println(in.HostPort(), err)
	}
	// Output:
	// host-a:8080 <nil>
	// host-c:8080 <nil>
	// host-a:8080 <nil>
}
