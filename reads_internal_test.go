package coord

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/bubble"
)

// Reads are refused from the moment at which the first attempt of the last touch
// that was acknowledged is two election timeouts old: neither later attempts nor
// answers that come late count for more.
func TestReadsAreSuspendedByTheFirstAttempt(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		time.Sleep(time.Minute + c.root.timing.touchEvery/2)
		synctest.Wait() // no batch is under way
		begun := len(h.batches())
		h.script(inTurn(lost, applied, lost, lost, lost, lost, lost, lost, lost, lost))
		time.Sleep(c.root.timing.touchEvery + c.root.timing.proposeAttempt)
		synctest.Wait()
		first := h.batches()[begun]
		if m := c.root.state().members.get(1); m.number != first.cmd.batch.number || first.cmd.batch.touch == nil {
			t.Fatalf("batch %d is applied, want %d with a touch", m.number, first.cmd.batch.number)
		}
		until := first.at.Add(2 * c.cfg.ElectionTimeout)
		time.Sleep(time.Until(until) - time.Millisecond)
		if _, _, err := s.Get(t.Context(), "/"); err != nil {
			t.Fatalf("Get before two election timeouts = %v", err)
		}
		time.Sleep(2 * time.Millisecond)
		if _, _, err := s.Get(t.Context(), "/"); !errors.Is(err, ErrSuspended) {
			t.Errorf("Get behind two election timeouts = %v, want suspended", err)
		}
		if _, _, err := s.Get(t.Context(), "/", AllowStale()); err != nil {
			t.Errorf("stale Get = %v", err)
		}
		if _, _, err := s.Get(t.Context(), "/", Linearizable()); err != nil {
			t.Errorf("linearizable Get, which a quorum has answered = %v", err)
		}
		if s.Context().Err() != nil || s.State() != Suspended {
			t.Errorf("the session is %v", s.State())
		}
	})
}

// A read that is to reflect a Position waits for one barrier if this member is
// behind, and fails if it is behind even then.
func TestAtLeastTakesOneBarrier(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		here := c.root.state()
		rounds := 0
		h.reading(func(context.Context) error {
			if rounds++; rounds == 2 {
				h.applyFor(2, nil, writeOf(op{kind: opCreate, path: "/n"}))
			}
			return nil
		})
		at := func(z ZXID) ReadOption { return AtLeast(positionOf(here, groupPosition{rootGroup, z, allEvents})) }
		if _, ok, err := s.Exists(t.Context(), "/n", at(here.zxid)); ok || err != nil || rounds != 0 {
			t.Errorf("level: Exists = %v, %v with %d barriers", ok, err, rounds)
		}
		if _, _, err := s.Exists(t.Context(), "/n", at(here.zxid+1)); !errors.Is(err, ErrInvalidPosition) || rounds != 1 {
			t.Errorf("of the future: Exists = %v with %d barriers", err, rounds)
		}
		if _, ok, err := s.Exists(t.Context(), "/n", at(here.zxid+1)); !ok || err != nil || rounds != 2 {
			t.Errorf("behind: Exists = %v, %v with %d barriers", ok, err, rounds)
		}
	})
}

// A member that knows nothing yet does not call a Position wrong: it cannot tell.
func TestAtLeastOnAMemberThatKnowsNothing(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		known, _ := scriptedMember(t)
		p := positionOf(known.root.state(), groupPosition{rootGroup, known.root.state().zxid, allEvents})
		c, h := unstartedMember(t)
		h.reading(func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.View(ctx, AtLeast(p)); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrTimeout) {
			t.Errorf("View = %v, want that it has waited in vain", err)
		}
		if _, err := c.View(ctx, AtLeast(p), AllowStale()); err == nil || errors.Is(err, ErrInvalidPosition) {
			t.Errorf("View of anything = %v", err)
		}
	})
}

// A Position that names a group which this ensemble does not have cannot be reached:
// a read that is to reflect it fails and does not pretend.
func TestAtLeastRefusesUnknownGroups(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, _ := scriptedMember(t)
		s := sessionOn(t, c)
		mark := fmt.Sprintf("p1-%016x-", ensembleMark(c.root.state()))
		for _, groups := range []string{"7:0x1", "1:0x1,7:0x1"} {
			p, err := ParsePosition(mark + groups)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Get(t.Context(), "/", AtLeast(p)); !errors.Is(err, ErrInvalidPosition) || !strings.Contains(err.Error(), "group 7") {
				t.Errorf("Get at least %v = %v", p, err)
			}
		}
	})
}

// What clients give is compared and never counted: no Position, version, czxid or
// token moves the zxid, and only the member's own observations go into the log.
func TestNumbersOfClientsDoNotMoveTheZXID(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		before := c.root.state().zxid
		far := positionOf(c.root.state(), groupPosition{rootGroup, before + 1<<40, allEvents})
		if _, _, err := s.Get(t.Context(), "/", AtLeast(far)); !errors.Is(err, ErrInvalidPosition) {
			t.Errorf("Get = %v", err)
		}
		if _, err := s.Watch(t.Context(), "/", Node, From(far)); !errors.Is(err, ErrInvalidPosition) {
			t.Errorf("Watch = %v", err)
		}
		if _, err := s.SetData(t.Context(), "/", nil, WithCzxid(before+1<<40), WithVersion(1<<30)); !errors.Is(err, ErrBadVersion) {
			t.Errorf("SetData = %v", err)
		}
		forged := s.Token()
		forged.session = 1 << 50
		if _, err := c.Resume(t.Context(), forged, SessionOptions{}); !errors.Is(err, ErrSessionExpired) {
			t.Errorf("Resume = %v", err)
		}
		if now := c.root.state().zxid; now != before+2 {
			t.Errorf("zxid %v behind %v and two requests that failed", now, before)
		}
		for _, a := range h.batches() {
			if a.cmd.batch.observed > before+2 {
				t.Errorf("a batch says that this member has observed %v", a.cmd.batch.observed)
			}
		}
	})
}

// What is queued goes into the log in the order in which it came.
func TestQueuedWritesKeepTheirOrder(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		gate := make(chan struct{})
		h.script(func(attempt) fate {
			return func(ctx context.Context, h *scriptedHost, b []byte) error {
				select {
				case <-gate:
					return applied(ctx, h, b)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		const n = 300
		zxids := make([]ZXID, n)
		done := make(chan error, n)
		for i := range n {
			go func() {
				_, st, err := s.Create(t.Context(), fmt.Sprintf("/%d", i), nil)
				zxids[i] = st.Czxid
				done <- err
			}()
			synctest.Wait()
		}
		close(gate)
		for range n {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		for i, z := range zxids[1:] {
			if z != zxids[i]+1 {
				t.Fatalf("write %d has zxid %v behind %v", i+1, z, zxids[i])
			}
		}
		if batches := len(h.batches()); batches > 10 {
			t.Errorf("%d writes that waited took %d batches", n, batches)
		}
	})
}

// Counters returns what a member keeps for callers, handles and watches, to be
// compared before and behind a storm of them.
func Counters(c *Coordinator) map[string]int {
	g := c.root
	counters := map[string]int{}
	g.hub.mu.Lock()
	counters["watches"], counters["watched paths"], counters["watched contexts"] = g.hub.count, len(g.hub.watches), len(g.hub.ctxs)
	counters["watches behind"], counters["marked watches"], counters["subtrees"] = len(g.hub.behind), len(g.hub.marked), g.hub.subtrees
	g.hub.mu.Unlock()
	g.mu.Lock()
	counters["handles"], counters["waits"], counters["resumes"] = len(g.sessions), len(g.waits), len(g.resuming)
	counters["silences"] = len(g.silences)
	g.mu.Unlock()
	g.proposer.mu.Lock()
	counters["queued requests"], counters["silences to tell"] = len(g.proposer.queue), len(g.proposer.silences)
	g.proposer.mu.Unlock()
	if g.proposer.space.TryAcquire(maxQueueBytes) {
		g.proposer.space.Release(maxQueueBytes)
	} else {
		counters["taken places"] = 1
	}
	s := g.state()
	counters["sessions"], counters["ephemerals"] = s.sessions.byID.len(), s.sessions.ephemerals.len()
	return counters
}

// A member that has not applied anything knows nothing, and does not say that there
// is nothing.
func TestStaleReadsNeedSomethingToBeStaleAbout(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := unstartedMember(t)
		if _, _, err := c.Get(t.Context(), "/n", AllowStale()); !errors.Is(err, ErrSuspended) {
			t.Errorf("stale Get of an empty state = %v, want suspended", err)
		}
		if v, err := c.View(t.Context(), AllowStale()); !errors.Is(err, ErrSuspended) {
			t.Errorf("stale View of an empty state = %v, %v, want suspended", v, err)
		}
		h.found()
		if _, _, err := c.Get(t.Context(), "/n", AllowStale()); !errors.Is(err, ErrNoNode) {
			t.Errorf("stale Get of an absent znode = %v", err)
		}
	})
}
