package faultfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/lni/vfs"

	"coord/internal/bubble"
	"coord/internal/faultfs"
)

// A rig is a file system under test: over memory, or over the disk.
type rig struct {
	t       *testing.T
	fs      *faultfs.FS
	dir     string
	journal string // "" in memory
}

func rigs(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	rigsOf(t, true, test)
}

// rigsOf leaves the disk out, where each sync takes its time, unless it is wanted.
func rigsOf(t *testing.T, disk bool, test func(t *testing.T, r *rig)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		r := &rig{t: t, fs: faultfs.New(vfs.NewMem()), dir: "/data"}
		r.begin()
		test(t, r)
	})
	if !disk {
		return
	}
	t.Run("disk", func(t *testing.T) {
		top := t.TempDir()
		r := &rig{t: t, dir: filepath.Join(top, "data"), journal: filepath.Join(top, "journal")}
		r.open()
		r.begin()
		test(t, r)
	})
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.fs, err = faultfs.OnDisk(r.journal); err != nil {
		r.t.Fatal(err)
	}
}

// begin makes the directory, durably.
func (r *rig) begin() {
	r.t.Helper()
	r.must(r.fs.MkdirAll(r.dir, 0o700))
	r.syncDir(filepath.Dir(r.dir))
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// cut is a power cut with the next start behind it.
func (r *rig) cut(seed uint64) faultfs.Loss {
	r.t.Helper()
	if r.journal == "" {
		r.fs.PowerOff()
		loss, err := r.fs.PowerOn(seed)
		r.must(err)
		return loss
	}
	r.must(r.fs.Close()) // what SIGKILL would do
	loss, err := faultfs.Revert(r.journal, seed)
	r.must(err)
	r.open()
	return loss
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string, sync bool) {
	r.t.Helper()
	f, err := r.fs.Create(r.path(name))
	r.must(err)
	_, err = f.Write([]byte(text))
	r.must(err)
	if sync {
		r.must(f.Sync())
	}
	r.must(f.Close())
}

func (r *rig) syncDir(dir string) {
	r.t.Helper()
	d, err := r.fs.OpenDir(dir)
	r.must(err)
	r.must(d.Sync())
	r.must(d.Close())
}

// read returns what a file holds, and whether it is there.
func (r *rig) read(name string) (string, bool) {
	r.t.Helper()
	f, err := r.fs.Open(r.path(name))
	if err != nil {
		return "", false
	}
	b, err := io.ReadAll(f)
	r.must(errors.Join(err, f.Close()))
	return string(b), true
}

// expect runs a scenario for many seeds and checks that these are the ends that
// are seen, and no others. Over the disk, where each sync takes its time, there are
// fewer seeds, and not every end must come.
func expect(t *testing.T, scenario func(r *rig), see func(r *rig) string, want ...string) {
	t.Helper()
	seen := map[string]int{}
	for seed := range uint64(60) {
		rigsOf(t, seed%8 == 0, func(t *testing.T, r *rig) {
			scenario(r)
			for again := range uint64(2) { // after the first cut everything is durable
				r.cut(seed + again)
				if got := see(r); slices.Contains(want, got) {
					seen[got]++
				} else {
					t.Errorf("seed %d: %q, want one of %q", seed, got, want)
				}
			}
		})
	}
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("never %q, only %v", w, seen)
		}
	}
}

func seeFile(name string) func(r *rig) string {
	return func(r *rig) string {
		text, ok := r.read(name)
		if !ok {
			return "none"
		}
		return text
	}
}

func TestSyncedSurvives(t *testing.T) {
	expect(t, func(r *rig) { r.write("a", "x", true); r.syncDir(r.dir) }, seeFile("a"), "x")
}

func TestUnsyncedFileIsLost(t *testing.T) {
	expect(t, func(r *rig) { r.write("a", "x", false); r.syncDir(r.dir) }, seeFile("a"), "x", "")
}

func TestUnsyncedNameIsLost(t *testing.T) {
	expect(t, func(r *rig) { r.write("a", "x", true) }, seeFile("a"), "x", "none")
}

func TestUnsyncedRename(t *testing.T) {
	both := func(r *rig) string { return seeFile("a")(r) + " " + seeFile("b")(r) }
	begin := func(r *rig) { r.write("a", "new", true); r.write("b", "old", true); r.syncDir(r.dir) }
	expect(t, func(r *rig) { begin(r); r.must(r.fs.Rename(r.path("a"), r.path("b"))) }, both, "new old", "none new")
	expect(t, func(r *rig) { begin(r); r.must(r.fs.Rename(r.path("a"), r.path("b"))); r.syncDir(r.dir) }, both, "none new")
}

func TestUnsyncedRemoval(t *testing.T) {
	begin := func(r *rig) { r.write("a", "x", true); r.syncDir(r.dir); r.must(r.fs.Remove(r.path("a"))) }
	expect(t, begin, seeFile("a"), "x", "none")
	expect(t, func(r *rig) { begin(r); r.syncDir(r.dir) }, seeFile("a"), "none")
}

func TestCreateOverAnother(t *testing.T) {
	begin := func(r *rig) { r.write("a", "old", true); r.syncDir(r.dir) }
	expect(t, func(r *rig) { begin(r); r.write("a", "new", true) }, seeFile("a"), "new")
	expect(t, func(r *rig) { begin(r); r.write("a", "new", false) }, seeFile("a"), "new", "", "old")
}

func TestDirectories(t *testing.T) {
	sub := func(r *rig, syncParent bool) {
		r.must(r.fs.MkdirAll(r.path("sub"), 0o700))
		r.write("sub/a", "x", true)
		r.syncDir(r.path("sub"))
		if syncParent {
			r.syncDir(r.dir)
		}
	}
	expect(t, func(r *rig) { sub(r, false) }, seeFile("sub/a"), "x", "none")
	expect(t, func(r *rig) { sub(r, true) }, seeFile("sub/a"), "x")
	expect(t, func(r *rig) { sub(r, true); r.must(r.fs.RemoveAll(r.path("sub"))) }, seeFile("sub/a"), "x", "none")
	both := func(r *rig) string { return seeFile("sub/a")(r) + " " + seeFile("dir/a")(r) }
	expect(t, func(r *rig) { sub(r, true); r.must(r.fs.Rename(r.path("sub"), r.path("dir"))) }, both, "x none", "none x")
	// A sync of the directory under its new name keeps what was made under the old.
	expect(t, func(r *rig) {
		r.must(r.fs.MkdirAll(r.path("sub"), 0o700))
		r.write("sub/a", "x", true)
		r.must(r.fs.Rename(r.path("sub"), r.path("dir")))
		r.syncDir(r.dir)
		r.syncDir(r.path("dir"))
	}, both, "none x")
	expect(t, func(r *rig) {
		r.must(r.fs.MkdirAll(r.path("sub"), 0o700))
		r.write("sub/a", "x", true)
		r.must(r.fs.Rename(r.path("sub"), r.path("dir")))
		r.syncDir(r.dir)
	}, both, "none x", "none none")
}

// TestInOrder sees only the end of a long write lost.
func TestInOrder(t *testing.T) {
	torn := 0
	for seed := range uint64(80) {
		fs := faultfs.New(vfs.NewMem()).InOrder()
		f, err := fs.Create("/a")
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Write(bytes.Repeat([]byte("n"), 6000))
		dir, derr := fs.OpenDir("/")
		if err := errors.Join(err, f.Close(), derr); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
			t.Fatal(err)
		}
		loss, err := fs.PowerOn(seed)
		if err != nil {
			t.Fatal(err)
		}
		torn += loss.Torn
		r, err := fs.Open("/a")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text, 0) >= 0 {
			t.Errorf("seed %d: there is a hole in %d bytes", seed, len(text))
		}
	}
	if torn == 0 {
		t.Error("no write was torn")
	}
}

// TestTornWrite sees a long write kept in part, with what was there before in the
// other part, and in whole sectors.
func TestTornWrite(t *testing.T) {
	old, made := bytes.Repeat([]byte("o"), 4096), bytes.Repeat([]byte("n"), 6000)
	shapes := map[string]int{}
	for seed := range uint64(80) {
		rigsOf(t, seed%8 == 0, func(t *testing.T, r *rig) {
			r.write("a", string(old), true)
			r.syncDir(r.dir)
			r.must(r.fs.Rename(r.path("a"), r.path("b")))
			f, err := r.fs.ReuseForWrite(r.path("b"), r.path("c")) // as a log database recycles its log
			r.must(err)
			_, err = f.Write(made)
			r.must(errors.Join(err, f.Close()))
			r.syncDir(r.dir)
			r.cut(seed)
			text, _ := r.read("c")
			shape := ""
			for i := 0; i < len(text); i += 512 {
				sector := text[i:min(i+512, len(text))]
				for _, c := range sector {
					if byte(c) != sector[0] {
						t.Fatalf("seed %d: a sector holds %q", seed, sector)
					}
				}
				if n := len(shape); n == 0 || shape[n-1] != sector[0] {
					shape += sector[:1]
				}
			}
			shapes[shape]++
		})
	}
	for _, want := range []string{"o", "n", "no"} {
		if shapes[want] == 0 {
			t.Errorf("never %v, only %v", want, shapes)
		}
	}
	if len(shapes) < 6 {
		t.Errorf("only %v: no scattered sectors", shapes)
	}
}

// TestReplacedFileIsOldOrNew writes a file as careful programs do, with each of the
// three steps left out in turn.
func TestReplacedFileIsOldOrNew(t *testing.T) {
	replace := func(r *rig, n int, without string) {
		r.write("f.tmp", fmt.Sprint(n), without != "fsync")
		r.must(r.fs.Rename(r.path("f.tmp"), r.path("f")))
		if without != "fsync of the directory" {
			r.syncDir(r.dir)
		}
	}
	for _, without := range []string{"nothing", "fsync", "fsync of the directory"} {
		bad := 0
		for seed := range uint64(100) {
			rigsOf(t, seed%10 == 0, func(t *testing.T, r *rig) {
				n := 1 + int(seed)%7
				for i := range n {
					replace(r, i, without)
				}
				r.cut(seed)
				if text, _ := r.read("f"); text != fmt.Sprint(n-1) {
					bad++
				}
			})
		}
		if (bad > 0) != (without != "nothing") {
			t.Errorf("without %s: %d of 110 cuts lost something that was said to be durable", without, bad)
		}
	}
}

func TestInjectedErrors(t *testing.T) {
	rigs(t, func(t *testing.T, r *rig) {
		remove := r.fs.Inject(faultfs.Fault{Ops: faultfs.Sync, Path: "*.log", After: 1, Count: 1})
		f, err := r.fs.Create(r.path("1.log"))
		r.must(err)
		_, err = f.Write([]byte("x"))
		r.must(err)
		r.must(f.Sync())
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("second sync: %v, want EIO", err)
		}
		r.must(f.Sync())
		r.must(f.Close())
		remove()
		r.fs.Inject(faultfs.Fault{Ops: faultfs.Create, Err: syscall.EMFILE})
		if _, err := r.fs.Create(r.path("x")); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("create: %v, want EMFILE", err)
		}
		r.fs.ClearFaults()
		r.fs.Inject(faultfs.Fault{Ops: faultfs.Read, Flip: true})
		if text, _ := r.read("1.log"); text == "x" || len(text) != 1 {
			t.Errorf("read %q: no bit is wrong", text)
		}
		r.fs.ClearFaults()
		hit := 0
		r.fs.Inject(faultfs.Fault{Ops: faultfs.Stat, Share: 0.5, Seed: 1})
		for range 100 {
			if _, err := r.fs.Stat(r.dir); err != nil {
				hit++
			}
		}
		if hit < 20 || hit > 80 {
			t.Errorf("%d of 100 calls failed, want about half", hit)
		}
	})
}

// TestFailedSyncKeepsNothing: after a failed fsync a later one that succeeds says
// nothing about what was written before on a real disk; here it is still honest.
func TestFailedSyncKeepsNothing(t *testing.T) {
	lost := 0
	for seed := range uint64(20) {
		rigs(t, func(_ *testing.T, r *rig) {
			r.fs.Inject(faultfs.Fault{Ops: faultfs.Sync})
			f, err := r.fs.Create(r.path("a"))
			r.must(err)
			_, err = f.Write([]byte("x"))
			r.must(err)
			_ = f.Sync()
			r.must(f.Close())
			r.syncDir(r.dir)
			r.cut(seed)
			if text, _ := r.read("a"); text == "" {
				lost++
			}
		})
	}
	if lost == 0 {
		t.Error("a failed sync has kept what was written")
	}
}

func TestFullDisk(t *testing.T) {
	rigs(t, func(t *testing.T, r *rig) {
		r.write("old", "0123456789", true)
		r.fs.SetSpace(5)
		f, err := r.fs.Create(r.path("a"))
		r.must(err)
		if n, err := f.Write([]byte("0123456789")); n != 5 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("wrote %d, %v; want 5 and ENOSPC", n, err)
		}
		if _, err := r.fs.Create(r.path("b")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("create: %v, want ENOSPC", err)
		}
		r.must(r.fs.Remove(r.path("old")))
		if du, err := r.fs.GetDiskUsage(r.dir); err != nil || du.AvailBytes != 10 {
			t.Errorf("%d bytes free, %v; want 10", du.AvailBytes, err)
		}
		if n, err := f.Write([]byte("56789")); n != 5 || err != nil {
			t.Errorf("wrote %d, %v; want 5", n, err)
		}
		r.must(f.Close())
		if text, _ := r.read("a"); text != "0123456789" {
			t.Errorf("read %q", text)
		}
	})
}

func TestPowerOff(t *testing.T) {
	fs := faultfs.New(vfs.NewMem())
	f, err := fs.Create("/a")
	if err != nil {
		t.Fatal(err)
	}
	fs.PowerOff()
	_, werr := f.Write([]byte("x"))
	_, cerr := fs.Create("/b")
	for _, err := range []error{werr, cerr, f.Sync(), fs.Remove("/a"), fs.MkdirAll("/d", 0o700)} {
		if !errors.Is(err, faultfs.ErrPowerOff) {
			t.Errorf("%v, want ErrPowerOff", err)
		}
	}
	if _, err := fs.PowerOn(1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, faultfs.ErrPowerOff) {
		t.Errorf("a file from before: %v, want ErrPowerOff", err)
	}
	if _, err := fs.Create("/b"); err != nil {
		t.Error(err)
	}
}

// TestSlowAndStuckInVirtualTime needs no real time.
func TestSlowAndStuckInVirtualTime(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		fs := faultfs.New(vfs.NewMem())
		f, err := fs.Create("/a")
		if err != nil {
			t.Fatal(err)
		}
		remove := fs.Inject(faultfs.Fault{Ops: faultfs.Sync, Delay: time.Minute})
		began := time.Now()
		if err := f.Sync(); err != nil || time.Since(began) != time.Minute {
			t.Errorf("sync took %v, %v; want a minute", time.Since(began), err)
		}
		remove()
		stuck := make(chan struct{})
		fs.Inject(faultfs.Fault{Ops: faultfs.Sync, Stuck: stuck, Count: 1})
		time.AfterFunc(time.Hour, func() { close(stuck) })
		if err := f.Sync(); err != nil || time.Since(began) != time.Minute+time.Hour {
			t.Errorf("sync came back after %v, %v", time.Since(began), err)
		}
		fs.Inject(faultfs.Fault{Ops: faultfs.Sync, Stuck: make(chan struct{})})
		time.AfterFunc(time.Hour, fs.PowerOff)
		if err := f.Sync(); !errors.Is(err, faultfs.ErrPowerOff) {
			t.Errorf("stuck until the power went off: %v", err)
		}
	})
}

// What waits for a fault waits no longer than the fault is there, and not behind Die.
func TestWaitsEndWithTheirFault(t *testing.T) {
	waits := map[string]faultfs.Fault{
		"slow":  {Ops: faultfs.Sync, Delay: time.Hour},
		"stuck": {Ops: faultfs.Sync, Stuck: make(chan struct{})},
		"both":  {Ops: faultfs.Sync, Delay: time.Second, Stuck: make(chan struct{})},
	}
	for name, fault := range waits {
		bubble.Run(t, func(t *testing.T) {
			for end, by := range map[string]func(fs *faultfs.FS, remove func()){
				"removed": func(_ *faultfs.FS, remove func()) { remove() },
				"cleared": func(fs *faultfs.FS, _ func()) { fs.ClearFaults() },
				"dead":    func(fs *faultfs.FS, _ func()) { fs.Die() },
			} {
				fs := faultfs.New(vfs.NewMem())
				f, err := fs.Create("/a")
				if err != nil {
					t.Fatal(err)
				}
				if fault.Stuck != nil {
					fault.Stuck = make(chan struct{}) // of this bubble
				}
				remove := fs.Inject(fault)
				began := time.Now()
				time.AfterFunc(time.Minute, func() { by(fs, remove) })
				if err := f.Sync(); err != nil || time.Since(began) != time.Minute {
					t.Errorf("%s, %s after a minute: the sync took %v, %v", name, end, time.Since(began), err)
				}
				if err := f.Sync(); err != nil || time.Since(began) != time.Minute {
					t.Errorf("%s, %s: the next sync took %v, %v", name, end, time.Since(began)-time.Minute, err)
				}
			}
		})
	}
}

// TestJournalIsWrittenAnew: a long life of a journal ends as a short one.
func TestJournalIsWrittenAnew(t *testing.T) {
	top := t.TempDir()
	r := &rig{t: t, dir: filepath.Join(top, "data"), journal: filepath.Join(top, "journal")}
	r.open()
	r.begin()
	rng := rand.New(rand.NewPCG(1, 1))
	block := make([]byte, 1<<20)
	r.write("a", string(block), true)
	r.syncDir(r.dir)
	for range 40 { // 40 MiB of what was there before
		f, err := r.fs.ReuseForWrite(r.path("a"), r.path("a"))
		r.must(err)
		block[rng.IntN(len(block))]++
		_, err = f.Write(block)
		r.must(errors.Join(err, f.Sync(), f.Close()))
	}
	r.write("a", "unsynced", false)
	r.cut(4)
	got, _ := r.read("a")
	if got != string(block) && got != "unsynced" && got != "" {
		t.Errorf("%d bytes that were never there", len(got))
	}
	st, err := vfs.Default.Stat(filepath.Join(r.journal, "log"))
	r.must(err)
	if st.Size() > 20<<20 {
		t.Errorf("the journal has %d bytes", st.Size())
	}
}
