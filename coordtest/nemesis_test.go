package coordtest_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// A workload under all faults keeps its promises, and every kind comes.
func TestNemesis(t *testing.T) {
	inTime(t, func(t *testing.T, e *coordtest.Ensemble) {
		create(t, e.Member(1), "/sum")
		if _, err := e.Member(1).SetData(t.Context(), "/sum", []byte("0")); err != nil {
			t.Fatal(err)
		}
		n := e.StartFaults(coordtest.Faults{})
		var working sync.WaitGroup
		var mu sync.Mutex
		var sure, perhaps int64
		for i := range e.Size() {
			working.Go(func() {
				for range 150 {
					time.Sleep(time.Second)
					_, _, err := e.Member(i+1).Add(t.Context(), "/sum", 1)
					mu.Lock()
					if err == nil {
						sure++
					} else if errors.Is(err, coord.ErrUnknownOutcome) {
						perhaps++
					}
					mu.Unlock()
				}
			})
		}
		working.Wait()
		n.Stop()
		n.Stop()
		sum, _, err := e.Leader(t.Context()).Add(t.Context(), "/sum", 0)
		if err != nil || sum < sure || sum > sure+perhaps {
			t.Errorf("the sum is %d, %v; want %d, and at most %d more", sum, err, sure, perhaps)
		}
		counts, all := n.Count(), 0
		for _, count := range counts {
			all += count
		}
		t.Logf("%d acknowledged, %d unknown; %d faults: %v", sure, perhaps, all, counts)
		if all < 20 || len(counts) < 8 || sure < 100 {
			t.Errorf("too little happened")
		}
		if len(e.Running()) != e.Size() {
			t.Error("somebody is down after Stop")
		}
	})
}

// The seed decides what is done, and a nemesis that is left at work is ended at cleanup.
func TestNemesisRepeats(t *testing.T) {
	plan := func(seed uint64) (kinds []string) {
		coordtest.VirtualTime(t, func(t *testing.T) {
			f := &fakeTB{TB: t}
			said := f.run(func(tb testing.TB) {
				e := coordtest.NewEnsemble(tb, 3, coordtest.WithSeed(seed))
				e.StartFaults(coordtest.Faults{})
				time.Sleep(time.Minute)
				tb.Error("to see what was done")
			})
			if len(f.said) != 3 {
				t.Errorf("more than the report was said:\n%s", said)
			}
			for _, line := range regexp.MustCompile(`nemesis: ([a-z ]+), member`).FindAllStringSubmatch(said, 6) {
				kinds = append(kinds, line[1])
			}
		})
		return kinds
	}
	one, again, other := plan(5), plan(5), plan(6)
	if len(one) != 6 || !slices.Equal(one, again) {
		t.Errorf("seed 5 had %q and then %q", one, again)
	}
	if slices.Equal(one, other) {
		t.Errorf("seeds 5 and 6 had both %q", one)
	}
}

// A nemesis keeps to its kinds, and hits no more members at once than it may.
func TestNemesisKeepsToItsBounds(t *testing.T) {
	coordtest.VirtualTime(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 5)
		n := e.StartFaults(coordtest.Faults{Kinds: []coordtest.Fault{coordtest.Kills, coordtest.Stops}, AtOnce: 2, Every: 100 * time.Millisecond, Lasting: time.Second})
		least := 5
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			least = min(least, len(e.Running()))
		}
		n.Stop()
		for kind := range n.Count() {
			if kind != coordtest.Kills && kind != coordtest.Stops {
				t.Errorf("there was a %s", kind)
			}
		}
		if least != 3 {
			t.Errorf("%d of 5 members ran at least, want 3 with 2 down at once", least)
		}
	})
}

// What an ensemble cannot have is not chosen, and real time works as well.
func TestNemesisOfWhatThereIs(t *testing.T) {
	for name, opts := range map[string][]coordtest.Option{"memory": nil, "disk and sockets": {coordtest.OnDisk(), coordtest.OnSockets()}} {
		t.Run(name, func(t *testing.T) {
			// A member on sockets waits for an election timeout each time that it starts, and
			// must have time left for a write before the next fault.
			e := coordtest.NewEnsemble(t, 1, append(opts, coordtest.WithElectionTimeout(200*time.Millisecond))...)
			n := e.StartFaults(coordtest.Faults{Every: time.Second, Lasting: 20 * time.Millisecond})
			e.WaitFor(t.Context(), "some writes", func() error {
				_, _, err := e.Member(1).Create(t.Context(), "/n-", nil, coord.PersistentSequential)
				if err == nil {
					names, _, lerr := e.Member(1).Children(t.Context(), "/")
					if len(names) < 5 {
						err = errors.Join(lerr, fmt.Errorf("%d of 5", len(names)))
					}
				}
				return err
			})
			n.Stop()
			for kind := range n.Count() {
				if strings.Contains("isolate cut cut one way delay lose leader moves", string(kind)) {
					t.Errorf("a single member had a %s", kind)
				}
			}
		})
	}
}
