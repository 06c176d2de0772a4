package peernet

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"coord/internal/replica"
)

// aFrame returns the bytes of a frame.
func aFrame(kind frameKind, body []byte) []byte {
	b := append(make([]byte, frameHeadBytes), body...)
	putFrameHead(b, kind, body)
	return b
}

func aBatchFrame(tb testing.TB, b raftpb.MessageBatch) []byte {
	tb.Helper()
	body, err := b.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return aFrame(frameBatch, body)
}

// waitClosed waits until the other end has closed conn.
func waitClosed(tb testing.TB, conn net.Conn) {
	tb.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
		tb.Fatal("the connection is still open")
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// Who says nothing, or little by little, is cut off when the time for a
// handshake is over, whatever the protocol.
func TestSlowHandshake(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 1, append(opts, func(_ int, nd *node) { nd.lim.handshake = 50 * time.Millisecond })...)
		a := f.nodes[0]
		for name, say := range map[string]func(net.Conn){
			"silent":     func(net.Conn) {},
			"half hello": func(c net.Conn) { _, _ = io.WriteString(c, magic) },
			"half TLS":   func(c net.Conn) { _, _ = c.Write([]byte{tlsRecord, 3, 1, 0x40, 0}) },
			"a byte at a time": func(c net.Conn) {
				pace := time.NewTicker(5 * time.Millisecond)
				defer pace.Stop()
				for _, b := range encodeOpening(helloOpening(a.net.hello(1, ForRaft))) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					<-pace.C
				}
				t.Error("a whole hello was taken, a byte at a time")
			},
		} {
			t.Run(name, func(t *testing.T) {
				conn := rawDial(t, a)
				var wg sync.WaitGroup
				wg.Go(func() { say(conn) })
				waitClosed(t, conn)
				conn.Close()
				wg.Wait()
			})
		}
		eventually(t, "four failed handshakes", func() bool {
			l := a.link(0, In)
			return l.Errors+l.Refused == 4 && l.Connections == 0
		})
	})
}

// Who speaks another protocol is not answered.
func TestStrangersGetNoAnswer(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 1, opts...)
		conn := rawDial(t, f.nodes[0])
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: member-1.example:7000\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if n, _ := io.Copy(io.Discard, conn); n != 0 {
			t.Errorf("the answer is %d bytes long, want none", n)
		}
		if l := f.nodes[0].link(0, In); l.Errors != 1 || l.Refused != 0 {
			t.Errorf("strangers' link is %+v, want 1 error", l)
		}
	})
}

// A flood of connections that say nothing keeps no member out, and does not
// pile up.
func TestConnectionFlood(t *testing.T) {
	for name, limit := range map[string]func(*limits){
		"from one address": func(l *limits) { l.pendingPerIP = 5 },
		"in all":           func(l *limits) { l.pending = 5 },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFabric(t, 2, func(_ int, nd *node) {
				nd.lim.handshake = time.Hour
				limit(&nd.lim)
			})
			a, b := f.nodes[0], f.nodes[1]
			var flood []net.Conn
			for range 50 {
				flood = append(flood, rawDial(t, b))
			}
			for range 3 {
				c := a.mustConnect(b)
				if err := c.SendMessageBatch(batch(a, b, nil)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "three batches", func() bool { return b.received() == 3 })
			for _, conn := range flood[:45] {
				waitClosed(t, conn)
			}
			p := &b.tr.(*endpoint).pending
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.conns) > 5 {
				t.Errorf("%d handshakes are under way, want at most 5", len(p.conns))
			}
		})
	}
}

// A peer that has more connections than it can have alive loses the oldest.
func TestTooManyConnections(t *testing.T) {
	f := newFabric(t, 2, func(_ int, nd *node) { nd.lim.raftConns = 3 })
	a, b := f.nodes[0], f.nodes[1]
	first := a.mustConnect(b)
	for range 3 {
		a.mustConnect(b)
	}
	eventually(t, "the first connection to end", func() bool { return hasEnded(first) })
	eventually(t, "three connections", func() bool { return b.link(1, In).Connections == 3 })
}

// silentConn is a net.Conn that reads from a reader, for a frameReader.
type silentConn struct{ net.Conn }

func (silentConn) SetReadDeadline(time.Time) error { return nil }

func readFrames(r io.Reader, buffer int) *frameReader {
	return newFrameReader(silentConn{}, bufio.NewReaderSize(r, buffer), time.Second)
}

// A length is only a claim: what is allocated follows what has arrived.
func TestLengthAllocatesNothing(t *testing.T) {
	claim := aFrame(frameBatch, nil)
	putClaim(claim, maxBatchBytes)
	tooLong := aFrame(frameBatch, nil)
	putClaim(tooLong, 1<<32-1)
	reserved := aFrame(frameKept, nil)
	reserved[2] = 1
	putClaim(reserved, 0)
	for name, tt := range map[string]struct {
		stream []byte
		want   error
	}{
		"reserved bytes":    {reserved, errBadFrame},
		"a claim":           {append(claim, "and ten bytes"...), io.ErrUnexpectedEOF},
		"beyond the limit":  {append(tooLong, "and ten bytes"...), errBadFrame},
		"no body at all":    {claim, io.ErrUnexpectedEOF},
		"half a head":       {claim[:7], io.ErrUnexpectedEOF},
		"nothing":           {nil, io.EOF},
		"an unknown kind":   {aFrame(99, nil), errBadFrame},
		"a frame too large": {aFrame(frameKept, []byte("x")), errBadFrame},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := readFrames(bytes.NewReader(tt.stream), readBufferBytes).next(0)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes were allocated", name, n)
		}
	}
}

// Every frame that is cut short or has a flipped bit ends its own connection,
// and nothing of it is believed; the others do not notice.
func TestBrokenFramesCloseTheirConnection(t *testing.T) {
	f := newFabric(t, 2)
	a, b := f.nodes[0], f.nodes[1]
	good := a.mustConnect(b)
	frame := aBatchFrame(t, batch(a, b, []byte("payload")))
	try := func(name string, broken []byte) {
		t.Helper()
		conn, _ := rawHandshake(t, a, b, ForRaft)
		defer conn.Close()
		if _, err := conn.Write(broken); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(broken) < len(frame) {
			_ = conn.CloseWrite()
		}
		waitClosed(t, conn)
	}
	for i := 1; i < len(frame); i++ {
		try(fmt.Sprintf("%d bytes of %d", i, len(frame)), frame[:i])
	}
	for bit := range 8 * len(frame) {
		flipped := bytes.Clone(frame)
		flipped[bit/8] ^= 1 << (bit % 8)
		try(fmt.Sprintf("bit %d", bit), flipped)
	}
	if n := b.received(); n != 0 {
		t.Errorf("%d messages of broken frames were believed", n)
	}
	eventually(t, "the broken connections to be counted", func() bool {
		return b.link(1, In).Errors == uint64(len(frame)-1+8*len(frame))
	})
	if err := good.SendMessageBatch(batch(a, b, nil)); err != nil {
		t.Errorf("the good connection: %v", err)
	}
	eventually(t, "the good connection's batch", func() bool { return b.received() == 1 })
}

// What the library's decoders and handlers do about what they do not expect,
// panics included, ends the connection and nothing else.
func TestPanicsAreContained(t *testing.T) {
	f := newFabric(t, 2)
	a, b := f.nodes[0], f.nodes[1]
	good := a.mustConnect(b)
	// Field 1 of a batch, a message, whose length overflows an index.
	overflow := []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}
	for name, tt := range map[string]struct {
		purpose Purpose
		frame   []byte
	}{
		"no batch":              {ForRaft, aFrame(frameBatch, []byte("what is this"))},
		"a length of a message": {ForRaft, aFrame(frameBatch, overflow)},
		"no chunk":              {ForSnapshot, aFrame(frameChunk, []byte{0xff, 0xff})},
		"no request":            {ForCall, aFrame(frameRequest, []byte{0, 0, 0, 0, 9, 'x'})},
		"another kind":          {ForRaft, aFrame(frameChunk, nil)},
		"an answer":             {ForCall, aFrame(frameAnswer, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			before := b.link(1, In).Errors
			conn, _ := rawHandshake(t, a, b, tt.purpose)
			if _, err := conn.Write(tt.frame); err != nil {
				t.Fatal(err)
			}
			_ = conn.CloseWrite()
			waitClosed(t, conn)
			eventually(t, "the error", func() bool { return b.link(1, In).Errors == before+1 })
		})
	}

	b.onBatch = func(raftpb.MessageBatch) { panic("a batch") }
	bad := a.mustConnect(b)
	if err := bad.SendMessageBatch(batch(a, b, nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection to break", func() bool { return bad.SendMessageBatch(batch(a, b, nil)) != nil })
	b.mu.Lock()
	b.onBatch, b.batches = nil, nil
	b.mu.Unlock()
	if err := good.SendMessageBatch(batch(a, b, nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the good connection's batch", func() bool { return b.received() == 1 })
}

// Messages that the peer at the other end may not send are dropped and counted:
// the library would believe some and end the process over others.
func TestForeignMessagesAreDropped(t *testing.T) {
	f := newFabric(t, 3)
	a, b, c := f.nodes[0], f.nodes[1], f.nodes[2]
	conn := a.mustConnect(b)
	all := batch(a, b, []byte("good"))
	all.Requests = append(all.Requests,
		batch(c, b, nil).Requests[0], // another member's
		batch(a, c, nil).Requests[0], // for another member
		raftpb.Message{Type: raftpb.Replicate, From: 1},
		raftpb.Message{Type: raftpb.Replicate, To: 2},
	)
	local := []raftpb.MessageType{
		raftpb.LocalTick, raftpb.Election, raftpb.LeaderHeartbeat, raftpb.ConfigChangeEvent, raftpb.Ping, raftpb.Pong,
		raftpb.SnapshotStatus, raftpb.Unreachable, raftpb.CheckQuorum, raftpb.BatchedReadIndex, raftpb.InstallSnapshot,
		raftpb.LogQuery, raftpb.LogQuery + 1,
	}
	for kind := raftpb.LocalTick; kind <= raftpb.LogQuery+1; kind++ {
		all.Requests = append(all.Requests, raftpb.Message{Type: kind, From: 1, To: 2, ShardID: 1})
	}
	dropped := uint64(4 + len(local))
	if err := conn.SendMessageBatch(all); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the batch", func() bool { return b.received() > 0 })
	if l := b.link(1, In); l.Dropped != dropped || uint64(b.received()) != uint64(len(all.Requests))-dropped {
		t.Errorf("%d messages arrived and %d were dropped, want %d of %d dropped", b.received(), l.Dropped, dropped, len(all.Requests))
	}
	for _, m := range b.batches[0].Requests {
		if m.From != 1 || m.To != 2 || slices.Contains(local, m.Type) {
			t.Errorf("message %v arrived", m)
		}
	}
}

// failing is a listener that cannot accept for a while.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (l *failing) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// Errors when accepting, such as that of a process without file descriptors,
// are waited out.
func TestAcceptErrorsAreWaitedOut(t *testing.T) {
	f := newFabric(t, 2, on(2, func(nd *node) {
		nd.listen = func(l net.Listener) net.Listener {
			fl := &failing{Listener: l}
			fl.left.Store(5)
			return fl
		}
	}))
	a, b := f.nodes[0], f.nodes[1]
	if err := a.mustConnect(b).SendMessageBatch(batch(a, b, nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the batch", func() bool { return b.received() == 1 })
	if l := b.link(0, In); l.Errors != 5 {
		t.Errorf("strangers' link is %+v, want 5 errors", l)
	}
}

// putClaim changes the length in the head of a frame.
func putClaim(frame []byte, size uint32) {
	binary.BigEndian.PutUint32(frame[4:], size)
	binary.BigEndian.PutUint32(frame[12:], crc32.Checksum(frame[:12], castagnoli))
}

// Refusals are told of, whatever else the peer has done on the same link before.
func TestRefusalIsTold(t *testing.T) {
	type told struct {
		member replica.MemberID
		reason string
	}
	refused, strange := make(chan told, 16), new(atomic.Bool)
	f := newFabric(t, 2, func(i int, nd *node) {
		if i == 0 {
			return
		}
		nd.cfg.Refused = func(member replica.MemberID, _ net.Addr, reason string) { refused <- told{member, reason} }
		nd.cfg.Admit = func(Hello) error {
			if strange.Load() {
				return errors.New("strange")
			}
			return nil
		}
	})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", f.nodes[1].cfg.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := conn.Write(encodeOpening(helloOpening(f.nodes[0].net.hello(2, ForRaft)))); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	if _, err := dial().Write(make([]byte, frameHeadBytes)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a broken frame to be counted", func() bool { return f.nodes[1].link(1, In).Errors > 0 })
	strange.Store(true)
	dial()
	select {
	case got := <-refused:
		if got != (told{1, "strange"}) {
			t.Errorf("told %+v", got)
		}
	case <-time.After(patience):
		t.Fatal("nobody was told of a refusal")
	}
}

// A panic in the middle of a handshake, of a callback or about a certificate, refuses
// the connection at the end where it is, whoever dialled.
func TestPanicsInHandshakeAreContained(t *testing.T) {
	ca := newAuthority(t)
	for name, tt := range map[string]struct {
		dialling, accepting bool // whether it is called when member 1 does
		cause               func(*node)
	}{
		"GetConfigForClient": {accepting: true, cause: func(nd *node) {
			nd.cfg.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { panic(name1) }
		}},
		"GetClientCertificate": {dialling: true, cause: func(nd *node) {
			nd.cfg.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { panic(name1) }
		}},
		"VerifyConnection": {true, true, func(nd *node) {
			nd.cfg.TLS.VerifyConnection = func(tls.ConnectionState) error { panic(name1) }
		}},
		"Admit": {true, true, func(nd *node) { nd.cfg.Admit = func(Hello) error { panic(name1) } }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFabric(t, 3, ca.secured, on(1, tt.cause))
			a, b, c := f.nodes[0], f.nodes[1], f.nodes[2]
			dialled, err := a.connect(b)
			if tt.dialling {
				mustContain(t, "GetConnection", err, "panic", name1)
			}
			accepted, err2 := b.connect(a)
			if (err != nil) != tt.dialling || (err2 != nil) != tt.accepting {
				t.Errorf("dialling: %v, accepting: %v, want errors: %t and %t", err, err2, tt.dialling, tt.accepting)
			}
			if err == nil {
				dialled.Close()
			}
			if err2 == nil {
				accepted.Close()
			}
			b.mustConnect(c)
		})
	}
}

const name1 = "what member 1 panics with"
