package raftdir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The write-ahead logs and the MANIFEST of a log database are sequences of
// records in 32 KiB blocks, LevelDB's format:
//
//	crc uint32 | size uint16 | type byte | [log number uint32 |] payload
//
// A chunk never crosses a block; a record is one full chunk or a first, some
// middle and a last one. Chunks of write-ahead logs carry their log number,
// because the files are reused and then hold older chunks behind their end.
//
// The database treats the first chunk that it cannot read as the end of the
// newest log, and of the MANIFEST whatever its place: rightly after a crash,
// wrongly after a flipped bit, and silently in both cases. Its reader
// (package record of pebble) keeps to itself where and why it stopped and
// cannot be told to go on, hence this one. It differs by looking behind the
// end:
//
//   - A record that starts behind the end was written after the bytes at the
//     end, so those were there once: damage. A middle or last chunk behind it
//     proves nothing, it can belong to the record that a crash tore.
//   - A trailer behind the end says that the file was closed in order: damage.
//   - Nothing behind the end: a torn tail, as a crash leaves it. Damage to
//     the very last record looks the same. The [seal] of an orderly close and
//     the applied marks cover that.
//
// After a power failure the disk may have kept the later of two unsynced
// pages and lost the earlier. Everything unsynced was written in one go, the
// few records that were then under way, so this is told from damage by the
// lost page: up to maxTornRecords records behind an end with a zeroed sector
// in between are a torn tail. Where the lost page shows the remains of an
// older log instead of zeros, the file is reported as damaged although it may
// be torn: refusing is the safe side.
const (
	blockSize       = 32 << 10
	legacyHeader    = 7
	recycledHeader  = 11
	sectorSize      = 512
	maxTornRecords  = 3 // one step worker, one snapshot worker, one compaction
	recordHeadBytes = 128
)

// Chunk types. Those of write-ahead logs are 4 higher.
const (
	fullChunk     = 1
	firstChunk    = 2
	middleChunk   = 3
	lastChunk     = 4
	recycledShift = 4
)

// A recordScan is what a file of records holds.
type recordScan struct {
	Records int
	End     int64 // behind the last whole record
	Size    int64 // of the file
	Behind  int64 // where a record starts behind the end, -1 if nowhere
	Count   int   // of records that start behind the end
	Closed  bool  // a trailer was found
	Hole    bool  // a zeroed sector lies between End and Behind
}

// damaged tells whether something proves that more was once readable.
func (s recordScan) damaged() bool {
	return s.Behind >= 0 && (s.Closed || !s.Hole || s.Count > maxTornRecords)
}

// recordReader scans one file.
type recordReader struct {
	r      io.ReaderAt
	logNum uint32 // 0 for a MANIFEST
	visit  func(head []byte) error

	scan  recordScan
	block []byte // the block being read, cut at the end of the file
	base  int64  // offset of block in the file
	head  []byte // first bytes of the record being read
	in    bool   // within a record
}

// scanRecords reads r, the log of that number or a MANIFEST if it is 0, and
// calls visit with the first bytes of each record up to the end.
func scanRecords(r io.ReaderAt, size int64, logNum uint32, visit func(head []byte) error) (recordScan, error) {
	rr := &recordReader{r: r, logNum: logNum, visit: visit}
	rr.scan = recordScan{Size: size, Behind: -1}
	buf := make([]byte, blockSize)
	off, whole := 0, true
	for rr.base = 0; rr.base < size && whole; rr.base += blockSize {
		if err := rr.load(buf); err != nil {
			return rr.scan, err
		}
		var err error
		if off, whole, err = rr.readBlock(); err != nil {
			return rr.scan, err
		}
		if !whole {
			break
		}
	}
	if whole || rr.scan.Closed {
		return rr.scan, nil // the end of the file, or its trailer, where it belongs
	}
	for off++; rr.base < size; rr.base, off = rr.base+blockSize, 0 {
		if err := rr.load(buf); err != nil {
			return rr.scan, err
		}
		rr.searchBlock(off)
	}
	if rr.scan.Behind >= 0 {
		return rr.scan, rr.findHole(buf)
	}
	return rr.scan, nil
}

// load reads the block at base into buf.
func (rr *recordReader) load(buf []byte) error {
	n, err := rr.r.ReadAt(buf[:min(blockSize, rr.scan.Size-rr.base)], rr.base)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	rr.block = buf[:n]
	return nil
}

// chunkAt decodes the chunk at off. Its size includes its header; it is zero
// if there is none with the right checksum and log number.
func (rr *recordReader) chunkAt(off int) (typ byte, header, size int) {
	b := rr.block[off:]
	if len(b) < legacyHeader {
		return 0, 0, 0
	}
	typ, header = b[6], legacyHeader
	if rr.logNum != 0 {
		header = recycledHeader
		if typ <= recycledShift || len(b) < header || binary.LittleEndian.Uint32(b[7:]) != rr.logNum {
			return 0, 0, 0
		}
		typ -= recycledShift
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if typ < fullChunk || typ > lastChunk || size > len(b) {
		return 0, 0, 0
	}
	// LevelDB masks its checksums, because they are stored beside data that
	// may hold checksums itself.
	c := crc32.Checksum(b[6:size], castagnoli)
	if binary.LittleEndian.Uint32(b) != (c>>15|c<<17)+0xa282ead8 {
		return 0, 0, 0
	}
	return typ, header, size
}

// trailerAt tells whether the log was closed with a trailer at off: an empty
// chunk without checksum that carries the next log number.
func (rr *recordReader) trailerAt(off int) bool {
	b := rr.block[off:]
	return rr.logNum != 0 && len(b) >= recycledHeader && bytes.Equal(b[:6], make([]byte, 6)) &&
		b[6] == fullChunk+recycledShift && binary.LittleEndian.Uint32(b[7:]) == rr.logNum+1
}

// readBlock reads chunks to the end of the block. It returns false and the
// offset of the first thing that does not continue the file.
func (rr *recordReader) readBlock() (int, bool, error) {
	off := 0
	for len(rr.block)-off >= legacyHeader {
		typ, header, size := rr.chunkAt(off)
		begins := typ == fullChunk || typ == firstChunk
		if size == 0 || begins == rr.in {
			if size == 0 && len(rr.block)-off < recycledHeader && len(rr.block) == blockSize {
				return 0, true, nil // too little room for a header: padding
			}
			rr.scan.Closed = !rr.in && rr.trailerAt(off)
			return off, false, nil
		}
		if begins {
			rr.head = rr.head[:0]
		}
		payload := rr.block[off+header : off+size]
		rr.head = append(rr.head, payload[:min(len(payload), recordHeadBytes-len(rr.head))]...)
		off += size
		rr.in = typ == firstChunk || typ == middleChunk
		if rr.in {
			continue
		}
		rr.scan.Records++
		rr.scan.End = rr.base + int64(off)
		if err := rr.visit(rr.head); err != nil {
			return off, false, err
		}
	}
	if len(rr.block) < blockSize && (rr.in || off < len(rr.block)) {
		return off, false, nil // the file ends within a record or a header
	}
	return 0, true, nil
}

// searchBlock counts what starts in the block at or behind off, at any offset.
func (rr *recordReader) searchBlock(off int) {
	for off < len(rr.block) {
		typ, _, size := rr.chunkAt(off)
		switch {
		case size > 0:
			if typ == fullChunk || typ == firstChunk {
				rr.scan.Count++
				if rr.scan.Behind < 0 {
					rr.scan.Behind = rr.base + int64(off)
				}
			}
			off += size
			continue
		case rr.trailerAt(off):
			rr.scan.Closed = true
			if rr.scan.Behind < 0 {
				rr.scan.Behind = rr.base + int64(off)
			}
		}
		off++
	}
}

// findHole looks for a zeroed sector between the end and what lies behind it.
func (rr *recordReader) findHole(buf []byte) error {
	zero := make([]byte, sectorSize)
	from := (rr.scan.End + sectorSize - 1) / sectorSize * sectorSize
	for at := from; at+sectorSize <= rr.scan.Behind; at += sectorSize {
		if _, err := rr.r.ReadAt(buf[:sectorSize], at); err != nil {
			return err
		}
		if bytes.Equal(buf[:sectorSize], zero) {
			rr.scan.Hole = true
			return nil
		}
	}
	return nil
}

// A batchRange is the span of sequence numbers in a write-ahead log.
type batchRange struct {
	first, next uint64 // next is behind the last; both 0 if the log is empty
}

// add continues the range by the batch with that head:
//
//	sequence number uint64 | count uint32 | operations
//
// The database numbers its operations without gaps, so a gap is a lost batch.
func (r *batchRange) add(head []byte) error {
	if len(head) < 12 {
		return fmt.Errorf("a batch of %d bytes", len(head))
	}
	seq, count := binary.LittleEndian.Uint64(head), binary.LittleEndian.Uint32(head[8:])
	if r.next == 0 {
		r.first = seq
	} else if seq != r.next {
		return fmt.Errorf("operation %d follows operation %d", seq, r.next-1)
	}
	r.next = seq + uint64(count)
	return nil
}

// A logState is what the edits of a MANIFEST say about the write-ahead logs.
type logState struct {
	minLog  uint64 // logs with lower numbers are obsolete
	lastSeq uint64 // highest sequence number assigned when the last edit was made
}

// add reads the fields at the head of an edit, which are written in the order
// comparer name (1), log number (2), previous log number (9), next file
// number (3), last sequence number (4); what follows are tables.
func (s *logState) add(head []byte) error {
	for len(head) > 0 {
		tag, n := binary.Uvarint(head)
		if n <= 0 || (tag != 1 && tag != 2 && tag != 9 && tag != 3 && tag != 4) {
			return nil
		}
		v, m := binary.Uvarint(head[n:])
		if m <= 0 {
			return nil
		}
		head = head[n+m:]
		switch tag {
		case 1:
			head = head[min(v, uint64(len(head))):]
		case 2:
			s.minLog = max(s.minLog, v)
		case 4:
			s.lastSeq = max(s.lastSeq, v)
		}
	}
	return nil
}
