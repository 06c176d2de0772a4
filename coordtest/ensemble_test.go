package coordtest_test

import (
	"context"
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
			t0 := time.Now()
			e := coordtest.NewEnsemble(t, 3, opts...)
			t.Log("ready after", time.Since(t0))
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

func TestEnsembleInBubble(t *testing.T) {
	t0 := time.Now()
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second))
		old := e.Leader(t.Context())
		s, err := old.NewSession(t.Context(), coord.SessionOptions{Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Create(t.Context(), "/eph", nil, coord.Ephemeral); err != nil {
			t.Fatal(err)
		}
		e.Kill(old)
		leader := e.Leader(t.Context())
		t1 := time.Now()
		for {
			_, ok, err := leader.Exists(t.Context(), "/eph", coord.AllowStale())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Log("ephemeral gone after", time.Since(t1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_ = ctx
	})
	t.Log("real", time.Since(t0))
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
