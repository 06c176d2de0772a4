package raftnode

import (
	"log/slog"
	"testing"

	"github.com/lni/vfs"

	"coord/internal/faultfs"
)

// The log database removes what it does not need any more on a goroutine of its own,
// also while a replica starts, and panics there if it fails.
func TestLogDatabaseIsNotToldOfFailedRemovals(t *testing.T) {
	below := faultfs.New(vfs.NewMem())
	fs := &fusedFS{FS: below, fuse: newFuse(slog.New(slog.DiscardHandler), nil)}
	if err := fs.MkdirAll("/log/old", 0o700); err != nil {
		t.Fatal(err)
	}
	below.Inject(faultfs.Fault{Ops: faultfs.Remove})
	for _, armed := range []bool{false, true} {
		fs.fuse.armed.Store(armed)
		if err := fs.Remove("/log/old"); err != nil {
			t.Errorf("Remove = %v", err)
		}
		if err := fs.RemoveAll("/log"); err != nil {
			t.Errorf("RemoveAll = %v", err)
		}
	}
	if fs.fuse.blown.Load() {
		t.Error("the fuse has blown")
	}
	if _, err := fs.Stat("/log/old"); err != nil {
		t.Errorf("nothing failed: Stat = %v", err)
	}
	below.ClearFaults()
	if err := fs.RemoveAll("/log"); err != nil {
		t.Error(err)
	}
}
