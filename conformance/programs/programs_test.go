package programs_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"coord/conformance/differ"
	"coord/conformance/subject"
	"coord/conformance/zookeeper"
)

const timeout = 3 * time.Minute

// both runs a program against ZooKeeper and against coord, one server and three of each,
// and compares what it prints.
func both(t *testing.T, run func(t *testing.T, s differ.Subject) string) {
	t.Helper()
	want := run(t, subject.ZooKeeper(t, 1))
	t.Logf("%s", want)
	for _, servers := range []int{1, 3} {
		if got := run(t, subject.Coord(t, servers)); got != want {
			t.Errorf("%d members of coord have it print\n%s\n%s", servers, got, firstDifference(got, want))
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "first difference: " + g[i] + "\nwant: " + w[i]
		}
	}
	return "one is longer"
}

// output runs a program and returns what it prints.
func output(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s %v: %v\n%s\n%s", name, args, err, out, stderr.Bytes())
	}
	return string(out)
}

// talk gives a shell commands, the last of which has it print last, and then the command
// that ends it: a shell may end before it has printed what it was answered. It returns
// all that the shell prints, errors as well.
func talk(t *testing.T, commands, last, end string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &awaited{text: last, came: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	_, err = io.WriteString(stdin, commands)
	select {
	case <-said.came:
	case e := <-ended:
		t.Fatalf("%s %v ended early: %v\n%s", name, args, e, said.all.String())
	}
	_, errEnd := io.WriteString(stdin, end+"\n")
	if err := errors.Join(err, errEnd, stdin.Close(), <-ended); err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, said.all.String())
	}
	return said.all.String()
}

// An awaited is what a program prints, and tells when some text has come. It needs no
// lock: os/exec has one goroutine write what goes to one writer.
type awaited struct {
	all  bytes.Buffer
	text string
	came chan struct{}
}

func (a *awaited) Write(b []byte) (int, error) {
	before := bytes.Contains(a.all.Bytes(), []byte(a.text))
	n, err := a.all.Write(b)
	if !before && bytes.Contains(a.all.Bytes(), []byte(a.text)) {
		close(a.came)
	}
	return n, err
}

func install(t *testing.T, tools ...zookeeper.Tool) {
	t.Helper()
	if err := zookeeper.Install(t.Context(), tools...); err != nil {
		t.Fatal(err)
	}
}

// TestKazoo runs the recipes of Python's client.
func TestKazoo(t *testing.T) {
	install(t, zookeeper.Kazoo)
	both(t, func(t *testing.T, s differ.Subject) string {
		return output(t, "", "/usr/bin/python3", "testdata/kazoo_everyday.py", strings.Join(s.Addrs, ","))
	})
}

// What differs between two runs of ZooKeeper's own shell.
var (
	stat   = regexp.MustCompile(`(?m)^(\[.*\] )?(cZxid|ctime|mZxid|mtime|pZxid|ephemeralOwner) = .*\n`)
	prompt = regexp.MustCompile(`\[zk: [^\]]*\] ?`)
	// Several members of coord are held beside a ZooKeeper by itself, which lists nobody.
	members = regexp.MustCompile(`(?m)^(server\.\d+=.*|version=[0-9a-f]+)$`)
	zxid    = regexp.MustCompile(`zxid: -?\d+`)
	// The event of the end is printed, whole or only its heading, if Java is not gone before.
	closed = regexp.MustCompile(`(?m)^(WATCHER::|WatchedEvent state:Closed .*)$`)
)

// TestShell runs a session of zkCli.sh, which is this class of Java.
func TestShell(t *testing.T) {
	commands, err := os.ReadFile("testdata/shell.txt")
	if err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, s differ.Subject) string {
		out := talk(t, string(commands), "ZooKeeper CLI version", "quit", "java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", zookeeper.Classpath(),
			"-Dorg.apache.zookeeper.log4j.disable=true", "org.apache.zookeeper.ZooKeeperMain", "-server", s.Addrs[0])
		out = prompt.ReplaceAllString(stat.ReplaceAllString(prompt.ReplaceAllString(out, ""), ""), "")
		out = closed.ReplaceAllString(strings.ReplaceAll(out, s.Addrs[0], "ADDRESS"), "")
		out = members.ReplaceAllString(out, "")
		return words(sorted(zxid.ReplaceAllString(out, "zxid: Z")))
	})
}

// words returns the words of a shell's output in order. Java's prints a list in pieces,
// and an event may come between any two of them.
func words(out string) string {
	all := strings.FieldsFunc(out, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("[],", r) })
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// sorted returns the lines of a shell's output in order: answers, events and prompts come
// in none.
func sorted(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "time =") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestCShell runs a session of the shell of the C client.
func TestCShell(t *testing.T) {
	install(t, zookeeper.CShell)
	const commands = `create /c
create +e /c/e
create +s /c/s
create /c
set /c data
get /c
stat /c
ls /c
ls2 /c
delete /c
sync /c
exists /none
delete /c/e
set /c the-end
get /c
`
	own := regexp.MustCompile(`\b(([cm]zxid|[cm]time|ephemeralOwner|time) ?=|Got a new session id:).*`)
	both(t, func(t *testing.T, s differ.Subject) string {
		out := talk(t, commands, "\nthe-end\n", "quit", zookeeper.CShell.Path, s.Addrs[0])
		return sorted(own.ReplaceAllString(out, ""))
	})
}

// TestNode runs a program of Node's client, from npm.
func TestNode(t *testing.T) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("no npm")
	}
	dir := t.TempDir()
	// A registry that cannot be reached is asked for minutes otherwise.
	install := exec.CommandContext(t.Context(), npm, "install", "--silent", "--no-audit", "--no-fund", "--fetch-retries", "0",
		"--prefix", dir, "node-zookeeper-client@1.1.3")
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("npm cannot install Node's client, which is not compared: %v\n%s", err, out)
	}
	program, err := os.ReadFile("testdata/node_everyday.js")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "everyday.js"), program, 0o644); err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, s differ.Subject) string {
		return output(t, "", "node", filepath.Join(dir, "everyday.js"), strings.Join(s.Addrs, ","))
	})
}

// TestGoZooKeeper runs the tests of Go's client as they are, which start servers of
// theirs: members of coord, by the command of coord that reads ZooKeeper's files.
func TestGoZooKeeper(t *testing.T) {
	if !*goSuite {
		t.Skip("takes minutes; -suite runs it")
	}
	dir, command := t.TempDir(), buildCoord(t)
	suite := filepath.Join(dir, "suite")
	output(t, "", "go", "test", "-c", "-o", suite, "github.com/go-zookeeper/zk")
	if err := os.WriteFile(filepath.Join(dir, "zkServer.sh"), []byte(strings.ReplaceAll(zkServer, "COMMAND", command)), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZOOKEEPER_BIN_PATH", dir)
	t.Setenv("ZK_VERSION", "3.8.0") // tests of what older servers do not have are skipped otherwise
	ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, suite, "-test.timeout", suiteTimeout.String(), "-test.v", "-test.run", "Integration", "-test.skip", strings.Join(unserved, "|"))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	passed := strings.Count(string(out), "--- PASS: Test")
	t.Logf("%d tests passed", passed)
	if err != nil {
		t.Errorf("%v\n%s", err, failures(string(out)))
	}
}

var goSuite = flag.Bool("suite", false, "run the tests of Go's client, too")

// zkServer stands in for ZooKeeper's script: what the suite hands to Java as properties
// goes to the end of the configuration.
const zkServer = `#!/bin/sh
cp "$2" "$2.coord"
for flag in $SERVER_JVMFLAGS; do
	case $flag in
	-Dzookeeper.extendedTypesEnabled=* | -Dzookeeper.DigestAuthenticationProvider.superDigest=*)
		echo "${flag#-Dzookeeper.}" >>"$2.coord"
		;;
	esac
done
exec COMMAND serve "$2.coord"
`

const suiteTimeout = 8 * time.Minute

// unserved are the tests of what coord does not serve yet.
var unserved = []string{
	"TestIntegration_Reconfig", // it removes a server and adds it again under the same id
}

// failures returns what a test binary said of tests that failed.
func failures(out string) string {
	const most = 20000
	var kept []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "FAIL") || strings.Contains(line, "_test.go:") || strings.Contains(line, "panic") {
			kept = append(kept, line)
		}
	}
	text := strings.Join(kept, "")
	return text[:min(len(text), most)]
}
