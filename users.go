package coord

import (
	"context"
	"fmt"
	"strings"
)

// maxPasswordBytes is what bcrypt makes use of: it would ignore the rest.
const maxPasswordBytes = 72

// SetUser makes a native user of the ensemble, or gives one another password. Clients
// prove who they are with [Session.AddAuth] and the scheme "user", on any member, and
// ACLs name them as ID{"user", name}.
//
// A name has 1 to 255 bytes of UTF-8 without colons and control characters, a password
// 1 to 72 bytes without the byte 0. What the ensemble keeps is a salted bcrypt hash of
// the password, in its state and so in the log and the snapshots of every member, which
// are in a directory that nobody but the process's own user may enter. No call returns
// the hash.
//
// Whoever has shown the old password has lost what it proved, on every member, in every
// session and watch, as of this write; so a password that was stolen is worthless from
// then on. Only code of the members can set users: there is no operation for it that a
// client of a server could send.
//
// Errors: [ErrBadArguments] (name, password), [ErrTooLarge] beyond 100000 users,
// [ErrNoSpace] for a new one, and those of every write, see [Client].
func (c *Coordinator) SetUser(ctx context.Context, name, password string) error {
	fail := func(err error, detail string) error { return &OpError{Op: "setUser", Err: err, Detail: detail} }
	if fault := passwordFault(password); fault != "" {
		return fail(ErrBadArguments, fault)
	}
	if !validUserName(name) {
		return fail(ErrBadArguments, userNameFault(name))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel() // of hashing and writing together
	hash, err := c.hashing.hash(ctx, password)
	if err == nil {
		err = c.govern(ctx, request{kind: requestSetUser, user: &user{name: name, hash: conceal(string(hash))}})
	}
	if err != nil {
		return fail(err, fmt.Sprintf("user %q", name))
	}
	return nil
}

// RemoveUser removes a native user. From this write on its name stands for nobody, on
// every member, in every session and watch that is open: what ACLs let it do, it may
// not any more. ACLs keep the name, and a user who is given it later has what they
// grant.
//
// Errors: [ErrNoUser], and those of every write, see [Client].
func (c *Coordinator) RemoveUser(ctx context.Context, name string) error {
	err := error(ErrNoUser)
	if validUserName(name) { // any other name, however long, is nobody's
		err = c.govern(ctx, request{kind: requestRemoveUser, user: &user{name: name}})
	}
	if err != nil {
		return &OpError{Op: "removeUser", Err: err, Detail: userNameFault(name)}
	}
	return nil
}

// Users returns the names of the native users as this member knows them, sorted by
// bytes. It fails with [ErrSuspended].
func (c *Coordinator) Users(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	s, err := c.root.readable(ctx, readOptions{})
	if err != nil {
		return nil, &OpError{Op: "users", Err: err}
	}
	names := make([]string, 0, s.users.byName.len())
	for u := range s.users.byName.all() {
		names = append(names, u.name)
	}
	return names, nil
}

// userNameFault quotes a name, and says what is wrong with it if it cannot be that of
// a user.
func userNameFault(name string) string {
	if validUserName(name) {
		return fmt.Sprintf("user %q", name)
	}
	return fmt.Sprintf("the name %q is not 1 to %d bytes of UTF-8 without colons and control characters", cutText(name), maxUserNameBytes)
}

// passwordFault says what is wrong with a password, without a part of it, or nothing.
func passwordFault(text string) string {
	switch {
	case text == "":
		return "the password is empty"
	case len(text) > maxPasswordBytes:
		return fmt.Sprintf("a password of %d bytes, the limit is %d", len(text), maxPasswordBytes)
	case strings.Contains(text, "\x00"):
		return "the password has the byte 0, with which bcrypt ends it"
	}
	return ""
}

// authenticateUser checks a credential of the form name:password. It reads what was
// acknowledged anywhere before: a user who was just set is known here, and one who was
// just removed is not.
//
// Every credential costs the same work.
func (c *Coordinator) authenticateUser(ctx context.Context, credential []byte) ([]ID, error) {
	s, err := c.root.readable(ctx, readOptions{linearizable: true})
	if err != nil {
		return nil, err
	}
	name, password, named := strings.Cut(string(credential), ":")
	u, exists := s.users.get(name)
	hash := c.hashing.nobodys
	if exists {
		hash = u.hash.reveal()
	}
	fault := passwordFault(password)
	matches, err := c.hashing.matches(ctx, hash, password)
	switch {
	case err != nil:
		return nil, err
	case !named: // what there is may be the password
		return nil, fmt.Errorf("%w: the credential is not of the form name:password", ErrAuthFailed)
	case !exists || !matches || fault != "":
		return nil, fmt.Errorf("%w: user %q", ErrAuthFailed, cutText(name))
	}
	return []ID{u.identity()}, nil
}
