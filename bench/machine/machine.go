// Package machine is what the benchmarks share: what they say of the machine, and
// free addresses on it.
package machine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Main is the main function of a benchmark: it runs the command with the arguments of
// the process until that is interrupted, and ends it with an error's text and status.
func Main(name string, command func(ctx context.Context, args []string, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := command(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Describe prints what the figures depend on. It measures fsync in dir.
func Describe(w io.Writer, dir string) error {
	p50, p99, err := syncLatency(dir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s %s/%s, %d cores, append of 4 KiB and fsync p50 %v p99 %v, load average %s\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(),
		p50.Round(time.Microsecond), p99.Round(time.Microsecond), LoadAverage())
	return err
}

// syncLatency measures what one fsync of the disk below dir takes.
func syncLatency(dir string) (p50, p99 time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	const rounds = 200
	page, took := make([]byte, 4<<10), make([]time.Duration, rounds)
	for i := range took {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[rounds/2], took[rounds*99/100], nil
}

// LoadAverage returns the load of the machine over 1, 5 and 15 minutes.
func LoadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(b)); err == nil && len(f) >= 3 {
		return strings.Join(f[:3], " ")
	}
	return "unknown"
}

// FreeAddrs returns loopback addresses that nobody listens on.
func FreeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("look for a free port: %w", err)
		}
		defer l.Close() // at the end, so that no port is found twice
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}
