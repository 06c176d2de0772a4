package coord

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/bubble"
	"coord/internal/replica"
)

// inDrainBubble runs a test on member 1 of two, which leads, beside a member 2 that touches
// whenever member 1 proposes something.
func inDrainBubble(t *testing.T, test func(t *testing.T, c *Coordinator, h *scriptedHost)) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		h.lead(1)
		h.script(func(attempt) fate {
			return func(ctx context.Context, h *scriptedHost, b []byte) error {
				h.applyFor(2, &touch{})
				return applied(ctx, h, b)
			}
		})
		await(t, "the other member's touch", func() bool { _, err := c.root.successors(); return err == nil })
		test(t, c, h)
	})
}

// await waits for a condition, in virtual time.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// writeOn has callers write without pause until stop is called, which tells how many
// writes there were and how long the longest of them took. Each has to succeed.
func writeOn(t *testing.T, c *Coordinator, callers int) (stop func() (n int, longest time.Duration)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	n, longest := 0, time.Duration(0)
	s := sessionOn(t, c)
	if _, _, err := s.Create(ctx, "/n", []byte("0")); err != nil {
		t.Fatal(err)
	}
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				if _, _, err := s.Add(t.Context(), "/n", 1); err != nil {
					t.Errorf("Add = %v", err)
					return
				}
				mu.Lock()
				n, longest = n+1, max(longest, time.Since(began))
				mu.Unlock()
				time.Sleep(time.Millisecond) // of virtual time, which stands still while anybody works
			}
		})
	}
	return func() (int, time.Duration) {
		cancel()
		wg.Wait()
		return n, longest
	}
}

// A request to hand over comes in a quiet moment: nothing of this member is under way or
// was for two heartbeats. What callers write meanwhile waits, no longer than that takes.
func TestHandOverIsAskedForInQuiet(t *testing.T) {
	inDrainBubble(t, func(t *testing.T, c *Coordinator, h *scriptedHost) {
		tm := c.root.timing
		heartbeats := 2 * tm.tick * time.Duration(tm.heartbeatTicks)
		var asked []MemberID
		h.transferring(func(to MemberID) {
			asked = append(asked, to)
			last := h.batches()[len(h.batches())-1]
			if quiet := time.Since(last.at); quiet < heartbeats {
				t.Errorf("asked %v after the last proposal, want %v", quiet, heartbeats)
			}
			h.lead(to)
		})
		stop := writeOn(t, c, 4)
		time.Sleep(time.Second)
		if err := c.Drain(t.Context()); err != nil {
			t.Errorf("Drain = %v", err)
		}
		if !slices.Equal(asked, []MemberID{2}) {
			t.Errorf("asked %v, want member 2 once", asked)
		}
		time.Sleep(time.Second)
		if n, longest := stop(); n < 4000 || longest > heartbeats+50*time.Millisecond {
			t.Errorf("%d writes, of which the longest took %v", n, longest)
		}
	})
}

// A drained member that is elected gives leadership away again, until Undrain.
func TestDrainedMemberGivesLeadershipAwayAgain(t *testing.T) {
	inDrainBubble(t, func(t *testing.T, c *Coordinator, h *scriptedHost) {
		h.transferring(func(to MemberID) { h.lead(to) })
		for range 2 { // the second has nothing to do
			if err := c.Drain(t.Context()); err != nil {
				t.Fatalf("Drain = %v", err)
			}
		}
		for range 3 {
			h.lead(1)
			await(t, "member 2 to lead again", func() bool { return !c.root.leading() })
		}
		c.Undrain()
		c.Undrain()
		h.lead(1)
		time.Sleep(time.Minute)
		if !c.root.leading() {
			t.Error("the member gave leadership away after Undrain")
		}
		if err := c.Drain(t.Context()); err != nil || c.root.leading() {
			t.Errorf("the next Drain = %v", err)
		}
	})
}

// A request that is not met is made again, after pauses in which callers are served, and
// Drain says what keeps it.
func TestDrainGoesOnAfterFailedAttempts(t *testing.T) {
	inDrainBubble(t, func(t *testing.T, c *Coordinator, h *scriptedHost) {
		asked := 0
		h.transferring(func(MemberID) { asked++ })
		stop := writeOn(t, c, 2)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := c.Drain(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNoSuccessor) || !strings.Contains(err.Error(), "group 1: leadership was not taken yet") {
			t.Errorf("Drain = %v", err)
		}
		if asked < 3 || asked > 6 {
			t.Errorf("asked %d times in 10 s", asked)
		}
		h.transferring(func(to MemberID) { h.lead(to) })
		if err := c.Drain(t.Context()); err != nil {
			t.Errorf("the next Drain = %v", err)
		}
		if n, longest := stop(); n < 2000 || longest > maxQuiet(&c.root.timing)+50*time.Millisecond {
			t.Errorf("%d writes, of which the longest took %v", n, longest)
		}
	})
}

// Nobody is asked who was not heard of lately: Drain waits for somebody who is.
func TestDrainWaitsForASuccessor(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		h.lead(1)
		h.transferring(func(to MemberID) { h.lead(to) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := c.Drain(ctx)
		if !errors.Is(err, ErrNoSuccessor) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "none of the voters 2 has been heard of in 4s") {
			t.Errorf("Drain = %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Drain(t.Context()) }()
		synctest.Wait()
		h.applyFor(2, &touch{})
		if err := <-done; err != nil {
			t.Errorf("Drain with a successor = %v", err)
		}
	})
}

// A member that does not lead is drained at once, and one that has ended says so.
func TestDrainOfOthers(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Drain(ended); err != nil {
			t.Errorf("Drain of a follower = %v", err)
		}
		h.lead(0) // an election, and this member was acknowledged by a quorum lately
		if err := c.Drain(ended); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "no leader is known") {
			t.Errorf("Drain in an election = %v", err)
		}
		h.script(func(attempt) fate { return lost })
		time.Sleep(2 * c.root.timing.suspendAfter)
		if err := c.Drain(ended); err != nil {
			t.Errorf("Drain without a quorum = %v", err)
		}
		c.cancel(ErrClosed)
		if err := c.Drain(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Drain of one that is closed = %v", err)
		}
	})
}

// Another member can have this one wait only for so long, and not twice in a row.
func TestQuietIsBounded(t *testing.T) {
	inDrainBubble(t, func(t *testing.T, c *Coordinator, h *scriptedHost) {
		s := sessionOn(t, c)
		ask := func(most time.Duration) error {
			e := newEncoder()
			e.quiet(rootGroup, most)
			_, err := c.answerQuiet(t.Context(), e.buf.Bytes())
			return err
		}
		write := func(what string, least, most time.Duration) {
			t.Helper()
			began := time.Now()
			if _, _, err := s.Create(t.Context(), "/"+what, nil); err != nil {
				t.Errorf("Create = %v", err)
			}
			if took := time.Since(began); took < least || took > most {
				t.Errorf("%s: the write took %v, want %v to %v", what, took, least, most)
			}
		}
		most := maxQuiet(&c.root.timing)
		fatal(t, ask(time.Minute))
		write("longest", most, most)
		fatal(t, ask(most/4))
		fatal(t, ask(time.Minute)) // the first one counts
		write("shorter", most/4, most/4)
		fatal(t, ask(most))
		h.lead(2)
		write("leader", 0, 0)
		write("free", 0, 0)

		e := newEncoder()
		e.quiet(rootGroup+1, most)
		if _, err := c.answerQuiet(t.Context(), e.buf.Bytes()); !errors.Is(err, replica.ErrNoGroup) {
			t.Errorf("quiet in no group = %v", err)
		}
		if _, err := c.answerQuiet(t.Context(), nil); !errors.Is(err, errMalformed) {
			t.Errorf("no question = %v", err)
		}
	})
}

// A hold that nothing was there to notice has no effect when it is over.
func TestLateHoldsAreOver(t *testing.T) {
	inDrainBubble(t, func(t *testing.T, c *Coordinator, h *scriptedHost) {
		s := sessionOn(t, c)
		h.script(inTurn(lost))
		done := make(chan error, 1)
		go func() {
			_, _, err := s.Create(t.Context(), "/x", nil)
			done <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		release := c.root.proposer.holdBack(ctx, 10*time.Millisecond)
		fatal(t, <-done) // the attempt that was lost took longer
		began := time.Now()
		if _, _, err := s.Create(t.Context(), "/y", nil); err != nil || time.Since(began) != 0 {
			t.Errorf("Create = %v after %v", err, time.Since(began))
		}
		release()
	})
}

// A loop over roles is told what is known, then every change if it is fast, and the
// latest if it is not.
func TestRoles(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		var mu sync.Mutex
		var fast, slow []GroupRole
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		follow := func(to *[]GroupRole, each func()) {
			wg.Go(func() {
				for r := range c.Roles(ctx) {
					mu.Lock()
					*to = append(*to, r)
					mu.Unlock()
					each()
				}
			})
		}
		follow(&fast, func() {})
		follow(&slow, func() { time.Sleep(time.Second) })
		synctest.Wait()
		for _, leader := range []MemberID{1, 0, 2} {
			h.lead(leader)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		c.roles.show(rootGroup, replica.Role{}) // as when the group is stopped
		time.Sleep(time.Minute)
		cancel()
		wg.Wait()
		first, last := GroupRole{rootGroup, Following, 2, 1}, GroupRole{rootGroup, Following, 2, 4}
		gone := GroupRole{Group: rootGroup}
		if want := []GroupRole{first, {rootGroup, Leading, 1, 2}, {rootGroup, Looking, 0, 3}, last, gone}; !slices.Equal(fast, want) {
			t.Errorf("a fast reader was told %v, want %v", fast, want)
		}
		if want := []GroupRole{first, last, gone}; !slices.Equal(slow, want) {
			t.Errorf("a slow reader was told %v, want %v", slow, want)
		}
		for range c.Roles(ctx) {
			t.Error("a role after the end of the context")
		}
	})
}

// Roles ends with the Coordinator.
func TestRolesEndWithTheCoordinator(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, _ := scriptedMember(t)
		n := 0
		for range c.Roles(t.Context()) {
			n++
			c.cancel(ErrClosed)
		}
		if n != 1 {
			t.Errorf("%d roles", n)
		}
	})
}

func quietOf(id GroupID, most time.Duration) []byte {
	e := newEncoder()
	e.quiet(id, most)
	return e.buf.Bytes()
}

func TestGoldenQuiet(t *testing.T) {
	b := golden(t, 2, "member-quiet", quietOf(300, 1900*time.Millisecond))
	if id, most, err := decodeQuiet(b); id != 300 || most != 1900*time.Millisecond || err != nil {
		t.Errorf("decoded %v, %v, %v", id, most, err)
	}
}

func quietAnswerOf(drained bool) []byte {
	e := newEncoder()
	e.quietAnswer(drained)
	return e.buf.Bytes()
}

func TestGoldenQuietAnswer(t *testing.T) {
	b := golden(t, 2, "member-quiet-answer", quietAnswerOf(true))
	if drained, err := decodeQuietAnswer(b); !drained || err != nil {
		t.Errorf("decoded %v, %v", drained, err)
	}
	if drained, err := decodeQuietAnswer(nil); drained || err != nil {
		t.Errorf("nothing is decoded as %v, %v", drained, err)
	}
}

func FuzzDecodeQuietAnswer(f *testing.F) {
	f.Add(quietAnswerOf(false))
	f.Add([]byte{0x92, 2, 0xc3})
	f.Fuzz(func(t *testing.T, b []byte) {
		drained, err := decodeQuietAnswer(b)
		if err != nil {
			if !errors.Is(err, errMalformed) && !errors.Is(err, errNewerFormat) {
				t.Fatalf("decodeQuietAnswer = %v, which is neither errMalformed nor errNewerFormat", err)
			}
			return
		}
		if again, err := decodeQuietAnswer(quietAnswerOf(drained)); err != nil || again != drained {
			t.Fatalf("round trip: %v, %v; want %v", again, err, drained)
		}
	})
}

func FuzzDecodeQuiet(f *testing.F) {
	f.Add(quietOf(1, time.Second))
	f.Add(quietOf(1<<64-1, maxElectionTimeout))
	f.Add([]byte{0x93, 2, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, most, err := decodeQuiet(b)
		if err != nil {
			if !errors.Is(err, errMalformed) && !errors.Is(err, errNewerFormat) {
				t.Fatalf("decodeQuiet = %v, which is neither errMalformed nor errNewerFormat", err)
			}
			return
		}
		if again, also, err := decodeQuiet(quietOf(id, most)); err != nil || again != id || also != most {
			t.Fatalf("round trip: %v, %v, %v; want %v, %v", again, also, err, id, most)
		}
	})
}
