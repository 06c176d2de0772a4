package coord_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

func TestPositionText(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	v, err := c.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []coord.Position{{}, v.Position()} {
		back, err := coord.ParsePosition(p.String())
		if err != nil || back != p {
			t.Errorf("ParsePosition(%v) = %v, %v", p, back, err)
		}
		text, err := p.MarshalText()
		var again coord.Position
		if err != nil || again.UnmarshalText(text) != nil || again != p {
			t.Errorf("%v does not survive its text", p)
		}
	}
	good := v.Position().String()
	for _, bad := range []string{
		"", "p1", "p1-", "p2-0", good + " ", good + ",", strings.ToUpper(good), good + "+x", good + "+4294967295", good + ",1:0x1", "p1-00-1:0x1",
		strings.Repeat("9", 5000),
	} {
		if p, err := coord.ParsePosition(bad); !errors.Is(err, coord.ErrInvalidPosition) || len(err.Error()) > 300 {
			t.Errorf("ParsePosition(%.40q) = %v, %v", bad, p, err)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("p1-0")
	f.Add("p1-af63dc4c8601ec8c-1:0x2a+3,7:0x0")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := coord.ParsePosition(text)
		if err == nil && p.String() != text {
			t.Errorf("%q is read as %v", text, p)
		}
	})
}

// A watch that starts where another stopped, event by event and on another member,
// is told exactly the rest.
func TestWatchResumesAnywhere(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	c := e.Member(1)
	w, err := c.Watch(t.Context(), "/", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := c.Multi(t.Context(), coord.CreateOp(fmt.Sprintf("/a%d", i), nil), coord.CreateOp(fmt.Sprintf("/b%d", i), nil), coord.DeleteOp(fmt.Sprintf("/a%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	var at []coord.Position
	for ev, err := range w.Events() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ev.String())
		at = append(at, ev.Position)
		if len(all) == 30 {
			break
		}
	}
	for i, p := range at {
		other := e.Member(i%3 + 1)
		again, err := other.Watch(t.Context(), "/", coord.Subtree, coord.From(p))
		if err != nil {
			t.Fatalf("From(%v) = %v", p, err)
		}
		rest := []string{}
		for ev, err := range again.Events() {
			if err != nil {
				t.Fatal(err)
			}
			rest = append(rest, ev.String())
			if ev.String() == all[29] {
				break
			}
			if len(rest) > 30 {
				break
			}
		}
		if i < 29 && !slices.Equal(rest, all[i+1:]) {
			t.Fatalf("from %v: %v, want %v", p, rest, all[i+1:])
		}
		if i == 28 {
			break // nothing comes behind the last
		}
	}
}

func TestWatchWithInitialHasNoGap(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	writer, reader := e.Leader(t.Context()), e.Follower(t.Context())
	for i := range 50 {
		mustCreate(t, writer, fmt.Sprintf("/n/%d", i), "0", coord.WithParents())
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := writer.SetData(t.Context(), fmt.Sprintf("/n/%d", i%50), fmt.Append(nil, i)); err != nil {
				t.Errorf("SetData = %v", err)
				return
			}
		}
	}()
	for range 20 {
		w, err := reader.Watch(t.Context(), "/n", coord.Subtree, coord.WithInitial(), coord.WithData())
		if err != nil {
			t.Fatal(err)
		}
		versions := map[string]int32{}
		changes := 0
		for ev, err := range w.Events() {
			if err != nil {
				t.Fatal(err)
			}
			have, known := versions[ev.Path]
			switch {
			case ev.Initial && (known || changes > 0):
				t.Fatalf("initial %v comes late", ev)
			case !ev.Initial && ev.Type == coord.NodeCreated && (known || ev.Stat.Version != 0):
				t.Fatalf("%v is created twice", ev)
			case !ev.Initial && ev.Type == coord.NodeDataChanged && (!known || ev.Stat.Version != have+1):
				t.Fatalf("%v has version %d behind %d", ev, ev.Stat.Version, have)
			}
			versions[ev.Path] = ev.Stat.Version
			if !ev.Initial {
				changes++
			}
			if changes == 100 {
				break
			}
		}
		if len(versions) != 51 {
			t.Errorf("%d znodes, want 51", len(versions))
		}
	}
	close(stop)
	<-done
}

func TestWatchOptions(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	mustCreate(t, c, "/a", "1")
	mustCreate(t, c, "/a/x", "2")
	kids, err := c.Watch(t.Context(), "/a", coord.Children, coord.WithInitial())
	if err != nil {
		t.Fatal(err)
	}
	deletes, err := c.Watch(t.Context(), "/a", coord.Subtree, coord.WithTypes(coord.NodeDeleted), coord.WithData())
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/a/y", "3")
	if err := c.Delete(t.Context(), "/a/x"); err != nil {
		t.Fatal(err)
	}
	if got, err := take(t, kids, 3); err != nil || !slices.Equal(got, []string{"NodeCreated /a/x", "NodeChildrenChanged /a", "NodeChildrenChanged /a"}) {
		t.Errorf("children with initial: %v, %v", got, err)
	}
	for ev, err := range deletes.Events() {
		if err != nil || ev.Type != coord.NodeDeleted || ev.Path != "/a/x" || string(ev.Data) != "2" || ev.Stat.DataLength != 1 {
			t.Errorf("deletes only: %v %q %+v, %v", ev, ev.Data, ev.Stat, err)
		}
		break
	}
	for name, opts := range map[string][]coord.WatchOption{
		"both starts":  {coord.WithInitial(), coord.From(coord.Position{})},
		"unknown type": {coord.WithTypes(99)},
	} {
		if _, err := c.Watch(t.Context(), "/a", coord.Node, opts...); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBadPositions(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		p, _ := mustCreate(t, c, "/n", "")
		v, err := c.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		parse := func(text string) coord.Position {
			p, err := coord.ParsePosition(text)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		good := v.Position().String()
		future := parse(strings.Replace(good, ":0x", ":0xfff", 1))
		foreign := parse("p1-0123456789abcdef-1:0x1")
		for name, test := range map[string]struct {
			p    coord.Position
			says string
		}{"future": {future, "0xfff"}, "foreign": {foreign, "another ensemble"}} {
			if _, err := c.Watch(t.Context(), p, coord.Node, coord.From(test.p)); !errors.Is(err, coord.ErrInvalidPosition) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: Watch = %v", name, err)
			}
			if _, _, err := c.Get(t.Context(), p, coord.AtLeast(test.p)); !errors.Is(err, coord.ErrInvalidPosition) {
				t.Errorf("%s: Get = %v", name, err)
			}
		}
		if _, _, err := e.Follower(t.Context()).Get(t.Context(), p, coord.AtLeast(v.Position())); err != nil {
			t.Errorf("Get at least %v on a follower = %v", v.Position(), err)
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.HistoryEvents = 20 }))
	c := e.Member(1)
	mustCreate(t, c, "/n", "")
	v, err := c.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if _, err := c.SetData(t.Context(), "/n", nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.Watch(t.Context(), "/n", coord.Node, coord.From(v.Position()))
	compacted, ok := errors.AsType[*coord.CompactedError](err)
	if !ok {
		t.Fatalf("Watch from before the history = %v", err)
	}
	for ok { // more is kept, for a moment, until the watches have been told
		var got []string
		w, err := c.Watch(t.Context(), "/n", coord.Node, coord.From(compacted.Oldest))
		if err == nil {
			got, err = take(t, w, 20)
		}
		if compacted, ok = errors.AsType[*coord.CompactedError](err); !ok && (err != nil || len(got) != 20) {
			t.Errorf("from the oldest place: %d events, %v; want the 20 that are kept", len(got), err)
		}
	}
}

func TestProgressMarks(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/quiet", "")
		w, err := c.Watch(t.Context(), "/quiet", coord.Node, coord.WithProgress())
		if err != nil {
			t.Fatal(err)
		}
		_, st := mustCreate(t, c, "/elsewhere", "")
		for ev, err := range w.Events() {
			if err != nil || ev.Type != coord.Progress {
				t.Fatalf("%v, %v", ev, err)
			}
			if ev.ZXID >= st.Czxid {
				if _, err := c.Watch(t.Context(), "/quiet", coord.Node, coord.From(ev.Position)); err != nil {
					t.Errorf("From a mark = %v", err)
				}
				break
			}
		}
	})
}

func TestWatchLimit(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.MaxWatches = 3 }))
	c := e.Member(1)
	ctx, cancel := context.WithCancel(t.Context())
	for range 3 {
		if _, err := c.Watch(ctx, "/", coord.Node); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Watch(ctx, "/", coord.Node); !errors.Is(err, coord.ErrTooManyWatches) {
		t.Errorf("Watch beyond the limit = %v", err)
	}
	cancel()
	eventually(t, "the watches to be freed", func() bool { return c.Status().Watches == 0 })
	if _, err := c.Watch(t.Context(), "/", coord.Node); err != nil {
		t.Errorf("Watch after others ended = %v", err)
	}
}

// Storms of watches that are opened and closed in every way return every counter
// to its base.
func TestWatchStorm(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustCreate(t, c, "/n", "")
		begin, err := c.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for round := range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			for i := range 20 {
				var opts []coord.WatchOption
				switch i % 4 {
				case 1:
					opts = append(opts, coord.WithInitial())
				case 2:
					opts = append(opts, coord.From(begin.Position()))
				case 3:
					opts = append(opts, coord.WithProgress())
				}
				w, err := c.Watch(ctx, "/n", coord.Subtree, opts...)
				if err != nil {
					t.Fatal(err)
				}
				switch (round + i) % 5 {
				case 0:
					w.Close()
				case 1:
					events := w.C()
					go func() {
						<-events
						w.Close()
					}()
				case 2:
					go func() {
						_, _ = take(t, w, 1)
					}()
				}
				if _, err := c.SetData(t.Context(), "/n", nil); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
		}
		time.Sleep(time.Second)
		if n := c.Status().Watches; n != 0 {
			t.Errorf("%d watches are left", n)
		}
	})
}

// Whoever stops in the middle of the initial state cannot go on there: the rest would
// never be told.
func TestInitialStateHasOnePosition(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	for _, path := range []string{"/a", "/a/1", "/a/2"} {
		mustCreate(t, c, path, "")
	}
	all := []string{"NodeCreated /a", "NodeCreated /a/1", "NodeCreated /a/2"}
	for _, opts := range [][]coord.WatchOption{{coord.WithInitial()}, {coord.WithInitial(), coord.WithProgress()}} {
		w, err := c.Watch(t.Context(), "/a", coord.Subtree, opts...)
		if err != nil {
			t.Fatal(err)
		}
		if !w.Position().IsZero() {
			t.Errorf("the Position before the state was told is %v", w.Position())
		}
		n, last := 0, len(all)-1
		for ev, err := range w.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Position.IsZero() != (n < last) || w.Position() != ev.Position {
				t.Errorf("%d: %v has the Position %v, and the watch %v", n, ev, ev.Position, w.Position())
			}
			follow, err := c.Watch(t.Context(), "/a", coord.Subtree, coord.From(ev.Position))
			if err != nil {
				t.Fatal(err)
			}
			path, _ := mustCreate(t, c, "/a/next", "")
			want := []string{"NodeCreated " + path}
			if n < last {
				want = append(slices.Clone(all), want...)
			}
			got, err := take(t, follow, len(want))
			if err != nil || !slices.Equal(got, want) && len(opts) == 1 && n == 0 {
				t.Errorf("a watch from the Position of %v is told %v, %v; want %v", ev, got, err, want)
			}
			follow.Close()
			if err := c.Delete(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			if n++; n >= last+len(opts) { // a Progress behind the state
				break
			}
		}
	}

	// Nothing to tell is told at once.
	w, err := c.Watch(t.Context(), "/none", coord.Subtree, coord.WithInitial())
	if err != nil {
		t.Fatal(err)
	}
	_ = w.C()
	eventually(t, "a Position", func() bool { return !w.Position().IsZero() })
	w.Close()
}
