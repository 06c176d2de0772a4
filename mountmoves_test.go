package coord_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// An adder adds to one number from one member, and keeps what it was told.
type adder struct {
	sums    []int64
	unknown int
	err     error
}

// run adds until ctx ends. Each sum is above the one before, and a linearizable read shows
// at least what was acknowledged.
func (a *adder) run(ctx context.Context, member func() *coord.Coordinator) {
	for ctx.Err() == nil {
		time.Sleep(time.Millisecond) // of the bubble, where a call takes no time
		c := member()
		sum, _, err := c.Add(ctx, "/q", 1)
		switch {
		case errors.Is(err, coord.ErrUnknownOutcome):
			a.unknown++
			continue
		case err != nil:
			if ctx.Err() == nil && c.Context().Err() == nil {
				a.err = errors.Join(a.err, err)
			}
			continue
		}
		a.sums = append(a.sums, sum)
		if n := len(a.sums); n > 1 && a.sums[n-2] >= sum {
			a.err = errors.Join(a.err, errors.New("a sum is not above the one before"))
		}
	}
}

// TestG23NothingIsLostInMoves adds to the data of a mount point from all members, while it is
// mounted and unmounted again and again and members die: what was acknowledged was added
// once, no two sums are equal, and no call fails for the moves.
func TestG23NothingIsLostInMoves(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 23))
		mustCreate(t, e.Member(1), "/q", "0")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var adding sync.WaitGroup
		adders := make([]adder, 6)
		for i := range adders {
			adding.Go(func() { adders[i].run(ctx, func() *coord.Coordinator { return e.Member(i%3 + 1) }) })
		}
		moves := 0
		for round := range 10 {
			if round%4 == 3 {
				victim := e.Member(r.IntN(3) + 1)
				e.Kill(victim)
				time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond) // of the bubble
				e.Restart(victim)
			}
			c := e.Running()[r.IntN(len(e.Running()))]
			var err error
			if len(c.Mounts()) == 0 {
				err = c.Mount(t.Context(), "/q")
			} else {
				err = c.Unmount(t.Context(), "/q")
			}
			if err == nil {
				moves++
			} else if !errors.Is(err, coord.ErrUnknownOutcome) && !errors.Is(err, coord.ErrMounted) && !errors.Is(err, coord.ErrTimeout) && c.Context().Err() == nil {
				t.Errorf("round %d: %v", round, err)
			}
			time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond) // of the bubble
		}
		cancel()
		adding.Wait()

		seen, unknown := map[int64]bool{}, 0
		for i := range adders {
			a := &adders[i]
			if a.err != nil {
				t.Errorf("adder %d: %v", i, a.err)
			}
			unknown += a.unknown
			for _, sum := range a.sums {
				if seen[sum] {
					t.Errorf("two callers were told the sum %d", sum)
				}
				seen[sum] = true
			}
		}
		total, _, err := e.Leader(t.Context()).Add(t.Context(), "/q", 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(len(seen)); total < n || total > n+int64(unknown) {
			t.Errorf("the number is %d behind %d acknowledged additions and %d of unknown outcome", total, n, unknown)
		}
		if moves < 5 {
			t.Errorf("only %d moves of 10 came to their end", moves)
		}
	})
}
