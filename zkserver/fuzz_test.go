package zkserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/jute"
	"coord/zkserver"
)

// loneServer serves one member in real time, with sessions that cost no write.
func loneServer(tb testing.TB) (*pipeListener, *coord.Coordinator) {
	tb.Helper()
	e := coordtest.NewEnsemble(tb, 1, coordtest.WithConfig(func(cfg *coord.Config) { cfg.DefaultACL = coord.OpenACL() }))
	s, err := zkserver.New(e.Member(1), zkserver.Options{LocalSessions: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	ln := newPipeListener()
	go func() { _ = s.Serve(context.Background(), ln) }() //nolint:usetesting // a fuzz test has no context that its goroutines may ask for
	return ln, e.Member(1)
}

var connectFrame = append([]byte{0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x75, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16}, make([]byte, 16)...)

// FuzzConnection has a client send anything. The server does not fall over, and still
// serves.
func FuzzConnection(f *testing.F) {
	ln, _ := loneServer(f)
	f.Add([]byte("srvr"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(connectFrame)
	f.Add(append(append([]byte{}, connectFrame...), 0, 0, 0, 8, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 11))
	f.Add(append(append([]byte{}, connectFrame...), 0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf5))
	f.Fuzz(func(t *testing.T, b []byte) {
		nc, err := ln.dial(net.IPv4(10, 0, 0, 2))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, nc) }()
		_ = nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_, _ = nc.Write(b)
		_ = nc.Close()
		if resp := shakeHands(t, ln, connectFrame); resp == nil || resp.SessionID == 0 {
			t.Fatalf("another client is answered with %+v", resp)
		}
	})
}

// shakeHands sends the first frame of a client, and returns the answer, or nil if the
// connection is closed without one.
func shakeHands(t *testing.T, ln *pipeListener, frame []byte) *jute.ConnectResponse {
	t.Helper()
	nc, err := ln.dial(net.IPv4(10, 0, 0, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := nc.Write(frame); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
	var length [4]byte
	if _, err := io.ReadFull(nc, length[:]); err != nil {
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return nil
	}
	answer := make([]byte, binary.BigEndian.Uint32(length[:]))
	var resp jute.ConnectResponse
	if _, err := io.ReadFull(nc, answer); err != nil || jute.Unmarshal(answer, &resp) != nil {
		t.Fatalf("answer %x, %v", answer, err)
	}
	return &resp
}

// FuzzHandshake has a client ask for any session in any way, and send anything with that.
// It gets one of its own, or none, and never somebody else's.
func FuzzHandshake(f *testing.F) {
	ln, c := loneServer(f)
	other, err := c.NewSession(context.Background(), coord.SessionOptions{External: true, Timeout: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	id, password := int64(other.ID()), other.Token().Password()
	f.Add(int32(0), int64(0), int32(30000), int64(0), make([]byte, jute.PasswordBytes), false, false, []byte(nil))
	f.Add(int32(0), int64(1), int32(30000), id, make([]byte, jute.PasswordBytes), true, false, []byte(nil))
	f.Add(int32(7), int64(1<<40), int32(-1), int64(1<<62), password[:8], false, true, []byte{1, 2, 3})
	f.Add(int32(0), int64(-1), int32(1<<31-1), int64(-1), []byte(nil), false, true, []byte(nil))
	f.Fuzz(func(t *testing.T, version int32, seen int64, timeoutMS int32, session int64, shown []byte, readOnly, short bool, behind []byte) {
		if bytes.Equal(shown, password[:]) {
			return
		}
		req := jute.ConnectRequest{ProtocolVersion: version, LastZxidSeen: seen, TimeoutMS: timeoutMS, SessionID: session, Password: shown, ReadOnly: readOnly, Short: short}
		frame := append(req.AppendTo(make([]byte, 4)), behind...)
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
		resp := shakeHands(t, ln, frame)
		if resp == nil {
			return
		}
		if resp.SessionID == id || resp.SessionID != 0 && session != 0 {
			t.Fatalf("%+v is answered with %+v", req, resp)
		}
		if (resp.SessionID == 0) != (resp.TimeoutMS == 0) || len(resp.Password) != jute.PasswordBytes {
			t.Fatalf("%+v is answered with %+v", req, resp)
		}
		if err := other.Context().Err(); err != nil {
			t.Fatalf("%+v has ended another session: %v", req, err)
		}
	})
}

// FuzzRequests has a client send requests of any operation with anything behind the
// header. Each is answered, or the connection is closed.
func FuzzRequests(f *testing.F) {
	ln, _ := loneServer(f)
	for _, r := range []struct {
		op  jute.Op
		req jute.Record
	}{
		{jute.OpCreate, create("/a", "x")},
		{jute.OpCreate2, &jute.CreateRequest{Path: "/s-", ACL: open, Flags: 2}},
		{jute.OpCreateTTL, &jute.CreateTTLRequest{CreateRequest: *create("/t", ""), TTL: 5}},
		{jute.OpDelete, &jute.VersionRequest{Path: "/a", Version: -1}},
		{jute.OpGetData, get("/a", true)},
		{jute.OpSetData, &jute.SetDataRequest{Path: "/a", Version: 0}},
		{jute.OpSetACL, &jute.SetACLRequest{Path: "/a", ACL: open, Version: -1}},
		{jute.OpMulti, multi(jute.OpCreate, create("/a/b", ""))},
		{jute.OpMultiRead, multi(jute.OpGetData, get("/a", true))},
		{jute.OpSetWatches2, &jute.SetWatches2Request{SetWatchesRequest: jute.SetWatchesRequest{Data: []string{"/a"}}, Persistent: []string{"/"}}},
		{jute.OpAddWatch, &jute.WatchRequest{Path: "/", Type: 1}},
		{jute.OpRemoveWatches, &jute.WatchRequest{Path: "/", Type: 3}},
		{jute.OpGetEphemerals, &jute.PrefixRequest{Prefix: "/"}},
		{jute.OpGetACL, &jute.PathRequest{Path: "/"}},
		{jute.OpGetAllChildrenNumber, &jute.PathRequest{Path: "/"}},
		{jute.OpSync, &jute.SyncRecord{}},
		{jute.OpReconfig, &jute.ReconfigRequest{}},
		{jute.OpWhoAmI, nil},
		{jute.OpPing, nil},
		{jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("u:p")}},
	} {
		var body []byte
		if r.req != nil {
			body = jute.Marshal(r.req)
		}
		f.Add(int32(r.op), body)
	}
	for op := range jute.Op(110) { // each decoder has a seed
		if r := jute.NewRequest(op); r != nil {
			f.Add(int32(op), jute.Marshal(r))
		}
	}
	f.Add(int32(jute.OpCloseSession), []byte(nil))
	var calls atomic.Int32
	f.Fuzz(func(t *testing.T, op int32, body []byte) {
		if len(body) > 100_000 {
			return
		}
		// Who fails to say who he is has to wait, so each call comes from elsewhere.
		from := calls.Add(1)
		nc, err := ln.dial(net.IPv4(10, byte(from>>16), byte(from>>8), byte(from)))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := nc.Write(connectFrame); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(nc, make([]byte, 40)); err != nil {
			t.Fatal(err)
		}
		frame := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
		frame = append(jute.AppendInt(jute.AppendInt(frame, 77), op), body...)
		done := make(chan error, 1)
		go func() {
			_, err := nc.Write(frame)
			done <- err
		}()
		for {
			var head [20]byte
			if _, err := io.ReadFull(nc, head[:]); err != nil {
				if nc.SetDeadline(time.Now().Add(time.Second)) == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%v: %v", jute.Op(op), err)
				}
				break
			}
			if _, err := io.CopyN(io.Discard, nc, int64(binary.BigEndian.Uint32(head[:]))-16); err != nil {
				t.Fatal(err)
			}
			if xid := int32(binary.BigEndian.Uint32(head[4:])); xid != jute.XidNotification {
				break // the answer
			}
		}
		if err := <-done; err != nil {
			t.Log(err) // the server may have closed the connection before
		}
	})
}
