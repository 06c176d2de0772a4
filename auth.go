package coord

import (
	"context"
	"crypto/sha1" //nolint:gosec // ZooKeeper's digest scheme is made of it
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
)

// An Authenticator checks the credentials of one scheme, on the member that a
// session is connected to. It may be called concurrently.
type Authenticator interface {
	// Authenticate returns the ids that a credential proves, in the
	// authenticator's own scheme, at least one; or an error, of which the caller
	// of [Session.AddAuth] is told nothing: it goes into the log. It must not keep
	// the credential, and should return when ctx ends.
	Authenticate(ctx context.Context, credential []byte) (ids []string, err error)
}

// DigestID returns the identity that a client of ZooKeeper has who has shown a
// credential of the form user:password: digest, user:base64(sha1(credential)). SHA-1
// without salt protects no password that can be guessed, so it is for the sake of
// such clients alone; native users have a slow and salted hash.
func DigestID(credential string) ID {
	name, _, _ := strings.Cut(credential, ":")
	sum := sha1.Sum([]byte(credential)) //nolint:gosec // see above
	return ID{schemeDigest, name + ":" + base64.StdEncoding.EncodeToString(sum[:])}
}

// CertificateID returns the identity of whoever has shown a client certificate that
// was verified: x509 and its subject.
func CertificateID(cert *x509.Certificate) ID { return ID{schemeX509, cert.Subject.String()} }

// AddrID returns the identity of whoever calls from an address.
func AddrID(addr netip.Addr) ID { return ID{schemeIP, addr.Unmap().WithZone("").String()} }

// Identities returns whom the session's handle speaks for. They are the caller's.
func (s *Session) Identities() []ID {
	if ids := s.ids(); ids != nil {
		return slices.Clone(ids)
	}
	return []ID{member}
}

// ids returns the identities that requests carry; nil is the ensemble's own code.
func (s *Session) ids() []ID {
	if ids := s.identities.Load(); ids != nil {
		return *ids
	}
	return nil
}

// AddAuth checks a credential on this member and adds the identities that it proves
// to the handle, for everything that is asked through it from then on, and for
// watches that are open. They stay with the handle: one that resumes the session must
// show its credentials again. As in ZooKeeper, several add up.
//
// Schemes: "digest" (user:password, see [DigestID]; it also grants "super" if it is
// the one of [Config.SuperDigest]), "ip", which adds nothing, and those of
// [Config.Authenticators].
//
// Errors: [ErrAuthFailed] for an unknown scheme and a credential that was not
// accepted, without saying which; [ErrTooLarge] beyond 64 identities or for one of
// more than 1024 bytes; and those of the session.
func (s *Session) AddAuth(ctx context.Context, scheme string, credential []byte) error {
	fail := func(err error, detail string) error { return &OpError{Op: "addAuth", Err: err, Detail: detail} }
	if err := s.alive(); err != nil {
		return fail(err, "")
	}
	if err := s.c.awaitJoined(ctx); err != nil {
		return fail(err, "")
	}
	proved, err := s.c.authenticate(ctx, scheme, credential)
	if err != nil {
		s.c.log.Debug("credential not accepted", slog.String("session", s.id.String()), slog.String("scheme", scheme), slog.Any("err", err))
		return fail(ErrAuthFailed, "")
	}
	for _, id := range proved {
		if len(id.ID) > maxIDBytes {
			return fail(ErrTooLarge, fmt.Sprintf("an identity of %d bytes, the limit is %d", len(id.ID), maxIDBytes))
		}
	}
	return s.addIdentities(proved)
}

// addIdentities adds what the handle does not have yet.
func (s *Session) addIdentities(more []ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.Identities()
	for _, id := range more {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) > maxIdentities {
		return &OpError{Op: "addAuth", Err: ErrTooLarge, Detail: fmt.Sprintf("%d identities, the limit is %d", len(ids), maxIdentities)}
	}
	s.identities.Store(&ids)
	return nil
}

// authenticate returns what a credential proves.
func (c *Coordinator) authenticate(ctx context.Context, scheme string, credential []byte) ([]ID, error) {
	switch scheme {
	case schemeIP:
		return nil, nil // whoever opened the session has said from where
	case schemeDigest:
		return c.authenticateDigest(string(credential)), nil
	}
	a := c.cfg.Authenticators[scheme]
	if a == nil {
		return nil, fmt.Errorf("scheme %q is unknown here", scheme)
	}
	proved, err := a.Authenticate(ctx, slices.Clone(credential))
	if err == nil && len(proved) == 0 {
		err = fmt.Errorf("the authenticator for %q returned neither an id nor an error", scheme)
	}
	var ids []ID
	for _, id := range proved {
		ids = append(ids, ID{scheme, id})
	}
	return ids, err
}

// authenticateDigest believes every credential, as ZooKeeper does: it proves that
// whoever shows it knows the password of the digest that it makes.
func (c *Coordinator) authenticateDigest(credential string) []ID {
	id := DigestID(credential)
	super := c.root.state().settings.superDigest
	if super != "" && subtle.ConstantTimeCompare([]byte(id.ID), []byte(super)) == 1 {
		return []ID{id, {Scheme: schemeSuper}}
	}
	return []ID{id}
}

// identities returns those that a session is opened with, nil for the ensemble's own
// code.
func (o *SessionOptions) identities() ([]ID, error) {
	wrong := func(format string, args ...any) ([]ID, error) {
		return nil, fmt.Errorf("%w: Identities%s", ErrBadArguments, fmt.Sprintf(format, args...))
	}
	switch {
	case !o.External && len(o.Identities) > 0:
		return wrong(" without External")
	case !o.External:
		return nil, nil
	case len(o.Identities) > maxIdentities:
		return wrong(": %d, the limit is %d", len(o.Identities), maxIdentities)
	}
	for i, id := range o.Identities {
		switch {
		case id.Scheme == schemeWorld || id.Scheme == schemeAuth || id.Scheme == "":
			return wrong("[%d]: nobody has an identity of the scheme %q", i, id.Scheme)
		case len(id.ID) > maxIDBytes || len(id.Scheme) > maxSchemeBytes:
			return wrong("[%d] has %d bytes, the limit is %d", i, max(len(id.ID), len(id.Scheme)), maxIDBytes)
		}
	}
	return append([]ID{}, o.Identities...), nil
}
