package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// printMachine prints what the figures depend on.
func printMachine(w io.Writer, dir string) error {
	p50, p99, err := syncLatency(dir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s %s/%s, %d cores, append of 4 KiB and fsync p50 %v p99 %v, load average %s\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(),
		p50.Round(time.Microsecond), p99.Round(time.Microsecond), loadAverage())
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

// loadAverage returns the load of the machine over 1, 5 and 15 minutes.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(b)); err == nil && len(f) >= 3 {
		return strings.Join(f[:3], " ")
	}
	return "unknown"
}
