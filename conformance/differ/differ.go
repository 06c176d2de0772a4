// Package differ carries out the same script on two servers and compares what they
// answer: replies, stats, events and error codes by value; zxids by their order; times
// by what they belong to; sessions by who opened them.
package differ

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"coord/conformance/script"
)

// A Subject is a server, or an ensemble of them, whose super user is super:super.
type Subject struct {
	Name  string
	Addrs []string
}

// A Pair runs scripts on two subjects. It is for one goroutine.
type Pair struct {
	subjects [2]Subject
	janitors [2]*janitor
	known    []Difference

	// Apart has the clients of each script come from an address of their own, of
	// 127.0.0.0/8. coord slows an address down whose credentials were refused, up to 10 s a
	// time: scripts that all came from one would mostly wait for the failures of others.
	Apart bool
}

// NewPair returns a pair of subjects that nobody else uses. Of what is known to differ,
// it says nothing.
func NewPair(a, b Subject, known []Difference) (*Pair, error) {
	p := &Pair{subjects: [2]Subject{a, b}, known: known}
	for i, s := range p.subjects {
		j, err := newJanitor(s.Addrs[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		p.janitors[i] = j
		if err := j.clean(context.Background()); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return p, level(p.janitors)
}

// Close ends the pair's sessions.
func (p *Pair) Close() {
	for _, j := range p.janitors {
		j.close()
	}
}

// Compare runs a script on both subjects, and returns what differs, in words, or "".
func (p *Pair) Compare(ctx context.Context, s script.Script) (string, error) {
	traces, err := p.Run(ctx, s)
	if err != nil {
		return "", err
	}
	return p.Diff(traces), nil
}

// Run runs a script on both subjects at the same time.
func (p *Pair) Run(ctx context.Context, s script.Script) ([2]Trace, error) {
	// Its length is part of what is compared.
	number := runs.Add(1)
	prefix := fmt.Sprintf("%s/%06d", base, number)
	var from net.IP
	if p.Apart {
		from = net.IPv4(127, 1+byte(number>>16&127), byte(number>>8), byte(number))
	}
	var traces [2]Trace
	var errs [2]error
	var wg sync.WaitGroup
	for i := range p.subjects {
		wg.Go(func() { traces[i], errs[i] = p.runOn(ctx, i, from, prefix, s) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return traces, &SubjectError{Subject: p.subjects[i].Name, Err: err}
		}
	}
	return traces, level(p.janitors)
}

// A SubjectError says that a script did not come to its end on one of the subjects.
type SubjectError struct {
	Subject string // its name
	Err     error
}

// Error says on which, and why.
func (e *SubjectError) Error() string { return e.Subject + ": " + e.Err.Error() }

// Unwrap returns why.
func (e *SubjectError) Unwrap() error { return e.Err }

// Mute reports whether the subject left something without an answer.
func (e *SubjectError) Mute() bool { return errors.Is(e.Err, os.ErrDeadlineExceeded) }

// runs counts the scripts that were run by this process.
var runs atomic.Int64

func (p *Pair) runOn(ctx context.Context, i int, from net.IP, prefix string, s script.Script) (Trace, error) {
	if err := p.janitors[i].prepare(prefix); err != nil {
		return nil, err
	}
	trace, err := Run(ctx, from, p.subjects[i].Addrs, prefix, s)
	if err != nil {
		return trace, err
	}
	return trace, p.janitors[i].clean(ctx)
}

// Diff says where the traces of one script differ first, or "".
func (p *Pair) Diff(traces [2]Trace) string {
	for _, difference := range p.Differences(traces) {
		return difference
	}
	return ""
}

// Differences says where the traces of one script differ.
func (p *Pair) Differences(traces [2]Trace) []string {
	var all []string
	for i := range traces[0] {
		a, b := traces[0][i], traces[1][i]
		if len(a.Broken) == 0 && len(b.Broken) == 0 && (slices.Equal(a.Lines, b.Lines) || p.excused(a, b)) {
			continue
		}
		all = append(all, fmt.Sprintf("%v\n  %s\n%s\n  %s\n%s\n", a.Step, p.subjects[0].Name, indent(a), p.subjects[1].Name, indent(b)))
	}
	return all
}

func indent(a Answer) string { return "    " + strings.ReplaceAll(a.String(), "\n", "\n    ") }

func (p *Pair) excused(a, b Answer) bool {
	return slices.ContainsFunc(p.known, func(d Difference) bool { return d.excuses(a, b) })
}
