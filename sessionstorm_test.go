package coord_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/invariants"
)

// A sessionStorm is what the writers of TestSessionStorm share.
type sessionStorm struct {
	e  *coordtest.Ensemble
	mu sync.Mutex

	tokens []coord.Token    // guarded by mu
	open   []*coord.Session // guarded by mu
}

func (st *sessionStorm) keep(s *coord.Session, err error) {
	if err != nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.open = append(st.open, s)
	st.tokens = append(st.tokens, s.Token())
}

// take returns a handle that nobody else will take, or nil.
func (st *sessionStorm) take(r *rand.Rand) *coord.Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.open) == 0 {
		return nil
	}
	i := r.IntN(len(st.open))
	s := st.open[i]
	st.open[i] = st.open[len(st.open)-1]
	st.open = st.open[:len(st.open)-1]
	return s
}

func (st *sessionStorm) token(r *rand.Rand) (coord.Token, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.tokens) == 0 {
		return coord.Token{}, false
	}
	return st.tokens[r.IntN(len(st.tokens))], true
}

// step does one thing to some session. Callers leave at any moment.
func (st *sessionStorm) step(t *testing.T, r *rand.Rand) {
	t.Helper()
	c := st.e.Member(1 + r.IntN(3))
	patience := time.Duration(r.IntN(3000)) * time.Millisecond
	if r.IntN(3) == 0 {
		patience = time.Duration(r.IntN(3)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	switch r.IntN(8) {
	case 0, 1, 2:
		s, err := c.NewSession(ctx, coord.SessionOptions{Timeout: time.Duration(4+r.IntN(6)) * time.Second})
		st.keep(s, err)
	case 3:
		if s := st.take(r); s != nil {
			_ = s.Close() // whatever comes of it, nothing must be left
		}
	case 4:
		if s := st.take(r); s != nil {
			_ = s.HandOver(ctx)
		}
	case 5:
		if s := st.take(r); s != nil {
			_, _, _ = s.Create(ctx, "/storm/e-", nil, coord.EphemeralSequential)
			st.keep(s, nil)
		}
	default:
		if tok, ok := st.token(r); ok {
			if r.IntN(4) == 0 {
				tok = coord.ForgedToken(tok, "password")
			}
			s, err := c.Resume(ctx, tok, coord.SessionOptions{})
			st.keep(s, err)
		}
	}
}

// TestSessionStorm opens, resumes, hands over and closes sessions on all members at
// once, with callers that leave, messages that are lost, leaders that change and a
// member that catches up by a snapshot, and sees that nothing is left of it.
func TestSessionStorm(t *testing.T) {
	seeds, storms := uint64(3), 40*time.Second
	if invariants.Enabled || testing.Short() { // the race detector takes 17 s for each
		seeds, storms = 1, 20*time.Second
	}
	for seed := range seeds {
		inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
			t.Logf("seed %d", seed)
			mustCreate(t, e.Member(1), "/storm", "")
			e.Converged(t.Context())
			work := func() (all [3]string) {
				for i := range all {
					all[i] = coord.SessionWork(e.Member(i + 1))
				}
				return all
			}
			base, goroutines := work(), runtime.NumGoroutine()
			st := &sessionStorm{e: e}
			e.Lose(0.01, seed)
			ctx, cancel := context.WithTimeout(t.Context(), storms)
			defer cancel()
			var storm sync.WaitGroup
			for i := range uint64(12) {
				storm.Go(func() {
					for r := rand.New(rand.NewPCG(seed, i)); ctx.Err() == nil; time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond) {
						st.step(t, r)
					}
				})
			}
			time.Sleep(5 * time.Second)
			cut := e.Follower(t.Context())
			e.Isolate(cut) // behind a snapshot when it comes back
			time.Sleep(5 * time.Second)
			e.Heal()
			time.Sleep(5 * time.Second)
			e.Lead(t.Context(), cut)
			storm.Wait()
			e.Lose(0, 0)
			for r := rand.New(rand.NewPCG(seed, 99)); ; {
				s := st.take(r)
				if s == nil {
					break
				}
				_ = s.Close()
			}
			var now [3]string
			deadline := time.Now().Add(2 * time.Minute)
			for now = work(); now != base || runtime.NumGoroutine() > goroutines; now = work() {
				if time.Now().After(deadline) {
					t.Fatalf("seed %d: left behind: %q and %d goroutines, want %q and %d", seed, now, runtime.NumGoroutine(), base, goroutines)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 30 }))
	}
}
