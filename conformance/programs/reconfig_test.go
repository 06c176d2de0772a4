package programs_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"coord/internal/loopback"

	"coord/conformance/zookeeper"
)

// What differs between configurations of two ensembles: ports, of which coord makes up
// the second, and versions.
var (
	ports   = regexp.MustCompile(`(server\.\d=127\.0\.0\.1):\d+:\d+`)
	version = regexp.MustCompile(`version=[0-9a-f]+`)
)

// reconfigs are what is typed. ADDRESS stands for where the fourth server is.
const reconfigs = `reconfig -add server.4=ADDRESS
addauth digest super:super
config
reconfig -add server.4=ADDRESS
reconfig -add server.5=127.0.0.1:5:6:observer;127.0.0.1:7
reconfig -remove 5
reconfig -remove 5
reconfig -add server.6=127.0.0.1:5:6:observer
reconfig -add server.six=127.0.0.1:5:6:observer;8
reconfig -v 7 -remove 4
reconfig -remove 1,2,3
config
version
`

// TestReconfigShell changes members by ZooKeeper's own shell, and with coord then starts
// the server that was added.
func TestReconfigShell(t *testing.T) {
	install(t)
	free, err := loopback.FreeAddrs(3)
	if err != nil {
		t.Fatal(err)
	}
	_, peer, _ := net.SplitHostPort(free[0])
	_, election, _ := net.SplitHostPort(free[1])
	spec := fmt.Sprintf("127.0.0.1:%s:%s:observer;%s", peer, election, free[2])
	shell := func(e *zookeeper.Ensemble) string {
		out := talk(t, strings.ReplaceAll(reconfigs, "ADDRESS", spec), "ZooKeeper CLI version", "quit", "java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", zookeeper.Classpath(),
			"-Dorg.apache.zookeeper.log4j.disable=true", "org.apache.zookeeper.ZooKeeperMain", "-server", e.Addrs()[0])
		out = strings.ReplaceAll(prompt.ReplaceAllString(out, ""), e.Addrs()[0], "CLIENTS")
		return sorted(version.ReplaceAllString(ports.ReplaceAllString(closed.ReplaceAllString(out, ""), "$1"), "version=V"))
	}
	start := func(command string) *zookeeper.Ensemble {
		e, err := zookeeper.Start(t.Context(), zookeeper.Options{
			Servers: 3, Dir: t.TempDir(), Quick: true, Command: command,
			Config: map[string]string{"DigestAuthenticationProvider.superDigest": zookeeper.SuperDigest},
		})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	theirs := start("")
	want := shell(theirs)
	theirs.Stop()
	t.Logf("%s", want)
	command := buildCoord(t)
	ours := start(command)
	defer ours.Stop()
	if got := shell(ours); got != want {
		t.Errorf("coord has it print\n%s\n%s", got, firstDifference(got, want))
	}
	observe(t, command, ours, spec, free[2])
}

// observe starts server 4 and waits until it observes. Its file has one voter, to ask.
func observe(t *testing.T, command string, e *zookeeper.Ensemble, spec, clients string) {
	t.Helper()
	conf := answer(e.Addrs()[0], "conf")
	line := regexp.MustCompile(`server\.1=\S+`).FindString(conf)
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(clients)
	text := fmt.Sprintf("tickTime=500\ninitLimit=20\nsyncLimit=20\nminSessionTimeout=2000\nmaxSessionTimeout=60000\n4lw.commands.whitelist=*\ndataDir=%s\nclientPort=%s\nclientPortAddress=127.0.0.1\n%s\nserver.4=%s\n", dir, port, line, spec)
	for name, content := range map[string]string{"zoo.cfg": text, "myid": strconv.Itoa(4)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), command, "serve", filepath.Join(dir, "zoo.cfg"))
	cmd.Stderr = &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the fourth server ended with %v, and said\n%s\nits file is\n%s", err, said.String(), text)
		}
	}()
	for end := time.Now().Add(time.Minute); !strings.Contains(answer(clients, "srvr"), "Mode: observer"); {
		if time.Now().After(end) {
			t.Fatalf("it does not observe: %s", answer(clients, "srvr"))
		}
	}
}

// answer returns what a server answers to a four-letter word.
func answer(addr, word string) string {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, word)
	text, _ := io.ReadAll(conn)
	return string(text)
}
