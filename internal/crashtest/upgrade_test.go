package crashtest_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/internal/bubble"
)

// olderCommit has a binary that knows version 1 of the format and no other. Those before
// commit 7d4bd12 would not do: while the version was provisional, they applied resumes of
// external sessions otherwise (ADR 14), so that their states would differ.
const olderCommit = "00abb4a5e3a6685e69fae103fbba15d4bcd3bfa8"

// TestG20UpgradeMemberByMember has an ensemble of members of an older binary become one of this binary,
// member by member and with a step back, under load, and activates the version that
// the older one does not know. Then one member is started with the older binary, which
// has to refuse and to say why, and to leave the others alone.
//
// The checkers hold all of it against what was promised: nothing that was acknowledged
// is lost, no digest differs between the binaries, and no session ends whose process
// goes on.
func TestG20UpgradeMemberByMember(t *testing.T) {
	if testing.Short() || bubble.RaceDetector {
		t.Skip("builds another binary, which takes its time and looks for no races")
	}
	older := buildOlder(t)
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	u := &upgrade{ensemble: newEnsemble(t, keptDir(t), 3), older: older}
	u.patience = 3*upgradeSession + expiryBound // a leader that was paused starts it anew
	for i := range u.cfgs {
		u.cfgs[i].SessionTimeout = upgradeSession
		if i == 1 {
			u.cfgs[i].SnapshotEntries = math.MaxUint32 // none, before it has met the log entry
		}
		u.startWith(i, older)
	}
	u.awaitReady()
	u.plant()
	w := u.startWorkload(seed, 0)

	u.replace(0, "")
	u.wantVersions(0, 1, map[string]uint64{"1": 2, "2": 1, "3": 1})
	u.wantRefused(0, "member 2 reads 1 to 1", "member 3 reads 1 to 1")
	u.replace(1, "")
	u.replace(2, "")
	u.replace(1, older)
	u.wantRefused(2, "member 2 reads 1 to 1")
	u.replace(1, "")
	u.wantVersions(1, 1, map[string]uint64{"1": 2, "2": 2, "3": 2})
	u.must(2, request{Op: opActivate, Delta: 2})
	for i := range u.procs {
		poll(t, readyBound, "version 2 to be in force", func() bool { return u.proc(i).status().FormatVersion == 2 })
	}
	u.wantMembersTold()

	for _, meets := range []string{"log entry", "snapshot"} {
		held := u.others(1)
		u.stop(1)
		u.wantTooOld(1, meets)
		u.wantHeld(held)
		u.cfgs[1].SnapshotEntries = u.cfgs[0].SnapshotEntries
		u.startWith(1, "")
		u.awaitReady()
		if meets == "log entry" {
			u.awaitSnapshot(1)
		}
	}
	w.finish()
	u.verify(rng)
	for i := range u.procs {
		u.stop(i)
	}
	u.logs()
	u.summary()
}

// upgradeSession is so long that no session ends for want of processor time.
const upgradeSession = 20 * time.Second

// An upgrade is an ensemble whose members change their binaries.
type upgrade struct {
	*ensemble
	older string
}

// startWith starts a member with another binary, or with this one if it is "".
func (u *upgrade) startWith(i int, binary string) {
	u.cfgs[i].command = nil
	if binary != "" {
		u.cfgs[i].command = running(binary)
	}
	u.start(i)
}

// replace stops a member in good order and starts it with another binary. The sessions
// of the others live on.
func (u *upgrade) replace(i int, binary string) {
	u.t.Helper()
	held := u.others(i)
	u.stop(i)
	u.startWith(i, binary)
	u.awaitReady()
	u.wantHeld(held)
}

// others returns the sessions that all members but one hold, once they all do.
func (u *upgrade) others(but int) map[int]string {
	u.t.Helper()
	held := map[int]string{}
	for i := range u.procs {
		if i != but {
			poll(u.t, readyBound, fmt.Sprintf("member %d to hold a session", i+1), func() bool {
				held[i] = u.held(u.proc(i))
				return held[i] != ""
			})
		}
	}
	return held
}

func (u *upgrade) wantHeld(held map[int]string) {
	u.t.Helper()
	for i, key := range held {
		if !u.ask(u.proc(i), key) {
			u.t.Errorf("session %s of member %d is lost", key, i+1)
		}
	}
}

// wantVersions asks a member of this binary which versions all members read.
func (u *upgrade) wantVersions(i int, active int64, newest map[string]uint64) {
	u.t.Helper()
	a := u.must(i, request{Op: opVersions})
	if a.Value != active || !maps.Equal(a.Newest, newest) {
		u.t.Errorf("member %d says that version %d is in force and the members read %v, want %d and %v", i+1, a.Value, a.Newest, active, newest)
	}
}

// wantMembersTold sees that /zookeeper/config names all members, which it did not in version 1.
func (u *upgrade) wantMembersTold() {
	u.t.Helper()
	a := u.must(0, request{Op: opGet, Path: "/zookeeper/config"})
	for i := range u.cfgs {
		wantWords(u.t, a.Data, fmt.Sprintf("server.%d=%s:", i+1, u.cfgs[i].Members[i].Addr))
	}
}

// wantRefused has a member try to activate version 2, which others do not read.
func (u *upgrade) wantRefused(i int, words ...string) {
	u.t.Helper()
	if _, err := u.proc(i).call(request{Op: opActivate, Delta: 2}); err == nil {
		u.t.Fatal("version 2 was activated, which not all members read")
	} else {
		wantWords(u.t, err.Error(), append(words, "not every member")...)
	}
}

// awaitSnapshot waits until a member has saved one more snapshot.
func (u *upgrade) awaitSnapshot(i int) {
	u.t.Helper()
	before := savedSnapshots(u.cfgs[i].Dir)
	poll(u.t, readyBound, fmt.Sprintf("a snapshot of member %d", i+1), func() bool {
		return slices.ContainsFunc(savedSnapshots(u.cfgs[i].Dir), func(name string) bool { return !slices.Contains(before, name) })
	})
}

// savedSnapshots returns the directories of the snapshots that are whole, of the member
// with this directory.
func savedSnapshots(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, "raft", "*", "*", "snapshot-part-*", "*", "snapshot-*[0-9A-F]"))
	return found
}

// wantTooOld starts a member that is down with the older binary, which cannot follow:
// it meets something that it cannot read. That binary ends at a snapshot as the raft
// library does, so the word is in its log then; see TestG20NewerDirectoriesAreRefused for this one.
func (u *upgrade) wantTooOld(i int, meets string) {
	u.t.Helper()
	cfg := u.cfgs[i]
	cfg.command = running(u.older)
	said, _ := startTooOld(u.t, &cfg, filepath.Join(u.dir, fmt.Sprintf("too-old-%d.log", i+1)))
	wantWords(u.t, said, meets, "newer than this binary")
}

// running has a process run a binary.
func running(binary string) func(string) *exec.Cmd {
	return func(string) *exec.Cmd { return exec.Command(binary) }
}

// startTooOld starts a process that must fail, and returns the reason: what it said, or
// what its log ends with if it ended before it could say anything.
func startTooOld(tb testing.TB, cfg *memberConfig, log string) (text string, silently bool) {
	tb.Helper()
	said := make(chan string, 2)
	p := launch(tb, 0, cfg, log, func(_ *process, r reply) {
		if r.Event == eventFailed || r.Event == eventOpenFailed {
			said <- r.Error
		}
	})
	defer p.kill()
	select {
	case text = <-said:
	case <-p.exited:
		text, silently = tail(p.logPath), true
	case <-time.After(readyBound):
		tb.Errorf("the binary did not fail with a version in force that it does not know; its log ends:\n%s", tail(p.logPath))
	}
	first, _, _ := strings.Cut(text, "\n")
	tb.Logf("the binary says: %s", first)
	return text, silently
}

// buildOlder builds the member of the older commit, and returns the binary.
func buildOlder(tb testing.TB) string {
	tb.Helper()
	for _, program := range []string{"git", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Skipf("needs %s: %v", program, err)
		}
	}
	if out, err := run(tb, ".", "git", "cat-file", "-e", olderCommit+"^{commit}"); err != nil {
		tb.Skipf("commit %.7s, from which the older binary is built, is not here: this is no full clone: %v: %s", olderCommit, err, out)
	}
	root, err := run(tb, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		tb.Fatal(err)
	}
	tree, err := run(tb, strings.TrimSpace(string(root)), "git", "archive", "--format=tar", olderCommit)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	unpack(tb, dir, tree)
	binary := filepath.Join(dir, "older.test")
	if _, err := run(tb, dir, "go", "test", "-c", "-o", binary, "./internal/crashtest"); err != nil {
		tb.Fatal(err)
	}
	return binary
}

// run runs a program in a directory, and returns what it prints.
func run(tb testing.TB, dir, name string, args ...string) ([]byte, error) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s: %w: %s", cmd, err, bytes.TrimSpace(failed.Stderr))
	}
	return out, err
}

// unpack writes the files of an archive below dir, which is a root to them.
func unpack(tb testing.TB, dir string, archive []byte) {
	tb.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		tb.Fatal(err)
	}
	defer root.Close()
	files := tar.NewReader(bytes.NewReader(archive))
	for {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			tb.Fatal(err)
		}
		if head.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(files)
		if err == nil {
			err = root.MkdirAll(filepath.Dir(head.Name), 0o755)
		}
		if err == nil {
			err = root.WriteFile(head.Name, data, 0o644)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}
