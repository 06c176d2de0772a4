package raftdir

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"path/filepath"
	"testing"

	"github.com/lni/vfs"

	"coord/internal/replica"
)

// FuzzManifest reads arbitrary manifests: as they are, and with the checksum put right
// so that the body is looked at.
func FuzzManifest(f *testing.F) {
	data, err := encodeManifest(manifest{
		Ensemble: "e", Member: 1, ID: "i", LogShards: 1, Hostname: "h",
		Voters: map[replica.MemberID]string{1: "a:1"}, Initialised: map[replica.GroupID]bool{1: true}, Applied: map[replica.GroupID]uint64{1: 7},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, []byte(`{"ensemble":"e","member":1,"id":"i","log_shards":1,"hostname":"h"}`), 2)
	f.Add(data, []byte(`{"ensemble":"e","member":0,"id":"i","log_shards":1,"hostname":"h","members":{"7":{"addr":"a:1"}}}`), 3)
	f.Add([]byte("{}"), []byte(`{"member":-1}`), 3)
	f.Fuzz(func(t *testing.T, file, body []byte, version int) {
		for _, b := range [][]byte{file, envelopeOf(version, body)} {
			m, err := decodeManifest("m", b)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
					t.Fatalf("decodeManifest = %v, which is neither ErrCorrupt nor ErrVersion", err)
				}
				continue
			}
			if again, err := encodeManifest(m); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%s is read and written as %s, %v", b, again, err)
			}
		}
	})
}

// envelopeOf returns a manifest with the body and the right checksum, laid out as it is
// written.
func envelopeOf(version int, body []byte) []byte {
	compact := new(bytes.Buffer)
	if json.Compact(compact, body) != nil {
		compact.Reset()
	}
	e := envelope{Version: version, CRC32C: manifestCRC(version, compact.Bytes()), Body: compact.Bytes()}
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return body // it is no JSON, and so no envelope's
	}
	return append(data, '\n')
}

// FuzzSnapshotHeader reads arbitrary headers of snapshot files.
func FuzzSnapshotHeader(f *testing.F) {
	f.Add([]byte{8, 2, 16, 0}, uint64(4), true)
	f.Add(bytes.Repeat([]byte{0xff}, 1100), uint64(1<<63), false)
	f.Fuzz(func(t *testing.T, data []byte, size uint64, behind bool) {
		b := make([]byte, snapshotHeader)
		binary.LittleEndian.PutUint64(b, size)
		copy(b[8:], data)
		if end := 8 + size; behind && size <= snapshotHeader-12 {
			binary.BigEndian.PutUint32(b[end:], crc32.ChecksumIEEE(b[8:end]))
		}
		if _, err := decodeSnapshotHeader("s", b); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("decodeSnapshotHeader = %v, which is not ErrCorrupt", err)
		}
	})
}

// FuzzStatusFile reads what the raft library pins in a directory, with the checksum
// put right or not.
func FuzzStatusFile(f *testing.F) {
	f.Add([]byte{10, 1, 'a'}, true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		fs := vfs.NewMem()
		if sealed {
			data = append(flagSum(data), data...)
		}
		file, err := fs.Create(statusFile)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readStatus(fs, ""); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("readStatus = %v, which is not ErrCorrupt", err)
		}
	})
}

// FuzzRecords scans arbitrary logs and manifests of the log database.
func FuzzRecords(f *testing.F) {
	record := func(number uint32, payload []byte) []byte {
		b := make([]byte, recycledHeader+len(payload))
		binary.LittleEndian.PutUint16(b[4:], uint16(len(payload)))
		b[6] = fullChunk + recycledShift
		binary.LittleEndian.PutUint32(b[7:], number)
		copy(b[recycledHeader:], payload)
		c := crc32.Checksum(b[6:], castagnoli)
		binary.LittleEndian.PutUint32(b, (c>>15|c<<17)+0xa282ead8)
		return b
	}
	f.Add(append(record(8, []byte("one")), record(8, []byte("two"))...), uint32(8))
	f.Add(record(0, nil), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, number uint32) {
		seen := 0
		s, err := scanRecords(bytes.NewReader(b), int64(len(b)), number, func(head []byte) error {
			if len(head) > recordHeadBytes {
				t.Fatalf("a head of %d bytes", len(head))
			}
			seen++
			return nil
		})
		if err != nil || seen != s.Records || s.End > s.Size || s.Size != int64(len(b)) || s.Behind >= s.Size {
			t.Fatalf("scanRecords = %+v, %v; %d records were seen", s, err, seen)
		}
	})
}

// FuzzSnapshotPath sees that a path which a damaged record may name leads nowhere
// outside of the directory.
func FuzzSnapshotPath(f *testing.F) {
	f.Add(`C:\d\snapshot-part-1\snapshot-1-1\snapshot-0000000000000001\snapshot-0000000000000001.gbsnap`)
	f.Add("../../../../../../etc/passwd")
	f.Add("../../../../passwd")
	f.Add("")
	f.Fuzz(func(t *testing.T, old string) {
		l := layout{root: "/r", data: "/r/host/00000000000000000001"}
		got := l.snapshotPath("host", old)
		if within, err := filepath.Rel("/r", got); err != nil || within == ".." || bytes.HasPrefix([]byte(within), []byte("../")) {
			t.Fatalf("%q leads to %q", old, got)
		}
	})
}
