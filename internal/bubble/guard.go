package bubble

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// Limits say how long a test in a bubble may take. Without them one that hangs hangs for
// ever: while tickers tick, virtual time goes on without an end, and while a goroutine
// runs, or waits for something that is no bubble's, it does not go on at all.
type Limits struct {
	Virtual time.Duration
	Real    time.Duration
	About   func() string // what else there is to say about a test that hangs, or nil
}

// RunWithin is Run, but ends the process if the test is not over within limits, and says
// where all goroutines are.
func RunWithin(t *testing.T, l Limits, test func(t *testing.T)) {
	t.Helper()
	alarm := time.AfterFunc(l.Real, func() { panic(l.hang("real", l.Real)) })
	defer alarm.Stop()
	defer lastResort(l.Real + min(l.Real, grace))()
	Run(t, func(t *testing.T) {
		alarm := time.AfterFunc(l.Virtual, func() { panic(l.hang("virtual", l.Virtual)) })
		defer alarm.Stop()
		test(t)
	})
}

// grace is how long a goroutine has to say that a test hangs: About may wait for what the
// test waits for, and where nobody is preempted it may never get to run.
const grace = 30 * time.Second

func (l *Limits) hang(kind string, limit time.Duration) string {
	where := goroutines()
	debug.SetTraceback("single") // all the others are in it
	about := ""
	if l.About != nil {
		about = l.About()
	}
	return fmt.Sprintf("the test hangs: it is not over after %v of %s time\n%s\n%s", limit, kind, about, where)
}

var (
	header    = regexp.MustCompile(`^goroutine \d+ (?:gp=\S+ m=\S+ (?:mp=\S+ )?)?\[([^\]]*)\]:`)
	minutes   = regexp.MustCompile(`, \d+ minutes|, locked to thread`)
	arguments = regexp.MustCompile(`(?m)\([^()\n]*\)$| \+0x[0-9a-f]+$| in goroutine \d+$`)
)

// goroutines returns the stacks of all goroutines, equal ones once, with how many there
// are: rare ones first, since the odd one out is who hangs.
func goroutines() string {
	buf := make([]byte, 64<<20)
	counts := map[string]int{}
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		stack = header.ReplaceAllString(strings.TrimSpace(stack), "[$1]")
		counts[arguments.ReplaceAllString(minutes.ReplaceAllString(stack, ""), "")]++
	}
	var all []string
	for stack, n := range counts {
		all = append(all, fmt.Sprintf("%5d: %s\n", n, stack))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
