package crashtest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coord"
)

func wantWords(tb testing.TB, text string, words ...string) {
	tb.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			tb.Errorf("%q does not mention %q", text, w)
		}
	}
}

// TestOpenRefuses opens directories that are not what they should be.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	cfg := template(t, 60, 60) // enough for a snapshot
	remove := func(tb testing.TB, cfg *memberConfig, pattern string) {
		tb.Helper()
		paths, err := filepath.Glob(filepath.Join(cfg.Dir, pattern))
		if err != nil || len(paths) == 0 {
			tb.Fatalf("nothing like %s: %v", pattern, err)
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				tb.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil func(t testing.TB, cfg *memberConfig)
		words []string // beside the directory
	}{
		"AnotherMember": {func(_ testing.TB, cfg *memberConfig) {
			cfg.ID, cfg.Members = 2, []coord.Member{{ID: 1, Addr: "127.0.0.1:9"}, {ID: 2, Addr: "127.0.0.1:10"}}
		}, []string{"member 1", "member 2"}},
		"AnotherEnsemble": {func(_ testing.TB, cfg *memberConfig) { cfg.Name = "other" }, []string{`"solo"`, `"other"`}},
		"LogShards":       {func(_ testing.TB, cfg *memberConfig) { cfg.LogShards = 2 }, []string{"1 log shards", "with 2"}},
		"NoRaft":          {func(tb testing.TB, cfg *memberConfig) { tb.Helper(); remove(tb, cfg, "raft") }, []string{"raft", "no raft data"}},
		"NoLog":           {func(tb testing.TB, cfg *memberConfig) { tb.Helper(); remove(tb, cfg, "raft/*/*/logdb-0") }, []string{"logdb-0", "missing"}},
		"EmptyLog":        {func(tb testing.TB, cfg *memberConfig) { tb.Helper(); remove(tb, cfg, "raft/*/*/logdb-0/*") }, []string{"logdb-0", "missing or empty"}},
		"NoManifest":      {func(tb testing.TB, cfg *memberConfig) { tb.Helper(); remove(tb, cfg, "manifest.json") }, []string{"manifest.json", "missing"}},
		"NoSnapshot":      {func(tb testing.TB, cfg *memberConfig) { tb.Helper(); remove(tb, cfg, "raft/*/*/snapshot-part-*") }, []string{"snapshot-part-", "missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := copied(t, cfg)
			dir := cfg.Dir
			c.spoil(t, &cfg)
			wantWords(t, refusal(t, cfg), append(c.words, dir)...)
		})
	}
}

// TestOpenRefusesNonDirectories names Dirs that can be none.
func TestOpenRefusesNonDirectories(t *testing.T) {
	t.Parallel()
	t.Run("Empty", func(t *testing.T) {
		t.Parallel()
		wantWords(t, refusal(t, soloConfig("")), "Dir is empty")
	})
	t.Run("File", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantWords(t, refusal(t, soloConfig(path)), path, "not a directory")
	})
	t.Run("BelowFile", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantWords(t, refusal(t, soloConfig(filepath.Join(path, "dir"))), path, "not a directory")
	})
	for name, perm := range map[string]os.FileMode{"ReadOnly": 0o555, "Unreadable": 0o333} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !canBecome {
				t.Skip("needs Linux")
			}
			dir := filepath.Join(t.TempDir(), "dir")
			if err := os.Mkdir(dir, perm); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, perm); err != nil {
				t.Fatal(err)
			}
			cfg := soloConfig(dir)
			if os.Getuid() == 0 { // to whom permissions are nothing
				cfg.UID = 65534
				reachable(t, dir)
			}
			wantWords(t, refusal(t, cfg), dir, "permission denied")
		})
	}
}

// reachable lets every user walk to path.
func reachable(tb testing.TB, path string) {
	tb.Helper()
	for dir := filepath.Dir(path); dir != filepath.Clean(os.TempDir()) && dir != filepath.Dir(dir); dir = filepath.Dir(dir) { //nolint:usetesting // where the walk ends
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // of the test
			tb.Fatal(err)
		}
	}
}

// TestOpenRefusesMembers gives member lists that make no sense. Every fault is
// in the one error.
func TestOpenRefusesMembers(t *testing.T) {
	t.Parallel()
	cfg := coord.Config{Dir: t.TempDir(), ID: 9, ElectionTimeout: 1, InitialMembers: []coord.Member{
		{ID: 1, Addr: "127.0.0.1:7001"}, {ID: 1, Addr: "127.0.0.1:7002"}, {ID: 2, Addr: "127.0.0.1:7001"}, {ID: 3, Addr: "nowhere"}, {Addr: "a:1"}, {ID: 4, Addr: "a:0"},
	}}
	c, err := coord.Open(t.Context(), cfg)
	if err == nil {
		c.Close()
		t.Fatal("Open = nil")
	}
	t.Log(err)
	wantWords(t, err.Error(),
		"ID 9 is not among InitialMembers", "InitialMembers[1] has the ID 1 of an earlier one",
		"InitialMembers[2] has the address 127.0.0.1:7001 of member 1", `"nowhere" is not host:port`,
		"InitialMembers[4] has the ID 0", `address "a:0": port "0" is not a number`, "ElectionTimeout 1ns")
	if names, err := os.ReadDir(cfg.Dir); err != nil || len(names) > 0 {
		t.Errorf("a refused Open left %v, %v", names, err)
	}
}

// TestOpenTwice has two members want one directory.
func TestOpenTwice(t *testing.T) {
	t.Parallel()
	cfg := soloConfig(filepath.Join(t.TempDir(), "member"))
	p := mustBegin(t, cfg)
	p.write(t, 1, 3)
	wantWords(t, refusal(t, cfg), cfg.Dir, "in use")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(cfg.Dir, link); err != nil {
		t.Fatal(err)
	}
	other := cfg
	other.Dir = link
	wantWords(t, refusal(t, other), link, "in use")
	p.wantAll(t, 3)

	conf, err := cfg.coord()
	if err != nil {
		t.Fatal(err)
	}
	first, err := coord.Open(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a refusal must not let go of what the first one holds
		second, err := coord.Open(t.Context(), conf)
		if err == nil {
			second.Close()
			t.Fatal("Open = nil for a directory that this process has open")
		}
		wantWords(t, err.Error(), cfg.Dir, "in use")
	}
	wantWords(t, refusal(t, cfg), cfg.Dir, "in use")
	if err := first.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	mustBegin(t, cfg).wantAll(t, 3)
}

// TestPortInUse has a member listen where somebody else does.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := soloConfig(filepath.Join(t.TempDir(), "member"))
	cfg.Members = []coord.Member{{ID: 1, Addr: l.Addr().String()}}
	wantWords(t, refusal(t, cfg), cfg.Dir, l.Addr().String(), "address already in use")
	cfg.Members[0].Addr = freeAddrs(t, 1)[0]
	p := mustBegin(t, cfg) // the refusal left a directory that is as good as new
	p.write(t, 1, 3)
	p.wantAll(t, 3)
}

// TestHostname opens a directory on hosts of other names.
func TestHostname(t *testing.T) {
	t.Parallel()
	if !canBecome || os.Getuid() != 0 {
		t.Skip("needs Linux and root")
	}
	cfg := template(t, 60, 120)
	for i, name := range []string{"other", "OTHER", "", "third"} {
		cfg.Hostname = name
		p, err := begin(t, cfg)
		if err != nil && strings.Contains(err.Error(), "operation not permitted") {
			t.Skip(err)
		}
		if err != nil {
			t.Fatalf("host %q: %v", name, err)
		}
		p.write(t, 121+i*50, 170+i*50)
		p.wantAll(t, 170+i*50)
	}
}

// TestInitialMembersChanged restarts a member of three with another list, which
// it is to ignore.
func TestInitialMembersChanged(t *testing.T) {
	t.Parallel()
	e := newEnsemble(t, t.TempDir(), 3)
	for i := range e.cfgs {
		e.start(i)
	}
	e.awaitReady()
	e.proc(0).write(t, 1, 3)
	addr := freeAddrs(t, 1)[0]
	was := e.cfgs[0].Members
	for name, list := range map[string][]coord.Member{
		"OneMore": append(append([]coord.Member{}, was...), coord.Member{ID: 4, Addr: addr}),
		"OneLess": was[:2],
		"Alone":   was[:1],
		"None":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			e.stop(0)
			e.cfgs[0].Members = list
			e.start(0)
			ctx, cancel := context.WithTimeout(t.Context(), readyBound/4)
			defer cancel()
			if err := e.proc(0).awaitStart(ctx); err != nil {
				t.Fatal(err)
			}
			if st := e.proc(0).status(); !slices.EqualFunc(st.Members, was, func(m coord.MemberState, w coord.Member) bool { return m.ID == w.ID && m.Addr == w.Addr }) {
				t.Errorf("members %v, want %v", st.Members, was)
			}
			if got, err := e.proc(0).holds(); got != 3 || err != nil {
				t.Errorf("the member has %d znodes, want 3; %v", got, err)
			}
		})
	}
}
