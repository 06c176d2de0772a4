package servicetest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/examples/servicetest"
)

// One replica, in real time: what a test begins with.
func TestCounts(t *testing.T) {
	c := coordtest.New(t)
	if err := servicetest.Setup(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := servicetest.Count(ctx, c, time.Millisecond, func(err error) {
		if value, _, _ := c.Get(ctx, "/counter/value"); err != nil || string(value) == "3" {
			cancel()
		}
	})
	if value, _, _ := c.Get(t.Context(), "/counter/value"); string(value) != "3" {
		t.Errorf("the counter is %s, Count: %v", value, err)
	}
}

// Three replicas, for a minute of virtual time, while everything goes wrong: no number is
// counted twice or lost.
func TestCountsUnderFaults(t *testing.T) {
	coordtest.VirtualTime(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3)
		if err := servicetest.Setup(t.Context(), e.Member(1)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var sure, perhaps atomic.Int64
		var replicas sync.WaitGroup
		for i := range e.Size() {
			replicas.Go(func() {
				for ctx.Err() == nil { // a replica that has crashed starts again
					_ = servicetest.Count(ctx, e.Member(i+1), time.Second, func(err error) {
						if err == nil {
							sure.Add(1)
						} else if errors.Is(err, coord.ErrUnknownOutcome) {
							perhaps.Add(1)
						}
					})
					time.Sleep(time.Second)
				}
			})
		}
		faults := e.StartFaults(coordtest.Faults{Every: 2 * time.Second})
		time.Sleep(time.Minute)
		faults.Stop()
		before := sure.Load()
		e.WaitFor(t.Context(), "the service to go on", func() error {
			if n := sure.Load() - before; n < 3 {
				return fmt.Errorf("it counted to %d since", n)
			}
			return nil
		})
		cancel()
		replicas.Wait()
		value, _, err := e.Leader(t.Context()).Add(t.Context(), "/counter/value", 0)
		if err != nil || value < sure.Load() || value > sure.Load()+perhaps.Load() {
			t.Errorf("the counter is %d, %v; %d were counted, and %d perhaps", value, err, sure.Load(), perhaps.Load())
		}
		t.Log(value, "counted;", faults.Count())
	})
}
