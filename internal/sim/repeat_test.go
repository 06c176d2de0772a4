package sim_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"coord/internal/deterministic"
)

var repeatFlag = flag.Bool("sim.repeat", false, "prove that runs of a seed are the same in several processes")

// TestRepeat runs some seeds, one after another, in several processes beside each other.
func TestRepeat(t *testing.T) {
	switch {
	case !*repeatFlag:
		t.Skip("-sim.repeat is not set")
	case !deterministic.Enabled:
		t.Skip("this binary is not deterministic")
	}
	for _, r := range []struct {
		test, flag string
		made       int
	}{
		{"TestSimulation", "-sim.ops", 3 * opsPerRun},
		{"TestRecipes", "-sim.grants", 2 * grantsPerRun},
	} {
		traces := make([]chan []string, 3)
		for i := range traces {
			traces[i] = make(chan []string, 1)
			go func() {
				traces[i] <- tracesOf(t, i, "-test.run", "^"+r.test+"$", fmt.Sprintf("%s=%d", r.flag, r.made), fmt.Sprintf("-sim.seed=%d", *seedFlag))
			}()
		}
		first := <-traces[0]
		if len(first) < 2 {
			t.Errorf("%s tells %d traces", r.test, len(first))
		}
		for _, trace := range traces[1:] {
			if other := <-trace; strings.Join(other, "\n") != strings.Join(first, "\n") {
				t.Errorf("%s: two processes:\n%s\n%s", r.test, strings.Join(first, "\n"), strings.Join(other, "\n"))
			}
		}
		t.Logf("%s, %d processes:\n%s", r.test, len(traces), strings.Join(first, "\n"))
	}
}

// tracesOf returns what a process tells of its runs. Its environment is of another size
// than that of others, and so is its memory.
func tracesOf(t *testing.T, number int, args ...string) (traces []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "-test.v")...)
	cmd.Env = append(os.Environ(), "PADDING="+strings.Repeat("x", 5000*number))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%.3000s", args, err, out)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.Contains(line, "trace: ") {
			traces = append(traces, strings.TrimSpace(line))
		}
	}
	return traces
}
