package programs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"coord/conformance/zookeeper"
)

// TestKilledServers kills the server that a client of Python talks to, again and again:
// the client keeps its session, its ephemeral znode, its watches and its locks. Three
// members of coord, each a process, print what three servers of ZooKeeper do.
func TestKilledServers(t *testing.T) {
	install(t, zookeeper.Kazoo)
	const rounds = 5
	want := killing(t, rounds, "")
	t.Logf("%s", want)
	if got := killing(t, rounds, buildCoord(t)); got != want {
		t.Errorf("coord has it print\n%s\n%s", got, firstDifference(got, want))
	}
}

// buildCoord builds the command of coord, and returns its path.
func buildCoord(t *testing.T) string {
	t.Helper()
	command := filepath.Join(t.TempDir(), "coord")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", command, "./cmd/coord")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return command
}

// killing runs the program with three servers of a command, ZooKeeper's if there is none,
// and does what it asks for. It returns what the program prints besides.
func killing(t *testing.T, rounds int, command string) string {
	t.Helper()
	e, err := zookeeper.Start(t.Context(), zookeeper.Options{Servers: 3, Dir: t.TempDir(), Quick: true, Command: command})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "testdata/kazoo_killed.py", strconv.Itoa(rounds), strings.Join(e.Addrs(), ","))
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		what, addr, _ := strings.Cut(lines.Text(), " ")
		switch server := slices.Index(e.Addrs(), addr); what {
		case "kill":
			e.Kill(server)
			_, err = io.WriteString(stdin, "done\n")
		case "start":
			if err = e.Restart(ctx, server); err == nil {
				_, err = io.WriteString(stdin, "done\n")
			}
		default:
			fmt.Fprintln(&said, lines.Text())
		}
		if err != nil {
			cancel()
		}
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Errorf("%v\n%s\n%s\n%s", err, said.String(), stderr.String(), e.Log())
	}
	return said.String()
}
