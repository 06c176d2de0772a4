package coord

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // ZooKeeper's digest scheme is made of it
	"crypto/subtle"
	"encoding/base64"
	"errors"
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
	// authenticator's own scheme, at least one and none empty; or an error, of which
	// the caller of [Session.AddAuth] is told nothing: it goes into the audit log and
	// must not hold secrets. It must not keep the credential, and should return when
	// ctx ends: nobody waits for it any longer, and 256 calls on one member that do
	// not return are the last. A panic counts as an error.
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

// AddrID returns the identity of whoever calls from an address.
func AddrID(addr netip.Addr) ID { return ID{schemeIP, addr.Unmap().WithZone("").String()} }

// Identities returns whom the session's handle speaks for, as ACLs name them. They are
// the caller's. A user is among them who was removed or given another password since:
// what counts is decided where it is asked for.
func (s *Session) Identities() []ID {
	ids := slices.Clone(s.ids())
	if ids == nil {
		return []ID{member}
	}
	for i := range ids {
		ids[i] = ids[i].inACL()
	}
	return ids
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
// Schemes:
//
//	user    name:password of a native user, see [Coordinator.SetUser]. It needs
//	        contact with a quorum, and takes a slow hash, of which the member makes
//	        few at a time: many logins at once wait for each other.
//	digest  user:password of a client of ZooKeeper, see [DigestID]. It also grants
//	        "super" if it is the one of [Settings.SuperDigest]; one of that user
//	        needs contact with a quorum.
//	ip      adds nothing: whoever opened the session has said from where.
//
// and those of [Config.Authenticators].
//
// Who fails is slowed: after n failures in a row the next attempt waits until 100 ms
// times 2^(n-1), at most 10 s, have passed. That counts for each address (of IPv6, each
// network of 64 bits) among the Identities that sessions were opened with, on this
// member, and where there is none for the session. A digest of the super user's name
// with another password is such a failure, though it proves what it always does.
//
// Errors: [ErrAuthFailed] for an unknown scheme and a credential that was not
// accepted, without saying which; [ErrTooLarge] for a credential of more than 64 KiB,
// beyond 64 identities, or for one of more than 1024 bytes, and then none is added;
// those of the session, and that of ctx, or [ErrTimeout] after
// [Config.OperationTimeout], also while the attempt waits. Each call is an event of the
// audit log.
func (s *Session) AddAuth(ctx context.Context, scheme string, credential []byte) error {
	proved, err := s.addAuth(ctx, scheme, credential)
	s.c.auditResult(actAuthenticate, err,
		slog.String("session", s.id.String()), slog.String("scheme", s.c.schemeForLog(scheme)), auditIDs(append([]ID{}, proved...)))
	if errors.Is(err, ErrAuthFailed) {
		return &OpError{Op: "addAuth", Err: ErrAuthFailed} // why is for the log alone
	}
	return err
}

// addAuth returns what the credential has proved, and adds it if there is no error.
func (s *Session) addAuth(ctx context.Context, scheme string, credential []byte) (proved []ID, err error) {
	fail := func(err error, detail string) ([]ID, error) {
		return proved, &OpError{Op: "addAuth", Err: err, Detail: detail}
	}
	if err := s.alive(); err != nil {
		return fail(err, "")
	}
	if len(credential) > maxCredentialBytes {
		return fail(ErrTooLarge, fmt.Sprintf("a credential of %d bytes, the limit is %d", len(credential), maxCredentialBytes))
	}
	ctx, cancel := s.waiting(ctx)
	defer cancel()
	if err := s.g.awaitJoined(ctx); err != nil {
		return fail(err, "")
	}
	proved, err = s.authenticate(ctx, scheme, credential)
	if err != nil {
		return fail(err, "")
	}
	return proved, s.addProved(proved)
}

// addProved adds what a credential has proved, within limits.
func (s *Session) addProved(proved []ID) error {
	for _, id := range proved {
		if len(id.ID) > maxIDBytes {
			return &OpError{Op: "addAuth", Err: ErrTooLarge, Detail: fmt.Sprintf("an identity of %d bytes, the limit is %d", len(id.ID), maxIDBytes)}
		}
	}
	if err := s.addIdentities(proved); err != nil {
		return err
	}
	s.meter.join(proved)
	return nil
}

// addIdentities adds what the handle does not have yet. Of a user it keeps the login
// with the password that was shown last.
func (s *Session) addIdentities(more []ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := []ID{member}
	if have := s.ids(); have != nil {
		ids = slices.Clone(have)
	}
	for _, id := range more {
		i := slices.IndexFunc(ids, func(have ID) bool { return have.inACL() == id.inACL() })
		if i < 0 {
			ids = append(ids, id)
		} else {
			ids[i] = id
		}
	}
	if len(ids) > maxIdentities {
		return &OpError{Op: "addAuth", Err: ErrTooLarge, Detail: fmt.Sprintf("%d identities, the limit is %d", len(ids), maxIdentities)}
	}
	s.identities.Store(&ids)
	return nil
}

// authenticate returns what a credential proves. Its error satisfies errors.Is for
// ErrAuthFailed if that is nothing, and no other does.
func (s *Session) authenticate(ctx context.Context, scheme string, credential []byte) (proved []ID, err error) {
	check := s.c.authenticatePlugIn
	switch scheme {
	case schemeIP:
		return nil, nil
	case schemeDigest:
		return s.authenticateDigest(ctx, string(credential))
	case schemeUser:
		check = func(ctx context.Context, _ string, credential []byte) ([]ID, error) {
			return s.c.authenticateUser(ctx, credential)
		}
	}
	err = s.c.logins.attempt(ctx, s.caller(), accountOf(scheme, credential), func() error {
		proved, err = check(ctx, scheme, credential)
		return err
	})
	return proved, err
}

// accountOf returns what a credential is for, as far as that can be told before it is
// checked: a user, or somebody of a plug-in's scheme.
func accountOf(scheme string, credential []byte) string {
	if scheme != schemeUser {
		return scheme
	}
	name, _, _ := bytes.Cut(credential, []byte(":"))
	return scheme + ":" + string(name)
}

// caller returns whom the throttle knows the session's client by.
func (s *Session) caller() string {
	for _, id := range s.ids() {
		addr, err := netip.ParseAddr(id.ID)
		if id.Scheme != schemeIP || err != nil {
			continue
		}
		if addr = addr.Unmap(); addr.Is6() {
			network, _ := addr.WithZone("").Prefix(64) // which is what one client is given
			return network.String()
		}
		return addr.String()
	}
	return "session " + s.id.String()
}

// authenticateDigest believes every credential, as ZooKeeper does: it proves that
// whoever shows it knows the password of the digest that it makes. But those that
// seem to be meant for the super user's are attempts to get in.
func (s *Session) authenticateDigest(ctx context.Context, credential string) ([]ID, error) {
	id := DigestID(credential)
	proved := []ID{id}
	super := s.c.root.state().settings.superDigest
	name, _, _ := strings.Cut(super, ":")
	if super == "" || !strings.HasPrefix(id.ID, name+":") {
		return proved, nil
	}
	err := s.c.logins.attempt(ctx, s.caller(), schemeSuper, func() error {
		// What is granted stays, so a digest that was replaced anywhere must not count
		// on a member that has not heard of it.
		st, err := s.c.root.readable(ctx, readOptions{linearizable: true})
		switch {
		case err != nil:
			return err
		case subtle.ConstantTimeCompare([]byte(id.ID), []byte(st.settings.superDigest)) == 0:
			return ErrAuthFailed
		}
		proved = append(proved, ID{Scheme: schemeSuper})
		return nil
	})
	if errors.Is(err, ErrAuthFailed) {
		s.c.audit(actAuthenticate, auditRefused, slog.String("session", s.id.String()), slog.String("scheme", schemeSuper))
		err = nil
	}
	return proved, err
}

// authenticatePlugIn has the authenticator of a scheme check a credential.
func (c *Coordinator) authenticatePlugIn(ctx context.Context, scheme string, credential []byte) ([]ID, error) {
	a := c.cfg.Authenticators[scheme]
	if a == nil {
		return nil, fmt.Errorf("%w: the scheme is unknown here", ErrAuthFailed)
	}
	proved, err := c.askAuthenticator(ctx, a, credential)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrAuthFailed, err)
	}
	var ids []ID
	for _, id := range proved {
		ids = append(ids, ID{scheme, id})
	}
	return ids, nil
}

// schemeForLog returns a scheme that is known, and nothing that a client has made up:
// some give the credential first.
func (c *Coordinator) schemeForLog(scheme string) string {
	if _, ok := c.cfg.Authenticators[scheme]; ok || builtInSchemes[scheme] {
		return scheme
	}
	return "unknown"
}

// maxCredentialBytes limits what [Session.AddAuth] takes: ten times what a token of
// any kind has.
const maxCredentialBytes = 64 << 10

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
		case id.Scheme == schemeUser && !validUserName(id.ID):
			return wrong("[%d]: %s", i, userNameFault(id.ID))
		case len(id.Scheme) > maxSchemeBytes:
			return wrong("[%d] has a scheme of %d bytes, the limit is %d", i, len(id.Scheme), maxSchemeBytes)
		case len(id.ID) > maxIDBytes:
			return wrong("[%d] has %d bytes, the limit is %d", i, len(id.ID), maxIDBytes)
		}
	}
	return append([]ID{}, o.Identities...), nil
}
