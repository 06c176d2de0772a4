package recipes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

func inBubble(t *testing.T, test func(t *testing.T, e *coordtest.Ensemble)) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) {
		test(t, coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second)))
	})
}

// A put wakes the first of all takers that wait in the ensemble and no other one, and
// the items that are settled meanwhile wake none: Curator's queues had each consumer
// look at everything whenever anything changed.
func TestQueueWakesOne_Netflix173(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		var first, moved atomic.Int64
		queue := func(c coord.Client) *Queue[int] {
			q := NewQueue(c, "/q", coord.JSON[int]())
			q.onWake = func(standing bool) {
				if standing {
					first.Add(1)
				} else {
					moved.Add(1)
				}
			}
			return q
		}
		c := e.Member(1)
		q := queue(c)
		const takers, busy = 20, 50
		for i := range busy {
			if err := q.Put(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		held, err := q.TakeBatch(t.Context(), c.Session(), busy)
		if err != nil || len(held) != busy {
			t.Fatal(held, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got atomic.Int64
		var all sync.WaitGroup
		for i := range takers {
			c := e.Member(i%3 + 1)
			all.Go(func() {
				d, err := queue(c).Take(ctx, c.Session())
				if err == nil {
					got.Add(1)
					err = d.Ack(ctx)
				}
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		expect := func(what string, wantFirst, wantMoved, wantGot int64) {
			t.Helper()
			time.Sleep(10 * time.Second)
			if first.Load() != wantFirst || moved.Load() != wantMoved || got.Load() != wantGot {
				t.Errorf("%s: %d woken as the first, %d behind it, %d items taken; want %d, %d and %d",
					what, first.Load(), moved.Load(), got.Load(), wantFirst, wantMoved, wantGot)
			}
			first.Store(0)
			moved.Store(0)
			got.Store(0)
		}
		expect("nothing happened", 0, 0, 0)
		for _, d := range held[1:] {
			if err := d.Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		expect("49 items were acknowledged", 0, 0, 0)
		if err := q.Put(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		expect("an item was put", 1, 1, 1)
		if err := held[0].Nack(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		expect("an item was given back", 1, 1, 1)
		cancel()
		all.Wait()
	})
}

// Before the numbers at the ends of names start again at the other end of their range,
// items go on another shelf: their order survives.
func TestQueueOrderSurvivesTheSequence(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := NewQueue(c, "/q", coord.JSON[string](), WithBound(30))
		q.shelfSize = 3
		take := func(want string) {
			t.Helper()
			d, err := q.TryTake(t.Context(), c.Session())
			if err != nil || d.Value != want {
				t.Fatalf("TryTake = %v, %v, want %s", d, err, want)
			}
			if err := d.Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		put := func(value string, opts ...PutOption) {
			t.Helper()
			if err := q.Put(t.Context(), value, opts...); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20 {
			put(fmt.Sprint("b", i))
		}
		put("a0", Priority(1))
		put("c0", Priority(-1))
		put("a1", Priority(1))
		put("b20", Delay(time.Millisecond))
		time.Sleep(time.Second)
		put("b21", Delay(time.Millisecond))
		time.Sleep(time.Second)
		s, err := q.look(t.Context(), c)
		if err != nil || len(s.shelves) != 8 {
			t.Fatalf("%d shelves, %v", len(s.shelves), err)
		}
		for i := range 5 {
			put(fmt.Sprint("d", i), Priority(-2))
		}
		if err := q.Put(t.Context(), "full"); err == nil {
			t.Error("there is no bound over several shelves")
		}
		take("a0")
		take("a1")
		for i := range 22 {
			take(fmt.Sprint("b", i))
		}
		take("c0")
		for i := range 5 {
			take(fmt.Sprint("d", i))
		}
	})
}

// Nothing is put on a shelf behind which there is another one since the view was taken.
func TestQueuePutsNothingBehindTheNextShelf(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := NewQueue(c, "/q", coord.JSON[int]())
		q.shelfSize = 2
		put := func() {
			t.Helper()
			if err := q.Put(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		put()
		before, err := q.look(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		put()
		put()
		ops, err := q.putOps(before, item{data: entry{value: []byte("0")}.data()}, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Multi(t.Context(), ops...); !overtaken(err) {
			t.Errorf("a put on a shelf that is not the last one = %v", err)
		}
	})
}

// What one directory leaves of a bound is given to one other only.
func TestQueueBoundIsSharedOut(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := NewQueue(c, "/q", coord.JSON[int](), WithBound(11))
		put := func(n int, opts ...PutOption) {
			t.Helper()
			for i := range n {
				if err := q.Put(t.Context(), i, opts...); err != nil {
					t.Fatal(err)
				}
			}
		}
		put(1)
		put(1, Delay(time.Hour))
		before, err := q.look(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		ops, err := q.putOps(before, item{data: entry{value: []byte("0")}.data()}, "")
		if err != nil {
			t.Fatal(err)
		}
		put(2, Delay(time.Hour)) // no more than the share of that directory
		put(7)
		if _, err := c.Multi(t.Context(), ops...); !overtaken(err) {
			t.Errorf("a put into a full queue = %v", err)
		}
	})
}

// A directory that comes or goes at the same time is looked for again.
func TestDeliveryIsSettledInSpiteOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := NewQueue(c, "/q", coord.JSON[int]())
		if err := q.Put(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		d, err := q.Take(t.Context(), c.Session())
		if err != nil {
			t.Fatal(err)
		}
		looks := 0
		err = d.settle(t.Context(), givenBack, func(ctx context.Context) ([]coord.Op, error) {
			if looks++; looks == 1 {
				return []coord.Op{d.releaseOp(), coord.CheckAbsentOp("/q")}, nil
			}
			return d.nackOps(ctx, time.Second)
		})
		if err != nil || looks != 2 {
			t.Errorf("settle = %v behind %d looks", err, looks)
		}
	})
}

// Who claims an item claims that one, and not what is at its path since.
func TestTakerClaimsWhatItHasSeen(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := NewQueue(c, "/q", coord.JSON[int]())
		if err := q.Put(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		before, err := q.look(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		taker := &taker[int]{q: q, s: c.Session(), limit: 1}
		seen := taker.choose(before)
		if len(seen) != 1 {
			t.Fatal(seen)
		}
		if err := c.Delete(t.Context(), seen[0].path); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Create(t.Context(), seen[0].path, entry{value: []byte("2")}.data()); err != nil {
			t.Fatal(err)
		}
		if ds, err := taker.claim(t.Context(), before, seen); err != nil || ds != nil {
			t.Errorf("claim = %v, %v", ds, err)
		}
		if d, err := q.Take(t.Context(), c.Session()); err != nil || d.Value != 2 || d.Deliveries() != 1 {
			t.Errorf("Take = %+v, %v", d, err)
		}
	})
}

// A bound holds for who puts what is delayed and has not seen the shelf that others have
// made since, be it the first one or one more.
func TestQueueBoundWithoutAShelfInView(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := NewQueue(c, "/q", coord.JSON[int](), WithBound(4))
		q.shelfSize = 2
		if err := q.Put(t.Context(), 0, Delay(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			before, err := q.look(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			ops, err := q.putOps(before, item{dueMS: 1, data: entry{value: []byte("0")}.data()}, "")
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; err == nil; i++ {
				err = q.Put(t.Context(), i)
			}
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			if _, err := c.Multi(t.Context(), ops...); !overtaken(err) {
				t.Errorf("a put behind the back of three others = %v", err)
			}
			ds, err := q.TakeBatch(t.Context(), c.Session(), 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range ds {
				if err := d.Ack(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// No directory of a queue is made in one that is not a queue's any more, though it was
// when the view was taken.
func TestQueueIsNotMadeInAnotherRecipesDirectory(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := NewQueue(c, "/q", coord.JSON[int]())
		if _, _, err := c.Create(t.Context(), "/q", []byte(queueMark)); err != nil {
			t.Fatal(err)
		}
		s, err := q.look(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "/q"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Create(t.Context(), "/q", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Multi(t.Context(), s.makeOps("/q/dead")...); !overtaken(err) {
			t.Errorf("a directory is made in another's: %v", err)
		}
	})
}

// A delivery that is acknowledged by a Multi, and that nobody has asked for its context,
// leaves nothing in its session, which may live for ever.
func TestDeliveryThatNobodyAsksHasNoContext(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := NewQueue(c, "/q", coord.JSON[int]())
		if err := q.Put(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		d, err := q.Take(t.Context(), c.Session())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Multi(t.Context(), d.AckOps()...); err != nil {
			t.Fatal(err)
		}
		if d.ctx != nil {
			t.Error("it has a context")
		}
		if err := d.Check(); !errors.Is(err, ErrSettled) {
			t.Errorf("Check = %v", err)
		}
	})
}

func TestQueueNames(t *testing.T) {
	for _, name := range []string{"0000-0000000000", "2000-2147483647", "1000--2147483648"} {
		if _, ok := priorityOf(name); !ok {
			t.Errorf("%s is the name of no item", name)
		}
	}
	for _, name := range []string{"", "-", "2001-0000000000", "000-0000000000", "0000-000000000", "0000-x000000000", "+000-0000000000", "0000-4294967296"} {
		if _, ok := priorityOf(name); ok {
			t.Errorf("%s is the name of an item", name)
		}
	}
	for _, p := range []int{-maxPriority, -1, 0, 1, maxPriority} {
		if got, ok := priorityOf(itemPrefix(p) + "0000000007"); !ok || got != p {
			t.Errorf("the priority %d is read as %d", p, got)
		}
		if due, got, ok := dueOf(duePrefix(17, p) + "0000000007"); !ok || got != p || due != 17 {
			t.Errorf("due at 17 with the priority %d is read as %d, %d", p, due, got)
		}
	}
	for _, data := range []string{"", "\n", "0 \n", "0000000000\n", "0000000000 x", "-000000001 \n", "9999999999 \n"} {
		if e, err := parseEntry([]byte(data)); err == nil {
			t.Errorf("%q is read as %+v", data, e)
		}
	}
	e := entry{3, "an id", []byte("a\nb")}
	if got, err := parseEntry(e.data()); err != nil || got.deliveries != 3 || got.id != "an id" || string(got.value) != "a\nb" {
		t.Errorf("%+v is read as %+v, %v", e, got, err)
	}
}

// A delivery is counted by what is in the tree when the item is taken, not by the view
// that showed the item as free: a member that is behind has not heard of those who had
// it meanwhile. One that was delivered often enough by then dies.
func TestDeliveryIsCountedWhenTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		for _, most := range []int{0, 3, 2} {
			q := NewQueue(c, fmt.Sprintf("/q-%d", most), coord.JSON[int](), WithMaxDeliveries(most))
			if err := q.Put(t.Context(), 7); err != nil {
				t.Fatal(err)
			}
			old, err := q.look(t.Context(), c, coord.Linearizable())
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // whose sessions end
				s, err := c.NewSession(t.Context(), coord.SessionOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := q.Take(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			late := &taker[int]{q: q, s: c.Session(), limit: 1}
			ds, err := late.claim(t.Context(), old, slices.Collect(old.free()))
			if err != nil {
				t.Fatal(err)
			}
			letters, err := q.DeadLetters(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if most == 2 {
				if len(ds) != 0 || len(letters) != 1 || letters[0].Deliveries != 2 {
					t.Errorf("%d deliveries, and dead letters %v, want one of 2 deliveries", len(ds), letters)
				}
				continue
			}
			if len(ds) != 1 || ds[0].Deliveries() != 3 || len(letters) != 0 {
				t.Errorf("at most %d: deliveries %v, and dead letters %v, want one delivery of number 3", most, ds, letters)
			}
		}
	})
}
