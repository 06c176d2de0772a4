package crashtest_test

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"coord/internal/bubble"
	"coord/internal/overlay"
)

// newerBinary makes this binary into one that knows a version of the format more.
const newerBinary = `# The next version of the format.

--- formatversion.go
@@
-	formatVersion = 2
+	formatVersion = 3
`

// TestG20NewerDirectoriesAreRefused starts this binary where one has run that knows a later
// version of the format: it says so, and the process lives on. Nothing is harmed, so that
// the newer binary goes on with all that it had.
func TestG20NewerDirectoriesAreRefused(t *testing.T) {
	if testing.Short() || bubble.RaceDetector {
		t.Skip("builds another binary, which takes its time and looks for no races")
	}
	newer := buildNewer(t)
	for meets, every := range map[string]uint64{"log entry": math.MaxUint32, "snapshot": 20} {
		t.Run(meets, func(t *testing.T) {
			t.Parallel()
			cfg := soloConfig(filepath.Join(t.TempDir(), "member"))
			cfg.SnapshotEntries, cfg.command = every, running(newer)
			const n = 30
			p := mustBegin(t, cfg)
			p.write(t, 1, n)
			if meets == "snapshot" {
				poll(t, readyBound, "a snapshot", func() bool { return len(savedSnapshots(cfg.Dir)) > 0 })
			}
			p.wantAll(t, n)

			cfg.command = nil
			said, silently := startTooOld(t, &cfg, filepath.Join(t.TempDir(), "too-old.log"))
			if silently {
				t.Error("the process ended, and with it whatever else it did")
			}
			wantWords(t, said, meets, "newer than this binary", "version 3, this binary knows 1 to 2", "start this member with a newer one")

			cfg.command = running(newer)
			mustBegin(t, cfg).wantAll(t, n)
		})
	}
}

// buildNewer builds the member of a later version.
func buildNewer(tb testing.TB) string {
	tb.Helper()
	dir, root := tb.TempDir(), filepath.Join("..", "..")
	patch, err := overlay.Parse("newer", []byte(newerBinary))
	if err != nil {
		tb.Fatal(err)
	}
	o := overlay.New(dir)
	if err := o.Apply(root, patch); err != nil {
		tb.Fatal(err)
	}
	list, err := o.Write()
	if err != nil {
		tb.Fatal(err)
	}
	binary := filepath.Join(dir, "newer.test")
	if _, err := run(tb, root, "go", "test", "-c", "-overlay", list, "-o", binary, "./internal/crashtest"); err != nil {
		tb.Fatal(fmt.Errorf("build: %w", err))
	}
	return binary
}
