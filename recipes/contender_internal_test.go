package recipes

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

// A contender whose watch set ended, because its member skipped changes, and cannot
// be replaced, because the session has ended, leaves like any other.
func TestContenderOfADeadSessionBehindASnapshot(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 10 }))
		behind, ctx := e.Follower(t.Context()), t.Context()
		s, err := behind.NewSession(ctx, coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ticket, err := lockTicket(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		entered, err := enter(ctx, s, "/lock", ticket.standIn("/lock"))
		if err != nil {
			t.Fatal(err)
		}
		c := &stander{entered, ticket}
		if says, err := c.judge(ctx); err != nil || !says.granted {
			t.Fatalf("judge = %v, %v", says, err)
		}
		e.Isolate(behind)
		other := e.Leader(ctx)
		for i := range 60 {
			if _, _, err := other.Create(ctx, fmt.Sprintf("/n%d", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		e.Heal()
		for !isCompacted(c.set.Err()) {
			time.Sleep(10 * time.Millisecond)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.await(ctx); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("await = %v", err)
		}
		if err := c.leave(ctx); err != nil {
			t.Errorf("leave = %v", err)
		}
	})
}

func TestSequenceNumbersWrap(t *testing.T) {
	const last, first = 1<<31 - 1, -1 << 31
	for _, name := range []string{"lock--2147483648", "lock--000000001", "lock-0000000000", "lock-2147483647"} {
		e, ok := familyLock.parse("/", name)
		if !ok || e.shared || fmt.Sprintf("/lock-%010d", e.seq) != e.path { // as the tree does
			t.Errorf("parse(%q) = %+v, %t", name, e, ok)
		}
	}
	if !precedes(last, first) || precedes(first, last) || !precedes(-1, 0) || precedes(0, -1) || precedes(7, 7) {
		t.Error("the order does not go on where numbers start again")
	}
}

func TestNames(t *testing.T) {
	for _, f := range families {
		for _, shared := range []bool{false, true} {
			for _, number := range []int{0, 1, 1<<31 - 1} {
				if shared && f.shared == "" || number != 0 && !f.numbered {
					continue
				}
				for _, digits := range []string{"0000000000", "2147483647", "-2147483648", "-000000001"} {
					name := f.name(shared, number) + digits
					e, ok := f.parse("/dir", name)
					if !ok || e.path != "/dir/"+name || e.shared != shared || e.number != number || fmt.Sprintf("%010d", e.seq) != digits {
						t.Errorf("%s %s: parse(%q) = %+v, %t", f.recipe, f.layout, name, e, ok)
					}
				}
			}
		}
	}
	for _, name := range []string{"", "lock-", "lock-1", "lock-000000001", "lock-00000000x1", "lock-2147483648", "block-0000000001", "lock-0000000001x", "lock-5-0000000001"} {
		if e, ok := familyLock.parse("/", name); ok {
			t.Errorf("parse(%q) = %+v", name, e)
		}
	}
	for _, since := range []int32{0, 1, 1<<31 - 1, -1 << 31, -1} {
		for _, digits := range []string{"0000000007", "-000000007"} {
			e, ok := familyCandidate.parse("/", familyCandidate.nameBehind(entrant{number: 5, since: since})+digits)
			if !ok || e.number != 5 || e.since != since || fmt.Sprintf("%010d", e.seq) != digits {
				t.Errorf("who went behind, and had %d, is %+v, %t", since, e, ok)
			}
		}
	}
	for _, name := range []string{"candidate-5-4294967296-0000000001", "candidate-5-x-0000000001", "candidate-5-1-2-0000000001", "candidate--5-0000000001", "candidate-x-0000000001", "candidate-2147483648-0000000001", "candidate-5-", "candidate-5-1"} {
		if e, ok := familyCandidate.parse("/", name); ok {
			t.Errorf("parse(%q) = %+v", name, e)
		}
	}
	if e, ok := familyLock.parse("/", "_c_8b2a-lock-0000000007"); ok {
		t.Errorf("a contender of Curator or go-zookeeper is one of coord's: %+v", e)
	}
}

func TestNotes(t *testing.T) {
	for _, n := range []note{{}, {value: []byte("v")}, {shared: true, value: []byte("v")}, {revoked: true}, {shared: true, revoked: true, value: []byte("v")}} {
		if got := parseNote(n.data()); got.shared != n.shared || got.revoked != n.revoked || string(got.value) != string(n.value) {
			t.Errorf("parseNote(%q) = %+v", n.data(), got)
		}
	}
}

// A candidate that goes behind, and never learns whether it did, is in neither place
// when it has given up.
func TestGoingBehindIsNotAnswered(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second))
		for _, happens := range []bool{true, false} {
			c := e.Follower(t.Context())
			if happens {
				c = e.Leader(t.Context()) // it keeps what it proposed
			}
			s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			low, err := ticketOf("election", byPriority, []Option{WithValue([]byte("me"))})
			if err != nil {
				t.Fatal(err)
			}
			high := low
			high.number = 1
			var all []*stander
			for _, place := range []ticket{low, high} {
				entered, err := enter(t.Context(), s, "/leader", place.standIn("/leader"))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, &stander{entered, place})
			}
			if says, err := all[0].judge(t.Context()); err != nil || !says.passes {
				t.Fatalf("judge = %+v, %v", says, err)
			}
			e.Isolate(c)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := all[0].acquire(ctx); !errors.Is(err, coord.ErrUnknownOutcome) {
				t.Fatalf("acquire = %v", err)
			}
			e.Heal()
			time.Sleep(20 * time.Second)
			names, _, err := s.Children(t.Context(), "/leader", coord.Linearizable())
			if err != nil || len(names) != 1 || join("/leader", names[0]) != all[1].path {
				t.Errorf("left are %q, %v", names, err)
			}
			if err := all[1].leave(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
