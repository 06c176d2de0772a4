package coord_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/invariants"
)

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A million watches take at most 300 bytes each, beside their paths, and leave
// nothing behind.
func TestMillionWatches(t *testing.T) {
	n := 1_000_000
	if invariants.Enabled || testing.Short() { // the race detector makes this ten times slower
		n = 50_000
	}
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	paths := make([]string, n)
	for i := range paths {
		paths[i] = fmt.Sprintf("/watched/%07d", i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := heapBytes()
	for _, path := range paths {
		if _, err := c.Watch(ctx, path, coord.Node); err != nil {
			t.Fatal(err)
		}
	}
	each := (int64(heapBytes()) - int64(before)) / int64(n)
	t.Logf("%d bytes for each of %d watches", each, n)
	if each > 300 {
		t.Errorf("%d bytes for each watch, want at most 300", each)
	}
	if got := c.Status().Watches; got != n {
		t.Errorf("Status counts %d watches, want %d", got, n)
	}
	cancel()
	eventually(t, "all watches to be freed", func() bool { return c.Status().Watches == 0 })
	runtime.KeepAlive(paths)
}

// The machine does not wait for the hub, whatever the hub is busy with: writes go
// on while it cannot move.
func TestHubDoesNotHoldUpWrites(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	mustCreate(t, c, "/hot", "")
	var watches []*coord.Watch
	for range 1000 {
		w, err := c.Watch(t.Context(), "/hot", coord.Node)
		if err != nil {
			t.Fatal(err)
		}
		watches = append(watches, w)
	}
	release := coord.HoldHub(c)
	for i := range 100 {
		if _, err := c.SetData(t.Context(), "/hot", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	release()
	for _, w := range watches {
		got, err := take(t, w, 100)
		if err != nil || len(got) != 100 {
			t.Fatalf("%d events, %v; want 100", len(got), err)
		}
	}
}

// BenchmarkWriteBesideWatches compares writes that no watch asks for, with none and
// with many watches on the member.
func BenchmarkWriteBesideWatches(b *testing.B) {
	for _, n := range []int{0, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := coordtest.NewEnsemble(b, 1)
			c := e.Member(1)
			if _, _, err := c.Create(b.Context(), "/other", nil); err != nil {
				b.Fatal(err)
			}
			for i := range n {
				if _, err := c.Watch(b.Context(), fmt.Sprintf("/watched/%07d", i), coord.Node); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if _, err := c.SetData(b.Context(), "/other", nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFanOut measures the write behind one that 100000 watches are told.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := coordtest.NewEnsemble(b, 1, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = 1 << 20 }))
			c := e.Member(1)
			for _, p := range []string{"/hot", "/other"} {
				if _, _, err := c.Create(b.Context(), p, nil); err != nil {
					b.Fatal(err)
				}
			}
			for range n {
				if _, err := c.Watch(b.Context(), "/hot", coord.Node); err != nil {
					b.Fatal(err)
				}
			}
			var next time.Duration
			for b.Loop() {
				if _, err := c.SetData(b.Context(), "/hot", nil); err != nil {
					b.Fatal(err)
				}
				begin := time.Now()
				if _, err := c.SetData(b.Context(), "/other", nil); err != nil {
					b.Fatal(err)
				}
				next += time.Since(begin)
			}
			b.ReportMetric(float64(next.Microseconds())/float64(b.N), "µs/next")
		})
	}
}
