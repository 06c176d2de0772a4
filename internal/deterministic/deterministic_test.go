package deterministic_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"coord/internal/deterministic"
	"coord/internal/overlay"
)

// TestPatchFits fails where Go's sources, or those of coord, have changed under a patch. A
// Go that there is no patch for is none of its business.
func TestPatchFits(t *testing.T) {
	own, err := deterministic.Sources()
	if err != nil {
		t.Fatal(err)
	}
	if err := overlay.New(t.TempDir()).Apply("../..", own); err != nil {
		t.Error(err)
	}
	p, known, err := deterministic.Patch(runtime.Version())
	if err != nil {
		t.Fatal(err)
	}
	if !known {
		t.Skipf("the sources of %s are not known", runtime.Version())
	}
	if err := overlay.New(t.TempDir()).Apply(filepath.Join(goroot(t), "src"), p); err != nil {
		t.Errorf("%s: %v", runtime.Version(), err)
	}
	if _, known, err := deterministic.Patch("go1.1"); known || err != nil {
		t.Errorf("go1.1 is known: %v, %v", known, err)
	}
}

func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("there is no go command: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// TestRunsRepeat compares processes that run the same seeds, beside each other, with
// environments of different sizes.
func TestRunsRepeat(t *testing.T) {
	if testing.Short() {
		t.Skip("building takes half a minute of one core at first")
	}
	goroot(t)
	binary := filepath.Join(t.TempDir(), "lottery.test")
	build := exec.CommandContext(t.Context(), "go", "run", "./internal/deterministic/build", "-strict", "-o", binary, "./internal/deterministic/testdata/lottery")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "exit status 3") {
			t.Skipf("%s", out)
		}
		t.Fatalf("build: %v\n%s", err, out)
	}
	const processes = 4
	outputs := make([]chan string, processes)
	for i := range outputs {
		outputs[i] = make(chan string, 1)
		go func() {
			cmd := exec.CommandContext(t.Context(), binary, "-test.run", "TestLottery")
			cmd.Env = append(os.Environ(), "PADDING="+strings.Repeat("x", i*5000), "GOMAXPROCS="+strconv.Itoa(1+i))
			out, err := cmd.CombinedOutput()
			if err != nil {
				out = append(out, err.Error()...)
			}
			outputs[i] <- string(out)
		}()
	}
	first := <-outputs[0]
	if strings.Count(first, "seed ") != 3 || !strings.Contains(first, "PASS") {
		t.Errorf("no process says what was drawn:\n%s", first)
	}
	for _, output := range outputs[1:] {
		if other := <-output; other != first {
			t.Errorf("two processes:\n%s\n%s", first, other)
		}
	}
}
