package coordtest

import "coord"

// Label returns the label of e's goroutines.
func (e *Ensemble) Label() string { return e.label }

// LieAboutDigests has each member show another digest, until the returned function is
// called.
func LieAboutDigests() (stop func()) {
	was := look
	look = func(c *coord.Coordinator) (tree, error) {
		t, err := was(c)
		t.digest[0] ^= byte(t.member)
		return t, err
	}
	return func() { look = was }
}
