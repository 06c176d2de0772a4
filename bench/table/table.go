// Package table is how the benchmarks print what they have measured.
package table

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Ratio prints the median of the ratios of a to b, round by round, and the least
// and largest. A round without a positive a and b does not count.
func Ratio[V ~int64 | ~float64](a, b []V) string {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if a[i] > 0 && b[i] > 0 {
			ratios = append(ratios, float64(a[i])/float64(b[i]))
		}
	}
	switch len(ratios) {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf("%.2f", ratios[0])
	}
	mid := Median(ratios, func(r float64) float64 { return r })
	return fmt.Sprintf("%.2f (%.2f-%.2f)", mid, slices.Min(ratios), slices.Max(ratios))
}

// Median returns the middle of the values, or the mean of the two in the middle.
func Median[T any, V ~int64 | ~float64](list []T, of func(T) V) V {
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

// Count prints three significant digits of a rate.
func Count(v float64) string {
	switch {
	case v >= 100_000:
		return fmt.Sprintf("%.0fk", v/1000)
	case v >= 1000:
		return fmt.Sprintf("%.1fk", v/1000)
	}
	return fmt.Sprintf("%.0f", v)
}

// Short prints a duration with two or three significant digits.
func Short(d time.Duration) string {
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

// Print prints a Markdown table. The first row is the heading.
func Print(w io.Writer, rows [][]string) error {
	width := make([]int, len(rows[0]))
	for _, cells := range rows {
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
	line(rows[0], " ")
	line(make([]string, len(width)), "-")
	for _, cells := range rows[1:] {
		line(cells, " ")
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}
