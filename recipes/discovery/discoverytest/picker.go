// Package discoverytest tests what programs write for package discovery.
package discoverytest

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"coord"
	"coord/recipes/discovery"
)

// TestPicker tests a [discovery.Picker]; each call of newPicker returns one that was not
// used before. Whatever the list of instances, it picks one of them, as it is; the list
// may grow, shrink and be another one from call to call; it is not modified; and
// several goroutines may pick at once (which only the race detector is sure to find).
func TestPicker(tb testing.TB, newPicker func() discovery.Picker) {
	tb.Helper()
	if newPicker == nil || newPicker() == nil {
		tb.Fatalf("discoverytest: TestPicker needs a function that returns a picker")
	}
	p := newPicker()
	for round := range 200 {
		// From one to twelve of twenty instances, others each time.
		var healthy []discovery.Instance
		for i := range 1 + round*7%12 {
			healthy = append(healthy, instance((round*3+i)%20))
		}
		slices.SortFunc(healthy, func(a, b discovery.Instance) int { return cmp.Compare(a.ID, b.ID) })
		if err := pick(p, healthy); err != nil {
			tb.Errorf("discoverytest: round %d, %d instances: %v", round, len(healthy), err)
			return
		}
	}
	shared := newPicker()
	healthy := []discovery.Instance{instance(1), instance(2), instance(3)}
	errs := make([]error, 8)
	var picking sync.WaitGroup
	for n := range errs {
		picking.Go(func() {
			for range 200 {
				if err := pick(shared, healthy[:1+n%3]); err != nil {
					errs[n] = err
				}
			}
		})
	}
	picking.Wait()
	for _, err := range errs {
		if err != nil {
			tb.Errorf("discoverytest: picking at once: %v", err)
			return
		}
	}
}

// instance returns one of many, with everything that an instance can have.
func instance(n int) discovery.Instance {
	return discovery.Instance{
		ID: fmt.Sprintf("instance-%02d", n), Address: fmt.Sprintf("10.0.0.%d", n), Port: 80 + n, Weight: n % 4,
		Metadata: map[string]string{"zone": fmt.Sprint(n % 3)}, Generation: coord.ZXID(n + 1),
	}
}

// pick has p pick once, and returns what is wrong with that.
func pick(p discovery.Picker, healthy []discovery.Instance) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("it panicked: %v", v)
		}
	}()
	before := slices.Clone(healthy)
	got := p.Pick(healthy)
	if !reflect.DeepEqual(healthy, before) {
		return fmt.Errorf("it modified the list %v, which was %v", healthy, before)
	}
	if !slices.ContainsFunc(healthy, func(i discovery.Instance) bool { return reflect.DeepEqual(i, got) }) {
		return fmt.Errorf("it picked %v, which is not one of %v", got, healthy)
	}
	return nil
}
