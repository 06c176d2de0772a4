package zkserver_test

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"coord"
	"coord/internal/jute"
	"coord/zkserver"
)

// TestHandshake negotiates timeouts, answers old clients in kind, and refuses who has no
// session, a wrong password, or has seen more than there is.
func TestHandshake(t *testing.T) {
	o := zkserver.Options{MaxSessionTimeout: time.Minute}
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Follower(t.Context())
		for asked, want := range map[time.Duration]time.Duration{0: 4 * time.Second, time.Second: 4 * time.Second, 30 * time.Second: 30 * time.Second, time.Hour: time.Minute} {
			if cl := w.connect(c, asked); cl.timeout != want {
				t.Errorf("asked for %v, got %v, want %v", asked, cl.timeout, want)
			}
		}
		old := w.dial(c)
		old.write(&jute.ConnectRequest{TimeoutMS: 5000, Short: true})
		if b := <-old.frames; len(b) != 36 {
			t.Errorf("an old client is answered with %d bytes", len(b))
		}
		cl := w.connect(c, 30*time.Second)
		zero := make([]byte, 16)
		for name, req := range map[string]*jute.ConnectRequest{
			"a wrong password": {TimeoutMS: 5000, SessionID: cl.id, Password: zero},
			"no password":      {TimeoutMS: 5000, SessionID: cl.id},
			"no session":       {TimeoutMS: 5000, SessionID: 1 << 50, Password: cl.password},
			"a negative id":    {TimeoutMS: 5000, SessionID: -5, Password: cl.password},
		} {
			other := w.dial(w.Leader(t.Context()))
			resp := other.handshake(req)
			if resp == nil || resp.TimeoutMS != 0 || resp.SessionID != 0 || !bytes.Equal(resp.Password, zero) {
				t.Errorf("%s: %+v", name, resp)
			}
			other.wantClosed()
		}
		cl.must(jute.OpPing, nil, nil) // and its connection goes on
		ahead := w.dial(c)
		if resp := ahead.handshake(&jute.ConnectRequest{LastZxidSeen: 1 << 40, TimeoutMS: 5000, SessionID: cl.id, Password: cl.password}); resp != nil {
			t.Errorf("from the future: %+v", resp)
		}
		cl.must(jute.OpPing, nil, nil)
	}, o)
}

// TestTimeoutsAreNegotiatedAnew: each connection of a session asks for its own timeout, and
// is told what the ensemble keeps.
func TestTimeoutsAreNegotiatedAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.Follower(t.Context()), w.Leader(t.Context())
		cl := w.connect(a, 40*time.Second)
		cl.must(jute.OpCreate, ephemeral("/e"), &jute.CreateResponse{})
		for i, c := range []struct {
			to          *coord.Coordinator
			asked, want time.Duration
		}{
			{b, 12 * time.Second, 12 * time.Second},
			{b, 30 * time.Second, 30 * time.Second},
			{a, 0, 4 * time.Second},
			{b, time.Hour, time.Minute},
			{a, 6 * time.Second, 6 * time.Second},
		} {
			before := cl
			cl = w.dial(c.to)
			if resp := cl.handshake(&jute.ConnectRequest{TimeoutMS: int32(c.asked.Milliseconds()), SessionID: before.id, Password: before.password}); resp == nil || cl.id != before.id || cl.timeout != c.want {
				t.Fatalf("%d: asked for %v, got %+v, want %v", i, c.asked, resp, c.want)
			}
			before.wantClosed()
			cl.keepAlive(2 * c.want)
		}
		if !exists(t, b, "/e") {
			t.Fatal("the session has ended")
		}
		_ = cl.nc.Close()
		time.Sleep(4 * time.Second)
		if !exists(t, b, "/e") {
			t.Error("the session ended too early")
		}
		time.Sleep(5 * time.Second)
		if exists(t, b, "/e") {
			t.Error("the session outlived the timeout that was told last")
		}
	}, zkserver.Options{MaxSessionTimeout: time.Minute})
}

// TestHandshakesEndWithoutAQuorum: who connects to a member that can serve nobody is let go
// at once, to find another, whether it has a session or not.
func TestHandshakesEndWithoutAQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Follower(t.Context())
		cl := w.connect(c, 30*time.Second)
		w.Isolate(c)
		eventually(t, "the member to notice", func() bool { return c.Health() != nil })
		for _, req := range []*jute.ConnectRequest{{TimeoutMS: 5000}, {TimeoutMS: 5000, SessionID: cl.id, Password: cl.password}} {
			began := time.Now()
			if resp := w.dial(c).handshake(req); resp != nil {
				t.Errorf("%+v is answered with %+v", req, resp)
			}
			if took := time.Since(began); took > 500*time.Millisecond {
				t.Errorf("%+v was let go after %v", req, took)
			}
		}
	})
}

// TestC5SessionsOutliveConnections drops connections, takes sessions to other members, and
// has clients fall silent.
func TestC5SessionsOutliveConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.Follower(t.Context()), w.Leader(t.Context())
		const timeout = 12 * time.Second
		cl := w.connect(a, timeout)
		cl.must(jute.OpCreate, ephemeral("/e"), &jute.CreateResponse{})

		// The connection breaks, and the client comes back to another member.
		_ = cl.nc.Close()
		time.Sleep(timeout / 2)
		again := w.reconnect(b, cl)
		if again.id != cl.id {
			t.Fatalf("session %#x became %#x", cl.id, again.id)
		}
		again.keepAlive(3 * timeout)

		// A second connection with the same session takes it from the first, whichever
		// member it is of.
		for _, c := range []*coord.Coordinator{b, a} {
			before := again
			again = w.reconnect(c, before)
			before.wantClosed()
		}
		again.keepAlive(timeout)
		if !exists(t, b, "/e") {
			t.Fatal("the ephemeral is gone")
		}

		// The client falls silent, though the connection stays.
		time.Sleep(timeout * 9 / 10)
		if !exists(t, b, "/e") {
			t.Error("the session ended too early")
		}
		time.Sleep(timeout * 3 / 10)
		if exists(t, b, "/e") {
			t.Error("the session of a silent client is alive")
		}
		again.wantClosed()

		// The client is gone.
		gone := w.connect(a, timeout)
		gone.must(jute.OpCreate, ephemeral("/e"), &jute.CreateResponse{})
		_ = gone.nc.Close()
		time.Sleep(timeout / 2)
		if !exists(t, b, "/e") {
			t.Error("the session ended with its connection")
		}
		eventually(t, "the session to expire", func() bool { return !exists(t, b, "/e") })
		if resp := w.dial(b).handshake(&jute.ConnectRequest{SessionID: gone.id, Password: gone.password, TimeoutMS: 5000}); resp == nil || resp.TimeoutMS != 0 {
			t.Errorf("an expired session: %+v", resp)
		}
	})
}

// TestSessionsSurviveTheirMember kills a member, and its clients go on with their sessions.
func TestSessionsSurviveTheirMember(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.Leader(t.Context())
		cl := w.connect(a, 30*time.Second)
		cl.must(jute.OpCreate, ephemeral("/e"), &jute.CreateResponse{})
		w.Kill(a)
		eventually(t, "another leader", func() bool { return w.Leader(t.Context()) != nil })
		b := w.Leader(t.Context())
		began := time.Now()
		var again *client
		eventually(t, "the session to move", func() bool {
			again = w.dial(b)
			return again.handshake(&jute.ConnectRequest{SessionID: cl.id, Password: cl.password, TimeoutMS: 30000}) != nil && again.id == cl.id
		})
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the session moved in %v", took)
		}
		again.keepAlive(2 * time.Minute)
		if !exists(t, b, "/e") {
			t.Error("the ephemeral is gone")
		}
	})
}

// TestC4AnswersOnlyWhileAlive cuts a member off: it stops answering before the client could
// believe longer than the ensemble, and refuses new clients.
func TestC4AnswersOnlyWhileAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Follower(t.Context())
		const timeout = 6 * time.Second // a third of it is less than what suspends the member
		cl, reader := w.connect(c, timeout), w.connect(c, timeout)
		cl.must(jute.OpPing, nil, nil)
		w.Isolate(c)
		cut := time.Now()
		for {
			time.Sleep(timeout / 30)
			cl.send(jute.OpPing, nil)
			r, ok := cl.receive()
			reader.send(jute.OpGetData, get("/", false))
			r2, ok2 := reader.receive()
			if !ok && !ok2 {
				break
			}
			if since := time.Since(cut); since > timeout/3 {
				t.Fatalf("%+v, %+v are answered %v after the cut", r.ReplyHeader, r2.ReplyHeader, since)
			}
		}
		if resp := w.dial(c).handshake(&jute.ConnectRequest{TimeoutMS: 5000}); resp != nil {
			t.Errorf("a new client gets %+v", resp)
		}
		w.Heal()
		eventually(t, "service", func() bool {
			return w.dial(c).handshake(&jute.ConnectRequest{TimeoutMS: 5000}) != nil
		})
	})
}

// TestAuth has clients show who they are.
func TestAuth(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Follower(t.Context())
		auth := func(scheme, credential string) *jute.AuthRequest {
			return &jute.AuthRequest{Scheme: scheme, Auth: []byte(credential)}
		}
		cl := w.connect(c, 30*time.Second)
		if h := cl.must(jute.OpAuth, auth("digest", "u:p"), nil); h.Zxid != 0 {
			t.Errorf("auth = %+v", h)
		}
		cl.must(jute.OpAuth, auth("ip", ""), nil)
		mine := []jute.ACL{{Perms: 31, Scheme: "auth"}}
		cl.must(jute.OpCreate, &jute.CreateRequest{Path: "/mine", ACL: mine}, &jute.CreateResponse{})
		var acl jute.GetACLResponse
		cl.must(jute.OpGetACL, &jute.PathRequest{Path: "/mine"}, &acl)
		if len(acl.ACL) != 1 || acl.ACL[0].ID != coord.DigestID("u:p").ID {
			t.Errorf("the ACL is %+v", acl.ACL)
		}
		other := w.connect(c, 30*time.Second)
		if h := other.call(jute.OpGetData, get("/mine", true), nil); h.Err != jute.NoAuth {
			t.Errorf("a stranger reads: %v", h.Err)
		}
		if h := other.call(jute.OpExists, get("/mine", true), nil); h.Err != jute.NoAuth {
			t.Errorf("a stranger asks: %v", h.Err)
		}
		if h := other.call(jute.OpCreate, &jute.CreateRequest{Path: "/x", ACL: mine}, nil); h.Err != jute.InvalidACL {
			t.Errorf("an ACL of nobody: %v", h.Err)
		}
		other.must(jute.OpAuth, auth("digest", "super:secret"), nil)
		other.must(jute.OpGetData, get("/mine", false), &jute.GetDataResponse{})
		var who jute.WhoAmIResponse
		other.must(jute.OpWhoAmI, nil, &who)
		for _, id := range who.Clients {
			if bytes.ContainsAny([]byte(id.User), ":=") {
				t.Errorf("whoAmI tells %+v", id)
			}
		}
		// What one connection has proved is nothing to the next.
		again := w.reconnect(c, other)
		if h := again.call(jute.OpGetData, get("/mine", false), nil); h.Err != jute.NoAuth {
			t.Errorf("a connection that has proved nothing reads: %v", h.Err)
		}
		for _, a := range []*jute.AuthRequest{auth("world", "anyone"), auth("nope", "x"), auth("super", ""), auth("x509", ""), auth("ensemble", "member")} {
			bad := w.connect(c, 30*time.Second)
			if h := bad.call(jute.OpAuth, a, nil); h.Err != jute.AuthFailed || h.Zxid != 0 {
				t.Errorf("%+v: %+v", a, h)
			}
			bad.wantClosed()
		}
	})
}

// TestShutdown answers what is under way and leaves the sessions.
func TestShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c, other := w.Follower(t.Context()), w.Leader(t.Context())
		cl := w.connect(c, 30*time.Second)
		idle := w.connect(c, 30*time.Second)
		cl.must(jute.OpCreate, ephemeral("/e"), &jute.CreateResponse{})
		var xids []int32
		for range 100 {
			xids = append(xids, cl.send(jute.OpSetData, &jute.SetDataRequest{Path: "/e", Version: -1}))
		}
		time.Sleep(time.Millisecond) // until they are read
		id := c.Status().Member
		if err := w.servers[id].Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		answered := 0
		for _, xid := range xids {
			r, ok := cl.receive()
			if !ok {
				break
			}
			if r.Xid != xid || r.Err != jute.OK {
				t.Fatalf("answer %+v, want to %d", r.ReplyHeader, xid)
			}
			answered++
		}
		if answered == len(xids) {
			cl.wantClosed()
		}
		idle.wantClosed()
		if _, err := w.listeners[id].dial(net.IPv4(10, 0, 0, 1)); err == nil {
			t.Error("the listener is open")
		}
		if err := w.servers[id].Serve(t.Context(), newPipeListener()); !errors.Is(err, zkserver.ErrServerClosed) {
			t.Errorf("Serve on a closed server = %v", err)
		}
		again := w.reconnect(other, cl)
		if again.id != cl.id || !exists(t, other, "/e") {
			t.Error("the session did not survive its server")
		}
		var stat jute.StatResponse
		again.must(jute.OpExists, get("/e", false), &stat)
		if int(stat.Stat.Version) < answered {
			t.Errorf("%d writes were answered, %d were made", answered, stat.Stat.Version)
		}
	})
}

// TestLocalSessions have no ephemerals, are unknown elsewhere, and come back to their server.
func TestLocalSessions(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.Follower(t.Context()), w.Leader(t.Context())
		known := a.Status().Sessions
		const timeout = 10 * time.Second
		cl := w.connect(a, timeout)
		if now := a.Status().Sessions; now != known {
			t.Errorf("%d sessions became %d", known, now)
		}
		cl.must(jute.OpCreate, create("/l", ""), &jute.CreateResponse{})
		if h := cl.call(jute.OpCreate, ephemeral("/e"), nil); h.Err != jute.EphemeralOnLocalSession {
			t.Errorf("an ephemeral = %v", h.Err)
		}
		var resp jute.MultiResponse
		cl.must(jute.OpMulti, &jute.MultiRequest{Ops: []jute.MultiOp{{Op: jute.OpCreate, Request: create("/m", "")}, {Op: jute.OpCreate, Request: ephemeral("/e")}}}, &resp)
		if resp.Results[0].Err != jute.OK || resp.Results[1].Err != jute.EphemeralOnLocalSession {
			t.Errorf("a multi with an ephemeral = %+v", resp)
		}
		if exists(t, b, "/m") {
			t.Error("a part of it was made")
		}
		_ = cl.nc.Close()
		time.Sleep(timeout / 2)
		again := w.reconnect(a, cl)
		if again.id != cl.id {
			t.Fatal("it did not come back")
		}
		third := w.reconnect(a, cl)
		again.wantClosed()
		wrong := *cl
		wrong.password = make([]byte, 16)
		if w.reconnect(a, &wrong).id != 0 || w.reconnect(b, cl).id != 0 {
			t.Error("a wrong password, or another server, has it")
		}
		third.keepAlive(3 * timeout)
		_ = third.nc.Close()
		time.Sleep(2 * timeout)
		if w.reconnect(a, cl).id != 0 {
			t.Error("it did not expire")
		}
		done := w.connect(a, timeout)
		done.must(jute.OpCloseSession, nil, nil)
		done.wantClosed()
		if w.reconnect(a, done).id != 0 {
			t.Error("a closed session came back")
		}
	}, zkserver.Options{LocalSessions: true})
}

// TestReadOnlyMode serves who asks for it on a member that was cut off, and sends them away
// when it is back.
func TestReadOnlyMode(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Follower(t.Context())
		cl := w.connect(c, 30*time.Second)
		cl.must(jute.OpCreate, create("/r", "x"), &jute.CreateResponse{})
		w.Isolate(c)
		eventually(t, "the member to notice", func() bool { return !c.Status().HasQuorum })
		if resp := w.dial(c).handshake(&jute.ConnectRequest{TimeoutMS: 10000}); resp != nil {
			t.Errorf("a client that wants to write gets %+v", resp)
		}
		if resp := w.dial(c).handshake(&jute.ConnectRequest{TimeoutMS: 10000, SessionID: cl.id, Password: cl.password, ReadOnly: true}); resp != nil {
			t.Errorf("a session of the ensemble gets %+v", resp)
		}
		ro := w.dial(c)
		resp := ro.handshake(&jute.ConnectRequest{TimeoutMS: 10000, ReadOnly: true})
		if resp == nil || !resp.ReadOnly || resp.TimeoutMS != 10000 {
			t.Fatalf("a client that wants to read gets %+v", resp)
		}
		var data jute.GetDataResponse
		ro.must(jute.OpGetData, get("/r", true), &data)
		if string(data.Data) != "x" {
			t.Errorf("getData = %+v", data)
		}
		for o, req := range map[jute.Op]jute.Record{
			jute.OpCreate: create("/x", ""), jute.OpMulti: &jute.MultiRequest{}, jute.OpSync: &jute.SyncRecord{},
			jute.OpSetData: &jute.SetDataRequest{Path: "/r"}, jute.OpReconfig: &jute.ReconfigRequest{},
		} {
			if h := ro.call(o, req, nil); h.Err != jute.NotReadOnly {
				t.Errorf("%v = %v", o, h.Err)
			}
		}
		ro.keepAlive(time.Minute)
		w.Heal()
		eventually(t, "the member to be back", func() bool { return c.Status().HasQuorum })
		ro.send(jute.OpPing, nil)
		ro.wantClosed()
	}, zkserver.Options{ReadOnly: true})
}
