package raftdir

import (
	"errors"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lni/vfs"

	"coord/internal/replica"
)

var (
	vfsDefault = vfs.Default
	seed       = flag.Uint64("raftdir.seed", 0, "seed of the damage tests, 0 for a new one")
	flips      = flag.Int("raftdir.flips", 44, "number of bits flipped, and of files cut, by the damage tests")
)

type groupID = replica.GroupID

// kinds are the files that the damage tests choose from.
var kinds = []string{".gbsnap", ".log", ".sst", "MANIFEST-", "manifest.json", statusFile, hostIDFile, "CURRENT", "OPTIONS-", "snapshot.metadata"}

// filesOf lists the non-empty files below dir of each kind.
func filesOf(tb testing.TB, dir string) map[string][]string {
	tb.Helper()
	m := make(map[string][]string)
	must(tb, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		for _, k := range kinds {
			if st.Size() > 0 && strings.Contains(e.Name(), k) {
				m[k] = append(m[k], p)
			}
		}
		return nil
	}))
	return m
}

// TestDamage flips bits and cuts files of directories after a crash and after
// an orderly close. Either Open refuses, or the library comes up with
// everything that was written. A panic of the library ends the test binary.
func TestDamage(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", s)
	for _, c := range []struct {
		name    string
		orderly bool
		damage  func(*rand.Rand, []byte) ([]byte, int)
	}{
		{"FlipAfterCrash", false, flip},
		{"FlipAfterClose", true, flip},
		{"CutAfterCrash", false, cut},
		{"CutAfterClose", true, cut},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(s, 0))
			template := filled(t, c.orderly)
			refused := make(map[string]int)
			tried := make(map[string]int)
			for i := range *flips {
				kind := kinds[r.IntN(len(kinds))]
				if i%2 == 1 {
					kind = kinds[r.IntN(4)] // most of the bytes
				}
				tried[kind]++
				if damage(t, template, kind, r, c.damage) {
					refused[kind]++
				}
			}
			t.Logf("refused %v of %v", refused, tried)
		})
	}
}

func flip(r *rand.Rand, b []byte) ([]byte, int) {
	at := r.IntN(len(b))
	b[at] ^= 1 << r.IntN(8)
	return b, at
}

func cut(r *rand.Rand, b []byte) ([]byte, int) {
	at := r.IntN(len(b))
	return b[:at], at
}

// damage tries one damage to a file of that kind and returns whether Open
// refused it.
func damage(t *testing.T, template, kind string, r *rand.Rand, do func(*rand.Rand, []byte) ([]byte, int)) bool {
	t.Helper()
	dir := copyDir(t, template)
	defer func() { must(t, os.RemoveAll(dir)) }()
	files := filesOf(t, dir)[kind]
	if len(files) == 0 {
		t.Fatalf("no %s in %s", kind, dir)
	}
	path := files[r.IntN(len(files))]
	b, err := os.ReadFile(path)
	must(t, err)
	size := len(b)
	b, at := do(r, b)
	must(t, os.WriteFile(path, b, 0o600))
	name := filepath.Base(path)

	m, err := launch(dir, "self")
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Remedy == "" || e.Path == "" {
			t.Errorf("%s at %d of %d: the error says too little: %v", name, at, size, err)
		}
		return true
	}
	if err != nil {
		t.Errorf("%s at %d of %d: %v", name, at, size, err)
		return false
	}
	got, err := m.read()
	if pin := m.dir.Pin(2, otherID); !errors.Is(pin, ErrStrangeDirectory) {
		t.Errorf("%s at %d of %d: opened, but the pin is gone: %v", name, at, size, pin)
	}
	if err := errors.Join(err, holds(got, 120), m.close()); err != nil {
		t.Errorf("%s at %d of %d: opened, but %v", name, at, size, err)
	}
	return false
}
