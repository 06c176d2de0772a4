package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coord/internal/jute"
	"coord/internal/loopback"
)

// buildDir is where the command is built. It is made before any test: one of them changes
// where temporary directories are.
var buildDir string

// command builds the command, once.
var command = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "coord")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil { //nolint:noctx // it ends with the process
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "coord-command-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(status)
}

// A process is the command while it runs.
type process struct {
	cmd *exec.Cmd
	end chan error // what Wait returned

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// checkLog wants nothing in the log to be said twice in one line, and no warning but of
// peers that are down.
func (p *process) checkLog(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(p.said()) {
		keys := map[string]int{}
		for _, m := range regexp.MustCompile(` (\w+)=(?:"[^"]*"|\S*)`).FindAllStringSubmatch(line, -1) {
			keys[m[1]]++
		}
		for key, n := range keys {
			if n > 1 {
				t.Errorf("%s is there %d times: %s", key, n, line)
			}
		}
		warns := strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")
		// A machine that is busy may keep a member from its processor.
		if warns && !strings.Contains(line, `msg="peer connection failed"`) && !strings.Contains(line, "LocalTick") && !strings.Contains(line, "was paused") {
			t.Errorf("nothing is wrong, and it says %s", line)
		}
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// start runs the command, which is killed at the end of the test if it runs still.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	path, err := command()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(path, args...), end: make(chan error, 1)} //nolint:noctx // the test ends it
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.end <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("%v said\n%s", args, p.said())
		}
	})
	return p
}

// stop sends SIGTERM and wants exit status 0.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.end:
		if err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it runs a minute after SIGTERM")
	}
}

// word sends a four-letter word as nc does, which ends its side at once, and returns the
// answer, empty if there is none.
func word(addr, word string) string {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, word)
	_ = conn.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it was dialed as one
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// eventually waits until done, and fails the test if that takes a minute.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for deadline := time.Now().Add(time.Minute); !done(); <-ticks.C {
		if time.Now().After(deadline) {
			t.Fatalf("a minute later, still not: %s", what)
		}
	}
}

// wantWord waits until a word says what it should, for it says something else while an
// election is on, and returns that.
func wantWord(t *testing.T, addr, asked string, want *regexp.Regexp) (said string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("%s says %q", asked, said)
		}
	}()
	eventually(t, fmt.Sprintf("%s says %v", asked, want), func() bool {
		said = word(addr, asked)
		return want.MatchString(said)
	})
	return said
}

// mode returns what srvr says that a server is, empty if it does not serve.
func mode(addr string) string {
	m := regexp.MustCompile(`(?m)^Mode: (\w+)$`).FindStringSubmatch(word(addr, "srvr"))
	if m == nil {
		return ""
	}
	return m[1]
}

func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	addrs, err := loopback.FreeAddrs(n)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

func port(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }

// TestSampleFile starts a member from ZooKeeper's own sample, in which only the directory
// and the port are changed, because other tests may use them.
func TestSampleFile(t *testing.T) {
	sample, err := os.ReadFile("../../internal/zoocfg/testdata/zoo_sample.cfg")
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), freeAddrs(t, 1)[0]
	text := strings.NewReplacer("=/tmp/zookeeper\n", "="+filepath.Join(dir, "data")+"\n", "=2181\n", "="+port(addr)+"\n").Replace(string(sample))
	file := filepath.Join(dir, "zoo.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "serve", file)
	eventually(t, "it serves by itself", func() bool { return mode(addr) == "standalone" })

	// The form that go-zookeeper parses.
	form := regexp.MustCompile(`\AZookeeper version: [A-Za-z0-9.\-]+, built on \d\d/\d\d/\d{4} \d\d:\d\d [A-Z]+
Latency min/avg/max: \d+/[0-9.]+/\d+
Received: \d+
Sent: \d+
Connections: \d+
Outstanding: \d+
Zxid: 0x[0-9a-f]+
Mode: standalone
Node count: 5
\z`)
	wantWord(t, addr, "srvr", form)
	wantWord(t, addr, "ruok", regexp.MustCompile(`\Aruok is not executed because it is not in the whitelist.\n\z`))
	p.stop(t)
	if answer := word(addr, "srvr"); answer != "" {
		t.Errorf("a stopped server says %q", answer)
	}

	again := start(t, "serve", file)
	eventually(t, "it serves again", func() bool { return mode(addr) == "standalone" })
	again.stop(t)
}

// An ensemble is three servers, each a process with a file.
type ensemble struct {
	clients, peers, elections []string // addresses
	files                     []string
	processes                 []*process
}

// startThree starts three servers, with more lines in their files, and waits until one
// leads.
func startThree(t *testing.T, more string) *ensemble {
	t.Helper()
	const n = 3
	addrs, members := freeAddrs(t, 3*n), ""
	e := &ensemble{clients: addrs[:n], peers: addrs[n : 2*n], elections: addrs[2*n:]}
	for i := range n {
		members += fmt.Sprintf("server.%d=127.0.0.1:%s:%s\n", i+1, port(e.peers[i]), port(e.elections[i]))
	}
	for i := range n {
		data := t.TempDir()
		e.files = append(e.files, filepath.Join(data, "zoo.cfg"))
		text := fmt.Sprintf("tickTime=500\ninitLimit=10\nsyncLimit=5\ndataDir=%s\nclientPort=%s\n4lw.commands.whitelist=*\nadmin.enableServer=false\nreconfigEnabled=true\nstandaloneEnabled=false\n%s%s",
			data, port(e.clients[i]), members, more)
		for name, content := range map[string]string{"zoo.cfg": text, "myid": fmt.Sprintf("%d\n", i+1)} {
			if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		e.processes = append(e.processes, start(t, "serve", e.files[i]))
	}
	eventually(t, "one leads and two follow", func() bool { return e.modes() == "1 2" })
	for _, p := range e.processes {
		eventually(t, "it is told that it takes part", func() bool { return strings.Contains(p.said(), `msg="takes part"`) })
	}
	return e
}

// modes returns how many lead and how many follow.
func (e *ensemble) modes() string {
	counts := map[string]int{}
	for _, addr := range e.clients {
		counts[mode(addr)]++
	}
	return fmt.Sprint(counts["leader"], counts["follower"])
}

// awaitSettled waits until each has put the settings of its file into force. Whoever is
// stopped before, or whose leader is, warns of what has become of that.
func (e *ensemble) awaitSettled(t *testing.T) {
	t.Helper()
	for _, p := range e.processes {
		eventually(t, "the settings to be in force", func() bool { return strings.Contains(p.said(), "takes part") })
	}
}

// TestThreeServers starts an ensemble from three files with server.N lines, kills one
// server, starts it again, and stops all.
func TestThreeServers(t *testing.T) {
	e := startThree(t, "")
	e.awaitSettled(t)
	all := slices.Clone(e.processes)
	conf := wantWord(t, e.clients[1], "conf", regexp.MustCompile("serverId"))
	for _, want := range []string{
		"clientPort=" + port(e.clients[1]) + "\n", "serverId=2\n", "electionPort=" + port(e.elections[1]) + "\n",
		"\nmembership: \nserver.1=" + e.peers[0] + ":" + port(e.elections[0]) + ":participant\n", "\nversion=",
	} {
		if !strings.Contains(conf, want) {
			t.Errorf("conf has no %q:\n%s", want, conf)
		}
	}

	if err := e.processes[0].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-e.processes[0].end; err == nil {
		t.Error("a process that was killed says that it ended well")
	}
	eventually(t, "the others go on", func() bool { return e.modes() == "1 1" })
	e.processes[0] = start(t, "serve", e.files[0])
	all = append(all, e.processes[0])
	eventually(t, "it is back", func() bool { return e.modes() == "1 2" })
	e.awaitSettled(t)
	wantWord(t, e.clients[0], "isro", regexp.MustCompile(`\Arw\z`))
	wantWord(t, e.clients[0], "ruok", regexp.MustCompile(`\Aimok\z`))

	// Without a quorum a server says so, and can still be stopped.
	e.processes[0].stop(t)
	e.processes[1].stop(t)
	eventually(t, "the last one does not serve", func() bool {
		return word(e.clients[2], "srvr") == "This ZooKeeper instance is not currently serving requests\n"
	})
	wantWord(t, e.clients[2], "isro", regexp.MustCompile(`\Anull\z`))
	e.processes[2].stop(t)
	for _, p := range all {
		p.checkLog(t)
	}
}

// lastLeader returns who led last as far as p has said, and in which term.
func (p *process) lastLeader() string {
	all := regexp.MustCompile(`msg="leader changed" .*(leader=\d+ term=\d+)`).FindAllStringSubmatch(p.said(), -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

// TestLeaderHandsOver stops the server that leads, while a client of another writes: it
// ends when another leads, nobody has to be elected behind that, and no write fails.
func TestLeaderHandsOver(t *testing.T) {
	e := startThree(t, "")
	e.awaitSettled(t)
	leads := slices.IndexFunc(e.clients, func(addr string) bool { return mode(addr) == "leader" })
	if leads < 0 {
		t.Fatal("nobody leads any more")
	}
	c, ok := connect(t, e.clients[(leads+1)%3], nil)
	if !ok {
		t.Fatal("no session")
	}
	open := []jute.ACL{{Perms: 31, Scheme: "world", ID: "anyone"}}
	stopped, written := make(chan struct{}), make(chan int)
	go func() {
		defer close(written)
		for n := 1; ; n++ {
			h, ok := c.ask(jute.OpCreate, &jute.CreateRequest{Path: "/n-", ACL: open, Flags: 2})
			if !ok || h.Err != 0 {
				t.Errorf("write %d: %+v, %v", n, h, ok)
				return
			}
			select {
			case <-stopped:
				written <- n
				return
			default:
			}
		}
	}()
	e.processes[leads].stop(t)
	told := e.processes[leads].lastLeader()
	if told == "" || strings.HasPrefix(told, fmt.Sprintf("leader=%d ", leads+1)) {
		t.Errorf("when server %d had ended, it knew %q", leads+1, told)
	}
	eventually(t, "the others serve", func() bool { return e.modes() == "1 1" })
	close(stopped)
	t.Logf("%d writes, then %s", <-written, told)
	for i, p := range e.processes {
		eventually(t, fmt.Sprintf("server %d to say %s, as server %d did, which led before", i+1, told, leads+1), func() bool { return p.lastLeader() == told })
		p.checkLog(t)
	}
}

// TestDev starts an ensemble for development, with logs in JSON, and again in the same
// directory.
func TestDev(t *testing.T) {
	clients, dir := freeAddrs(t, 3), t.TempDir()
	for range 2 {
		p := start(t, "serve", "--dev", "--client-addrs", strings.Join(clients, ","), "--dir", dir, "--log-format", "json")
		for _, addr := range clients {
			eventually(t, "a member serves", func() bool { return mode(addr) != "" })
		}
		p.stop(t)
		for lines := bufio.NewScanner(strings.NewReader(p.said())); lines.Scan(); {
			var line map[string]any
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Errorf("not JSON: %s", lines.Text())
			}
			for key, value := range line {
				if _, ok := value.(map[string]any); ok {
					t.Errorf("%s is told as Go has it inside: %s", key, lines.Text())
				}
			}
		}
	}
}

// TestDevLeavesNothing has no directory of its own be left behind.
func TestDevLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	addr := freeAddrs(t, 1)[0]
	p := start(t, "serve", "--dev", "--client-addrs", addr)
	eventually(t, "the member serves", func() bool { return mode(addr) == "standalone" })
	p.stop(t)
	left, err := filepath.Glob(filepath.Join(tmp, "coord-dev-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, error %v", left, err)
	}
}

// TestPortIsTaken has the fault named, and nothing made.
func TestPortIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := start(t, "serve", "--dev", "--client-addrs", ln.Addr().String())
	if err := <-p.end; err == nil || !strings.Contains(p.said(), "clients' address "+ln.Addr().String()) {
		t.Errorf("exit %v, said\n%s", err, p.said())
	}
}
