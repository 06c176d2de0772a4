package main_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coord/internal/pki"
)

// pemStores makes stores as ZooKeeper has them: the certificate and its key in one file,
// the authorities in another.
func pemStores(t *testing.T, a *pki.Authority, name string) string {
	t.Helper()
	cert, key, err := a.Issue(name, net.IPv4(127, 0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	var both bytes.Buffer
	for _, file := range []string{key, cert} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		both.Write(data)
	}
	store := filepath.Join(t.TempDir(), name+".pem")
	if err := os.WriteFile(store, both.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return store
}

// TestTLS starts an ensemble whose members talk by TLS, and whose clients do on the same
// port as those without. Another certificate is used as soon as it is in the file.
func TestTLS(t *testing.T) {
	a, err := pki.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store := pemStores(t, a, "first")
	e := startThree(t, strings.Join([]string{
		"sslQuorum=true", "ssl.quorum.keyStore.location=" + store, "ssl.quorum.trustStore.location=" + a.CA, "ssl.quorum.trustStore.type=PEM",
		"client.portUnification=true", "ssl.keyStore.location=" + store, "ssl.trustStore.location=" + a.CA, "ssl.trustStore.type=PEM", "ssl.clientAuth=want",
	}, "\n")+"\n")
	for _, p := range e.processes {
		if strings.Contains(p.said(), "plaintext") {
			t.Error("it warns of plaintext")
		}
	}
	// startThree has asked in plaintext, at the same port.
	if got := secureWord(t, e.clients[0], "ruok"); got != "imok" {
		t.Errorf("ruok by TLS says %q", got)
	}
	before := serial(t, e.clients[0])
	other, err := os.ReadFile(pemStores(t, a, "second"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store, other, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate is used", func() bool { return serial(t, e.clients[0]) != before })
}

func dialTLS(t *testing.T, addr string) *tls.Conn {
	t.Helper()
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // what it shows is looked at
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func secureWord(t *testing.T, addr, word string) string {
	t.Helper()
	conn := dialTLS(t, addr)
	defer conn.Close()
	_, _ = io.WriteString(conn, word)
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// serial returns the number of the certificate that a server shows.
func serial(t *testing.T, addr string) string {
	t.Helper()
	conn := dialTLS(t, addr)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
