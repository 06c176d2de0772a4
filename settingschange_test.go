package coord_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/private"
)

func changeSettings(t *testing.T, c *coord.Coordinator, change func(*coord.Settings)) {
	t.Helper()
	if err := c.ChangeSettings(t.Context(), change); err != nil {
		t.Fatalf("ChangeSettings = %v", err)
	}
}

// TestSettingsAreOfTheEnsemble changes settings on one member and asks others, before
// and behind restarts from log and snapshot, whose Config says something else.
func TestSettingsAreOfTheEnsemble(t *testing.T) {
	super := coord.DigestID("root:secret")
	e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) {
		c.MaxDataBytes, c.SuperDigest = 1000, super.ID
	}))
	a := e.Member(1)
	first := a.Settings()
	if first.MaxDataBytes != 1000 || first.MinSessionTimeout != 2*time.Second || first.MaxSessionTimeout != 7*24*time.Hour || !first.TTLNodes ||
		!slices.Equal(first.DefaultACL, coord.MembersACL()) || first.SuperDigest != "root:x" || len(first.Schemes) != 0 ||
		first.MaxEphemerals != 100_000 || first.AdvisoryQuotas {
		t.Errorf("Settings at first = %+v", first)
	}
	first.DefaultACL[0].Perms = 0 // the caller's
	mustCreate(t, a, "/before", strings.Repeat("x", 1000))
	changeSettings(t, a, func(s *coord.Settings) {
		s.MaxDataBytes = 10
		s.TTLNodes = false
		s.MaxEphemerals, s.AdvisoryQuotas = 3, true
		s.DefaultACL = coord.OpenACL()
		s.Schemes = []string{"ldap", "jwt", "ldap"}
	})
	check := func(when string) {
		t.Helper()
		for i := range 3 {
			c := e.Member(i + 1)
			if err := c.Sync(t.Context(), "/"); err != nil {
				t.Fatal(err)
			}
			s := c.Settings()
			if s.MaxEphemerals != 3 || !s.AdvisoryQuotas || s.MaxDataBytes != 10 || s.TTLNodes || !slices.Equal(s.DefaultACL, coord.OpenACL()) || !slices.Equal(s.Schemes, []string{"jwt", "ldap"}) ||
				s.SuperDigest != "root:x" || s.MaxSessionTimeout != first.MaxSessionTimeout {
				t.Errorf("%s: Settings of member %d = %+v", when, i+1, s)
			}
			if _, _, err := c.Create(t.Context(), "/big", make([]byte, 11)); !errors.Is(err, coord.ErrTooLarge) || !strings.Contains(err.Error(), "limit is 10") {
				t.Errorf("%s: Create with 11 bytes = %v, want ErrTooLarge that names the limit", when, err)
			}
			if _, _, err := c.Create(t.Context(), "/ttl", nil, coord.PersistentTTL, coord.WithTTL(time.Second)); !errors.Is(err, coord.ErrUnimplemented) {
				t.Errorf("%s: Create of a TTL znode = %v, want ErrUnimplemented", when, err)
			}
			if data, _ := mustGet(t, c, "/before"); len(data) != 1000 {
				t.Errorf("%s: what was there has %d bytes", when, len(data))
			}
			x := external(t, c)
			if mayRead(t, x, "/before") {
				t.Errorf("%s: the ACL of what was there has changed", when)
			}
			mustCreate(t, c, fmt.Sprintf("/%s%d", when, i), "")
			mustCreate(t, c, fmt.Sprintf("/%s%d/jwt", when, i), "", coord.WithACL(coord.ACL{Perms: 1, ID: coord.ID{Scheme: "jwt", ID: "x"}}))
			mustCreate(t, x, fmt.Sprintf("/%s%d/open", when, i), "")
			if err := x.AddAuth(t.Context(), "digest", []byte("root:secret")); err != nil || !mayRead(t, x, "/before") {
				t.Errorf("%s: the super user does not read: %v", when, err)
			}
		}
	}
	check("now")
	for _, name := range []string{"log", "snapshot"} {
		e.Converged(t.Context())
		for _, m := range e.Running() {
			if name == "snapshot" {
				if err := private.Snapshot(m); err != nil {
					t.Fatal(err)
				}
			}
			e.Kill(m)
		}
		for i := range 3 {
			e.Restart(e.Member(i + 1))
		}
		for i := range 3 {
			if err := e.Member(i + 1).Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		check(name)
	}
	// The digest of the super user is changed when it is said, and only then.
	for _, test := range []struct {
		digest, password string
		super            bool
	}{{coord.DigestID("root:other").ID, "secret", false}, {"root:x", "other", true}, {"", "other", false}} {
		changeSettings(t, e.Member(2), func(s *coord.Settings) { s.SuperDigest = test.digest })
		x := external(t, e.Member(2))
		if err := x.AddAuth(t.Context(), "digest", []byte("root:"+test.password)); err != nil || mayRead(t, x, "/before") != test.super {
			t.Errorf("with the digest %q, super with the password %q: %v, want %v (%v)", test.digest, test.password, !test.super, test.super, err)
		}
	}
	if s := e.Member(2).Settings(); s.SuperDigest != "" {
		t.Errorf("SuperDigest = %q behind its removal", s.SuperDigest)
	}
}

// TestNoChangeOfSettingsIsLost has all members change settings at the same time. That one
// was slower than another and made its change on that is nothing to be audited, and
// neither is a change of nothing.
func TestNoChangeOfSettingsIsLost(t *testing.T) {
	log := &lockedBuffer{}
	e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(cfg *coord.Config) {
		cfg.AuditLogger = slog.New(slog.NewTextHandler(log, nil))
	}))
	const each = 20
	first := e.Member(1).Settings().MaxDataBytes
	var all sync.WaitGroup
	for i := range 3 {
		c := e.Member(i + 1)
		all.Go(func() {
			for n := range each {
				err := c.ChangeSettings(t.Context(), func(s *coord.Settings) {
					s.MaxDataBytes++
					s.Schemes = append(s.Schemes, fmt.Sprintf("s-%d-%d", i, n))
				})
				if err != nil {
					t.Errorf("ChangeSettings = %v", err)
				}
			}
		})
	}
	all.Wait()
	e.Converged(t.Context())
	if err := e.Member(1).Sync(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	if s := e.Member(1).Settings(); s.MaxDataBytes != first+3*each || len(s.Schemes) != 3*each {
		t.Errorf("MaxDataBytes grew by %d and there are %d schemes, want %d each", s.MaxDataBytes-first, len(s.Schemes), 3*each)
	}
	changeSettings(t, e.Member(1), func(s *coord.Settings) { s.MaxDataBytes = first + 3*each }) // nothing
	if n := strings.Count(log.String(), `act="change settings" outcome=ok`); n != 3*each || strings.Contains(log.String(), "outcome=refused") {
		t.Errorf("%d changes were audited, want %d, and no refusal:\n%s", n, 3*each, log)
	}
}

// TestSessionsKeepTheirTimeouts shortens what sessions are granted.
func TestSessionsKeepTheirTimeouts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		a, b := e.Member(1), e.Member(2)
		open := func(want time.Duration) *coord.Session {
			t.Helper()
			s, err := a.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
			if err != nil || s.Timeout() != want {
				t.Fatalf("NewSession = %v, %v, want a timeout of %v", s.Timeout(), err, want)
			}
			return s
		}
		old := open(time.Minute)
		changeSettings(t, b, func(s *coord.Settings) { s.MinSessionTimeout, s.MaxSessionTimeout = 4*time.Second, 5*time.Second })
		if err := a.Sync(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		open(5 * time.Second)
		if err := old.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := b.Resume(t.Context(), old.Token(), coord.SessionOptions{Timeout: 2 * time.Minute})
		if err != nil || s.Timeout() != time.Minute {
			t.Errorf("Resume = %v, %v, want the timeout that the session has", s.Timeout(), err)
		}
	})
}

func TestBadSettings(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	before := c.Settings()
	for _, test := range []struct {
		change func(*coord.Settings)
		says   string
	}{
		{func(s *coord.Settings) { s.MaxDataBytes = 0 }, "MaxDataBytes 0 is not between 1 and 16777216"},
		{func(s *coord.Settings) { s.MaxDataBytes = 16<<20 + 1 }, "MaxDataBytes 16777217"},
		{func(s *coord.Settings) { s.MinSessionTimeout = 99 * time.Millisecond }, "MinSessionTimeout 99 ms is less than 100 ms"},
		{func(s *coord.Settings) { s.MinSessionTimeout = 1999 * time.Millisecond }, "twice the ElectionTimeout of 1s"},
		{func(s *coord.Settings) { s.MinSessionTimeout = -1 << 63 }, "MinSessionTimeout"},
		{func(s *coord.Settings) { s.MaxSessionTimeout = time.Millisecond }, "MaxSessionTimeout 1 ms is not between MinSessionTimeout, 2000 ms,"},
		{func(s *coord.Settings) { s.MaxSessionTimeout = 1<<63 - 1 }, "31536000000 ms"},
		{func(s *coord.Settings) { s.DefaultACL = coord.CreatorAllACL() }, "DefaultACL"},
		{func(s *coord.Settings) { s.DefaultACL[0].ID.Scheme = "world" }, "DefaultACL"},
		{func(s *coord.Settings) { s.DefaultACL = slices.Repeat(coord.OpenACL(), 1025) }, "DefaultACL"},
		{func(s *coord.Settings) { s.DefaultACL[0].ID = coord.ID{Scheme: "x", ID: "x:planted"} }, "DefaultACL"},
		{func(s *coord.Settings) { s.MaxEphemerals = -1 }, "MaxEphemerals -1 is negative"},
		{func(s *coord.Settings) { s.SuperDigest = "planted" }, "SuperDigest"},
		{func(s *coord.Settings) { s.Schemes = []string{"world"} }, `"world"`},
		{func(s *coord.Settings) { s.Schemes = []string{strings.Repeat("s", 65)} }, "64"},
		{func(s *coord.Settings) {
			for i := range 65 {
				s.Schemes = append(s.Schemes, fmt.Sprintf("s%d", i))
			}
		}, "65 Schemes, the limit is 64"},
	} {
		err := c.ChangeSettings(t.Context(), test.change)
		if !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), test.says) || len(err.Error()) > 500 {
			t.Errorf("ChangeSettings = %.600v, want ErrBadArguments that says %q", err, test.says)
		}
	}
	if after := c.Settings(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("Settings = %+v behind changes that were refused, want %+v", after, before)
	}
}

// TestRaisedLimitHoldsEverywhere writes through a member that has not heard that the
// limit on data was raised, and through one that hears of nothing.
func TestRaisedLimitHoldsEverywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		late := e.Follower(t.Context())
		e.Isolate(late)
		changeSettings(t, e.Leader(t.Context()), func(s *coord.Settings) { s.MaxDataBytes = 20 })
		if n := late.Settings().MaxDataBytes; n != 10 {
			t.Fatalf("the member that hears of nothing knows MaxDataBytes %d", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ops := []coord.Op{coord.CreateOp("/b", make([]byte, 20))}
		if _, err := late.Multi(ctx, ops...); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("Multi = %v, want that its context ended", err)
		}
		if _, _, err := late.Create(ctx, "/c", make([]byte, 16<<20+1)); !errors.Is(err, coord.ErrTooLarge) {
			t.Errorf("Create of what no setting allows = %v, want ErrTooLarge", err)
		}
		done := make(chan error)
		go func() {
			_, _, err := late.Create(t.Context(), "/a", make([]byte, 20))
			done <- err
		}()
		e.Heal()
		if err := <-done; err != nil {
			t.Errorf("Create = %v", err)
		}
		if _, _, err := late.Create(t.Context(), "/c", make([]byte, 21)); !errors.Is(err, coord.ErrTooLarge) || !strings.Contains(err.Error(), "21 bytes of data, the limit is 20") {
			t.Errorf("Create = %v, want ErrTooLarge that names the limit", err)
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.MaxDataBytes = 10 }))
}

// TestSettingsUnknownOutcome cuts the member off that was asked to change settings.
func TestSettingsUnknownOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		cut := e.Leader(t.Context())
		e.Isolate(cut)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := cut.ChangeSettings(ctx, func(s *coord.Settings) { s.MaxDataBytes = 77 })
		unknown, ok := errors.AsType[*coord.OutcomeError](err)
		if !ok {
			t.Fatalf("ChangeSettings without a quorum = %v, want an unknown outcome", err)
		}
		e.Heal()
		if err := unknown.Outcome(t.Context()); err != nil || cut.Settings().MaxDataBytes != 77 {
			t.Errorf("Outcome = %v with MaxDataBytes %d, want 77", err, cut.Settings().MaxDataBytes)
		}
	})
}
