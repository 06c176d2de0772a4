package differ_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/jute"
	"coord/internal/loopback"
	"coord/zkserver"

	"coord/conformance/differ"
	"coord/conformance/script"
	"coord/conformance/subject"
	"coord/conformance/zookeeper"
)

// setupScript returns the script for servers that are set up in a way of their own.
func setupScript(t *testing.T, name string) script.Script {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/setups", name+".script"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := script.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newSetupPair returns a pair of servers that were set up alike.
func newSetupPair(t *testing.T, zooKeeper, coord []string) *differ.Pair {
	t.Helper()
	pair, err := differ.NewPair(differ.Subject{Name: "ZooKeeper", Addrs: zooKeeper}, differ.Subject{Name: "coord", Addrs: coord}, differ.Known)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pair.Close)
	return pair
}

// compareSetup compares servers that were set up alike.
func compareSetup(t *testing.T, s script.Script, zooKeeper, coord []string) {
	t.Helper()
	pair := newSetupPair(t, zooKeeper, coord)
	traces, err := pair.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	report(t, pair, traces)
}

// report logs what was answered, and fails if it differs.
func report(t *testing.T, pair *differ.Pair, traces [2]differ.Trace) {
	t.Helper()
	for _, answer := range traces[0] {
		t.Logf("%v\n    %v", answer.Step, strings.ReplaceAll(answer.String(), "\n", "\n    "))
	}
	if differences := pair.Differences(traces); len(differences) > 0 {
		t.Error(strings.Join(differences, "\n"))
	}
}

// TestReaping compares what becomes of containers and TTL znodes.
func TestReaping(t *testing.T) {
	zk := subject.StartZooKeeper(t, zookeeper.Options{System: map[string]string{"znode.container.checkIntervalMs": "200"}})
	c := subject.Coord(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.ReapInterval = 200 * time.Millisecond }))
	compareSetup(t, setupScript(t, "reaping"), zk.Addrs(), c.Addrs)
}

// TestLocalSessions compares sessions that their server alone knows. A ZooKeeper that
// stands alone has none.
//
// A follower of ZooKeeper 3.8.0 that has refused an ephemeral znode to a local session
// stops now and then: it answers nobody any more, and logs nothing (one run of some
// hundred on a busy machine). Such a run compares nothing, so other servers are taken. To
// coord that does not apply: it fails.
func TestLocalSessions(t *testing.T) {
	const most = 3
	s := setupScript(t, "local")
	for attempt := 1; ; attempt++ {
		zk := subject.ZooKeeper(t, 3, "localSessionsEnabled", "true")
		c := subject.Coord(t, 3, coordtest.WithZooKeeper(func(o *zkserver.Options) { o.LocalSessions = true }))
		pair := newSetupPair(t, zk.Addrs, c.Addrs)
		traces, err := pair.Run(t.Context(), s)
		if broken, ok := errors.AsType[*differ.SubjectError](err); ok && broken.Subject == zk.Name && broken.Mute() && attempt < most {
			t.Logf("attempt %d: %v", attempt, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		report(t, pair, traces)
		return
	}
}

// TestReadOnly compares servers that have lost the others.
func TestReadOnly(t *testing.T) {
	before, err := script.Parse(`
a connect
a create path="~"
a create path="~/x" data="1"
a auth scheme="digest" data="u:p"
a create path="~/secret" acl="31:auth:"
`)
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "/readonly"
	zk := subject.StartZooKeeper(t, zookeeper.Options{
		Servers: 3, System: map[string]string{"readonlymode.enabled": "true"},
		Config: map[string]string{"localSessionsEnabled": "true"}, // without them it opens none
	})
	ensemble := subject.StartCoord(t, 3, coordtest.WithZooKeeper(func(o *zkserver.Options) { o.ReadOnly, o.LocalSessions = true, true }))
	addrs := [2][]string{zk.Addrs()[:1], ensemble.ServeZooKeeper()[:1]}
	pair := newSetupPair(t, addrs[0], addrs[1])
	run := func(s script.Script) (traces [2]differ.Trace) {
		for i := range addrs {
			var err error
			if traces[i], err = differ.Run(t.Context(), nil, addrs[i], prefix, s); err != nil {
				t.Fatal(err)
			}
		}
		return traces
	}
	run(before)
	for i := 1; i < ensemble.Size(); i++ {
		zk.Kill(i)
		ensemble.Kill(ensemble.Member(i + 1))
	}
	for _, a := range addrs {
		ensemble.WaitFor(t.Context(), "a server that can only be read from", func() error { return readsOnly(t.Context(), a) })
	}
	report(t, pair, run(setupScript(t, "readonly")))
}

// readsOnly returns nil if a server lets clients in that want no more than to read.
func readsOnly(ctx context.Context, addrs []string) error {
	trace, err := differ.Run(ctx, nil, addrs, "", script.Script{{Conn: "a", Op: script.Op{Kind: "connect", ReadOnly: true}}})
	if err == nil && !strings.Contains(trace[0].String(), "readOnly=true") {
		err = errors.New(trace[0].String())
	}
	return err
}

// TestTLS compares who clients are who show a certificate.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	server := newCertificate(t, pkix.Name{CommonName: "server"})
	clients := map[string]*certificate{
		"one name": newCertificate(t, pkix.Name{CommonName: "somebody"}),
		"many names": newCertificate(t, pkix.Name{
			CommonName: "some body", Organization: []string{"Coord, Inc."}, OrganizationalUnit: []string{"b", "a"},
			Country: []string{"CH"}, Province: []string{"ZH"}, Locality: []string{"Zürich"},
			StreetAddress: []string{"1+1"}, PostalCode: []string{"8000"}, SerialNumber: "7",
		}),
		"odd characters": newCertificate(t, pkix.Name{CommonName: ` #a"b\c<d>e;f=g,h `}),
	}
	trusted := server.pem
	for _, c := range clients {
		trusted = append(trusted, c.pem...)
	}
	files := map[string][]byte{"server.pem": append(slices.Clone(server.key), server.pem...), "trusted.pem": trusted}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)

	secure, err := loopback.FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(secure[0])
	subject.ZooKeeper(
		t, 1, "secureClientPort", port, "secureClientPortAddress", host,
		"serverCnxnFactory", "org.apache.zookeeper.server.NettyServerCnxnFactory",
		"authProvider.x509", "org.apache.zookeeper.server.auth.X509AuthenticationProvider",
		"ssl.clientAuth", "need", "ssl.hostnameVerification", "false",
		"ssl.keyStore.type", "PEM", "ssl.keyStore.location", filepath.Join(dir, "server.pem"),
		"ssl.trustStore.type", "PEM", "ssl.trustStore.location", filepath.Join(dir, "trusted.pem"),
	)
	c := subject.Coord(t, 1, coordtest.WithZooKeeper(func(o *zkserver.Options) {
		o.TLS = &tls.Config{Certificates: []tls.Certificate{server.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	}))
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{Certificates: []tls.Certificate{client.pair}, RootCAs: pool, ServerName: "127.0.0.1"}
			var addrs [2][]string
			for i, addr := range []string{secure[0], c.Addrs[0]} {
				dial := func() (net.Conn, error) { return tls.Dial("tcp", addr, config) }
				addrs[i] = []string{proxy(t, dial, func(_ int32, _ jute.Code, frame []byte) []byte { return frame })}
			}
			compareSetup(t, setupScript(t, "tls"), addrs[0], addrs[1])
		})
	}
}

// A certificate is one that is signed by itself.
type certificate struct {
	pem, key []byte
	pair     tls.Certificate
}

func newCertificate(t *testing.T, name pkix.Name) *certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: name, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	c := &certificate{
		pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
	if c.pair, err = tls.X509KeyPair(c.pem, c.key); err != nil {
		t.Fatal(err)
	}
	return c
}
