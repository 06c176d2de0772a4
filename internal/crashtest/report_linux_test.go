package crashtest_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// String returns the report in Markdown.
func (r *report) String() string {
	var b strings.Builder
	verdict := "No violation."
	if r.rejected {
		verdict = "**The last run failed.**"
	}
	fmt.Fprintf(&b, "# Chaos: %d runs in %v\n\n%s `make chaos MINUTES=%g SEED=%d`\n",
		r.runs, time.Since(r.began).Round(time.Second), verdict, *minutesFlag, r.seed)
	table := func(head string, of map[string]int) {
		fmt.Fprintf(&b, "\n| %s | |\n|--|--:|\n", head)
		for _, what := range slices.Sorted(maps.Keys(of)) {
			fmt.Fprintf(&b, "| %s | %d |\n", what, of[what])
		}
	}
	table("what was done to members", r.faults)
	table("packets", map[string]int{
		"delivered": int(r.packets.Delivered), "lost or cut": int(r.packets.Lost), "repeated": int(r.packets.Duplicated),
		"damaged behind a true checksum": int(r.packets.Damaged), "delayed": int(r.packets.Late),
	})
	calls := map[string]int{}
	for o, n := range r.entries {
		calls["calls "+string(o)] = n
	}
	maps.Copy(calls, r.numbers)
	table("what was asked and checked", calls)
	return b.String()
}

// write logs the report, and writes it to a file if one is named.
func (r *report) write(tb testing.TB, path string) {
	tb.Helper()
	tb.Logf("\n%v", r)
	if path == "" {
		return
	}
	if err := os.WriteFile(path, []byte(r.String()), 0o600); err != nil {
		tb.Error(err)
	}
}
