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

func newQueue(c coord.Client, opts ...recipes.QueueOption) *recipes.Queue[string] {
	return recipes.NewQueue(c, "/q", coord.JSON[string](), opts...)
}

func mustPut(t *testing.T, q *recipes.Queue[string], value string, opts ...recipes.PutOption) {
	t.Helper()
	if err := q.Put(t.Context(), value, opts...); err != nil {
		t.Fatal(err)
	}
}

func mustTake(t *testing.T, q *recipes.Queue[string], s *coord.Session, want string) *recipes.Delivery[string] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := q.Take(ctx, s)
	if err != nil {
		t.Fatalf("Take = %v, want %q", err, want)
	}
	if d.Value != want {
		t.Fatalf("Take = %q, want %q", d.Value, want)
	}
	return d
}

func mustAck(t *testing.T, d *recipes.Delivery[string], also ...coord.Op) {
	t.Helper()
	if err := d.Ack(t.Context(), also...); err != nil {
		t.Fatal(err)
	}
}

func mustNack(t *testing.T, d *recipes.Delivery[string], after time.Duration) {
	t.Helper()
	if err := d.Nack(t.Context(), after); err != nil {
		t.Fatal(err)
	}
}

func mustBeEmpty(t *testing.T, q *recipes.Queue[string], s *coord.Session) {
	t.Helper()
	if d, err := q.TryTake(t.Context(), s); !errors.Is(err, recipes.ErrEmpty) {
		t.Fatalf("TryTake = %v, %v, want ErrEmpty", d, err)
	}
}

func mustLen(t *testing.T, q *recipes.Queue[string], want int) {
	t.Helper()
	if n, err := q.Len(t.Context(), coord.Linearizable()); err != nil || n != want {
		t.Fatalf("Len = %d, %v, want %d", n, err, want)
	}
}

// taken is what a Take in the background returned.
type taken struct {
	d   *recipes.Delivery[string]
	err error
}

func takeInBackground(ctx context.Context, q *recipes.Queue[string], s *coord.Session) <-chan taken {
	got := make(chan taken, 1)
	go func() {
		d, err := q.Take(ctx, s)
		got <- taken{d, err}
	}()
	return got
}

// Items come in the order of their priority, and in the order in which they were put,
// whoever put them.
func TestQueueOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		q := newQueue(e.Member(1))
		for i := range 4 {
			mustPut(t, newQueue(e.Member(i%3+1)), fmt.Sprint("b", i))
		}
		mustPut(t, q, "c0", recipes.Priority(-1000))
		mustPut(t, q, "a0", recipes.Priority(1000))
		mustPut(t, q, "a1", recipes.Priority(1000))
		mustPut(t, q, "b4", recipes.Priority(0))
		mustLen(t, q, 8)
		if v, err := q.Peek(t.Context()); err != nil || v != "a0" {
			t.Errorf("Peek = %q, %v", v, err)
		}
		var fence coord.ZXID
		for _, want := range []string{"a0", "a1", "b0", "b1", "b2", "b3", "b4", "c0"} {
			d := mustTake(t, q, s, want)
			if d.Fence() <= fence || d.Deliveries() != 1 {
				t.Errorf("%s has fence %v behind %v and is delivered for the %dth time", want, d.Fence(), fence, d.Deliveries())
			}
			fence = d.Fence()
			mustAck(t, d)
			mustAck(t, d) // does nothing
		}
		mustBeEmpty(t, q, s)
		mustLen(t, q, 0)
		if _, err := q.Peek(t.Context()); !errors.Is(err, recipes.ErrEmpty) {
			t.Errorf("Peek = %v", err)
		}
		eventually(t, "the directory to vanish", func() bool { return children(t, e.Member(1), "/q") == "none" })
	})
}

// Takers that wait are served in the order in which they came, and leave nothing
// behind: neither place nor watch.
func TestQueueTakersWait(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		q := newQueue(e.Member(1))
		var waits []<-chan taken
		for i := range 6 {
			waits = append(waits, takeInBackground(t.Context(), q, newSession(t, e.Member(i%3+1))))
			waiting(t, e.Member(1), "/q/takers", i+1)
		}
		for i, got := range waits {
			mustPut(t, newQueue(e.Member(i%3+1)), fmt.Sprint(i))
			o := <-got
			if o.err != nil || o.d.Value != fmt.Sprint(i) {
				t.Fatalf("the taker numbered %d got %+v", i, o)
			}
			mustAck(t, o.d)
		}
		noWatches(t, e)
		if got := children(t, e.Member(1), "/q/takers"); got != "" && got != "none" {
			t.Errorf("takers are left: %s", got)
		}
	})
}

// Who does not wait takes nothing that those who wait will get, and does take what is
// left beyond that.
func TestQueueTryTakeDoesNotStealFromTheLine(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		q, s := newQueue(c), newSession(t, c)
		behind := e.Follower(t.Context())
		got := takeInBackground(t.Context(), q, newSession(t, behind))
		waiting(t, c, "/q/takers", 1)
		e.Isolate(behind)
		mustPut(t, q, "a")
		mustBeEmpty(t, q, s)
		mustPut(t, q, "b")
		mustAck(t, mustTake(t, q, s, "b"))
		if o := <-got; !errors.Is(o.err, coord.ErrSessionExpired) && !errors.Is(o.err, coord.ErrUnknownOutcome) {
			t.Errorf("Take on an isolated member = %+v", o)
		}
		e.Heal()
		eventually(t, "the session to end", func() bool { return children(t, c, "/q/takers") != "taker-0000000000" })
		mustAck(t, mustTake(t, q, s, "a"))
	})
}

// An item whose taker dies is delivered again, to whoever waits, and says how often it
// was delivered before: no session takes one with it, as kazoo's Queue and Curator's
// SimpleDistributedQueue do.
func TestQueueItemOutlivesItsTaker(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader := e.Leader(t.Context())
		q := newQueue(leader)
		mustPut(t, q, "a")
		closed := newSession(t, leader)
		first := mustTake(t, q, closed, "a")
		ctx := first.Context()
		got := takeInBackground(t.Context(), q, newSession(t, leader))
		waiting(t, leader, "/q/takers", 1)
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
		o := <-got
		if o.err != nil || o.d.Deliveries() != 2 || o.d.Fence() <= first.Fence() {
			t.Fatalf("Take = %+v", o)
		}
		if !errors.Is(context.Cause(ctx), coord.ErrClosed) || !errors.Is(first.Check(), coord.ErrClosed) {
			t.Errorf("the first delivery ended with %v", context.Cause(ctx))
		}
		if err := first.Ack(t.Context()); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Ack = %v", err)
		}
		mustNack(t, o.d, 0)

		follower := e.Follower(t.Context())
		second := mustTake(t, q, newSession(t, follower), "a")
		ctx = second.Context()
		got = takeInBackground(t.Context(), q, newSession(t, leader))
		waiting(t, leader, "/q/takers", 1)
		e.Isolate(follower)
		o = <-got
		if ctx.Err() == nil {
			t.Error("an item is delivered to two at once")
		}
		if o.err != nil || o.d.Deliveries() != 4 {
			t.Fatalf("Take = %+v", o)
		}
		e.Heal()
		if err := second.Ack(t.Context()); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Ack = %v", err)
		}
		mustAck(t, o.d)
		mustLen(t, q, 0)
		noWatches(t, e)
	})
}

// Many consumers on all members take what many producers put, while sessions end and
// the leader crashes: each item is acknowledged once, together with a write that shows
// it, and no two consumers have one at a time.
func TestQueueManyConsumers_CURATOR605(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const items = 150
		var mu sync.Mutex
		holders := map[string]*recipes.Delivery[string]{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all sync.WaitGroup
		mustCreateAt(t, e.Member(1), "/done")
		consume := func(c *coord.Coordinator, round int) error {
			s, err := c.NewSession(ctx, coord.SessionOptions{Timeout: 10 * time.Second})
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }() // with what it has
			for i := range 5 + round%5 {
				d, err := newQueue(c).Take(ctx, s)
				if err != nil {
					return err
				}
				mu.Lock()
				if other := holders[d.Value]; other != nil && other.Check() == nil {
					t.Errorf("%s is delivered to two at once", d.Value)
				}
				holders[d.Value] = d
				_ = d.Context() // watches
				mu.Unlock()
				switch {
				case i%5 == 4:
					err = d.Nack(ctx, time.Duration(i%2)*time.Second)
				case round%3 == 1 && i == 3:
					return nil // the session takes it along
				default:
					err = d.Ack(ctx, coord.CreateOp("/done/"+d.Value, nil))
				}
				if err != nil && s.Context().Err() == nil && !errors.Is(err, coord.ErrUnknownOutcome) {
					return fmt.Errorf("settle %s: %w", d.Value, err)
				}
			}
			return nil
		}
		for i := range 9 {
			all.Go(func() {
				for round := i; ctx.Err() == nil; round++ {
					c := e.Member(i%3 + 1)
					if err := consume(c, round); err != nil && errors.Is(err, coord.ErrNodeExists) {
						t.Error(err)
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		for i := range 3 {
			all.Go(func() {
				for n := range items / 3 {
					value := fmt.Sprintf("%d-%d", i, n)
					for ctx.Err() == nil {
						err := newQueue(e.Member(i+1)).Put(ctx, value, recipes.ID(value), recipes.Priority(n%3))
						if unknown, ok := errors.AsType[*coord.OutcomeError](err); ok {
							err = unknown.Outcome(ctx)
						}
						if err == nil {
							break
						}
						if errors.Is(err, coord.ErrUnknownOutcome) {
							value += "-again" // the old one may have been put, and be done
						}
						time.Sleep(time.Second)
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		leader := e.Leader(t.Context())
		e.Kill(leader)
		time.Sleep(20 * time.Second)
		e.Restart(leader)
		c := e.Leader(t.Context())
		eventually(t, "all items to be done", func() bool {
			names, _, err := c.Children(t.Context(), "/done")
			return err == nil && len(names) >= items
		})
		eventually(t, "the queue to be empty", func() bool {
			n, err := newQueue(c).Len(t.Context())
			return err == nil && n == 0
		})
		cancel()
		all.Wait()
		if got := children(t, c, "/q/ids"); got != "" && got != "none" {
			t.Errorf("ids are left: %s", got)
		}
	})
}

func mustCreateAt(t *testing.T, c coord.Client, path string) {
	t.Helper()
	if _, _, err := c.Create(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
}

// A consumer whose member was cut off for longer than its session goes on with a new
// session, and others have got what it had.
func TestQueueGoesOnAfterALongDisconnect_CURATOR623(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		q, behind := newQueue(c), e.Follower(t.Context())
		s := newSession(t, behind)
		got := takeInBackground(t.Context(), newQueue(behind), s)
		waiting(t, c, "/q/takers", 1)
		e.Isolate(behind)
		if o := <-got; !errors.Is(o.err, coord.ErrSessionExpired) {
			t.Errorf("Take = %+v", o)
		}
		if _, err := newQueue(behind).Take(t.Context(), s); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Take with a dead session = %v", err)
		}
		for i := range 3 {
			mustPut(t, q, fmt.Sprint(i))
		}
		e.Heal()
		s = newSession(t, behind)
		for i := range 3 {
			mustAck(t, mustTake(t, newQueue(behind), s, fmt.Sprint(i)))
		}
		got = takeInBackground(t.Context(), newQueue(behind), s)
		waiting(t, c, "/q/takers", 1)
		mustPut(t, q, "more")
		if o := <-got; o.err != nil || o.d.Value != "more" {
			t.Errorf("Take = %+v", o)
		}
	})
}

// A consumer at a member that skipped changes, because it caught up by a snapshot, or
// that is told more than it may hold, still finds what was put.
func TestQueueTakerBehindASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		q, behind := newQueue(c), e.Follower(t.Context())
		s, err := behind.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		got := takeInBackground(t.Context(), newQueue(behind), s)
		waiting(t, c, "/q/takers", 1)
		e.Isolate(behind)
		for i := range 60 {
			mustPut(t, q, fmt.Sprint(i))
		}
		e.Heal()
		if o := <-got; o.err != nil || o.d.Value != "0" {
			t.Errorf("Take = %+v", o)
		}
		noWatches(t, e)
	}, coordtest.WithConfig(func(c *coord.Config) { c.SnapshotEntries = 10 }))
}

// An item that is given back keeps its name, or gets one of the same length: nothing
// grows.
func TestQueueNamesDoNotGrow_CURATOR56(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q, s := newQueue(c), newSession(t, c)
		mustPut(t, q, "a", recipes.ID("id"), recipes.Priority(7))
		d := mustTake(t, q, s, "a")
		path := d.Path()
		data, _, err := c.Get(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			mustNack(t, d, 0)
			if d = mustTake(t, q, s, "a"); d.Path() != path || d.Deliveries() != i+2 {
				t.Fatalf("delivered for the %dth time as %s", d.Deliveries(), d.Path())
			}
		}
		for i := range 30 {
			mustNack(t, d, time.Second)
			if d = mustTake(t, q, s, "a"); len(d.Path()) != len(path) || d.Deliveries() != i+32 || d.Priority() != 7 || d.ID() != "id" {
				t.Fatalf("delivered for the %dth time as %s", d.Deliveries(), d.Path())
			}
		}
		if now, _, err := c.Get(t.Context(), d.Path()); err != nil || len(now) != len(data) {
			t.Errorf("the data is %q, was %q", now, data)
		}
		mustAck(t, d)
		if got := children(t, c, "/q/ids"); got != "" {
			t.Errorf("ids are left: %s", got)
		}
	})
}

// The id of an item is taken for as long as it is in the queue, wherever it is in it,
// and free from then on.
func TestQueueIDs_CURATOR224(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q, s := newQueue(c, recipes.WithMaxDeliveries(3)), newSession(t, c)
		refused := func(where string) {
			t.Helper()
			err := newQueue(e.Member(2)).Put(t.Context(), "b", recipes.ID("x y"))
			if !errors.Is(err, recipes.ErrSameID) || !strings.Contains(err.Error(), `"x y"`) {
				t.Errorf("Put with the id of an item that %s = %v", where, err)
			}
		}
		mustPut(t, q, "a", recipes.ID("x y"), recipes.Delay(time.Second))
		refused("is delayed")
		d := mustTake(t, q, s, "a")
		refused("is delivered")
		mustNack(t, d, 0)
		refused("was given back")
		d = mustTake(t, q, s, "a")
		mustNack(t, d, time.Second)
		refused("was given back for later")
		mustNack(t, mustTake(t, q, s, "a"), 0)
		refused("is dead")
		letters, err := q.DeadLetters(t.Context())
		if err != nil || len(letters) != 1 || letters[0].ID != "x y" || letters[0].Deliveries != 3 {
			t.Fatalf("DeadLetters = %+v, %v", letters, err)
		}
		if err := q.PutBack(t.Context(), letters[0]); err != nil {
			t.Fatal(err)
		}
		refused("was put back")
		d = mustTake(t, q, s, "a")
		if d.Deliveries() != 1 {
			t.Errorf("it was delivered %d times since it was put back", d.Deliveries())
		}
		mustAck(t, d)
		mustPut(t, q, "c", recipes.ID("x y"))
		mustAck(t, mustTake(t, q, s, "c"))

		mustPut(t, q, "d", recipes.ID("x y"))
		if err := mustTake(t, q, s, "d").Reject(t.Context()); err != nil {
			t.Fatal(err)
		}
		letters, err = q.DeadLetters(t.Context())
		if err != nil || len(letters) != 1 {
			t.Fatal(letters, err)
		}
		letters[0].ID, letters[0].Priority = "other", 12345 // what callers make of it is theirs
		mustPut(t, q, "other", recipes.ID("other"))
		if err := q.PutBack(t.Context(), letters[0]); err != nil {
			t.Fatal(err)
		}
		other := mustTake(t, q, s, "other")
		if err := mustTake(t, q, s, "d").Reject(t.Context()); err != nil {
			t.Fatal(err)
		}
		if letters, err = q.DeadLetters(t.Context()); err != nil || len(letters) != 1 {
			t.Fatal(letters, err)
		}
		letters[0].ID = "other"
		if err := q.Discard(t.Context(), letters[0]); err != nil {
			t.Fatal(err)
		}
		mustAck(t, other)
		for what, call := range map[string]func(context.Context, recipes.DeadLetter[string]) error{"PutBack": q.PutBack, "Discard": q.Discard} {
			if err := call(t.Context(), letters[0]); !errors.Is(err, coord.ErrNoNode) {
				t.Errorf("%s of one that is gone = %v", what, err)
			}
			if err := call(t.Context(), recipes.DeadLetter[string]{}); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("%s of none = %v", what, err)
			}
		}
		mustPut(t, q, "e", recipes.ID("x y"))

		// Who deletes an id by hand is in nobody's way.
		if err := c.Delete(t.Context(), "/q/ids/x y"); err != nil {
			t.Fatal(err)
		}
		mustAck(t, mustTake(t, q, s, "e"))
		mustLen(t, q, 0)
	})
}

// A bound holds whoever puts at once, delayed or not, and whatever is being delivered.
func TestQueueBound_CURATOR254(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const bound = 7
		var all sync.WaitGroup
		var mu sync.Mutex
		done, full := 0, 0
		for i := range 30 {
			all.Go(func() {
				var opts []recipes.PutOption
				if i%3 == 1 {
					opts = append(opts, recipes.Delay(5*time.Second))
				}
				err := newQueue(e.Member(i%3+1), recipes.WithBound(bound)).Put(t.Context(), fmt.Sprint(i), opts...)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					done++
				case errors.Is(err, recipes.ErrFull):
					full++
				default:
					t.Errorf("Put = %v", err)
				}
			})
		}
		all.Wait()
		q := newQueue(e.Member(1), recipes.WithBound(bound))
		mustLen(t, q, bound)
		if done != bound || full != 30-bound {
			t.Errorf("%d were put, %d refused", done, full)
		}
		s := newSession(t, e.Member(1))
		time.Sleep(10 * time.Second)
		d, err := q.Take(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Put(t.Context(), "x"); !errors.Is(err, recipes.ErrFull) {
			t.Errorf("Put while one is delivered = %v", err)
		}
		mustAck(t, d)
		mustPut(t, newQueue(e.Member(2), recipes.WithBound(bound)), "x")
		mustPut(t, newQueue(e.Member(2)), "y")
		if err := newQueue(e.Member(3), recipes.WithBound(bound)).Put(t.Context(), "z"); !errors.Is(err, recipes.ErrFull) {
			t.Errorf("Put above the bound = %v", err)
		}
	})
}

// What others have put into the directories is left alone, and in nobody's way.
func TestQueueForeignZnodes_Netflix30(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q, s := newQueue(c), newSession(t, c)
		mustPut(t, q, "first")
		mustPut(t, q, "later", recipes.Delay(time.Second))
		mustAck(t, mustTake(t, q, s, "first"))
		for _, path := range []string{
			"/q/foreign", "/q/items-x", "/q/items-00000000001", "/q/takers", "/q/items-0000000000/foreign", "/q/items-0000000000/0000-x",
			"/q/items-0000000000/9999-0000000000", "/q/items-0000000000/0001-0000000000/other/deep", "/q/delayed/foreign", "/q/delayed/0000000000000000-x",
			"/q/takers/taker-0000000000", "/q/takers/foreign", "/q/dead/foreign",
		} {
			if _, _, err := c.Create(t.Context(), path, nil, coord.WithParents()); err != nil {
				t.Fatal(path, err)
			}
		}
		if _, _, err := s.Create(t.Context(), "/q/items-0000000000/0002-0000000000", nil, coord.Ephemeral); err != nil {
			t.Fatal(err)
		}
		locked := "/q/items-0000000000/0003-0000000000"
		if _, _, err := c.Create(t.Context(), locked, []byte("0000000000 \n\"x\""), coord.WithACL(coord.ReadOnlyACL()...)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Create(t.Context(), "/q/items-0000000000/0004-0000000000", []byte("0000000000 \n\"x\""),
			coord.WithACL(coord.ACL{Perms: coord.PermAdmin, ID: coord.ID{Scheme: "world", ID: "anyone"}})); err != nil {
			t.Fatal(err)
		}
		mustAck(t, mustTake(t, q, s, "later"))
		got := takeInBackground(t.Context(), q, s)
		waiting(t, c, "/q/takers", 3)
		mustPut(t, q, "second")
		o := <-got
		if o.err != nil || o.d.Value != "second" {
			t.Fatalf("Take = %+v", o)
		}
		mustAck(t, o.d)
		if letters, err := q.DeadLetters(t.Context()); err != nil || len(letters) != 0 {
			t.Errorf("DeadLetters = %v, %v", letters, err)
		}
		// Those that are not a queue's by their data alone are dead.
		if _, _, err := c.Create(t.Context(), "/q/items-0000000000/0005-0000000000", []byte("foreign")); err != nil {
			t.Fatal(err)
		}
		mustPut(t, q, "third")
		mustPut(t, q, "fourth") // as many as the foreign takers in the line leave
		mustPut(t, q, "fifth")
		mustAck(t, mustTake(t, q, s, "third"))
	})
}

// What somebody puts below an item keeps that one where it is, until it is gone, and no
// other one: a delayed item is left behind, and a dead letter that cannot be deleted is an
// error, not something to try again for ever.
func TestQueueForeignZnodesBelowItems(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q, s := newQueue(c), newSession(t, c)
		mustPut(t, q, "dead")
		if err := mustTake(t, q, s, "dead").Reject(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustPut(t, q, "delayed", recipes.Delay(time.Second))
		mustPut(t, q, "free")
		var below []string
		for _, dir := range []string{"/q/dead", "/q/delayed", "/q/items-0000000000"} {
			path := dir + "/" + children(t, c, dir) + "/foreign"
			mustCreateAt(t, c, path)
			below = append(below, path)
		}
		time.Sleep(time.Minute)
		mustBeEmpty(t, q, s)
		mustPut(t, q, "later", recipes.Delay(time.Second))
		mustAck(t, mustTake(t, q, s, "later"))

		letters, err := q.DeadLetters(t.Context())
		if err != nil || len(letters) != 1 {
			t.Fatal(letters, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := q.Discard(ctx, letters[0]); !errors.Is(err, coord.ErrNotEmpty) {
			t.Errorf("Discard = %v", err)
		}
		for i, want := range []string{"delayed", "free"} {
			got := takeInBackground(t.Context(), q, s)
			waiting(t, c, "/q/takers", 1)
			time.Sleep(time.Second) // it has looked, and waits
			if err := c.Delete(t.Context(), below[i+1]); err != nil {
				t.Fatal(err)
			}
			select {
			case o := <-got:
				if o.err != nil || o.d.Value != want {
					t.Fatalf("Take = %+v, want %s", o, want)
				}
				mustAck(t, o.d)
			case <-time.After(30 * time.Second):
				t.Fatalf("%s is stuck", want)
			}
		}
	})
}

// Whatever keeps an item from being put is an error of Put.
func TestQueuePutFails_Netflix135(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		cancelled, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		closed := newSession(t, c)
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
		mustCreateAt(t, c, "/other")
		if _, err := c.SetData(t.Context(), "/other", []byte("data")); err != nil {
			t.Fatal(err)
		}
		v := recipes.NewQueue(c, "/v", coord.JSON[any]())
		for what, test := range map[string]struct {
			err  error
			want error
			says string
		}{
			"a cancelled context": {newQueue(c).Put(cancelled, "a"), why, ""},
			"a closed session":    {newQueue(closed).Put(t.Context(), "a"), coord.ErrClosed, ""},
			"no session":          {newQueue((*coord.Session)(nil)).Put(t.Context(), "a"), coord.ErrSessionExpired, ""},
			"no client":           {newQueue(nil).Put(t.Context(), "a"), coord.ErrBadArguments, "no client"},
			"a priority":          {newQueue(c).Put(t.Context(), "a", recipes.Priority(1001)), coord.ErrBadArguments, "1001, the limits are -1000 and 1000"},
			"no id":               {newQueue(c).Put(t.Context(), "a", recipes.ID("")), coord.ErrBadArguments, "the id"},
			"an id with a slash":  {newQueue(c).Put(t.Context(), "a", recipes.ID("a/b")), coord.ErrBadArguments, `"a/b"`},
			"a long id":           {newQueue(c).Put(t.Context(), "a", recipes.ID(strings.Repeat("x", 1025))), coord.ErrBadArguments, "1024"},
			"a negative bound":    {newQueue(c, recipes.WithBound(-1)).Put(t.Context(), "a"), coord.ErrBadArguments, "-1"},
			"a negative limit":    {newQueue(c, recipes.WithMaxDeliveries(-1)).Put(t.Context(), "a"), coord.ErrBadArguments, "-1"},
			"an invalid path":     {recipes.NewQueue(c, "q", coord.JSON[int]()).Put(t.Context(), 1), coord.ErrBadArguments, `"q"`},
			"another recipe":      {recipes.NewQueue(c, "/other", coord.JSON[int]()).Put(t.Context(), 1), recipes.ErrOtherRecipe, "/other"},
			"the root":            {recipes.NewQueue(c, "/", coord.JSON[int]()).Put(t.Context(), 1), recipes.ErrOtherRecipe, ""},
			"the codec":           {v.Put(t.Context(), make(chan int)), nil, "encode"},
			"a large value":       {newQueue(c).Put(t.Context(), strings.Repeat("x", 1<<20)), coord.ErrTooLarge, ""},
		} {
			if test.err == nil || test.want != nil && !errors.Is(test.err, test.want) || !strings.Contains(test.err.Error(), test.says) {
				t.Errorf("Put with %s = %v", what, test.err)
			}
		}
		e.Isolate(c)
		if err := newQueue(c).Put(t.Context(), "a"); err == nil {
			t.Error("an isolated member has put something")
		}
		e.Heal()
	})
}

// A path that another recipe uses is refused, and no other recipe uses that of a queue.
func TestQueueOtherRecipe(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		h := mustLock(t, s, "/q")
		q := newQueue(c)
		if err := q.Put(t.Context(), "a"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Put = %v", err)
		}
		if _, err := q.Take(t.Context(), s); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Take = %v", err)
		}
		if _, err := q.Len(t.Context()); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Len = %v", err)
		}
		mustRelease(t, h)
		mustPut(t, q, "a") // nobody uses it any more
		if _, err := recipes.Lock(t.Context(), s, "/q"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Lock = %v", err)
		}
		if _, err := recipes.NewValue(c, "/q", coord.JSON[string]()).Set(t.Context(), "x"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Set = %v", err)
		}
		if _, err := recipes.NewCounter(c, "/q").Add(t.Context(), 1); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Add = %v", err)
		}
		if _, err := recipes.Enter(t.Context(), s, "/q", 2); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Enter = %v", err)
		}
		mustAck(t, mustTake(t, q, s, "a"))
	})
}
