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

// An ID is an identity: a caller has some, and an ACL entry names one.
//
// The schemes, as in ZooKeeper: "world" with the id "anyone" is everybody;
// "digest" has the id user:base64(sha1(user:password)); "ip" names an address
// or a network in CIDR form; "auth" in an ACL stands for every digest identity
// of the caller and is expanded when the ACL is set; "super" is granted by
// configuration alone and passes every check.
type ID struct {
	Scheme string
	ID     string
}

// An ACL is one entry of a znode's access control list.
type ACL struct {
	Perms Perm
	ID    ID
}

// OpenACL lets everybody do everything. It is ZooKeeper's OPEN_ACL_UNSAFE.
func OpenACL() []ACL { return []ACL{{PermAll, ID{"world", "anyone"}}} }

// ReadOnlyACL lets everybody read. It is ZooKeeper's READ_ACL_UNSAFE.
func ReadOnlyACL() []ACL { return []ACL{{PermRead, ID{"world", "anyone"}}} }

// CreatorAllACL lets everyone who has a digest identity of the creator do
// everything. It is ZooKeeper's CREATOR_ALL_ACL.
func CreatorAllACL() []ACL { return []ACL{{PermAll, ID{"auth", ""}}} }

// Limits of an ACL.
const (
	maxACLEntries = 1024
	maxIDBytes    = 1024
)

// normalizeACL returns the list that is stored when list is set by a caller
// with the given identities: duplicates dropped, "auth" expanded. It is
// ZooKeeper's fixupACL.
func normalizeACL(list []ACL, identities []ID) ([]ACL, Code) {
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
		if a.ID.Scheme != "auth" {
			if !validACLID(a.ID) || !add(a) {
				return nil, ErrInvalidACL
			}
			continue
		}
		expanded := false
		for _, id := range identities {
			if id.Scheme == "digest" {
				if !add(ACL{a.Perms, id}) {
					return nil, ErrInvalidACL
				}
				expanded = true
			}
		}
		if !expanded {
			return nil, ErrInvalidACL
		}
	}
	return out, codeOK
}

// validACLID reports whether id can stand in a stored ACL.
func validACLID(id ID) bool {
	if len(id.ID) > maxIDBytes {
		return false
	}
	switch id.Scheme {
	case "world":
		return id.ID == "anyone"
	case "digest":
		// Two parts, counted as Java's String.split counts them: empty ones at the
		// end are dropped.
		return strings.Count(strings.TrimRight(id.ID, ":"), ":") == 1
	case "ip":
		_, ok := parseNetwork(id.ID)
		return ok
	}
	return false
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
func (e *aclEntry) permits(identities []ID, want Perm) bool {
	for _, a := range e.list {
		if a.Perms&want != 0 && a.ID.Scheme == "world" {
			return true
		}
	}
	for _, id := range identities {
		if id.Scheme == "super" {
			return true
		}
		for _, a := range e.list {
			if a.Perms&want != 0 && matchesID(id, a.ID) {
				return true
			}
		}
	}
	return false
}

// matchesID reports whether the caller's identity is the one that an ACL entry
// names.
func matchesID(have, entry ID) bool {
	if have.Scheme != entry.Scheme {
		return false
	}
	switch entry.Scheme {
	case "digest":
		return have.ID == entry.ID
	case "ip":
		network, ok := parseNetwork(entry.ID)
		addr, err := netip.ParseAddr(have.ID)
		return ok && err == nil && network.Contains(addr)
	}
	return false
}

// redactACL returns list with the hashes of digest identities masked, as getACL
// shows it to callers without PermAdmin.
func redactACL(list []ACL) []ACL {
	out := make([]ACL, len(list))
	for i, a := range list {
		if user, _, ok := strings.Cut(a.ID.ID, ":"); ok && a.ID.Scheme == "digest" {
			a.ID.ID = user + ":x"
		}
		out[i] = a
	}
	return out
}

// An aclEntry is an immutable ACL that any number of znodes share.
type aclEntry struct {
	canonical string // the list, encoded
	list      []ACL
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
	entries   ordered[weakACL]
	openEntry *aclEntry
	sweepAt   int // the number of entries that has those without a list dropped
}

// A weakACL is an entry of the table, under the list that it is of.
type weakACL struct {
	canonical string
	entry     weak.Pointer[aclEntry]
}

// leastSweep is the least number of entries that is worth a sweep.
const leastSweep = 256

func newACLTable() aclTable {
	t := aclTable{entries: newOrdered(func(a, b weakACL) bool { return a.canonical < b.canonical }), sweepAt: leastSweep}
	t.openEntry = t.intern(OpenACL())
	return t
}

func (t *aclTable) freeze() aclTable { return aclTable{t.entries.freeze(), t.openEntry, t.sweepAt} }

// open returns the entry of OpenACL.
func (t *aclTable) open() *aclEntry { return t.openEntry }

// intern returns the entry of list, which must not be changed afterwards.
func (t *aclTable) intern(list []ACL) *aclEntry {
	canonical := canonicalACL(list)
	if have, ok := t.entries.get(weakACL{canonical: canonical}); ok {
		if e := have.entry.Value(); e != nil {
			return e
		}
	}
	e := &aclEntry{canonical: canonical, list: list}
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
