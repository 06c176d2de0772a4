package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord/bench/table"
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
	rows := [][]string{append(head, "failed")}
	for _, r := range rowsOf(samples) {
		cells := []string{strconv.Itoa(r.hosts), r.load.Op, r.load.At, strconv.Itoa(r.load.Callers)}
		for _, s := range subjects {
			cells = append(cells, summary(r.samples[s])...)
		}
		for _, s := range subjects[1:] {
			cells = append(cells, ratio(r.samples[subjects[0]], r.samples[s]))
		}
		rows = append(rows, append(cells, failures(subjects, r.samples)))
	}
	return table.Print(w, rows)
}

func summary(f []figures) []string {
	return []string{
		table.Count(table.Median(f, func(f figures) float64 { return f.PerSecond })),
		table.Short(table.Median(f, func(f figures) time.Duration { return f.P50 })),
		table.Short(table.Median(f, func(f figures) time.Duration { return f.P99 })),
		table.Short(table.Median(f, func(f figures) time.Duration { return f.CPU })),
	}
}

// ratio compares the operations a second of each round.
func ratio(a, b []figures) string {
	perSecond := func(list []figures) (all []float64) {
		for _, f := range list {
			all = append(all, f.PerSecond)
		}
		return all
	}
	return table.Ratio(perSecond(a), perSecond(b))
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
