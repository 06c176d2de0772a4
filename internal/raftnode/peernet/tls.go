package peernet

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// alpn names the protocol within TLS, so that a connection that was meant for
// another service with the same certificates is not taken for a peer's.
const alpn = "coord-peer"

// tlsRecord is the first byte of what a TLS client sends first: the type of a
// record that holds a handshake message (RFC 8446 section 5.1).
const tlsRecord = 22

// validTLS reports what is wrong with a Config's TLS.
func validTLS(c *tls.Config) error {
	if c == nil {
		return nil
	}
	var errs []error
	if c.MinVersion != 0 && c.MinVersion < tls.VersionTLS12 {
		errs = append(errs, fmt.Errorf("MinVersion %s is below TLS 1.2", tls.VersionName(c.MinVersion)))
	}
	if least := minVersion(c); c.MaxVersion != 0 && c.MaxVersion < least {
		errs = append(errs, fmt.Errorf("MaxVersion %s is below MinVersion, which is %s", tls.VersionName(c.MaxVersion), tls.VersionName(least)))
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

// minVersion returns the oldest version of TLS that is spoken under c.
func minVersion(c *tls.Config) uint16 {
	if c.MinVersion == 0 {
		return tls.VersionTLS13
	}
	return max(c.MinVersion, tls.VersionTLS12)
}

// tlsEnds are the configurations of the two ends.
type tlsEnds struct {
	server *tls.Config
	client *tls.Config // without the ServerName of a connection
	name   string      // what certificates must be valid for instead of the host; may be empty
}

func newTLSEnds(c *tls.Config) *tlsEnds {
	if c == nil {
		return nil
	}
	base := harden(c)
	server := base.Clone()
	if choose := c.GetConfigForClient; choose != nil {
		server.GetConfigForClient = func(hi *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hi)
			if chosen == nil || err != nil {
				return nil, err
			}
			h := harden(chosen)
			if h.ClientCAs == nil {
				h.ClientCAs = base.ClientCAs
			}
			return h, nil
		}
	}
	return &tlsEnds{server: server, client: base, name: c.ServerName}
}

// harden returns a copy of c with what holds for all connections between
// members.
func harden(c *tls.Config) *tls.Config {
	h := c.Clone()
	h.MinVersion = minVersion(c)
	if h.RootCAs == nil {
		h.RootCAs = h.ClientCAs
	}
	if h.ClientCAs == nil {
		h.ClientCAs = h.RootCAs
	}
	h.ClientAuth = tls.RequireAndVerifyClientCert
	h.NextProtos = []string{alpn}
	// A resumed connection would live on a certificate that may have been
	// replaced since.
	h.SessionTicketsDisabled = true
	h.ClientSessionCache = nil
	// Small records at the start would help a page to load, not a batch.
	h.DynamicRecordSizingDisabled = true
	return h
}

// dialling returns the configuration to dial a peer at host with.
func (t *tlsEnds) dialling(host string) *tls.Config {
	c := t.client.Clone()
	c.ServerName = t.nameOf(host)
	return c
}

// nameOf returns what the certificate of a peer at host must be valid for. A
// zone is no part of an address that a certificate could name.
func (t *tlsEnds) nameOf(host string) string {
	if t.name != "" {
		return t.name
	}
	host, _, _ = strings.Cut(host, "%")
	return host
}

// checkHost returns an error unless the peer's certificate is valid for host.
// The chain has been verified by the handshake; this asks for the name on both
// ends, and looks nothing up.
func (t *tlsEnds) checkHost(state tls.ConnectionState, host string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	return state.PeerCertificates[0].VerifyHostname(t.nameOf(host))
}

// tlsRefusal returns why a TLS handshake was refused, and by whom, or ok false
// if it failed for another reason.
func tlsRefusal(err error) (reason string, byPeer, ok bool) {
	if op, is := errors.AsType[*net.OpError](err); is && op.Op == "remote error" {
		return op.Err.Error(), true, true
	}
	if bad, is := errors.AsType[*tls.CertificateVerificationError](err); is {
		return bad.Error(), false, true
	}
	return "", false, false
}
