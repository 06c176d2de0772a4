package faultfs_test

import (
	"io"
	"slices"
	"testing"

	"github.com/lni/vfs"

	"coord/internal/faultfs"
)

// What is done after Die succeeds, is seen, and has never been once the power is back;
// what was synced before is there.
func TestAfterlife(t *testing.T) {
	for seed := range uint64(50) {
		fs := faultfs.New(vfs.NewMem())
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		write := func(path, text string) {
			t.Helper()
			f, err := fs.Create(path)
			must(err)
			_, err = f.Write([]byte(text))
			must(err)
			must(f.Sync())
			must(f.Close())
			d, err := fs.OpenDir(fs.PathDir(path))
			must(err)
			must(d.Sync())
			must(d.Close())
		}
		read := func(path string) string {
			t.Helper()
			f, err := fs.Open(path)
			if err != nil {
				return err.Error()
			}
			data, err := io.ReadAll(f)
			must(err)
			must(f.Close())
			return string(data)
		}
		must(fs.MkdirAll("/d", 0o700))
		write("/d/kept", "before")
		write("/d/removed", "before")
		write("/d/renamed", "before")
		f, err := fs.Create("/d/open")
		must(err)
		_, err = f.Write([]byte("before"))
		must(err)
		must(f.Sync())
		write("/d/last", "before") // its directory with it
		root, err := fs.OpenDir("/")
		must(err)
		must(root.Sync())

		fs.Die()
		write("/d/kept", "after")
		write("/d/new", "after")
		must(fs.Remove("/d/removed"))
		must(fs.Rename("/d/renamed", "/d/last"))
		_, err = f.Write([]byte(" and after"))
		must(err)
		must(f.Sync())
		must(f.Close())
		if got := read("/d/open"); got != "before and after" {
			t.Errorf("what was written after Die is not seen: %q", got)
		}

		if _, err := fs.PowerOn(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		names, err := fs.List("/d")
		must(err)
		slices.Sort(names)
		if want := []string{"kept", "last", "open", "removed", "renamed"}; !slices.Equal(names, want) {
			t.Errorf("seed %d: %q, want %q", seed, names, want)
		}
		for _, name := range names {
			if got := read("/d/" + name); got != "before" {
				t.Errorf("seed %d: %s holds %q, want what it held before Die", seed, name, got)
			}
		}
	}
}
