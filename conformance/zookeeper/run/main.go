// Command run starts a real ZooKeeper and prints the addresses of its servers, until it
// is interrupted or its input ends.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"coord/conformance/zookeeper"
)

func main() {
	servers := flag.Int("servers", 1, "number of servers")
	flag.Parse()
	if err := run(*servers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(servers int) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "zookeeper")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	e, err := zookeeper.Start(ctx, zookeeper.Options{Servers: servers, Dir: dir, Quick: true})
	if err != nil {
		return err
	}
	defer e.Stop()
	fmt.Println(strings.Join(e.Addrs(), ","))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	<-ctx.Done()
	return nil
}
