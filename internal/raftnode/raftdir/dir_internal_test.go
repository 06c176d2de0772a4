package raftdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/plugin/tan"
	"github.com/lni/vfs"

	"coord/internal/replica"
)

// wantKind checks the kind of a refusal and that it names what it should.
func wantKind(tb testing.TB, err, kind error, words ...string) {
	tb.Helper()
	if !errors.Is(err, kind) {
		tb.Fatalf("error %v, want %v", err, kind)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Path == "" || e.Remedy == "" {
		tb.Errorf("error %v lacks path or remedy", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("error %q does not mention %s", err, w)
		}
	}
}

// fileSystems runs a test on the disk and in memory.
func fileSystems(t *testing.T, fn func(t *testing.T, fs vfs.FS, dir string)) {
	t.Helper()
	t.Run("Disk", func(t *testing.T) { fn(t, nil, filepath.Join(t.TempDir(), "a", "dir")) })
	t.Run("Memory", func(t *testing.T) { fn(t, vfs.NewStrictMem(), "/a/dir") })
}

func TestLife(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs vfs.FS, dir string) {
		d, err := Open(fs, dir, self)
		must(t, err)
		if !d.Fresh() || d.Initialised(1) || d.Applied(1) != 0 || len(d.ID()) != 36 {
			t.Errorf("new directory: fresh %v, initialised %v, applied %d, id %q", d.Fresh(), d.Initialised(1), d.Applied(1), d.ID())
		}
		id := d.ID()
		must(t, d.NoteApplied(1, 10))
		must(t, d.NoteApplied(1, 9))
		must(t, d.NoteAllApplied(map[replica.GroupID]uint64{1: 5, 2: 20}))
		must(t, d.Close())
		must(t, d.Close())
		if err := d.NoteApplied(1, 11); !errors.Is(err, replica.ErrClosed) {
			t.Errorf("NoteApplied after Close = %v", err)
		}
		d, err = Open(fs, dir, self)
		must(t, err)
		defer d.Close()
		if d.Fresh() || d.ID() != id || d.Applied(1) != 10 || d.Applied(2) != 20 || d.Applied(3) != 0 {
			t.Errorf("reopened: fresh %v, id %q, applied %d %d", d.Fresh(), d.ID(), d.Applied(1), d.Applied(2))
		}
		must(t, d.CheckLog(1, 10))
		wantKind(t, d.CheckLog(1, 9), ErrRolledBack, "index 9", "index 10", "group 1")
		must(t, d.Forget(1))
		must(t, d.CheckLog(1, 0))
		must(t, d.Verify())
	})
}

func TestIdentity(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs vfs.FS, dir string) {
		id := self
		id.Voters = map[replica.MemberID]string{1: "a", 3: "b"}
		d, err := Open(fs, dir, id)
		must(t, err)
		must(t, d.Close())
		id.Voters = map[replica.MemberID]string{1: "a", 2: "b"} // no replica has started with the others
		d, err = Open(fs, dir, id)
		must(t, err)
		must(t, d.CheckVoters(map[replica.MemberID]string{1: "x", 2: "y"}))
		must(t, d.MarkInitialised(7))
		wantKind(t, d.CheckVoters(map[replica.MemberID]string{1: "a", 3: "b"}), ErrWrongVoters, "[1 2]", "[1 3]")
		must(t, d.Close())
		for _, c := range []struct {
			id    Identity
			kind  error
			words []string
		}{
			{Identity{Ensemble: "test", Member: 2, LogShards: 1}, ErrWrongMember, []string{"member 1", "member 2"}},
			{Identity{Ensemble: "best", Member: 1, LogShards: 1}, ErrWrongEnsemble, []string{`"test"`, `"best"`}},
			{Identity{Ensemble: "test", Member: 1, LogShards: 2}, ErrSettings, []string{"1 log shards", "with 2"}},
		} {
			_, err := Open(fs, dir, c.id)
			wantKind(t, err, c.kind, append(c.words, dir)...)
		}
		if _, err := Open(fs, dir, Identity{}); err == nil || errors.Is(err, ErrSettings) {
			t.Errorf("Open without identity = %v", err)
		}
	})
}

func TestInUse(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs vfs.FS, dir string) {
		d, err := Open(fs, dir, self)
		must(t, err)
		for range 2 { // the failure must not release the lock
			_, err = Open(fs, dir, self)
			wantKind(t, err, ErrInUse, dir)
		}
		if fs == nil {
			link := filepath.Join(t.TempDir(), "link")
			must(t, os.Symlink(dir, link))
			_, err = Open(fs, link, self)
			wantKind(t, err, ErrInUse)
		}
		must(t, d.Close())
		d, err = Open(fs, dir, self)
		must(t, err)
		must(t, d.Close())
	})
}

// TestManifestBits flips every bit of a manifest and cuts it everywhere.
func TestManifestBits(t *testing.T) {
	data, err := encodeManifest(manifest{
		Ensemble: "a<b>", Member: 3, ID: "x", LogShards: 2, Hostname: "h",
		Voters:      map[replica.MemberID]string{3: "c", 4: "d"},
		Initialised: map[replica.GroupID]bool{1: true}, Applied: map[replica.GroupID]uint64{1: 77},
		Pins:    map[replica.MemberID]string{4: "49fb9ad9-5bb4-4a5e-9d0d-0a2f6f6c8a9e"},
		Members: map[replica.MemberID]Member{4: {Addr: "d:1", Directory: "49fb9ad9-5bb4-4a5e-9d0d-0a2f6f6c8a9e"}},
		Removed: map[replica.GroupID]bool{2: true},
		Seal:    &seal{Databases: map[string][]sealedFile{"logdb-0": {{Name: "1.log", End: 5}}}},
	})
	must(t, err)
	if _, err := decodeManifest("m", data); err != nil {
		t.Fatal(err)
	}
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			if _, err := decodeManifest("m", data); !errors.Is(err, ErrCorrupt) {
				t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
			}
			data[i] ^= 1 << bit
		}
		if _, err := decodeManifest("m", data[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestManifestVersion(t *testing.T) {
	for _, version := range []int{firstVersion - 1, manifestVersion + 1} {
		data := envelopeOf(version, []byte(`{}`))
		_, err := decodeManifest("m", data)
		wantKind(t, err, ErrVersion, fmt.Sprintf("version %d", version), "versions 2 to 3")
	}
}

func TestManifestLost(t *testing.T) {
	dir := filled(t, true)
	must(t, os.Remove(filepath.Join(dir, manifestName)))
	_, err := Open(nil, dir, self)
	wantKind(t, err, ErrCorrupt, manifestName, raftName)
}

// TestAmnesia takes away what the library would start without.
func TestAmnesia(t *testing.T) {
	template := filled(t, true)
	for name, c := range map[string]struct {
		pattern string // below dir
		sealed  bool
	}{
		"Raft":       {raftName, true},
		"RaftFiles":  {raftName + "/*", true},
		"Deployment": {raftName + "/*/0*", true},
		"LogDB":      {raftName + "/*/*/logdb-0", false},
		"Current":    {raftName + "/*/*/logdb-0/CURRENT", false},
		"Manifest":   {raftName + "/*/*/logdb-0/MANIFEST-*", false},
		"WAL":        {raftName + "/*/*/logdb-0/*.log", false},
		"Tables":     {raftName + "/*/*/logdb-0/*.sst", false},
		"Everything": {raftName + "/*/*/logdb-0/*", false},
		"Snapshot":   {raftName + "/*/*/snapshot-part-*", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, template)
			if !c.sealed {
				unseal(t, dir)
			}
			paths, err := filepath.Glob(filepath.Join(dir, c.pattern))
			if err != nil || len(paths) == 0 {
				t.Fatalf("nothing like %s: %v", c.pattern, err)
			}
			for _, p := range paths {
				must(t, os.RemoveAll(p))
			}
			_, err = Open(nil, dir, self)
			if !errors.Is(err, ErrRolledBack) && !errors.Is(err, ErrCorrupt) {
				t.Errorf("Open = %v", err)
			}
			if err := dirExists(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

func dirExists(dir string) error {
	_, err := os.Stat(filepath.Join(dir, manifestName))
	return err
}

// TestLostLog takes away one live write-ahead log, or brings an older MANIFEST
// back: pebble notices neither.
func TestLostLog(t *testing.T) {
	d := &logDB{fs: vfsDefault, path: t.TempDir()}
	d.state.lastSeq = 9
	writeLog(t, filepath.Join(d.path, "000004.log"), 4, batches(8, 3, 2))
	writeLog(t, filepath.Join(d.path, "000005.log"), 5, batches(13, 1, 1, 1))
	must(t, d.scanLogs([]uint64{4, 5}))
	writeLog(t, filepath.Join(d.path, "000006.log"), 6, batches(17, 1))
	wantKind(t, d.scanLogs([]uint64{4, 5, 6}), ErrCorrupt, "operation 17", "operation 16", "000006.log")
	wantKind(t, d.scanLogs([]uint64{5}), ErrCorrupt, "operation 13", "operation 10")
	writeLog(t, filepath.Join(d.path, "000006.log"), 6, append(batches(16, 1), batches(18, 1)...))
	wantKind(t, d.scanLogs([]uint64{4, 5, 6}), ErrCorrupt, "operation 18 follows operation 16")
}

// TestOlderLog restores an older copy of everything but the manifest.
func TestOlderLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	m := mustLaunch(t, dir)
	must(t, m.write(0, 20))
	must(t, m.close())
	old := copyDir(t, dir)
	m = mustLaunch(t, dir)
	must(t, m.write(20, 40))
	must(t, m.close())
	mark(t, dir)
	for _, sealed := range []bool{true, false} {
		if !sealed {
			unseal(t, dir)
		}
		must(t, os.RemoveAll(filepath.Join(dir, raftName)))
		must(t, os.CopyFS(filepath.Join(dir, raftName), os.DirFS(filepath.Join(old, raftName))))
		_, err := Open(nil, dir, self)
		wantKind(t, err, ErrRolledBack)
	}
}

// TestTornFirstStart tears the flag files before anything was started.
func TestTornFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	d, err := Open(nil, dir, self)
	must(t, err)
	nh, err := dragonboat.NewNodeHost(hostConfig(d, "self"))
	must(t, err)
	nh.Close()
	must(t, d.Close())
	for _, name := range []string{statusFile, hostIDFile} {
		must(t, os.Truncate(filepath.Join(dir, raftName, name), 3))
		m := mustLaunch(t, copyDir(t, dir))
		must(t, m.write(0, 3))
		must(t, m.close())
	}
	m := mustLaunch(t, dir)
	must(t, m.write(0, 3))
	must(t, m.close())
	must(t, os.Truncate(filepath.Join(dir, raftName, statusFile), 3))
	_, err = Open(nil, dir, self)
	wantKind(t, err, ErrCorrupt, statusFile)
}

// TestMemory runs the library in memory on tan, as tests above do.
func TestMemory(t *testing.T) {
	fs := vfs.NewStrictMem()
	for round := range 2 {
		d, err := Open(fs, "/m", self)
		must(t, err)
		c := hostConfig(d, "self")
		c.Expert.FS, c.Expert.LogDBFactory = fs, tan.Factory
		nh, err := dragonboat.NewNodeHost(c)
		must(t, err)
		m := &member{dir: d, nh: nh}
		members := map[uint64]string{1: "self"}
		if round > 0 {
			members = nil
		}
		must(t, nh.StartConcurrentReplica(members, false, newStore, config.Config{ReplicaID: 1, ShardID: group, ElectionRTT: 10, HeartbeatRTT: 1}))
		must(t, d.MarkInitialised(group))
		must(t, m.write(round*10, round*10+10))
		must(t, m.close())
	}
	must(t, fs.RemoveAll("/m/raft"))
	_, err := Open(fs, "/m", self)
	wantKind(t, err, ErrRolledBack, "member 1")
}

func TestConcurrentMarks(t *testing.T) {
	d, err := Open(vfs.NewStrictMem(), "/m", self)
	must(t, err)
	var wg sync.WaitGroup
	for g := range replica.GroupID(4) {
		wg.Go(func() {
			for i := range uint64(20) {
				if err := errors.Join(d.NoteApplied(g+1, i+1), d.MarkInitialised(g+1)); err != nil {
					t.Error(err)
				}
				if d.Applied(g+1) < i+1 || !d.Initialised(g+1) {
					t.Errorf("group %d: applied %d after noting %d", g+1, d.Applied(g+1), i+1)
				}
			}
		})
	}
	wg.Wait()
	must(t, d.Close())
}

// TestNoteAppliedFails keeps the old marks when the disk refuses new ones.
func TestNoteAppliedFails(t *testing.T) {
	mem := vfs.NewStrictMem()
	for n := range int32(40) {
		inj := vfs.OnIndex(n, vfs.OpWrite)
		fs := vfs.Wrap(mem, inj)
		d, err := Open(fs, "/m", self)
		if err != nil {
			continue
		}
		was := d.Applied(1)
		err = d.NoteApplied(1, was+1)
		must(t, d.Close())
		again, oerr := Open(mem, "/m", self)
		must(t, oerr)
		if got := again.Applied(1); got < was || (err == nil && got != was+1) {
			t.Errorf("fault %d: applied %d after %d, NoteApplied = %v", n, got, was, err)
		}
		must(t, again.Close())
	}
}

func TestCheckWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, CheckWorkingDirectory())
	for _, name := range settingsFiles {
		must(t, os.WriteFile(name, []byte("{}"), 0o600))
		wantKind(t, CheckWorkingDirectory(), ErrWorkingDirectory, name)
		must(t, os.Remove(name))
	}
}

func TestFree(t *testing.T) {
	d, err := Open(nil, filepath.Join(t.TempDir(), "dir"), self)
	must(t, err)
	defer d.Close()
	free, err := d.Free()
	if runtime.GOOS == "linux" || runtime.GOOS == "darwin" {
		must(t, err)
		if free == 0 {
			t.Error("Free = 0")
		}
	} else if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Free = %v", err)
	}
}
