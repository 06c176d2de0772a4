package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// A watched client does something right behind each of its views, while that is in the
// hands of who asked for it.
type watched struct {
	*coord.Coordinator

	behind func()
}

func (w *watched) View(ctx context.Context, opts ...coord.ReadOption) (*coord.View, error) {
	v, err := w.Coordinator.View(ctx, opts...)
	w.behind()
	return v, err
}

// What happens between a view and the next step, of loading as of following, is told:
// nothing is taken from the watch that the view does not show.
func TestCacheMissesNothingBehindAView(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		put(t, c, "/a", "0")
		views := 0
		k := newCache(t, &watched{c, func() {
			if views++; views <= 20 {
				_, err := c.SetData(ctx, "/a", fmt.Appendf(nil, `"%d"`, views))
				must(t, err)
			}
		}}, "/a")
		deltas, _ := reader(ctx, k)
		last := ""
		for !strings.HasSuffix(last, "20") { // the reader may come behind all changes: then the first Delta is +/a=20
			select {
			case last = <-deltas:
			case <-time.After(time.Minute):
				t.Fatalf("the last Delta is %s", last)
			}
		}
		if got := shown(k); got != "/a=20" {
			t.Errorf("it shows %s", got)
		}
	})
}

// A watch that overflows with changes which the cache may not even read is noticed.
func TestCacheIsRebuiltBehindWhatMayNotBeRead(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		writeOnly := coord.WithACL(coord.ACL{Perms: coord.PermWrite, ID: coord.ID{Scheme: "world", ID: "anyone"}})
		put(t, c, "/a", "0")
		_, _, err := c.Create(ctx, "/a/hidden", nil, writeOnly)
		must(t, err)
		k := newCache(t, c, "/a")
		deltas, _ := reader(ctx, k)
		<-deltas
		for i := range 50 {
			var all sync.WaitGroup
			for range 10 { // in one batch, most of them
				all.Go(func() {
					_, err := c.SetData(ctx, "/a/hidden", nil)
					must(t, err)
				})
			}
			all.Wait()
			time.Sleep(time.Second)
			_, err = c.SetData(ctx, "/a", fmt.Appendf(nil, `"%d"`, i+1))
			must(t, err)
			for want, last := fmt.Sprintf("~/a=%d>%d", i, i+1), ""; !strings.HasSuffix(last, want); {
				select {
				case last = <-deltas:
				case <-time.After(time.Minute):
					t.Fatalf("round %d: the last Delta is %q", i, last)
				}
			}
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.WatchBuffer = 1 }))
}

// Who closes a cache that is being loaded does not wait for the rest of it.
func TestCacheIsClosedWhileItLoads(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		for i := range 50 {
			put(t, c, fmt.Sprintf("/a/%d", i), "x")
		}
		var asked atomic.Int32
		k := newCache(t, c, "/a", recipes.WithFilter[string](func(string, coord.Stat) bool {
			asked.Add(1)
			time.Sleep(time.Second)
			return true
		}))
		time.Sleep(1500 * time.Millisecond)
		k.Close()
		if n := asked.Load(); n > 3 {
			t.Errorf("%d znodes were read", n)
		}
		if err := k.Synced(ctx); !errors.Is(err, coord.ErrClosed) || k.Len() != 0 {
			t.Errorf("Synced = %v, %d entries", err, k.Len())
		}
		noWatches(t, e)
	})
}

// A cache shows nothing that it cannot follow.
func TestCacheWithoutAWatchIsNotLoaded(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		put(t, c, "/a", "0")
		must(t, newCache(t, c, "/a").Synced(t.Context()))
		k := newCache(t, c, "/a")
		for d, err := range k.Changes(t.Context()) {
			if !errors.Is(err, coord.ErrTooManyWatches) {
				t.Errorf("told %s, %v", told(d), err)
			}
		}
		if k.ZXID() != 0 || k.Len() != 0 {
			t.Errorf("it shows %s", shown(k))
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.MaxWatches = 1 }))
}

// A filter that goes by the children of a znode is heeded as they come and go, and who
// was not told of the one is not told of the other. At the border of the depth the stat of
// a znode is true, though its children are not there.
func TestCacheBorders(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		put(t, c, "/a/p", "0")
		k := newCache(t, c, "/a", recipes.WithDepth[string](1),
			recipes.WithFilter[string](func(path string, stat coord.Stat) bool { return path != "/a/p" || stat.NumChildren != 1 }),
			recipes.WithIndex("by", func(_, value string) []string { return []string{value} }))
		must(t, k.Synced(ctx))
		is := func(want string) {
			t.Helper()
			must(t, k.Synced(ctx))
			if got := shown(k); got != want {
				t.Errorf("it shows %s, want %s", got, want)
			}
			_, stat, err := c.Get(ctx, "/a/p")
			must(t, err)
			p, ok := k.Get("/a/p")
			if ok && p.Stat != stat {
				t.Errorf("the stat is %+v, want %+v", p.Stat, stat)
			}
			if found, err := k.ByIndex("by", "0"); err != nil || (len(found) == 1) != ok {
				t.Errorf("ByIndex = %v, %v", found, err)
			}
		}
		for d, err := range k.Changes(ctx) {
			must(t, err)
			if d.Changes == nil || d.Changes[0].Old() == nil { // the whole state
				put(t, c, "/a/p/one", "1")
				is("/a!")
				put(t, c, "/a/p/two", "2")
				is("/a! /a/p=0")
				must(t, c.Delete(ctx, "/a/p/one"))
				is("/a!")
				must(t, c.Delete(ctx, "/a/p/two"))
				is("/a! /a/p=0")
				_, err := c.SetData(ctx, "/a", []byte(`"told"`))
				must(t, err)
				must(t, k.Synced(ctx))
				continue
			}
			if got := told(d); got != "~/a=>told" {
				t.Errorf("told %s", got)
			}
			break
		}
	})
}

// A loop over the changes leaves nothing in the cache, however it ends.
func TestCacheForgetsReaders(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		k := newCache(t, e.Member(1), "/a")
		for range 3 {
			for _, err := range k.Changes(t.Context()) {
				must(t, err)
				if k.Readers() != 1 {
					t.Errorf("%d readers", k.Readers())
				}
				break
			}
			func() {
				defer func() { _ = recover() }()
				for _, err := range k.Changes(t.Context()) {
					must(t, err)
					panic("mine")
				}
			}()
			ctx, cancel := context.WithCancel(t.Context())
			var last error
			for _, last = range k.Changes(ctx) {
				cancel()
			}
			cancel()
			if !errors.Is(last, context.Canceled) {
				t.Errorf("Changes ended with %v", last)
			}
		}
		if n := k.Readers(); n != 0 {
			t.Errorf("%d readers are left", n)
		}
	})
}
