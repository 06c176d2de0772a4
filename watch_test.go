package coord_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coord"
	"coord/coordtest"
)

// take reads n events, or until the watch ends.
func take(t *testing.T, w *coord.Watch, n int) ([]string, error) {
	t.Helper()
	var got []string
	for ev, err := range w.Events() {
		if err != nil {
			return got, err
		}
		got = append(got, fmt.Sprintf("%v %s", ev.Type, ev.Path))
		if len(got) == n {
			break
		}
	}
	return got, nil
}

func TestWatchModes(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	watches := map[string]*coord.Watch{}
	for name, on := range map[string]struct {
		path string
		mode coord.WatchMode
	}{
		"node": {"/a", coord.Node}, "children": {"/a", coord.Children}, "subtree": {"/a", coord.Subtree},
		"root": {"/", coord.Subtree}, "root children": {"/", coord.Children}, "below": {"/a/b", coord.Subtree},
	} {
		w, err := c.Watch(t.Context(), on.path, on.mode)
		if err != nil {
			t.Fatal(err)
		}
		watches[name] = w
	}
	if n := c.Status().Watches; n != len(watches) {
		t.Errorf("Status counts %d watches, want %d", n, len(watches))
	}
	mustCreate(t, c, "/a", "")
	mustCreate(t, c, "/ab", "") // a sibling whose name starts alike
	mustCreate(t, c, "/a/b", "")
	mustCreate(t, c, "/a/b/c", "")
	if _, err := c.SetData(t.Context(), "/a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetData(t.Context(), "/a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/a/b/c", "/a/b", "/a"} {
		if err := c.Delete(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][]string{
		"node":     {"NodeCreated /a", "NodeDataChanged /a", "NodeDeleted /a"},
		"children": {"NodeChildrenChanged /a", "NodeChildrenChanged /a"},
		"subtree": {
			"NodeCreated /a", "NodeCreated /a/b", "NodeCreated /a/b/c", "NodeDataChanged /a/b", "NodeDataChanged /a",
			"NodeDeleted /a/b/c", "NodeDeleted /a/b", "NodeDeleted /a",
		},
		"root": {
			"NodeCreated /a", "NodeCreated /ab", "NodeCreated /a/b", "NodeCreated /a/b/c", "NodeDataChanged /a/b", "NodeDataChanged /a",
			"NodeDeleted /a/b/c", "NodeDeleted /a/b", "NodeDeleted /a",
		},
		"root children": {"NodeChildrenChanged /", "NodeChildrenChanged /", "NodeChildrenChanged /"},
		"below":         {"NodeCreated /a/b", "NodeCreated /a/b/c", "NodeDataChanged /a/b", "NodeDeleted /a/b/c", "NodeDeleted /a/b"},
	} {
		got, err := take(t, watches[name], len(want))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
		if n := coord.Queued(watches[name]); n != 0 {
			t.Errorf("%s: %d events too many", name, n)
		}
	}
	if n := c.Status().Watches; n != 0 {
		t.Errorf("%d watches are left after all were closed", n)
	}
}

func TestWatchOverrun(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = 10 }))
	c := e.Member(1)
	w, err := c.Watch(t.Context(), "/", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	var last coord.ZXID
	for i := range 6 {
		res, err := c.Multi(t.Context(), coord.CreateOp(fmt.Sprintf("/x%d", i), nil), coord.CreateOp(fmt.Sprintf("/y%d", i), nil), coord.CreateOp(fmt.Sprintf("/z%d", i), nil))
		if err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			last = res[0].Stat.Czxid
		}
	}
	if n := coord.Queued(w); n != 12 { // also waits until all of them came
		t.Errorf("%d events wait, want 12", n)
	}
	got, err := take(t, w, 100)
	overrun, ok := errors.AsType[*coord.OverrunError](err)
	if !ok || !strings.Contains(overrun.Position.String(), last.String()) || len(got) != 12 {
		t.Errorf("%d events, then %v; want the whole writes up to %v", len(got), err, last)
	}
	if _, again := take(t, w, 1); !errors.Is(again, err) {
		t.Errorf("asked again, the watch ends with %v", again)
	}
}

// Large data ends a watch whose reader is behind before there are many events.
func TestWatchOverrunByBytes(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.HistoryBytes = 100_000 }))
	c := e.Member(1)
	mustCreate(t, c, "/n", "")
	w, err := c.Watch(t.Context(), "/n", coord.Node)
	if err != nil {
		t.Fatal(err)
	}
	set := func(n int) {
		for range n {
			if _, err := c.SetData(t.Context(), "/n", make([]byte, 10_000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	next, stop := iter.Pull2(w.Events())
	defer stop()
	for range 3 { // who reads may go on
		set(9)
		for range 9 {
			if ev, err, _ := next(); err != nil || ev.Type != coord.NodeDataChanged {
				t.Fatalf("%v, %v", ev, err)
			}
		}
	}
	set(11)
	if n := coord.Queued(w); n != 10 { // also waits until all of them came
		t.Errorf("%d events wait, want 10", n)
	}
	told := 0
	for {
		_, err, ok := next()
		if err == nil && ok {
			told++
			continue
		}
		if overrun, ok := errors.AsType[*coord.OverrunError](err); !ok || told != 10 || overrun.Position != w.Position() {
			t.Errorf("%d events, then %v; want 10 and an overrun at %v", told, err, w.Position())
		}
		return
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	w, err := c.Watch(ctx, "/", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	events := w.C()
	mustCreate(t, c, "/a", "")
	if ev := <-events; ev.Path != "/a" || ev.Type != coord.NodeCreated {
		t.Errorf("event %v", ev)
	}
	cancel(why)
	for range events { // closed soon
	}
	if !errors.Is(w.Err(), why) {
		t.Errorf("Err = %v, want %v", w.Err(), why)
	}
	eventually(t, "the watch to be freed", func() bool { return c.Status().Watches == 0 })
	if _, err := c.Watch(ctx, "/", coord.Subtree); !errors.Is(err, why) {
		t.Errorf("Watch with a context that has ended = %v", err)
	}
}

// What waits for the reader of the channel was not told yet.
func TestWatchPositionOfAChannel(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		w, err := c.Watch(t.Context(), "/", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		begin, events := w.Position(), w.C()
		for i := range 3 {
			mustCreate(t, c, fmt.Sprintf("/n%d", i), "")
		}
		synctest.Wait()
		if got := w.Position(); got != begin {
			t.Errorf("position %v before anything was received, want %v", got, begin)
		}
		ev := <-events
		synctest.Wait()
		if got := w.Position(); got != ev.Position {
			t.Errorf("position %v, want that of the event, %v", got, ev.Position)
		}
		w.Close()
	})
}

func TestWatchEndsWhenASnapshotSkipsEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		behind := e.Follower(t.Context())
		w, err := behind.Watch(t.Context(), "/", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		e.Isolate(behind)
		c := e.Leader(t.Context())
		for i := range 60 {
			mustCreate(t, c, fmt.Sprintf("/n%d", i), "")
		}
		e.Heal()
		got, err := take(t, w, 61)
		compacted, ok := errors.AsType[*coord.CompactedError](err)
		if !ok {
			t.Fatalf("%d events, then %v; want a compacted error", len(got), err)
		}
		if compacted.Oldest.IsZero() {
			t.Errorf("%v names no zxid", compacted)
		}
		eventually(t, "the member to catch up", func() bool {
			_, ok, err := behind.Exists(t.Context(), "/n59")
			return err == nil && ok
		})
	}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 10 }))
}

func TestWatchSurvivesLeaderChange(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		keeper := e.Follower(t.Context())
		w, err := keeper.Watch(t.Context(), "/", coord.Children)
		if err != nil {
			t.Fatal(err)
		}
		old := e.Leader(t.Context())
		e.Kill(old)
		mustCreate(t, keeper, "/a", "")
		if got, err := take(t, w, 1); err != nil || got[0] != "NodeChildrenChanged /" {
			t.Errorf("%v, %v", got, err)
		}
		e.Restart(old)
		time.Sleep(5 * time.Second)
	})
}

// A watch that ends while the state is told says so, and not that all was told.
func TestWatchEndsWhileTheStateIsTold(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	for i := range 10 {
		mustCreate(t, c, fmt.Sprintf("/n/%d", i), "", coord.WithParents())
	}
	w, err := c.Watch(t.Context(), "/n", coord.Subtree, coord.WithInitial(), coord.WithProgress())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for ev, err := range w.Events() {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, fmt.Sprint(ev.Type, " ", ev.Path))
		w.Close()
	}
	if want := []string{"NodeCreated /n", coord.ErrClosed.Error()}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	for ev, err := range w.Events() {
		if !errors.Is(err, coord.ErrClosed) {
			t.Errorf("asked again, the watch tells %v, %v", ev, err)
		}
	}
}

// A watch that has overrun still ends with its context, though the hub has forgotten
// it: nobody need call Close.
func TestWatchPumpEndsWithTheContext(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		w, err := c.Watch(ctx, "/", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		events := w.C()
		for i := range 20 {
			mustCreate(t, c, fmt.Sprintf("/n%d", i), "")
		}
		eventually(t, "the watch to overrun", func() bool { return w.Err() != nil })
		cancel()
		synctest.Wait()
		n := 0
		for range events {
			n++
		}
		if _, ok := errors.AsType[*coord.OverrunError](w.Err()); !ok || n > 0 {
			t.Errorf("told %d events after its context had ended, then %v", n, w.Err())
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = 10 }))
}
