package coord

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"
)

// Limits of passwords.
const (
	// maxPasswordBytes is what bcrypt makes use of: it would ignore the rest.
	maxPasswordBytes = 72

	// passwordCost is the binary logarithm of bcrypt's rounds. 10 takes about 75 ms of
	// one core, and is the least that OWASP's Password Storage Cheat Sheet recommends.
	// Each more would double what a password costs whoever has stolen the hashes, but
	// also how long clients wait that all come to this member when another has died:
	// they show their passwords anew with every connection.
	passwordCost = 10
)

// nobodysHash is what the passwords of users that do not exist are compared with, so
// that the time of the answer tells nobody who exists. It is of the same cost.
const nobodysHash = "$2a$10$sQIOONFoBTI.l1GHMsFHIeAL9yv1JOJh8bLInUiWC3HFI7TsZ/uOG"

// newHashing returns what bounds the passwords that a member hashes at a time, to a
// quarter of the process's cores: a flood of logins leaves the rest to its work.
func newHashing() *semaphore.Weighted {
	return semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/4)))
}

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
	var hash []byte
	err := c.hashes(ctx, func() (err error) {
		hash, err = bcrypt.GenerateFromPassword([]byte(password), passwordCost)
		return err
	})
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
	if err := c.govern(ctx, request{kind: requestRemoveUser, user: &user{name: name}}); err != nil {
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

// hashes does some hashing when it is this caller's turn.
func (c *Coordinator) hashes(ctx context.Context, do func() error) error {
	if err := c.hashing.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer c.hashing.Release(1)
	return do()
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
	name, password, _ := strings.Cut(string(credential), ":")
	u, exists := s.users.get(name)
	hash := nobodysHash
	if exists {
		hash = u.hash.reveal()
	}
	fault := passwordFault(password)
	var mismatch error
	err = c.hashes(ctx, func() error {
		mismatch = bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case !exists || mismatch != nil || fault != "":
		return nil, fmt.Errorf("%w: user %q", ErrAuthFailed, cutText(name))
	}
	return []ID{u.identity()}, nil
}
