package raftdir

import (
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
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
