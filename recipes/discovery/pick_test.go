package discovery_test

import (
	"math"
	"testing"

	"coord/recipes/discovery"
)

func instances(weights ...int) []discovery.Instance {
	var all []discovery.Instance
	for i, w := range weights {
		all = append(all, discovery.Instance{ID: string(rune('a' + i)), Weight: w})
	}
	return all
}

func TestPickers(t *testing.T) {
	picks := func(p discovery.Picker, from []discovery.Instance, n int) map[string]int {
		count := map[string]int{}
		for range n {
			count[p.Pick(from).ID]++
		}
		return count
	}
	three := instances(0, 3, 6)
	if got := picks(discovery.RoundRobin(), three, 300); got["a"] != 100 || got["b"] != 100 || got["c"] != 100 {
		t.Errorf("round robin: %v", got)
	}
	if got := picks(discovery.Random(), three, 9000); got["a"] < 2500 || got["b"] < 2500 || got["c"] < 2500 {
		t.Errorf("random: %v", got)
	}
	// 1 : 3 : 6, within ten standard deviations.
	if got := picks(discovery.Weighted(), three, 10000); got["a"] < 700 || got["a"] > 1300 || got["b"] < 2540 || got["b"] > 3460 || got["c"] < 5500 {
		t.Errorf("weighted: %v", got)
	}
	// What no Service has.
	if got := picks(discovery.Weighted(), instances(math.MaxInt, math.MaxInt, math.MinInt), 100); got["a"]+got["b"] < 90 {
		t.Errorf("weighted, out of range: %v", got)
	}
	sticky := discovery.Sticky(discovery.RoundRobin())
	if got := picks(sticky, three, 10); got["a"] != 10 {
		t.Errorf("sticky: %v", got)
	}
	first := picks(sticky, three[1:], 10)
	if len(first) != 1 {
		t.Errorf("sticky: %v", first)
	}
	if got := picks(sticky, three, 10); len(got) != 1 || got["a"] != 0 {
		t.Errorf("sticky, when the first is back: %v", got)
	}
	for _, p := range []discovery.Picker{discovery.RoundRobin(), discovery.Random(), discovery.Weighted(), discovery.Sticky(discovery.Random())} {
		if got := picks(p, three[:1], 10); got["a"] != 10 {
			t.Errorf("of one: %v", got)
		}
	}
}
