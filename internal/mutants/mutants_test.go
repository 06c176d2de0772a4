package mutants_test

import (
	"flag"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"coord/internal/mutants"
	"coord/internal/overlay"
)

var (
	hunt   = flag.Bool("mutants.hunt", false, "build each mutant and have it caught; takes minutes each")
	only   = flag.String("mutants.only", "", "the name of the one mutant to hunt")
	within = flag.Duration("mutants.within", 2*time.Minute, "how long a test may look for a mutant, in real time")
)

// root is the module's, seen from here.
const root = "../.."

func TestMutantsFit(t *testing.T) {
	all, err := mutants.All()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d mutants: %v", len(all), err)
	}
	for _, m := range all {
		if err := overlay.New(t.TempDir()).Apply(root, m.Patch); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		if _, err := regexp.Compile(m.Says); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		for _, test := range m.CaughtBy {
			if dir, name, ok := strings.Cut(test, " "); !ok || name == "" || len(match(t, filepath.Join(root, dir, "*_test.go"))) == 0 {
				t.Errorf("%s is caught by %q: that is no directory with tests and the name of one", m.Name, test)
			}
		}
	}
	if _, err := mutants.Get("nobody"); err == nil {
		t.Error("there is a mutant nobody")
	}
}

func match(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestHunt has each mutant caught.
func TestHunt(t *testing.T) {
	if !*hunt {
		t.Skip("-mutants.hunt is not set")
	}
	all, err := mutants.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if *only != "" && m.Name != *only {
			continue
		}
		t.Run(m.Name, func(t *testing.T) { catch(t, m) })
	}
}

func catch(t *testing.T, m mutants.Mutant) {
	t.Helper()
	dir, test, _ := strings.Cut(m.CaughtBy[0], " ")
	binary := filepath.Join(t.TempDir(), "mutant.test")
	build := exec.CommandContext(t.Context(), "go", "run", "./internal/deterministic/build", "-mutant", m.Name, "-o", binary, "./"+dir)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	args := []string{"-test.run", "^" + test + "$", "-test.timeout", (10 * time.Minute).String()}
	args = append(args, m.With...)
	if dir == "internal/sim" {
		args = append(args, "-sim.ops=100000000", "-sim.grants=100000000", "-sim.duration", within.String())
	}
	run := exec.CommandContext(t.Context(), binary, args...)
	run.Dir = filepath.Join(root, dir)
	start := time.Now()
	out, err := run.CombinedOutput()
	said := regexp.MustCompile("(?m)^.*" + m.Says + ".*$").FindString(string(out))
	switch {
	case err == nil:
		t.Errorf("%s has not noticed it in %v:\n%s", m.CaughtBy[0], time.Since(start).Round(time.Second), m.Patch.About)
	case said == "":
		t.Errorf("%s fails, but does not say %s:\n%.5000s", m.CaughtBy[0], m.Says, out)
	default:
		t.Logf("caught after %v: %.300s", time.Since(start).Round(time.Second), strings.TrimSpace(said))
	}
}
