package coordtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
)

// Credentials are what [TestAuthenticator] shows.
type Credentials struct {
	// Good are those that are accepted, each with the ids that it proves, in any order.
	Good map[string][]string

	// Bad are those that are refused. Empty, very long and random ones are tried beside.
	Bad []string

	_ struct{}
}

// authPatience is how long an authenticator may take, and go on when its context has
// ended.
const authPatience = 10 * time.Second

// TestAuthenticator tests a [coord.Authenticator]: good credentials prove just the
// ids that they are to prove, also when it is called concurrently; all others are
// errors; no error holds the credential; none is kept, or changed; it returns when its context has ended, and
// never panics. Then a session of an ensemble shows the credentials, and gets at a znode
// whose ACL names the ids, or does not.
func TestAuthenticator(tb testing.TB, a coord.Authenticator, creds Credentials) {
	tb.Helper()
	if a == nil || len(creds.Good) == 0 || len(creds.Bad) == 0 {
		tb.Fatalf("coordtest: TestAuthenticator needs an authenticator, and credentials to show: %d good and %d bad ones were given", len(creds.Good), len(creds.Bad))
	}
	for credential, want := range creds.Good {
		if err := proves(tb.Context(), a, credential, want); err != nil {
			tb.Errorf("coordtest: authenticator: good credential %q: %v", credential, err)
		}
	}
	bad := append(slices.Clone(creds.Bad), "", strings.Repeat("x", 64<<10), "\x00\xff\xfe", "%s%n", "a:b:c")
	for _, credential := range bad {
		if _, good := creds.Good[credential]; good {
			continue
		}
		if err := refuses(tb.Context(), a, credential); err != nil {
			tb.Errorf("coordtest: authenticator: bad credential %q: %v", cutData([]byte(credential)), err)
		}
	}
	if err := provesAtOnce(tb.Context(), a, creds.Good); err != nil {
		tb.Errorf("coordtest: authenticator: called concurrently: %v", err)
	}
	over, cancel := context.WithCancel(tb.Context())
	cancel()
	for credential := range creds.Good {
		if _, err := authenticate(over, a, []byte(credential)); errors.Is(err, errNoAnswer) || errors.Is(err, errPanic) {
			tb.Errorf("coordtest: authenticator: with a context that has ended: %v", err)
		}
	}
	if err := throughSession(tb, a, creds); err != nil {
		tb.Errorf("coordtest: authenticator: in an ensemble: %v", err)
	}
}

var errNoAnswer = fmt.Errorf("it did not return within %v", authPatience)

// authenticate asks a, with panics as errors, and does not wait for ever.
func authenticate(ctx context.Context, a coord.Authenticator, credential []byte) ([]string, error) {
	type answer struct {
		ids []string
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		var got answer
		defer func() { answered <- got }()
		defer recovered(&got.err)
		got.ids, got.err = a.Authenticate(ctx, credential)
	}()
	timer := time.NewTimer(authPatience)
	defer timer.Stop()
	select {
	case got := <-answered:
		return got.ids, got.err
	case <-timer.C:
		return nil, errNoAnswer
	}
}

// proves returns why a credential does not prove just the given ids.
func proves(ctx context.Context, a coord.Authenticator, credential string, want []string) error {
	given := []byte(credential)
	got, err := authenticate(ctx, a, given)
	if err != nil {
		return fmt.Errorf("it is refused: %w", err)
	}
	if !bytes.Equal(given, []byte(credential)) {
		return errors.New("the credential was changed")
	}
	clear(given) // an authenticator that has kept it would be wrong from now on
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		return fmt.Errorf("it proves %q, want %q", got, want)
	}
	if len(got) == 0 || slices.Contains(got, "") {
		return fmt.Errorf("it proves %q: there must be an id, and none may be empty", got)
	}
	return nil
}

// refuses returns why a credential is not refused as it must be.
func refuses(ctx context.Context, a coord.Authenticator, credential string) error {
	ids, err := authenticate(ctx, a, []byte(credential))
	switch {
	case err == nil:
		return fmt.Errorf("it is accepted, and proves %q", ids)
	case errors.Is(err, errPanic), errors.Is(err, errNoAnswer):
		return err
	case len(credential) > 1 && strings.Contains(err.Error(), credential):
		return fmt.Errorf("the error holds it, and goes into the audit log: %.200v", err) //nolint:errorlint // it holds a credential, and is shown cut short
	}
	return nil
}

func provesAtOnce(ctx context.Context, a coord.Authenticator, good map[string][]string) error {
	var asking sync.WaitGroup
	errs := make([]error, 8)
	for n := range errs {
		asking.Go(func() {
			for credential, want := range good {
				if err := proves(ctx, a, credential, want); err != nil {
					errs[n] = fmt.Errorf("%q: %w", credential, err)
				}
			}
		})
	}
	asking.Wait()
	return errors.Join(errs...)
}

// throughSession has sessions show credentials, each to get at a znode that names what
// it proves.
func throughSession(tb testing.TB, a coord.Authenticator, creds Credentials) error {
	tb.Helper()
	const scheme = "under-test"
	ctx := tb.Context()
	c := New(tb, WithConfig(func(cfg *coord.Config) { cfg.Authenticators = map[string]coord.Authenticator{scheme: a} }))
	n := 0
	for credential, ids := range creds.Good {
		n++
		path := fmt.Sprintf("/secret-%d", n)
		acl := []coord.ACL{{Perms: coord.PermRead, ID: coord.ID{Scheme: scheme, ID: ids[0]}}}
		if _, _, err := c.Create(ctx, path, nil, coord.WithACL(acl...)); err != nil {
			return err
		}
		s, err := c.NewSession(ctx, coord.SessionOptions{External: true})
		if err != nil {
			return err
		}
		if _, _, err := s.Get(ctx, path); !errors.Is(err, coord.ErrNoAuth) {
			return fmt.Errorf("a session that has shown nothing reads what is for %q: %w", ids[0], err)
		}
		if err := s.AddAuth(ctx, scheme, []byte(creds.Bad[0])); !errors.Is(err, coord.ErrAuthFailed) {
			return fmt.Errorf("AddAuth with %q: %w, want ErrAuthFailed", creds.Bad[0], err)
		}
		if err := s.AddAuth(ctx, scheme, []byte(credential)); err != nil {
			return fmt.Errorf("AddAuth with %q: %w", credential, err)
		}
		if _, _, err := s.Get(ctx, path); err != nil {
			return fmt.Errorf("a session that has proved %q: %w", ids, err)
		}
	}
	return nil
}
