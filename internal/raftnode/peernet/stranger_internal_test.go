package peernet

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"

	"coord/internal/replica"
)

type strangersFunc = func(context.Context, Hello, string, []byte) ([]byte, error)

// welcoming has member 1 let strangers in.
func welcoming(f strangersFunc) option {
	return on(1, func(nd *node) { nd.cfg.Strangers = f })
}

// welcome answers with who has asked for what.
func welcome(_ context.Context, h Hello, method string, body []byte) ([]byte, error) {
	return fmt.Appendf(nil, "%d of %s at %s with %s: %s(%s)", h.Member, h.Ensemble, h.Addr, h.Directory, method, body), nil
}

// applicant returns the configuration of a process that wants to join f.
func applicant(f *fabric) Config {
	c := Config{Ensemble: "test", Directory: directoryOf(77), Addr: "127.0.0.1:7077", Logger: debugLogger(f.tb)}
	c.TLS = f.nodes[0].cfg.TLS
	return c
}

// A process that is no member is heard by one that it knows only by its address.
func TestIntroduce(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, append(opts, welcoming(welcome))...)
		answer, err := Introduce(t.Context(), applicant(f), f.nodes[0].cfg.Addr, JoinMethod, []byte("me"))
		want := "0 of test at 127.0.0.1:7077 with " + directoryOf(77) + ": join(me)"
		if err != nil || string(answer) != want {
			t.Errorf("Introduce = %q, %v, want %q", answer, err, want)
		}
		eventually(t, "the connection to end", func() bool { return f.nodes[0].link(0, In).Connections == 0 })
		if l := f.nodes[0].link(0, In); l.Handshakes != 1 || l.Calls != 1 || l.Refused != 0 || l.Errors != 0 {
			t.Errorf("link is %+v, want one call and no trouble", l)
		}
	})
}

// What an applicant may not do, and whom nobody lets in, is said in words to the one
// who asks.
func TestIntroduceRefused(t *testing.T) {
	ca := newAuthority(t)
	f := newFabric(t, 2, ca.secured, welcoming(welcome))
	at := f.nodes[0].cfg.Addr
	tests := []struct {
		name   string
		at     string
		method string
		change func(*Config)
		body   int
		want   string
		byPeer bool
	}{
		{name: "another ensemble", change: func(c *Config) { c.Ensemble = "best" }, want: `it is of ensemble "best", member 1 is of "test"`, byPeer: true},
		{name: "nobody is let in", at: f.nodes[1].cfg.Addr, want: "member 2 lets nobody join", byPeer: true},
		{name: "certificate of another host", change: func(c *Config) { c.Addr = "elsewhere:7000" }, want: "certificate of one that is no member does not fit its address", byPeer: true},
		{name: "no TLS", change: func(c *Config) { c.TLS = nil }, want: "speaks TLS only", byPeer: true},
		{name: "certificate of a stranger", change: func(c *Config) {
			c.TLS = &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{newAuthority(t).issue(nil, "127.0.0.1")}}
		}, want: "certificate", byPeer: true},
		{name: "authority of strangers", change: func(c *Config) {
			c.TLS = &tls.Config{RootCAs: newAuthority(t).pool, Certificates: c.TLS.Certificates}
		}, want: "certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := applicant(f)
			if tt.change != nil {
				tt.change(&c)
			}
			if tt.at == "" {
				tt.at = at
			}
			_, err := Introduce(t.Context(), c, tt.at, JoinMethod, nil)
			refusedBy(t, err, 0, tt.byPeer)
			mustContain(t, "Introduce", err, tt.want)
		})
	}
	for name, bad := range map[string]struct {
		at, method, want string
		body             int
		change           func(*Config)
	}{
		"another method": {at: at, method: "status", want: `may only call "join"`},
		"no method":      {at: at, want: "1 to 128 bytes"},
		"long body":      {at: at, method: JoinMethod, body: MaxJoinBytes + 1, want: "longer than 65536"},
		"no address":     {at: "here", method: JoinMethod, want: "not host:port"},
		"no host":        {at: ":7000", method: JoinMethod, want: "no host"},
		"no ensemble":    {at: at, method: JoinMethod, change: func(c *Config) { c.Ensemble = "" }, want: "Ensemble"},
		"no directory":   {at: at, method: JoinMethod, change: func(c *Config) { c.Directory = "" }, want: "Directory"},
	} {
		t.Run(name, func(t *testing.T) {
			c := applicant(f)
			if bad.change != nil {
				bad.change(&c)
			}
			_, err := Introduce(t.Context(), c, bad.at, bad.method, make([]byte, bad.body))
			mustContain(t, "Introduce", err, bad.want)
		})
	}
}

// An answer counts only if it comes from a member of the ensemble.
func TestIntroduceToStranger(t *testing.T) {
	for name, answer := range map[string]Hello{
		`of ensemble "best", not of "test"`: {Member: 1, Ensemble: "best", Purpose: ForCall},
		"no member either":                  {Ensemble: "test", Purpose: ForCall},
		"takes this end for member 4":       {Member: 1, Ensemble: "test", Purpose: ForCall, Wanted: 4},
		"answers for raft":                  {Member: 1, Ensemble: "test", Purpose: ForRaft, Wanted: 4},
	} {
		t.Run(name, func(t *testing.T) {
			answer.Version, answer.Directory, answer.Addr = protocolVersion, directoryOf(1), "a:1"
			addr := rawListen(t, func(conn net.Conn) {
				_, _ = readOpening(conn)
				_, _ = conn.Write(encodeOpening(helloOpening(answer)))
				_, _ = io.Copy(io.Discard, conn)
			})
			c := Config{Ensemble: "test", Directory: directoryOf(77), Addr: "127.0.0.1:7077"}
			_, err := Introduce(t.Context(), c, addr, JoinMethod, nil)
			refusedBy(t, err, 0, false)
			if name != "answers for raft" {
				mustContain(t, "Introduce", err, name)
			}
		})
	}
}

// Errors of who answers reach the applicant, a panic harms nobody, and nobody is waited
// for longer than the caller wants.
func TestIntroduceErrors(t *testing.T) {
	entered, left := make(chan struct{}, 1), make(chan struct{}, 1)
	f := newFabric(t, 1, welcoming(func(ctx context.Context, _ Hello, _ string, body []byte) ([]byte, error) {
		switch string(body) {
		case "panic":
			panic("at the disco")
		case "wait":
			entered <- struct{}{}
			<-ctx.Done()
			left <- struct{}{}
			return nil, ctx.Err()
		}
		return nil, errors.New("there is\nno room")
	}))
	ask := func(ctx context.Context, body string) error {
		_, err := Introduce(ctx, applicant(f), f.nodes[0].cfg.Addr, JoinMethod, []byte(body))
		return err
	}
	for body, want := range map[string]string{"": "there is no room", "panic": "member 1 panicked"} {
		err := ask(t.Context(), body)
		if r, ok := errors.AsType[*RemoteError](err); !ok || r.Text != want || r.Peer != 1 {
			t.Errorf("Introduce = %v, want a RemoteError of member 1 that says %q", err, want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	go func() { <-entered; cancel(enough) }()
	if err := ask(ctx, "wait"); !errors.Is(err, enough) {
		t.Errorf("Introduce = %v, want the cause of its context", err)
	}
	<-left
}

// rawStranger says a hello by hand and returns what it is answered with.
func rawStranger(tb testing.TB, to *node, h Hello) (*net.TCPConn, opening) {
	tb.Helper()
	conn := rawDial(tb, to)
	h.Version, h.Ensemble, h.Directory, h.Addr = protocolVersion, "test", directoryOf(77), "127.0.0.1:7077"
	if _, err := conn.Write(encodeOpening(helloOpening(h))); err != nil {
		tb.Fatal(err)
	}
	answer, err := readOpening(bufio.NewReader(conn))
	if err != nil {
		tb.Fatal(err)
	}
	return conn, answer
}

// One that is no member sends neither raft messages nor snapshots, and passes for no
// member by not saying whom it wants.
func TestStrangersOnlyCall(t *testing.T) {
	f := newFabric(t, 2, welcoming(welcome))
	for _, h := range []Hello{
		{Purpose: ForRaft},
		{Purpose: ForSnapshot},
		{Purpose: ForRaft, Wanted: 1},
		{Member: 2, Purpose: ForRaft},
		{Member: 2, Purpose: ForCall},
		{Member: 9, Purpose: ForCall, Wanted: 1},
		{Purpose: ForCall, Wanted: 2},
	} {
		_, answer := rawStranger(t, f.nodes[0], h)
		if answer.kind != openRefusal {
			t.Errorf("%+v was answered with a hello", h)
		}
	}
}

// Who says nothing after its hello is cut off soon, and so is who claims to send much.
func TestHostileStrangers(t *testing.T) {
	f := newFabric(t, 1, welcoming(welcome), func(_ int, nd *node) { nd.lim.handshake = 50 * time.Millisecond })
	a := f.nodes[0]
	claim := aFrame(frameRequest, nil)
	putClaim(claim, MaxBodyBytes)
	for name, say := range map[string][]byte{
		"nothing":        nil,
		"a large claim":  claim,
		"a batch":        aFrame(frameBatch, nil),
		"no request":     aFrame(frameRequest, []byte("x")),
		"two requests":   append(aFrame(frameRequest, appendRequest(nil, request{method: JoinMethod})), claim...),
		"broken frame":   make([]byte, frameHeadBytes),
		"half a request": aFrame(frameRequest, appendRequest(nil, request{method: JoinMethod}))[:frameHeadBytes+2],
	} {
		t.Run(name, func(t *testing.T) {
			conn, answer := rawStranger(t, a, Hello{Purpose: ForCall})
			if answer.kind != openHello {
				t.Fatalf("refused: %s", answer.body)
			}
			if _, err := conn.Write(say); err != nil {
				t.Fatal(err)
			}
			if name == "half a request" {
				if err := conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			waitClosed(t, conn)
		})
	}
	eventually(t, "all to be gone", func() bool { return a.link(0, In).Connections == 0 })
	if _, err := Introduce(t.Context(), applicant(f), a.cfg.Addr, JoinMethod, nil); err != nil {
		t.Errorf("Introduce after all that = %v", err)
	}
}

// Few strangers are answered at a time, from one address fewer, and members are called
// meanwhile as ever.
func TestCrowdOfStrangers(t *testing.T) {
	for name, change := range map[string]func(*limits){
		"in all":           func(l *limits) { l.strangers = 3 },
		"from one address": func(l *limits) { l.strangersPerIP = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			entered := make(chan struct{}, 3)
			f := newFabric(t, 2, func(_ int, nd *node) { change(&nd.lim) },
				welcoming(func(ctx context.Context, _ Hello, _ string, _ []byte) ([]byte, error) {
					entered <- struct{}{}
					select {
					case <-release:
					case <-ctx.Done():
					}
					return nil, nil
				}),
				on(1, func(nd *node) {
					nd.cfg.Serve = func(context.Context, replica.MemberID, string, []byte) ([]byte, error) { return []byte("ok"), nil }
				}))
			ask := func() error {
				_, err := Introduce(t.Context(), applicant(f), f.nodes[0].cfg.Addr, JoinMethod, nil)
				return err
			}
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if err := ask(); err != nil {
						t.Errorf("Introduce = %v", err)
					}
				})
				<-entered
			}
			err := ask()
			refusedBy(t, err, 0, true)
			mustContain(t, "Introduce", err, "3 others", "limit")
			if answer, err := f.nodes[1].net.Call(t.Context(), 1, "x", nil); err != nil || string(answer) != "ok" {
				t.Errorf("Call of a member = %q, %v", answer, err)
			}
			close(release)
			wg.Wait()
			eventually(t, "room for another", func() bool { return f.nodes[0].link(0, In).Connections == 0 })
			if err := ask(); err != nil {
				t.Errorf("Introduce when there is room again = %v", err)
			}
		})
	}
}

// A member that is not known any more is told why, its connections end, and it is
// counted no longer.
func TestUnknownMembers(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 3, append(opts, on(2, func(nd *node) {
			nd.cfg.Unknown = func(id replica.MemberID) string {
				if id == 1 {
					return "member 1 was removed"
				}
				return ""
			}
		}))...)
		a, b, c := f.nodes[0], f.nodes[1], f.nodes[2]
		there, back, other := a.mustConnect(b), b.mustConnect(a), c.mustConnect(b)
		for _, x := range []struct {
			conn     raftio.IConnection
			from, to *node
		}{{there, a, b}, {back, b, a}, {other, c, b}} {
			if err := x.conn.SendMessageBatch(batch(x.from, x.to, nil)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the batches", func() bool { return a.received() == 1 && b.received() == 2 })
		f.mu.Lock()
		delete(f.addrs, 1)
		f.mu.Unlock()
		b.net.Refresh()
		for _, x := range []struct {
			conn     raftio.IConnection
			from, to *node
		}{{there, a, b}, {back, b, a}} {
			eventually(t, "the connection to end", func() bool { return x.conn.SendMessageBatch(batch(x.from, x.to, nil)) != nil })
		}
		if err := other.SendMessageBatch(batch(c, b, nil)); err != nil {
			t.Errorf("a connection with another member has ended: %v", err)
		}
		for _, l := range b.net.Links() {
			if l.Peer == 1 {
				t.Errorf("member 1 is still counted: %+v", l)
			}
		}
		_, err := a.connect(b)
		refusedBy(t, err, 2, true)
		mustContain(t, "connect", err, "member 1 was removed")
		_, err = a.net.Call(t.Context(), 2, "x", nil)
		refusedBy(t, err, 2, true)
		mustContain(t, "Call", err, "member 1 was removed")
		if r, ok := errors.AsType[*RefusedError](err); ok && !strings.HasPrefix(r.Reason, "member 1 was removed") {
			t.Errorf("reason %q, want it as it was given", r.Reason)
		}
		if _, err := b.tr.GetConnection(t.Context(), Target(1, a.cfg.Addr)); err == nil {
			t.Error("a member that is not known was connected to")
		}
	})
}

// When a member has moved, connections to where it was end. One that came from where it
// now is stays.
func TestMovedMember(t *testing.T) {
	f := newFabric(t, 2)
	a, b := f.nodes[0], f.nodes[1]
	out := b.mustConnect(a)
	in := a.mustConnect(b)
	for conn, x := range map[raftio.IConnection][2]*node{out: {b, a}, in: {a, b}} {
		if err := conn.SendMessageBatch(batch(x[0], x[1], nil)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the batches", func() bool { return a.received() == 1 && b.received() == 1 })
	b.net.Refresh() // nothing has changed
	f.setAddr(1, "127.0.0.1:1")
	b.net.Refresh()
	eventually(t, "the connection to end", func() bool { return out.SendMessageBatch(batch(b, a, nil)) != nil })
	in.Close()            // the other one goes on over a new connection
	in = a.mustConnect(b) // from where it was, as far as member 2 knows from elsewhere
	if err := in.SendMessageBatch(batch(a, b, nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the batch", func() bool { return b.received() >= 2 })
	f.setAddr(1, a.cfg.Addr)
	b.net.Refresh()
	n := b.received()
	if err := in.SendMessageBatch(batch(a, b, nil)); err != nil {
		t.Errorf("the connection from where the member now is has ended: %v", err)
	}
	eventually(t, "the batch", func() bool { return b.received() > n })
}
