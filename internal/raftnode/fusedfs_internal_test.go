package raftnode

import (
	"log/slog"
	"runtime"
	"testing"

	"github.com/lni/dragonboat/v4/config"
	pb "github.com/lni/dragonboat/v4/raftpb"
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

// Who met the failure waits, and nobody else for that: a mutex that it had would be
// waited for by all, also by who is to close the log.
func TestFailedLogIsWaitedForOutside(t *testing.T) {
	defer library.attach(slog.New(slog.DiscardHandler))()
	for _, ops := range []faultfs.Op{faultfs.Write, faultfs.Sync} {
		below := faultfs.New(vfs.NewMem())
		fuse := newFuse(slog.New(slog.DiscardHandler), nil)
		factory := &logFactory{fs: below, fuse: fuse}
		nhc := config.NodeHostConfig{NodeHostDir: "/log", Expert: config.ExpertConfig{LogDB: config.GetTinyMemLogDBConfig(), FS: below}}
		db, err := factory.Create(nhc, nil, []string{"/log"}, []string{"/log"})
		if err != nil {
			t.Fatal(err)
		}
		fuse.armed.Store(true)
		save := func(index uint64) error {
			return db.SaveRaftState([]pb.Update{{
				ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: index},
				EntriesToSave: []pb.Entry{{Index: index, Term: 1}},
			}}, 1)
		}
		if err := save(1); err != nil {
			t.Fatal(err)
		}
		below.Inject(faultfs.Fault{Ops: ops})
		saved := make(chan error)
		go func() { saved <- save(2) }()
		for !fuse.blown.Load() {
			runtime.Gosched()
		}
		if st, err := db.ReadRaftState(1, 1, 0); err != nil || st.EntryCount == 0 {
			t.Errorf("%v: ReadRaftState = %+v, %v", ops, st, err)
		}
		select {
		case err := <-saved:
			t.Errorf("%v: SaveRaftState = %v, which is to wait", ops, err)
		default:
		}
		fuse.release()
		if err := <-saved; err != nil {
			t.Errorf("%v: SaveRaftState = %v", ops, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
