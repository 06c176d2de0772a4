package zkserver_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
	"coord/internal/jute"
	"coord/zkserver"
)

// A pipeListener accepts connections in memory, so that servers run in virtual time.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2181} }

// A pipeEnd is the server's end of a connection, from an address.
type pipeEnd struct {
	net.Conn

	from net.IP
}

func (p *pipeEnd) RemoteAddr() net.Addr { return &net.TCPAddr{IP: p.from, Port: 1} }

// dial connects from an address.
func (l *pipeListener) dial(from net.IP) (net.Conn, error) {
	mine, its := net.Pipe()
	select {
	case l.conns <- &pipeEnd{its, from}:
		return mine, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// A world is an ensemble of which each member serves clients.
type world struct {
	*coordtest.Ensemble

	t         *testing.T
	options   zkserver.Options
	listeners map[coord.MemberID]*pipeListener
	servers   map[coord.MemberID]*zkserver.Server
}

// inBubble runs a test on three members that serve clients, in virtual time.
func inBubble(t *testing.T, test func(t *testing.T, w *world), options ...zkserver.Options) {
	t.Helper()
	var o zkserver.Options
	if len(options) > 0 {
		o = options[0]
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second), coordtest.WithConfig(func(cfg *coord.Config) {
			cfg.DefaultACL = coord.OpenACL()
			cfg.SuperDigest = coord.DigestID("super:secret").ID
			cfg.SessionLimits = coord.Limits{Watches: 100, Ephemerals: 10}
		}))
		w := &world{Ensemble: e, t: t, options: o, listeners: map[coord.MemberID]*pipeListener{}, servers: map[coord.MemberID]*zkserver.Server{}}
		for _, c := range e.Running() {
			w.serve(c)
		}
		defer func() {
			for _, s := range w.servers {
				_ = s.Close()
			}
		}()
		test(t, w)
	})
}

func (w *world) serve(c *coord.Coordinator) {
	w.t.Helper()
	s, err := zkserver.New(c, w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	ln := newPipeListener()
	id := c.Status().Member
	w.listeners[id], w.servers[id] = ln, s
	go func() { _ = s.Serve(context.Background(), ln) }()
}

// A client speaks the protocol, frame by frame.
type client struct {
	t      *testing.T
	nc     net.Conn
	frames chan []byte // closed with the connection
	xid    int32

	id       int64
	password []byte
	timeout  time.Duration
}

func (w *world) dial(c *coord.Coordinator) *client {
	w.t.Helper()
	nc, err := w.listeners[c.Status().Member].dial(net.IPv4(10, 0, 0, 1))
	if err != nil {
		w.t.Fatal(err)
	}
	return newClient(w.t, nc)
}

func newClient(t *testing.T, nc net.Conn) *client {
	t.Helper()
	cl := &client{t: t, nc: nc, frames: make(chan []byte, 1<<16)}
	go func() {
		defer close(cl.frames)
		for {
			var head [4]byte
			if _, err := io.ReadFull(nc, head[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(nc, b); err != nil {
				return
			}
			cl.frames <- b
		}
	}()
	t.Cleanup(func() { _ = nc.Close() })
	return cl
}

// connect opens a session.
func (w *world) connect(c *coord.Coordinator, timeout time.Duration) *client {
	w.t.Helper()
	cl := w.dial(c)
	cl.handshake(&jute.ConnectRequest{TimeoutMS: int32(timeout.Milliseconds()), Password: make([]byte, 16)})
	if cl.id == 0 {
		w.t.Fatal("no session")
	}
	return cl
}

// reconnect takes a client's session to a member.
func (w *world) reconnect(c *coord.Coordinator, old *client) *client {
	w.t.Helper()
	cl := w.dial(c)
	cl.handshake(&jute.ConnectRequest{TimeoutMS: int32(old.timeout.Milliseconds()), SessionID: old.id, Password: old.password})
	return cl
}

func (cl *client) handshake(req *jute.ConnectRequest) *jute.ConnectResponse {
	cl.t.Helper()
	cl.write(req)
	b, ok := <-cl.frames
	if !ok {
		return nil
	}
	var resp jute.ConnectResponse
	if err := jute.Unmarshal(b, &resp); err != nil {
		cl.t.Fatal(err)
	}
	cl.id, cl.password, cl.timeout = resp.SessionID, resp.Password, time.Duration(resp.TimeoutMS)*time.Millisecond
	return &resp
}

func (cl *client) write(rs ...jute.Record) {
	b := make([]byte, 4)
	for _, r := range rs {
		if r != nil {
			b = r.AppendTo(b)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, _ = cl.nc.Write(b)
}

// send sends a request and returns its xid.
func (cl *client) send(o jute.Op, req jute.Record) int32 {
	cl.xid++
	xid := cl.xid
	switch o { //nolint:exhaustive // these have their own
	case jute.OpPing:
		xid = jute.XidPing
	case jute.OpAuth:
		xid = jute.XidAuth
	case jute.OpSetWatches, jute.OpSetWatches2:
		xid = jute.XidSetWatches
	}
	cl.write(&jute.RequestHeader{Xid: xid, Op: o}, req)
	return xid
}

// A reply is an answer or a notification.
type reply struct {
	jute.ReplyHeader

	body []byte
}

// receive returns the next frame; ok is false if the connection was closed.
func (cl *client) receive() (reply, bool) {
	cl.t.Helper()
	var b []byte
	var ok bool
	select {
	case b, ok = <-cl.frames:
	case <-time.After(time.Hour):
		cl.t.Fatal("no frame in an hour")
	}
	if !ok {
		return reply{}, false
	}
	var r reply
	d := jute.NewDecoder(b)
	r.DecodeFrom(d)
	if d.Err() != nil {
		cl.t.Fatal(d.Err())
	}
	r.body = d.Rest()
	return r, true
}

// call sends a request and returns the answer, which must be the next frame.
func (cl *client) call(o jute.Op, req, resp jute.Record) jute.ReplyHeader {
	cl.t.Helper()
	xid := cl.send(o, req)
	r, ok := cl.receive()
	if !ok {
		cl.t.Fatalf("%v: the connection was closed", o)
	}
	if r.Xid != xid {
		cl.t.Fatalf("%v: frame with xid %d, want %d", o, r.Xid, xid)
	}
	if resp != nil && r.Err == jute.OK {
		if err := jute.Unmarshal(r.body, resp); err != nil {
			cl.t.Fatalf("%v: %v", o, err)
		}
	}
	if (r.Err != jute.OK || resp == nil) && len(r.body) > 0 {
		cl.t.Fatalf("%v: %d bytes behind the header", o, len(r.body))
	}
	return r.ReplyHeader
}

// must is call for what has to succeed.
func (cl *client) must(o jute.Op, req, resp jute.Record) jute.ReplyHeader {
	cl.t.Helper()
	h := cl.call(o, req, resp)
	if h.Err != jute.OK {
		cl.t.Fatalf("%v %+v: %v", o, req, h.Err)
	}
	return h
}

// wantNotification checks that the next frame is a notification.
func (cl *client) wantNotification(typ coord.EventType, path string) jute.ReplyHeader {
	cl.t.Helper()
	r, ok := cl.receive()
	if !ok || r.Xid != jute.XidNotification {
		cl.t.Fatalf("frame %+v, %v; want a notification of %v %s", r.ReplyHeader, ok, typ, path)
	}
	var ev jute.WatcherEvent
	if err := jute.Unmarshal(r.body, &ev); err != nil {
		cl.t.Fatal(err)
	}
	if ev.Type != int32(typ) || ev.Path != path || ev.State != jute.StateSyncConnected {
		cl.t.Fatalf("notification %+v, want %v %s", ev, typ, path)
	}
	return r.ReplyHeader
}

// wantReply checks that the next frame answers a request.
func (cl *client) wantReply(xid int32, code jute.Code) reply {
	cl.t.Helper()
	r, ok := cl.receive()
	if !ok || r.Xid != xid || r.Err != code {
		cl.t.Fatalf("frame %+v, %v; want an answer to %d with %v", r.ReplyHeader, ok, xid, code)
	}
	return r
}

// wantClosed checks that the connection is closed without another frame.
func (cl *client) wantClosed() {
	cl.t.Helper()
	if r, ok := cl.receive(); ok {
		cl.t.Fatalf("frame %+v, want a closed connection", r.ReplyHeader)
	}
}

// quiet checks that nothing comes for a while.
func (cl *client) quiet() {
	cl.t.Helper()
	select {
	case b, ok := <-cl.frames:
		cl.t.Fatalf("frame %x, %v; want none", b, ok)
	case <-time.After(time.Second):
	}
}

// keepAlive pings for a time.
func (cl *client) keepAlive(d time.Duration) {
	cl.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(cl.timeout / 3)
		cl.must(jute.OpPing, nil, nil)
	}
}

var open = []jute.ACL{{Perms: 31, Scheme: "world", ID: "anyone"}}

func create(path, data string) *jute.CreateRequest {
	return &jute.CreateRequest{Path: path, Data: []byte(data), ACL: open}
}

func ephemeral(path string) *jute.CreateRequest {
	return &jute.CreateRequest{Path: path, ACL: open, Flags: 1}
}

func get(path string, watch bool) *jute.ReadRequest {
	return &jute.ReadRequest{Path: path, Watch: watch}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 1000 {
		if cond() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("waiting for %s", what)
}

func exists(t *testing.T, c *coord.Coordinator, path string) bool {
	t.Helper()
	_, ok, err := c.Exists(t.Context(), path, coord.Linearizable())
	if err != nil {
		t.Fatal(err)
	}
	return ok
}
