package zkserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"coord"
	"coord/zkserver"
)

// A member that serves clients of ZooKeeper until it is told to end. They go on with
// their sessions on other members then.
func Example() {
	serve := func(ctx context.Context) error {
		c, err := coord.Open(ctx, coord.Config{Dir: "/var/lib/coord", DefaultACL: coord.OpenACL()})
		if err != nil {
			return err
		}
		defer c.Close()
		ln, err := net.Listen("tcp", "127.0.0.1:2181")
		if err != nil {
			return err
		}
		return zkserver.Serve(ctx, ln, c, zkserver.Options{MaxSessionTimeout: time.Minute})
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		fmt.Println(err)
	}
}

// Clients with and without TLS, at addresses of their own. Limits count them together.
func ExampleServer() {
	_ = func(ctx context.Context, c *coord.Coordinator, plain, secure net.Listener, config *tls.Config) error {
		s, err := zkserver.New(c, zkserver.Options{})
		if err != nil {
			return err
		}
		defer s.Close()
		ends := make(chan error, 2)
		go func() { ends <- s.Serve(ctx, plain) }()
		go func() { ends <- s.Serve(ctx, tls.NewListener(secure, config)) }()
		return errors.Join(<-ends, <-ends)
	}
}
