package coord_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

// TestDigestID compares with the example in ZooKeeper's own tests and guide.
func TestDigestID(t *testing.T) {
	for credential, want := range map[string]string{
		"u:p": "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=",
		"foo": "foo:C+7Hteo/D9vJXQ3UfzxbwnXaijM=",
	} {
		if got := coord.DigestID(credential); got != (coord.ID{Scheme: "digest", ID: want}) {
			t.Errorf("DigestID(%q) = %s, want %s", credential, got.ID, want)
		}
	}
}

// A session is resumed by those it was opened for: the ensemble's own code or somebody
// outside, and who had a certificate shows it again.
func TestResumeNeedsTheSameSide(t *testing.T) {
	inClosedBubble(t, func(t *testing.T, c *coord.Coordinator) {
		a, b := coord.ID{Scheme: "x509", ID: "CN=a"}, coord.ID{Scheme: "x509", ID: "CN=b"}
		digest := coord.DigestID("u:p")
		outside := func(ids ...coord.ID) coord.SessionOptions {
			return coord.SessionOptions{External: true, Identities: ids}
		}
		for _, test := range []struct {
			name         string
			opened, then coord.SessionOptions
			ok           bool
		}{
			{"own code by own code", coord.SessionOptions{}, coord.SessionOptions{}, true},
			{"own code from outside", coord.SessionOptions{}, outside(), false},
			{"own code by who may do everything", coord.SessionOptions{}, outside(coord.ID{Scheme: "super"}, coord.ID{Scheme: "ensemble", ID: "member"}), false},
			{"outside by own code", outside(), coord.SessionOptions{}, false},
			{"outside with a password by own code", outside(digest), coord.SessionOptions{}, false},
			{"outside by outside", outside(), outside(), true},
			{"outside by somebody with more", outside(), outside(a), true},
			{"a password is not bound", outside(digest), outside(), true},
			{"a certificate by the same", outside(a), outside(digest, a), true},
			{"a certificate by none", outside(a), outside(), false},
			{"a certificate by another", outside(a), outside(b), false},
			{"two certificates by one", outside(a, b), outside(b), false},
			{"a certificate by the same text in another scheme", outside(a), outside(coord.ID{Scheme: "digest", ID: "CN=a"}), false},
		} {
			s, err := c.NewSession(t.Context(), test.opened)
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.Resume(t.Context(), s.Token(), test.then)
			if test.ok != (err == nil) || !test.ok && !errors.Is(err, coord.ErrAuthFailed) {
				t.Errorf("%s: Resume = %v, want allowed: %v", test.name, err, test.ok)
			}
			if !test.ok {
				if s.State() != coord.Connected {
					t.Errorf("%s: the session is %v behind a resume that was refused", test.name, s.State())
				}
				continue
			}
			want := test.then.Identities
			if !test.then.External {
				want = []coord.ID{{Scheme: "ensemble", ID: "member"}}
			}
			if got := again.Identities(); !slices.Equal(got, want) {
				t.Errorf("%s: the new handle speaks for %v, want %v", test.name, got, want)
			}
		}
	})
}

// Identities that were added stay with the handle, and a handle that resumes the session
// has none of them.
func TestAddAuth(t *testing.T) {
	inClosedBubble(t, func(t *testing.T, c *coord.Coordinator) {
		s := outsider(from("10.0.0.1"))(t, c)
		add := func(scheme, credential string) error { return s.AddAuth(t.Context(), scheme, []byte(credential)) }
		for _, credential := range []string{"digest u:p", "digest v:q", "digest u:p", "digest foo", "jwt alice", "ip 10.9.9.9"} {
			scheme, credential, _ := strings.Cut(credential, " ")
			if err := add(scheme, credential); err != nil {
				t.Errorf("AddAuth(%s, %s) = %v", scheme, credential, err)
			}
		}
		want := append(from("10.0.0.1"), coord.DigestID("u:p"), coord.DigestID("v:q"), coord.DigestID("foo"), coord.ID{Scheme: "jwt", ID: "alice"})
		if got := s.Identities(); !slices.Equal(got, want) {
			t.Errorf("Identities = %v, want %v", got, want)
		}
		for _, scheme := range []string{"world", "auth", "super", "ensemble", "x509", "sasl", "", "JWT", strings.Repeat("x", 1<<16)} {
			if err := add(scheme, "anyone"); !errors.Is(err, coord.ErrAuthFailed) || len(err.Error()) > 200 {
				t.Errorf("AddAuth(%.20q) = %.300v", scheme, err)
			}
		}
		if err := add("digest", strings.Repeat("n", 1020)+":p"); !errors.Is(err, coord.ErrTooLarge) || !strings.Contains(err.Error(), "the limit is 1024") {
			t.Errorf("a long name = %v", err)
		}
		if err := add("digest", strings.Repeat("n", 1<<16+1)); !errors.Is(err, coord.ErrTooLarge) || !strings.Contains(err.Error(), "the limit is 65536") {
			t.Errorf("a long credential = %v", err)
		}
		if got := s.Identities(); !slices.Equal(got, want) {
			t.Errorf("Identities behind refusals = %v, want %v", got, want)
		}
		for i := len(want); i < 64; i++ {
			if err := add("jwt", fmt.Sprint(i)); err != nil {
				t.Fatalf("identity %d: %v", i, err)
			}
		}
		if err := add("jwt", "one more"); !errors.Is(err, coord.ErrTooLarge) || !strings.Contains(err.Error(), "65 identities, the limit is 64") {
			t.Errorf("identity 65: %v", err)
		}
		if err := add("jwt", "alice"); err != nil {
			t.Errorf("one that it has: %v", err)
		}

		// Who may do everything is told by a digest, and not by its name.
		mustCreate(t, c, "/closed", "")
		other := outsider(nil, "digest super:wrong", "jwt super:secret")(t, c)
		if _, _, err := other.Get(t.Context(), "/closed"); !errors.Is(err, coord.ErrNoAuth) {
			t.Errorf("Get with a wrong password = %v", err)
		}
		if err := other.AddAuth(t.Context(), "digest", []byte("super:secret")); err != nil {
			t.Fatal(err)
		}
		mustGet(t, other, "/closed")
		if ids := other.Identities(); !slices.Contains(ids, coord.ID{Scheme: "super"}) || !slices.Contains(ids, coord.DigestID("super:secret")) {
			t.Errorf("Identities = %v", ids)
		}
		again, err := c.Resume(t.Context(), other.Token(), coord.SessionOptions{External: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := again.Get(t.Context(), "/closed"); !errors.Is(err, coord.ErrNoAuth) || len(again.Identities()) != 0 {
			t.Errorf("behind a resume, as %v: %v", again.Identities(), err)
		}
		if err := other.AddAuth(t.Context(), "digest", []byte("u:p")); !errors.Is(err, coord.ErrSessionMoved) {
			t.Errorf("AddAuth on a handle that was replaced = %v", err)
		}

		// The ensemble's own code keeps its identity, and has more.
		own, err := c.NewSession(t.Context(), coord.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := own.AddAuth(t.Context(), "digest", []byte("u:p")); err != nil {
			t.Fatal(err)
		}
		if got := own.Identities(); !slices.Equal(got, []coord.ID{{Scheme: "ensemble", ID: "member"}, coord.DigestID("u:p")}) {
			t.Errorf("Identities of own code = %v", got)
		}
		mustGet(t, own, "/closed")
	})
}

// SessionOptions are checked where they come from the outside.
func TestSessionOptionsIdentities(t *testing.T) {
	inClosedBubble(t, func(t *testing.T, c *coord.Coordinator) {
		many := make([]coord.ID, 65)
		for i := range many {
			many[i] = coord.ID{Scheme: "jwt", ID: fmt.Sprint(i)}
		}
		for _, o := range []coord.SessionOptions{
			{Identities: from("10.0.0.1")},
			{External: true, Identities: many},
			{External: true, Identities: []coord.ID{{Scheme: "world", ID: "anyone"}}},
			{External: true, Identities: []coord.ID{{Scheme: "auth"}}},
			{External: true, Identities: []coord.ID{{}}},
			{External: true, Identities: []coord.ID{{Scheme: "ip", ID: strings.Repeat("1", 1025)}}},
			{External: true, Identities: []coord.ID{{Scheme: strings.Repeat("s", 65), ID: "x"}}},
		} {
			_, err := c.NewSession(t.Context(), o)
			if !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("NewSession(%.100v) = %v", o, err)
			}
			for number, limit := range map[string]string{"1025": "1024", "65": "64"} {
				if strings.Contains(err.Error(), number) && !strings.Contains(err.Error(), "the limit is "+limit) {
					t.Errorf("NewSession(%.100v) = %v, want that it names %s", o, err, limit)
				}
			}
		}
		ids := from("10.0.0.1")
		s, err := c.NewSession(t.Context(), coord.SessionOptions{External: true, Identities: ids})
		if err != nil {
			t.Fatal(err)
		}
		ids[0] = coord.ID{Scheme: "super"}
		s.Identities()[0] = coord.ID{Scheme: "super"}
		if got := s.Identities(); !slices.Equal(got, from("10.0.0.1")) {
			t.Errorf("Identities = %v: they are shared with the caller", got)
		}
	})
}

// plugIn is an authenticator that does what its credential says.
type plugIn struct{ stuck chan struct{} }

func (p plugIn) Authenticate(ctx context.Context, credential []byte) ([]string, error) {
	switch string(credential) {
	case "panic":
		panic("with panic in it")
	case "nil map":
		var m map[string]int
		clear(credential)
		m[string(credential)] = 1 //nolint:govet,staticcheck // it is to panic
	case "exit":
		runtime.Goexit()
	case "nothing":
		return nil, nil
	case "empty":
		return []string{"a", ""}, nil
	case "error":
		return []string{"a"}, errors.New("no")
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "stuck":
		<-p.stuck
	case "scribble":
		clear(credential)
	}
	return []string{"a", "b"}, nil
}

// An authenticator is code of the host program: whatever it does, the member goes on,
// and nobody waits for it longer than for anything else.
func TestAuthenticatorIsContained(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		p := plugIn{make(chan struct{})}
		c := coordtest.NewEnsemble(t, 1, coordtest.WithElectionTimeout(2*time.Second), coordtest.WithConfig(func(c *coord.Config) {
			c.Authenticators = map[string]coord.Authenticator{"p": p}
			c.SessionTimeout = time.Hour
		})).Member(1)
		s := outsider(nil)(t, c)
		for _, credential := range []string{"panic", "nil map", "exit", "nothing", "empty", "error"} {
			if err := s.AddAuth(t.Context(), "p", []byte(credential)); !errors.Is(err, coord.ErrAuthFailed) || strings.Contains(err.Error(), credential+" in") {
				t.Errorf("%s: AddAuth = %v", credential, err)
			}
		}
		for _, credential := range []string{"slow", "stuck"} {
			begin := time.Now()
			if err := s.AddAuth(t.Context(), "p", []byte(credential)); !errors.Is(err, coord.ErrTimeout) || errors.Is(err, coord.ErrAuthFailed) || time.Since(begin) != 30*time.Second {
				t.Errorf("%s: AddAuth = %v behind %v", credential, err, time.Since(begin))
			}
			why := errors.New("why")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
			begin = time.Now()
			if err := s.AddAuth(ctx, "p", []byte(credential)); !errors.Is(err, why) || time.Since(begin) != time.Second {
				t.Errorf("%s: AddAuth = %v behind %v", credential, err, time.Since(begin))
			}
			cancel()
		}
		if len(s.Identities()) != 0 {
			t.Errorf("Identities = %v", s.Identities())
		}

		// Calls that never return take places until none is left, and give them back.
		// They are of many sessions, because those of one wait for each other.
		var calls sync.WaitGroup
		for range 300 {
			s := outsider(nil)(t, c)
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := s.AddAuth(ctx, "p", []byte("stuck")); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("AddAuth = %v", err)
				}
			})
		}
		calls.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.AddAuth(ctx, "p", []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AddAuth with all places taken = %v", err)
		}
		if err := s.AddAuth(t.Context(), "digest", []byte("u:p")); err != nil {
			t.Errorf("AddAuth of another scheme meanwhile = %v", err)
		}
		close(p.stuck)
		given := []byte("scribble")
		s = outsider(nil, "digest u:p")(t, c)
		if err := s.AddAuth(t.Context(), "p", given); err != nil || string(given) != "scribble" {
			t.Errorf("AddAuth = %v, and the credential is %q", err, given)
		}
		if got := s.Identities(); !slices.Equal(got, []coord.ID{coord.DigestID("u:p"), {Scheme: "p", ID: "a"}, {Scheme: "p", ID: "b"}}) {
			t.Errorf("Identities = %v", got)
		}
	})
}

// setACL normalises as ZooKeeper's fixupACL does, and counts in aversion alone.
func TestSetACLNormalizes(t *testing.T) {
	inClosedBubble(t, func(t *testing.T, c *coord.Coordinator) {
		s := outsider(from("10.0.0.1"), "digest u:p", "jwt j")(t, c)
		id := func(scheme, id string) coord.ID { return coord.ID{Scheme: scheme, ID: id} }
		all := func(ids ...coord.ID) (list []coord.ACL) {
			for _, id := range ids {
				list = append(list, coord.ACL{Perms: coord.PermAll, ID: id})
			}
			return list
		}
		_, stat := mustCreate(t, c, "/n", "", coord.WithACL(coord.OpenACL()...))
		version := stat.Aversion
		for _, list := range [][]coord.ACL{
			nil,
			{},
			all(id("", "")), all(id("world", "bob")), all(id("digest", "u")), all(id("digest", "u:")), all(id("digest", "a:b:c")),
			all(id("ip", "10.0.0")), all(id("ip", "10.0.0.1/33")), all(id("ip", "2001:db8::/129")), all(id("super", "x")), all(id("nobody", "x")),
			all(id("x509", "a")), all(id("ensemble", "x")), all(id("sasl", "a")), all(id("world", "anyone"), id("world", "bob")), all(id("user", "a:b")), all(id("jwt", "")),
			all(id("ip", strings.Repeat("1", 1025))),
		} {
			if _, err := s.SetACL(t.Context(), "/n", list); !errors.Is(err, coord.ErrInvalidACL) {
				t.Errorf("SetACL(%v) = %v", list, err)
			}
			if len(list) > 0 { // without one, the default is meant
				if _, _, err := s.Create(t.Context(), "/m", nil, coord.WithACL(list...)); !errors.Is(err, coord.ErrInvalidACL) {
					t.Errorf("Create with %v = %v", list, err)
				}
			}
			if _, err := s.SetACL(t.Context(), "/none", list); !errors.Is(err, coord.ErrInvalidACL) {
				t.Errorf("SetACL(%v) of nothing = %v: the ACL comes first", list, err)
			}
		}
		if _, err := outsider(from("10.0.0.1"))(t, c).SetACL(t.Context(), "/n", coord.CreatorAllACL()); !errors.Is(err, coord.ErrInvalidACL) {
			t.Errorf("auth for nobody = %v", err)
		}
		for _, test := range []struct{ list, want []coord.ACL }{
			{append(coord.OpenACL(), coord.OpenACL()...), coord.OpenACL()},
			{append(coord.CreatorAllACL(), coord.OpenACL()...), all(coord.DigestID("u:p"), id("jwt", "j"), id("world", "anyone"))},
			{[]coord.ACL{{Perms: 255, ID: id("world", "anyone")}, {Perms: 0, ID: id("world", "anyone")}}, []coord.ACL{{Perms: 255, ID: id("world", "anyone")}, {Perms: 0, ID: id("world", "anyone")}}},
		} {
			before, err := s.SetACL(t.Context(), "/n", test.list, coord.WithVersion(version))
			if err != nil {
				t.Fatal(err)
			}
			version++
			want := stat
			want.Aversion = version
			list, after, err := s.ACL(t.Context(), "/n")
			if err != nil || !slices.Equal(list, test.want) || before != want || after != want {
				t.Errorf("SetACL(%v): %v, %+v, %+v, %v, want %v, %+v", test.list, list, before, after, err, test.want, want)
			}
			if _, err := s.SetACL(t.Context(), "/n", test.list, coord.WithVersion(version-1)); !errors.Is(err, coord.ErrBadVersion) {
				t.Errorf("SetACL with the version before = %v", err)
			}
		}
	})
}

// auditLog returns a logger of JSON and what it has written, one event a line.
func auditLog() (*slog.Logger, func() []map[string]any) {
	var mu sync.Mutex
	var b bytes.Buffer
	log := slog.New(slog.NewJSONHandler(lockedWriter{&mu, &b}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return log, func() (events []map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		for line := range strings.Lines(b.String()) {
			var ev map[string]any
			if json.Unmarshal([]byte(line), &ev) == nil && ev["msg"] == "audit" {
				delete(ev, "time")
				events = append(events, ev)
			}
		}
		return events
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// Every act that concerns security is one event, whatever comes of it; and one that is
// not known at first is two.
func TestAudit(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("own logger %v", own), func(t *testing.T) {
			log, events := auditLog()
			bubble.Run(t, func(t *testing.T) {
				e := coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second), coordtest.WithConfig(func(c *coord.Config) {
					c.Logger = slog.New(slog.DiscardHandler)
					if own {
						c.AuditLogger = log
					} else {
						c.Logger = log
					}
					c.SuperDigest = coord.DigestID("super:secret").ID
				}))
				c := e.Follower(t.Context())
				c.Session() // those of the ensemble's own code are no events
				want := []string{}
				expect := func(text string) {
					t.Helper()
					want = append(want, text)
					var got []string
					eventually(t, "the event "+text, func() bool {
						got = nil
						for _, ev := range events() {
							got = append(got, fmt.Sprintf("%v %v", ev["act"], ev["outcome"]))
						}
						return len(got) >= len(want)
					})
					if !slices.Equal(got, want) {
						t.Fatalf("events %q, want %q", got, want)
					}
				}
				last := func(key string) string { return fmt.Sprint(events()[len(want)-1][key]) }
				s := outsider(from("10.0.0.1"))(t, c)
				expect("open session ok")
				if last("session") != s.ID().String() || last("identities") != "[ip:10.0.0.1]" || last("member") != c.Status().Member.String() {
					t.Errorf("it says %v", events())
				}
				_, err := c.NewSession(t.Context(), coord.SessionOptions{External: true, Identities: []coord.ID{{}}})
				expect("open session refused")
				if !strings.Contains(last("reason"), err.Error()) {
					t.Errorf("%v, and it says %v", err, events())
				}
				if err := s.AddAuth(t.Context(), "digest", []byte("u:p")); err != nil {
					t.Fatal(err)
				}
				expect("authenticate ok")
				if last("identities") != "[digest:u:x]" || last("scheme") != "digest" {
					t.Errorf("it says %v", events())
				}
				err = s.AddAuth(t.Context(), "nobody", []byte("u:p"))
				expect("authenticate refused")
				if !strings.Contains(last("reason"), "unknown") || err.Error() != "coord: addAuth: authentication failed" {
					t.Errorf("%v, and it says %v", err, events())
				}
				mustCreate(t, c, "/n", "", coord.WithACL(coord.OpenACL()...))
				list := []coord.ACL{{Perms: coord.PermRead, ID: coord.DigestID("u:p")}}
				if _, err := s.SetACL(t.Context(), "/n", list); err != nil {
					t.Fatal(err)
				}
				expect("set ACL ok")
				if last("acl") != "[1 digest:u:x]" || last("path") != "/n" || last("aversion") != "1" || last("identities") != "[ip:10.0.0.1 digest:u:x]" {
					t.Errorf("it says %v", events())
				}
				_, err = c.Reconfigure(t.Context(), coord.Reconfiguration{Remove: []coord.MemberID{99}})
				expect("change members refused")
				if detail := last("detail"); !strings.Contains(detail, "99") || !strings.Contains(err.Error(), detail) {
					t.Errorf("%v, and it says %v", err, events())
				}
				_, err = s.SetACL(t.Context(), "/n", list)
				expect("set ACL refused")
				if !errors.Is(err, coord.ErrNoAuth) || !strings.Contains(last("reason"), "not allowed by the ACL") {
					t.Errorf("%v, and it says %v", err, events())
				}
				again, err := c.Resume(t.Context(), s.Token(), coord.SessionOptions{External: true})
				if err != nil {
					t.Fatal(err)
				}
				expect("resume session ok")
				_, _ = c.Resume(t.Context(), s.Token(), coord.SessionOptions{})
				expect("resume session refused")
				_, _ = c.Resume(t.Context(), coord.ForgedToken(s.Token(), "ensemble"), coord.SessionOptions{External: true})
				expect("resume session refused")
				_, _ = c.Resume(t.Context(), coord.ForgedToken(s.Token(), "password"), coord.SessionOptions{External: true})
				expect("resume session refused")
				if err := again.HandOver(t.Context()); err != nil {
					t.Fatal(err)
				}
				expect("hand over session ok")

				if err := errors.Join(c.SetUser(t.Context(), "eve", "p"), c.RemoveUser(t.Context(), "eve"), c.SetACLTemplate(t.Context(), "/t", list)); err != nil {
					t.Fatal(err)
				}
				want = append(want, "set user ok", "remove user ok", "set ACL template ok")
				_ = c.RemoveUser(t.Context(), "eve")
				expect("remove user refused")
				if last("user") != "eve" {
					t.Errorf("it says %v", events())
				}
				if err := c.ChangeSettings(t.Context(), func(s *coord.Settings) { s.MaxDataBytes, s.DefaultACL = 7, list }); err != nil {
					t.Fatal(err)
				}
				expect("change settings ok")
				if last("changes") != "[MaxDataBytes: 7, was 1048576 DefaultACL: [{1 digest:u:x}], was [{31 ensemble:member}]]" {
					t.Errorf("it says %v", last("changes"))
				}
				err = s.AddAuth(t.Context(), "digest", []byte("super:wrong"))
				if !errors.Is(err, coord.ErrSessionMoved) {
					t.Fatal(err)
				}
				expect("authenticate refused") // each call is an event
				err = external(t, c).AddAuth(t.Context(), "digest", make([]byte, 1<<16+1))
				if !errors.Is(err, coord.ErrTooLarge) {
					t.Fatal(err)
				}
				want = append(want, "open session ok")
				expect("authenticate refused")
				if !strings.Contains(last("reason"), "the limit is 65536") {
					t.Errorf("it says %v", last("reason"))
				}
				_, _ = c.NewSession(t.Context(), coord.SessionOptions{External: true, Timeout: -1})
				expect("open session refused")
				_, _ = c.Resume(t.Context(), s.Token(), coord.SessionOptions{Timeout: -1})
				expect("resume session refused")
				given, cancelGiven := context.WithCancel(t.Context())
				cancelGiven()
				_, _ = c.Resume(given, s.Token(), coord.SessionOptions{External: true})
				expect("resume session failed")
				other := outsider(nil)(t, c)
				expect("open session ok")
				if err := other.AddAuth(t.Context(), "digest", []byte("super:wrong")); err != nil {
					t.Fatal(err)
				}
				want = append(want, "authenticate refused") // as who may do everything
				expect("authenticate ok")                   // as the digest, as in ZooKeeper

				// What is not known at first.
				e.Isolate(c)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err = c.SetACL(ctx, "/n", coord.ReadOnlyACL())
				if !errors.Is(err, coord.ErrUnknownOutcome) {
					t.Fatal(err)
				}
				expect("set ACL unknown")
				e.Heal()
				expect("set ACL refused") // nobody may set it any more
				if last("late") != "true" {
					t.Errorf("it says %v", events())
				}

				// A session that another member has: to ask for it is not to have it.
				others := slices.DeleteFunc(e.Running(), func(other *coord.Coordinator) bool { return other == c })
				far := mustSession(t, others[0], time.Hour)
				unknown := func(act func(context.Context) error) {
					t.Helper()
					e.Isolate(c)
					defer e.Heal()
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := act(ctx); !errors.Is(err, coord.ErrUnknownOutcome) {
						t.Fatalf("while nobody answers: %v", err)
					}
				}
				unknown(func(ctx context.Context) error {
					_, err := c.Resume(ctx, far.Token(), coord.SessionOptions{})
					return err
				})
				want = append(want, "resume session unknown")
				expect("resume session failed")
				if last("late") != "true" || !strings.Contains(last("reason"), "nobody waited") || far.State() != coord.Connected {
					t.Errorf("it says %v, and the session is %v", events()[len(want)-1], far.State())
				}
				unknown(func(ctx context.Context) error {
					_, err := c.NewSession(ctx, coord.SessionOptions{External: true})
					return err
				})
				want = append(want, "open session unknown")
				expect("open session ok")
				if last("late") != "true" || last("session") == "<nil>" {
					t.Errorf("it says %v", events()[len(want)-1])
				}
			})
		})
	}
}
