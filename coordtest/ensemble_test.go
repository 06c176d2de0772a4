package coordtest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

func TestEnsembleSurvivesLeader(t *testing.T) {
	for _, opts := range [][]coordtest.Option{nil, {coordtest.OnDisk()}} {
		t.Run(fmt.Sprint(len(opts)), func(t *testing.T) {
			e := coordtest.NewEnsemble(t, 3, opts...)
			old := e.Leader(t.Context())
			follower := e.Follower(t.Context())
			if _, _, err := follower.Create(t.Context(), "/a", []byte("1")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := old.Create(t.Context(), "/eph", nil, coord.Ephemeral); err != nil {
				t.Fatal(err)
			}
			e.Kill(old)
			if _, err := follower.SetData(t.Context(), "/a", []byte("2")); err != nil {
				t.Fatal(err)
			}
			e.Leader(t.Context())
			again := e.Restart(old)
			if err := again.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			data, stat, err := again.Get(t.Context(), "/a", coord.Linearizable())
			if err != nil || string(data) != "2" || stat.Version != 1 {
				t.Fatalf("Get = %q, %+v, %v", data, stat, err)
			}
		})
	}
}

// A dead member's session lives on for its timeout, to the second, in no time.
func TestEnsembleInBubble(t *testing.T) {
	const timeout = 30 * time.Second
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second))
		old := e.Leader(t.Context())
		s, err := old.NewSession(t.Context(), coord.SessionOptions{Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Create(t.Context(), "/eph", nil, coord.Ephemeral); err != nil {
			t.Fatal(err)
		}
		e.Kill(old)
		killed := time.Now()
		e.WaitFor(t.Context(), "the ephemeral to vanish", func() error {
			_, there, err := e.Leader(t.Context()).Exists(t.Context(), "/eph", coord.AllowStale())
			if there {
				return errors.New("it is there")
			}
			return err
		})
		// The last sign of life was at most an election timeout old when the member was
		// killed, and a new leader gives everybody a full timeout.
		if lived := time.Since(killed); lived < timeout-2*time.Second || lived > timeout+time.Minute {
			t.Errorf("the ephemeral of a session with a timeout of %v vanished %v after its member was killed", timeout, lived)
		}
	})
}

// No test waits for an election before it begins.
func TestEnsemblesElectAtOnce(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		begin := time.Now()
		coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(time.Minute))
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("it took %v, and an election timeout is half a minute at least", took)
		}
	})
}

// How long a test waits until it has its ensemble. Closing it is not counted.
func BenchmarkReady(b *testing.B) {
	for _, n := range []int{1, 3, 5} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				f := &fakeTB{TB: b}
				f.run(func(tb testing.TB) {
					coordtest.NewEnsemble(tb, n)
					b.StopTimer()
				})
				if f.failed {
					b.Fatal(f.said)
				}
				b.StartTimer()
			}
		})
	}
}
