package coord

import (
	"bytes"
	"log/slog"
	"math"
	"testing"
	"time"

	"coord/internal/invariants"
)

// idleState returns a state in which each of two members owns half of n sessions,
// with many different timeouts.
func idleState(tb testing.TB, n int) *state {
	tb.Helper()
	s := newTestState()
	s.apply(&command{kind: commandHello, group: rootGroup, member: 1, hello: &helloCommand{expected: 1, nonce: 2}}, 0)
	for i := range n {
		s.sessions.put(&session{
			id: SessionID(i + 1), timeoutMS: 10_000 + int64(i%1000), owner: 1, incarnation: uint64(1 + i%2), generation: firstGeneration,
		})
	}
	s.zxid = ZXID(n)
	if err := s.firstViolation(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// idleGroup returns a group without a host that has published s.
func idleGroup(tb testing.TB, s *state) (*group, *Config) {
	tb.Helper()
	cfg := &Config{Dir: tb.TempDir()}
	cfg.setDefaults()
	g := newGroup(rootGroup, cfg, slog.New(slog.DiscardHandler))
	tb.Cleanup(func() { g.close(ErrClosed) })
	g.pub.Store(&published{state: s.freeze()})
	return g, cfg
}

// fastest returns the shortest of several runs, which a busy machine disturbs least.
func fastest(f func()) time.Duration {
	best := time.Duration(math.MaxInt64)
	for range 50 {
		begin := time.Now()
		f()
		best = min(best, time.Since(begin))
	}
	return best
}

// A member becomes leader, and looks for sessions to expire, at a cost that does
// not grow with the sessions that are idle.
func TestLeadingAMillionIdleSessions(t *testing.T) {
	n := 1_000_000
	if invariants.Enabled || testing.Short() {
		n = 50_000
	}
	s := idleState(t, n)
	g, cfg := idleGroup(t, s)
	r := newReaper(g, cfg)
	now := time.Now()
	begin := fastest(func() { r.begin(now) })
	var due []expiry
	look := fastest(func() { due = r.due(g.state(), now.Add(time.Second)) })
	if len(due) != 0 {
		t.Errorf("%d sessions due after a second", len(due))
	}
	many := fastest(func() { due = r.due(g.state(), now.Add(time.Minute)) })
	if len(due) != maxExpiriesAtOnce {
		t.Errorf("%d sessions due after a minute, want %d", len(due), maxExpiriesAtOnce)
	}
	t.Logf("%d idle sessions: to begin to lead takes %v, to find that none is due %v, to list %d that are %v", n, begin, look, len(due), many)
	if bound := 200 * time.Microsecond; begin > bound || look > bound {
		t.Errorf("it takes more than %v", bound)
	}
	// In one command, as one batch of the leader.
	entry := time.Now()
	results, eff := applyRequests(s, request{kind: requestExpire, expiries: due})
	t.Logf("%d sessions ended by one command in %v", len(eff.ended), time.Since(entry))
	if len(eff.ended) != len(due) || results[0].zxid != ZXID(n+len(due)) || s.sessions.byID.len() != n-len(due) {
		t.Errorf("%d ended of %d, zxid %v", len(eff.ended), len(due), results[0].zxid)
	}
	if err := s.firstViolation(); err != nil {
		t.Error(err)
	}
}

// A touch says nothing of sessions that are as they were.
func TestTouchesDoNotGrowWithIdleSessions(t *testing.T) {
	size := func(n int, silent ...SessionID) int {
		g, _ := idleGroup(t, idleState(t, n))
		for _, id := range silent {
			g.proposer.silence(id, firstGeneration)
		}
		e := newEncoder()
		e.command(&command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{
			incarnation: 1, number: 1, observed: g.state().zxid, touch: g.proposer.touch(), requests: []request{},
		}}, formatVersion)
		first := bytes.Clone(e.buf.Bytes())
		e = newEncoder()
		e.touch(g.proposer.touch())
		if len(silent) > 0 && e.buf.Len() >= len(first) {
			t.Errorf("the second touch says again what the first did")
		}
		return len(first)
	}
	few, many := size(70_000), size(160_000)
	if few != many {
		t.Errorf("a touch takes %d bytes with 70000 idle sessions and %d with 160000", few, many)
	}
	if changed := size(160_000, 7, 8); changed <= many || changed > many+20 {
		t.Errorf("two changes make %d bytes of %d", changed, many)
	}
	t.Logf("a touch takes %d bytes", many)
}

// While touches are acknowledged, looking after the handles does not look at them.
func TestLookingAfterIdleHandlesIsCheap(t *testing.T) {
	s := idleState(t, 20_000)
	g, _ := idleGroup(t, s)
	for ses := range s.sessions.byID.all() {
		if err := g.adopt(g.newSession(nil, ses.id, firstGeneration, ses.timeoutMS)); err != nil {
			t.Fatal(err)
		}
	}
	g.proposer.touched(g.clock.Elapsed())
	var next time.Duration
	cost := fastest(func() { next, _ = g.lookAfterHandles(false) })
	if cost > 20*time.Microsecond || next > g.timing.expireEvery {
		t.Errorf("a look takes %v, the next is due in %v", cost, next)
	}
	g.clock.Skip(11 * time.Second)
	g.lookAfterHandles(false)
	if left := len(g.ownSessions()); left != 0 {
		t.Errorf("%d handles are left behind their deadlines", left)
	}
	t.Logf("a look takes %v with 20000 handles", cost)
}
