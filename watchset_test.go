package coord_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

const everything = coord.ZXID(math.MaxUint64)

func newSet(t *testing.T, c *coord.Coordinator) *coord.WatchSet {
	t.Helper()
	ws, err := c.NewWatchSet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ws.Close)
	return ws
}

// mustView returns what the local member has, which on a busy machine may be suspended
// for a moment.
func mustView(t *testing.T, c coord.Client) *coord.View {
	t.Helper()
	v, err := c.View(t.Context(), coord.AllowStale())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// register adds registrations from now on.
func register(t *testing.T, c coord.Client, ws *coord.WatchSet, typ coord.WatcherType, paths ...string) {
	t.Helper()
	var rs []coord.Registration
	for _, p := range paths {
		rs = append(rs, coord.Registration{Path: p, Type: typ})
	}
	if err := ws.Add(mustView(t, c), rs...); err != nil {
		t.Fatal(err)
	}
}

// told returns what a set is told up to a zxid, as "NodeCreated /a, …".
func told(t *testing.T, ws *coord.WatchSet, upTo coord.ZXID) string {
	t.Helper()
	events, err := ws.Take(upTo)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, ev := range events {
		texts = append(texts, fmt.Sprint(ev.Type, " ", ev.Path))
	}
	return strings.Join(texts, ", ")
}

// The table of operations and watches in ZooKeeper's guide.
func TestWatchSetTable(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	const q, p = "/q", "/q/p"
	create := func() coord.ZXID { _, st := mustCreate(t, c, p, ""); return st.Czxid }
	remove := func() coord.ZXID {
		if err := c.Delete(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return mustView(t, c).ZXID()
	}
	set := func() coord.ZXID {
		st, err := c.SetData(t.Context(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mzxid
	}
	mustCreate(t, c, q, "")
	for _, row := range []struct {
		typ                  coord.WatcherType
		path                 string
		create, set, deleted string // what each operation on p tells a fresh registration
	}{
		{coord.DataWatcher, p, "NodeCreated /q/p", "NodeDataChanged /q/p", "NodeDeleted /q/p"},
		{coord.ChildrenWatcher, p, "", "", "NodeDeleted /q/p"},
		{coord.DataWatcher, q, "", "", ""},
		{coord.ChildrenWatcher, q, "NodeChildrenChanged /q", "", "NodeChildrenChanged /q"},
		{coord.PersistentWatcher, p, "NodeCreated /q/p", "NodeDataChanged /q/p", "NodeDeleted /q/p"},
		{coord.PersistentWatcher, q, "NodeChildrenChanged /q", "", "NodeChildrenChanged /q"},
		{coord.PersistentWatcher, "/", "", "", ""},
		{coord.PersistentRecursiveWatcher, p, "NodeCreated /q/p", "NodeDataChanged /q/p", "NodeDeleted /q/p"},
		{coord.PersistentRecursiveWatcher, q, "NodeCreated /q/p", "NodeDataChanged /q/p", "NodeDeleted /q/p"},
		{coord.PersistentRecursiveWatcher, "/", "NodeCreated /q/p", "NodeDataChanged /q/p", "NodeDeleted /q/p"},
	} {
		for _, step := range []struct {
			op   func() coord.ZXID
			want string
		}{{create, row.create}, {set, row.set}, {remove, row.deleted}} {
			ws := newSet(t, c)
			register(t, c, ws, row.typ, row.path)
			if got := told(t, ws, step.op()); got != step.want {
				t.Errorf("%v at %s was told %q, want %q", row.typ, row.path, got, step.want)
			}
			once := row.typ == coord.DataWatcher || row.typ == coord.ChildrenWatcher
			if has, want := ws.Has(row.path, row.typ), step.want == "" || !once; has != want {
				t.Errorf("%v at %s is registered after %q: %t, want %t", row.typ, row.path, step.want, has, want)
			}
			ws.Close()
		}
	}
	if n := c.Status().Watches; n != 0 {
		t.Errorf("%d registrations are left", n)
	}
}

func TestWatchSetIsToldOnce(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	ws := newSet(t, c)
	mustCreate(t, c, "/a", "")
	for _, typ := range []coord.WatcherType{coord.ChildrenWatcher, coord.DataWatcher, coord.PersistentWatcher, coord.PersistentRecursiveWatcher} {
		register(t, c, ws, typ, "/", "/a")
		register(t, c, ws, typ, "/a")
	}
	if n := ws.Len(); n != 2 {
		t.Errorf("%d paths are registered, want 2", n)
	}
	if err := c.Delete(t.Context(), "/a"); err != nil {
		t.Fatal(err)
	}
	if got, want := told(t, ws, everything), "NodeDeleted /a, NodeChildrenChanged /"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	for typ, want := range map[coord.WatcherType]bool{
		coord.ChildrenWatcher: false, coord.DataWatcher: false, coord.PersistentWatcher: true,
		coord.PersistentRecursiveWatcher: true, coord.AnyWatcher: true,
	} {
		if has := ws.Has("/a", typ); has != want {
			t.Errorf("Has(/a, %v) = %t, want %t", typ, has, want)
		}
	}
	for _, step := range []struct {
		typ  coord.WatcherType
		want bool
	}{{coord.DataWatcher, false}, {coord.PersistentWatcher, true}, {coord.PersistentWatcher, false}, {coord.AnyWatcher, true}, {coord.AnyWatcher, false}} {
		if had := ws.Remove("/a", step.typ); had != step.want {
			t.Errorf("Remove(/a, %v) = %t, want %t", step.typ, had, step.want)
		}
	}
}

// All events of a multi and of a session's end, in order, before its result.
func TestWatchSetOrder(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	mustCreate(t, c, "/q", "")
	ws := newSet(t, c)
	register(t, c, ws, coord.PersistentWatcher, "/q", "/q/1")
	register(t, c, ws, coord.ChildrenWatcher, "/")
	if _, err := c.Multi(t.Context(), coord.CreateOp("/q/1", nil), coord.SetDataOp("/q/1", nil), coord.DeleteOp("/q/1"), coord.SetDataOp("/q", nil)); err != nil {
		t.Fatal(err)
	}
	want := "NodeCreated /q/1, NodeChildrenChanged /q, NodeDataChanged /q/1, NodeDeleted /q/1, NodeChildrenChanged /q, NodeDataChanged /q"
	if got := told(t, ws, mustView(t, c).ZXID()); got != want {
		t.Errorf("a multi told\n%q, want\n%q", got, want)
	}
	ws.Remove("/q", coord.AnyWatcher)
	ws.Remove("/q/1", coord.AnyWatcher)

	s, err := c.NewSession(t.Context(), coord.SessionOptions{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/q/a", "/q/b"} {
		mustCreate(t, s, path, "", coord.Ephemeral)
	}
	register(t, c, ws, coord.ChildrenWatcher, "/q")
	register(t, c, ws, coord.DataWatcher, "/q/a", "/q/b")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want = "NodeDeleted /q/a, NodeChildrenChanged /q, NodeDeleted /q/b"
	if got := told(t, ws, mustView(t, c).ZXID()); got != want {
		t.Errorf("a session's end told\n%q, want\n%q", got, want)
	}
}

// A registration is told the first change behind the view it was made with,
// whatever happens meanwhile, and once.
func TestWatchSetMissesNothing(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	const path, writes = "/counter", 3000
	mustCreate(t, c, path, "")
	var mu sync.Mutex
	versions := map[coord.ZXID]int32{} // guarded by mu; by the zxid that made them
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range writes {
			st, err := c.SetData(t.Context(), path, nil)
			if err != nil {
				t.Errorf("SetData = %v", err)
				return
			}
			mu.Lock()
			versions[st.Mzxid] = st.Version
			mu.Unlock()
		}
	}()
	ws := newSet(t, c)
	var toldAfter []int32 // the version of the view, and then that of the event
	var zxids []coord.ZXID
	for seen := int32(0); seen < writes; {
		v := mustView(t, c)
		_, st, err := v.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		seen = st.Version
		if got := told(t, ws, v.ZXID()); got != "" {
			t.Fatalf("told %q, though nothing was registered", got)
		}
		if seen == writes {
			break
		}
		runtime.Gosched()
		if err := ws.Add(v, coord.Registration{Path: path, Type: coord.DataWatcher}); err != nil {
			t.Fatal(err)
		}
		var events []coord.Event
		for len(events) == 0 {
			select {
			case <-ws.Changed():
			case <-done:
			}
			if events, err = ws.Take(everything); err != nil {
				t.Fatal(err)
			}
		}
		if len(events) != 1 {
			t.Fatalf("one registration was told %v", events)
		}
		toldAfter, zxids = append(toldAfter, seen), append(zxids, events[0].ZXID)
	}
	<-done
	for i, seen := range toldAfter {
		if got := versions[zxids[i]]; got != seen+1 {
			t.Fatalf("a view of version %d, and the first notification was of version %d", seen, got)
		}
	}
	t.Logf("%d registrations during %d writes", len(toldAfter), writes)
}

// A view may be old when registrations are made behind it.
func TestWatchSetBehindAnOldView(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.HistoryEvents = 100 }))
	c := e.Member(1)
	mustCreate(t, c, "/a", "")
	ws := newSet(t, c)
	register(t, c, ws, coord.PersistentWatcher, "/a")
	v := mustView(t, c)
	mustCreate(t, c, "/a/b", "")
	if _, err := c.SetData(t.Context(), "/a", nil); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/a/b/c", "")
	err := ws.Add(v, coord.Registration{Path: "/a", Type: coord.DataWatcher}, coord.Registration{Path: "/a", Type: coord.PersistentRecursiveWatcher})
	if err != nil {
		t.Fatal(err)
	}
	// Each change once, at its place, whoever asked for it.
	want := "NodeCreated /a/b, NodeChildrenChanged /a, NodeDataChanged /a, NodeCreated /a/b/c"
	if got := told(t, ws, everything); got != want {
		t.Errorf("told\n%q, want\n%q", got, want)
	}
	if ws.Has("/a", coord.DataWatcher) || !ws.Has("/a", coord.PersistentRecursiveWatcher) {
		t.Error("the registration for data was not used up, or the recursive one is gone")
	}

	if err := ws.Add(v, coord.Registration{Path: "/a", Type: coord.DataWatcher}); !errors.Is(err, coord.ErrBadArguments) {
		t.Errorf("Add behind a view older than what was taken = %v", err)
	}
	fresh := newSet(t, c)
	for range 200 {
		if _, err := c.SetData(t.Context(), "/a", nil); err != nil {
			t.Fatal(err)
		}
	}
	err = fresh.Add(v, coord.Registration{Path: "/a", Type: coord.DataWatcher})
	if _, ok := errors.AsType[*coord.CompactedError](err); !ok || fresh.Len() != 0 {
		t.Errorf("Add behind a forgotten view = %v, with %d registrations", err, fresh.Len())
	}
}

func TestWatchSetRefuses(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.MaxWatches = 3 }))
	c := e.Member(1)
	other := coordtest.NewEnsemble(t, 1).Member(1)
	ws := newSet(t, c)
	v := mustView(t, c)
	for _, bad := range []coord.Registration{
		{"", coord.DataWatcher}, {"a", coord.DataWatcher}, {"/a/", coord.DataWatcher}, {"/a", coord.AnyWatcher}, {"/a", 0}, {"/a", 6}, {"/a", -1},
	} {
		err := ws.Add(v, coord.Registration{Path: "/fine", Type: coord.DataWatcher}, bad)
		if !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Add(%v) = %v, want %v", bad, err, coord.ErrBadArguments)
		}
	}
	if err := ws.Add(mustView(t, other), coord.Registration{Path: "/a", Type: coord.DataWatcher}); !errors.Is(err, coord.ErrBadArguments) {
		t.Errorf("Add behind a view of another ensemble = %v", err)
	}
	register(t, c, ws, coord.DataWatcher, "/a", "/b")
	err := ws.Add(v, coord.Registration{Path: "/c", Type: coord.DataWatcher}, coord.Registration{Path: "/d", Type: coord.DataWatcher})
	if !errors.Is(err, coord.ErrTooManyWatches) || ws.Len() != 2 {
		t.Errorf("Add beyond the limit = %v, with %d registrations", err, ws.Len())
	}
	register(t, c, ws, coord.PersistentWatcher, "/a", "/b") // no more paths
	register(t, c, ws, coord.DataWatcher, "/c")
	if n := c.Status().Watches; n != 3 {
		t.Errorf("Status counts %d, want 3", n)
	}
	ws.Close()
	if n := c.Status().Watches; n != 0 {
		t.Errorf("Status counts %d after Close, want 0", n)
	}
	if err := ws.Add(v, coord.Registration{Path: "/a", Type: coord.DataWatcher}); !errors.Is(err, coord.ErrClosed) {
		t.Errorf("Add after Close = %v", err)
	}
	if _, err := ws.Take(everything); !errors.Is(err, coord.ErrClosed) {
		t.Errorf("Take after Close = %v", err)
	}
}

// Who does not take is cut off for what lasting registrations tell, but not for what
// used-up ones do: those are bounded by their number.
func TestWatchSetOverrun(t *testing.T) {
	const buffer = 50
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = buffer }))
	c := e.Member(1)
	once, lasting := newSet(t, c), newSet(t, c)
	var paths []string
	for i := range 2 * buffer {
		paths = append(paths, fmt.Sprintf("/n%03d", i))
	}
	register(t, c, once, coord.DataWatcher, paths...)
	register(t, c, lasting, coord.PersistentRecursiveWatcher, "/")
	for _, path := range paths {
		mustCreate(t, c, path, "")
	}
	events, err := once.Take(everything)
	if err != nil || len(events) != len(paths) {
		t.Errorf("%d notifications of used-up registrations, %v; want %d", len(events), err, len(paths))
	}
	events, err = lasting.Take(everything)
	if len(events) != buffer {
		t.Errorf("%d notifications of a lasting registration, want %d", len(events), buffer)
	}
	overrun, ok := errors.AsType[*coord.OverrunError](err)
	if !ok {
		t.Fatalf("with %v, want an overrun", err)
	}
	w, err := c.Watch(t.Context(), "/", coord.Subtree, coord.From(overrun.Position))
	if err != nil {
		t.Fatal(err)
	}
	got, err := take(t, w, buffer)
	var want []string
	for _, path := range paths[buffer:] {
		want = append(want, "NodeCreated "+path)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("a watch from the position of the overrun tells %v, %v; want %v", got, err, want)
	}
	w.Close()
	if n := c.Status().Watches; n != 0 {
		t.Errorf("%d registrations are left", n)
	}
}

// What may not be read is not told, but uses up the registration.
func TestWatchSetObeysACLs(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	unreadable := coord.WithACL(coord.ACL{Perms: coord.PermAll &^ coord.PermRead, ID: coord.ID{Scheme: "world", ID: "anyone"}})
	mustCreate(t, c, "/q", "", unreadable)
	ws := newSet(t, c)
	register(t, c, ws, coord.DataWatcher, "/q/a", "/q/b")
	register(t, c, ws, coord.ChildrenWatcher, "/q")
	mustCreate(t, c, "/q/a", "", unreadable)
	mustCreate(t, c, "/q/b", "")
	if got := told(t, ws, everything); got != "NodeCreated /q/b" {
		t.Errorf("told %q", got)
	}
	if n := ws.Len(); n != 0 {
		t.Errorf("%d registrations are left", n)
	}
}

// A reader must have been allowed to read the znode at the event, and be now.
func TestWatchersObeyACLsThenAndNow(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	open := coord.ACL{Perms: coord.PermAll, ID: coord.ID{Scheme: "world", ID: "anyone"}}
	secret := coord.ACL{Perms: coord.PermAll &^ coord.PermRead, ID: open.ID}
	ws := newSet(t, c)
	register(t, c, ws, coord.PersistentRecursiveWatcher, "/")
	w, err := c.Watch(t.Context(), "/", coord.Subtree)
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/secret", "", coord.WithACL(open))
	mustCreate(t, c, "/public", "", coord.WithACL(secret))
	for path, acl := range map[string]coord.ACL{"/secret": secret, "/public": open} {
		if _, err := c.SetACL(t.Context(), path, []coord.ACL{acl}); err != nil {
			t.Fatal(err)
		}
	}
	mustCreate(t, c, "/end", "")
	if got := told(t, ws, everything); got != "NodeCreated /end" {
		t.Errorf("the set is told %q", got)
	}
	if got, err := take(t, w, 1); err != nil || got[0] != "NodeCreated /end" {
		t.Errorf("the watch tells %v, %v", got, err)
	}
}

func TestWatchSetEndsWhenASnapshotSkipsEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		behind := e.Follower(t.Context())
		ws := newSet(t, behind)
		register(t, behind, ws, coord.DataWatcher, "/n59")
		old := mustView(t, behind)
		e.Isolate(behind)
		c := e.Leader(t.Context())
		for i := range 60 {
			mustCreate(t, c, fmt.Sprintf("/n%d", i), "")
		}
		e.Heal()
		<-ws.Changed()
		eventually(t, "the set to end", func() bool { return ws.Err() != nil })
		if _, err := ws.Take(everything); !isCompacted(err) {
			t.Errorf("Take = %v, want a compacted error", err)
		}
		fresh := newSet(t, behind)
		if err := fresh.Add(old, coord.Registration{Path: "/n59", Type: coord.DataWatcher}); !isCompacted(err) {
			t.Errorf("Add behind a view from before = %v, want a compacted error", err)
		}
		register(t, behind, fresh, coord.DataWatcher, "/n59")
	}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 10 }))
}

func isCompacted(err error) bool {
	_, ok := errors.AsType[*coord.CompactedError](err)
	return ok
}

func TestWatchSetEndsWithTheCoordinator(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	ws := newSet(t, c)
	register(t, c, ws, coord.DataWatcher, "/a")
	e.Stop(c)
	<-ws.Changed()
	if _, err := ws.Take(everything); !errors.Is(err, coord.ErrClosed) {
		t.Errorf("Take = %v", err)
	}
	if _, err := c.NewWatchSet(t.Context()); !errors.Is(err, coord.ErrClosed) {
		t.Errorf("NewWatchSet = %v", err)
	}
	e.Restart(c)
}

// A million registrations take at most 300 bytes each, beside their paths.
func TestMillionRegistrations(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 50_000
	}
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	rs := make([]coord.Registration, n)
	for i := range rs {
		rs[i] = coord.Registration{Path: fmt.Sprintf("/watched/%07d", i), Type: coord.DataWatcher}
	}
	ws := newSet(t, c)
	before := heapBytes()
	for some := range slices.Chunk(rs, 1000) {
		if err := ws.Add(mustView(t, c), some...); err != nil {
			t.Fatal(err)
		}
	}
	each := (int64(heapBytes()) - int64(before)) / int64(n)
	t.Logf("%d bytes for each of %d registrations", each, n)
	if each > 300 {
		t.Errorf("%d bytes for each registration, want at most 300", each)
	}
	ws.Close()
	if got := c.Status().Watches; got != 0 {
		t.Errorf("%d registrations are left", got)
	}
	runtime.KeepAlive(rs)
}

// A set is told all that led to a view or an acknowledged write, and nothing of it
// twice, also while the hub is far behind.
func TestWatchSetWhileTheHubIsBusy(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	mustCreate(t, c, "/hot", "")
	mustCreate(t, c, "/cold", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 20_000 {
		if _, err := c.Watch(ctx, "/hot", coord.Node); err != nil {
			t.Fatal(err)
		}
	}
	ws := newSet(t, c)
	for range 30 {
		register(t, c, ws, coord.DataWatcher, "/hot")
		st, err := c.SetData(ctx, "/hot", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := told(t, ws, st.Mzxid); got != "NodeDataChanged /hot" {
			t.Fatalf("with the acknowledgement told %q", got)
		}

		for _, path := range []string{"/hot", "/cold"} { // the hub is at the first
			if _, err := c.SetData(ctx, path, nil); err != nil {
				t.Fatal(err)
			}
		}
		register(t, c, ws, coord.DataWatcher, "/cold")
		if got := told(t, ws, everything); got != "" {
			t.Fatalf("told %q, which the view showed", got)
		}
		ws.Remove("/cold", coord.DataWatcher)
	}
}
