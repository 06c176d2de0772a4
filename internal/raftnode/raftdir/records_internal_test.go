package raftdir

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/record"
)

// batches makes batches of so many operations from the sequence number seq.
func batches(seq uint64, counts ...uint32) [][]byte {
	var all [][]byte
	for i, n := range counts {
		b := binary.LittleEndian.AppendUint64(nil, seq)
		b = binary.LittleEndian.AppendUint32(b, n)
		all = append(all, append(b, value(i)...))
		seq += uint64(n)
	}
	return all
}

// logBytes returns a log as pebble closes it, and the ends of its records.
func logBytes(tb testing.TB, num uint64, records [][]byte) ([]byte, []int64) {
	tb.Helper()
	var b bytes.Buffer
	w := record.NewLogWriter(&b, pebble.FileNum(num))
	var ends []int64
	for _, r := range records {
		end, err := w.WriteRecord(r)
		must(tb, err)
		ends = append(ends, end)
	}
	must(tb, w.Close())
	return b.Bytes(), ends
}

// writeLog writes a log as a crash leaves it.
func writeLog(tb testing.TB, path string, num uint64, records [][]byte) {
	tb.Helper()
	b, ends := logBytes(tb, num, records)
	must(tb, os.WriteFile(path, b[:ends[len(ends)-1]], 0o600))
}

// scan reads the log number 8 in b.
func scan(tb testing.TB, b []byte) recordScan {
	tb.Helper()
	s, err := scanRecords(bytes.NewReader(b), int64(len(b)), 8, func([]byte) error { return nil })
	must(tb, err)
	return s
}

// long is a log whose last records but one cross blocks.
func long(tb testing.TB) ([]byte, []int64) {
	tb.Helper()
	recs := batches(1, 1, 1, 1, 1, 1, 1)
	for _, size := range []int{70_000, 20_000, 30_000} {
		recs = append(recs, bytes.Repeat([]byte("abcdefg"), size/7))
	}
	return logBytes(tb, 8, append(recs, batches(20, 1)...))
}

// TestTornTail cuts a log everywhere, which is what a crash does.
func TestTornTail(t *testing.T) {
	b, ends := long(t)
	if s := scan(t, b); s.damaged() || !s.Closed || s.Records != len(ends) || s.End != ends[len(ends)-1] {
		t.Fatalf("whole log: %+v", s)
	}
	n := 0
	for size := 0; size <= int(ends[len(ends)-1]); size += 1 + size%193 {
		for n < len(ends) && ends[n] <= int64(size) {
			n++
		}
		if s := scan(t, b[:size]); s.damaged() || s.Records != n || s.Closed {
			t.Fatalf("cut to %d bytes: %+v, want %d records", size, s, n)
		}
	}
}

// TestRecycledLog puts a short log in the file of a long one, cut anywhere.
func TestRecycledLog(t *testing.T) {
	old, _ := logBytes(t, 5, batches(1, make([]uint32, 90)...))
	b, ends := long(t)
	for _, size := range []int64{0, 5, ends[0], ends[2] + 4, ends[4] - 300, ends[5] + 40_000} {
		mixed := append(bytes.Clone(b[:size]), old[min(size, int64(len(old))):]...)
		if s := scan(t, mixed); s.damaged() {
			t.Errorf("cut at %d: %+v", size, s)
		}
		closed, cends := logBytes(t, 8, batches(1, 1, 1))
		mixed = append(closed, old[len(closed):]...)
		if s := scan(t, mixed); s.damaged() || !s.Closed || s.Records != 2 {
			t.Errorf("closed: %+v", s)
		}
		mixed[cends[0]+20] ^= 4
		if s := scan(t, mixed); !s.damaged() || s.Records != 1 {
			t.Errorf("closed and damaged: %+v", s)
		}
	}
}

// TestDamagedRecord flips a bit at every few bytes.
func TestDamagedRecord(t *testing.T) {
	b, ends := long(t)
	last := ends[len(ends)-2] // the last record starts here
	for _, closed := range []bool{true, false} {
		if !closed {
			b = b[:ends[len(ends)-1]]
		}
		for at := 0; at < int(ends[len(ends)-1]); at += 1 + at%509 {
			b[at] ^= 1 << (at % 8)
			s := scan(t, b)
			b[at] ^= 1 << (at % 8)
			padding := s.Records == len(ends)
			if !padding && s.End > int64(at) {
				t.Fatalf("byte %d: read past the damage: %+v", at, s)
			}
			if want := closed || int64(at) < last; s.damaged() != want && !padding {
				t.Fatalf("byte %d, closed %v: %+v, want damaged %v", at, closed, s, want)
			}
		}
	}
}

// TestLostPage leaves out a page of what one sync was to write: legal if only
// few records lie behind it and the file was not closed.
func TestLostPage(t *testing.T) {
	b, ends := long(t)
	open := b[:ends[len(ends)-1]]
	hole := func(b []byte, at int64) recordScan {
		b = bytes.Clone(b)
		at = (at + 4095) / 4096 * 4096
		clear(b[at : at+4096])
		return scan(t, b)
	}
	if s := hole(open, ends[5]+60_000); s.damaged() || s.Count != 3 {
		t.Errorf("page of a late record: %+v", s)
	}
	if s := hole(b, ends[5]+60_000); !s.damaged() {
		t.Errorf("the same in a closed log: %+v", s)
	}
	if s := hole(open, 0); !s.damaged() {
		t.Errorf("page of an early record: %+v", s)
	}
}
