package coord

import (
	"strings"
	"unicode/utf8"
)

// A user is a native user of the ensemble. It is immutable: an update puts a new
// one in its place.
type user struct {
	name string

	// hash is that of the password, as members make and check it before anything is
	// proposed. The state keeps it and never looks at it.
	hash secret

	// since is the zxid of the request that set the password. It is a part of the
	// identity that the password proves, which so means nothing any more when the
	// password was changed, or the user removed and another given its name.
	since ZXID
}

// A userTable holds the users of an ensemble, in the root group.
type userTable struct{ byName ordered[*user] }

func newUserTable() userTable {
	return userTable{byName: newOrdered(func(a, b *user) bool { return a.name < b.name })}
}

func (t *userTable) freeze() userTable { return userTable{t.byName.freeze()} }

func (t *userTable) get(name string) (*user, bool) { return t.byName.get(&user{name: name}) }

// Limits of users.
const (
	maxUsers         = 100_000
	maxUserNameBytes = 255
	maxHashBytes     = 1024
)

// validUserName reports whether name can be that of a user: some text without
// colons, which end the name in a credential, and without control characters.
func validUserName(name string) bool {
	if name == "" || len(name) > maxUserNameBytes || !utf8.ValidString(name) {
		return false
	}
	for _, r := range name {
		if r == ':' || r < ' ' || r == 0x7f {
			return false
		}
	}
	return true
}

// identity returns the one that the user's password proves: an ACL names the user,
// a caller also says since when.
func (u *user) identity() ID { return ID{schemeUser, u.name + ":" + u.since.String()} }

// inACL returns the identity as ACLs name it.
func (id ID) inACL() ID {
	if id.Scheme == schemeUser {
		id.ID, _, _ = strings.Cut(id.ID, ":")
	}
	return id
}

// standing reports whether a caller's identity of the scheme user still counts. One
// that a password has proved does as long as that password; one that somebody
// vouches for, who says no zxid, as long as there is a user of that name.
func (s *state) standing(id string) bool {
	name, since, proved := strings.Cut(id, ":")
	u, ok := s.users.get(name)
	return ok && (!proved || since == u.since.String())
}

// inForce returns a caller's identities but for those of users that do not count any
// more. A list stays one, be it empty: nil is somebody else.
func (s *state) inForce(identities []ID) []ID {
	for i, id := range identities {
		if id.Scheme != schemeUser || s.standing(id.ID) {
			continue
		}
		kept := append(make([]ID, 0, len(identities)), identities[:i]...)
		return append(kept, s.inForce(identities[i+1:])...)
	}
	return identities
}

// setUser puts a user into the table, or gives one another password.
func (x *execution) setUser() result {
	u := *x.r.user
	u.since = x.s.zxid
	_, exists := x.s.users.get(u.name)
	hash := u.hash.reveal()
	switch {
	case x.r.identities != nil:
		return x.refused(ErrNoAuth)
	case !validUserName(u.name) || hash == "":
		return x.refused(ErrBadArguments)
	case len(hash) > maxHashBytes, !exists && x.s.users.byName.len() >= maxUsers:
		return x.refused(ErrTooLarge)
	case !exists && x.s.growthRefused():
		return x.refused(ErrNoSpace)
	}
	x.s.users.byName.put(&u)
	x.s.decree()
	return result{zxid: x.s.zxid}
}

// removeUser takes a user out of the table.
func (x *execution) removeUser() result {
	u, exists := x.s.users.get(x.r.user.name)
	switch {
	case x.r.identities != nil:
		return x.refused(ErrNoAuth)
	case !exists:
		return x.refused(ErrNoUser)
	}
	x.s.users.byName.remove(u)
	x.s.decree()
	return result{zxid: x.s.zxid}
}

// refused is the result of a request that changes nothing.
func (x *execution) refused(code Code) result { return result{code: code, zxid: x.s.zxid} }
