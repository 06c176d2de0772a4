// Command engine measures coord's writes and reads beside those of bare
// dragonboat with the same settings, for one member and for three in one
// process, on the real disk and over loopback.
//
//	go run ./engine -h
package main

import (
	"context"
	"encoding/json"
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
	settings // Hosts and Subject are filled in later

	hosts    []int
	callers  []int
	at       []string
	ops      []string
	only     string
	against  string
	duration time.Duration
	rounds   int
	json     bool

	cpuProfile, memProfile string
}

func main() {
	machine.Main("engine", func(ctx context.Context, args []string, _ io.Writer) error { return command(ctx, args) })
}

func command(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("engine", flag.ContinueOnError)
	var p plan
	hosts := fs.String("hosts", "1,3", "numbers of members")
	callers := fs.String("callers", "1,16,128,1024", "numbers of callers, each of which waits for its answers")
	at := fs.String("at", "leader,follower", "where they call")
	writes := fs.String("writes", opSet, "writes: set (SetData), mix (Create and Delete), both or none")
	reads := fs.Bool("reads", false, "also local and linearizable reads")
	fs.StringVar(&p.only, "only", "", "measure coord or bare alone")
	fs.StringVar(&p.against, "against", "", "measure also the coord in another `build` of this tool, as \"other\"")
	fs.DurationVar(&p.duration, "duration", 3*time.Second, "measured time of a row, after a quarter of it to warm up")
	fs.DurationVar(&p.Timeout, "timeout", 5*time.Second, "of a call")
	fs.IntVar(&p.rounds, "rounds", 3, "how often everything is measured; the table has medians")
	fs.IntVar(&p.Znodes, "znodes", 1000, "znodes in the tree")
	fs.IntVar(&p.Payload, "payload", 128, "bytes of data in a write")
	fs.StringVar(&p.Dir, "dir", "", "where to make the temporary directory; default: the system's")
	fs.StringVar(&p.cpuProfile, "cpuprofile", "", "write CPU profiles to this `file`.SUBJECT.HOSTS")
	fs.StringVar(&p.memProfile, "memprofile", "", "write profiles of allocations to this `file`.SUBJECT.HOSTS")
	fs.BoolVar(&p.json, "json", false, "print every measurement as a line of JSON instead of the table")
	isChild := fs.Bool("child", false, "for the tool itself: be a subject")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *isChild {
		return serve(ctx, os.Stdin, os.Stdout, p.cpuProfile, p.memProfile)
	}
	var err1, err2 error
	p.hosts, err1 = numbers(*hosts)
	p.callers, err2 = numbers(*callers)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	p.at = words(*at)
	p.ops = words(*writes)
	if *reads {
		p.ops = append(p.ops, opGet, opRead)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return p.execute(ctx, self, os.Stdout)
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func numbers(list string) ([]int, error) {
	var out []int
	for _, w := range words(list) {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a positive number", w)
		}
		out = append(out, n)
	}
	return out, nil
}

// A sample is one measurement, as -json prints it.
type sample struct {
	Subject string
	Hosts   int
	Round   int
	load
	figures
}

// execute measures everything and prints the table.
func (p *plan) execute(ctx context.Context, self string, out io.Writer) error {
	dir, err := os.MkdirTemp(p.Dir, "coord-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.Dir = dir
	if !p.json {
		if err := machine.Describe(out, dir); err != nil {
			return err
		}
		fmt.Fprintf(out, "%d znodes, payload %d bytes, %v a row, medians of %d rounds\n\n", p.Znodes, p.Payload, p.duration, p.rounds)
	}
	for _, hosts := range p.hosts {
		samples, err := p.measureHosts(ctx, self, hosts, out)
		if err != nil {
			return err
		}
		if !p.json {
			if err := printTable(out, p.subjects(), samples); err != nil {
				return err
			}
		}
	}
	if !p.json {
		fmt.Fprintf(out, "load average at the end, the measured load included: %s\n", machine.LoadAverage())
	}
	return nil
}

func (p *plan) subjects() []string {
	var names []string
	if p.only != "bare" {
		names = append(names, "coord")
	}
	if p.against != "" {
		names = append(names, "other")
	}
	if p.only != "coord" {
		names = append(names, "bare")
	}
	return names
}

// measureHosts measures all subjects with a number of members. In every other
// round the subjects come in the opposite order.
func (p *plan) measureHosts(ctx context.Context, self string, hosts int, out io.Writer) (_ []sample, err error) {
	var children []*child
	defer func() {
		for _, c := range children {
			err = errors.Join(err, c.close())
		}
	}()
	for _, name := range p.subjects() {
		s, path := p.settings, self
		s.Subject, s.Hosts = name, hosts
		if name == "other" {
			s.Subject, path = "coord", p.against
		}
		s.Dir = filepath.Join(p.Dir, name+strconv.Itoa(hosts))
		c, err := startChild(ctx, name, path, s, p.profiles(name, hosts))
		if err != nil {
			return nil, err
		}
		children = append(children, c)
	}
	var samples []sample
	for round := range p.rounds {
		for _, l := range p.loads(hosts) {
			for i := range children {
				c := children[i]
				if round%2 == 1 {
					c = children[len(children)-1-i]
				}
				f, err := c.ask(l)
				if err != nil {
					return nil, err
				}
				s := sample{c.name, hosts, round, l, f}
				samples = append(samples, s)
				if p.json {
					if err := json.NewEncoder(out).Encode(s); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	return samples, nil
}

// maxBusy is the largest number of callers of local reads. They never wait, so
// that many more of them keep everything else in the process from running: the
// members then miss each other's signs of life and, rightly, stop serving reads.
const maxBusy = 128

func (p *plan) loads(hosts int) []load {
	var loads []load
	for _, op := range p.ops {
		for _, at := range p.at {
			if at == "follower" && hosts == 1 {
				continue
			}
			for _, n := range p.callers {
				if op == opGet && n > maxBusy {
					continue
				}
				loads = append(loads, load{op, at, n, p.duration})
			}
		}
	}
	return loads
}

func (p *plan) profiles(name string, hosts int) []string {
	var flags []string
	suffix := fmt.Sprintf(".%s.%d", name, hosts)
	if p.cpuProfile != "" {
		flags = append(flags, "-cpuprofile="+p.cpuProfile+suffix)
	}
	if p.memProfile != "" {
		flags = append(flags, "-memprofile="+p.memProfile+suffix)
	}
	return flags
}
