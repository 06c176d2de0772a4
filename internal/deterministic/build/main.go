// Program build compiles the tests of a package into a binary whose runs in bubbles are a
// function of a seed (package deterministic), with mutants if wanted (package mutants):
//
//	go run ./internal/deterministic/build -o sim.test ./internal/sim
//	go run ./internal/deterministic/build -o sim.test -mutant lost-touch-check ./internal/sim
//
// With a Go whose sources it does not know it says so and builds a binary that is not
// deterministic, unless -strict is given; then it ends with status 3.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"coord/internal/deterministic"
	"coord/internal/mutants"
	"coord/internal/overlay"
)

func main() {
	out := flag.String("o", "", "the binary to write")
	mutant := flag.String("mutant", "", "the name of a mutant to plant")
	strict := flag.Bool("strict", false, "end with status 3 rather than build a binary that is not deterministic")
	flag.Parse()
	if *out == "" || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	known, err := build(*out, *mutant, flag.Arg(0), *strict)
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	if !known && *strict {
		os.Exit(3)
	}
}

// build reports whether the installed Go is known.
func build(out, mutant, pkg string, strict bool) (known bool, err error) {
	env, err := goEnv("GOVERSION", "GOROOT", "GOMOD")
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "coord-overlay-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is small
	o := overlay.New(dir)
	version, src, module := env[0], filepath.Join(env[1], "src"), filepath.Dir(env[2])
	known, err = applyDeterministic(o, version, src, module)
	args := []string{"test", "-c", "-o", out}
	switch {
	case err != nil:
		return known, fmt.Errorf("%s: %w", version, err)
	case known:
		args = append(args, "-tags", "deterministic")
	case strict:
		fmt.Fprintf(os.Stderr, "build: the sources of %s are not known, so runs cannot be repeated exactly\n", version)
		return false, nil
	default:
		fmt.Fprintf(os.Stderr, "build: the sources of %s are not known: a run will be much like another one of its seed, and not the same\n", version)
	}
	if mutant != "" {
		m, err := mutants.Get(mutant)
		if err != nil {
			return known, err
		}
		if err := o.Apply(module, m.Patch); err != nil {
			return known, err
		}
	}
	list, err := o.Write()
	if err != nil {
		return known, err
	}
	cmd := exec.Command("go", append(args, "-overlay", list, pkg)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return known, cmd.Run()
}

// applyDeterministic applies what makes bubbles deterministic, if that is known.
func applyDeterministic(o *overlay.Overlay, version, src, module string) (known bool, err error) {
	p, known, err := deterministic.Patch(version)
	if err != nil || !known {
		return known, err
	}
	own, err := deterministic.Sources()
	if err != nil {
		return true, err
	}
	if err := o.Apply(src, p); err != nil {
		return true, err
	}
	return true, o.Apply(module, own)
}

func goEnv(names ...string) ([]string, error) {
	out, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	if err != nil {
		return nil, err
	}
	values := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(values) != len(names) {
		return nil, fmt.Errorf("go env %v says %q", names, out)
	}
	return values, nil
}
