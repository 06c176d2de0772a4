package coord

import "unicode/utf8"

// A user is a native user of the ensemble. It is immutable: an update puts a new
// one in its place.
type user struct{ name string }

// A userTable holds the users of an ensemble, in the root group.
type userTable struct{ byName ordered[*user] }

func newUserTable() userTable {
	return userTable{byName: newOrdered(func(a, b *user) bool { return a.name < b.name })}
}

func (t *userTable) freeze() userTable { return userTable{t.byName.freeze()} }

func (t *userTable) get(name string) (*user, bool) { return t.byName.get(&user{name: name}) }

// hasUser reports whether there is a user of that name.
func (s *state) hasUser(name string) bool {
	_, ok := s.users.get(name)
	return ok
}

// maxUserNameBytes is the longest name of a user.
const maxUserNameBytes = 255

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
