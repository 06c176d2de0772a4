package coord

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"coord/internal/raftnode/peernet"
)

// doorFaults checks who could come in by the port that members talk through: with
// TLS, those with a certificate of the ensemble's own authority; without, whoever
// reaches it, so it must be loopback unless Insecure says that this is known.
func (c *Config) doorFaults() []error {
	switch {
	case c.TLS != nil && c.Insecure:
		return []error{errors.New("TLS and Insecure exclude each other")}
	case c.TLS != nil:
		return tlsFaults(c.TLS)
	case c.Insecure || c.memory != nil: // what lives in memory has no port
		return nil
	}
	var open []string
	reached := append(slices.Clone(c.InitialMembers), Member{Addr: c.Listen}, Member{Addr: c.Addr})
	for _, addr := range c.Join {
		reached = append(reached, Member{Addr: addr})
	}
	for _, m := range reached {
		if m.Addr != "" && peernet.ValidListen(m.Addr) == nil && !isLoopback(m.Addr) && !slices.Contains(open, m.Addr) {
			open = append(open, m.Addr)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return []error{fmt.Errorf("without TLS, whoever reaches a member can pass for another, and %q can be reached from other machines: "+
		"set TLS, which TLSFiles makes from three files, or set Insecure if nobody but the members can reach them", open)}
}

// isLoopback reports whether host:port can only be this machine's. A name other
// than localhost can be anything, and so can no host at all.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// tlsFaults reports what a TLS configuration lacks for connections on which both
// sides show a certificate and check the other's.
func tlsFaults(t *tls.Config) []error {
	var errs []error
	lacks := func(missing bool, format string, args ...any) {
		if missing {
			errs = append(errs, fmt.Errorf("field TLS: "+format, args...))
		}
	}
	perClient := t.GetConfigForClient != nil // brings what the accepting side needs
	lacks(len(t.Certificates) == 0 && t.GetCertificate == nil && !perClient,
		"no certificate to accept connections with: set Certificates or GetCertificate")
	lacks(len(t.Certificates) == 0 && t.GetClientCertificate == nil,
		"no certificate to dial other members with: set Certificates or GetClientCertificate")
	lacks(t.ClientCAs == nil && !perClient,
		"no authority to check dialing members by: set ClientCAs")
	lacks(t.InsecureSkipVerify && t.VerifyConnection == nil,
		"InsecureSkipVerify without a VerifyConnection believes any certificate")
	lacks(t.RootCAs == nil,
		"no authority to check dialed members by: set RootCAs (the system's would let in any certificate of theirs)")
	for _, v := range []struct {
		name    string
		version uint16
	}{{"MinVersion", t.MinVersion}, {"MaxVersion", t.MaxVersion}} {
		lacks(v.version != 0 && v.version < tls.VersionTLS12, "%s %s is older than TLS 1.2", v.name, tls.VersionName(v.version))
	}
	return errs
}
