// Command secure runs three members over mutual TLS, with certificates made on the spot,
// and keeps a part of the tree for one user. It shows who gets in and who does not: two
// clients who have shown a password, one who has not, and two processes that come to the
// members' door as a member and are none.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coord"
	"coord/examples/internal/ensemble"
	"coord/internal/loopback"
	"coord/internal/pki"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "coord-secure-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	authority, err := pki.New(dir)
	if err != nil {
		return err
	}
	var last coord.Config
	members, closeAll, err := ensemble.Open(ctx, 3, func(cfg *coord.Config) error {
		cfg.TLS, err = tlsOf(authority, cfg.ID.String(), authority.CA)
		last = *cfg
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	fmt.Fprintf(out, "%d members over mutual TLS\n", len(members))

	if err := protect(ctx, members[0]); err != nil {
		return err
	}
	for i, credential := range []string{"ann:correct horse", "ben:battery staple", ""} {
		if err := visit(ctx, out, members[i], credential); err != nil {
			return err
		}
	}
	return knock(ctx, out, last, authority.CA)
}

// tlsOf makes a certificate for a member and returns what a Config takes. The member
// believes the authorities of the file trusted.
func tlsOf(authority *pki.Authority, name, trusted string) (*tls.Config, error) {
	cert, key, err := authority.Issue(name, net.IPv4(127, 0, 0, 1))
	if err != nil {
		return nil, err
	}
	return coord.TLSFiles{Cert: cert, Key: key, CA: trusted}.Config()
}

// protect makes a subtree that belongs to ann, and a znode that belongs to nobody
// outside: it is created without an ACL.
func protect(ctx context.Context, c *coord.Coordinator) error {
	ann := coord.ACL{Perms: coord.PermAll, ID: coord.DigestID("ann:correct horse")}
	for path, opts := range map[string][]coord.CreateOption{
		"/payroll/ann": {coord.WithACL(ann, coord.MembersACL()[0]), coord.WithParents()},
		"/internal":    nil,
	} {
		if _, _, err := c.Create(ctx, path, []byte("100 coins"), opts...); err != nil {
			return err
		}
	}
	return nil
}

// visit does what a server does for a client of its own: it opens a session for somebody
// outside, has the credential checked, and asks on the client's behalf.
func visit(ctx context.Context, out io.Writer, c *coord.Coordinator, credential string) (err error) {
	s, err := c.NewSession(ctx, coord.SessionOptions{External: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	name := "nobody"
	if credential != "" {
		name, _, _ = strings.Cut(credential, ":")
		if err := s.AddAuth(ctx, "digest", []byte(credential)); err != nil {
			return err
		}
	}
	for _, path := range []string{"/payroll/ann", "/internal"} {
		data, _, err := s.Get(ctx, path, coord.Linearizable())
		switch {
		case err == nil:
			fmt.Fprintf(out, "%s reads %s: %s\n", name, path, data)
		case errors.Is(err, coord.ErrNoAuth):
			fmt.Fprintf(out, "%s reads %s: %v\n", name, path, coord.ErrNoAuth)
		default:
			return err
		}
	}
	return nil
}

// knock has two processes come as the member of cfg: one with a certificate of an
// authority of its own, and one with none.
func knock(ctx context.Context, out io.Writer, cfg coord.Config, trusted string) (err error) {
	dir, err := os.MkdirTemp("", "coord-stranger-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	free, err := loopback.FreeAddrs(1) // the member itself has its own
	if err != nil {
		return err
	}
	cfg.Listen = free[0]
	cfg.Dir = filepath.Join(dir, "a")
	if cfg.TLS, err = forgedTLS(dir, trusted); err != nil {
		return err
	}
	if err := turnedAway(ctx, cfg, "unknown certificate authority"); err != nil {
		return err
	}
	fmt.Fprintln(out, "who comes as a member with another authority's certificate: refused")
	cfg.Dir, cfg.TLS, cfg.Insecure = filepath.Join(dir, "b"), nil, true
	if err := turnedAway(ctx, cfg, "speaks TLS only"); err != nil {
		return err
	}
	fmt.Fprintln(out, "who comes as a member without any: refused")
	return nil
}

// forgedTLS makes a certificate by an authority that only its owner believes, and
// believes the members'.
func forgedTLS(dir, trusted string) (*tls.Config, error) {
	authority, err := pki.New(dir)
	if err != nil {
		return nil, err
	}
	var both []byte
	for _, file := range []string{authority.CA, trusted} {
		ca, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		both = append(both, ca...)
	}
	believed := filepath.Join(dir, "believed.pem")
	if err := os.WriteFile(believed, both, 0o600); err != nil {
		return nil, err
	}
	return tlsOf(authority, "stranger", believed)
}

// turnedAway opens a member that must not be let in, for this reason.
func turnedAway(ctx context.Context, cfg coord.Config, reason string) (err error) {
	c, err := coord.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		health := c.Health()
		switch {
		case health == nil:
			return fmt.Errorf("member %v was let in", cfg.ID)
		case strings.Contains(health.Error(), reason):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("not refused for %q: %w", reason, health)
		}
		time.Sleep(10 * time.Millisecond) // nobody announces a change of Health
	}
}
