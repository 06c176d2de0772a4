package coord

import "unique"

// A secret is a text that printing does not show. A struct with a secret in a field
// that is not exported is printed without asking any methods; what is found then is
// a pointer to a string, which no verb follows. Equal secrets are equal as values.
type secret struct{ handle unique.Handle[string] }

func conceal(text string) secret { return secret{unique.Make(text)} }

// reveal returns the text. That of the zero secret is empty.
func (s secret) reveal() string {
	if s == (secret{}) {
		return ""
	}
	return s.handle.Value()
}

// newSecret conceals the password of a session.
func newSecret(password [16]byte) secret { return conceal(string(password[:])) }

func (s secret) bytes() (password [16]byte) {
	copy(password[:], s.reveal())
	return password
}
