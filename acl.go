package coord

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"weak"
)

// A Perm is a set of permissions, as ZooKeeper numbers them.
type Perm uint32

// The permissions. None of them is inherited by children.
const (
	PermRead   Perm = 1 << iota // get data, children and ACL
	PermWrite                   // set data
	PermCreate                  // create children
	PermDelete                  // delete children
	PermAdmin                   // set the ACL
	PermAll    = PermRead | PermWrite | PermCreate | PermDelete | PermAdmin
)

// An ID is an identity: a caller has some, and an ACL entry names one. These are
// the schemes; ids of one scheme mean nothing to another.
//
//	world     "anyone" is everybody. In ACLs only.
//	ensemble  "member" is the code of every process that is a member: whatever
//	          calls a [Coordinator] without saying for whom.
//	user      a native user of the ensemble, by name, who has shown the password
//	          (see [Coordinator.SetUser]). The ACL holds no hash, and names nobody
//	          once the user was removed.
//	x509      the subject of a TLS client certificate, as RFC 2253 writes it.
//	digest    user:base64(sha1(user:password)), for clients of ZooKeeper.
//	ip        an address, which an ACL may give as a network in CIDR form.
//	auth      in an ACL stands for every identity that the caller has proved (not
//	          ip), and is expanded when the ACL is set.
//	super     passes every check. It is granted and never stands in an ACL.
//
// Those of [Config.Authenticators] come beside them.
type ID struct {
	Scheme string
	ID     string
}

// The schemes.
const (
	schemeWorld    = "world"
	schemeEnsemble = "ensemble"
	schemeUser     = "user"
	schemeX509     = "x509"
	schemeDigest   = "digest"
	schemeIP       = "ip"
	schemeAuth     = "auth"
	schemeSuper    = "super"
)

// builtInSchemes cannot be those of a plug-in authenticator. "sasl" is ZooKeeper's.
var builtInSchemes = map[string]bool{
	schemeWorld: true, schemeEnsemble: true, schemeUser: true, schemeX509: true,
	schemeDigest: true, schemeIP: true, schemeAuth: true, schemeSuper: true, "sasl": true,
}

var (
	anyone = ID{schemeWorld, "anyone"}

	// member is the identity of callers whose list of identities is nil: they are
	// code of the ensemble's own processes. Whoever is outside has a list, be it
	// empty.
	member = ID{schemeEnsemble, "member"}
)

// An ACL is one entry of a znode's access control list.
type ACL struct {
	Perms Perm
	ID    ID
}

// MembersACL lets the code of the ensemble's own processes do everything, and
// nobody else anything. It is the default of [Config.DefaultACL].
func MembersACL() []ACL { return []ACL{{PermAll, member}} }

// OpenACL lets everybody do everything. It is ZooKeeper's OPEN_ACL_UNSAFE.
func OpenACL() []ACL { return []ACL{{PermAll, anyone}} }

// ReadOnlyACL lets everybody read. It is ZooKeeper's READ_ACL_UNSAFE.
func ReadOnlyACL() []ACL { return []ACL{{PermRead, anyone}} }

// CreatorAllACL lets everyone who has an identity that the creator has proved do
// everything. It is ZooKeeper's CREATOR_ALL_ACL.
func CreatorAllACL() []ACL { return []ACL{{PermAll, ID{schemeAuth, ""}}} }

// Limits of an ACL.
const (
	maxACLEntries = 1024
	maxIDBytes    = 1024
)

// normalizeACL returns the list that is stored when list is set by a caller
// with the given identities: duplicates dropped, "auth" expanded. It is
// ZooKeeper's fixupACL.
func (set *settings) normalizeACL(list []ACL, identities []ID) ([]ACL, Code) {
	if len(list) == 0 || len(list) > maxACLEntries {
		return nil, ErrInvalidACL
	}
	out := make([]ACL, 0, len(list))
	add := func(a ACL) (fits bool) {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
		return len(out) <= maxACLEntries // expanding makes a short list long
	}
	for _, a := range list {
		if a.ID.Scheme != schemeAuth {
			if !set.validACLID(a.ID) || !add(a) {
				return nil, ErrInvalidACL
			}
			continue
		}
		expanded := false
		for _, id := range set.proved(identities) {
			if !add(ACL{a.Perms, id}) {
				return nil, ErrInvalidACL
			}
			expanded = true
		}
		if !expanded {
			return nil, ErrInvalidACL
		}
	}
	return out, codeOK
}

// proved returns those identities of a caller that "auth" stands for, as an ACL names
// them: not where it calls from, not what it was merely granted, and none that no ACL
// could name, such as one of a plug-in whose scheme is no setting: nobody would get at
// what it was made the owner of.
func (set *settings) proved(identities []ID) []ID {
	if identities == nil {
		return []ID{member}
	}
	var out []ID
	for _, id := range identities {
		id = id.inACL()
		if id.Scheme != schemeIP && (id.Scheme == schemeAuth || set.validACLID(id)) {
			out = append(out, id)
		}
	}
	return out
}

// validACLID reports whether id can stand in a stored ACL.
func (set *settings) validACLID(id ID) bool {
	if len(id.ID) > maxIDBytes {
		return false
	}
	switch id.Scheme {
	case schemeWorld:
		return id == anyone
	case schemeEnsemble:
		return id == member
	case schemeUser:
		return validUserName(id.ID)
	case schemeX509:
		return validDistinguishedName(id.ID)
	case schemeDigest:
		// Two parts, counted as Java's String.split counts them: empty ones at the
		// end are dropped.
		return strings.Count(strings.TrimRight(id.ID, ":"), ":") == 1
	case schemeIP:
		_, ok := parseNetwork(id.ID)
		return ok
	}
	return set.hasScheme(id.Scheme) && id.ID != ""
}

// parseNetwork parses an address, or a network in CIDR form.
func parseNetwork(s string) (netip.Prefix, bool) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err == nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// permits reports whether a caller with the given identities has one of the
// permissions in want. It is the only place that decides this, over a closed
// set of schemes.
func (s *state) permits(e *aclEntry, identities []ID, want Perm) bool {
	if e.world&want != 0 {
		return true
	}
	if identities == nil {
		return e.members&want != 0
	}
	for _, id := range identities {
		if id.Scheme == schemeSuper {
			return true
		}
		for _, a := range e.list {
			if a.Perms&want != 0 && s.matches(id, a.ID) {
				return true
			}
		}
	}
	return false
}

// matches reports whether the caller's identity is the one that an ACL entry
// names.
func (s *state) matches(have, entry ID) bool {
	if have.Scheme != entry.Scheme {
		return false
	}
	switch entry.Scheme {
	case schemeEnsemble, schemeX509, schemeDigest:
		return have.ID == entry.ID
	case schemeUser:
		return have.inACL() == entry && s.standing(have.ID)
	case schemeIP:
		network, ok := parseNetwork(entry.ID)
		addr, err := netip.ParseAddr(have.ID)
		return ok && err == nil && network.Contains(addr)
	}
	return s.settings.hasScheme(entry.Scheme) && have.ID == entry.ID
}

// redactACL returns list with the hashes of digest identities masked, as getACL
// shows it to callers without PermAdmin.
func redactACL(list []ACL) []ACL {
	out := make([]ACL, len(list))
	for i, a := range list {
		out[i] = ACL{a.Perms, a.ID.redacted()}
	}
	return out
}

// redacted returns id without what may be a password or the hash of one. Only in digest
// ids has a hash its place, but clients ask for others: ZooKeeper's send
// auth:name:password, of which the server is to ignore all but the scheme.
func (id ID) redacted() ID {
	name, _, cut := strings.Cut(id.ID, ":")
	switch {
	case id.Scheme == schemeAuth && id.ID != "":
		id.ID = "x"
	case cut && builtInSchemes[id.Scheme] && id.Scheme != schemeIP && id.Scheme != schemeX509:
		id.ID = name + ":x"
	}
	return id
}

// An aclEntry is an immutable ACL that any number of znodes share.
type aclEntry struct {
	canonical string // the list, encoded
	list      []ACL

	// What the list lets everybody do, and the code of members: most checks are
	// answered by these.
	world, members Perm
}

func newACLEntry(canonical string, list []ACL) *aclEntry {
	e := &aclEntry{canonical: canonical, list: list}
	for _, a := range list {
		switch a.ID {
		case anyone:
			e.world |= a.Perms
		case member:
			e.members |= a.Perms
		}
	}
	return e
}

// An aclTable finds the entry of a list that is in use, so that a million znodes
// with the same ACL store it once. It is no part of the replicated state: what it
// has forgotten or not yet forgotten changes no answer.
//
// It refers to entries weakly, so that a list which no znode has any more does not
// live on. Counting the znodes of each entry would cost every write to a znode with
// an ACL, and finding those in use would stop apply for a walk over the tree. As an
// entry is forgotten only when nothing refers to it, equal lists in one state still
// have one entry.
type aclTable struct {
	entries ordered[weakACL]
	sweepAt int // the number of entries that has those without a list dropped
}

// A weakACL is an entry of the table, under the list that it is of.
type weakACL struct {
	canonical string
	entry     weak.Pointer[aclEntry]
}

// leastSweep is the least number of entries that is worth a sweep.
const leastSweep = 256

func newACLTable() aclTable {
	return aclTable{entries: newOrdered(func(a, b weakACL) bool { return a.canonical < b.canonical }), sweepAt: leastSweep}
}

func (t *aclTable) freeze() aclTable { return aclTable{t.entries.freeze(), t.sweepAt} }

// intern returns the entry of list, which must not be changed afterwards.
func (t *aclTable) intern(list []ACL) *aclEntry {
	canonical := canonicalACL(list)
	if have, ok := t.entries.get(weakACL{canonical: canonical}); ok {
		if e := have.entry.Value(); e != nil {
			return e
		}
	}
	e := newACLEntry(canonical, list)
	t.entries.put(weakACL{canonical, weak.Make(e)})
	if t.entries.len() > t.sweepAt {
		t.sweep()
	}
	return e
}

// sweep drops the entries whose lists are gone. The next sweep is due when there
// are twice as many as it leaves, so its cost for each list is constant.
func (t *aclTable) sweep() {
	var gone []weakACL
	for w := range t.entries.all() {
		if w.entry.Value() == nil {
			gone = append(gone, w)
		}
	}
	for _, w := range gone {
		t.entries.remove(w)
	}
	t.sweepAt = max(2*t.entries.len(), leastSweep)
}

func canonicalACL(list []ACL) string {
	var b []byte
	for _, a := range list {
		b = binary.BigEndian.AppendUint32(b, uint32(a.Perms))
		b = binary.AppendUvarint(b, uint64(len(a.ID.Scheme)))
		b = append(b, a.ID.Scheme...)
		b = binary.AppendUvarint(b, uint64(len(a.ID.ID)))
		b = append(b, a.ID.ID...)
	}
	return string(b)
}
