package peernet

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// alpn names the protocol within TLS, so that a connection that was meant for
// another service with the same certificates is not taken for a peer's.
const alpn = "coord-peer"

// validTLS reports what is wrong with a Config's TLS.
func validTLS(c *tls.Config) error {
	if c == nil {
		return nil
	}
	var errs []error
	if c.MinVersion != 0 && c.MinVersion < tls.VersionTLS12 {
		errs = append(errs, fmt.Errorf("MinVersion %s is below TLS 1.2", tls.VersionName(c.MinVersion)))
	}
	if c.RootCAs == nil && c.ClientCAs == nil {
		errs = append(errs, errors.New("neither RootCAs nor ClientCAs is set, and the authorities of the system know no members"))
	}
	if len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		errs = append(errs, errors.New("no certificate to accept connections with: set Certificates or GetCertificate"))
	}
	if len(c.Certificates) == 0 && c.GetClientCertificate == nil {
		errs = append(errs, errors.New("no certificate to dial with: set Certificates or GetClientCertificate"))
	}
	if c.InsecureSkipVerify && c.VerifyConnection == nil {
		errs = append(errs, errors.New("InsecureSkipVerify is set and no VerifyConnection that would verify instead"))
	}
	return errors.Join(errs...)
}

// tlsEnds are the configurations of the two ends.
type tlsEnds struct {
	server *tls.Config
	client *tls.Config // without the ServerName of a connection
	name   string      // that certificates must be valid for instead of the host; may be empty
}

func newTLSEnds(c *tls.Config) *tlsEnds {
	if c == nil {
		return nil
	}
	return &tlsEnds{server: harden(c), client: harden(c), name: c.ServerName}
}

// harden returns a copy of c with what holds for all connections between members.
func harden(c *tls.Config) *tls.Config {
	h := c.Clone()
	if h.MinVersion == 0 {
		h.MinVersion = tls.VersionTLS13
	}
	h.MinVersion = max(h.MinVersion, tls.VersionTLS12)
	if h.RootCAs == nil {
		h.RootCAs = h.ClientCAs
	}
	if h.ClientCAs == nil {
		h.ClientCAs = h.RootCAs
	}
	h.ClientAuth = tls.RequireAndVerifyClientCert
	h.NextProtos = []string{alpn}
	h.SessionTicketsDisabled = true
	h.ClientSessionCache = nil
	return h
}
