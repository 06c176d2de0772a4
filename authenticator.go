package coord

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxAuthenticating is how many calls of authenticators may be under way on one
// member. One that does not return keeps its place, so that a plug-in which hangs ends
// in credentials that are not accepted, and not in goroutines without number.
const maxAuthenticating = 256

// askAuthenticator asks a plug-in, which is code of the host program: it may be slow,
// panic, or never return. It is waited for until ctx ends; the goroutine that it runs
// in is not, or Close would hang with it.
func (c *Coordinator) askAuthenticator(ctx context.Context, a Authenticator, credential []byte) ([]string, error) {
	select {
	case c.authenticating <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	answer := make(chan proof, 1)
	given := slices.Clone(credential)
	go func() {
		p := proof{err: errors.New("the authenticator ended its goroutine")}
		defer func() {
			if v := recover(); v != nil {
				p = proof{err: errors.New("the authenticator panicked")} // with what may be the credential
			}
			answer <- p
			<-c.authenticating
		}()
		p.ids, p.err = a.Authenticate(ctx, given)
	}()
	select {
	case p := <-answer:
		return p.ids, p.fault(string(credential))
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// A proof is what an authenticator says of a credential.
type proof struct {
	ids []string
	err error
}

// fault returns why the proof is none, or nil. An authenticator's own words must not
// carry the credential into the log.
func (p proof) fault(credential string) error {
	switch {
	case p.err != nil && credential != "" && strings.Contains(p.err.Error(), credential):
		return errors.New("the authenticator returned an error that holds the credential")
	case p.err != nil:
		return p.err
	case len(p.ids) == 0:
		return errors.New("the authenticator returned neither an id nor an error")
	case slices.Contains(p.ids, ""):
		return fmt.Errorf("the authenticator returned %d ids, an empty one among them", len(p.ids))
	}
	return nil
}
