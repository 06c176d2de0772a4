package coordtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"coord/internal/bubble"
)

// seedVariable is the environment variable that repeats a run.
const seedVariable = "COORDTEST_SEED"

// chooseSeed returns the seed that the environment names, or some.
func chooseSeed(tb testing.TB) uint64 {
	tb.Helper()
	text, ok := os.LookupEnv(seedVariable)
	if !ok {
		return uint64(rand.Uint32())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		tb.Fatalf("coordtest: %s=%q is no seed: it must be a number from 0 to 2^64-1", seedVariable, text)
	}
	return seed
}

// Those who throw dice. Each has a generator of its own, so that one does not change
// what another does.
const (
	forNetwork uint64 = iota + 1
	forPowerCuts
	forNemesis
)

// dice returns a generator that depends on the seed and on who throws.
func dice(seed, who uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, who)) }

// repeatCommand returns the command that runs a test again with the same seed.
func repeatCommand(tb testing.TB, seed uint64) string {
	tb.Helper()
	race := ""
	if bubble.RaceDetector {
		race = " -race"
	}
	flag := "-run"
	if _, is := tb.(*testing.B); is {
		flag = "-run '^$' -bench"
	}
	var names []string
	for name := range strings.SplitSeq(tb.Name(), "/") {
		names = append(names, "^"+regexp.QuoteMeta(name)+"$")
	}
	return fmt.Sprintf("%s=%d go test%s -count=1 %s '%s' %s", seedVariable, seed, race, flag, strings.Join(names, "/"), testedPackage())
}

// testedPackage returns the import path of the package whose test this is.
func testedPackage() string {
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasSuffix(info.Path, ".test") {
		return strings.TrimSuffix(info.Path, ".test")
	}
	return "."
}
