package coord_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/invariants"
)

// seen records the states that a loop over States is given, and when.
type seen struct {
	mu     sync.Mutex
	states []coord.SessionState // guarded by mu
	at     []time.Time          // guarded by mu
	done   chan struct{}
}

func watchStates(ctx context.Context, s *coord.Session) *seen {
	w := &seen{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for st := range s.States(ctx) {
			w.mu.Lock()
			w.states, w.at = append(w.states, st), append(w.at, time.Now())
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *seen) want(t *testing.T, states ...coord.SessionState) []time.Time {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.states, states) {
		t.Errorf("states %v, want %v", w.states, states)
	}
	return slices.Clone(w.at)
}

func TestStatesAreTold(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s := mustSession(t, c, 30*time.Second)
		states := watchStates(t.Context(), s)
		time.Sleep(time.Minute)
		states.want(t, coord.Connected)

		// Nobody calls anything: the handle notices by itself.
		e.Isolate(c)
		cut := time.Now()
		time.Sleep(8 * time.Second)
		at := states.want(t, coord.Connected, coord.Suspended)
		// 2E behind the last touch, which is at most a touch interval before the cut.
		if d := at[len(at)-1].Sub(cut); d < 3*time.Second || d > 4*time.Second+500*time.Millisecond {
			t.Errorf("suspended after %v", d)
		}
		if st := s.State(); st != coord.Suspended {
			t.Errorf("State = %v", st)
		}
		if s.Context().Err() != nil {
			t.Error("a suspended handle has ended")
		}
		e.Heal()
		eventually(t, "the handle to be connected again", func() bool { return s.State() == coord.Connected })
		time.Sleep(time.Second)
		states.want(t, coord.Connected, coord.Suspended, coord.Connected)

		e.Isolate(c)
		<-states.done
		states.want(t, coord.Connected, coord.Suspended, coord.Connected, coord.Suspended, coord.Expired)
		e.Heal()
	})
}

func TestStatesEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := mustSession(t, c, 30*time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		canceled, slow := watchStates(ctx, s), watchStates(t.Context(), s)
		time.Sleep(time.Second)
		cancel()
		<-canceled.done
		canceled.want(t, coord.Connected)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		<-slow.done
		slow.want(t, coord.Connected, coord.Closed)
		for st := range s.States(t.Context()) { // once it has ended
			if st != coord.Closed {
				t.Errorf("state %v", st)
			}
		}

		// A reader that sleeps misses what was in between, not the last.
		s = mustSession(t, c, 30*time.Second)
		var got []coord.SessionState
		for st := range s.States(t.Context()) {
			if got = append(got, st); len(got) == 1 {
				e.Isolate(c)
				time.Sleep(time.Minute)
				e.Heal()
				time.Sleep(time.Minute)
			}
		}
		if !slices.Equal(got, []coord.SessionState{coord.Connected, coord.Expired}) {
			t.Errorf("states %v", got)
		}

		// Moved, and with the Coordinator.
		s = mustSession(t, c, 30*time.Second)
		moved := watchStates(t.Context(), s)
		time.Sleep(time.Second)
		next := mustResume(t, c, s.Token())
		<-moved.done
		moved.want(t, coord.Connected, coord.Closed)
		gone := watchStates(t.Context(), next)
		time.Sleep(time.Second)
		e.Kill(c)
		<-gone.done
		gone.want(t, coord.Connected, coord.Closed)
		if err := next.Close(); err != nil {
			t.Errorf("Close behind that of the Coordinator = %v", err)
		}
	})
}

// A process that was paused asks its context first, or just goes on: it learns of
// the end before it does anything, and what it then tries is not proposed.
func TestG18PausedProcessesLearnFirst(t *testing.T) {
	ways := map[string]func(t *testing.T, s *coord.Session) error{
		"Err":   func(_ *testing.T, s *coord.Session) error { return s.Context().Err() },
		"Cause": func(_ *testing.T, s *coord.Session) error { return context.Cause(s.Context()) },
		"Done": func(_ *testing.T, s *coord.Session) error {
			select {
			case <-s.Context().Done():
				return coord.ErrSessionExpired
			default:
				return nil
			}
		},
		"derived": func(t *testing.T, s *coord.Session) error {
			ctx, cancel := context.WithCancel(s.Context())
			defer cancel()
			return ctx.Err()
		},
		"read": func(t *testing.T, s *coord.Session) error {
			_, _, err := s.Get(t.Context(), "/eph")
			return err
		},
		"write": func(t *testing.T, s *coord.Session) error {
			_, err := s.SetData(t.Context(), "/eph", nil)
			return err
		},
		"multi": func(t *testing.T, s *coord.Session) error {
			_, err := s.Multi(t.Context(), coord.CreateOp("/wrong", nil))
			return err
		},
	}
	for what, ask := range ways {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
				c := e.Follower(t.Context())
				s := mustSession(t, c, 10*time.Second)
				_, st := mustCreate(t, s, "/eph", "", coord.Ephemeral)
				if err := ask(t, s); what != "write" && what != "multi" && err != nil {
					t.Fatalf("before the pause: %v", err)
				}
				derived, cancel := context.WithTimeout(s.Context(), time.Hour)
				defer cancel()
				coord.SkipClock(c, 9*time.Second) // not yet
				if s.State() == coord.Expired {
					t.Fatal("it ended before its time")
				}
				time.Sleep(2 * time.Second)
				e.Isolate(c) // or this member may be told that the session lives still, before it looks
				coord.SkipClock(c, 11*time.Second)
				err := ask(t, s)
				if err == nil || errors.Is(err, coord.ErrUnknownOutcome) {
					t.Fatalf("behind the pause: %v, want an end that is definite", err)
				}
				if derived.Err() == nil {
					t.Error("a derived context has not followed")
				}
				if cause := context.Cause(s.Context()); !errors.Is(cause, coord.ErrSessionExpired) || s.State() != coord.Expired {
					t.Errorf("%v with cause %v", s.State(), cause)
				}
				_, err = s.SetData(t.Context(), "/eph", []byte("late"))
				if !errors.Is(err, coord.ErrSessionExpired) || errors.Is(err, coord.ErrUnknownOutcome) {
					t.Errorf("SetData = %v", err)
				}
				e.Heal()
				// It was not touched again, and its close was proposed.
				eventually(t, "the session to end", func() bool {
					now, ok, err := e.Leader(t.Context()).Exists(t.Context(), "/eph", coord.Linearizable())
					if ok && now.Version > st.Version+1 {
						t.Fatal("the write was proposed")
					}
					return err == nil && !ok
				})
			})
		})
	}
}

// A pause that is over before the deadline does no harm, however often.
func TestShortPausesEndNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		s := mustSession(t, c, 20*time.Second)
		for range 100 {
			coord.SkipClock(c, 10*time.Second)
			time.Sleep(2 * time.Second)
		}
		if s.State() != coord.Connected {
			t.Errorf("state %v", s.State())
		}
	})
}

func TestDerivedContextsNeedNoGoroutines(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	s := mustSession(t, e.Member(1), time.Minute)
	type key struct{}
	before := runtime.NumGoroutine()
	const n = 1000
	var all []context.Context
	fired := make(chan error, n)
	for range n {
		a, cancelA := context.WithCancel(s.Context())
		defer cancelA()
		b, cancelB := context.WithTimeout(context.WithValue(a, key{}, 1), time.Hour)
		defer cancelB()
		context.AfterFunc(b, func() { fired <- context.Cause(b) })
		all = append(all, a, b)
	}
	if after := runtime.NumGoroutine(); after > before+n/10 {
		t.Errorf("%d goroutines for %d contexts", after-before, len(all))
	}
	if _, ok := s.Context().Deadline(); ok {
		t.Error("the context has a deadline, which moves")
	}
	if again := s.Context(); again != s.Context() {
		t.Error("the context of a session is not equal to itself")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ctx := range all {
		if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(context.Cause(ctx), coord.ErrClosed) {
			t.Fatalf("a derived context ended with %v, %v", ctx.Err(), context.Cause(ctx))
		}
	}
	for range n {
		if err := <-fired; !errors.Is(err, coord.ErrClosed) {
			t.Fatalf("AfterFunc was called with %v", err)
		}
	}
}

func TestNewSessionRefusesBadTimeouts(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	if _, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: -1}); !errors.Is(err, coord.ErrBadArguments) {
		t.Errorf("NewSession with a negative timeout = %v", err)
	}
	for asked, want := range map[time.Duration]time.Duration{1: 2 * time.Second, 0: 10 * time.Second, 1 << 62: 7 * 24 * time.Hour} {
		if got := mustSession(t, c, asked).Timeout(); got != want {
			t.Errorf("asked for %v: granted %v, want %v", asked, got, want)
		}
	}
}

// TestG10HandlesEndFirstInAThousandIsolations isolates members at random moments, a thousand times, and
// compares when their handles ended with when another member's watcher was told
// that the ephemeral is gone. The sessions have the shortest timeout that is
// granted, and others.
func TestG10HandlesEndFirstInAThousandIsolations(t *testing.T) {
	rounds := 1000
	if testing.Short() || invariants.Enabled { // the race detector makes this ten times slower
		rounds = 50
	}
	smallest := time.Hour
	begin := time.Now()
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		mustCreate(t, e.Member(1), "/h", "")
		r := rand.New(rand.NewPCG(1, uint64(rounds)))
		for round := 0; round < rounds; {
			victim := e.Member(1 + r.IntN(3))
			if err := victim.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			watcher := e.Member(int(victim.Status().Member)%3 + 1)
			n := 4 + r.IntN(5)
			margins := isolateOnce(t, e, r, victim, watcher, n)
			for _, m := range margins {
				smallest = min(smallest, m)
				if m <= 0 {
					t.Fatalf("round %d: a handle ended %v after another member saw its ephemeral vanish", round, -m)
				}
			}
			round += n
		}
	}, coordtest.WithElectionTimeout(200*time.Millisecond))
	t.Logf("%d rounds in %v: the smallest margin is %v, for timeouts from 400ms", rounds, time.Since(begin), smallest)
}

// isolateOnce opens n sessions on victim, cuts it off, and returns by how much
// each handle ended before watcher saw its ephemeral vanish.
func isolateOnce(t *testing.T, e *coordtest.Ensemble, r *rand.Rand, victim, watcher *coord.Coordinator, n int) []time.Duration {
	t.Helper()
	w, err := watcher.Watch(t.Context(), "/h", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ended := make([]time.Time, n)
	index := map[string]int{}
	var waiting sync.WaitGroup
	for i := range n {
		s := mustSession(t, victim, time.Duration(r.IntN(800))*time.Millisecond)
		p, _ := mustCreate(t, s, "/h/e-", "", coord.EphemeralSequential)
		index[p] = i
		waiting.Go(func() {
			<-s.Context().Done()
			ended[i] = time.Now()
		})
	}
	time.Sleep(time.Duration(r.IntN(int(100 * time.Millisecond))))
	e.Isolate(victim)
	gone := map[int]time.Time{}
	for ev, err := range w.Events() {
		if err != nil {
			t.Fatal(err)
		}
		i, known := index[ev.Path] // of an earlier round, if the watcher was behind
		if ev.Type != coord.NodeDeleted || !known {
			continue
		}
		gone[i] = time.Now()
		if len(gone) == n {
			break
		}
	}
	waiting.Wait()
	e.Heal()
	margins := make([]time.Duration, n)
	for i := range margins {
		margins[i] = gone[i].Sub(ended[i])
	}
	return margins
}

func BenchmarkSessionGet(b *testing.B) {
	e := coordtest.NewEnsemble(b, 1)
	c := e.Member(1)
	s, err := c.NewSession(b.Context(), coord.SessionOptions{})
	if err != nil {
		b.Fatal(err)
	}
	if _, _, err := c.Create(b.Context(), "/n", []byte("data")); err != nil {
		b.Fatal(err)
	}
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := s.Get(b.Context(), "/n"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("err", func(b *testing.B) {
		ctx := s.Context()
		for b.Loop() {
			if ctx.Err() != nil {
				b.Fatal(ctx.Err())
			}
		}
	})
}
