package coord

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// settings are what a group decides by and its members must agree on. They are
// part of the state: apply reads these and never a member's [Config].
type settings struct {
	maxDataBytes        int64 // of one znode
	minSessionTimeoutMS int64
	maxSessionTimeoutMS int64
	ttlNodes            bool
	enforceQuotas       bool  // hard quotas refuse; otherwise they warn, as soft ones do
	maxEphemerals       int64 // of one session; 0 is no limit

	// defaultACL is that of a znode which is created without one.
	defaultACL []ACL

	// superDigest is the digest identity that is granted "super" as well; empty is
	// none.
	superDigest string

	// schemes are those of plug-in authenticators, sorted. An ACL may name their
	// identities, which are compared as text.
	schemes []string
}

// clampTimeout returns the timeout that a session is granted.
func (set *settings) clampTimeout(ms int64) int64 {
	return min(max(ms, set.minSessionTimeoutMS), set.maxSessionTimeoutMS)
}

// hasScheme reports whether scheme is one of a plug-in authenticator.
func (set *settings) hasScheme(scheme string) bool {
	_, found := slices.BinarySearch(set.schemes, scheme)
	return found
}

// Limits of settings.
const (
	maxSchemes     = 64
	maxSchemeBytes = 64

	maxMaxDataBytes       = 16 << 20
	leastSessionTimeoutMS = 2 * 50 // twice the least election timeout
	mostSessionTimeoutMS  = 365 * 24 * 60 * 60 * 1000
)

// fault says what is wrong with settings, or nothing.
func (set *settings) fault() string {
	switch {
	case set.maxDataBytes < 1 || set.maxDataBytes > maxMaxDataBytes:
		return fmt.Sprintf("MaxDataBytes %d is not between 1 and %d", set.maxDataBytes, maxMaxDataBytes)
	case set.minSessionTimeoutMS < leastSessionTimeoutMS:
		return fmt.Sprintf("MinSessionTimeout %d ms is less than %d ms", set.minSessionTimeoutMS, leastSessionTimeoutMS)
	case set.maxSessionTimeoutMS < set.minSessionTimeoutMS || set.maxSessionTimeoutMS > mostSessionTimeoutMS:
		return fmt.Sprintf("MaxSessionTimeout %d ms is not between MinSessionTimeout, %d ms, and %d ms",
			set.maxSessionTimeoutMS, set.minSessionTimeoutMS, mostSessionTimeoutMS)
	case set.maxEphemerals < 0:
		return fmt.Sprintf("MaxEphemerals %d is negative", set.maxEphemerals)
	case set.superDigest != "" && !set.validACLID(ID{schemeDigest, set.superDigest}):
		return "SuperDigest is not of the form user:base64(sha1(user:password))"
	case len(set.defaultACL) > maxACLEntries:
		return fmt.Sprintf("DefaultACL has %d entries, the limit is %d", len(set.defaultACL), maxACLEntries)
	case len(set.schemes) > maxSchemes:
		return fmt.Sprintf("%d Schemes, the limit is %d", len(set.schemes), maxSchemes)
	}
	for i, scheme := range set.schemes {
		if !validScheme(scheme) || i > 0 && set.schemes[i-1] >= scheme {
			return fmt.Sprintf("Schemes: %q is not 1 to %d lower-case letters, digits and hyphens, or is taken", cutText(scheme), maxSchemeBytes)
		}
	}
	for i, a := range set.defaultACL {
		if !set.validACLID(a.ID) {
			return fmt.Sprintf("DefaultACL[%d] has an identity of the scheme %q that cannot stand there", i, cutText(a.ID.Scheme))
		}
	}
	return ""
}

// equal reports whether two records have the same encoding.
func (set *settings) equal(other *settings) bool {
	a, b := newEncoder(), newEncoder()
	a.settings(set)
	b.settings(other)
	return bytes.Equal(a.buf.Bytes(), b.buf.Bytes())
}

// A settingsChange is a compare-and-set on all settings.
type settingsChange struct{ from, to settings }

// changeSettings puts other settings into force, if those are in force that the caller
// has seen. It decides nothing about what exists: data that is larger than the new
// limit stays, and so do the timeouts of sessions and the ACLs of znodes.
func (x *execution) changeSettings() result {
	c := x.r.change
	switch {
	case x.r.identities != nil:
		return x.refused(ErrNoAuth)
	case !c.from.equal(&x.s.settings):
		return x.refused(ErrBadVersion)
	case c.to.fault() != "":
		return x.refused(ErrBadArguments)
	}
	x.s.setSettings(c.to)
	x.s.decree()
	return result{zxid: x.s.zxid}
}

// validScheme reports whether a plug-in authenticator may be for scheme: lower-case
// letters, digits and hyphens, and none of coord's own.
func validScheme(scheme string) bool {
	if scheme == "" || len(scheme) > maxSchemeBytes || builtInSchemes[scheme] {
		return false
	}
	return strings.IndexFunc(scheme, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}) < 0
}

// setSettings puts settings into force.
func (s *state) setSettings(set settings) {
	if len(set.defaultACL) == 0 {
		set.defaultACL = MembersACL()
	}
	s.settings = set
	s.defaultACL = s.acls.intern(set.defaultACL)
}
