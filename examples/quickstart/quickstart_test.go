package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"coord"
)

const mainEnv = "COORD_QUICKSTART_TEST_MAIN" // set: this test binary is the program

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" || os.Getenv(memberEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program returns the program with flags, and the directory for its temporary
// files.
func program(t *testing.T, args ...string) (cmd *exec.Cmd, temp string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp = t.TempDir()
	args = append([]string{"-election", "400ms", "-session", "2s"}, args...)
	cmd = exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), mainEnv+"=1", "TMPDIR="+temp, "TMP="+temp)
	return cmd, temp
}

// write makes a file below dir, and its directories.
func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// oddTree makes a directory with names and files of all kinds: 304 files and 13
// directories that can become znodes.
func oddTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 300 {
		write(t, dir, fmt.Sprintf("many/%d/%d", i%8, i), bytes.Repeat([]byte{byte(i)}, i*7))
	}
	write(t, dir, "empty", nil)
	write(t, dir, "with spaces/a b c", []byte("spaces"))
	write(t, dir, "größe/日本語", []byte("letters"))
	write(t, dir, "limit", make([]byte, maxFileBytes))
	write(t, dir, "over", make([]byte, maxFileBytes+1))
	if err := os.Mkdir(filepath.Join(dir, "empty directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// addBadNames adds to dir, where the system can have such names, 3 files and a
// directory that no znode can be named after, and a symbolic link.
func addBadNames(t *testing.T, dir string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the system has no such names")
	}
	write(t, dir, "bell\x07", []byte("control character"))
	write(t, dir, "above U+FFFF 😀", []byte("ZooKeeper refuses it"))
	write(t, dir, "bad\ndirectory/fine", []byte("below a bad name"))
	if err := os.Symlink("empty", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
}

// The whole program: what it tells, and what it leaves behind.
func TestQuickstart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	dir := oddTree(t)
	cmd, temp := program(t, "-dir", dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("exit: %v\n%s", err, out)
	}
	for _, want := range []string{
		`read +.*: 304 files in 13 directories, 1\.3 MiB; left out: 1 over 1 MiB\n`,
		`start +members 1 \(pid \d+\), 2 \(pid \d+\), 3 \(pid \d+\); ready in .*; member [123] leads\n`,
		`register +.*; worker [123] is elected`,
		`kill +member [123], the leader \(SIGKILL\): \d+ of 317 znodes acknowledged, \d+ writes? under way there\n`,
		`pause +\d+\.\d\d s between two acknowledgements`,
		`write +all 317 znodes acknowledged`,
		`leader +member [123] leads now`,
		`expire +/workers/[123] and its candidate under /election vanished .* after the kill; worker [123] is elected\n`,
		`restart +member [123]; caught up in .* with \d+ znodes\n`,
		`kill +all three`,
		`restart +members .*; worker [123] is elected\n`,
		`compare +member 1: 317 znodes, byte for byte with the disk: 0 differences\n`,
		`compare +member 2: 317 znodes, byte for byte with the disk: 0 differences\n`,
		`compare +member 3: 317 znodes, byte for byte with the disk: 0 differences\n`,
		`compare +members 1, 2, 3 have the same digest at zxid 0x`,
		`done +nothing was lost\n$`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no line matches %q", want)
		}
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
	assertEmpty(t, temp)
}

// An interrupt ends the members and removes their directories.
func TestInterrupt(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	if runtime.GOOS == "windows" {
		t.Skip("the system can't interrupt another process")
	}
	cmd, temp := program(t, "-dir", oddTree(t))
	var diagnostics bytes.Buffer
	cmd.Stderr = &diagnostics
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), " start ") {
			for _, m := range regexp.MustCompile(`pid (\d+)`).FindAllStringSubmatch(lines.Text(), -1) {
				pids = append(pids, m[1])
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(diagnostics.String(), "interrupted") {
		t.Errorf("exit: %v, diagnostics %q, want status 1 and a word about the interrupt", err, &diagnostics)
	}
	if len(pids) != ensembleSize {
		t.Errorf("members' processes: %v, want %d", pids, ensembleSize)
	}
	for _, pid := range pids {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := os.FindProcess(n); err == nil && p.Signal(syscall.Signal(0)) == nil {
			t.Errorf("the member with pid %d is still there", n)
		}
	}
	assertEmpty(t, temp)
}

// What is not achieved within its deadline is named, and the logs are kept.
func TestDeadline(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	cmd, temp := program(t, "-dir", oddTree(t), "-deadline", "1ms")
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit: %v, want status 1", err)
	}
	if want := "failed: start the members: not within 1ms: all members ready"; !bytes.Contains(out, []byte(want)) {
		t.Errorf("output:\n%s\nwant %q in it", out, want)
	}
	logs, err := filepath.Glob(filepath.Join(temp, "*", "member-?.log"))
	if err != nil || len(logs) != ensembleSize || !bytes.Contains(out, []byte(filepath.Dir(logs[0]))) {
		t.Errorf("logs %v (%v), want %d and their directory in the output:\n%s", logs, err, ensembleSize, out)
	}
}

func assertEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}

func TestReadSource(t *testing.T) {
	dir := oddTree(t)
	addBadNames(t, dir)
	s, err := readSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.files != 304 || s.dirs != 13 || len(s.entries) != 317 {
		t.Errorf("%d files, %d directories, %d entries, want 304, 13, 317", s.files, s.dirs, len(s.entries))
	}
	if s.tooLarge != 1 || s.badName != 4 || s.unreadable != 0 || s.irregular != 1 {
		t.Errorf("left out: %v, want 1 over 1 MiB, 4 with names that no znode can have, 1 neither file nor directory", s)
	}
	for _, e := range s.entries {
		if !coord.ValidPath(e.path) {
			t.Errorf("path %q of an entry is invalid", e.path)
		}
		if got := diskPath(dir, e.path); got != e.file {
			t.Errorf("diskPath(%q) = %q, want %q", e.path, got, e.file)
		}
	}
	for _, wrong := range []string{filepath.Join(dir, "missing"), filepath.Join(dir, "limit"), filepath.Join(dir, "empty directory")} {
		if s, err := readSource(wrong); err == nil {
			t.Errorf("readSource(%s) = %v, want an error", wrong, s)
		}
	}
}

func TestFault(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", []byte("data"))
	write(t, dir, "empty", nil)
	for _, tt := range []struct {
		name string
		data []byte
		ok   bool
	}{
		{"file", []byte("data"), true},
		{"file", []byte("Data"), false},
		{"file", nil, false},
		{"empty", []byte{}, true},
		{"empty", nil, false},
		{".", nil, true},
		{".", []byte{}, false},
		{"missing", nil, false},
		{"missing", []byte{}, false},
	} {
		if got := fault(filepath.Join(dir, tt.name), tt.data); (got == "") != tt.ok {
			t.Errorf("fault(%s, %q) = %q, want none: %t", tt.name, tt.data, got, tt.ok)
		}
	}
}

func TestDifferences(t *testing.T) {
	acked := map[string]string{"/files": "", "/files/a": "1", "/files/b": "2", "/files/c": "3"}
	same := []Compared{{Path: "/files"}, {Path: "/files/a", Sum: "1"}, {Path: "/files/b", Sum: "2"}, {Path: "/files/c", Sum: "3"}}
	if got := differences(acked, &Report{Znodes: same}); len(got) != 0 {
		t.Errorf("differences of equal trees: %q", got)
	}
	got := differences(acked, &Report{Znodes: []Compared{
		{Path: "/files", Sum: "not null"}, {Path: "/files/a", Sum: "1", Fault: "gone"}, {Path: "/files/new"}, {Path: "/files/c", Sum: "3"},
	}})
	want := []string{
		`"/files" differs from what was acknowledged`,
		`"/files/a" is as it was acknowledged, but the disk has changed: gone`,
		`"/files/new" was never written`,
		`"/files/b" was acknowledged and is lost`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("differences = %q, want %q", got, want)
	}
}

func TestLongestGap(t *testing.T) {
	begun := time.Now()
	var times []time.Time
	for _, ms := range []int{0, 900, 1000, 1700, 1800} {
		times = append(times, begun.Add(time.Duration(ms)*time.Millisecond))
	}
	for _, tt := range []struct{ sinceMS, wantMS int }{
		{-1, 900}, {900, 700}, {1000, 700}, {1500, 700}, {1700, 100}, {1800, 0},
	} {
		since := begun.Add(time.Duration(tt.sinceMS) * time.Millisecond)
		if got, want := longestGap(times, since), time.Duration(tt.wantMS)*time.Millisecond; got != want {
			t.Errorf("longestGap(since %d ms) = %v, want %v", tt.sinceMS, got, want)
		}
	}
	if got := longestGap(nil, begun); got != 0 {
		t.Errorf("longestGap of nothing = %v", got)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-writers", "0"}, {"-no-such-flag"}, {"argument"}} {
		var out, diagnostics bytes.Buffer
		if status := run(args, &out, &diagnostics); status != 2 || diagnostics.Len() == 0 || out.Len() != 0 {
			t.Errorf("run(%q) = %d with output %q and diagnostics %q, want 2 and diagnostics only", args, status, &out, &diagnostics)
		}
	}
	if status := run([]string{"-h"}, &bytes.Buffer{}, &bytes.Buffer{}); status != 0 {
		t.Errorf("run(-h) = %d, want 0", status)
	}
}
