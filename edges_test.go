package coord_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

// What a caller can get wrong must not reach the log: an entry that members cannot
// read would stop them all, for ever.
func TestNothingUnreadableReachesTheLog(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	if _, err := c.Multi(t.Context(), coord.CreateOp("/a", nil), coord.Op{}); !errors.Is(err, coord.ErrBadArguments) {
		t.Errorf("Multi with a zero Op = %v", err)
	}
	long := coord.ACL{Perms: coord.PermAll, ID: coord.ID{Scheme: "digest", ID: strings.Repeat("x", 70<<20)}}
	if _, _, err := c.Create(t.Context(), "/a", nil, coord.WithACL(long)); !errors.Is(err, coord.ErrInvalidACL) {
		t.Errorf("Create with an ACL of 70 MiB = %v", err)
	}
	if _, err := c.SetACL(t.Context(), "/", []coord.ACL{long}); !errors.Is(err, coord.ErrInvalidACL) {
		t.Errorf("SetACL with an ACL of 70 MiB = %v", err)
	}
	mustCreate(t, c, "/a", "")
	if err := c.Health(); err != nil {
		t.Errorf("Health = %v", err)
	}
}

// Callers whose batch was under way when their process was superseded are told so.
func TestSupersededCallersAreToldWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, other := e.Follower(t.Context()), e.Leader(t.Context())
		hello := coord.HelloOf(c)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for j := 0; ; j++ {
					time.Sleep(time.Duration(i+1) * time.Millisecond) // virtual time must pass
					_, _, err := c.Create(t.Context(), fmt.Sprintf("/n%d-%d", i, j), nil)
					if err != nil {
						if err.Error() == "" || !errors.Is(err, coord.ErrUnknownOutcome) && !errors.Is(err, coord.ErrFailed) {
							t.Errorf("Create = %v", err)
						}
						return
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		if err := coord.ProposeRaw(t.Context(), other, hello); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		e.Stop(c)
	})
}

// A Position is never ahead of what the reader has received, also by channel.
func TestPositionIsWhatWasReceived(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	w, err := c.Watch(t.Context(), "/", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	events := w.C()
	before := w.Position()
	for i := range 5 {
		mustCreate(t, c, fmt.Sprintf("/p%d", i), "")
	}
	if ev := <-events; ev.Path != "/p0" {
		t.Fatalf("first event is %v", ev)
	}
	eventually(t, "the position to follow", func() bool { return w.Position() != before })
	at := w.Position()
	w.Close()
	again, err := c.Watch(t.Context(), "/", coord.Subtree, coord.From(at))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := take(t, again, 4); err != nil || got[0] != "NodeCreated /p1" {
		t.Errorf("resumed with %v, %v; want /p1 first", got, err)
	}
}

// One write larger than the history must not end watches that are level with it.
func TestLargeWriteEndsNoWatch(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.HistoryEvents = 100 }))
	c := e.Member(1)
	mustCreate(t, c, "/unrelated", "")
	w, err := c.Watch(t.Context(), "/unrelated", coord.Node)
	if err != nil {
		t.Fatal(err)
	}
	var ops []coord.Op
	for i := range 500 {
		ops = append(ops, coord.CreateOp(fmt.Sprintf("/n%d", i), nil))
	}
	if _, err := c.Multi(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetData(t.Context(), "/unrelated", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := take(t, w, 1); err != nil || got[0] != "NodeDataChanged /unrelated" {
		t.Errorf("%v, %v", got, err)
	}
}

// Every call is bounded by the operation timeout, without a quorum as well.
func TestOpeningWatchesAndReadsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/n", "")
		v, err := c.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ahead, err := coord.ParsePosition(strings.Replace(v.Position().String(), ":0x", ":0xf", 1))
		if err != nil {
			t.Fatal(err)
		}
		e.Isolate(c)
		if _, err := c.Watch(context.WithoutCancel(t.Context()), "/n", coord.Node, coord.From(ahead)); !errors.Is(err, coord.ErrTimeout) {
			t.Errorf("Watch = %v", err)
		}
		if _, _, err := c.Get(t.Context(), "/n", coord.AtLeast(ahead), coord.AllowStale()); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Get with options that exclude each other = %v", err)
		}
		e.Heal()
		eventually(t, "the member to come back", func() bool { return c.Health() == nil })
	})
}

// A member that has not joined and sees no quorum keeps nobody waiting for longer
// than the operation timeout.
func TestOpeningSessionsIsBoundedBeforeJoining(t *testing.T) {
	const limit = 3 * time.Second
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := mustSession(t, c, time.Minute)
		tok := s.Token()
		for _, c := range e.Running() {
			e.Kill(c)
		}
		c = e.Restart(c)
		ctx := context.WithoutCancel(t.Context())
		for what, open := range map[string]func() (*coord.Session, error){
			"NewSession": func() (*coord.Session, error) { return c.NewSession(ctx, coord.SessionOptions{}) },
			"Resume":     func() (*coord.Session, error) { return c.Resume(ctx, tok, coord.SessionOptions{}) },
		} {
			begin := time.Now()
			_, err := open()
			if !errors.Is(err, coord.ErrTimeout) || errors.Is(err, coord.ErrUnknownOutcome) || time.Since(begin) != limit {
				t.Errorf("%s = %v after %v, want a definite timeout after %v", what, err, time.Since(begin), limit)
			}
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			begin = time.Now()
			if err := c.Ready(short); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
				t.Errorf("Ready = %v after %v", err, time.Since(begin))
			}
			cancel()
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.OperationTimeout = limit }))
}

// A watch that still reads the history is not as far as the hub, so it is given no
// progress marks: its Position would skip what its reader has not been told.
func TestNoMarksWhileReadingHistory(t *testing.T) {
	const n = 20
	for what, opts := range map[string]func(coord.Position) []coord.WatchOption{
		"from":    func(p coord.Position) []coord.WatchOption { return []coord.WatchOption{coord.From(p)} },
		"initial": func(coord.Position) []coord.WatchOption { return []coord.WatchOption{coord.WithInitial()} },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
				c := e.Member(1)
				v, err := c.View(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					mustCreate(t, c, fmt.Sprintf("/old%02d", i), "")
				}
				w, err := c.Watch(t.Context(), "/", coord.Subtree, append(opts(v.Position()), coord.WithProgress())...)
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					mustCreate(t, c, fmt.Sprintf("/new%02d", i), "")
				}
				told, last := 0, coord.ZXID(0)
				for ev, err := range w.Events() {
					if err != nil {
						t.Fatal(err)
					}
					if ev.Type == coord.Progress {
						last = ev.ZXID
						continue
					}
					if !ev.Initial && ev.ZXID <= last {
						t.Errorf("%v at %v behind a mark at %v", ev.Path, ev.ZXID, last)
					}
					if strings.HasPrefix(ev.Path, "/old") || strings.HasPrefix(ev.Path, "/new") {
						told++
					}
					time.Sleep(1500 * time.Millisecond)                 // a mark is due meanwhile
					at, _, _ := strings.Cut(w.Position().String(), "+") // behind it: events of the same write
					if read, _, _ := strings.Cut(ev.Position.String(), "+"); at != read {
						t.Fatalf("the watch is at %v, its reader at %v", at, read)
					}
					if told == 2*n {
						break
					}
				}
			})
		})
	}
}
