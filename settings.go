package coord

import (
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
)

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
