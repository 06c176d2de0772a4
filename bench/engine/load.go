package main

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/lni/dragonboat/v4"
)

// What a load can do. The letters behind it say what bare dragonboat does in
// its place.
const (
	opSet  = "set"  // SetData of a znode drawn at random; SyncPropose
	opMix  = "mix"  // Create and Delete of a znode, by turns; SyncPropose
	opGet  = "get"  // Get, from the local state; StaleRead
	opRead = "read" // Get Linearizable; SyncRead
)

// A load is one row of the table: who asks for what, where, and for how long.
type load struct {
	Op       string
	At       string // leader or follower
	Callers  int    // each waits for its answer before it asks again
	Duration time.Duration
}

// Figures are what was measured under a load.
type figures struct {
	PerSecond    float64
	P50, P99     time.Duration
	Timeouts     int64
	Errors       int64 // other than timeouts
	FirstError   string
	CPU          time.Duration // of the whole process, for one operation
	Allocs       float64       // of the whole process, for one operation
	AllocBytes   float64
	LeaderChange bool
}

// A call is one operation of a caller: its n-th.
type call func(caller, n int) error

const (
	histograms    = 16 // callers share them, so that 1024 of them fit the caches
	longest       = int64(time.Minute)
	significant   = 2
	pauseOnError  = time.Millisecond
	warmUpDivisor = 4 // a quarter of the duration goes before
)

// A sharedHistogram is written by several callers.
type sharedHistogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func (s *sharedHistogram) record(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.h.RecordValue(min(int64(d), longest))
}

// measure has callers call in a closed loop. What ends after the measured time
// counts only if it fails: a request that is lost must not go unnoticed.
func measure(callers int, duration time.Duration, do call) figures {
	var (
		latency        [histograms]sharedHistogram
		done           atomic.Int64
		timeouts, errs atomic.Int64
		firstError     atomic.Pointer[string]
		measuring      atomic.Bool
		stop           atomic.Bool
		all            sync.WaitGroup
	)
	for i := range latency {
		latency[i].h = hdrhistogram.New(1, longest, significant)
	}
	for caller := range callers {
		all.Go(func() {
			hist := &latency[caller%histograms]
			for n := 0; !stop.Load(); n++ {
				began := time.Now()
				err := do(caller, n)
				switch {
				case err == nil:
					if measuring.Load() {
						hist.record(time.Since(began))
						done.Add(1)
					}
					continue
				case isTimeout(err):
					timeouts.Add(1)
				default:
					errs.Add(1)
				}
				text := err.Error()
				firstError.CompareAndSwap(nil, &text)
				time.Sleep(pauseOnError)
			}
		})
	}
	time.Sleep(duration / warmUpDivisor)
	before := readUsage()
	measuring.Store(true)
	began := time.Now()
	time.Sleep(duration)
	measuring.Store(false)
	elapsed := time.Since(began)
	used := readUsage().since(before)
	stop.Store(true)
	all.Wait()

	total := latency[0].h
	for i := range latency[1:] {
		total.Merge(latency[i+1].h)
	}
	n := max(float64(done.Load()), 1)
	f := figures{
		PerSecond: float64(done.Load()) / elapsed.Seconds(),
		P50:       time.Duration(total.ValueAtQuantile(50)), P99: time.Duration(total.ValueAtQuantile(99)),
		Timeouts: timeouts.Load(), Errors: errs.Load(),
		CPU: time.Duration(float64(used.cpu) / n), Allocs: float64(used.mallocs) / n, AllocBytes: float64(used.bytes) / n,
	}
	if text := firstError.Load(); text != nil {
		f.FirstError = *text
	}
	return f
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout() || errors.Is(err, dragonboat.ErrTimeout)
}

// A usage is what the process has used since its start.
type usage struct {
	cpu            time.Duration
	mallocs, bytes uint64
}

func readUsage() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return usage{time.Duration(r.Utime.Nano() + r.Stime.Nano()), m.Mallocs, m.TotalAlloc}
}

func (u usage) since(b usage) usage {
	return usage{u.cpu - b.cpu, u.mallocs - b.mallocs, u.bytes - b.bytes}
}
