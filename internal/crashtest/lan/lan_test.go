//go:build linux

package lan_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coord/internal/crashtest/lan"
)

// programEnv has the test binary be one of the programs that run on hosts.
const programEnv = "COORD_LAN_PROGRAM"

const port = "7000"

func TestMain(m *testing.M) {
	switch os.Getenv(programEnv) {
	case "echo":
		echo()
	case "ask":
		ask(os.Args[1], os.Args[2], os.Args[3])
	default:
		goleak.VerifyTestMain(m)
	}
}

// echo sends back what it is sent, until its standard input ends.
func echo() {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening")
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// ask sends a text to an echo and prints what comes back.
func ask(addr, text, patience string) {
	limit, err := time.ParseDuration(patience)
	if err != nil {
		panic(err)
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(addr, port), limit)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	answer := make([]byte, len(text))
	if _, err = conn.Write([]byte(text)); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Print(string(answer))
}

// newHosts makes a network with an echo on its second host.
func newHosts(t *testing.T, n int) (*lan.LAN, []*lan.Host) {
	t.Helper()
	if err := lan.Available(); err != nil {
		t.Skip(err)
	}
	l := lan.New(1)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	hosts := make([]*lan.Host, n)
	for i := range hosts {
		h, err := l.Join()
		if err != nil {
			t.Fatal(err)
		}
		hosts[i] = h
	}
	return l, hosts
}

func start(t *testing.T, h *lan.Host, program string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), programEnv+"="+program)
	return cmd
}

func serve(t *testing.T, h *lan.Host) {
	t.Helper()
	cmd := start(t, h, "echo")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line := make([]byte, len("listening"))
	if _, err := io.ReadFull(stdout, line); err != nil || string(line) != "listening" {
		t.Fatalf("the echo said %q, %v", line, err)
	}
}

func askEcho(t *testing.T, from, to *lan.Host, text string, patience time.Duration) (string, error) {
	t.Helper()
	out, err := start(t, from, "ask", to.Addr().String(), text, patience.String()).Output()
	return string(out), err
}

func TestWeather(t *testing.T) {
	l, hosts := newHosts(t, 3)
	a, b, c := hosts[0], hosts[1], hosts[2]
	serve(t, b)
	text := strings.Repeat("What is sent arrives. ", 1000)
	reach := func(from *lan.Host, what string) {
		t.Helper()
		if got, err := askEcho(t, from, b, text, time.Minute); err != nil || got != text {
			t.Errorf("%s: %d bytes came back, want %d; %v", what, len(got), len(text), err)
		}
	}
	reach(a, "in fine weather")

	for _, dir := range [][2]*lan.Host{{a, b}, {b, a}} {
		l.SetWeather(dir[0], dir[1], lan.Weather{Cut: true})
		if got, err := askEcho(t, a, b, "?", time.Second); err == nil {
			t.Errorf("through a cut came %q", got)
		}
		reach(c, "beside a cut")
		l.Clear()
	}
	reach(a, "after the cut")

	bad := lan.Weather{Delay: time.Millisecond, Jitter: 3 * time.Millisecond, Loss: 0.02, Duplicate: 0.1, Rate: 4 << 20}
	l.SetWeather(a, b, bad)
	l.SetWeather(b, a, bad)
	before := l.Stats()
	for seen := (lan.Stats{}); seen.Late == 0 || seen.Duplicated == 0 || seen.Lost == 0; {
		reach(a, "in bad weather")
		now := l.Stats()
		seen = lan.Stats{Late: now.Late - before.Late, Duplicated: now.Duplicated - before.Duplicated, Lost: now.Lost - before.Lost}
	}
	l.Clear()

	l.SetWeather(a, b, lan.Weather{Damage: 1})
	got, err := askEcho(t, a, b, text, time.Minute)
	if err != nil || len(got) != len(text) || got == text {
		t.Errorf("damaged segments brought back %d bytes (the same: %v), %v", len(got), got == text, err)
	}
	if n := bitsApart([]byte(got), []byte(text)); n == 0 || uint64(n) > l.Stats().Damaged {
		t.Errorf("%d bits are flipped after %d segments were damaged", n, l.Stats().Damaged)
	}
}

func bitsApart(a, b []byte) (n int) {
	for i := range min(len(a), len(b)) {
		for x := a[i] ^ b[i]; x != 0; x &= x - 1 {
			n++
		}
	}
	return n
}

func TestCloseLeavesNothing(t *testing.T) {
	l, hosts := newHosts(t, 2)
	serve(t, hosts[1])
	namespaces := func() []string {
		found, err := filepath.Glob(fmt.Sprintf("/run/netns/coord-%x-*", os.Getpid()))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if n := len(namespaces()); n != 2 {
		t.Errorf("%d namespaces, want 2", n)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left := namespaces(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := l.Join(); err == nil {
		t.Error("a host has joined a network that is closed")
	}
	out, err := exec.Command("ip", "link", "show").Output()
	if err != nil || bytes.Contains(out, fmt.Appendf(nil, "cd%x-", os.Getpid())) {
		t.Errorf("devices are left: %s, %v", out, err)
	}
}
