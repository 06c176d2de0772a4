// Command groups measures what mounts cost and give: an ensemble of three members in one
// process, on the real disk and over loopback, whose callers write to one group or to
// several at equal load, beside the raft library alone with a batcher for each group; what a group costs that has nothing to do; and what one group
// notices of another that is saturated by heavy multis, or has lost its quorum.
//
//	go run ./groups -h
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"coord/bench/machine"
)

// A plan is what the command line asks for.
type plan struct {
	groups   []int
	shards   []int
	callers  int
	spread   bool
	duration time.Duration
	idle     time.Duration
	rounds   int
	dir      string
}

func main() { machine.Main("groups", command) }

func command(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("groups", flag.ContinueOnError)
	var p plan
	groups := fs.String("groups", "1,4,16,64", "how many groups to write to, one after the other")
	shards := fs.String("shards", "1,2,4", "Config.LogShards, one after the other")
	fs.IntVar(&p.callers, "callers", 128, "that write at the same time, shared out over the groups")
	fs.BoolVar(&p.spread, "spread", false, "spread the callers over the members; otherwise all are at the first")
	fs.DurationVar(&p.duration, "duration", 5*time.Second, "of each measurement")
	fs.DurationVar(&p.idle, "idle", 10*time.Second, "how long to measure while nobody does anything")
	fs.IntVar(&p.rounds, "rounds", 3, "of all measurements of an ensemble; the medians are printed")
	fs.StringVar(&p.dir, "dir", "", "where to make the temporary directory; default: the system's")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var err error
	if p.groups, err = numbers(*groups, 1, 256); err != nil {
		return fmt.Errorf("flag -groups: %w", err)
	}
	if p.shards, err = numbers(*shards, 1, 64); err != nil {
		return fmt.Errorf("flag -shards: %w", err)
	}
	if p.callers < 1 || p.duration <= 0 || p.idle <= 0 || p.rounds < 1 {
		return fmt.Errorf("%d callers, %v, %v idle, %d rounds: must be positive", p.callers, p.duration, p.idle, p.rounds)
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

// numbers reads a list of numbers between least and most.
func numbers(list string, least, most int) ([]int, error) {
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return nil, fmt.Errorf("%q is not a number from %d to %d", text, least, most)
		}
		all = append(all, n)
	}
	return all, nil
}

// execute measures with each number of log shards, on a new ensemble.
func (p *plan) execute(ctx context.Context, out io.Writer) error {
	for _, shards := range p.shards {
		if err := p.measure(ctx, out, shards); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) measure(ctx context.Context, out io.Writer, shards int) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	e, err := openEnsemble(ctx, filepath.Join(p.dir, strconv.Itoa(shards)), shards)
	if err != nil {
		return err
	}
	defer e.close()
	base := 0.0
	bare := e.cost(p.idle)
	say("log shards %d, nothing mounted: idle %v", shards, bare)
	for _, n := range p.groups {
		if err := e.mount(ctx, n); err != nil {
			return err
		}
		idle := e.cost(p.idle)
		var rates, p99s, cpus []float64
		for range p.rounds {
			f := e.write(ctx, n, p)
			if f.err != nil {
				return f.err
			}
			rates, p99s = append(rates, f.perSecond), append(p99s, f.p99.Seconds()*1000)
			cpus = append(cpus, float64(f.cpu.Microseconds()))
		}
		if base == 0 {
			base = median(rates)
		}
		say("log shards %d, %d groups: %.0f writes/s (%s), %.2f of the first; p99 %.1f ms; %.0f µs of CPU a write; idle %v, %v per group",
			shards, n, median(rates), ranging(rates), median(rates)/base, median(p99s), median(cpus), idle, idle.perGroup(bare, n))
	}
	if shards == 1 {
		if err := p.measureBare(ctx, out); err != nil {
			return err
		}
	}
	alone, beside, lost, err := e.isolation(ctx, p)
	if err != nil {
		return err
	}
	say("log shards %d: p99 of a group alone %.1f ms, beside one that is saturated by multis of 64 KiB %.1f ms: %.1fx, beside one without a quorum %.1f ms: %.1fx",
		shards, median(alone), median(beside), median(beside)/median(alone), median(lost), median(lost)/median(alone))
	return nil
}

// measureBare measures the same load on the raft library alone, with a batcher for each
// group.
func (p *plan) measureBare(ctx context.Context, out io.Writer) error {
	base := 0.0
	for _, n := range p.groups {
		e, err := openBare(ctx, filepath.Join(p.dir, "bare", strconv.Itoa(n)), n)
		if err != nil {
			return err
		}
		var rates, cpus []float64
		for range p.rounds {
			f := load(ctx, p.callers, p.duration, func(caller int) error { return e.groups[caller%n].write() })
			if f.err != nil {
				return errors.Join(f.err, e.close())
			}
			rates, cpus = append(rates, f.perSecond), append(cpus, float64(f.cpu.Microseconds()))
		}
		if err := e.close(); err != nil {
			return err
		}
		if base == 0 {
			base = median(rates)
		}
		fmt.Fprintf(out, "the raft library and a batcher, %d groups: %.0f writes/s (%s), %.2f of the first; %.0f µs of CPU a write\n",
			n, median(rates), ranging(rates), median(rates)/base, median(cpus))
	}
	return nil
}
