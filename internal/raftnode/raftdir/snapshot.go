package raftdir

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"
)

// A snapshot file of the raft library, version 2:
//
//	header, 1024 bytes: size uint64 | SnapshotHeader (protobuf) | zeros
//	blocks:             2 MiB of payload, the last one less | crc uint32, big endian
//	tail, 16 bytes:     bytes in blocks uint64 | magic
//
// The header holds a checksum of itself without that field and one over the
// checksums of all blocks. The library never checks the former, checks the
// blocks only while the state machine reads them, and panics if they are bad.
const (
	snapshotHeader = 1024
	snapshotBlock  = 2 << 20
	snapshotTail   = 16
)

var snapshotMagic = []byte{0x3F, 0x5B, 0xCB, 0xF1, 0xFA, 0xBA, 0x81, 0x9F}

// verifySnapshot checks the snapshot file at path and returns the checksum
// over its blocks, which the log database recorded too.
func verifySnapshot(fs vfs.FS, path string) (sum []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	if st.Size() < snapshotHeader+snapshotTail {
		return nil, corrupt(path, -1, "the snapshot has %d bytes, fewer than header and tail need", st.Size())
	}
	buf := make([]byte, snapshotBlock+crc32.Size)
	if _, err := io.ReadFull(f, buf[:snapshotHeader]); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	h, err := decodeSnapshotHeader(path, buf[:snapshotHeader])
	if err != nil {
		return nil, err
	}
	all := crc32.NewIEEE()
	left := st.Size() - snapshotHeader - snapshotTail
	total := left
	for off := int64(snapshotHeader); left > 0; {
		block := buf[:min(left, int64(len(buf)))]
		if _, err := io.ReadFull(f, block); err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		n := len(block) - crc32.Size
		if n <= 0 || crc32.ChecksumIEEE(block[:n]) != binary.BigEndian.Uint32(block[n:]) {
			return nil, corrupt(path, off, "a block of %d bytes does not have the checksum stored behind it", len(block))
		}
		all.Write(block[n:])
		off += int64(len(block))
		left -= int64(len(block))
	}
	tail := buf[:snapshotTail]
	if _, err := io.ReadFull(f, tail); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if n := binary.LittleEndian.Uint64(tail); n != uint64(total) || !bytes.Equal(tail[8:], snapshotMagic) {
		return nil, corrupt(path, st.Size()-snapshotTail, "the tail is damaged or the file was cut: it speaks of %d bytes in blocks, there are %d", n, total)
	}
	if sum := all.Sum(nil); !bytes.Equal(sum, h.PayloadChecksum) {
		return nil, corrupt(path, -1, "the blocks have checksum %x together, the header says %x", sum, h.PayloadChecksum)
	}
	return h.PayloadChecksum, nil
}

// decodeSnapshotHeader checks the 1024 bytes b before anything is decoded
// from them, as far as the format allows.
func decodeSnapshotHeader(path string, b []byte) (pb.SnapshotHeader, error) {
	var h pb.SnapshotHeader
	size := binary.LittleEndian.Uint64(b)
	if size > snapshotHeader-8-crc32.Size {
		return h, corrupt(path, 0, "the header claims %d bytes", size)
	}
	data := b[8 : 8+size]
	if err := unmarshal(&h, data); err != nil {
		return h, corruptBy(path, err, "the header cannot be read")
	}
	// Streamed snapshots carry a checksum behind the header instead of in it.
	behind := b[8+size : 8+size+crc32.Size]
	rest := b[8+size:]
	if !bytes.Equal(behind, make([]byte, crc32.Size)) {
		if crc32.ChecksumIEEE(data) != binary.BigEndian.Uint32(behind) {
			return h, corrupt(path, 8, "the header does not have the checksum stored behind it")
		}
		rest = rest[crc32.Size:]
	} else if !headerIntact(h, data) {
		return h, corrupt(path, 8, "the header does not have the checksum stored in it")
	}
	if !bytes.Equal(rest, make([]byte, len(rest))) {
		return h, corrupt(path, 8+int64(size), "the header is followed by other things than zeros")
	}
	if h.Version != 2 || h.ChecksumType != pb.CRC32IEEE {
		return h, corrupt(path, 8, "the header names format %d and checksum %d, this program knows 2 and %d",
			h.Version, h.ChecksumType, pb.CRC32IEEE)
	}
	return h, nil
}

// headerIntact checks the checksum within a header.
func headerIntact(h pb.SnapshotHeader, data []byte) bool {
	// What does not come out again as it went in has an unknown field or an
	// odd encoding, which the checksum below would not cover.
	if again, err := h.Marshal(); err != nil || !bytes.Equal(again, data) {
		return false
	}
	sum := h.HeaderChecksum
	h.HeaderChecksum = nil
	plain, err := h.Marshal()
	return err == nil && len(sum) == crc32.Size && crc32.ChecksumIEEE(plain) == binary.BigEndian.Uint32(sum)
}

// unmarshal decodes data into m. The generated decoders return errors for
// nearly all bad input; the rest panics.
func unmarshal(m pb.Unmarshaler, data []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode %T: %v", m, r)
		}
	}()
	return m.Unmarshal(data)
}
