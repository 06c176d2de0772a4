package coord_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/private"
)

// events reads n events of a watch, as text.
func events(t *testing.T, w *coord.Watch, n int) (got []string, at []coord.Position) {
	t.Helper()
	for ev, err := range w.Events() {
		if err != nil {
			t.Fatalf("behind %v: %v", got, err)
		}
		got, at = append(got, ev.String()), append(at, ev.Position)
		if len(got) == n {
			break
		}
	}
	return got, at
}

// A restarted member knows the changes that it replayed from its log: a watch goes
// on there from where one before the restart stopped. What a snapshot has taken the
// place of it does not know, and says so.
func TestWatchGoesOnBehindARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // what does not come fails the test
		defer cancel()
		w, err := c.Watch(ctx, "/", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		const writes = 10
		for i := range writes {
			_, err := c.Multi(t.Context(), coord.CreateOp(fmt.Sprintf("/a%d", i), nil), coord.CreateOp(fmt.Sprintf("/b%d", i), nil))
			if err != nil {
				t.Fatal(err)
			}
		}
		all, at := events(t, w, 2*writes)
		e.Kill(c)
		c = e.Restart(c)
		for i, p := range at[:len(at)-1] { // also from between the events of one write
			w, err := c.Watch(ctx, "/", coord.Subtree, coord.From(p))
			if err != nil {
				t.Fatalf("From(%v) behind a restart = %v", p, err)
			}
			if rest, _ := events(t, w, len(all)-i-1); !slices.Equal(rest, all[i+1:]) {
				t.Fatalf("from %v: %v, want %v", p, rest, all[i+1:])
			}
		}

		if err := private.Snapshot(c); err != nil {
			t.Fatal(err)
		}
		e.Kill(c)
		c = e.Restart(c)
		for _, p := range []coord.Position{at[3], {}} {
			_, err = c.Watch(ctx, "/", coord.Subtree, coord.From(p))
			compacted, ok := errors.AsType[*coord.CompactedError](err)
			if !ok || compacted.Oldest.IsZero() {
				t.Fatalf("From(%v) behind a snapshot = %v, want compacted", p, err)
			}
			w, err = c.Watch(ctx, "/", coord.Subtree, coord.From(compacted.Oldest))
			if err != nil {
				t.Fatalf("From the oldest place = %v", err)
			}
			path, _ := mustCreate(t, c, "/new-", "", coord.PersistentSequential)
			for ev, err := range w.Events() {
				if err != nil {
					t.Fatal(err)
				}
				if ev.Path == path {
					break
				}
			}
		}
	})
}

// An event is told to readers who were allowed to read the znode at the event and
// still are when they are told.
func TestWatchersMustBeAllowedThenAndNow(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	closed := coord.ACL{Perms: coord.PermAll &^ coord.PermRead, ID: coord.ID{Scheme: "world", ID: "anyone"}}
	v, err := c.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set := func(path string, list ...coord.ACL) {
		t.Helper()
		if _, err := c.SetACL(t.Context(), path, list); err != nil {
			t.Fatal(err)
		}
	}
	live, err := c.Watch(t.Context(), "/", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/open", "")
	mustCreate(t, c, "/never", "", coord.WithACL(closed))
	mustCreate(t, c, "/later-closed", "")
	set("/later-closed", closed)
	mustCreate(t, c, "/later-opened", "", coord.WithACL(closed))
	set("/later-opened", coord.OpenACL()...)
	if _, err := c.SetData(t.Context(), "/later-opened", []byte("now")); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/deleted-closed", "", coord.WithACL(closed))
	if err := c.Delete(t.Context(), "/deleted-closed"); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/made-anew", "")
	if err := c.Delete(t.Context(), "/made-anew"); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/made-anew", "", coord.WithACL(closed))
	mustCreate(t, c, "/last", "")
	want := []string{"NodeCreated /open", "NodeDataChanged /later-opened", "NodeCreated /last"}
	past, err := c.Watch(t.Context(), "/", coord.Subtree, coord.From(v.Position()))
	if err != nil {
		t.Fatal(err)
	}
	for what, w := range map[string]*coord.Watch{"live": live, "from the past": past} {
		if got, err := take(t, w, len(want)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", what, got, err, want)
		}
	}
	initial, err := c.Watch(t.Context(), "/", coord.Subtree, coord.WithInitial(), coord.WithTypes(coord.NodeCreated))
	if err != nil {
		t.Fatal(err)
	}
	got, err := take(t, initial, 7)
	for _, path := range []string{"/never", "/later-closed", "/made-anew"} {
		if err != nil || slices.Contains(got, "NodeCreated "+path) {
			t.Errorf("initial state: %v, %v", got, err)
		}
	}
}

// A reader that fell behind goes on from the Position of the error and has missed
// nothing and is told nothing twice.
func TestOverrunReadersGoOnWhereTheyStopped(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = 10 }))
	c := e.Member(1)
	w, err := c.Watch(t.Context(), "/", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	const writes, each = 40, 3
	for i := range writes {
		if _, err := c.Multi(t.Context(), coord.CreateOp(fmt.Sprintf("/x%d", i), nil), coord.CreateOp(fmt.Sprintf("/y%d", i), nil), coord.CreateOp(fmt.Sprintf("/z%d", i), nil)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	overruns := 0
	for len(got) < writes*each {
		var rest []string
		rest, err = take(t, w, writes*each-len(got))
		got = append(got, rest...)
		if err == nil {
			break
		}
		overrun, ok := errors.AsType[*coord.OverrunError](err)
		if !ok {
			t.Fatalf("the watch ended with %v", err)
		}
		if len(got)%each != 0 {
			t.Fatalf("%d events before the overrun: half a write", len(got))
		}
		overruns++
		if w, err = c.Watch(t.Context(), "/", coord.Subtree, coord.From(overrun.Position)); err != nil {
			t.Fatal(err)
		}
	}
	if overruns == 0 {
		t.Error("nothing was overrun")
	}
	for i, ev := range got {
		if want := fmt.Sprintf("NodeCreated /%c%d", "xyz"[i%each], i/each); ev != want {
			t.Fatalf("event %d is %s, want %s", i, ev, want)
		}
	}
}

// A reader that never reads costs its buffer, and nobody else anything.
func TestReaderThatNeverReads(t *testing.T) {
	const buffer = 100
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = buffer }))
	c := e.Member(1)
	mustCreate(t, c, "/n", "")
	asleep, err := c.Watch(t.Context(), "/n", coord.Node)
	if err != nil {
		t.Fatal(err)
	}
	channel, err := c.Watch(t.Context(), "/n", coord.Node)
	if err != nil {
		t.Fatal(err)
	}
	channel.C() // and nobody receives
	awake, err := c.Watch(t.Context(), "/n", coord.Node)
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Int64
	var reading sync.WaitGroup
	reading.Go(func() {
		for _, err := range awake.Events() {
			if err != nil {
				t.Errorf("the reader that reads is told %v", err)
				return
			}
			if told.Add(1) == 10*buffer {
				return
			}
		}
	})
	for i := range 10 * buffer {
		if _, err := c.SetData(t.Context(), "/n", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if n := coord.Queued(asleep); n > buffer {
			t.Fatalf("%d events are kept for a reader that never reads", n)
		}
		if i%(buffer/2) == 0 { // on a busy machine it needs a moment
			eventually(t, "the reader that reads", func() bool { return told.Load() > int64(i) })
		}
	}
	reading.Wait()
	for _, w := range []*coord.Watch{asleep, channel} {
		eventually(t, "the watch to end", func() bool { return errors.As(w.Err(), new(*coord.OverrunError)) })
	}
	if n := c.Status().Watches; n != 0 {
		t.Errorf("%d watches are counted behind their ends", n)
	}
	channel.Close()
}

// Storms of sessions and watches that are opened, cancelled, closed, resumed, handed
// over and expired, in whatever order, leave every counter and the number of
// goroutines where they were.
func TestStormsLeaveNothingBehind(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		e.Leader(t.Context())
		mustCreate(t, e.Member(1), "/n", "")
		base := map[*coord.Coordinator]map[string]int{}
		settled := func() bool {
			for _, c := range e.Running() {
				now := coord.Counters(c)
				for name, n := range base[c] {
					if now[name] != n {
						return false
					}
				}
			}
			return true
		}
		time.Sleep(time.Minute)
		for _, c := range e.Running() {
			base[c] = coord.Counters(c)
		}
		goroutines := runtime.NumGoroutine()
		for range 12 {
			victim := e.Member(rnd.IntN(3) + 1)
			if rnd.IntN(3) == 0 {
				e.Isolate(victim)
			}
			var storm sync.WaitGroup
			for i := range 120 {
				own := rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
				storm.Go(func() { stormOnce(t, e, own) })
			}
			storm.Wait()
			e.Heal()
			for _, c := range e.Running() {
				eventually(t, "the member to come back", func() bool { return c.Health() == nil })
			}
		}
		time.Sleep(time.Minute) // what was left to expire has expired
		for _, c := range e.Running() {
			if err := c.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if !settled() {
			for _, c := range e.Running() {
				t.Errorf("member %v: %v, was %v", c.Status().Member, coord.Counters(c), base[c])
			}
		}
		eventually(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
	})
}

// stormOnce does one of many things with a session or a watch and leaves it in one
// of many ways.
func stormOnce(t *testing.T, e *coordtest.Ensemble, rnd *rand.Rand) {
	t.Helper()
	c := e.Member(rnd.IntN(3) + 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(4000))*time.Millisecond)
	defer cancel()
	if rnd.IntN(2) == 0 {
		w, err := c.Watch(ctx, "/n", []coord.WatchMode{coord.Node, coord.Children, coord.Subtree}[rnd.IntN(3)],
			[]coord.WatchOption{coord.WithData(), coord.WithInitial(), coord.WithProgress(), coord.From(coord.Position{})}[rnd.IntN(4)])
		if err != nil {
			return
		}
		switch rnd.IntN(4) {
		case 0:
			w.Close()
		case 1:
			for range w.C() {
			}
		case 2:
			for _, err := range w.Events() {
				_ = err
			}
		default: // left to its context
		}
		return
	}
	s, err := c.NewSession(ctx, coord.SessionOptions{Timeout: 5 * time.Second})
	if err != nil {
		return
	}
	_, _, _ = s.Create(ctx, "/n/e-", nil, coord.EphemeralSequential)
	switch rnd.IntN(5) {
	case 0:
		_ = s.HandOver(ctx)
	case 1:
		if next, err := e.Member(rnd.IntN(3)+1).Resume(ctx, s.Token(), coord.SessionOptions{}); err == nil {
			_ = next.Close()
			return
		}
		_ = s.Close()
	case 2:
		_ = s.HandOver(ctx)
		if next, err := e.Member(rnd.IntN(3)+1).Resume(ctx, s.Token(), coord.SessionOptions{}); err == nil {
			_ = next.Close()
		}
	default:
		_ = s.Close()
	}
}

// That also holds for the parent whose children changed, and for what is told first.
func TestParentsAndInitialStateObeyACLsThenAndNow(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	closed := coord.ACL{Perms: coord.PermAll &^ coord.PermRead, ID: coord.ID{Scheme: "world", ID: "anyone"}}
	for _, path := range []string{"/open", "/p"} {
		mustCreate(t, c, path, "")
	}
	initial, err := c.Watch(t.Context(), "/", coord.Subtree, coord.WithInitial(), coord.WithTypes(coord.NodeDeleted))
	if err != nil {
		t.Fatal(err)
	}
	kids, err := c.Watch(t.Context(), "/p", coord.Children)
	if err != nil {
		t.Fatal(err)
	}
	ws := newSet(t, c)
	register(t, c, ws, coord.PersistentWatcher, "/p")
	var want []coord.ZXID
	for _, acl := range []coord.ACL{coord.OpenACL()[0], closed, coord.OpenACL()[0]} {
		if _, err := c.SetACL(t.Context(), "/p", []coord.ACL{acl}); err != nil {
			t.Fatal(err)
		}
		_, st := mustCreate(t, c, "/p/n", "", coord.PersistentSequential)
		if acl != closed {
			want = append(want, st.Czxid)
		}
	}
	var told []coord.ZXID
	for ev, err := range kids.Events() {
		if told = append(told, ev.ZXID); err != nil || len(told) == len(want) {
			break
		}
	}
	if !slices.Equal(told, want) {
		t.Errorf("a watch of the children was told %v, want %v", told, want)
	}
	events, err := ws.Take(everything)
	told = nil
	for _, ev := range events {
		told = append(told, ev.ZXID)
	}
	if err != nil || !slices.Equal(told, want) {
		t.Errorf("a set was told %v, %v; want %v", told, err, want)
	}

	if _, err := c.SetACL(t.Context(), "/p", []coord.ACL{closed}); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/last", "")
	if err := c.Delete(t.Context(), "/last"); err != nil {
		t.Fatal(err)
	}
	var first []string
	for ev, err := range initial.Events() {
		if err != nil || !ev.Initial {
			break
		}
		first = append(first, ev.Path)
	}
	if slices.Contains(first, "/p") || !slices.Contains(first, "/open") {
		t.Errorf("told first: %v", first)
	}
}

// The place behind the last event of a write is the place behind the write: the write
// itself may be forgotten.
func TestLastEventOfAWriteHasItsPosition(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.HistoryEvents = 2 }))
	c := e.Member(1)
	w, err := c.Watch(t.Context(), "/", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Multi(t.Context(), coord.CreateOp("/a", nil), coord.CreateOp("/b", nil)); err != nil {
		t.Fatal(err)
	}
	var at []coord.Position
	for ev, err := range w.Events() {
		if at = append(at, ev.Position); err != nil || len(at) == 2 {
			break
		}
	}
	for _, path := range []string{"/c", "/d"} {
		mustCreate(t, c, path, "")
	}
	if _, err := c.Watch(t.Context(), "/", coord.Subtree, coord.From(at[0])); !isCompacted(err) {
		t.Errorf("a watch from the middle of what is forgotten = %v", err)
	}
	again, err := c.Watch(t.Context(), "/", coord.Subtree, coord.From(at[1]))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := take(t, again, 2); err != nil || !slices.Equal(got, []string{"NodeCreated /c", "NodeCreated /d"}) {
		t.Errorf("told %v, %v", got, err)
	}
}
