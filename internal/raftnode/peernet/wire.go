package peernet

import (
	"bufio"
	"errors"
	"io"
	"net"
	"time"
)

// A wire is one connection after its handshake.
type wire struct {
	raw  *net.TCPConn // what is closed; see close
	conn net.Conn     // raw, or TLS on it
	in   *frameReader
	out  *frameWriter
	peer Hello
	link *link
	lim  *limits
}

func newWire(raw *net.TCPConn, conn net.Conn, r *bufio.Reader, peer Hello, l *link, lim *limits) *wire {
	return &wire{
		raw:  raw,
		conn: conn,
		in:   newFrameReader(conn, r, lim.progress),
		out:  &frameWriter{conn: conn, progress: lim.progress},
		peer: peer,
		link: l,
		lim:  lim,
	}
}

// close ends the connection at once, whatever is being read or written. TLS is
// not asked to say good-bye, which could take as long as a write: where the
// end of a stream matters, a frame says so.
func (w *wire) close() { _ = w.raw.Close() }

// refuse tells the peer why the connection ends. It waits, for a moment, until
// the peer has closed it: closing with unread bytes would throw away the reason.
func (w *wire) refuse(reason string) {
	if _, err := w.out.write(frameRefusal, []byte(cleanReason(reason))); err != nil {
		return
	}
	farewell(w.raw, w.lim.farewell)
}

func farewell(raw *net.TCPConn, wait time.Duration) {
	if raw.CloseWrite() != nil || raw.SetReadDeadline(time.Now().Add(wait)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(raw, 64<<20))
}

// unaddressed returns what went wrong on a connection without its addresses, of which
// this end's is another one each time: who repeats an attempt and logs what is new
// would log each.
func unaddressed(err error) error {
	if op, ok := err.(*net.OpError); ok && op.Err != nil { //nolint:errorlint // what is around one says more
		return op.Err
	}
	return err
}

// isEnd reports whether err is how a connection ends that nobody needs any more.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}
