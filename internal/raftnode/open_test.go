package raftnode_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lni/vfs"
	"go.uber.org/goleak"

	"coord/internal/raftnode"
	"coord/internal/replica"
)

// A child is the test binary run again for one test, for what ends a process
// or belongs to one. The test asks isChild which side it is on.
const childVariable = "RAFTNODE_CHILD"

func isChild() bool { return os.Getenv(childVariable) != "" }

func childCommand(tb testing.TB, value string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), os.Args[0], "-test.run=^"+tb.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), childVariable+"="+value)
	return cmd
}

// runChild runs the test in a child and returns all it printed, and whether it
// ended well.
func runChild(tb testing.TB, value string) (output string, ok bool) {
	tb.Helper()
	out, err := childCommand(tb, value).CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		tb.Fatal(err)
	}
	return string(out), err == nil
}

// mustFail opens cfg and expects an error of the given kind that mentions all
// the given words, and that nothing is left behind.
func mustFail(tb testing.TB, cfg raftnode.Config, kind error, words ...string) {
	tb.Helper()
	before := goleak.IgnoreCurrent()
	h, err := raftnode.Open(cfg)
	if err == nil {
		h.Close()
		tb.Fatalf("Open succeeded, want %v", kind)
	}
	if h != nil {
		tb.Error("Open returned a Host with an error")
	}
	if kind != nil && !errors.Is(err, kind) {
		tb.Errorf("Open = %v, want %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("Open = %v, which does not mention %q", err, w)
		}
	}
	if err := goleak.Find(before); err != nil {
		tb.Errorf("goroutines after a failed Open: %v", err)
	}
}

func TestOpenRefusesBadConfig(t *testing.T) {
	tests := []struct {
		name   string
		change func(*raftnode.Config)
		want   string
	}{
		{"no ensemble", func(c *raftnode.Config) { c.Ensemble = "" }, "Ensemble"},
		{"no member", func(c *raftnode.Config) { c.Member = 0 }, "Member"},
		{"no directory", func(c *raftnode.Config) { c.Dir = "" }, "Dir"},
		{"no address", func(c *raftnode.Config) { c.Addr = "" }, "Addr"},
		{"not among the members", func(c *raftnode.Config) { c.Member = 9 }, "lacks member 9"},
		{"member 0", func(c *raftnode.Config) { c.Members[0] = "n0" }, "names member 0"},
		{"a member nowhere", func(c *raftnode.Config) { c.Members[2] = "" }, "Config.Members: member 2"},
		{"tick too fine", func(c *raftnode.Config) { c.Tick = 1500 * time.Microsecond }, "Tick"},
		{"election before heartbeat", func(c *raftnode.Config) { c.ElectionTicks = 4 }, "ElectionTicks"},
		{"error-injecting file system", func(c *raftnode.Config) {
			c.FS = vfs.Wrap(vfs.NewMem(), vfs.OnIndex(0, vfs.OpSync))
		}, "ErrorFS"},
		{"half a mark", func(c *raftnode.Config) {
			c.Initialised = func(replica.GroupID) bool { return false }
		}, "MarkInitialised"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := inMemory(3)[0]
			tt.change(&cfg)
			mustFail(t, cfg, nil, tt.want)
		})
	}
}

func TestOpenReportsAddressInUse(t *testing.T) {
	cfg := onDisk(t, 1)[0]
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		t.Fatal(err)
	}
	mustFail(t, cfg, raftnode.ErrAddressInUse, cfg.Addr)
	l.Close()
	open(t, []raftnode.Config{cfg}, 1).propose(0, 1, "x")
}

// Two hosts of one process cannot share a directory, by whatever names they
// call it: the library's own lock would let them.
func TestOpenReportsDirUsedByThisProcess(t *testing.T) {
	cfgs := onDisk(t, 2)
	e := open(t, cfgs[:1], 1)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(cfgs[0].Dir, link); err != nil {
		t.Fatal(err)
	}
	other := cfgs[0]
	other.Addr, other.Listen = cfgs[1].Addr, ""
	mustFail(t, other, raftnode.ErrDirLocked, other.Dir)
	other.Dir = link
	mustFail(t, other, raftnode.ErrDirLocked, link)
	e.closeHost(0)
	e.openHost(0)
}

func TestOpenReportsDirUsedByAnotherProcess(t *testing.T) {
	if isChild() {
		cfg := onDisk(t, 1)[0]
		cfg.Dir = os.Getenv(childVariable)
		h, err := raftnode.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("opened")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it
		h.Close()
		return
	}
	cfg := onDisk(t, 1)[0]
	child := childCommand(t, cfg.Dir)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "opened" {
	}
	mustFail(t, cfg, raftnode.ErrDirLocked, cfg.Dir, "another process")
	in.Close()
	_, _ = io.Copy(io.Discard, out)
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	h, err := raftnode.Open(cfg)
	if err != nil {
		t.Fatalf("Open after the other process has ended: %v", err)
	}
	h.Close()
}

// What is fixed for the life of a directory is checked, and named.
func TestOpenReportsForeignDir(t *testing.T) {
	made := onDisk(t, 2)[0]
	h, err := raftnode.Open(made)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()

	cfg := made
	cfg.LogShards = 2
	mustFail(t, cfg, raftnode.ErrDirMismatch, "LogShards", made.Dir)

	cfg = made
	cfg.Ensemble = "other"
	mustFail(t, cfg, raftnode.ErrDirMismatch, `"other"`)

	cfg = made
	cfg.Member = 2
	mustFail(t, cfg, raftnode.ErrDirMismatch, "member")

	// The rest may change.
	cfg = made
	cfg.Tick = 20 * time.Millisecond
	cfg.MemtableBytes = 8 << 20
	h, err = raftnode.Open(cfg)
	if err != nil {
		t.Fatalf("Open with other settings that may change: %v", err)
	}
	h.Close()
}

// The library panics about a damaged file with a text, recovers that itself,
// and returns neither a host nor an error.
func TestOpenReportsSwallowedPanic(t *testing.T) {
	cfg := onDisk(t, 1)[0]
	h, err := raftnode.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	var flag string
	_ = filepath.WalkDir(cfg.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "dragonboat.ds" {
			flag = path
		}
		return err
	})
	content, err := os.ReadFile(flag)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 0xff
	if err := os.WriteFile(flag, content, 0o600); err != nil {
		t.Fatal(err)
	}
	mustFail(t, cfg, nil, cfg.Dir, "damaged")
}

// A directory that cannot be made is an error, not a panic.
func TestOpenReportsUnusableDir(t *testing.T) {
	cfg := onDisk(t, 1)[0]
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = filepath.Join(file, "dir")
	mustFail(t, cfg, nil, cfg.Dir)
}
