package zkserver

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// readBytes is the memory of a connection that is idle; frames of up to this size are
	// read without another.
	readBytes = 4096

	// growBytes is how much room is made for a longer frame before any of it has come.
	growBytes = 64 << 10
)

var errFrameLength = errors.New("length of a frame")

// errSilent says that a client has sent nothing for the time that it had.
var errSilent = errors.New("the client was silent")

// A frameReader reads frames: a length and as many bytes. It makes room as bytes come in,
// so that a length alone costs nothing.
type frameReader struct {
	nc   net.Conn
	in   *bufio.Reader
	used int             // bytes of in that the caller is through with at the next call
	stop <-chan struct{} // closed before whoever wants no more frames sets a deadline
}

func newFrameReader(nc net.Conn, stop <-chan struct{}) *frameReader {
	return &frameReader{nc: nc, in: bufio.NewReaderSize(nc, readBytes), stop: stop}
}

// head returns the first four bytes of what follows, and leaves them there.
func (f *frameReader) head() ([]byte, error) {
	if err := f.release(); err != nil {
		return nil, err
	}
	b, err := f.in.Peek(4)
	if err != nil && len(b) > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

func (f *frameReader) release() error {
	_, err := f.in.Discard(f.used)
	f.used = 0
	return err
}

// next returns the next frame, without its length, of at most limit bytes. It is valid
// until the next call.
func (f *frameReader) next(limit int) ([]byte, error) {
	head, err := f.head()
	if err != nil {
		return nil, err
	}
	n := int(int32(binary.BigEndian.Uint32(head)))
	if n < 0 || n > limit {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", errFrameLength, n, limit)
	}
	if _, err := f.in.Discard(4); err != nil {
		return nil, err
	}
	if n <= f.in.Size() {
		f.used = n
		b, err := f.in.Peek(n)
		return b, within(err)
	}
	return f.long(n)
}

// long reads a frame that does not fit into in.
func (f *frameReader) long(n int) ([]byte, error) {
	b := make([]byte, 0, min(n, growBytes))
	for len(b) < n {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(n, 2*cap(b)))
			copy(grown, b)
			b = grown
		}
		room := b[len(b):cap(b)]
		got, err := io.ReadFull(f.in, room)
		b = b[:len(b)+got]
		if err != nil {
			return nil, within(err)
		}
	}
	return b, nil
}

// within says of an error inside a frame that there should have been more.
func within(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// nextWithin is next for a client that has so much time from now on, whatever it was given
// before. It fails with errSilent if nothing at all has come; but what came while this
// process did not get to read it, because it was paused, is read.
func (f *frameReader) nextWithin(limit int, patience time.Duration) ([]byte, error) {
	if err := f.release(); err != nil {
		return nil, err
	}
	if !f.hasNext() {
		if err := f.await(patience); err != nil {
			return nil, err
		}
	}
	return f.next(limit)
}

// hasNext reports whether the next frame has come as a whole, so that no time has to be
// given for it.
func (f *frameReader) hasNext() bool {
	if f.in.Buffered() < 4 {
		return false
	}
	head, _ := f.in.Peek(4) // which is there
	return int64(binary.BigEndian.Uint32(head)) <= int64(f.in.Buffered()-4)
}

// await waits for the next frame to begin, and leaves a deadline for the rest of it.
func (f *frameReader) await(patience time.Duration) error {
	for _, more := range []time.Duration{patience, patience / secondChance} {
		if err := f.nc.SetReadDeadline(time.Now().Add(more)); err != nil {
			return err
		}
		if isClosed(f.stop) {
			return errReplied
		}
		_, err := f.in.Peek(4)
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			return err
		}
	}
	if f.in.Buffered() > 0 {
		return io.ErrUnexpectedEOF
	}
	return errSilent
}

// secondChance is the part of a client's time that it has once more when the first
// is over, for what lies unread.
const secondChance = 10
