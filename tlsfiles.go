package coord

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// TLSFiles names the files that [Config.TLS] is made from, all of them PEM. They
// may be replaced while the member runs, one by one and in any order: new
// connections use what the files hold together, those that are there stay.
type TLSFiles struct {
	// Cert is this member's certificate, followed by those between it and the
	// authority. It must be good for servers and for clients.
	Cert string

	// Key is the private key of the certificate.
	Key string

	// CA holds the authorities of all members' certificates. Whoever has a
	// certificate of one of them that is valid for a member's host can be that
	// member, so it should be an authority of the ensemble's own. To replace it,
	// let all members have the old and the new one for a while.
	CA string

	// Logger is told when the files have changed, and when they have and are not
	// used because of a fault. Nil means slog.Default().
	Logger *slog.Logger
}

// tlsFilesEvery is how often, at most, the files are looked at.
const tlsFilesEvery = time.Second

// Config reads the files and returns what makes members use them: TLS 1.3, both
// sides with a certificate that the other checks. At a handshake, and at most once
// a second, it looks whether they have changed. If they do not fit together any
// more, the last ones that did stay in use.
//
// The error names the file at fault: it cannot be read or is no PEM, the key is of
// another certificate, the certificate is not of the authorities, has expired, or
// is not good for both servers and clients.
//
// The result is made for [Config.TLS]. That the other end is the member it should
// be, and not another one of the ensemble, is checked there, by the host of its
// address: elsewhere the result checks names, but not IP addresses.
func (f TLSFiles) Config() (*tls.Config, error) {
	k := &keyring{files: f, log: cmp.Or(f.Logger, slog.Default()), looked: time.Now()}
	if err := k.load(); err != nil {
		return nil, fmt.Errorf("coord: TLS files: %w", err)
	}
	// Handshakes use what the callbacks give, not these of today.
	c := k.good.Load().accepting.Clone()
	c.RootCAs = c.ClientCAs
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.current().accepting, nil }
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.current().cert, nil }
	// The authorities to check the other end by are fixed in a tls.Config. So this
	// one checks nothing by itself, and VerifyConnection everything.
	c.InsecureSkipVerify = true
	c.VerifyConnection = k.verifyDialed
	return c, nil
}

// A keyring is what files hold, as of the last time that they fitted together.
type keyring struct {
	files TLSFiles
	log   *slog.Logger
	good  atomic.Pointer[credentials]

	look   sync.Mutex // held by the one who looks at the files; nobody waits for it
	looked time.Time  // guarded by look
	fault  string     // guarded by look; the one that was logged last
}

// credentials are what one handshake uses. They never change.
type credentials struct {
	raw       [3][]byte
	cert      *tls.Certificate
	cas       *x509.CertPool
	accepting *tls.Config
}

// current returns the credentials for a handshake.
func (k *keyring) current() *credentials {
	if k.look.TryLock() {
		defer k.look.Unlock()
		if time.Since(k.looked) >= tlsFilesEvery {
			k.refresh()
			k.looked = time.Now()
		}
	}
	return k.good.Load()
}

// refresh loads the files again and logs what is new about that.
func (k *keyring) refresh() {
	was := k.good.Load()
	fault := ""
	if err := k.load(); err != nil {
		fault = err.Error()
	}
	switch now := k.good.Load(); {
	case fault != "" && fault != k.fault:
		k.log.Error("TLS files do not fit together, the earlier ones stay in use", slog.String("err", fault))
	case fault == "" && now != was:
		k.log.Info("TLS files loaded", slog.String("cert", k.files.Cert), slog.Time("valid_until", now.cert.Leaf.NotAfter))
	}
	k.fault = fault
}

// load makes what the files hold the current credentials, if they fit together.
func (k *keyring) load() error {
	c := new(credentials)
	for i, name := range []string{k.files.Cert, k.files.Key, k.files.CA} {
		var err error
		if c.raw[i], err = os.ReadFile(name); err != nil {
			return err
		}
	}
	if old := k.good.Load(); old != nil && sameFiles(old.raw, c.raw) {
		return nil
	}
	cert, err := tls.X509KeyPair(c.raw[0], c.raw[1])
	if err != nil {
		return fmt.Errorf("%s and %s: %w", k.files.Cert, k.files.Key, err)
	}
	if c.cas, err = parseAuthorities(c.raw[2]); err != nil {
		return fmt.Errorf("%s: %w", k.files.CA, err)
	}
	c.cert = &cert
	if err := c.checkOwn(); err != nil {
		return fmt.Errorf("%s: the other members, with the authorities of %s, would refuse it: %w", k.files.Cert, k.files.CA, err)
	}
	c.accepting = &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{cert}, ClientCAs: c.cas,
		// A resumed session would stand on the certificates of an earlier day.
		SessionTicketsDisabled: true,
	}
	k.good.Store(c)
	return nil
}

func sameFiles(a, b [3][]byte) bool {
	return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) && bytes.Equal(a[2], b[2])
}

// checkOwn checks this member's certificate as the others will.
func (c *credentials) checkOwn() error {
	chain := []*x509.Certificate{c.cert.Leaf}
	for _, der := range c.cert.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, cert)
	}
	return errors.Join(c.verify(chain, "", x509.ExtKeyUsageServerAuth), c.verify(chain, "", x509.ExtKeyUsageClientAuth))
}

// verify checks a chain, the leaf first, by the authorities. An empty name stands
// for any.
func (c *credentials) verify(chain []*x509.Certificate, name string, use x509.ExtKeyUsage) error {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: c.cas, Intermediates: between, DNSName: name, KeyUsages: []x509.ExtKeyUsage{use},
	})
	return err
}

// verifyDialed checks the certificate of a member that was dialed.
func (k *keyring) verifyDialed(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the other end has no certificate")
	}
	if err := k.current().verify(s.PeerCertificates, s.ServerName, x509.ExtKeyUsageServerAuth); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}

// parseAuthorities reads certificates, all of which must be sound: a file that was
// cut short would lock members out.
func parseAuthorities(data []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	begun := bytes.Count(data, []byte("-----BEGIN"))
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s, want certificates only", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		pool.AddCert(cert)
		n++
	}
	switch {
	case n < begun: // pem.Decode skips what it cannot decode
		return nil, fmt.Errorf("%d of its %d certificates cannot be read: cut short or damaged", begun-n, begun)
	case n == 0:
		return nil, errors.New("it holds no certificate")
	}
	return pool, nil
}
