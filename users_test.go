package coord_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/private"
)

// external opens a session for somebody outside.
func external(t *testing.T, c *coord.Coordinator, ids ...coord.ID) *coord.Session {
	t.Helper()
	s, err := c.NewSession(t.Context(), coord.SessionOptions{External: true, Identities: ids})
	if err != nil {
		t.Fatalf("NewSession(%v) = %v", ids, err)
	}
	return s
}

func login(t *testing.T, s *coord.Session, credential string) {
	t.Helper()
	if err := s.AddAuth(t.Context(), "user", []byte(credential)); err != nil {
		t.Fatalf("AddAuth = %v", err)
	}
}

func setUser(t *testing.T, c *coord.Coordinator, name, password string) {
	t.Helper()
	if err := c.SetUser(t.Context(), name, password); err != nil {
		t.Fatalf("SetUser(%s) = %v", name, err)
	}
}

// mayRead says whether c reads a path; any error but ErrNoAuth is the test's.
func mayRead(t *testing.T, c coord.Client, path string) bool {
	t.Helper()
	_, _, err := c.Get(t.Context(), path, coord.Linearizable())
	if err != nil && !errors.Is(err, coord.ErrNoAuth) {
		t.Fatalf("Get(%s) = %v", path, err)
	}
	return err == nil
}

var evesACL = coord.ACL{Perms: coord.PermAll, ID: coord.ID{Scheme: "user", ID: "eve"}}

// TestUsersAreOfTheEnsemble sets a user on one member, who logs in on another and
// watches on a third, and loses everything everywhere as soon as it is removed.
func TestUsersAreOfTheEnsemble(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	a, b, c := e.Member(1), e.Member(2), e.Member(3)
	setUser(t, a, "eve", "correct horse")
	setUser(t, b, "bob", "battery staple")
	if err := c.Sync(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	if names, err := c.Users(t.Context()); err != nil || !slices.Equal(names, []string{"bob", "eve"}) {
		t.Errorf("Users = %q, %v, want bob and eve", names, err)
	}
	mustCreate(t, a, "/eve", "secret", coord.WithACL(evesACL))

	s := external(t, b)
	if mayRead(t, s, "/eve") {
		t.Error("a session without identities reads what is a user's")
	}
	login(t, s, "eve:correct horse")
	if got, want := s.Identities(), []coord.ID{{Scheme: "user", ID: "eve"}}; !slices.Equal(got, want) {
		t.Errorf("Identities = %v, want %v", got, want)
	}
	if data, _ := mustGet(t, s, "/eve", coord.Linearizable()); data != "secret" {
		t.Errorf("the user reads %q", data)
	}
	mustCreate(t, s, "/eve/mine", "", coord.WithACL(coord.CreatorAllACL()...))
	if list, _, err := s.ACL(t.Context(), "/eve/mine"); err != nil || !slices.Equal(list, []coord.ACL{evesACL}) {
		t.Errorf("ACL = %v, %v, want %v: auth stands for the user's name", list, err, evesACL)
	}

	// What everybody may read is told behind what only some may.
	mustCreate(t, a, "/t", "", coord.WithACL(append(coord.ReadOnlyACL(), coord.MembersACL()...)...))
	bobsACL := coord.ACL{Perms: coord.PermRead, ID: coord.ID{Scheme: "user", ID: "bob"}}
	mustCreate(t, a, "/t/log", "", coord.WithACL(append(coord.MembersACL(), evesACL, bobsACL)...))
	if err := c.Sync(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	watches := map[string]*coord.Watch{}
	for _, credential := range []string{"eve:correct horse", "bob:battery staple"} {
		ws := external(t, c)
		login(t, ws, credential)
		w, err := ws.Watch(t.Context(), "/t", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		watches[credential[:3]] = w
	}
	tell := func() {
		t.Helper()
		for _, path := range []string{"/t/log", "/t"} {
			if _, err := a.SetData(t.Context(), path, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := func(name string, want ...string) {
		t.Helper()
		for _, path := range want {
			if ev := <-watches[name].C(); ev.Path != path {
				t.Errorf("the watch of %s is told %v, want %s", name, ev, path)
			}
		}
	}
	tell()
	told("eve", "/t/log", "/t")
	told("bob", "/t/log", "/t")
	if err := a.RemoveUser(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetData(t.Context(), "/t/log", nil); !errors.Is(err, coord.ErrNoAuth) {
		t.Errorf("SetData of a user that was removed = %v, want ErrNoAuth", err)
	}
	if mayRead(t, s, "/eve") {
		t.Error("a user that was removed still reads")
	}
	tell()
	told("eve", "/t")
	told("bob", "/t/log", "/t")
	if err := a.RemoveUser(t.Context(), "eve"); !errors.Is(err, coord.ErrNoUser) {
		t.Errorf("RemoveUser of nobody = %v, want ErrNoUser", err)
	}
}

// TestNewPasswordEndsOldLogins sees that a password proves something only as long as it
// is the user's, whatever was done with the name meanwhile.
func TestNewPasswordEndsOldLogins(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	a, b := e.Member(1), e.Member(2)
	setUser(t, a, "eve", "first")
	mustCreate(t, a, "/eve", "secret", coord.WithACL(evesACL))
	old, vouched := external(t, b), external(t, b, coord.ID{Scheme: "user", ID: "eve"})
	login(t, old, "eve:first")
	for _, change := range []struct {
		password string
		remove   bool
	}{{"second", false}, {"second", false}, {"second", true}} {
		if change.remove {
			if err := a.RemoveUser(t.Context(), "eve"); err != nil {
				t.Fatal(err)
			}
			if mayRead(t, vouched, "/eve") {
				t.Error("who is vouched for as a user that was removed reads")
			}
		}
		setUser(t, a, "eve", change.password)
		if mayRead(t, old, "/eve") {
			t.Errorf("who has shown the old password still reads after %+v", change)
		}
		if err := old.AddAuth(t.Context(), "user", []byte("eve:first")); !errors.Is(err, coord.ErrAuthFailed) {
			t.Errorf("AddAuth with the old password = %v, want ErrAuthFailed", err)
		}
		login(t, old, "eve:"+change.password)
		if !mayRead(t, old, "/eve") || !mayRead(t, vouched, "/eve") {
			t.Errorf("who has shown the new password, or is vouched for, does not read after %+v", change)
		}
		if ids := old.Identities(); len(ids) != 1 {
			t.Errorf("Identities = %v, want one", ids)
		}
	}
}

// TestLimitsOfUsers sees that limits are asked for by the identity that ACLs name.
func TestLimitsOfUsers(t *testing.T) {
	eve := evesACL.ID
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) {
		c.IdentityLimits = func(id coord.ID) (coord.Limits, bool) { return coord.Limits{Watches: 1}, id == eve }
	}))
	c := e.Member(1)
	for i, password := range []string{"first", "second"} {
		setUser(t, c, "eve", password)
		s := external(t, c)
		login(t, s, "eve:"+password)
		_, err := s.Watch(t.Context(), "/", coord.Node)
		if want := i > 0; errors.Is(err, coord.ErrLimitExceeded) != want {
			t.Errorf("watch %d of the user = %v, want over the limit: %v", i+1, err, want)
		}
	}
}

// TestUsersOutliveTheirMembers restarts an ensemble from its log and from snapshots.
func TestUsersOutliveTheirMembers(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	setUser(t, e.Member(1), "eve", "correct horse")
	mustCreate(t, e.Member(1), "/eve", "", coord.WithACL(evesACL))
	for round, snapshot := range []bool{false, true} {
		if snapshot {
			setUser(t, e.Member(1), "bob", "battery staple")
			e.Converged(t.Context())
			for _, m := range e.Running() {
				if err := private.Snapshot(m); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, m := range e.Running() {
			e.Kill(m)
		}
		for i := range 3 {
			e.Restart(e.Member(i + 1))
		}
		for i := range 3 {
			if err := e.Member(i + 1).Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := external(t, e.Member(i+1))
			login(t, s, "eve:correct horse")
			if !mayRead(t, s, "/eve") {
				t.Errorf("round %d: the user does not read on member %d", round, i+1)
			}
		}
	}
}

// TestSetUserUnknownOutcome cuts the member off that was asked to set a user.
func TestSetUserUnknownOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		cut := e.Leader(t.Context())
		e.Isolate(cut)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := cut.SetUser(ctx, "eve", "correct horse")
		unknown, ok := errors.AsType[*coord.OutcomeError](err)
		if !ok || !errors.Is(err, coord.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("SetUser without a quorum = %v, want an unknown outcome", err)
		}
		e.Heal()
		if err := unknown.Outcome(t.Context()); err != nil {
			t.Errorf("Outcome = %v", err)
		}
		login(t, external(t, e.Follower(t.Context())), "eve:correct horse")
	})
}

// TestLoginsSeeWhatWasAcknowledged asks a member that has not heard of a user: it does
// not say no.
func TestLoginsSeeWhatWasAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		late := e.Follower(t.Context())
		s := external(t, late)
		e.Isolate(late)
		setUser(t, e.Leader(t.Context()), "eve", "correct horse")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.AddAuth(ctx, "user", []byte("eve:correct horse")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, coord.ErrAuthFailed) {
			t.Errorf("AddAuth = %v, want that its context ended", err)
		}
		e.Heal()
		login(t, s, "eve:correct horse")
	})
}

func TestBadUsers(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	const password = "S3cr3t-that-is-nowhere"
	for _, test := range []struct {
		name, password string
		says           string
	}{
		{"", password, "255 bytes"},
		{"a:b", password, `"a:b"`},
		{"a\nb", password, `"a\nb"`},
		{"\xff", password, "UTF-8"},
		{strings.Repeat("e", 256), password, "255 bytes"},
		{"eve", "", "empty"},
		{"eve", password + strings.Repeat("!", 73-len(password)), "73 bytes, the limit is 72"},
		{"eve", password + "\x00", "byte 0"},
	} {
		err := c.SetUser(t.Context(), test.name, test.password)
		if !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), password) {
			t.Errorf("SetUser(%q, %d bytes) = %v, want ErrBadArguments that says %q", test.name, len(test.password), err, test.says)
		}
	}
	setUser(t, c, strings.Repeat("é", 127), password+strings.Repeat("!", 72-len(password)))
	setUser(t, c, "eve", password)
	s := external(t, c)
	for _, credential := range []string{
		"", ":", "eve", "eve:", ":" + password, "eve: " + password, "eve:" + password + "\x00", "eve:" + password + "\x00" + password, "Eve:" + password,
		"bob:" + password, "eve:" + strings.ToLower(password), "eve:" + password + strings.Repeat("!", 100),
		"é:" + password, "bob:nobody has this password, nobody at all", strings.Repeat("é", 127) + ":" + password,
		strings.Repeat("é", 127) + ":" + password + strings.Repeat("!", 73-len(password)), // the same in its first 72 bytes
	} {
		// A session of its own, so that none is slowed.
		if err := external(t, c).AddAuth(t.Context(), "user", []byte(credential)); !errors.Is(err, coord.ErrAuthFailed) || strings.Contains(err.Error(), password) {
			t.Errorf("AddAuth(%q) = %v, want ErrAuthFailed", credential, err)
		}
	}
	login(t, s, "eve:"+password)
	view, err := c.View(t.Context(), coord.Linearizable())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a:b", "\xff", strings.Repeat("e", 256), strings.Repeat("e", 1<<20)} {
		if err := c.RemoveUser(t.Context(), name); !errors.Is(err, coord.ErrNoUser) || !strings.Contains(err.Error(), "255 bytes") || len(err.Error()) > 500 {
			t.Errorf("RemoveUser(%.20q) = %.600v, want ErrNoUser", name, err)
		}
	}
	if after, err := c.View(t.Context(), coord.Linearizable()); err != nil || after.ZXID() != view.ZXID() {
		t.Errorf("names of nobody were proposed: zxid %v behind %v, %v", after.ZXID(), view.ZXID(), err)
	}
	if _, err := c.NewSession(t.Context(), coord.SessionOptions{External: true, Identities: []coord.ID{{Scheme: "user", ID: "eve:0x1"}}}); !errors.Is(err, coord.ErrBadArguments) {
		t.Errorf("NewSession for a user with a colon = %v, want ErrBadArguments", err)
	}
}

// TestFailedLoginsAreSlowed measures in virtual time what attempts take, which is
// nothing but what they are made to wait.
func TestFailedLoginsAreSlowed(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		setUser(t, c, "eve", "right")
		took := func(s *coord.Session, scheme, credential string) time.Duration {
			t.Helper()
			begin := time.Now()
			err := s.AddAuth(t.Context(), scheme, []byte(credential))
			if err != nil && !errors.Is(err, coord.ErrAuthFailed) {
				t.Fatalf("AddAuth = %v", err)
			}
			return time.Since(begin).Round(10 * time.Millisecond) // less than a delay, more than a round of the quorum
		}
		from := func(addr string) *coord.Session { return external(t, c, coord.ID{Scheme: "ip", ID: addr}) }
		ms := time.Millisecond
		for i, want := range []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10_000 * ms, 10_000 * ms} {
			scheme := "user"
			if i == 3 {
				scheme = "unknown"
			}
			if got := took(from("10.0.0.1"), scheme, "eve:wrong"); got != want {
				t.Errorf("attempt %d took %v, want %v", i, got, want)
			}
		}
		for _, s := range []*coord.Session{from("10.0.0.2"), external(t, c), from("2001:db8::1")} {
			if got := took(s, "user", "eve:wrong"); got != 0 {
				t.Errorf("an attempt of another caller, %v, took %v", s.Identities(), got)
			}
		}
		if got := took(from("2001:db8::2"), "user", "eve:wrong"); got != 100*ms {
			t.Errorf("an attempt from the same network took %v, want 100ms", got)
		}
		if got := took(from("10.0.0.1"), "digest", "any:digest"); got != 0 {
			t.Errorf("a credential that cannot fail took %v", got)
		}
		if got := took(from("10.0.0.1"), "user", "eve:right"); got != 9_900*ms {
			t.Errorf("the right password took %v, want 9.9s, because 0.1s have passed", got)
		}
		// That of the unknown scheme is left: it was not about eve.
		for _, want := range []time.Duration{0, 200 * ms} {
			if got := took(from("10.0.0.1"), "user", "eve:wrong"); got != want {
				t.Errorf("an attempt behind a success took %v, want %v", got, want)
			}
		}
		// Attempts at the same time are attempts one after the other.
		var all sync.WaitGroup
		begin := time.Now()
		for range 4 {
			s := from("10.0.0.9")
			all.Go(func() { took(s, "user", "eve:wrong") })
		}
		all.Wait()
		if got := time.Since(begin).Round(10 * ms); got != 700*ms {
			t.Errorf("four attempts at once took %v, want 700ms", got)
		}
		// Waiting ends with the caller.
		ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
		defer cancel()
		if err := from("10.0.0.9").AddAuth(ctx, "user", []byte("eve:right")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AddAuth = %v, want that its context ended", err)
		}
		time.Sleep(10*time.Minute + time.Second)
		for _, want := range []time.Duration{0, 100 * ms} {
			if got := took(from("10.0.0.9"), "user", "eve:wrong"); got != want {
				t.Errorf("an attempt ten minutes later took %v, want %v", got, want)
			}
		}
	})
}

// TestGuessingTheSuperUserIsSlowed sees that digests of the super user's name count as
// attempts, though each proves something.
func TestGuessingTheSuperUserIsSlowed(t *testing.T) {
	super := coord.DigestID("root:right")
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/members", "")
		s := external(t, c, coord.ID{Scheme: "ip", ID: "10.0.0.1"})
		begin := time.Now()
		for i := range 5 {
			if err := s.AddAuth(t.Context(), "digest", fmt.Appendf(nil, "root:wrong%d", i)); err != nil {
				t.Fatalf("AddAuth = %v", err)
			}
		}
		if got := time.Since(begin); got != 1500*time.Millisecond {
			t.Errorf("five guesses took %v, want 1.5s", got)
		}
		if n := len(s.Identities()); n != 6 || mayRead(t, s, "/members") {
			t.Errorf("%d identities, want 6, none of them super", n)
		}
		if err := s.AddAuth(t.Context(), "digest", []byte("root:right")); err != nil || !mayRead(t, s, "/members") {
			t.Errorf("AddAuth of the super user = %v", err)
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.SuperDigest = super.ID }))
}

// TestOldSuperUserIsNobody asks a member that has not heard that the digest of the super
// user is another: what it granted would stay.
func TestOldSuperUserIsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		mustCreate(t, e.Leader(t.Context()), "/members", "")
		late := e.Follower(t.Context())
		s := external(t, late)
		e.Isolate(late)
		changeSettings(t, e.Leader(t.Context()), func(s *coord.Settings) { s.SuperDigest = coord.DigestID("root:new").ID })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.AddAuth(ctx, "digest", []byte("root:old")); !errors.Is(err, context.DeadlineExceeded) || len(s.Identities()) != 0 {
			t.Errorf("AddAuth = %v, want that its context ended; Identities = %v", err, s.Identities())
		}
		if err := s.AddAuth(t.Context(), "digest", []byte("u:p")); err != nil {
			t.Errorf("AddAuth of a digest of another name = %v", err)
		}
		e.Heal()
		for _, test := range []struct {
			password string
			reads    bool
		}{{"old", false}, {"new", true}} {
			s := external(t, late)
			if err := s.AddAuth(t.Context(), "digest", []byte("root:"+test.password)); err != nil || mayRead(t, s, "/members") != test.reads {
				t.Errorf("with the %s digest, %v, reads: %v, want %v", test.password, err, !test.reads, test.reads)
			}
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.SuperDigest = coord.DigestID("root:old").ID }))
}

// A lockedBuffer is a log that many write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestPasswordsAreNotLogged searches everything that members log for passwords and
// their hashes.
func TestPasswordsAreNotLogged(t *testing.T) {
	log := &lockedBuffer{}
	e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) {
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}))
	c := e.Member(1)
	setUser(t, c, "eve", "planted-secret")
	login(t, external(t, c), "eve:planted-secret")
	for _, scheme := range []string{"user", "unknown", "digest"} {
		_ = external(t, c).AddAuth(t.Context(), scheme, []byte("eve:planted-secret-2"))
	}
	_ = external(t, c).AddAuth(t.Context(), "user", []byte("planted-secret-without-a-name"))
	if err := c.RemoveUser(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	if err := private.Snapshot(c); err != nil {
		t.Fatal(err)
	}
	e.Kill(c)
	if err := e.Restart(c).Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"planted-secret", "$2a$"} {
		if text := log.String(); strings.Contains(text, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	if !strings.Contains(log.String(), "act=authenticate outcome=refused") {
		t.Error("the log does not tell of logins that failed")
	}
}

// TestNobodyElseReadsTheLog sees that log and snapshots, which hold the hashes of
// passwords, are behind a directory that only its owner may enter, also where the
// member's own directory was made by somebody else.
func TestNobodyElseReadsTheLog(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it has other permissions")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // on purpose
		t.Fatal(err)
	}
	c, err := coord.Open(t.Context(), coord.Config{Dir: dir, ElectionTimeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	setUser(t, c, "eve", "correct horse")
	if err := private.Snapshot(c); err != nil {
		t.Fatal(err)
	}
	found := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case d.IsDir() && info.Mode().Perm()&0o077 == 0:
			found++
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte("$2a$")) {
			t.Errorf("%s has a hash, and others can read it", path)
		}
		return err
	})
	if err != nil || found == 0 {
		t.Errorf("%d directories that nobody else may enter, %v", found, err)
	}
}

// TestHashingIsBounded sees that callers wait while as many passwords are hashed as may
// be at a time, and that waiting ends with their contexts.
func TestHashingIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		setUser(t, c, "eve", "correct horse")
		s := external(t, c)
		release := coord.HoldHashing(t, c)
		for what, do := range map[string]func(context.Context) error{
			"SetUser": func(ctx context.Context) error { return c.SetUser(ctx, "bob", "battery staple") },
			"AddAuth": func(ctx context.Context) error { return s.AddAuth(ctx, "user", []byte("eve:correct horse")) },
			"AddAuth of nobody": func(ctx context.Context) error {
				return s.AddAuth(ctx, "user", []byte("nobody:correct horse"))
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := do(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, coord.ErrUnknownOutcome) {
				t.Errorf("%s = %v, want that its context ended", what, err)
			}
			cancel()
			begin := time.Now()
			if err := do(t.Context()); !errors.Is(err, coord.ErrTimeout) || time.Since(begin) != 30*time.Second {
				t.Errorf("%s = %v after %v, want ErrTimeout after 30s", what, err, time.Since(begin))
			}
		}
		release()
		login(t, s, "eve:correct horse")
	})
}
