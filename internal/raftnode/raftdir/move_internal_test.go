package raftdir

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
)

// rename makes Open see another host name until the test ends.
func rename(tb testing.TB, name string) {
	tb.Helper()
	was := hostname
	hostname = func() (string, error) { return name, nil }
	tb.Cleanup(func() { hostname = was })
}

// recordedPath returns the path that the log of dir has for its snapshot.
func recordedPath(tb testing.TB, dir string) string {
	tb.Helper()
	l, err := readLayout(vfsDefault, filepath.Join(dir, raftName))
	must(tb, err)
	db, err := scanLogDB(vfsDefault, filepath.Join(l.data, "logdb-0"))
	must(tb, err)
	logs, err := db.verifyContents()
	must(tb, err)
	return logs[0].snapshot.Filepath
}

// checkMoved opens dir and checks that the log knows where its snapshot is.
func checkMoved(tb testing.TB, dir, host string) {
	tb.Helper()
	d, err := Open(nil, dir, self)
	must(tb, err)
	must(tb, d.Close())
	path := recordedPath(tb, dir)
	if want := filepath.Join(dir, raftName, host) + string(filepath.Separator); !strings.HasPrefix(path, want) {
		tb.Errorf("snapshot recorded at %s, want below %s", path, want)
	}
	if _, err := os.Stat(path); err != nil {
		tb.Error(err)
	}
	l, err := readLayout(vfsDefault, filepath.Join(dir, raftName))
	if err != nil || l.host != host || l.hostname != host {
		tb.Errorf("host folder %q, pinned name %q, %v; want %q", l.host, l.hostname, err, host)
	}
}

func TestHostName(t *testing.T) {
	name, err := os.Hostname()
	must(t, err)
	for _, other := range []string{"elsewhere", name + "-2", strings.ToUpper(name)} {
		dir := filled(t, true)
		rename(t, other)
		checkMoved(t, dir, other)
		rename(t, name) // the library asks the system
		checkMoved(t, dir, name)
		m := mustLaunch(t, dir)
		got, err := m.read()
		must(t, errors.Join(err, holds(got, 120)))
		must(t, m.write(120, 130))
		must(t, m.close())
	}
}

// TestHostNameCrash stops the adaption before each of its steps.
func TestHostNameCrash(t *testing.T) {
	name, err := os.Hostname()
	must(t, err)
	const other = "elsewhere"
	template := filled(t, true)
	for steps := range 4 {
		dir := copyDir(t, template)
		m, _, err := readManifest(vfsDefault, dir)
		must(t, err)
		d := &Dir{fs: vfsDefault, path: dir, m: m}
		l, err := readLayout(vfsDefault, d.NodeHostDir())
		must(t, err)
		c, err := d.verify(l, other)
		must(t, err)
		if len(c.moved) != 1 {
			t.Fatalf("%d records to move, want 1", len(c.moved))
		}
		for _, step := range []func() error{
			d.breakSeal,
			func() error { return d.renameHost(l, other) },
			func() error { return d.rewriteRecords(l, other, c.moved) },
			func() error { return d.repin(l, other) },
		}[:steps+1] {
			must(t, step())
		}
		for _, next := range []string{other, name} { // goes on, or goes back
			again := copyDir(t, dir)
			rename(t, next)
			checkMoved(t, again, next)
			rename(t, name)
			m := mustLaunch(t, again)
			got, err := m.read()
			must(t, errors.Join(err, holds(got, 120), m.close()))
		}
	}
}

func unseal(tb testing.TB, dir string) {
	tb.Helper()
	m, _, err := readManifest(vfsDefault, dir)
	must(tb, err)
	m.Seal = nil
	must(tb, writeManifest(vfsDefault, dir, m))
}

func TestTwoHostFolders(t *testing.T) {
	dir := filled(t, true)
	must(t, os.MkdirAll(filepath.Join(dir, raftName, "b", fmt.Sprintf("%020d", 42)), 0o700))
	_, err := Open(nil, dir, self)
	wantKind(t, err, ErrSettings, `"b"`)
}

// TestMovedDirSendsSnapshot moves a directory and has a new member fed from
// the snapshot in it: the library opens the recorded path for that, and would
// panic.
func TestMovedDirSendsSnapshot(t *testing.T) {
	a, b := freeAddr(t), freeAddr(t)
	base := t.TempDir()
	dir := filepath.Join(base, "one")
	m, err := launch(dir, a)
	must(t, err)
	must(t, m.write(0, 40))
	_, err = m.snapshot()
	must(t, err)
	must(t, m.write(40, 50))
	must(t, m.close())

	moved := filepath.Join(base, "moved", "one")
	must(t, os.MkdirAll(filepath.Dir(moved), 0o700))
	must(t, os.Rename(dir, moved))
	link := filepath.Join(base, "link")
	must(t, os.Symlink(moved, link))
	for _, at := range []string{moved, link} {
		m, err = launch(at, a)
		must(t, err)
		got, err := m.read()
		must(t, errors.Join(err, holds(got, 50), m.close()))
		if p := recordedPath(t, at); !strings.HasPrefix(p, at+string(filepath.Separator)) {
			t.Errorf("snapshot recorded at %s, want below %s", p, at)
		}
	}

	m, err = launch(link, a)
	must(t, err)
	defer func() { must(t, m.close()) }()
	_, err = m.read()
	must(t, err)
	join(t, m, b, filepath.Join(base, "two"))
}

// join adds a member at addr, and waits until it has what m has.
func join(t *testing.T, m *member, addr, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, m.nh.SyncRequestAddNonVoting(ctx, group, 2, addr, 0))
	id := self
	id.Member = 2
	d, err := Open(nil, dir, id)
	must(t, err)
	defer d.Close()
	nh, err := dragonboat.NewNodeHost(hostConfig(d, addr))
	must(t, err)
	defer nh.Close()
	must(t, nh.StartConcurrentReplica(nil, true, newStore, config.Config{
		ReplicaID: 2, ShardID: group, CheckQuorum: true, PreVote: true, ElectionRTT: 10, HeartbeatRTT: 1, IsNonVoting: true,
	}))
	for {
		v, err := nh.StaleRead(group, nil)
		if err == nil && holds(v.(map[uint64]string), 50) == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the new member has nothing: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// freeAddr returns a local address that nobody listens on.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	defer l.Close()
	return l.Addr().String()
}

// TestHostNameOfSystem gives a child process another host name, which is what
// a replaced container has.
func TestHostNameOfSystem(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root on Linux can give a process a host name of its own")
	}
	if err := exec.Command("unshare", "-u", "hostname", "raftdir-probe").Run(); err != nil {
		t.Skipf("unshare -u hostname: %v", err)
	}
	dir := filled(t, true)
	for _, name := range []string{"raftdir-a", "RAFTDIR-A", "raftdir-b"} {
		cmd := exec.Command("unshare", "-u", "sh", "-c", `hostname "$1"; exec "$2"`, "sh", name, os.Args[0])
		cmd.Env = append(os.Environ(), "RAFTDIR_TEST_REHOST="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "OK "+name) {
			t.Fatalf("as %s: %v\n%s", name, err, out)
		}
		if p := recordedPath(t, dir); !strings.Contains(p, string(filepath.Separator)+name+string(filepath.Separator)) {
			t.Errorf("as %s the snapshot is recorded at %s", name, p)
		}
	}
}

// rehostChild reads and writes dir under the host name it finds itself with.
func rehostChild(dir string) {
	name, _ := os.Hostname()
	m, err := launch(dir, "self")
	if err == nil {
		var got map[uint64]string
		got, err = m.read()
		err = errors.Join(err, holds(got, 120), m.write(0, 20), m.close())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("OK", name)
}

// TestKill kills a writing process over and over: what it leaves is never
// taken for damage, and nothing acknowledged is missing.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := filepath.Join(t.TempDir(), "dir")
	for round := range 4 {
		acked := killWriter(t, dir, 40+37*round)
		m := mustLaunch(t, dir)
		got, err := m.read()
		must(t, errors.Join(err, holds(got, acked)))
		if round%2 == 0 {
			must(t, m.crash())
			continue
		}
		_, err = m.snapshot()
		must(t, errors.Join(err, m.close()))
	}
}

// killWriter starts a process that writes values to dir and kills it after n
// of them. It returns how many were acknowledged.
func killWriter(t *testing.T, dir string, n int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RAFTDIR_TEST_WRITE="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	acked := 0
	for acked < n {
		var i int
		if _, err := fmt.Fscanln(out, &i); err != nil {
			t.Fatalf("writer: %v after %d", err, acked)
		}
		acked = i + 1
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // says that it was killed
	return acked
}

// writeChild writes values to dir until it is killed.
func writeChild(dir string) {
	m, err := launch(dir, "self")
	for i := 0; err == nil; i++ {
		if err = m.write(i, i+1); err == nil {
			fmt.Println(i)
		}
		if i%25 == 24 && err == nil {
			_, err = m.snapshot()
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestFreshDatabase opens what is left when the library was opened and closed
// before anything was written.
func TestFreshDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	for range 2 {
		d, err := Open(nil, dir, self)
		must(t, err)
		nh, err := dragonboat.NewNodeHost(hostConfig(d, "self"))
		must(t, err)
		nh.Close()
		must(t, errors.Join(d.Verify(), d.Seal(), d.Close()))
	}
}
