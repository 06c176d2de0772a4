package peernet

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coord/internal/replica"
)

// on changes one member.
func on(id replica.MemberID, change func(*node)) option {
	return func(_ int, nd *node) {
		if nd.cfg.Member == id {
			change(nd)
		}
	}
}

// Member 1 dials member 2 and is refused, or refuses, for each reason there is.
func TestRefusals(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	certified := func(id replica.MemberID, cert tls.Certificate) option {
		return on(id, func(nd *node) { nd.cfg.TLS.Certificates = []tls.Certificate{cert} })
	}
	no := errors.New("its directory is another one")
	tests := []struct {
		name   string
		opts   []option
		wanted replica.MemberID // 0: member 2
		byPeer bool
		words  []string
	}{
		{
			name: "another ensemble", byPeer: true, words: []string{`"other"`, `"test"`},
			opts: []option{on(1, func(nd *node) { nd.cfg.Ensemble = "other" })},
		},
		{
			name: "not a member to the other", byPeer: true, words: []string{"member 2 knows of no member 1"},
			opts: []option{on(2, func(nd *node) {
				all := nd.cfg.AddrOf
				nd.cfg.AddrOf = func(id replica.MemberID) (string, bool) { a, ok := all(id); return a, ok && id != 1 }
			})},
		},
		{
			name: "not a member to the dialler", words: []string{"member 1 knows of no member 2"},
			opts: []option{on(1, func(nd *node) {
				all := nd.cfg.AddrOf
				nd.cfg.AddrOf = func(id replica.MemberID) (string, bool) { a, ok := all(id); return a, ok && id != 2 }
			})},
		},
		{
			name: "somebody else was wanted", wanted: 3, byPeer: true, words: []string{"looking for member 3", "this is member 2"},
		},
		{
			name: "the same member twice", wanted: 1, byPeer: true, words: []string{"both ends are member 1"},
			opts: []option{on(2, func(nd *node) { nd.cfg.Member = 1 })},
		},
		{
			name: "not admitted", byPeer: true, words: []string{no.Error()},
			opts: []option{on(2, func(nd *node) { nd.cfg.Admit = func(Hello) error { return no } })},
		},
		{
			name: "not admitted by the dialler", words: []string{no.Error()},
			opts: []option{on(1, func(nd *node) { nd.cfg.Admit = func(Hello) error { return no } })},
		},
		{
			name: "a dialler without TLS", byPeer: true, words: []string{"speaks TLS only"},
			opts: []option{on(2, func(nd *node) { nd.cfg.TLS = ca.config() })},
		},
		{
			name: "an acceptor without TLS", byPeer: true, words: []string{"does not speak TLS"},
			opts: []option{on(1, func(nd *node) { nd.cfg.TLS = ca.config() })},
		},
		{
			name: "an expired certificate", byPeer: true, words: []string{"expired"},
			opts: []option{ca.secured, certified(1, ca.issue(expired, "127.0.0.1"))},
		},
		{
			name: "an expired certificate of the acceptor", words: []string{"expired"},
			opts: []option{ca.secured, certified(2, ca.issue(expired, "127.0.0.1"))},
		},
		{
			name: "a certificate for another host", byPeer: true, words: []string{"member 1", "127.0.0.9"},
			opts: []option{ca.secured, certified(1, ca.issue(nil, "127.0.0.9"))},
		},
		{
			name: "a certificate of the acceptor for another host", words: []string{"127.0.0.9"},
			opts: []option{ca.secured, certified(2, ca.issue(nil, "127.0.0.9"))},
		},
		{
			name: "a certificate for another name", byPeer: true, words: []string{"members.example"},
			opts: []option{
				ca.secured,
				certified(2, ca.issue(nil, "members.example")),
				func(_ int, nd *node) { nd.cfg.TLS.ServerName = "members.example" },
			},
		},
		{
			name: "a certificate of another authority", byPeer: true, words: []string{"authority"},
			opts: []option{ca.secured, certified(1, other.issue(nil, "127.0.0.1"))},
		},
		{
			name: "a certificate of the acceptor of another authority", words: []string{"authority"},
			opts: []option{ca.secured, certified(2, other.issue(nil, "127.0.0.1"))},
		},
		{
			name: "a certificate for servers only", byPeer: true, words: []string{"certificate"},
			opts: []option{ca.secured, certified(1, ca.issue(func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			}, "127.0.0.1"))},
		},
		{
			name: "no certificate", byPeer: true, words: []string{"certificate required"},
			opts: []option{ca.secured, on(1, func(nd *node) {
				nd.cfg.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &tls.Certificate{}, nil
				}
			})},
		},
		{
			name: "TLS too old", byPeer: true, words: []string{"protocol version"},
			opts: []option{ca.secured, on(1, func(nd *node) {
				nd.cfg.TLS.MinVersion, nd.cfg.TLS.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			})},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFabric(t, 2, tt.opts...)
			a, b := f.nodes[0], f.nodes[1]
			wanted := tt.wanted
			if wanted == 0 {
				wanted = 2
			}
			_, err := a.tr.GetConnection(t.Context(), Target(wanted, b.cfg.Addr))
			mustContain(t, "GetConnection", err, append(tt.words, b.cfg.Addr)...)
			refusedBy(t, err, wanted, tt.byPeer)
			out := a.link(wanted, Out)
			if out.Refused != 1 || out.Errors != 0 || out.LastRefusal == "" || out.Handshakes != 0 {
				t.Errorf("the dialler's link is %+v, want one refusal", out)
			}
			eventually(t, "the acceptor to count the refusal", func() bool {
				var refused, open uint64
				for _, l := range b.net.Links() {
					refused += l.Refused
					open += uint64(l.Connections)
				}
				return refused == 1 && open == 0
			})
			if b.received() != 0 {
				t.Error("a batch was believed")
			}
		})
	}
}

// A reason that only the dialler knows reaches the acceptor all the same.
func TestRefusalOfDiallerReachesAcceptor(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, append(opts, on(1, func(nd *node) {
			nd.cfg.Admit = func(Hello) error { return errors.New("member 2 was wiped") }
		}))...)
		_, err := f.nodes[0].connect(f.nodes[1])
		refusedBy(t, err, 2, false)
		eventually(t, "the reason at the acceptor", func() bool {
			return f.nodes[1].link(1, In).LastRefusal == "member 2 was wiped"
		})
	})
}

// TLS 1.2 is spoken by those who ask for it, and TLS 1.1 by nobody.
func TestVersionsOfTLS(t *testing.T) {
	ca := newAuthority(t)
	f := newFabric(t, 2, ca.secured, func(_ int, nd *node) { nd.cfg.TLS.MinVersion = tls.VersionTLS12 })
	f.nodes[0].mustConnect(f.nodes[1])
	conf := ca.config()
	conf.ServerName = "127.0.0.1"
	for version, works := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true} {
		conf.MinVersion, conf.MaxVersion = version, version
		conn, err := tls.Dial("tcp", f.nodes[1].cfg.Addr, conf)
		if (err == nil) != works {
			t.Errorf("%s: %v, want it to work: %t", tls.VersionName(version), err, works)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// Admit sees what the other end says, on both ends, before anything else.
func TestAdmitSeesHello(t *testing.T) {
	var asked atomic.Int32
	check := func(_ int, nd *node) {
		me := nd.cfg.Member
		nd.cfg.Admit = func(h Hello) error {
			asked.Add(1)
			if peer := 3 - me; h.Member != peer || h.Wanted != me || h.Directory != directoryOf(peer) ||
				h.Ensemble != "test" || h.Purpose != ForRaft || h.Version != protocolVersion || ValidAddress(h.Addr) != nil {
				t.Errorf("member %d was asked about %+v", me, h)
			}
			return nil
		}
	}
	f := newFabric(t, 2, check)
	f.nodes[0].mustConnect(f.nodes[1])
	if n := asked.Load(); n != 2 {
		t.Errorf("Admit was asked %d times, want once on each end", n)
	}
}

// Ends of different versions refuse each other in words, whoever dials.
func TestVersionsOfProtocol(t *testing.T) {
	f := newFabric(t, 2)
	old := opening{version: protocolVersion + 1, kind: openHello, body: []byte("what later versions say")}

	conn := rawDial(t, f.nodes[0])
	if _, err := conn.Write(encodeOpening(old)); err != nil {
		t.Fatal(err)
	}
	answer, err := readOpening(conn)
	if err != nil || answer.kind != openRefusal || !strings.Contains(string(answer.body), "version 2") {
		t.Errorf("answer = %+v, %v, want a refusal that names the version", answer, err)
	}

	addr := rawListen(t, func(conn net.Conn) {
		_, _ = readOpening(conn)
		_, _ = conn.Write(encodeOpening(old))
		_, _ = io.Copy(io.Discard, conn)
	})
	_, err = f.nodes[0].tr.GetConnection(t.Context(), Target(2, addr))
	mustContain(t, "GetConnection", err, "version 2", "version 1")
	refusedBy(t, err, 2, false)
}

// A port where somebody else listens is an error that says so.
func TestDialStranger(t *testing.T) {
	f := newFabric(t, 1)
	for name, tt := range map[string]struct {
		say   string
		words string
	}{
		"a web server":     {"HTTP/1.1 400 Bad Request\r\n\r\n", "not of the protocol"},
		"a TLS server":     {"\x15\x03\x03\x00\x02\x02\x28", "speaks TLS"},
		"nobody":           {"", "EOF"},
		"half an opening":  {magic, "EOF"},
		"a broken opening": {magic + "\x00\x01\x01\x00\x00\xff\xff\xff\xff", "checksum"},
		"a long opening":   {magic + "\x00\x01\x01\xff\xff", "longer"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := rawListen(t, func(conn net.Conn) {
				_, _ = readOpening(conn)
				_, _ = io.WriteString(conn, tt.say)
			})
			_, err := f.nodes[0].tr.GetConnection(t.Context(), Target(2, addr))
			mustContain(t, "GetConnection", err, tt.words, addr)
		})
	}
	if l := f.nodes[0].link(2, Out); l.Errors != 6 || l.LastError == "" {
		t.Errorf("link is %+v, want 6 errors", l)
	}
}

// Who answers for another member than was dialled, or for another purpose, is refused
// by the dialler, whatever it let pass itself.
func TestAnswerMustFit(t *testing.T) {
	f := newFabric(t, 3)
	for name, answer := range map[string]Hello{
		"member 3":           {Member: 3, Purpose: ForRaft, Wanted: 1},
		"for snapshot":       {Member: 2, Purpose: ForSnapshot, Wanted: 1},
		"looking for":        {Member: 2, Purpose: ForRaft, Wanted: 3},
		"both ends are":      {Member: 1, Purpose: ForRaft, Wanted: 1},
		"knows of no member": {Member: 9, Purpose: ForRaft, Wanted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			answer.Version, answer.Ensemble, answer.Directory, answer.Addr = protocolVersion, "test", directoryOf(2), "a:1"
			addr := rawListen(t, func(conn net.Conn) {
				_, _ = readOpening(conn)
				_, _ = conn.Write(encodeOpening(helloOpening(answer)))
				_, _ = io.Copy(io.Discard, conn)
			})
			_, err := f.nodes[0].tr.GetConnection(t.Context(), Target(2, addr))
			mustContain(t, "GetConnection", err, name)
			refusedBy(t, err, 2, false)
		})
	}
}

// What fails in the same way has the same text, whatever port it was dialled from:
// who tries again and again logs only what is new.
func TestFailuresReadAlike(t *testing.T) {
	f := newFabric(t, 1)
	reset := func(hello bool) string {
		addr := rawListen(t, func(conn net.Conn) {
			if hello {
				_, _ = readOpening(conn)
				_, _ = conn.Write(encodeOpening(helloOpening(Hello{
					Version: protocolVersion, Ensemble: "test", Member: 2, Directory: directoryOf(2), Addr: "a:1", Purpose: ForCall, Wanted: 1,
				})))
			}
			_, _ = conn.Read(make([]byte, 1)) // closing it with more to read resets it
		})
		f.setAddr(2, addr)
		_, err := f.nodes[0].net.Call(t.Context(), 2, "x", nil)
		mustContain(t, "Call", err, "member 2", "reset")
		return strings.ReplaceAll(err.Error(), addr, "there")
	}
	for _, hello := range []bool{false, true} {
		if one, two := reset(hello), reset(hello); one != two {
			t.Errorf("two errors:\n%s\n%s", one, two)
		}
	}
}

// While members run, certificates change: connections that are open live on,
// new ones show and want the new certificate.
func TestCertificateRotation(t *testing.T) {
	oldCA, newCA := newAuthority(t), newAuthority(t)
	both := x509.NewCertPool()
	both.AddCert(oldCA.cert)
	both.AddCert(newCA.cert)
	var current [2]atomic.Pointer[tls.Certificate]
	trusted := new(atomic.Pointer[x509.CertPool])
	trusted.Store(both)
	f := newFabric(t, 2, func(i int, nd *node) {
		cert := oldCA.issue(nil, "127.0.0.1")
		current[i].Store(&cert)
		nd.cfg.TLS = &tls.Config{
			RootCAs:              both,
			GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current[i].Load(), nil },
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return current[i].Load(), nil },
		}
		nd.cfg.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := nd.cfg.TLS.Clone()
			c.ClientCAs = trusted.Load()
			return c, nil
		}
	})
	a, b := f.nodes[0], f.nodes[1]
	before := a.mustConnect(b)
	for i := range current {
		cert := newCA.issue(nil, "127.0.0.1")
		current[i].Store(&cert)
	}
	trusted.Store(newCA.pool)
	after := a.mustConnect(b)
	if err := errors.Join(before.SendMessageBatch(batch(a, b, nil)), after.SendMessageBatch(batch(a, b, nil))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both batches", func() bool { return b.received() == 2 })
	shown := after.(*raftConn).w.conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if shown.CheckSignatureFrom(newCA.cert) != nil {
		t.Error("the new connection was accepted with the old certificate")
	}
	// The old certificate is of no use any more.
	stale := oldCA.issue(nil, "127.0.0.1")
	current[0].Store(&stale)
	_, err := a.connect(b)
	refusedBy(t, err, 2, true)
}

// A configuration that is chosen for a peer falls back on the authorities of
// the member's own, not on those of the system.
func TestChosenConfigKeepsAuthorities(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	f := newFabric(t, 2, ca.secured, on(2, func(nd *node) {
		cert := nd.cfg.TLS.Certificates
		nd.cfg.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: cert, ClientAuth: tls.NoClientCert}, nil
		}
	}))
	a, b := f.nodes[0], f.nodes[1]
	a.mustConnect(b)
	a.net.tls.client.Certificates = []tls.Certificate{other.issue(nil, "127.0.0.1")}
	_, err := a.connect(b)
	refusedBy(t, err, 2, true)
}

// No connection is resumed, so that none lives on an old certificate.
func TestNoResumption(t *testing.T) {
	ca := newAuthority(t)
	f := newFabric(t, 2, ca.secured, func(_ int, nd *node) {
		nd.cfg.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	})
	for range 3 {
		c := f.nodes[0].mustConnect(f.nodes[1])
		if err := c.SendMessageBatch(batch(f.nodes[0], f.nodes[1], nil)); err != nil {
			t.Fatal(err)
		}
		if c.(*raftConn).w.conn.(*tls.Conn).ConnectionState().DidResume {
			t.Error("a connection was resumed")
		}
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	ca := newAuthority(t)
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no ensemble", func(c *Config) { c.Ensemble = "" }, "Ensemble"},
		{"long ensemble", func(c *Config) { c.Ensemble = strings.Repeat("x", 257) }, "256"},
		{"ensemble not text", func(c *Config) { c.Ensemble = "\xff" }, "Ensemble"},
		{"no member", func(c *Config) { c.Member = 0 }, "Member"},
		{"no directory", func(c *Config) { c.Directory = "" }, "Directory"},
		{"directory in another form", func(c *Config) { c.Directory = "{" + directoryOf(1) + "}" }, "Directory"},
		{"no address", func(c *Config) { c.Addr = "" }, "Addr"},
		{"address without host", func(c *Config) { c.Addr, c.Listen = ":7000", ":7000" }, "no host"},
		{"bad listen address", func(c *Config) { c.Listen = "here" }, "Listen"},
		{"no members", func(c *Config) { c.AddrOf = nil }, "AddrOf"},
		{"TLS too old", func(c *Config) { c.TLS.MinVersion = tls.VersionTLS11 }, "TLS 1.1"},
		{"TLS of no version", func(c *Config) { c.TLS.MaxVersion = tls.VersionTLS12 }, "MaxVersion"},
		{"no authority", func(c *Config) { c.TLS.RootCAs = nil }, "RootCAs"},
		{"no certificate", func(c *Config) { c.TLS.Certificates = nil }, "to dial with"},
		{"nothing verified", func(c *Config) { c.TLS.InsecureSkipVerify = true }, "InsecureSkipVerify"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{
				Ensemble: "test", Member: 1, Directory: directoryOf(1), Addr: "127.0.0.1:7000", TLS: ca.config(),
				AddrOf: func(replica.MemberID) (string, bool) { return "", false },
			}
			if _, err := New(cfg); err != nil {
				t.Fatal(err)
			}
			tt.change(&cfg)
			_, err := New(cfg)
			mustContain(t, "New", err, tt.want)
		})
	}
}

// rawDial connects to a member without saying anything.
func rawDial(tb testing.TB, to *node) *net.TCPConn {
	tb.Helper()
	conn, err := net.Dial("tcp", to.cfg.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// rawListen listens for one connection and has f handle it.
func rawListen(tb testing.TB, f func(net.Conn)) (addr string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		f(conn)
	}()
	tb.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// rawRaft makes the handshake of member from by hand, and returns the
// connection to write frames on.
func rawHandshake(tb testing.TB, from, to *node, p Purpose) (*net.TCPConn, *bufio.Reader) {
	tb.Helper()
	conn := rawDial(tb, to)
	if _, err := conn.Write(encodeOpening(helloOpening(from.net.hello(to.id(), p)))); err != nil {
		tb.Fatal(err)
	}
	r := bufio.NewReader(conn)
	answer, err := readOpening(r)
	if err != nil || answer.kind != openHello {
		tb.Fatalf("answer = %q, %v, want a hello", answer.body, err)
	}
	return conn, r
}
