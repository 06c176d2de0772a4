package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A row is one load on all subjects.
type row struct {
	hosts   int
	load    load
	samples map[string][]figures // by subject, in the order of the rounds
}

func rowsOf(samples []sample) []*row {
	var rows []*row
	for _, s := range samples {
		i := slices.IndexFunc(rows, func(r *row) bool { return r.hosts == s.Hosts && r.load == s.load })
		if i < 0 {
			i = len(rows)
			rows = append(rows, &row{s.Hosts, s.load, map[string][]figures{}})
		}
		rows[i].samples[s.Subject] = append(rows[i].samples[s.Subject], s.figures)
	}
	return rows
}

// printTable prints a Markdown table: of each subject the operations a second,
// the latencies, the CPU time of an operation and what failed, and of the first
// subject the ratio to each other one, with the extremes of the rounds.
func printTable(w io.Writer, subjects []string, samples []sample) error {
	head := []string{"members", "op", "at", "callers"}
	for _, s := range subjects {
		head = append(head, s+" op/s", "p50", "p99", "CPU/op")
	}
	for _, s := range subjects[1:] {
		head = append(head, subjects[0]+"/"+s)
	}
	table := [][]string{append(head, "failed")}
	for _, r := range rowsOf(samples) {
		cells := []string{strconv.Itoa(r.hosts), r.load.Op, r.load.At, strconv.Itoa(r.load.Callers)}
		for _, s := range subjects {
			cells = append(cells, summary(r.samples[s])...)
		}
		for _, s := range subjects[1:] {
			cells = append(cells, ratio(r.samples[subjects[0]], r.samples[s]))
		}
		table = append(table, append(cells, failures(subjects, r.samples)))
	}
	return printMarkdown(w, table)
}

func summary(f []figures) []string {
	return []string{
		count(median(f, func(f figures) float64 { return f.PerSecond })),
		short(median(f, func(f figures) time.Duration { return f.P50 })),
		short(median(f, func(f figures) time.Duration { return f.P99 })),
		short(median(f, func(f figures) time.Duration { return f.CPU })),
	}
}

// ratio returns the median of the rounds' ratios, and the least and largest.
func ratio(a, b []figures) string {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if b[i].PerSecond > 0 {
			ratios = append(ratios, a[i].PerSecond/b[i].PerSecond)
		}
	}
	switch len(ratios) {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf("%.2f", ratios[0])
	}
	mid := median(ratios, func(r float64) float64 { return r })
	return fmt.Sprintf("%.2f (%.2f-%.2f)", mid, slices.Min(ratios), slices.Max(ratios))
}

// failures names what went wrong in any round.
func failures(subjects []string, samples map[string][]figures) string {
	var out []string
	for _, s := range subjects {
		var timeouts, errs int64
		moved := false
		for _, f := range samples[s] {
			timeouts += f.Timeouts
			errs += f.Errors
			moved = moved || f.LeaderChange
		}
		if timeouts > 0 {
			out = append(out, fmt.Sprintf("%s: %d timeouts", s, timeouts))
		}
		if errs > 0 {
			out = append(out, fmt.Sprintf("%s: %d errors", s, errs))
		}
		if moved {
			out = append(out, s+": leader changed")
		}
	}
	return cmp.Or(strings.Join(out, ", "), "-")
}

// median returns the middle of the values, or the mean of the two in the middle.
func median[T any, V ~int64 | ~float64](list []T, of func(T) V) V {
	var values []V
	for _, x := range list {
		values = append(values, of(x))
	}
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

// count prints three significant digits of a rate.
func count(v float64) string {
	switch {
	case v >= 100_000:
		return fmt.Sprintf("%.0fk", v/1000)
	case v >= 1000:
		return fmt.Sprintf("%.1fk", v/1000)
	}
	return fmt.Sprintf("%.0f", v)
}

func short(d time.Duration) string {
	switch {
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d >= 10*time.Microsecond:
		return fmt.Sprintf("%.0f µs", d.Seconds()*1e6)
	}
	return fmt.Sprintf("%.1f µs", d.Seconds()*1e6)
}

func printMarkdown(w io.Writer, table [][]string) error {
	width := make([]int, len(table[0]))
	for _, cells := range table {
		for i, c := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	line := func(cells []string, fill string) {
		for i, c := range cells {
			b.WriteString("| " + c + strings.Repeat(fill, width[i]-utf8.RuneCountInString(c)) + " ")
		}
		b.WriteString("|\n")
	}
	line(table[0], " ")
	line(make([]string, len(width)), "-")
	for _, cells := range table[1:] {
		line(cells, " ")
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}
