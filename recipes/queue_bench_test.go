package recipes_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// BenchmarkQueue measures how many items a second are put, taken and acknowledged by
// callers that are shared out over three members, each of which does one after the
// other, while so many items wait behind. Logs are on the disk, with fsync.
func BenchmarkQueue(b *testing.B) {
	for _, waits := range []int{0, 1000, 100_000} {
		e := coordtest.NewEnsemble(b, 3, coordtest.OnDisk(), coordtest.WithElectionTimeout(2*time.Second))
		fill(b, e, waits)
		for _, callers := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("waiting=%d/callers=%d", waits, callers), func(b *testing.B) { benchmarkQueue(b, e, callers) })
		}
	}
}

// fill puts n items that nobody will come to.
func fill(b *testing.B, e *coordtest.Ensemble, n int) {
	b.Helper()
	var all sync.WaitGroup
	for i := range 128 {
		all.Go(func() {
			q := recipes.NewQueue(coord.Client(e.Member(i%3+1)), "/q", coord.JSON[string]())
			for j := i; j < n; j += 128 {
				if err := q.Put(b.Context(), "an item that waits", recipes.Priority(-1)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func benchmarkQueue(b *testing.B, e *coordtest.Ensemble, callers int) {
	b.Helper()
	var next, put, take, ack atomic.Int64
	queues := make([]*recipes.Queue[string], 3)
	for i := range queues {
		queues[i] = recipes.NewQueue(e.Member(i+1), "/q", coord.JSON[string]())
	}
	var all sync.WaitGroup
	before := e.Leader(b.Context()).Status().ZXID
	b.ResetTimer()
	for i := range callers {
		all.Go(func() {
			q, s := queues[i%3], e.Member(i%3+1).Session()
			for next.Add(1) <= int64(b.N) {
				start := time.Now()
				err := q.Put(b.Context(), "an item")
				put.Add(int64(time.Since(start)))
				if err != nil {
					b.Error(err)
					return
				}
				start = time.Now()
				d, err := q.Take(b.Context(), s)
				take.Add(int64(time.Since(start)))
				if err == nil {
					start = time.Now()
					err = d.Ack(b.Context())
					ack.Add(int64(time.Since(start)))
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(e.Leader(b.Context()).Status().ZXID-before)/float64(b.N), "writes/item")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "items/s")
	for name, sum := range map[string]*atomic.Int64{"put": &put, "take": &take, "ack": &ack} {
		b.ReportMetric(float64(sum.Load())/float64(b.N)/1e6, "ms/"+name)
	}
}
