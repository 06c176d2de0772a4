package zkserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"coord"
	"coord/internal/bubble"
	"coord/internal/jute"
)

// TestEveryCodeHasAnAnswer reads the codes of package coord from its source: none is
// missing in the table, and each of ZooKeeper's has its own number.
func TestEveryCodeHasAnAnswer(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(f, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok {
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Code" && spec.Names[0].IsExported() {
				n++
			}
		}
		return true
	})
	if n == 0 || n != len(codes) {
		t.Errorf("errors.go has %d codes, the table %d", n, len(codes))
	}
	for c, told := range codes {
		if c > -1000 && int32(told) != int32(c) {
			t.Errorf("%v is told as %v", c, told)
		}
		if c <= -1000 && (told == jute.OK || told < -1000) {
			t.Errorf("%v is told as %d", c, told)
		}
	}
	for _, err := range []error{coord.ErrUnknownOutcome, coord.ErrSessionExpired, coord.ErrSessionMoved, coord.ErrSuspended, coord.ErrClosed, coord.ErrTimeout, errors.New("x"), errors.Join(coord.ErrUnknownOutcome, coord.ErrNoNode)} {
		if code, ok := codeOf(err); ok {
			t.Errorf("%v is told as %v", err, code)
		}
	}
}

// A byteConn is a connection that brings bytes.
type byteConn struct {
	net.Conn

	r io.Reader
}

func (c *byteConn) Read(b []byte) (int, error)      { return c.r.Read(b) }
func (c *byteConn) SetReadDeadline(time.Time) error { return nil }

// FuzzFrames cuts anything into frames, in pieces of any size: what comes out is what a
// plain reading of the format gives.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7, 0, 0, 0, 0, 0xff}, byte(1))
	f.Add(append([]byte{0, 0, 0, 100}, make([]byte, 110)...), byte(3))
	f.Fuzz(func(t *testing.T, b []byte, how byte) {
		const limit = 200
		var r io.Reader = bytes.NewReader(b)
		switch how % 4 {
		case 1:
			r = iotest.OneByteReader(r)
		case 2:
			r = iotest.HalfReader(r)
		case 3:
			r = iotest.DataErrReader(r)
		}
		nc := &byteConn{r: r}
		frames := &frameReader{nc: nc, in: bufio.NewReaderSize(nc, 16)}
		rest := b
		for {
			got, err := frames.nextWithin(limit, time.Second)
			var want []byte
			ok := len(rest) >= 4
			if ok {
				n := int(int32(binary.BigEndian.Uint32(rest)))
				if ok = n >= 0 && n <= limit && len(rest) >= 4+n; ok {
					want, rest = rest[4:4+n], rest[4+n:]
				}
			}
			if ok != (err == nil) || ok && !bytes.Equal(got, want) {
				t.Fatalf("frame %x, %v; want %x, %v", got, err, want, ok)
			}
			if err != nil {
				return
			}
		}
	})
}

// TestEachFrameHasItsTime has a client be busy all the time, and send no frame in one
// piece: each is read that came within the client's patience since the one before.
func TestEachFrameHasItsTime(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		server, client := net.Pipe()
		const patience, n = 10 * time.Second, 10
		var sender sync.WaitGroup
		defer sender.Wait()
		defer server.Close()
		sender.Go(func() {
			defer client.Close()
			stream := bytes.Repeat([]byte{0, 0, 0, 3, 'a', 'b', 'c'}, n)
			for size := 12; len(stream) > 0; size = 7 { // up to the middle of a frame
				size = min(size, len(stream))
				_, _ = client.Write(stream[:size])
				stream = stream[size:]
				time.Sleep(patience * 6 / 10)
			}
		})
		frames := newFrameReader(server, nil)
		for i := range n {
			if b, err := frames.nextWithin(100, patience); err != nil || string(b) != "abc" {
				t.Fatalf("frame %d: %q, %v", i, b, err)
			}
		}
	})
}

// TestLongFramesTakeMemoryAsTheyCome announces a long frame and sends none of it.
func TestLongFramesTakeMemoryAsTheyCome(t *testing.T) {
	head := binary.BigEndian.AppendUint32(nil, 16<<20)
	grown := testing.AllocsPerRun(10, func() {
		frames := newFrameReader(&byteConn{r: bytes.NewReader(head)}, nil)
		if b, err := frames.next(16 << 20); !errors.Is(err, io.ErrUnexpectedEOF) || cap(b) > growBytes {
			t.Errorf("%d bytes, %v", cap(b), err)
		}
	})
	if grown > 10 {
		t.Errorf("%v allocations", grown)
	}
}
