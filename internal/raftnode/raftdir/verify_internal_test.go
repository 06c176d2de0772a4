package raftdir

import (
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

var benchMiB = flag.Int("raftdir.mib", 64, "size of the directory in BenchmarkVerify, in MiB")

// BenchmarkVerify measures the check of a directory that is all log, or mostly
// snapshot, with the files in the cache of the system.
func BenchmarkVerify(b *testing.B) {
	memtable = 64 << 20
	defer func() { memtable = 64 << 10 }()
	for _, snapshot := range []bool{false, true} {
		name := map[bool]string{false: "Log", true: "Snapshot"}[snapshot]
		b.Run(name, func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "dir")
			m := mustLaunch(b, dir)
			_, err := m.read()
			must(b, err)
			cmd := make([]byte, 8, 1<<20)
			for i := 0; len(cmd) < cap(cmd); i++ {
				cmd = append(cmd, value(i)[:min(1024, cap(cmd)-len(cmd))]...)
			}
			for i := range *benchMiB {
				binary.BigEndian.PutUint64(cmd, uint64(i))
				rs, err := m.nh.Propose(m.nh.GetNoOPSession(group), cmd, 20*time.Second)
				must(b, err)
				if r := <-rs.AppliedC(); !r.Completed() {
					b.Fatal("not applied")
				}
				rs.Release()
			}
			if snapshot {
				_, err := m.snapshot()
				must(b, err)
			}
			must(b, m.close())
			d, err := Open(nil, dir, self)
			must(b, err)
			defer d.Close()
			size := make(map[string]int64)
			for kind, files := range filesOf(b, dir) {
				for _, f := range files {
					st, err := os.Stat(f)
					must(b, err)
					size[kind] += st.Size()
				}
			}
			b.SetBytes(size[".gbsnap"] + size[".sst"] + size[".log"])
			for b.Loop() {
				must(b, d.Verify())
			}
			b.ReportMetric(float64(size[".gbsnap"]>>20), "MiB-snapshot")
			b.ReportMetric(float64(size[".sst"]>>20), "MiB-tables")
			b.ReportMetric(float64(size[".log"]>>20), "MiB-wal")
		})
	}
}

// edit changes the log database of dir.
func edit(tb testing.TB, dir string, fn func(*pebble.Batch)) layout {
	tb.Helper()
	l, err := readLayout(vfsDefault, filepath.Join(dir, raftName))
	must(tb, err)
	db := &logDB{fs: vfsDefault, path: filepath.Join(l.data, "logdb-0")}
	must(tb, db.use(db.options(), func(p *pebble.DB) error {
		b := p.NewBatch()
		defer b.Close()
		fn(b)
		return p.Apply(b, pebble.Sync)
	}))
	return l
}

// TestContents refuses logs whose files are sound and whose records are not.
func TestContents(t *testing.T) {
	template := filled(t, false)
	last := lastIndex(t, template)
	for name, c := range map[string]struct {
		kind  error
		words []string
		edit  func(b *pebble.Batch)
	}{
		"Gap": {ErrCorrupt, []string{"entry 100 of group 7"}, func(b *pebble.Batch) {
			must(t, b.Delete(dbKey(entryKey, group, 1, 100), nil))
		}},
		"NoBootstrap": {ErrRolledBack, []string{"member 1", "group 7"}, func(b *pebble.Batch) {
			must(t, b.Delete(dbKey(bootstrapKey, group, 1, 0), nil))
		}},
		"Commit": {ErrRolledBack, []string{"committed"}, func(b *pebble.Batch) {
			s := pb.State{Term: 9, Vote: 1, Commit: last + 1}
			data, err := s.Marshal()
			must(t, errors.Join(err, b.Set(dbKey(stateKey, group, 1, 0), data, nil)))
		}},
		"Applied": {ErrRolledBack, []string{"applied"}, func(b *pebble.Batch) {
			s := pb.State{Term: 9, Vote: 1, Commit: 1}
			data, err := s.Marshal()
			must(t, errors.Join(err, b.Set(dbKey(stateKey, group, 1, 0), data, nil)))
			must(t, b.Set(dbKey(maxIndexKey, group, 1, 0), binary.BigEndian.AppendUint64(nil, last-1), nil))
		}},
		"Record": {ErrCorrupt, []string{"group 7"}, func(b *pebble.Batch) {
			must(t, b.Set(dbKey(stateKey, group, 1, 0), []byte{0xff, 0xff}, nil))
		}},
		"MaxIndex": {ErrCorrupt, []string{"group 7"}, func(b *pebble.Batch) {
			must(t, b.Set(dbKey(maxIndexKey, group, 1, 0), []byte{1}, nil))
		}},
		"Key": {ErrCorrupt, nil, func(b *pebble.Batch) {
			must(t, b.Set([]byte{stateKey, stateKey, 1}, nil, nil))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, template)
			edit(t, dir, c.edit)
			_, err := Open(nil, dir, self)
			wantKind(t, err, c.kind, c.words...)
		})
	}
}

// TestLeftovers opens a directory with everything that a crash may leave.
func TestLeftovers(t *testing.T) {
	dir := filled(t, false)
	junk := []byte("junk")
	l := edit(t, dir, func(b *pebble.Batch) {})
	snapshots := filepath.Join(l.data, "snapshot-part-7", "snapshot-7-1")
	for _, path := range []string{
		filepath.Join(dir, manifestName+".tmp"),
		filepath.Join(l.root, statusFile+".tmp"),
		filepath.Join(l.data, "logdb-0", "999999.sst"),
		filepath.Join(l.data, "logdb-0", "CURRENT.999998.dbtmp"),
		filepath.Join(snapshots, "snapshot-0000000000000063-1.generating", "snapshot-0000000000000063.gbsnap"),
		filepath.Join(snapshots, "snapshot-0000000000000063-2.receiving", snapshotFlagFile),
		filepath.Join(snapshots, "snapshot-0000000000000001", "snapshot-0000000000000001.gbsnap"),
	} {
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, junk, 0o600))
	}
	m := mustLaunch(t, dir)
	got, err := m.read()
	must(t, errors.Join(err, holds(got, 120), m.close()))

	orphan := filepath.Join(snapshots, "snapshot-0000000000000064", snapshotFlagFile)
	must(t, os.MkdirAll(filepath.Dir(orphan), 0o700))
	must(t, os.WriteFile(orphan, junk, 0o600))
	_, err = Open(nil, dir, self)
	wantKind(t, err, ErrCorrupt, orphan)
}
