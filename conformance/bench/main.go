// Command bench measures coord beside a real ZooKeeper: the same client, that of Go, the
// same load and the same configuration file, in turns, one server and three.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"

	"coord/conformance/zookeeper"
)

func main() {
	seconds := flag.Duration("for", 3*time.Second, "how long each load is run on each system")
	turns := flag.Int("turns", 1, "how often the systems take turns at each load")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *seconds, *turns); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var systems = []string{"ZooKeeper", "coord"}

func run(ctx context.Context, duration time.Duration, turns int) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	command := filepath.Join(dir, "coord-command")
	build := exec.CommandContext(ctx, "go", "build", "-o", command, "./cmd/coord")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building coord: %w\n%s", err, out)
	}
	fmt.Println("| servers | load | callers | ZooKeeper/s | coord/s | times | ZooKeeper p50 ms | coord p50 ms | ZooKeeper p99 ms | coord p99 ms |")
	fmt.Println("|--|--|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, servers := range []int{1, 3} {
		if err := measure(ctx, filepath.Join(dir, fmt.Sprint(servers)), command, servers, duration, turns); err != nil {
			return fmt.Errorf("%d servers: %w", servers, err)
		}
	}
	return nil
}

// measure runs all loads on ensembles of one size.
func measure(ctx context.Context, dir, command string, servers int, duration time.Duration, turns int) error {
	addrs := map[string][]string{}
	for _, system := range systems {
		o := zookeeper.Options{Servers: servers, Dir: filepath.Join(dir, system), Fsync: true, HeapMB: 1024}
		if system == "coord" {
			o.Command = command
		}
		e, err := zookeeper.Start(ctx, o)
		if err != nil {
			return err
		}
		defer e.Stop()
		addrs[system] = e.Addrs()
	}
	for _, load := range loads {
		for _, callers := range load.callers {
			results := map[string][]time.Duration{}
			for range turns {
				for _, system := range systems {
					took, err := apply(ctx, addrs[system], load, callers, duration)
					if err != nil {
						return fmt.Errorf("%s, %s by %d: %w", system, load.name, callers, err)
					}
					results[system] = append(results[system], took...)
				}
			}
			report(servers, load.name, callers, results, duration*time.Duration(turns))
		}
	}
	return nil
}

func report(servers int, load string, callers int, results map[string][]time.Duration, d time.Duration) {
	rate := func(system string) float64 { return float64(len(results[system])) / d.Seconds() }
	at := func(system string, share float64) float64 {
		all := results[system]
		if len(all) == 0 {
			return 0
		}
		slices.Sort(all)
		return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1000
	}
	z, c := systems[0], systems[1]
	fmt.Printf("| %d | %s | %d | %.0f | %.0f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", servers, load, callers,
		rate(z), rate(c), rate(c)/max(rate(z), 1), at(z, 0.5), at(c, 0.5), at(z, 0.99), at(c, 0.99))
}

// A load is what each of some callers does again and again. The numbers are those of the
// caller and of its turn.
type load struct {
	name    string
	callers []int
	do      func(c *zk.Conn, caller, turn int) error
}

var (
	everyone = []int{1, 16, 128, 1024}
	payload  = make([]byte, 128)
	unique   atomic.Int64
)

var loads = []load{
	{"set", everyone, set},
	{"create", everyone, func(c *zk.Conn, _, _ int) error {
		_, err := c.Create(fmt.Sprintf("/bench/created/%d", unique.Add(1)), payload, 0, zk.WorldACL(zk.PermAll))
		return err
	}},
	{"get", everyone, get},
	{"90% get, 10% set", everyone, func(c *zk.Conn, caller, turn int) error {
		if (caller+turn)%10 == 0 {
			return set(c, caller, turn)
		}
		return get(c, caller, turn)
	}},
	{"set until watched", []int{1, 16}, func(c *zk.Conn, caller, turn int) error {
		_, _, events, err := c.GetW(own(caller))
		if err != nil {
			return err
		}
		if err := set(c, caller, turn); err != nil {
			return err
		}
		return (<-events).Err
	}},
}

func own(caller int) string { return fmt.Sprintf("/bench/%d", caller) }

func set(c *zk.Conn, caller, _ int) error {
	_, err := c.Set(own(caller), payload, -1)
	return err
}

func get(c *zk.Conn, caller, _ int) error {
	_, _, err := c.Get(own(caller))
	return err
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// apply has callers do their load, and returns how long each turn took.
func apply(ctx context.Context, addrs []string, l load, callers int, d time.Duration) ([]time.Duration, error) {
	const mostConns = 32 // the client pipelines what many callers ask of one connection
	conns := make([]*zk.Conn, min(callers, mostConns))
	for i := range conns {
		c, _, err := zk.Connect(addrs[i%len(addrs):i%len(addrs)+1], 30*time.Second, zk.WithLogger(silent{}))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		conns[i] = c
	}
	if err := prepare(conns[0], callers); err != nil {
		return nil, err
	}
	for _, c := range conns {
		if _, err := c.Sync("/bench"); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	took := make([][]time.Duration, callers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for turn := 0; ctx.Err() == nil; turn++ {
				began := time.Now()
				if err := l.do(conns[caller%len(conns)], caller, turn); err != nil {
					errs[caller] = err
					return
				}
				took[caller] = append(took[caller], time.Since(began))
			}
		})
	}
	wg.Wait()
	return slices.Concat(took...), errors.Join(errs...)
}

// prepare makes the znodes that the callers change.
func prepare(c *zk.Conn, callers int) error {
	paths := []string{"/bench", "/bench/created"}
	for caller := range callers {
		paths = append(paths, own(caller))
	}
	for _, path := range paths {
		if _, err := c.Create(path, payload, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return nil
}
