// Command cache measures a recipes.Cache of a great many znodes: how long it takes to
// load, what it keeps in memory, how far it is behind a write, and what becomes of it
// when there is more to follow than it can. The ensemble is one member on the real disk.
//
//	go run ./cache -h
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"coord"
	"coord/bench/machine"
	"coord/recipes"
)

// A plan is what the command line asks for.
type plan struct {
	znodes  int
	updates int
	callers int
	busy    time.Duration
	dir     string
}

// A record is what a znode holds.
type record struct {
	Name  string
	Shard int
	N     int64
}

func main() { machine.Main("cache", command) }

func command(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("cache", flag.ContinueOnError)
	var p plan
	fs.IntVar(&p.znodes, "znodes", 1_000_000, "znodes below the path of the cache")
	fs.IntVar(&p.updates, "updates", 2000, "single updates to follow")
	fs.IntVar(&p.callers, "callers", 128, "callers of the busy time")
	fs.DurationVar(&p.busy, "busy", 5*time.Second, "how long to write as fast as it goes")
	fs.StringVar(&p.dir, "dir", "", "where to make the temporary directory; default: the system's")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if p.znodes < 1 || p.updates < 1 || p.callers < 1 {
		return fmt.Errorf("%d znodes, %d updates, %d callers: must be positive", p.znodes, p.updates, p.callers)
	}
	dir, err := os.MkdirTemp(p.dir, "coord-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.dir = dir
	if err := machine.Describe(out, dir); err != nil {
		return err
	}
	return p.execute(ctx, out)
}

// execute measures. Everything is printed as soon as it is known.
func (p *plan) execute(ctx context.Context, out io.Writer) (err error) {
	c, err := coord.Open(ctx, coord.Config{Dir: p.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Ready(ctx); err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }

	before := heapBytes()
	if err := p.fill(ctx, c); err != nil {
		return err
	}
	say("%d znodes of some 50 bytes of data: %d bytes of heap each, in the tree", p.znodes, (heapBytes()-before)/p.znodes)
	for _, indexed := range []bool{true, false} {
		if err := p.load(ctx, c, indexed, say); err != nil {
			return err
		}
	}
	k, err := newCache(c, false)
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.Synced(ctx); err != nil {
		return err
	}
	for _, measure := range []func(context.Context, *coord.Coordinator, *recipes.Cache[record], func(string, ...any)) error{p.single, p.flood} {
		if err := measure(ctx, c, k, say); err != nil {
			return err
		}
	}
	return nil
}

func path(i int) string { return fmt.Sprintf("/records/%03d/%07d", i%1000, i) }

func newCache(c coord.Client, indexed bool) (*recipes.Cache[record], error) {
	opts := []recipes.CacheOption[record]{
		recipes.WithFilter[record](func(_ string, stat coord.Stat) bool { return stat.DataLength > 0 }),
	}
	if indexed {
		opts = append(opts, recipes.WithIndex("shard", func(_ string, r record) []string { return []string{fmt.Sprint(r.Shard)} }))
	}
	return recipes.NewCache(c, "/records", coord.JSON[record](), opts...)
}

// fill makes the znodes.
func (p *plan) fill(ctx context.Context, c *coord.Coordinator) error {
	const batch = 2000
	codec := coord.JSON[record]()
	var ops []coord.Op
	for i := range p.znodes {
		data, err := codec.Encode(record{fmt.Sprintf("record-%d", i), i % 1000, int64(i)})
		if err != nil {
			return err
		}
		ops = append(ops, coord.CreateOp(path(i), data, coord.WithParents()))
		if len(ops) < batch && i+1 < p.znodes {
			continue
		}
		if _, err := c.Multi(ctx, ops...); err != nil {
			return err
		}
		ops = nil
	}
	return nil
}

// load measures a cache that starts.
func (p *plan) load(ctx context.Context, c *coord.Coordinator, indexed bool, say func(string, ...any)) error {
	before, begin, cpu := heapBytes(), time.Now(), cpuTime()
	k, err := newCache(c, indexed)
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.Synced(ctx); err != nil {
		return err
	}
	took := time.Since(begin)
	cpu = cpuTime() - cpu
	if k.Len() != p.znodes {
		return fmt.Errorf("%d entries, want %d", k.Len(), p.znodes)
	}
	begin = time.Now()
	n := 0
	for range k.All() {
		n++
	}
	all := time.Since(begin)
	say("loaded %d entries in %v, %v of CPU time, with an index: %t; %d bytes of heap each, values included; All takes %v",
		n, took.Round(time.Millisecond), cpu.Round(time.Millisecond), indexed, (heapBytes()-before)/p.znodes, all.Round(time.Millisecond))
	runtime.KeepAlive(k)
	return nil
}

// single measures one update at a time: from its acknowledgment until a reader of the
// changes has it.
func (p *plan) single(ctx context.Context, c *coord.Coordinator, k *recipes.Cache[record], say func(string, ...any)) error {
	typed := coord.NewTyped(c, coord.JSON[record]())
	reading, stop := context.WithCancel(ctx)
	defer stop()
	told := make(chan coord.ZXID, 16)
	go func() {
		for d, err := range k.Changes(reading) {
			if err != nil {
				return
			}
			told <- d.ZXID
		}
	}()
	<-told // the whole state
	var behind, all []time.Duration
	for i := range p.updates {
		begin := time.Now()
		stat, err := typed.SetData(ctx, path(i*7919%p.znodes), record{N: int64(i)})
		if err != nil {
			return err
		}
		acked := time.Now()
		for z := range told {
			if z >= stat.Mzxid {
				break
			}
		}
		behind, all = append(behind, time.Since(acked)), append(all, time.Since(begin))
	}
	say("one update at a time: a reader of the changes has it %v behind its acknowledgment (p99 %v), %v from its start (p99 %v)",
		quantile(behind, 0.5), quantile(behind, 0.99), quantile(all, 0.5), quantile(all, 0.99))
	return nil
}

// flood measures a cache while there are as many updates as the member takes.
func (p *plan) flood(ctx context.Context, c *coord.Coordinator, k *recipes.Cache[record], say func(string, ...any)) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var deltas, rebuilt atomic.Int64
	go func() {
		for d, err := range k.Changes(reading) {
			if err != nil {
				return
			}
			deltas.Add(1)
			if d.Rebuilt {
				rebuilt.Add(1)
			}
		}
	}()
	var writes atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	begin := time.Now()
	for caller := range p.callers {
		all.Go(func() {
			typed := coord.NewTyped(c, coord.JSON[record]())
			for i := caller; time.Since(begin) < p.busy; i += p.callers {
				if _, err := typed.SetData(ctx, path(i*7919%p.znodes), record{N: int64(i)}); err != nil {
					failed.Store(&err)
					return
				}
				writes.Add(1)
			}
		})
	}
	var behind []time.Duration
	for time.Since(begin) < p.busy {
		asked := time.Now()
		if err := k.Synced(ctx); err != nil {
			return err
		}
		behind = append(behind, time.Since(asked))
		time.Sleep(time.Millisecond) // so that each moment counts alike
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	end := time.Now()
	if err := k.Synced(ctx); err != nil {
		return err
	}
	say("%d callers, %.0f updates/s: Synced takes %v (p99 %v, at most %v), and %v behind the last; %d deltas told, the subtree read anew %d times",
		p.callers, float64(writes.Load())/p.busy.Seconds(), quantile(behind, 0.5), quantile(behind, 0.99), quantile(behind, 1),
		time.Since(end).Round(time.Microsecond), deltas.Load(), rebuilt.Load())
	return nil
}

func quantile(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	return all[int(q*float64(len(all)-1))].Round(time.Microsecond)
}

// cpuTime returns what the process has used, the garbage collector included.
func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // cannot fail
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// heapBytes returns what is alive.
func heapBytes() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
