package coord

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"coord/internal/bubble"
)

// TestNobodysHashCostsTheSame keeps the time of an answer from telling who is a user.
func TestNobodysHashCostsTheSame(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		h := newHashing(inMemory)
		if cost, err := bcrypt.Cost([]byte(h.nobodys)); err != nil || cost != h.cost {
			t.Errorf("nobody's hash has the cost %d, %v, those of users have %d", cost, err, h.cost)
		}
	}
	if h := newHashing(false); h.cost < passwordCost {
		t.Errorf("the passwords of an ensemble on disks cost %d, want %d", h.cost, passwordCost)
	}
}

// TestHashIsNotPrinted prints what has a hash in it in every way.
func TestHashIsNotPrinted(t *testing.T) {
	const hash = "$2a$10$planted"
	s := newTestState()
	r := request{kind: requestSetUser, user: &user{name: "eve", hash: conceal(hash)}}
	applyRequests(s, r)
	u, ok := s.users.get("eve")
	if !ok || u.hash.reveal() != hash {
		t.Fatal("the user was not set")
	}
	for _, v := range []any{r, *r.user, r.user, u.hash, &u.hash, *u, []*user{u}, struct{ u user }{*u}, pending{req: r}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "planted") || strings.Contains(text, fmt.Sprintf("%x", "planted")) {
				t.Errorf("%s of %T shows the hash: %s", verb, v, text)
			}
		}
	}
}

// TestUsersHaveALimit fills the table.
func TestUsersHaveALimit(t *testing.T) {
	s := newTestState()
	for i := range maxUsers {
		s.users.byName.put(&user{name: fmt.Sprintf("u%d", i)})
	}
	results, _ := applyRequests(s,
		request{kind: requestSetUser, user: &user{name: "one too many", hash: conceal("h")}},
		request{kind: requestSetUser, user: &user{name: "u7", hash: conceal("h")}},
		request{kind: requestRemoveUser, user: &user{name: "u8"}},
		request{kind: requestSetUser, user: &user{name: "one too many", hash: conceal("h")}})
	for i, want := range []Code{ErrTooLarge, codeOK, codeOK, codeOK} {
		if results[i].code != want {
			t.Errorf("request %d: %v, want %v", i, results[i].code, want)
		}
	}
}

// TestThrottleIsBounded has more callers fail than are remembered.
func TestThrottleIsBounded(t *testing.T) {
	var th throttle
	fail := func() error { return ErrAuthFailed }
	for i := range 3 * mostCallers {
		if err := th.attempt(t.Context(), fmt.Sprint(i), "", fail); err != ErrAuthFailed { //nolint:errorlint // it is handed through as it is
			t.Fatal(err)
		}
		if n := len(th.callers); n > mostCallers {
			t.Fatalf("%d callers are remembered, the limit is %d", n, mostCallers)
		}
	}
	if err := th.attempt(t.Context(), "new", "", func() error { return nil }); err != nil || th.callers["new"] != nil {
		t.Errorf("a caller who never failed is remembered, %v", err)
	}
}

// TestThrottleTellsAccountsApart has somebody with a password of his own try others'.
func TestThrottleTellsAccountsApart(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		var th throttle
		took := func(account string, result error) time.Duration {
			t.Helper()
			begin := time.Now()
			if err := th.attempt(t.Context(), "caller", account, func() error { return result }); !errors.Is(err, result) {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		for i := range 4 {
			took("other", ErrAuthFailed)
			if got, want := took("mine", nil), 100*time.Millisecond<<i; got != want {
				t.Errorf("behind %d guesses an attempt took %v, want %v", i+1, got, want)
			}
		}
		took("mine", ErrAuthFailed)
		if th.callers["caller"].failures != 5 {
			t.Errorf("%d failures, want 5", th.callers["caller"].failures)
		}
		took("mine", nil)
		if c := th.callers["caller"]; c.failures != 4 || len(c.accounts) != 1 {
			t.Errorf("behind a success: %d failures of %d accounts, want 4 of 1", c.failures, len(c.accounts))
		}
		for i := range 2 * mostAccounts {
			took(fmt.Sprint(i), ErrAuthFailed)
		}
		if c := th.callers["caller"]; len(c.accounts) != mostAccounts || c.failures != 4+2*mostAccounts {
			t.Errorf("%d failures of %d accounts, want %d of %d", c.failures, len(c.accounts), 4+2*mostAccounts, mostAccounts)
		}
		took("other", nil)
		if th.callers["caller"].failures != 2*mostAccounts {
			t.Errorf("%d failures, want %d", th.callers["caller"].failures, 2*mostAccounts)
		}
		time.Sleep(forgetAfter + time.Second)
		if got := took("other", ErrAuthFailed); got != 0 || th.callers["caller"].failures != 1 || len(th.callers["caller"].accounts) != 1 {
			t.Errorf("behind %v of peace an attempt took %v", forgetAfter, got)
		}
	})
}
