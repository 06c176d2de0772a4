// Command contention measures what a lock costs that many want: coord's beside
// etcd's, each an ensemble of three members in one process, on the real disk and
// over loopback.
//
//	go run . -h
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord/bench/machine"
	"coord/bench/table"
)

// A plan is what the command line asks for.
type plan struct {
	load

	contenders []int
	subjects   []string
	rounds     int
	limit      time.Duration
	dir        string
	cpuProfile string
}

func main() { machine.Main("contention", command) }

func command(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("contention", flag.ContinueOnError)
	var p plan
	contenders := fs.String("contenders", "1,10,100,1000", "numbers of contenders, spread over the members")
	names := fs.String("subjects", strings.Join(subjects, ","), "what to measure; the first is compared with the others")
	fs.DurationVar(&p.Duration, "duration", 3*time.Second, "measured time of a row, after each contender had its turn")
	fs.IntVar(&p.Releases, "releases", 10, "releases to watch one by one, for whom they wake")
	fs.IntVar(&p.rounds, "rounds", 3, "how often everything is measured; the table has medians")
	fs.DurationVar(&p.limit, "limit", 2*time.Minute, "for one measurement, which fails if it takes longer")
	fs.StringVar(&p.dir, "dir", "", "where to make the temporary directory; default: the system's")
	fs.StringVar(&p.cpuProfile, "cpuprofile", "", "write CPU profiles to this `file`.SUBJECT.CONTENDERS.ROUND")
	child := fs.Bool("child", false, "for the tool itself: measure the one subject with the one number of contenders, in dir, and print JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	p.subjects = strings.Split(*names, ",")
	for word := range strings.SplitSeq(*contenders, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return fmt.Errorf("%q contenders: not a positive number", word)
		}
		p.contenders = append(p.contenders, n)
	}
	for _, name := range p.subjects {
		if !slices.Contains(subjects, name) {
			return fmt.Errorf("subject %q is none of %q", name, subjects)
		}
	}
	if p.rounds < 1 || p.Releases < 0 || p.Duration <= 0 || p.limit <= 0 {
		return fmt.Errorf("%d rounds, %d releases, duration %v, limit %v: must be positive", p.rounds, p.Releases, p.Duration, p.limit)
	}
	if *child {
		return p.measureHere(ctx, out)
	}
	return p.execute(ctx, out)
}

// measureHere measures the first subject with the first number of contenders, in
// this process.
func (p *plan) measureHere(ctx context.Context, out io.Writer) (err error) {
	s, err := openSubject(ctx, p.subjects[0], p.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if p.cpuProfile != "" {
		f, err := os.Create(p.cpuProfile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	p.Contenders = p.contenders[0]
	f, err := run(ctx, s, p.load)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(f)
}

// A row is a number of contenders. It has the figures of each subject, in the order
// of the rounds.
type row map[string][]figures

// execute measures everything and prints the table.
func (p *plan) execute(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp(p.dir, "coord-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.dir = dir
	if err := machine.Describe(out, dir); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d members, %v a row, medians of %d rounds\n\n", members, p.Duration, p.rounds)
	rows, err := p.measureAll(ctx)
	if err != nil {
		return err
	}
	if err := p.print(out, rows); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "load average at the end, the measured load included: %s\n", machine.LoadAverage())
	return err
}

// measureAll measures everything. In every other round the subjects come in the
// opposite order. What fails is part of the figures: on a busy machine that happens.
func (p *plan) measureAll(ctx context.Context) ([]row, error) {
	rows := make([]row, len(p.contenders))
	for round := range p.rounds {
		order := slices.Clone(p.subjects)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for i, n := range p.contenders {
			if rows[i] == nil {
				rows[i] = row{}
			}
			for _, name := range order {
				f, err := p.measure(ctx, name, n, round)
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				if err != nil {
					f.Failure = err.Error()
				}
				rows[i][name] = append(rows[i][name], f)
			}
		}
	}
	return rows, nil
}

// measure has a process of its own measure a subject, from an empty directory: the
// heap of one is not to slow the other.
func (p *plan) measure(ctx context.Context, name string, contenders, round int) (f figures, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.limit, fmt.Errorf("not done within %v", p.limit))
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	run := fmt.Sprintf("%s.%d.%d", name, contenders, round)
	dir := filepath.Join(p.dir, run)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return f, err
	}
	defer os.RemoveAll(dir)
	args := []string{
		"-dir=" + dir, "-subjects=" + name, "-contenders=" + strconv.Itoa(contenders),
		"-duration=" + p.Duration.String(), "-releases=" + strconv.Itoa(p.Releases),
	}
	if p.cpuProfile != "" {
		args = append(args, "-cpuprofile="+p.cpuProfile+"."+run)
	}
	cmd := exec.CommandContext(ctx, self, append(args, "-child")...)
	var answer bytes.Buffer
	var reason strings.Builder
	cmd.Stdout, cmd.Stderr = &answer, &reason
	if err := cmd.Run(); err != nil {
		return f, errors.Join(fmt.Errorf("%w: %s", err, strings.TrimSpace(reason.String())), context.Cause(ctx))
	}
	return f, json.Unmarshal(answer.Bytes(), &f)
}

// print prints a Markdown table. Its ratios say how many times as many grants the
// first subject makes in a second, and how many times as long another's hand-over
// takes, with the extremes of the rounds.
func (p *plan) print(out io.Writer, rows []row) error {
	first := p.subjects[0]
	lines := [][]string{{
		"contenders", "system", "grants/s", "hand-over p50", "p99", "entries/grant", "writes/grant", "woken/release", "CPU/grant",
		first + "/it, grants", "it/" + first + ", p50", "failed",
	}}
	var failures []string
	perSecond := func(f figures) float64 { return f.PerSecond }
	p50 := func(f figures) time.Duration { return f.P50 }
	for i, n := range p.contenders {
		for _, name := range p.subjects {
			f, mine := succeeded(rows[i][name]), rows[i][first]
			line := []string{
				strconv.Itoa(n), name, table.Count(table.Median(f, perSecond)), table.Short(table.Median(f, p50)),
				table.Short(table.Median(f, func(f figures) time.Duration { return f.P99 })),
				fmt.Sprintf("%.2f", table.Median(f, func(f figures) float64 { return f.Entries })),
				fmt.Sprintf("%.2f", table.Median(f, func(f figures) float64 { return f.Writes })),
				woken(f), table.Short(table.Median(f, func(f figures) time.Duration { return f.CPU })), "", "", "-",
			}
			if name != first {
				all := rows[i][name]
				line[len(line)-3] = table.Ratio(each(mine, perSecond), each(all, perSecond))
				line[len(line)-2] = table.Ratio(each(all, p50), each(mine, p50))
			}
			if n := len(rows[i][name]) - len(f); n > 0 {
				line[len(line)-1] = strconv.Itoa(n)
			}
			for _, f := range rows[i][name] {
				if f.Failure != "" {
					failures = append(failures, fmt.Sprintf("%s with %d contenders failed: %s\n", name, n, f.Failure))
				}
			}
			if slices.ContainsFunc(f, func(f figures) bool { return f.Moved }) {
				line[1] += " (the leader changed)"
			}
			lines = append(lines, line)
		}
	}
	if err := table.Print(out, lines); err != nil {
		return err
	}
	_, err := io.WriteString(out, strings.Join(failures, ""))
	return err
}

func succeeded(list []figures) []figures {
	return slices.DeleteFunc(slices.Clone(list), func(f figures) bool { return f.Failure != "" })
}

// woken prints the largest number of waiters that a release woke on average.
func woken(f []figures) string {
	most, watched := 0.0, 0
	for _, f := range f {
		most, watched = max(most, f.Woken), watched+f.Watched
	}
	if watched == 0 {
		return "-"
	}
	return strconv.FormatFloat(most, 'f', 2, 64)
}

func each[V any](list []figures, of func(figures) V) (all []V) {
	for _, f := range list {
		all = append(all, of(f))
	}
	return all
}
