package coord_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// writesIn returns how many writes to path a lone caller makes in some virtual time, one
// behind the other.
func writesIn(ctx context.Context, t *testing.T, c *coord.Coordinator, path string, bytes int, d time.Duration) (n int) {
	t.Helper()
	data := make([]byte, bytes)
	for end := time.Now().Add(d); time.Now().Before(end); n++ {
		if _, err := c.SetData(ctx, path, data); err != nil {
			t.Errorf("SetData(%s) = %v", path, err)
			break
		}
	}
	return n
}

// Bulk in the group of a mount leaves room for others as long as these write, at whatever
// member, and only for these.
func TestBulkGivesWay(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Leader(t.Context())
		here, there := e.Running()[0], e.Running()[1]
		for _, path := range []string{"/small", "/large"} {
			mustCreate(t, c, path, "")
		}
		for _, path := range []string{"/m", "/n"} {
			mustCreate(t, c, path, "")
			if err := c.Mount(ctx, path); err != nil {
				t.Fatal(err)
			}
			mustCreate(t, c, path+"/small", "")
			mustCreate(t, c, path+"/large", "")
		}
		for _, path := range []string{"/m", "/n"} {
			served(t, e, path, true)
		}
		e.Delay(5*time.Millisecond, 0)
		const bulk, lasts = 20 << 10, 3 * time.Second
		// bulkBeside returns how many bulk writes /m has while somebody else writes so much.
		bulkBeside := func(path string, bytes int) int {
			time.Sleep(2 * time.Second) // what was before is forgotten; the time is virtual
			var beside sync.WaitGroup
			if path != "" {
				beside.Go(func() { writesIn(ctx, t, there, path, bytes, lasts) })
			}
			n := writesIn(ctx, t, here, "/m/large", bulk, lasts)
			beside.Wait()
			return n
		}
		alone := bulkBeside("", 0)
		if alone < 100 {
			t.Fatalf("%d bulk writes in %v: too few to compare", alone, lasts)
		}
		for _, test := range []struct {
			path  string
			bytes int
			rests bool
		}{
			{"/small", 10, true},
			{"/n/small", 10, true},
			{"/m/small", 10, false}, // in its own group
			{"/large", bulk, false},
			{"/n/large", bulk, false},
			{"", 0, false}, // those before have ended
		} {
			n := bulkBeside(test.path, test.bytes)
			t.Logf("bulk writes beside %d bytes to %q: %d, alone %d", test.bytes, test.path, n, alone)
			if rests := n < alone/3; rests != test.rests {
				t.Errorf("beside %d bytes to %q there are %d bulk writes in %v, alone %d", test.bytes, test.path, n, lasts, alone)
			}
			if n < alone/20 {
				t.Errorf("beside %d bytes to %q there are %d bulk writes in %v, alone %d: they hardly go on", test.bytes, test.path, n, lasts, alone)
			}
		}
	})
}
