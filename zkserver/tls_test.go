package zkserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/jute"
	"coord/internal/pki"
	"coord/zkserver"
)

// TestTLS has clients with and without TLS on one port, and on a port for TLS alone. Who
// shows a certificate has its subject for an identity.
func TestTLS(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(cfg *coord.Config) { cfg.DefaultACL = coord.OpenACL() }))
	authority, err := pki.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	loopback := net.IPv4(127, 0, 0, 1)
	certFile, keyFile, err := authority.Issue("me", loopback)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(authority.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12}

	for mode, o := range map[string]zkserver.Options{
		"TLS alone": {TLS: config}, "both": {TLS: config, PlaintextToo: true}, "a listener for TLS": {},
	} {
		o.HandshakeTimeout, o.Logger = 2*time.Second, slog.New(slog.DiscardHandler)
		s, err := zkserver.New(e.Member(1), o)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if o.TLS == nil {
			ln = tls.NewListener(ln, config)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(t.Context(), ln) }()
		for name, c := range map[string]struct {
			config *tls.Config // nil: plaintext
			ok     bool
			who    string
		}{
			"plaintext":                  {nil, o.PlaintextToo, "ip"},
			"TLS":                        {&tls.Config{RootCAs: pool}, true, "ip"},
			"TLS with a certificate":     {&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}, true, "ip x509"},
			"TLS with another authority": {&tls.Config{RootCAs: x509.NewCertPool()}, false, ""},
		} {
			cl := dialTLS(t, ln.Addr().String(), c.config)
			resp := cl.handshake(&jute.ConnectRequest{TimeoutMS: 10000, Password: make([]byte, 16)})
			if (resp != nil) != c.ok {
				t.Errorf("%s: %s: %+v", mode, name, resp)
			}
			if resp == nil {
				continue
			}
			var who jute.WhoAmIResponse
			cl.must(jute.OpWhoAmI, nil, &who)
			var schemes []string
			for _, id := range who.Clients {
				schemes = append(schemes, id.Scheme)
			}
			if got := strings.Join(schemes, " "); got != c.who {
				t.Errorf("%s: %s: identities %v, want %v", mode, name, who.Clients, c.who)
			}
			if strings.Contains(c.who, "x509") {
				cl.must(jute.OpAuth, &jute.AuthRequest{Scheme: "x509"}, nil)
				thief := dialTLS(t, ln.Addr().String(), &tls.Config{RootCAs: pool})
				if resp := thief.handshake(&jute.ConnectRequest{TimeoutMS: 10000, SessionID: cl.id, Password: cl.password}); resp == nil || resp.SessionID != 0 {
					t.Errorf("%s: without its certificate the session is resumed with %+v", mode, resp)
				}
			}
			cl.must(jute.OpCloseSession, nil, nil)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, zkserver.ErrServerClosed) {
			t.Errorf("%s: Serve = %v", mode, err)
		}
	}
}

// dialTLS connects by TLS, or in plaintext without a config.
func dialTLS(t *testing.T, addr string, config *tls.Config) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		config.ServerName = "127.0.0.1"
		nc = tls.Client(nc, config)
	}
	return newClient(t, nc)
}
