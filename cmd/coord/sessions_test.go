package main_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"coord/internal/jute"
)

// A client is a session that sends one request after the other.
type client struct {
	conn  net.Conn
	shown jute.ConnectResponse
	xid   int32
}

// connect opens a session, or resumes the one of before. It reports false if the server
// does not let it.
func connect(t *testing.T, addr string, before *jute.ConnectResponse) (*client, bool) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, false
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	c := &client{conn: conn}
	// A long timeout, if the file allows it: the machine may be busy.
	r := jute.ConnectRequest{TimeoutMS: 60_000, Password: make([]byte, jute.PasswordBytes)}
	if before != nil {
		r.SessionID, r.Password = before.SessionID, before.Password
	}
	c.send(jute.Marshal(&r))
	frame := c.receive()
	return c, frame != nil && jute.Unmarshal(frame, &c.shown) == nil && c.shown.TimeoutMS > 0
}

// ask sends a request and returns the header of the answer, and false if none comes.
func (c *client) ask(op jute.Op, r jute.Record) (h jute.ReplyHeader, ok bool) {
	c.xid++
	frame := (&jute.RequestHeader{Xid: c.xid, Op: op}).AppendTo(nil)
	if r != nil {
		frame = r.AppendTo(frame)
	}
	c.send(frame)
	answer := c.receive()
	return h, answer != nil && jute.Unmarshal(answer, &h) == nil
}

func (c *client) send(frame []byte) {
	_, _ = c.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
}

func (c *client) receive() []byte {
	var length [4]byte
	if _, err := io.ReadFull(c.conn, length[:]); err != nil {
		return nil
	}
	frame := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(c.conn, frame); err != nil {
		return nil
	}
	return frame
}

// TestSessionsOutliveTheirServer has a client go on with its session, and its ephemeral
// znode, at another server when its own is stopped in good order.
func TestSessionsOutliveTheirServer(t *testing.T) {
	e := startThree(t, "maxSessionTimeout=60000\n")
	c, ok := connect(t, e.clients[0], nil)
	if !ok {
		t.Fatal("no session")
	}
	open := []jute.ACL{{Perms: 31, Scheme: "world", ID: "anyone"}}
	if h, ok := c.ask(jute.OpCreate, &jute.CreateRequest{Path: "/e", ACL: open, Flags: 1}); !ok || h.Err != 0 {
		t.Fatalf("create: %+v", h)
	}
	e.processes[0].stop(t)

	var again *client
	eventually(t, "another server has the session", func() bool {
		again, ok = connect(t, e.clients[1], &c.shown)
		return ok
	})
	if again.shown.SessionID != c.shown.SessionID {
		t.Errorf("session %#x, want %#x", again.shown.SessionID, c.shown.SessionID)
	}
	h, ok := again.ask(jute.OpExists, &jute.ReadRequest{Path: "/e"})
	if !ok || h.Err != 0 {
		t.Errorf("the ephemeral znode is gone: %+v, %v", h, ok)
	}
}

// TestSettingsOfTheFile has a server be restarted with another file, and the ensemble
// follow it: znodes with a time to live are off at first, as in ZooKeeper.
func TestSettingsOfTheFile(t *testing.T) {
	e := startThree(t, "")
	// create returns false while there is no leader to answer.
	create := func() (code jute.Code, ok bool) {
		c, ok := connect(t, e.clients[1], nil)
		if !ok {
			return 0, false
		}
		defer c.conn.Close()
		open := []jute.ACL{{Perms: 31, Scheme: "world", ID: "anyone"}}
		h, ok := c.ask(jute.OpCreateTTL, &jute.CreateTTLRequest{CreateRequest: jute.CreateRequest{Path: "/ttl", ACL: open, Flags: 5}, TTL: 60000})
		return h.Err, ok
	}
	const unimplemented = -6
	eventually(t, "znodes with a time to live are off", func() bool {
		code, ok := create()
		return ok && code == unimplemented
	})
	e.processes[2].stop(t)
	e.processes[2] = start(t, "serve", e.files[2], "-D", "zookeeper.extendedTypesEnabled=true")
	eventually(t, "the settings of the file are in force", func() bool {
		code, ok := create()
		return ok && code == 0
	})
}
