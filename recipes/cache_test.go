package recipes_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

func newCache(t *testing.T, c coord.Client, path string, opts ...recipes.CacheOption[string]) *recipes.Cache[string] {
	t.Helper()
	k, err := recipes.NewCache(c, path, coord.JSON[string](), opts...)
	must(t, err)
	t.Cleanup(k.Close)
	return k
}

func put(t *testing.T, c coord.Client, path, value string) {
	t.Helper()
	_, err := recipes.NewValue(c, path, coord.JSON[string]()).Set(t.Context(), value)
	must(t, err)
}

// shown returns what a cache shows, as "path=value" sorted by path.
func shown(k *recipes.Cache[string]) string {
	var all []string
	for path, e := range k.All() {
		text := path + "=" + e.Value
		if e.Err != nil {
			text = path + "!"
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// told returns what a Delta says: + for created, - for deleted, ~ for changed, * for
// deleted and created.
func told(d recipes.Delta[string]) string {
	var all []string
	if d.Rebuilt {
		all = append(all, "rebuilt")
	}
	for _, c := range d.Changes {
		switch {
		case c.Old() == nil:
			all = append(all, "+"+c.Path()+"="+c.New().Value)
		case c.New() == nil:
			all = append(all, "-"+c.Path()+"="+c.Old().Value)
		case c.Recreated():
			all = append(all, "*"+c.Path()+"="+c.New().Value)
		default:
			all = append(all, "~"+c.Path()+"="+c.Old().Value+">"+c.New().Value)
		}
	}
	return strings.Join(all, " ")
}

// reader reads the changes of a cache in the background.
func reader(ctx context.Context, k *recipes.Cache[string]) (<-chan string, <-chan error) {
	deltas := make(chan string, 10000)
	return deltas, inBackground(func() error {
		for d, err := range k.Changes(ctx) {
			if err != nil {
				return err
			}
			deltas <- told(d)
		}
		return nil
	})
}

// tells reads one Delta. Of changes that come faster than they are read, one may tell
// several.
func tells(t *testing.T, deltas <-chan string, want string) {
	t.Helper()
	if got := <-deltas; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestCache(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		put(t, c, "/a/one", "1")
		k := newCache(t, c, "/a")
		must(t, k.Synced(ctx))
		if got := shown(k); got != "/a! /a/one=1" {
			t.Errorf("it shows %s", got)
		}
		deltas, ended := reader(ctx, k)
		if got := <-deltas; got != "+/a= +/a/one=1" {
			t.Errorf("the first Delta is %s", got)
		}
		put(t, c, "/a/two", "2")
		tells(t, deltas, "+/a/two=2")
		put(t, c, "/a/one", "3")
		tells(t, deltas, "~/a/one=1>3")
		must(t, c.Delete(ctx, "/a/two"))
		tells(t, deltas, "-/a/two=2")
		must(t, k.Synced(ctx))
		one, ok := k.Get("/a/one")
		_, stat, err := c.Get(ctx, "/a/one")
		must(t, err)
		if !ok || one.Value != "3" || one.Stat != stat || k.Len() != 2 {
			t.Errorf("Get = %+v, %t, %d", one, ok, k.Len())
		}
		// All of a Multi, or nothing.
		_, err = c.Multi(ctx, coord.CreateOp("/a/x", []byte(`"x"`)), coord.SetDataOp("/a/one", []byte(`"4"`)), coord.DeleteOp("/a/x"), coord.CreateOp("/a/y", []byte(`"y"`)))
		must(t, err)
		tells(t, deltas, "~/a/one=3>4 +/a/y=y")
		k.Close()
		k.Close()
		if err := <-ended; !errors.Is(err, coord.ErrClosed) || !errors.Is(k.Err(), coord.ErrClosed) || !errors.Is(k.Synced(ctx), coord.ErrClosed) {
			t.Errorf("Changes ended with %v, Err = %v", err, k.Err())
		}
		put(t, c, "/a/one", "5")
		if one, _ := k.Get("/a/one"); one.Value != "4" {
			t.Errorf("it goes on after Close: %+v", one)
		}
		noWatches(t, e)
	})
}

// A cache is loaded before anybody is told that it is, shows the writes of its own
// member's callers when it is asked to, and those of others with Linearizable.
func TestCacheSynced_CURATOR705(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx := t.Context()
		behind := e.Follower(ctx)
		c := other(e, behind)
		k := newCache(t, behind, "/a")
		for i := range 100 {
			put(t, behind, "/a", fmt.Sprint(i))
			must(t, k.Synced(ctx))
			if got := shown(k); got != fmt.Sprintf("/a=%d", i) {
				t.Fatalf("it shows %s after %d", got, i)
			}
			put(t, c, "/b", fmt.Sprint(i)) // nothing to the cache
			put(t, c, "/a", "other")
			must(t, k.Synced(ctx, coord.Linearizable()))
			if got := shown(k); got != "/a=other" {
				t.Fatalf("it shows %s", got)
			}
		}
		e.Isolate(behind)
		put(t, c, "/a", "later")
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := k.Synced(short, coord.Linearizable()); err == nil {
			t.Error("Synced without a quorum = nil")
		}
		must(t, k.Synced(ctx, coord.AllowStale()))

		// One that starts without a quorum is not empty, it is not loaded; and says why.
		late := newCache(t, behind, "/a")
		short, cancel = context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := late.Synced(short); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, coord.ErrSuspended) || !errors.Is(late.Err(), coord.ErrSuspended) {
			t.Errorf("Synced = %v, Err = %v", err, late.Err())
		}
		if !late.Position().IsZero() || late.ZXID() != 0 {
			t.Errorf("it is at %v", late.Position())
		}
		e.Heal()
		must(t, late.Synced(ctx, coord.Linearizable()))
		if got := shown(late); got != "/a=later" || late.Err() != nil {
			t.Errorf("it shows %s, %v", got, late.Err())
		}
	})
}

// CURATOR-391: what was deleted and made anew is told, whatever its version and value.
// CURATOR-388: so is the root, and what is below. CURATOR-236, etcd#16843: names that
// start alike are others.
func TestCacheIdentity_CURATOR391_CURATOR388_CURATOR236(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		k := newCache(t, c, "/d/a")
		deltas, _ := reader(ctx, k)
		if got := <-deltas; got != "" {
			t.Errorf("told %s", got)
		}
		create := func(path string, mode coord.CreateMode) {
			t.Helper()
			_, _, err := c.Create(ctx, path, []byte(`"x"`), mode, coord.WithContainers())
			must(t, err)
		}
		for range 3 {
			create("/d/a0", coord.Persistent)
			create("/d/a", coord.Container)
			tells(t, deltas, "+/d/a=x")
			create("/d/a/b", coord.Persistent)
			tells(t, deltas, "+/d/a/b=x")
			create("/d/ab", coord.Persistent)
			create("/d/a0/b", coord.Persistent)
			_, err := c.Multi(ctx, coord.DeleteOp("/d/a/b"), coord.CreateOp("/d/a/b", []byte(`"x"`)))
			must(t, err)
			tells(t, deltas, "*/d/a/b=x")
			if shown(k) != "/d/a/b=x /d/a=x" {
				t.Errorf("it shows %s", shown(k))
			}
			for _, path := range []string{"/d/a0/b", "/d/a0", "/d/ab", "/d/a/b"} {
				must(t, c.Delete(ctx, path))
			}
			tells(t, deltas, "-/d/a/b=x")
			tells(t, deltas, "-/d/a=x") // the container, and its own
			eventually(t, "the directory to vanish", func() bool { return children(t, c, "/d") == "none" })
		}
	}, reapsSoon)
}

// CURATOR-331, CURATOR-609, kazoo "unexpected exceptions break TreeCache": what does
// not decode, and what the program's own functions panic with, is shown with its error
// and ends nothing.
func TestCacheErrorsAreVisible_CURATOR331_CURATOR574_CURATOR609(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		k, err := recipes.NewCache(c, "/a", panics{coord.JSON[string]()},
			recipes.WithFilter[string](func(path string, _ coord.Stat) bool {
				if path == "/a/filter" {
					panic("filter")
				}
				return path != "/a/no"
			}),
			recipes.WithIndex("by", func(path, value string) []string {
				if path == "/a/index" {
					panic("index")
				}
				return []string{value}
			}))
		must(t, err)
		defer k.Close()
		must(t, k.Synced(ctx))
		put(t, c, "/a/good", "1")
		for _, name := range []string{"no", "filter", "index"} {
			put(t, c, "/a/"+name, "x")
		}
		_, _, err = c.Create(ctx, "/a/null", nil)
		must(t, err)
		_, _, err = c.Create(ctx, "/a/empty", []byte{})
		must(t, err)
		_, _, err = c.Create(ctx, "/a/panic", []byte("panic"))
		must(t, err)
		must(t, k.Synced(ctx))
		for path, want := range map[string]string{
			"/a/good": "", "/a/filter": "panic: filter", "/a/index": "panic: index", "/a/null": "end of JSON", "/a/empty": "end of JSON", "/a/panic": "panic: codec",
		} {
			got, ok := k.Get(path)
			if !ok || want == "" && got.Err != nil || want != "" && (got.Err == nil || !strings.Contains(got.Err.Error(), want)) {
				t.Errorf("%s: %+v, %t", path, got, ok)
			}
		}
		if _, ok := k.Get("/a/no"); ok {
			t.Error("the filter is not asked")
		}
		bad, _ := k.Get("/a/panic")
		if _, ok := errors.AsType[*coord.DecodeError](bad.Err); !ok {
			t.Errorf("Err = %v", bad.Err)
		}
		_, err = c.SetData(ctx, "/a/panic", []byte(`"mended"`))
		must(t, err)
		must(t, c.Delete(ctx, "/a/null"))
		must(t, k.Synced(ctx))
		if mended, _ := k.Get("/a/panic"); mended.Err != nil || mended.Value != "mended" {
			t.Errorf("mended: %+v", mended)
		}
		if found, err := k.ByIndex("by", "mended"); err != nil || len(found) != 1 {
			t.Errorf("ByIndex = %v, %v", found, err)
		}
	})
}

// panics is a codec that cannot stand some data.
type panics struct{ coord.Codec[string] }

func (p panics) Decode(data []byte) (string, error) {
	if bytes.Equal(data, []byte("panic")) {
		panic("codec")
	}
	return p.Codec.Decode(data)
}

func TestCacheIndex(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		k := newCache(t, c, "/a", recipes.WithDepth[string](1),
			recipes.WithIndex("words", func(_, value string) []string { return strings.Fields(value) }),
			recipes.WithIndex("length", func(_, value string) []string { return []string{fmt.Sprint(len(value))} }))
		find := func(name, key string) string {
			t.Helper()
			must(t, k.Synced(ctx))
			found, err := k.ByIndex(name, key)
			must(t, err)
			var paths []string
			for _, e := range found {
				paths = append(paths, e.Path)
			}
			return strings.Join(paths, " ")
		}
		put(t, c, "/a/2", "red green")
		put(t, c, "/a/1", "green blue green")
		put(t, c, "/a/1/deep", "green")
		if find("words", "green") != "/a/1 /a/2" || find("words", "red") != "/a/2" || find("length", "9") != "/a/2" || find("words", "none") != "" {
			t.Errorf("green: %s, red: %s", find("words", "green"), find("words", "red"))
		}
		put(t, c, "/a/2", "blue")
		if find("words", "green") != "/a/1" || find("words", "red") != "" || find("words", "blue") != "/a/1 /a/2" {
			t.Errorf("green: %s, red: %s, blue: %s", find("words", "green"), find("words", "red"), find("words", "blue"))
		}
		must(t, c.Delete(ctx, "/a/1/deep"))
		must(t, c.Delete(ctx, "/a/1"))
		if find("words", "green") != "" || find("words", "blue") != "/a/2" {
			t.Errorf("green: %s, blue: %s", find("words", "green"), find("words", "blue"))
		}
		if _, err := k.ByIndex("x", "y"); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("ByIndex = %v", err)
		}
	})
}

// A loop that panics, blocks, or is left holds up nobody and leaves nothing behind; one
// that was busy is told the difference. CURATOR-729: nor does one after Close go on.
func TestCacheReaders_CURATOR729_CURATOR710_kazoo524_kazoo543(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		put(t, c, "/a", "0")
		k := newCache(t, c, "/a")
		must(t, k.Synced(ctx))
		func() {
			defer func() {
				if got := recover(); got != "mine" {
					t.Errorf("recover = %v", got)
				}
			}()
			for _, err := range k.Changes(ctx) {
				must(t, err)
				panic("mine")
			}
		}()
		release, blocked := make(chan struct{}), make(chan string, 10)
		go func() {
			for d, err := range k.Changes(ctx) {
				if err != nil {
					close(blocked)
					return
				}
				blocked <- told(d)
				<-release
			}
		}()
		if got := <-blocked; got != "+/a=0" {
			t.Errorf("told %s", got)
		}
		deltas, _ := reader(ctx, k)
		<-deltas
		for _, step := range []struct {
			change func()
			want   string
		}{
			{func() { put(t, c, "/a/gone", "x") }, "+/a/gone=x"},
			{func() { put(t, c, "/a/new", "1") }, "+/a/new=1"},
			{func() { put(t, c, "/a", "1") }, "~/a=0>1"},
			{func() { must(t, c.Delete(ctx, "/a/gone")) }, "-/a/gone=x"},
			{func() { put(t, c, "/a/new", "2") }, "~/a/new=1>2"},
		} {
			step.change()
			tells(t, deltas, step.want)
		}
		release <- struct{}{}
		if got := <-blocked; got != "~/a=0>1 +/a/new=2" {
			t.Errorf("who was blocked is told %s", got)
		}
		why := errors.New("enough")
		ended, cancel := context.WithCancelCause(ctx)
		cancel(why)
		if _, end := reader(ended, k); !errors.Is(<-end, why) {
			t.Error("Changes does not heed its context")
		}
		for d, err := range k.Changes(ctx) { // closed in its own loop
			if err != nil {
				if !errors.Is(err, coord.ErrClosed) {
					t.Errorf("Changes = %v", err)
				}
				break
			}
			if len(d.Changes) != 2 {
				t.Errorf("told %s", told(d))
			}
			k.Close()
		}
		close(release)
		for range blocked {
		}
		noWatches(t, e)

		// Watches do not pile up, whatever comes and goes.
		for i := range 20 {
			k := newCache(t, c, "/a")
			must(t, k.Synced(ctx))
			put(t, c, fmt.Sprintf("/a/n%d", i), "x")
			if n := c.Status().Watches; n != 1 {
				t.Errorf("%d watches", n)
			}
			k.Close()
		}
		noWatches(t, e)
	})
}

// A cache goes on over sessions, without a quorum, and through the crash of the leader.
func TestCacheGoesOn_CURATOR294(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Follower(t.Context())
		for i := range 4 {
			put(t, c, fmt.Sprintf("/a/%d", i), "0")
		}
		k := newCache(t, c, "/a")
		deltas, _ := reader(ctx, k)
		<-deltas
		expire(t, e, c)
		put(t, other(e, c), "/a/0", "1")
		if got := <-deltas; got != "~/a/0=0>1" {
			t.Errorf("told %s", got)
		}
		l := e.Leader(ctx)
		e.Kill(l)
		e.Restart(l)
		put(t, c, "/a/0", "2")
		if got := <-deltas; got != "~/a/0=1>2" {
			t.Errorf("told %s", got)
		}
	})
}

// What its member skips, or what is too much for its watch, a cache reads anew, and
// says so.
func TestCacheIsRebuilt(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Follower(t.Context())
		for i := range 4 {
			put(t, c, fmt.Sprintf("/a/%d", i), "0")
		}
		k := newCache(t, c, "/a")
		deltas, _ := reader(ctx, k)
		<-deltas

		// It was cut off, and catches up by a snapshot.
		e.Isolate(c)
		o := e.Leader(ctx)
		for i := range 60 {
			put(t, o, "/b", fmt.Sprint(i))
		}
		put(t, o, "/a/new", "new")
		must(t, o.Delete(ctx, "/a/1"))
		must(t, o.Delete(ctx, "/a/2"))
		put(t, o, "/a/2", "0")
		put(t, o, "/a/0", "3")
		e.Heal()
		var all []string // it may catch up in steps
		for !strings.Contains(strings.Join(all, " "), "~/a/0=0>3") {
			all = append(all, <-deltas)
		}
		got := strings.Join(all, " ")
		for _, want := range []string{"rebuilt", "-/a/1=0", "+/a/new=new"} {
			if !strings.Contains(got, want) {
				t.Errorf("told %s, without %s", got, want)
			}
		}

		// More at once than a watch holds.
		for range 10 {
			var ops []coord.Op
			for i := range 50 {
				path := fmt.Sprintf("/a/m%d", i)
				ops = append(ops, coord.CreateOp(path, []byte(`"x"`)), coord.DeleteOp(path))
			}
			_, err := c.Multi(ctx, ops...)
			must(t, err)
		}
		put(t, c, "/a/last", "x")
		must(t, k.Synced(ctx))
		if got := shown(k); got != "/a! /a/0=3 /a/2=0 /a/3=0 /a/last=x /a/new=new" {
			t.Errorf("it shows %s", got)
		}
		for got := range deltas {
			if strings.HasSuffix(got, "+/a/last=x") {
				break
			}
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 10; c.WatchBuffer = 32 }))
}

// Whatever happens, the cache is the subtree at its zxid, and the changes that were told
// make the same of it.
func TestCacheIsTheSubtree(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		k := newCache(t, c, "/a")
		var mu sync.Mutex
		seen, slow := map[string]recipes.Entry[string]{}, map[string]recipes.Entry[string]{}
		for state, wait := range map[*map[string]recipes.Entry[string]]time.Duration{&seen: 0, &slow: 700 * time.Millisecond} {
			go func() {
				for d, err := range k.Changes(ctx) {
					if err != nil {
						return
					}
					mu.Lock()
					follow(t, *state, d)
					mu.Unlock()
					time.Sleep(wait)
				}
			}()
		}
		var writers sync.WaitGroup
		for w := range 3 {
			writers.Go(func() { scribble(t, e.Member(w+1), rand.New(rand.NewPCG(uint64(w), 1)), 120) })
		}
		for range 25 {
			time.Sleep(50 * time.Millisecond)
			must(t, k.Synced(ctx))
			isSubtree(t, c, k)
		}
		writers.Wait()
		must(t, k.Synced(ctx, coord.Linearizable()))
		isSubtree(t, c, k)
		time.Sleep(2 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		now := maps.Collect(k.All())
		for name, state := range map[string]map[string]recipes.Entry[string]{"quick": seen, "slow": slow} {
			if !maps.EqualFunc(state, now, func(a, b recipes.Entry[string]) bool {
				return a.Value == b.Value && a.Stat.Czxid == b.Stat.Czxid && a.Stat.Mzxid == b.Stat.Mzxid
			}) {
				t.Errorf("the %s reader has %d entries, the cache %d", name, len(state), len(now))
			}
		}
		if len(now) < 5 {
			t.Errorf("%d entries, so this shows nothing", len(now))
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = 16 }))
}

// follow makes of a state what a Delta says, which must fit.
func follow(t *testing.T, state map[string]recipes.Entry[string], d recipes.Delta[string]) {
	t.Helper()
	for _, c := range d.Changes {
		was, ok := state[c.Path()]
		if ok != (c.Old() != nil) || ok && was.Stat.Mzxid != c.Old().Stat.Mzxid {
			t.Errorf("%s was %+v, and is said to have been %+v", c.Path(), was, c.Old())
		}
		if delete(state, c.Path()); c.New() != nil {
			state[c.Path()] = *c.New()
		}
	}
}

// scribble writes at random.
func scribble(t *testing.T, c coord.Client, r *rand.Rand, n int) {
	t.Helper()
	for range n {
		path := "/a"
		for range r.IntN(4) {
			path += fmt.Sprintf("/%d", r.IntN(3))
		}
		data := fmt.Appendf(nil, `"%d"`, r.Int())
		var err error
		switch r.IntN(5) {
		case 0, 1:
			_, _, err = c.Create(t.Context(), path, data, coord.WithParents())
		case 2:
			_, err = c.SetData(t.Context(), path, data)
		case 3:
			err = c.Delete(t.Context(), path)
		case 4:
			_, err = c.Multi(t.Context(), coord.DeleteOp(path), coord.CreateOp(path, data))
		}
		if err != nil && !errors.Is(err, coord.ErrNoNode) && !errors.Is(err, coord.ErrNodeExists) && !errors.Is(err, coord.ErrNotEmpty) {
			t.Error(err)
		}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
	}
}

// isSubtree compares a cache with the tree, at one zxid.
func isSubtree(t *testing.T, c coord.Client, k *recipes.Cache[string]) {
	t.Helper()
	for {
		must(t, k.Synced(t.Context()))
		before := k.ZXID()
		v, err := c.View(t.Context())
		must(t, err)
		all := maps.Collect(k.All())
		if v.ZXID() != before || k.ZXID() != before {
			time.Sleep(time.Millisecond)
			continue
		}
		n := 0
		for z := range v.Walk("/a") {
			n++
			if got := all[z.Path]; got.Stat != z.Stat || got.Err == nil && fmt.Sprintf("%q", got.Value) != string(z.Data) {
				t.Errorf("%s is %q, %+v and cached as %+v", z.Path, z.Data, z.Stat, got)
			}
		}
		if n != len(all) {
			t.Errorf("%d znodes, %d entries", n, len(all))
		}
		return
	}
}

func TestCacheRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		for _, path := range badPaths {
			if _, err := recipes.NewCache(c, path, coord.JSON[string]()); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("NewCache of %q = %v", path, err)
			}
		}
		by := func(string, string) []string { return nil }
		for _, opts := range [][]recipes.CacheOption[string]{
			{recipes.WithDepth[string](-1)}, {recipes.WithIndex[string]("x", nil)}, {recipes.WithIndex("x", by), recipes.WithIndex("x", by)},
		} {
			if _, err := recipes.NewCache(c, "/a", coord.JSON[string](), opts...); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("NewCache = %v", err)
			}
		}
		if _, err := recipes.NewCache[string](c, "/a", nil); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("NewCache without a codec = %v", err)
		}
		if _, err := recipes.NewCache(nil, "/a", coord.JSON[string]()); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("NewCache without a client = %v", err)
		}
		nobody := coord.WithACL(coord.ACL{Perms: coord.PermDelete, ID: coord.ID{Scheme: "world", ID: "anyone"}})
		_, _, err := c.Create(ctx, "/hidden", nil, nobody)
		must(t, err)
		if k := newCache(t, c, "/hidden"); !errors.Is(k.Synced(ctx), coord.ErrNoAuth) || !errors.Is(k.Err(), coord.ErrNoAuth) {
			t.Errorf("a cache of what may not be read: %v", k.Err())
		}
		s := newSession(t, c)
		k, own := newCache(t, s, "/a"), newCache(t, c, "/")
		must(t, k.Synced(ctx))
		must(t, s.Close())
		for _, err := range k.Changes(ctx) {
			if err != nil && !errors.Is(err, coord.ErrClosed) {
				t.Errorf("Changes = %v", err)
			}
		}
		if _, err := recipes.NewCache(s, "/a", coord.JSON[string]()); err != nil {
			t.Errorf("NewCache = %v", err) // it is Synced that says so
		}
		must(t, own.Synced(ctx))
		must(t, newCache(t, c, "/a").Synced(ctx))
		full := newCache(t, c, "/a")
		if err := full.Synced(ctx); !errors.Is(err, coord.ErrTooManyWatches) {
			t.Errorf("Synced = %v", err)
		}
		e.Stop(c)
		if err := own.Synced(ctx); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Synced = %v", err)
		}
		if err := newCache(t, c, "/a").Synced(ctx); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Synced = %v", err)
		}
		noWatches(t, e)
	}, coordtest.WithConfig(func(c *coord.Config) { c.MaxWatches = 2 }))
}
