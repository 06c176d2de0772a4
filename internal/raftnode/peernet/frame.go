package peernet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

type frameKind uint8

const (
	frameBatch   frameKind = iota + 1 // a raftpb.MessageBatch
	frameChunk                        // a raftpb.Chunk
	frameKept                         // the last chunk was handled; empty
	frameRequest                      // of a call
	frameAnswer                       // to a call: the body
	frameError                        // to a call: the text
	frameRefusal                      // the end of the connection: the reason
)

const (
	frameHeadBytes = 16

	// The library sends batches of up to 64 MiB by its own estimate, and a
	// single message may go beyond that by the entry that crosses the limit.
	maxBatchBytes = 128 << 20

	// A chunk has 2 MiB of a file and says of which.
	maxChunkBytes = 4 << 20

	maxErrorBytes = 4 << 10
)

// maxBytes returns the size of the largest body of a frame of this kind, or -1
// if there is no such kind.
func (k frameKind) maxBytes() int {
	switch k {
	case frameBatch:
		return maxBatchBytes
	case frameChunk:
		return maxChunkBytes
	case frameKept:
		return 0
	case frameRequest:
		return requestHeadBytes + MaxMethodBytes + MaxBodyBytes
	case frameAnswer:
		return MaxBodyBytes
	case frameError:
		return maxErrorBytes
	case frameRefusal:
		return maxReasonBytes
	}
	return -1
}

// errBadFrame says that the stream is broken and its connection must end.
var errBadFrame = errors.New("broken frame")

// putFrameHead fills in the head of a frame.
func putFrameHead(head []byte, kind frameKind, body []byte) {
	head[0], head[1], head[2], head[3] = byte(kind), 0, 0, 0
	binary.BigEndian.PutUint32(head[4:], uint32(len(body)))
	binary.BigEndian.PutUint32(head[8:], crc32.Checksum(body, castagnoli))
	binary.BigEndian.PutUint32(head[12:], crc32.Checksum(head[:12], castagnoli))
}

// parseFrameHead returns what a head says of its body. The head has a checksum
// of its own, so that a flipped bit in the length is noticed before anybody
// waits for what will never come.
func parseFrameHead(head []byte) (kind frameKind, size int, sum uint32, err error) {
	if binary.BigEndian.Uint32(head[12:]) != crc32.Checksum(head[:12], castagnoli) {
		return 0, 0, 0, fmt.Errorf("%w: the checksum of its head is wrong", errBadFrame)
	}
	kind = frameKind(head[0])
	length := binary.BigEndian.Uint32(head[4:])
	limit := kind.maxBytes()
	if limit < 0 || head[1]|head[2]|head[3] != 0 {
		return 0, 0, 0, fmt.Errorf("%w: unknown kind %d", errBadFrame, kind)
	}
	if uint64(length) > uint64(limit) {
		return 0, 0, 0, fmt.Errorf("%w: %d bytes, at most %d are allowed in kind %d", errBadFrame, length, limit, kind)
	}
	return kind, int(length), binary.BigEndian.Uint32(head[8:]), nil
}

// A frameReader reads the frames of one connection. It is used by one goroutine
// at a time.
type frameReader struct {
	conn     net.Conn // for deadlines
	r        *bufio.Reader
	progress time.Duration
	most     int // bytes of a body; 0 is what its kind allows

	buf    []byte // for frames that do not fit r
	inside int    // bytes of r that belong to the frame returned last
}

func newFrameReader(conn net.Conn, r *bufio.Reader, progress time.Duration) *frameReader {
	return &frameReader{conn: conn, r: r, progress: progress}
}

// next returns the next frame, for which it waits at most wait, or for ever if
// that is 0. The body is valid until the next call. At the end of the stream
// the error is io.EOF; every other error leaves it broken.
func (f *frameReader) next(wait time.Duration) (frameKind, []byte, error) {
	if _, err := f.r.Discard(f.inside); err != nil {
		return 0, nil, err
	}
	f.inside = 0
	if f.r.Buffered() < frameHeadBytes {
		if err := f.deadline(wait); err != nil {
			return 0, nil, err
		}
	}
	head, err := f.r.Peek(frameHeadBytes)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	kind, size, sum, err := parseFrameHead(head)
	if err != nil {
		return 0, nil, err
	}
	if f.most > 0 && size > f.most {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d are allowed here", errBadFrame, size, f.most)
	}
	body, err := f.body(size)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if crc32.Checksum(body, castagnoli) != sum {
		return 0, nil, fmt.Errorf("%w: the checksum of its body is wrong", errBadFrame)
	}
	return kind, body, nil
}

// body returns the body that follows the head at which the reader stands.
func (f *frameReader) body(size int) ([]byte, error) {
	if whole := frameHeadBytes + size; whole <= f.r.Size() {
		if f.r.Buffered() < whole {
			if err := f.deadline(f.progress); err != nil {
				return nil, err
			}
		}
		b, err := f.r.Peek(whole)
		if err != nil {
			return nil, err
		}
		f.inside = whole
		return b[frameHeadBytes:], nil
	}
	if _, err := f.r.Discard(frameHeadBytes); err != nil {
		return nil, err
	}
	return f.large(size)
}

// large reads a body into the buffer, which grows with what has arrived: a
// length is only a claim.
func (f *frameReader) large(size int) ([]byte, error) {
	b := f.buf[:0]
	for len(b) < size {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(size, max(2*cap(b), stepBytes)))
			copy(grown, b)
			b = grown
		}
		if err := f.deadline(f.progress); err != nil {
			return nil, err
		}
		step := b[len(b):min(cap(b), size, len(b)+stepBytes)]
		if _, err := io.ReadFull(f.r, step); err != nil {
			return nil, err
		}
		b = b[:len(b)+len(step)]
	}
	if cap(b) <= keptBytes {
		f.buf = b
	} else {
		f.buf = nil
	}
	return b, nil
}

// waitEnd returns when the peer says anything more or has gone. The frame
// returned last is no longer valid.
func (f *frameReader) waitEnd() {
	_, _ = f.r.Discard(f.inside)
	f.inside = 0
	if f.deadline(0) == nil {
		_, _ = f.r.Peek(1)
	}
}

func (f *frameReader) deadline(wait time.Duration) error {
	if wait == 0 {
		return f.conn.SetReadDeadline(time.Time{})
	}
	return f.conn.SetReadDeadline(time.Now().Add(wait))
}

// A frameWriter writes frames to one connection. It is used by one goroutine
// at a time.
type frameWriter struct {
	conn     net.Conn
	progress time.Duration
	buf      []byte
}

// reserve returns room for a body of up to size bytes, to be filled in and
// then written by flush.
func (f *frameWriter) reserve(size int) []byte {
	if whole := frameHeadBytes + size; cap(f.buf) < whole {
		f.buf = make([]byte, max(whole, 2*cap(f.buf), readBufferBytes))
	}
	return f.buf[frameHeadBytes : frameHeadBytes+size]
}

// flush sends the frame whose body is the first size bytes of what reserve
// returned, and returns how many bytes that was with the head.
func (f *frameWriter) flush(kind frameKind, size int) (int, error) {
	if limit := kind.maxBytes(); size > limit {
		f.buf = nil
		return 0, fmt.Errorf("a frame of %d bytes is longer than %d, which is the limit of kind %d", size, limit, kind)
	}
	frame := f.buf[:frameHeadBytes+size]
	putFrameHead(frame, kind, frame[frameHeadBytes:])
	if cap(f.buf) > keptBytes {
		f.buf = nil
	}
	for rest := frame; len(rest) > 0; {
		step := rest[:min(len(rest), stepBytes)]
		if err := f.conn.SetWriteDeadline(time.Now().Add(f.progress)); err != nil {
			return 0, err
		}
		if _, err := f.conn.Write(step); err != nil {
			return 0, err
		}
		rest = rest[len(step):]
	}
	return len(frame), nil
}

// write sends a frame with this body.
func (f *frameWriter) write(kind frameKind, body []byte) (int, error) {
	return f.flush(kind, copy(f.reserve(len(body)), body))
}
