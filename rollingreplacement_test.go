package coord_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// TestG22EveryMemberIsReplacedUnderLoad replaces all three members by new ones on new
// addresses, on disks and sockets, while callers on sessions of their own write through
// members that stay as long as they do. No write that a caller sees fails, and no session
// ends.
func TestG22EveryMemberIsReplacedUnderLoad(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.OnDisk(), coordtest.OnSockets())
	old := e.Running()
	// The callers are on an observer: they see what the change of all voters does.
	at := e.Observe(t.Context())
	var callers sync.WaitGroup
	var writes atomic.Int64
	stop := make(chan struct{})
	for i := range 4 {
		s, err := at.NewSession(t.Context(), coord.SessionOptions{Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		mustCreate(t, s, fmt.Sprintf("/held-%d", i), "", coord.Ephemeral)
		callers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, err := s.Create(t.Context(), fmt.Sprintf("/w-%d-%d", i, n), nil); err != nil {
					t.Errorf("write %d of caller %d = %v", n, i, err)
					return
				}
				writes.Add(1)
			}
		})
	}
	progress := func() {
		from := writes.Load()
		eventually(t, "more writes", func() bool { return t.Failed() || writes.Load() > from+20 })
	}
	for _, c := range old {
		e.Add(t.Context())
		progress()
		e.Remove(t.Context(), c)
		progress()
	}
	close(stop)
	callers.Wait()
	conf := at.Configuration()
	for _, m := range conf.Members {
		for _, c := range old {
			if c.Status().Member == m.ID {
				t.Errorf("member %v is still there", m.ID)
			}
		}
	}
	names, _, err := at.Children(t.Context(), "/", coord.Linearizable())
	if err != nil {
		t.Fatal(err)
	}
	held, written := 0, int64(0)
	for _, name := range names {
		if strings.HasPrefix(name, "held-") {
			held++
		}
		if strings.HasPrefix(name, "w-") {
			written++
		}
	}
	if held != 4 || written != writes.Load() {
		t.Errorf("%d of 4 ephemerals and %d of %d writes are there", held, written, writes.Load())
	}
	t.Logf("%d writes while three members were replaced", writes.Load())
}
