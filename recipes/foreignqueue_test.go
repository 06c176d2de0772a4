package recipes_test

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
	"coord/recipes"
)

// Names, and the order in which items are taken, are those of the recordings
// queue-kazoo.txt, case kq, and queue-curator.txt.
func TestForeignQueueIsAsRecorded(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		type item struct {
			text     string
			priority int
		}
		for _, test := range []struct {
			layout recipes.Layout
			items  []item
			names  string
			order  string
		}{
			{
				recipes.KazooQueue,
				[]item{{"low", recipes.KazooPriority}, {"high", 5}, {"ten", 100}, {"last", 999}},
				"entry-005-0000000001 entry-100-0000000000 entry-100-0000000002 entry-999-0000000003", "high low ten last",
			},
			{
				recipes.CuratorSimpleQueue,
				[]item{{"one", 0}, {"two", 0}, {"three", 0}},
				"qn-0000000000 qn-0000000001 qn-0000000002", "one two three",
			},
		} {
			q := recipes.NewForeignQueue(e.Member(1), "/q/"+test.names[:2], test.layout)
			for _, item := range test.items {
				if err := q.Put(t.Context(), []byte(item.text), item.priority); err != nil {
					t.Fatal(err)
				}
			}
			if got := children(t, e.Member(2), "/q/"+test.names[:2]); got != test.names {
				t.Errorf("%s: children %q, want %q", test.layout, got, test.names)
			}
			var order []string
			for range test.items {
				item, err := q.Take(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				order = append(order, string(item))
			}
			if got := strings.Join(order, " "); got != test.order {
				t.Errorf("%s: taken in the order %q, want %q", test.layout, got, test.order)
			}
		}
	})
}

// Takers on all members share the items: each is taken once, and who waits gets what
// is put later.
func TestForeignQueueIsShared(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const items, takers = 60, 6
		taken := make(chan string, items)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for i := range takers {
			wg.Go(func() {
				q := recipes.NewForeignQueue(e.Running()[i%3], "/q", recipes.KazooQueue)
				for {
					item, err := q.Take(ctx)
					if err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
						return
					}
					taken <- string(item)
				}
			})
		}
		if _, _, err := e.Member(1).Create(t.Context(), "/q/foreign", []byte("no item"), coord.WithParents()); err != nil {
			t.Fatal(err)
		}
		for i := range items {
			q := recipes.NewForeignQueue(e.Running()[i%3], "/q", recipes.KazooQueue)
			if err := q.Put(t.Context(), fmt.Append(nil, i), recipes.KazooPriority); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[string]bool{}
		for range items {
			item := <-taken
			if seen[item] {
				t.Errorf("%s was taken twice", item)
			}
			seen[item] = true
		}
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
		if got := children(t, e.Member(1), "/q"); got != "foreign" || len(taken) > 0 {
			t.Errorf("%q is left, and %d more were taken", got, len(taken))
		}
		noWatches(t, e)
	})
}

func TestForeignQueueRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		mustLock(t, newSession(t, c), "/lock")
		if err := recipes.NewQueue(c, "/own", coord.Raw()).Put(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct {
			c        coord.Client
			path     string
			layout   recipes.Layout
			priority int
			want     error
		}{
			"no client":               {nil, "/q", recipes.KazooQueue, 0, coord.ErrBadArguments},
			"no path":                 {c, "", recipes.KazooQueue, 0, coord.ErrBadArguments},
			"no layout":               {c, "/q", recipes.Coord, 0, coord.ErrBadArguments},
			"a layout of locks":       {c, "/q", recipes.KazooLock, 0, coord.ErrBadArguments},
			"a lock":                  {c, "/lock", recipes.KazooQueue, 0, recipes.ErrOtherRecipe},
			"a queue of coord":        {c, "/own", recipes.CuratorSimpleQueue, 0, recipes.ErrOtherRecipe},
			"a large priority":        {c, "/q", recipes.KazooQueue, 1000, coord.ErrBadArguments},
			"a negative one":          {c, "/q", recipes.KazooQueue, -1, coord.ErrBadArguments},
			"one where there is none": {c, "/q", recipes.CuratorSimpleQueue, 1, coord.ErrBadArguments},
		} {
			q := recipes.NewForeignQueue(test.c, test.path, test.layout)
			if err := q.Put(t.Context(), nil, test.priority); !errors.Is(err, test.want) {
				t.Errorf("%s: Put = %v, want %v", name, err, test.want)
			}
			if strings.Contains(name, "priority") || strings.Contains(name, "one") {
				continue // to take needs none
			}
			if _, err := q.Take(t.Context()); !errors.Is(err, test.want) {
				t.Errorf("%s: Take = %v, want %v", name, err, test.want)
			}
		}
		s := newSession(t, c)
		ended := make(chan error, 1)
		go func() {
			_, err := recipes.NewForeignQueue(s, "/q", recipes.KazooQueue).Take(t.Context())
			ended <- err
		}()
		time.Sleep(time.Second)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Take of a session that was closed = %v", err)
		}
	})
}
