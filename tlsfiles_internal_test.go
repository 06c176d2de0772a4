package coord

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord/internal/bubble"
)

var serials atomic.Int64

// An authority signs certificates of members.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := new(authority)
	a.cert, a.key, a.pem, _ = sign(tb, nil, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		c.Subject = pkix.Name{CommonName: "authority " + c.SerialNumber.String()}
	})
	return a
}

// sign makes a certificate, valid for an hour, that by signs, or itself.
func sign(tb testing.TB, by *authority, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	change(template)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	fatal(tb, err)
	cert, err := x509.ParseCertificate(der)
	fatal(tb, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	fatal(tb, err)
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func fatal(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// member returns the certificate and key of a member on localhost.
func (a *authority) member(tb testing.TB, change ...func(*x509.Certificate)) (cert, key []byte) {
	tb.Helper()
	_, _, cert, key = sign(tb, a, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		for _, f := range change {
			f(c)
		}
	})
	return cert, key
}

// tlsDir is a directory with the three files.
type tlsDir struct {
	tb  testing.TB
	dir string
}

func newTLSDir(tb testing.TB, a *authority) tlsDir {
	tb.Helper()
	d := tlsDir{tb, tb.TempDir()}
	d.write("ca", a.pem)
	d.issue(a)
	return d
}

func (d tlsDir) write(name string, data []byte) {
	d.tb.Helper()
	fatal(d.tb, os.WriteFile(filepath.Join(d.dir, name), data, 0o600))
}

// issue replaces certificate and key by new ones.
func (d tlsDir) issue(a *authority, change ...func(*x509.Certificate)) {
	d.tb.Helper()
	cert, key := a.member(d.tb, change...)
	d.write("cert", cert)
	d.write("key", key)
}

func (d tlsDir) files() TLSFiles {
	return TLSFiles{
		Cert: filepath.Join(d.dir, "cert"), Key: filepath.Join(d.dir, "key"), CA: filepath.Join(d.dir, "ca"),
		Logger: slog.New(slog.DiscardHandler),
	}
}

func (d tlsDir) config() *tls.Config {
	d.tb.Helper()
	c, err := d.files().Config()
	fatal(d.tb, err)
	return c
}

// handshake connects two ends and returns the serial numbers that they saw of
// each other.
func handshake(server, client *tls.Config) (ofServer, ofClient string, err error) {
	client = client.Clone()
	if client.ServerName == "" {
		client.ServerName = "localhost"
	}
	a, b := newWire()
	s, c := tls.Server(a, server), tls.Client(b, client)
	accepted := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		accepted <- err
		s.Close()
	}()
	err = c.Handshake()
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1)) // until then it does not know whether it was accepted
	}
	c.Close()
	if err = errors.Join(err, <-accepted); err != nil {
		return "", "", err
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), s.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// A wire is one end of a connection in memory. Unlike those of net.Pipe its
// writes do not wait for a reader: both ends of a failed handshake write.
type wire struct {
	net.Conn // nil; a handshake needs no more than is below
	in, out  chan []byte
	rest     []byte
	ended    func()
}

func newWire() (a, b *wire) {
	const enough = 100 // writes of a handshake
	there, back := make(chan []byte, enough), make(chan []byte, enough)
	return &wire{in: back, out: there, ended: sync.OnceFunc(func() { close(there) })},
		&wire{in: there, out: back, ended: sync.OnceFunc(func() { close(back) })}
}

func (w *wire) Write(p []byte) (int, error) {
	w.out <- bytes.Clone(p)
	return len(p), nil
}

func (w *wire) Read(p []byte) (int, error) {
	for len(w.rest) == 0 {
		var ok bool
		if w.rest, ok = <-w.in; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func (w *wire) Close() error                   { w.ended(); return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

func TestTLSFilesCheckBothEnds(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	one, two, stranger := newTLSDir(t, ca).config(), newTLSDir(t, ca).config(), newTLSDir(t, other).config()
	if tlsFaults(one) != nil {
		t.Errorf("Config.TLS is refused: %v", tlsFaults(one))
	}
	if _, _, err := handshake(one, two); err != nil {
		t.Error(err)
	}
	if _, _, err := handshake(one, stranger); err == nil {
		t.Error("a stranger was let in")
	}
	if _, _, err := handshake(stranger, one); err == nil {
		t.Error("a stranger was believed")
	}
	anonymous := &tls.Config{InsecureSkipVerify: true}
	if _, _, err := handshake(one, anonymous); err == nil {
		t.Error("a client without a certificate was let in")
	}
	wrong := two.Clone()
	wrong.ServerName = "elsewhere"
	if _, _, err := handshake(one, wrong); err == nil {
		t.Error("a certificate of another name was believed")
	}
	old := two.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, err := handshake(one, old); err == nil {
		t.Error("TLS 1.2 was spoken")
	}
}

func TestTLSFilesNameTheFault(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	_, otherKey := ca.member(t)
	for _, test := range []struct {
		name   string
		change func(tlsDir)
		says   []string
	}{
		{"no cert", func(d tlsDir) { fatal(t, os.Remove(filepath.Join(d.dir, "cert"))) }, []string{"/cert"}},
		{"no key", func(d tlsDir) { fatal(t, os.Remove(filepath.Join(d.dir, "key"))) }, []string{"/key"}},
		{"no ca", func(d tlsDir) { fatal(t, os.Remove(filepath.Join(d.dir, "ca"))) }, []string{"/ca"}},
		{"no PEM", func(d tlsDir) { d.write("cert", []byte("hello")) }, []string{"/cert", "PEM"}},
		{"another key", func(d tlsDir) { d.write("key", otherKey) }, []string{"/cert", "/key", "match"}},
		{"empty ca", func(d tlsDir) { d.write("ca", nil) }, []string{"/ca", "no certificate"}},
		{"a key for a ca", func(d tlsDir) { d.write("ca", otherKey) }, []string{"/ca", "PRIVATE KEY"}},
		{"cut ca", func(d tlsDir) { d.write("ca", append(bytes.Clone(ca.pem), ca.pem[:len(ca.pem)/2]...)) }, []string{"/ca", "1 of its 2 certificates", "cut short"}},
		{
			"cut ca before a whole one", func(d tlsDir) {
				d.write("ca", append(append([]byte{}, ca.pem[:len(ca.pem)/2]...), append([]byte("\n"), ca.pem...)...))
			},
			[]string{"/ca", "1 of its 2 certificates"},
		},
		{"damaged text in a ca", func(d tlsDir) {
			d.write("ca", append(bytes.Replace(other.pem, []byte("M"), []byte("!"), 1), ca.pem...))
		}, []string{"/ca", "1 of its 2 certificates"}},
		{"damaged ca", func(d tlsDir) {
			d.write("ca", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
		}, []string{"/ca", "certificate 1"}},
		{"another ca", func(d tlsDir) { d.write("ca", other.pem) }, []string{"/cert", "/ca", "unknown authority"}},
		{"expired", func(d tlsDir) { d.issue(ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }) }, []string{"/cert", "expired"}},
		{"servers only", func(d tlsDir) {
			d.issue(ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		}, []string{"/cert", "key usage"}},
		{"clients only", func(d tlsDir) {
			d.issue(ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		}, []string{"/cert", "key usage"}},
	} {
		d := newTLSDir(t, ca)
		test.change(d)
		_, err := d.files().Config()
		if err == nil {
			t.Errorf("%s: no error", test.name)
			continue
		}
		for _, want := range test.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", test.name, want, err)
			}
		}
	}
}

// TestTLSFilesAreReloaded replaces a certificate, and then the authority as an
// operator would: both, new certificates, the new one alone.
func TestTLSFilesAreReloaded(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		ca, next := newAuthority(t), newAuthority(t)
		one, two := newTLSDir(t, ca), newTLSDir(t, ca)
		a, b := one.config(), two.config()
		seen := func(server, client *tls.Config) (string, string) {
			t.Helper()
			s, c, err := handshake(server, client)
			if err != nil {
				t.Fatal(err)
			}
			return s, c
		}
		firstA, firstB := seen(a, b)
		one.issue(ca)
		two.issue(ca)
		time.Sleep(tlsFilesEvery - 1)
		if s, c := seen(a, b); s != firstA || c != firstB {
			t.Errorf("certificates %s and %s before it was time to look, want %s and %s", s, c, firstA, firstB)
		}
		time.Sleep(time.Nanosecond)
		secondA, secondB := seen(a, b)
		if secondA == firstA || secondB == firstB {
			t.Errorf("certificates %s and %s are used still", secondA, secondB)
		}

		both := append(bytes.Clone(ca.pem), next.pem...)
		one.write("ca", both)
		two.write("ca", both)
		time.Sleep(tlsFilesEvery)
		seen(a, b)
		one.issue(next)
		time.Sleep(tlsFilesEvery)
		if s, c := seen(a, b); s == secondA || c != secondB {
			t.Errorf("certificates %s and %s, of which the first should be new", s, c)
		}
		seen(b, a)
		one.write("ca", next.pem)
		time.Sleep(tlsFilesEvery)
		if _, _, err := handshake(a, b); err == nil {
			t.Error("the accepting side believes the old authority")
		}
		if _, _, err := handshake(b, a); err == nil {
			t.Error("the dialing side believes the old authority")
		}
		two.issue(next)
		two.write("ca", next.pem)
		time.Sleep(tlsFilesEvery)
		seen(a, b)
		seen(b, a)
	})
}

// TestBadTLSFilesAreNotUsed breaks the files in every order; the last good ones
// stay, and each fault is logged once.
func TestBadTLSFilesAreNotUsed(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		ca := newAuthority(t)
		d := newTLSDir(t, ca)
		var out bytes.Buffer
		files := d.files()
		files.Logger = slog.New(slog.NewTextHandler(&out, nil))
		a, err := files.Config()
		fatal(t, err)
		b := newTLSDir(t, ca).config()
		first, _, err := handshake(a, b)
		fatal(t, err)
		cert, key := ca.member(t)
		for i, broken := range []func(){
			func() { d.write("ca", ca.pem[:40]) },
			func() { d.write("cert", []byte("-----BEGIN")) },
			func() { d.write("cert", cert) }, // its key comes later
			func() { fatal(t, os.Remove(filepath.Join(d.dir, "key"))) },
		} {
			broken()
			out.Reset()
			for range 3 {
				time.Sleep(tlsFilesEvery)
				if serial, _, err := handshake(a, b); err != nil || serial != first {
					t.Fatalf("fault %d: certificate %s, %v; want %s", i, serial, err, first)
				}
			}
			if n := strings.Count(out.String(), "level=ERROR"); n != 1 {
				t.Errorf("fault %d was logged %d times:\n%s", i, n, &out)
			}
			if strings.Contains(out.String(), "PRIVATE") {
				t.Errorf("fault %d:\n%s", i, &out)
			}
		}
		d.write("key", key)
		d.write("ca", ca.pem)
		time.Sleep(tlsFilesEvery)
		if serial, _, err := handshake(a, b); err != nil || serial == first {
			t.Errorf("certificate %s, %v, after the files fit together again", serial, err)
		}
	})
}

// IssueTLS makes a new authority and writes its certificate and one for a member on
// this machine into each directory, in files that TLSIn names.
func IssueTLS(tb testing.TB, dirs ...string) {
	tb.Helper()
	a := newAuthority(tb)
	for _, dir := range dirs {
		d := tlsDir{tb, dir}
		d.write("ca", a.pem)
		d.issue(a)
	}
}

// TLSIn names the files that IssueTLS has written into dir.
func TLSIn(dir string) TLSFiles { return tlsDir{dir: dir}.files() }
