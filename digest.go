package coord

import (
	"crypto/sha256"
	"encoding/hex"
)

// A Digest is a checksum of everything in one group that clients can see: the
// zxid, the znodes with their data, ACLs and stats, the sessions, the users and
// the ACL templates, and the mounts. Members at the same zxid have the same digest.
type Digest [sha256.Size]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// digest computes the digest of s. It walks everything. What moves without a
// zxid (touches, silence, group time, settings) is left out.
func (s *state) digest() Digest {
	h := sha256.New()
	e := newEncoder()
	e.format = s.format()
	flush := func() {
		h.Write(e.buf.Bytes())
		e.buf.Reset()
	}
	e.uint(uint64(s.version))
	e.uint(uint64(s.zxid))
	for ses := range s.sessions.byID.all() {
		e.uint(uint64(ses.id))
		e.int(ses.timeoutMS)
		e.bytes(ses.password[:])
		e.ids(ses.identities)
		e.uint(ses.generation)
		e.bool(ses.released)
		if ses.claim != nil {
			e.uint(ses.claim.generation)
		}
		flush()
	}
	for u := range s.users.byName.all() {
		e.user(u)
		flush()
	}
	for it := range s.templates.byPath.all() {
		e.template(it.t)
		flush()
	}
	if s.version >= formatMounts {
		e.string(s.serves.path)
		e.uint(uint64(s.serves.sealed))
		e.uint(s.mounts.given)
		for m := range s.mounts.all() {
			e.mount(m)
		}
		flush()
	}
	for it := range s.tree.nodes.all() {
		e.znode(it.key, it.node, 0)
		e.string(it.node.acl.canonical)
		flush()
	}
	return Digest(h.Sum(nil))
}
