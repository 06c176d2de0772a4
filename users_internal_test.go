package coord

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
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
		if err := th.attempt(t.Context(), fmt.Sprint(i), fail); err != ErrAuthFailed { //nolint:errorlint // it is handed through as it is
			t.Fatal(err)
		}
		if n := len(th.callers); n > mostCallers {
			t.Fatalf("%d callers are remembered, the limit is %d", n, mostCallers)
		}
	}
	if err := th.attempt(t.Context(), "new", func() error { return nil }); err != nil || th.callers["new"] != nil {
		t.Errorf("a caller who never failed is remembered, %v", err)
	}
}
