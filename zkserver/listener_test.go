package zkserver_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/internal/jute"
)

// badAuth is a frame that is answered, and ends the connection.
func badAuth() []byte {
	h := jute.RequestHeader{Xid: jute.XidAuth, Op: jute.OpAuth}
	frame := (&jute.AuthRequest{Scheme: "super"}).AppendTo(h.AppendTo(nil))
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}

// TestLastAnswersArrive: what a client sends behind a request that ends its connection does
// not cost it the answer. When the server has closed the connection, the system would have
// reset it for whatever was not read.
func TestLastAnswersArrive(t *testing.T) {
	addr := serveWords(t, nil)
	for range 3 {
		c := dialRaw(t, addr)
		if _, err := c.conn.Write(append(badAuth(), make([]byte, 64<<10)...)); err != nil { // more than the server reads at once
			t.Fatal(err)
		}
		eventually(t, "the server to be through with the connection", func() bool {
			return strings.Contains(ask(t, addr, "srvr"), "\nConnections: 1\n") // the one that asks
		})
		var reply jute.ReplyHeader
		if err := jute.Unmarshal(c.receive(t), &reply); err != nil || reply.Err != jute.AuthFailed {
			t.Fatalf("reply %+v, %v", reply, err)
		}
		if n, err := c.conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("behind the answer: %d bytes, %v", n, err)
		}
	}
}

// A halfEnd is a connection in memory whose directions end one by one, as those of TCP do.
type halfEnd struct {
	net.Conn // in which it reads

	out net.Conn
}

func (h *halfEnd) Write(b []byte) (int, error)         { return h.out.Write(b) }
func (h *halfEnd) SetWriteDeadline(at time.Time) error { return h.out.SetWriteDeadline(at) }
func (h *halfEnd) CloseWrite() error                   { return h.out.Close() }
func (h *halfEnd) Close() error                        { return errors.Join(h.Conn.Close(), h.out.Close()) }

// TestLastAnswersEndAtOnce: the client sees the end of the connection right behind the last
// answer, though the server lets it close first.
func TestLastAnswersEndAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		toServer, fromClient := net.Pipe()
		toClient, fromServer := net.Pipe()
		w.listeners[w.Leader(t.Context()).Status().Member].conns <- &halfEnd{toServer, fromServer}
		cl := newClient(t, &halfEnd{toClient, fromClient})
		cl.handshake(&jute.ConnectRequest{TimeoutMS: 10_000})
		began := time.Now()
		if _, err := cl.nc.Write(badAuth()); err != nil {
			t.Fatal(err)
		}
		cl.wantReply(jute.XidAuth, jute.AuthFailed)
		cl.wantClosed()
		if took := time.Since(began); took > 0 { // in virtual time
			t.Errorf("the connection was closed after %v", took)
		}
		_ = cl.nc.Close()
	})
}

// TestEventsNeedPermission: a client is not told of a znode that it may not read.
func TestEventsNeedPermission(t *testing.T) {
	addr := serveWords(t, nil)
	a, b := dialRaw(t, addr), dialRaw(t, addr)
	open := []jute.ACL{{Perms: 31, Scheme: "world", ID: "anyone"}}
	a.ask(t, jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("u:p")})
	a.ask(t, jute.OpCreate, &jute.CreateRequest{Path: "/d", ACL: open})
	b.ask(t, jute.OpAddWatch, &jute.WatchRequest{Path: "/d", Type: jute.ModePersistentRecursive})
	a.ask(t, jute.OpCreate, &jute.CreateRequest{Path: "/d/secret", ACL: []jute.ACL{{Perms: 31, Scheme: "auth"}}})
	a.ask(t, jute.OpSetData, &jute.SetDataRequest{Path: "/d/secret", Version: -1})
	a.ask(t, jute.OpDelete, &jute.VersionRequest{Path: "/d/secret", Version: -1})
	a.ask(t, jute.OpCreate, &jute.CreateRequest{Path: "/d/known", ACL: open})
	d := jute.NewDecoder(b.receive(t))
	var h jute.ReplyHeader
	var ev jute.WatcherEvent
	h.DecodeFrom(d)
	ev.DecodeFrom(d)
	if d.Err() != nil || h.Xid != jute.XidNotification || ev.Path != "/d/known" || ev.Type != int32(coord.NodeCreated) {
		t.Errorf("the first event is %+v, %+v, %v", h, ev, d.Err())
	}
}
