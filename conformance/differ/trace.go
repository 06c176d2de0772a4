package differ

import (
	"fmt"
	"slices"
	"strings"

	"coord/conformance/script"
)

// A Trace is what a server answered to a script, step by step.
type Trace []Answer

// An Answer is what was seen after one step: on the connection that sent something, and
// then on the others.
type Answer struct {
	Step  script.Step
	Lines []string
	// Broken are promises that every server makes and that this one broke here, such as
	// that no zxid is older than one seen before.
	Broken []string
}

// String returns the answer for people.
func (a Answer) String() string {
	return strings.Join(append(slices.Clone(a.Lines), a.Broken...), "\n")
}

// A line is one thing that was seen, with the zxids that stand in it apart: their values
// say nothing, their order does.
type line struct{ parts []any }

// text adds text that is compared as it is.
func (l *line) text(format string, args ...any) *line {
	l.parts = append(l.parts, fmt.Sprintf(format, args...))
	return l
}

// zxid adds a zxid that is compared by its place among all of the run.
func (l *line) zxid(name string, z int64) *line {
	if z == 0 {
		return l.text(" %s=0", name)
	}
	l.parts = append(l.parts, " "+name+"=z", zxid(z))
	return l
}

type zxid int64

// seen is a step with its lines, before zxids are ranked.
type seen struct {
	step   script.Step
	lines  []*line
	broken []string
}

func (s *seen) line() *line {
	l := &line{}
	s.lines = append(s.lines, l)
	return l
}

// ranked replaces zxids by their ranks among all that were seen.
func ranked(steps []*seen) Trace {
	ranks := map[zxid]int{}
	var all []zxid
	for _, s := range steps {
		for _, l := range s.lines {
			for _, p := range l.parts {
				if z, ok := p.(zxid); ok {
					all = append(all, z)
				}
			}
		}
	}
	slices.Sort(all)
	for i, z := range slices.Compact(all) {
		ranks[z] = i
	}
	var trace Trace
	for _, s := range steps {
		a := Answer{Step: s.step, Broken: s.broken}
		for _, l := range s.lines {
			var b strings.Builder
			for _, p := range l.parts {
				if z, ok := p.(zxid); ok {
					fmt.Fprint(&b, ranks[z])
				} else {
					fmt.Fprint(&b, p)
				}
			}
			a.Lines = append(a.Lines, b.String())
		}
		trace = append(trace, a)
	}
	return trace
}
