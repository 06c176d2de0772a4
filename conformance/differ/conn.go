package differ

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"coord/internal/jute"
)

// answerTimeout is how long a server may take for an answer before it counts as one that
// gives none. It is generous: machines that run tests are busy.
const answerTimeout = 20 * time.Second

// A conn is a connection of a client that sends and receives frames as they are.
type conn struct {
	net.Conn
	name    string
	server  int
	session session
	xid     int32
	last    int64 // the highest zxid seen in a header
	closed  bool  // whether the server has closed it
	ops     map[int32]jute.Op
}

// A session is what a client needs to go on with it.
type session struct {
	id       int64
	password []byte
	timeout  int32
}

// dial connects from an address of this machine, or from any if that is nil.
func dial(from net.IP, addr, name string, server int) (*conn, error) {
	d := net.Dialer{Timeout: answerTimeout}
	if from != nil {
		d.LocalAddr = &net.TCPAddr{IP: from}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, name: name, server: server, ops: map[int32]jute.Op{}}, nil
}

// frame appends a frame with this content.
func frame(b, content []byte) []byte {
	b = jute.AppendInt(b, int32(len(content)))
	return append(b, content...)
}

// request appends a frame with a request to b and remembers what an answer to it is.
// Xids of special meaning are given, others are zero.
func (c *conn) request(b []byte, xid int32, op jute.Op, body []byte) []byte {
	if xid == 0 {
		c.xid++
		xid = c.xid
	}
	c.ops[xid] = op
	header := jute.RequestHeader{Xid: xid, Op: op}
	return frame(b, append(header.AppendTo(nil), body...))
}

// send writes frames. A connection that the server has closed swallows them.
func (c *conn) send(b []byte) {
	_ = c.SetWriteDeadline(time.Now().Add(answerTimeout))
	_, _ = c.Write(b)
}

// receive reads a frame. It returns nil when the server has closed the connection, or,
// unless it has to wait longer, when it says nothing.
func (c *conn) receive(wait time.Duration) ([]byte, error) {
	_ = c.SetReadDeadline(time.Now().Add(wait))
	var length [4]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		c.closed = true
		return nil, nil
	}
	content := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(c, content); err != nil {
		c.closed = true
		return nil, nil //nolint:nilerr // an end is an answer, too
	}
	return content, nil
}

// handshake opens a session, or goes on with one.
func (c *conn) handshake(r jute.ConnectRequest) (*jute.ConnectResponse, error) {
	c.send(frame(nil, jute.Marshal(&r)))
	content, err := c.receive(answerTimeout)
	if err != nil || content == nil {
		return nil, err
	}
	response := jute.ConnectResponse{}
	if err := jute.Unmarshal(content, &response); err != nil {
		return nil, err
	}
	if again := jute.Marshal(&response); !slices.Equal(again, content) {
		return nil, errors.New("differ: the answer to a handshake has bytes that mean nothing")
	}
	c.session = session{id: response.SessionID, password: slices.Clone(response.Password), timeout: response.TimeoutMS}
	return &response, nil
}
