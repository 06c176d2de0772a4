// Command quickstart shows in half a minute what coord promises. Three processes
// on this machine form an ensemble and write a directory tree into it; the
// leader's process is killed in the middle of it, later all three are; in the
// end every file that was acknowledged is compared with the disk on each member.
//
// It starts itself again as the members. This process is not one of them: it
// hands out the files, remembers what was acknowledged, and does the killing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	dir      string        // the tree to write
	election time.Duration // coord.Config.ElectionTimeout
	session  time.Duration // coord.Config.SessionTimeout
	writers  int           // for each member
	deadline time.Duration // for each step
	keep     bool
}

func main() {
	if config := os.Getenv(memberEnv); config != "" {
		runMember(config)
		return
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without its process; it returns the exit status.
func run(args []string, out, diagnostics io.Writer) int {
	opts, err := parse(args, diagnostics)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	signal.Ignore(syscall.SIGPIPE) // a closed standard output must not keep this process from cleaning up
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once

	temp, err := os.MkdirTemp("", "coord-quickstart-")
	if err != nil {
		say(diagnostics, "quickstart: %v", err)
		return 1
	}
	err = narrate(ctx, opts, temp, out)
	switch {
	case err != nil && ctx.Err() == nil:
		say(diagnostics, "quickstart: failed: %v\nThe members' logs and data are in %s", err, temp)
		return 1
	case opts.keep:
		say(out, "The members' logs and data are in %s", temp)
	default:
		if rmErr := os.RemoveAll(temp); rmErr != nil {
			say(diagnostics, "quickstart: %v", rmErr)
			return 1
		}
	}
	if err != nil {
		say(diagnostics, "quickstart: interrupted: %v", err)
		return 1
	}
	return 0
}

func parse(args []string, diagnostics io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(diagnostics)
	f.StringVar(&o.dir, "dir", "", "directory `tree` to write (default: src/net of GOROOT)")
	f.DurationVar(&o.election, "election", 0, "coord.Config.ElectionTimeout (default: coord's own, 2s)")
	f.DurationVar(&o.session, "session", 0, "coord.Config.SessionTimeout (default: coord's own, 10s)")
	f.IntVar(&o.writers, "writers", 8, "writes under way on each member")
	f.DurationVar(&o.deadline, "deadline", time.Minute, "for each step; for the writing: without an acknowledgement")
	f.BoolVar(&o.keep, "keep", false, "keep the members' logs and data")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.writers < 1 {
		say(diagnostics, "quickstart: want flags only and at least one writer, have %d writers and the arguments %q", o.writers, f.Args())
		return o, errors.New("usage")
	}
	return o, nil
}

// sourceDir returns the directory to write.
func (o *options) sourceDir(ctx context.Context) (string, error) {
	dir := o.dir
	if dir == "" {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return "", fmt.Errorf("go env GOROOT: %w; name a directory with -dir", err)
		}
		dir = filepath.Join(strings.TrimSpace(string(out)), "src", "net")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// An account is what the program tells: a line a step, with the time since the
// start.
type account struct {
	out   io.Writer
	begun time.Time
}

func (a *account) tell(step, format string, args ...any) {
	say(a.out, "%5.1fs  %-9s %s", time.Since(a.begun).Seconds(), step, fmt.Sprintf(format, args...))
}

// say prints a line. If nobody can read it, there is nothing better to do than to
// go on.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }

// count returns for example "1 file" and "2 files".
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// seconds returns d for a reader.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
