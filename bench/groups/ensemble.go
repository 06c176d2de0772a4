package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"coord"
	"coord/bench/machine"
	"coord/internal/private"
)

const settleTimeout = 2 * time.Minute

// An ensemble is three members with mounts /m0, /m1 and so on.
type ensemble struct {
	members []*coord.Coordinator
	dir     string
	mounts  int
}

func openEnsemble(ctx context.Context, dir string, shards int) (*ensemble, error) {
	e := &ensemble{dir: dir}
	addrs, err := machine.FreeAddrs(3)
	if err != nil {
		return nil, err
	}
	var initial []coord.Member
	for i, addr := range addrs {
		initial = append(initial, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for i := range addrs {
		m, err := coord.Open(ctx, coord.Config{
			Name: "bench", ID: initial[i].ID, Dir: filepath.Join(dir, strconv.Itoa(i+1)), InitialMembers: initial,
			LogShards: uint64(shards), Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			e.close()
			return nil, err
		}
		e.members = append(e.members, m)
	}
	for _, m := range e.members {
		if err := m.Ready(ctx); err != nil {
			e.close()
			return nil, err
		}
	}
	return e, nil
}

func (e *ensemble) close() {
	for _, m := range e.members {
		_ = private.Kill(m)
	}
}

// mount mounts so many, and waits until every one has a leader in sight everywhere.
func (e *ensemble) mount(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for ; e.mounts < n; e.mounts++ {
		path := mountPoint(e.mounts)
		if _, _, err := e.members[0].Create(ctx, path, nil); err != nil {
			return err
		}
		if err := e.members[0].Mount(ctx, path); err != nil {
			return err
		}
		if _, _, err := e.members[0].Create(ctx, path+"/z", nil); err != nil {
			return err
		}
	}
	for _, m := range e.members {
		for i := range n {
			if _, _, err := m.Get(ctx, mountPoint(i)+"/z", coord.Linearizable()); err != nil {
				return err
			}
		}
	}
	return nil
}

func mountPoint(i int) string { return "/m" + strconv.Itoa(i) }

// Figures are what came of a load.
type figures struct {
	perSecond float64
	p99       time.Duration
	cpu       time.Duration // of the whole process, for one write
	err       error
}

// write has callers write to n groups for some time, each to one of them.
func (e *ensemble) write(ctx context.Context, n int, p *plan) figures {
	return load(ctx, p.callers, p.duration, func(caller int) error {
		m := e.members[0]
		if p.spread {
			m = e.members[caller%len(e.members)]
		}
		_, err := m.SetData(ctx, mountPoint(caller%n)+"/z", []byte("0123456789abcdef"))
		return err
	})
}

// load has callers call in a closed loop. A quarter of the time goes before what counts.
func load(ctx context.Context, callers int, duration time.Duration, do func(caller int) error) figures {
	var (
		mu        sync.Mutex
		histogram = hdrhistogram.New(1, int64(time.Minute), 2)
		failed    error
		done      atomic.Int64
		counting  atomic.Bool
		stop      atomic.Bool
		all       sync.WaitGroup
	)
	for caller := range callers {
		all.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				began := time.Now()
				err := do(caller)
				took := time.Since(began)
				mu.Lock()
				failed = errors.Join(failed, err)
				if counting.Load() && !stop.Load() {
					done.Add(1)
					_ = histogram.RecordValue(min(int64(took), int64(time.Minute)))
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	time.Sleep(duration / 4)
	counting.Store(true)
	began, used := time.Now(), cpuTime()
	time.Sleep(duration)
	took := time.Since(began)
	used = cpuTime() - used
	stop.Store(true)
	all.Wait()
	cpu := used / time.Duration(max(done.Load(), 1))
	return figures{perSecond: float64(done.Load()) / took.Seconds(), cpu: cpu, p99: time.Duration(histogram.ValueAtQuantile(99)), err: failed}
}

// isolation measures a small load on one group, alone and beside another group that has
// all the heavy multis that it can take. It takes the two by turns. In the end it measures
// beside a group that has lost its quorum.
func (e *ensemble) isolation(ctx context.Context, p *plan) (alone, beside, lost []float64, err error) {
	if err := e.mount(ctx, 3); err != nil {
		return nil, nil, nil, err
	}
	var sessions []*coord.Session // of their own: those that have written where there is no quorum end
	for _, m := range e.members {
		s, err := m.NewSession(ctx, coord.SessionOptions{})
		if err != nil {
			return nil, nil, nil, err
		}
		sessions = append(sessions, s)
	}
	small := func() figures {
		return load(ctx, 4, p.duration, func(caller int) error {
			_, err := sessions[caller%3].SetData(ctx, mountPoint(0)+"/z", []byte("x"))
			return err
		})
	}
	for range p.rounds {
		f := small()
		if f.err != nil {
			return nil, nil, nil, f.err
		}
		alone = append(alone, f.p99.Seconds()*1000)
		stop := e.saturate(ctx, mountPoint(1)+"/z")
		f = small()
		if err := errors.Join(f.err, stop()); err != nil {
			return nil, nil, nil, err
		}
		beside = append(beside, f.p99.Seconds()*1000)
	}
	for _, m := range e.members[1:] {
		if err := private.StopMounted(ctx, m, mountPoint(2)); err != nil {
			return nil, nil, nil, err
		}
	}
	for range p.rounds {
		stop := e.knock(ctx, mountPoint(2)+"/z")
		f := small()
		stop()
		if f.err != nil {
			return nil, nil, nil, f.err
		}
		lost = append(lost, f.p99.Seconds()*1000)
	}
	return alone, beside, lost, nil
}

// knock has callers write where there is no quorum, each a second at a time, until stop is
// called.
func (e *ensemble) knock(ctx context.Context, path string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for caller := range 32 {
		all.Go(func() {
			for ctx.Err() == nil {
				once, end := context.WithTimeout(ctx, time.Second)
				_, _ = e.members[caller%3].SetData(once, path, []byte("x"))
				end()
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// saturate has callers make heavy multis until stop is called.
func (e *ensemble) saturate(ctx context.Context, path string) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ops := make([]coord.Op, 16)
	for i := range ops {
		ops[i] = coord.SetDataOp(path, make([]byte, 4096))
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for caller := range 32 {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := e.members[caller%3].Multi(ctx, ops...); err != nil && ctx.Err() == nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	return func() error {
		cancel()
		all.Wait()
		return failed
	}
}

// A cost is what the whole process takes while nobody asks for anything.
type cost struct {
	cpu        float64 // of one core
	heap       int     // bytes
	goroutines int
	disk       int64 // bytes
}

// cost measures for some time.
func (e *ensemble) cost(d time.Duration) cost {
	time.Sleep(time.Second) // what was begun ends
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, began := cpuTime(), time.Now()
	time.Sleep(d)
	return cost{
		cpu: (cpuTime() - before).Seconds() / time.Since(began).Seconds(), heap: int(m.HeapAlloc), goroutines: runtime.NumGoroutine(),
		disk: diskBytes(e.dir),
	}
}

func (c cost) String() string {
	return fmt.Sprintf("%.1f%% of a core, %d goroutines, %.1f MB of heap, %.1f MB of disk", c.cpu*100, c.goroutines, float64(c.heap)/1e6, float64(c.disk)/1e6)
}

// perGroup returns what each of n groups costs beside what is there without any.
func (c cost) perGroup(bare cost, n int) cost {
	return cost{
		cpu: (c.cpu - bare.cpu) / float64(n), heap: (c.heap - bare.heap) / n, goroutines: (c.goroutines - bare.goroutines) / n,
		disk: (c.disk - bare.disk) / int64(n),
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// diskBytes returns what the files below dir have.
func diskBytes(dir string) (sum int64) {
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil // files come and go
	})
	return sum
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func ranging(values []float64) string {
	return fmt.Sprintf("%.0f-%.0f", slices.Min(values), slices.Max(values))
}
