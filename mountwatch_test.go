package coord_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"coord"
	"coord/coordtest"
)

// A toldTest has one watch on one member and what it was told.
type toldTest struct {
	path string
	mode coord.WatchMode
	w    *coord.Watch

	mu   sync.Mutex
	told []coord.Event
	err  error
}

func (x *toldTest) read() {
	for ev, err := range x.w.Events() {
		x.mu.Lock()
		if err != nil {
			x.err = err
		} else if ev.Type != coord.Progress && !strings.HasPrefix(ev.Path, "/zookeeper") { // the place of the mount's quotas
			x.told = append(x.told, ev)
		}
		x.mu.Unlock()
	}
}

func (x *toldTest) seen() ([]coord.Event, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.told), x.err
}

// concerns returns what the watch is to be told of a change, if anything.
func (x *toldTest) concerns(ev coord.Event) (coord.Event, bool) {
	parent := ev.Path[:max(1, strings.LastIndex(ev.Path, "/"))]
	switch x.mode {
	case coord.Node:
		return ev, ev.Path == x.path
	case coord.Children:
		return coord.Event{Type: coord.NodeChildrenChanged, Path: x.path, ZXID: ev.ZXID}, parent == x.path && ev.Type != coord.NodeDataChanged
	case coord.Subtree:
		return ev, x.path == "/" || ev.Path == x.path || strings.HasPrefix(ev.Path, x.path+"/")
	}
	panic(x.mode)
}

// perPath has the events of each path in their order.
func perPath(events []coord.Event) map[string][]string {
	out := map[string][]string{}
	for _, ev := range events {
		out[ev.Path] = append(out[ev.Path], fmt.Sprintf("%v@%v", ev.Type, ev.ZXID))
	}
	return out
}

// mountChanges makes random changes in a tree whose mount comes and goes, and returns what
// has changed.
type mountChanges struct {
	t       *testing.T
	e       *coordtest.Ensemble
	r       *rand.Rand
	mounted bool
	made    []coord.Event
}

func (m *mountChanges) any() *coord.Coordinator { return m.e.Member(m.r.IntN(3) + 1) }

func (m *mountChanges) note(typ coord.EventType, path string, z coord.ZXID) {
	m.made = append(m.made, coord.Event{Type: typ, Path: path, ZXID: z})
}

func (m *mountChanges) change() {
	m.t.Helper()
	path := []string{"/x", "/q", "/q/a", "/q/b"}[m.r.IntN(4)]
	c := m.any()
	if m.r.IntN(2) == 0 || path == "/q" {
		stat, err := c.SetData(m.t.Context(), path, nil)
		if err == nil {
			m.note(coord.NodeDataChanged, path, stat.Mzxid)
		} else if !errors.Is(err, coord.ErrNoNode) {
			m.t.Fatalf("SetData(%s) = %v", path, err)
		}
		return
	}
	if _, stat, err := c.Create(m.t.Context(), path, nil); err == nil {
		m.note(coord.NodeCreated, path, stat.Czxid)
	} else if errors.Is(err, coord.ErrNodeExists) {
		m.remove(path)
	} else {
		m.t.Fatalf("Create(%s) = %v", path, err)
	}
}

// remove deletes a znode. The parent's stat has the zxid of it.
func (m *mountChanges) remove(path string) {
	m.t.Helper()
	results, err := m.any().Multi(m.t.Context(), coord.DeleteOp(path))
	if errors.Is(err, coord.ErrNoNode) {
		return
	}
	if err != nil || len(results) != 1 {
		m.t.Fatalf("Delete(%s) = %v", path, err)
	}
	parent := path[:max(1, strings.LastIndex(path, "/"))]
	_, stat := mustGet(m.t, m.any(), parent, coord.Linearizable())
	m.note(coord.NodeDeleted, path, stat.Pzxid)
}

func (m *mountChanges) move() {
	m.t.Helper()
	for _, path := range []string{"/q/a", "/q/b"} {
		m.remove(path)
	}
	c := m.any()
	var err error
	if m.mounted {
		err = c.Unmount(m.t.Context(), "/q")
	} else {
		err = c.Mount(m.t.Context(), "/q")
	}
	if err != nil {
		m.t.Fatalf("mounted %v: %v", m.mounted, err)
	}
	m.mounted = !m.mounted
}

// TestWatchesAcrossMounts watches a tree whose mount comes and goes, on all members and in
// all modes: each watch is told every change, those of a znode in order, and none twice;
// also one that begins in the middle at the Position of another.
func TestWatchesAcrossMounts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		m := &mountChanges{t: t, e: e, r: rand.New(rand.NewPCG(seed, 1))}
		mustCreate(t, e.Member(1), "/q", "")
		for _, c := range e.Running() {
			mustGet(t, c, "/q", coord.Linearizable())
		}
		var watches []*toldTest
		open := func(c *coord.Coordinator, path string, mode coord.WatchMode, opts ...coord.WatchOption) *toldTest {
			t.Helper()
			w, err := c.Watch(t.Context(), path, mode, append(opts, coord.WithProgress())...)
			if err != nil {
				t.Fatalf("Watch(%s, %v) = %v", path, mode, err)
			}
			x := &toldTest{path: path, mode: mode, w: w}
			go x.read()
			watches = append(watches, x)
			return x
		}
		for _, c := range e.Running() {
			open(c, "/", coord.Subtree)
			open(c, "/q", coord.Subtree)
			open(c, "/q", coord.Node)
			open(c, "/q", coord.Children)
			open(c, "/q/a", coord.Node)
			open(c, "/", coord.Children)
		}
		var resumed []*toldTest
		skipped := map[*toldTest]int{}
		for range 12 {
			for range 10 {
				m.change()
			}
			m.move()
			if m.r.IntN(3) == 0 {
				// Who goes on from a view is told what comes behind it.
				v, err := m.any().View(t.Context(), coord.Linearizable())
				if err != nil {
					t.Fatal(err)
				}
				n := len(m.made)
				m.change()
				x := open(m.any(), "/", coord.Subtree, coord.From(v.Position()))
				resumed = append(resumed, x)
				skipped[x] = n
			}
		}
		for _, x := range watches {
			var want []coord.Event
			for _, ev := range m.made[skipped[x]:] {
				if ev, ok := x.concerns(ev); ok {
					want = append(want, ev)
				}
			}
			eventually(t, "a watch to be told", func() bool {
				told, err := x.seen()
				return err != nil || len(told) >= len(want)
			})
			told, err := x.seen()
			if got, want := fmt.Sprint(perPath(told)), fmt.Sprint(perPath(want)); err != nil || got != want {
				t.Errorf("%v of %s, %v:\n%s\nwant\n%s", x.mode, x.path, err, got, want)
			}
			x.w.Close()
		}
		if len(resumed) == 0 {
			t.Log("no watch was resumed this time")
		}
	})
}

// nextOf returns the next event of a watch.
func nextOf(t *testing.T, w *coord.Watch) coord.Event {
	t.Helper()
	ev, ok := <-w.C()
	if !ok {
		t.Fatalf("the watch has ended: %v", w.Err())
	}
	return ev
}

// A watch was told something of the root group behind a mount, and nothing of the mount's
// group. Who goes on from there when the mount has come to its end misses nothing of it.
func TestResumeBehindAMountThatIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		mustCreate(t, c, "/q", "")
		mustCreate(t, c, "/x", "")
		w, err := c.Watch(t.Context(), "/", coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		mustMount(t, c, "/q")
		if _, err := c.SetData(t.Context(), "/x", nil); err != nil {
			t.Fatal(err)
		}
		var from coord.Position
		for ev := nextOf(t, w); ; ev = nextOf(t, w) {
			if from = ev.Position; ev.Path == "/x" {
				break
			}
		}
		w.Close()
		mustCreate(t, c, "/q/a", "")
		if err := c.Delete(t.Context(), "/q/a"); err != nil {
			t.Fatal(err)
		}
		if err := c.Unmount(t.Context(), "/q"); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, c, "/end", "")
		w, err = c.Watch(t.Context(), "/", coord.Subtree, coord.From(from))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		var told []string
		for ev := nextOf(t, w); ev.Path != "/end"; ev = nextOf(t, w) {
			if ev.Path == "/q/a" {
				told = append(told, ev.Type.String())
			}
		}
		if fmt.Sprint(told) != "[NodeCreated NodeDeleted]" {
			t.Errorf("from %v on, told of /q/a: %v", from, told)
		}
	})
}

// A member that restarts applies a mount and its end in one step. It has nothing of what
// the mount's group did, and says so to who would have to be told.
func TestResumeWhereTheMountIsNotKnown(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		mustCreate(t, c, "/q", "")
		v, err := c.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mustMount(t, c, "/q")
		mustCreate(t, c, "/q/a", "")
		if err := c.Delete(t.Context(), "/q/a"); err != nil {
			t.Fatal(err)
		}
		if err := c.Unmount(t.Context(), "/q"); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, c, "/end", "")
		e.Stop(c)
		e.Restart(c)
		c = e.Member(1)
		w, err := c.Watch(t.Context(), "/q", coord.Subtree, coord.From(v.Position()))
		if err == nil {
			defer w.Close()
			var told []string
			for ev, cause := range w.Events() {
				if err = cause; cause == nil {
					told = append(told, ev.String())
				}
			}
			if len(told) > 0 {
				t.Errorf("told %v, of which nothing is known", told)
			}
		}
		if !errors.As(err, new(*coord.CompactedError)) {
			t.Errorf("from before the mount: %v", err)
		}
	})
}
