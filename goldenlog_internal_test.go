package coord

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenLogEvery is after how many entries of a golden log its digests are taken.
const goldenLogEvery = 50

// TestGoldenLog replays a log of each version and sees that it still leads to the same
// digests, also by way of snapshots: what apply does with an entry never changes while its
// version is in force. The log of version 1 and its digests are from the binary that knew
// no other; all are what the generator of TestModel drew.
func TestGoldenLog(t *testing.T) {
	for version := FormatVersion(oldestFormat); version <= formatVersion; version++ {
		t.Run(goldenDir(version), func(t *testing.T) {
			dir := filepath.Join("testdata", "format", goldenDir(version))
			if _, err := os.Stat(filepath.Join(dir, "log.bin")); err != nil && *updateFlag {
				writeGoldenLog(t, dir, 1000)
			}
			entries, err := os.ReadFile(filepath.Join(dir, "log.bin"))
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(dir, "log.txt"))
			if err != nil {
				t.Fatal(err)
			}
			for name, through := range map[string]bool{"log": false, "log and snapshots": true} {
				got, last := replayGoldenLog(t, splitLog(t, entries), through)
				if got != string(want) {
					t.Errorf("by %s the digests are\n%swant\n%s", name, got, want)
				}
				if last.version != version {
					t.Errorf("version %d is in force at the end of the log", last.version)
				}
			}
		})
	}
}

func splitLog(t *testing.T, b []byte) (entries [][]byte) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 4 || int(binary.BigEndian.Uint32(b)) > len(b)-4 {
			t.Fatal("the log is cut")
		}
		n := 4 + int(binary.BigEndian.Uint32(b))
		entries, b = append(entries, b[4:n]), b[n:]
	}
	return entries
}

// replayGoldenLog applies entries, and goes through a snapshot at each digest if it is
// told so.
func replayGoldenLog(t *testing.T, entries [][]byte, through bool) (digests string, s *state) {
	t.Helper()
	var out strings.Builder
	s = newState(rootGroup)
	for i, entry := range entries {
		cmd, err := decodeCommand(entry)
		if err != nil {
			t.Fatalf("entry %d: %v", i+1, err)
		}
		s.apply(cmd, digestOf(entry))
		if (i+1)%goldenLogEvery != 0 && i+1 != len(entries) {
			continue
		}
		if through {
			if s, err = readSnapshot(rootGroup, bytes.NewReader(snapshotOf(t, s.freeze())), nil); err != nil {
				t.Fatalf("behind entry %d: %v", i+1, err)
			}
		}
		fmt.Fprintf(&out, "entry %d: zxid %v, digest %v\n", i+1, s.zxid, s.digest())
	}
	return out.String(), s
}

// writeGoldenLog draws a log and its digests for a version that has none yet.
func writeGoldenLog(t *testing.T, dir string, operations int) {
	t.Helper()
	g := newGenerator(t, 1)
	for g.count < operations {
		g.step()
	}
	var b []byte
	for _, entry := range g.log {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(entry))), entry...)
	}
	digests, _ := replayGoldenLog(t, g.log, false)
	for name, data := range map[string][]byte{"log.bin": b, "log.txt": []byte(digests)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
