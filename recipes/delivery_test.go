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

// An item is acknowledged together with other writes or not at all, and by the one that
// has it alone: one whose claim was broken settles nothing, whatever it thinks, and
// leaves the item to who has it now. In kazoo's LockingQueue there was a time between
// asking who holds the lock and using the answer.
func TestDeliveryIsFenced_kazooHoldsLock(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := newQueue(c, recipes.WithMaxDeliveries(10))
		mustPut(t, q, "a")
		old := mustTake(t, q, newSession(t, c), "a")
		ctx := old.Context()
		if _, err := c.Multi(t.Context(), old.Guard(), coord.CreateOp("/one", nil)); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), old.Path()+"/taken"); err != nil {
			t.Fatal(err)
		}
		now := mustTake(t, q, newSession(t, e.Member(2)), "a")
		if now.Fence() <= old.Fence() {
			t.Errorf("the fence %v is behind %v", now.Fence(), old.Fence())
		}
		eventually(t, "the context to end", func() bool { return errors.Is(context.Cause(ctx), recipes.ErrLost) })
		if _, err := c.Multi(t.Context(), old.Guard(), coord.CreateOp("/two", nil)); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("a guarded write of the old one = %v", err)
		}
		if err := old.Ack(t.Context(), coord.CreateOp("/three", nil)); !errors.Is(err, recipes.ErrLost) {
			t.Errorf("Ack of the old one = %v", err)
		}
		for what, settle := range map[string]func() error{
			"Nack":          func() error { return old.Nack(t.Context(), 0) },
			"Nack with one": func() error { return old.Nack(t.Context(), time.Hour) },
			"Reject":        func() error { return old.Reject(t.Context()) },
		} {
			if err := settle(); !errors.Is(err, recipes.ErrLost) {
				t.Errorf("%s of the old one = %v", what, err)
			}
		}
		if err := now.Check(); err != nil {
			t.Errorf("the one that has it has lost it: %v", err)
		}
		if err := now.Ack(t.Context(), coord.CreateOp("/three", nil), coord.CreateOp("/one", nil)); !errors.Is(err, coord.ErrNodeExists) {
			t.Errorf("Ack with a write that fails = %v", err)
		}
		if got := children(t, c, "/"); got != "one q zookeeper" {
			t.Errorf("there is %s", got)
		}
		mustAck(t, now, coord.CreateOp("/three", nil))
		if err := now.Check(); !errors.Is(err, recipes.ErrSettled) {
			t.Errorf("Check = %v", err)
		}
		if err := now.Nack(t.Context(), 0); !errors.Is(err, recipes.ErrSettled) || !strings.Contains(err.Error(), "acknowledged") {
			t.Errorf("Nack of what was acknowledged = %v", err)
		}
		mustLen(t, q, 0)
		noWatches(t, e)
	})
}

// An item that was consumed leaves no claim, and one that was claimed cannot be
// consumed by others: kazoo had to delete the lock of an entry that was gone.
func TestDeliveryLeavesNoClaim_kazoo(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := newQueue(c)
		mustPut(t, q, "a")
		var all sync.WaitGroup
		for i := range 9 {
			s := newSession(t, e.Member(i%3+1))
			all.Go(func() {
				d, err := newQueue(e.Member(i%3+1)).TryTake(t.Context(), s)
				if err == nil {
					err = d.Ack(t.Context())
				}
				if err != nil && !errors.Is(err, recipes.ErrEmpty) {
					t.Errorf("TryTake = %v", err)
				}
			})
		}
		all.Wait()
		e.Converged(t.Context())
		if got := children(t, c, "/q/items-0000000000"); got != "" {
			t.Errorf("items are left: %s", got)
		}
	})
}

// Several items are taken in one write, and acknowledged in one or one by one.
func TestQueueTakeBatch(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q, s := newQueue(c), newSession(t, c)
		for _, n := range []int{0, -1, 1001} {
			if _, err := q.TakeBatch(t.Context(), s, n); !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(err.Error(), "1000") {
				t.Errorf("TakeBatch of %d = %v", n, err)
			}
		}
		got := make(chan []*recipes.Delivery[string])
		take := func(n int) {
			ds, err := q.TakeBatch(t.Context(), s, n)
			if err != nil {
				t.Error(err)
			}
			got <- ds
		}
		go take(3)
		waiting(t, c, "/q/takers", 1)
		mustPut(t, q, "first")
		mustAck(t, (<-got)[0])
		for i := range 5 {
			mustPut(t, q, fmt.Sprint(i), recipes.Priority(-i), recipes.ID(fmt.Sprint(i)))
		}
		go take(4)
		ds := <-got
		var ops []coord.Op
		for i, d := range ds {
			if d.Value != fmt.Sprint(i) || d.Fence() != ds[0].Fence() {
				t.Errorf("the item numbered %d is %s", i, d.Value)
			}
			ops = append(ops, d.AckOps()...)
		}
		ctx := ds[0].Context()
		if _, err := c.Multi(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the context to end", func() bool { return errors.Is(context.Cause(ctx), recipes.ErrSettled) })
		if err := ds[1].Check(); !errors.Is(err, recipes.ErrSettled) {
			t.Errorf("Check = %v", err)
		}
		if err := ds[1].Ack(t.Context()); !errors.Is(err, recipes.ErrLost) {
			t.Errorf("Ack of what somebody has acknowledged = %v", err)
		}
		mustLen(t, q, 1)
		if got := children(t, c, "/q/ids"); got != "4" {
			t.Errorf("the ids are %q", got)
		}
		mustAck(t, mustTake(t, q, s, "4"))
	})
}

// A delayed item comes when it is due, to who waits or comes later, in the place of its
// priority.
func TestQueueDelay(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q, s := newQueue(c), newSession(t, c)
		got := takeInBackground(t.Context(), q, s)
		waiting(t, c, "/q/takers", 1)
		start := time.Now()
		mustPut(t, newQueue(e.Member(2)), "late", recipes.Delay(40*time.Second))
		mustPut(t, newQueue(e.Member(2)), "second", recipes.Delay(time.Second))
		mustLen(t, q, 2)
		o := <-got
		if o.err != nil || o.d.Value != "second" || time.Since(start) < time.Second {
			t.Fatalf("Take = %+v after %v", o, time.Since(start))
		}
		mustAck(t, o.d)
		mustBeEmpty(t, q, s)
		mustPut(t, q, "b")
		mustPut(t, q, "a", recipes.Delay(5*time.Second), recipes.Priority(1))
		mustPut(t, q, "never", recipes.Delay(1<<62))
		time.Sleep(6 * time.Second)
		d := mustTake(t, q, s, "a")
		mustNack(t, d, 5*time.Second)
		mustAck(t, mustTake(t, q, s, "b"))
		mustBeEmpty(t, q, s)
		now := time.Now()
		d = mustTake(t, q, s, "a")
		if time.Since(now) < 4*time.Second || d.Deliveries() != 2 {
			t.Errorf("it came after %v, for the %dth time", time.Since(now), d.Deliveries())
		}
		mustAck(t, d)
		time.Sleep(30 * time.Second)
		mustAck(t, mustTake(t, q, s, "late"))
		mustLen(t, q, 1)
	})
}

// What cannot be decoded, has a codec panic, or was delivered too often is set apart:
// it keeps nobody from what comes behind, and can be put back.
func TestQueueDeadLetters(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		q := recipes.NewQueue(c, "/q", fussy{}, recipes.WithMaxDeliveries(2))
		for _, value := range []string{"bad", "panic", "ok", strings.Repeat("x", 1<<20-12)} {
			mustPut(t, q, value)
		}
		d := mustTake(t, q, s, "ok")
		mustNack(t, d, 0)
		crashed := newSession(t, c)
		mustTake(t, q, crashed, "ok")
		if err := crashed.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := q.Take(t.Context(), s)
		if err != nil || len(d.Value) != 1<<20-12 {
			t.Fatal("Take =", d, err)
		}
		if err := d.Reject(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Reject(t.Context()); err != nil {
			t.Errorf("Reject again = %v", err)
		}
		mustLen(t, q, 0)
		letters, err := q.DeadLetters(t.Context())
		if err != nil || len(letters) != 4 {
			t.Fatalf("DeadLetters = %+v, %v", letters, err)
		}
		for i, want := range []struct {
			value, says string
			deliveries  int
		}{{"", "fussy", 0}, {"", "the codec panicked: really", 0}, {"ok", "", 2}, {d.Value, "", 1}} {
			l := letters[i]
			_, undecodable := errors.AsType[*coord.DecodeError](l.Err)
			if l.Value != want.value || undecodable != (want.says != "") || undecodable && !strings.Contains(l.Err.Error(), want.says) || l.Deliveries != want.deliveries {
				t.Errorf("the dead letter numbered %d is %.100v", i, l)
			}
		}
		lenient := recipes.NewQueue(c, "/q", calm{}, recipes.WithMaxDeliveries(2))
		for _, l := range letters[:3] {
			if err := q.PutBack(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"bad", "panic", "ok"} {
			d := mustTake(t, lenient, s, want)
			if d.Deliveries() != 1 {
				t.Errorf("%s is delivered for the %dth time", want, d.Deliveries())
			}
			mustAck(t, d)
		}
		full := recipes.NewQueue(c, "/q", fussy{}, recipes.WithBound(1))
		mustPut(t, full, "more")
		if err := full.PutBack(t.Context(), letters[3]); !errors.Is(err, recipes.ErrFull) {
			t.Errorf("PutBack into a full queue = %v", err)
		}
	})
}

// A calm codec likes all values.
type calm struct{ fussy }

func (calm) Decode(data []byte) (string, error) { return string(data), nil }

// A fussy codec does not like all values.
type fussy struct{}

func (fussy) Encode(value string) ([]byte, error) { return []byte(value), nil }

func (fussy) Decode(data []byte) (string, error) {
	switch value := string(data); value {
	case "bad":
		return "", errors.New("fussy")
	case "panic":
		panic("really")
	default:
		return value, nil
	}
}

// A wait for an item ends with its context, its session, its place in the line and its
// member, and leaves nothing behind. etcd's queue has no context, and a fault of its
// watch was a nil pointer.
func TestQueueTakeEnds_etcd17198(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := newQueue(c)
		cancelled, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		s := newSession(t, c)
		got := takeInBackground(cancelled, q, s)
		waiting(t, c, "/q/takers", 1)
		second := takeInBackground(t.Context(), q, s)
		waiting(t, c, "/q/takers", 2)
		cancel(why)
		if o := <-got; !errors.Is(o.err, why) {
			t.Errorf("Take = %+v", o)
		}
		waiting(t, c, "/q/takers", 1)
		if _, err := q.Take(cancelled, s); !errors.Is(err, why) {
			t.Errorf("Take with a cancelled context = %v", err)
		}
		names := children(t, c, "/q/takers")
		if err := c.Delete(t.Context(), "/q/takers/"+names); err != nil {
			t.Fatal(err)
		}
		if o := <-second; !errors.Is(o.err, recipes.ErrLost) {
			t.Errorf("Take whose place was deleted = %+v", o)
		}
		got = takeInBackground(t.Context(), q, s)
		waiting(t, c, "/q/takers", 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if o := <-got; !errors.Is(o.err, coord.ErrClosed) {
			t.Errorf("Take whose session was closed = %+v", o)
		}
		if _, err := q.Take(t.Context(), nil); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("Take without a session = %v", err)
		}
		got = takeInBackground(t.Context(), newQueue(c), newSession(t, c))
		waiting(t, c, "/q/takers", 1)
		noOther := e.Member(2)
		e.Stop(c)
		if o := <-got; !errors.Is(o.err, coord.ErrClosed) {
			t.Errorf("Take at a member that was closed = %+v", o)
		}
		eventually(t, "the line to be empty", func() bool {
			names := children(t, noOther, "/q/takers")
			return names == "" || names == "none"
		})
		noWatches(t, e)
	})
}

// A call whose context ends before the answer comes leaves neither a claim nor a place
// in the line, however it turns out.
func TestQueueTakeUnknownOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		q := newQueue(c)
		follower := e.Follower(t.Context())
		s, err := follower.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for i, put := range []bool{true, false, true, false, true, false} {
			if put {
				mustPut(t, q, "a")
				e.Converged(t.Context())
			}
			ctx, cancel := context.WithCancel(t.Context())
			got := takeInBackground(ctx, newQueue(follower), s)
			time.Sleep(time.Duration(i) * time.Microsecond)
			e.Isolate(follower)
			time.Sleep(time.Second)
			cancel()
			o := <-got
			e.Heal()
			e.Converged(t.Context())
			if o.err == nil {
				mustAck(t, o.d)
			} else if put {
				mustAck(t, mustTake(t, q, newSession(t, c), "a"))
			}
			eventually(t, "the line to be empty", func() bool {
				names := children(t, c, "/q/takers")
				return names == "" || names == "none"
			})
		}
		noWatches(t, e)
	})
}

// What a Take has done without knowing is undone as soon as that is known, and not with
// the session: a claim, and a place in the line.
func TestQueueTakeIsUndone(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		q := newQueue(c)
		follower := e.Follower(t.Context())
		s, err := follower.NewSession(t.Context(), coord.SessionOptions{Timeout: 10 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		unknown := 0
		for i := range 8 {
			claims := i%2 == 0
			if claims {
				mustPut(t, q, "a")
			}
			e.Converged(t.Context())
			e.Isolate(follower)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := newQueue(follower).Take(ctx, s)
			cancel()
			if err == nil {
				t.Fatal("an isolated member has taken something")
			}
			if errors.Is(err, coord.ErrUnknownOutcome) {
				unknown++
			}
			e.Heal()
			time.Sleep(30 * time.Second)
			if claims {
				mustAck(t, mustTake(t, q, newSession(t, c), "a"))
			}
			if got := children(t, c, "/q/takers"); got != "" && got != "none" {
				t.Errorf("takers are left: %s", got)
			}
		}
		if unknown == 0 {
			t.Error("all outcomes were known, so this shows nothing")
		}
		noWatches(t, e)
	})
}

// What could not be given back is given back in the background, while its session goes
// on, and cannot be acknowledged meanwhile.
func TestDeliveryIsGivenBackInTheBackground(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := newQueue(c)
		mustPut(t, q, "a")
		d := mustTake(t, q, newSession(t, c), "a")
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Nack(cancelled, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("Nack with a cancelled context = %v", err)
		}
		if err := d.Ack(t.Context()); !errors.Is(err, recipes.ErrSettled) || !strings.Contains(err.Error(), "being given back") {
			t.Errorf("Ack of what is being given back = %v", err)
		}
		mustAck(t, mustTake(t, q, newSession(t, e.Member(2)), "a"))
	})
}

// A taker whose place in the middle of the line is deleted learns of it.
func TestTakerInTheLineIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		q := newQueue(c)
		ctx, cancel := context.WithCancel(t.Context())
		first := takeInBackground(ctx, q, newSession(t, c))
		waiting(t, c, "/q/takers", 1)
		second := takeInBackground(ctx, q, newSession(t, c))
		waiting(t, c, "/q/takers", 2)
		time.Sleep(time.Second) // it waits
		if err := c.Delete(t.Context(), "/q/takers/taker-0000000001"); err != nil {
			t.Fatal(err)
		}
		select {
		case o := <-second:
			if !errors.Is(o.err, recipes.ErrLost) {
				t.Errorf("Take = %+v", o)
			}
		case <-time.After(time.Minute):
			t.Error("it waits for ever")
		}
		cancel()
		<-first
	})
}

// What is settled without an answer is settled once, and can be settled again.
func TestDeliveryUnknownOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		q := newQueue(c)
		follower := e.Follower(t.Context())
		s, err := follower.NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		mustCreateAt(t, c, "/n")
		for _, test := range []struct {
			name   string
			settle func(ctx context.Context, d *recipes.Delivery[string]) error
		}{
			{"Ack", func(ctx context.Context, d *recipes.Delivery[string]) error { return d.Ack(ctx, coord.AddOp("/n", 1)) }},
			{"Reject", func(ctx context.Context, d *recipes.Delivery[string]) error { return d.Reject(ctx) }},
			{"Nack", func(ctx context.Context, d *recipes.Delivery[string]) error { return d.Nack(ctx, time.Second) }},
		} {
			name, settle := test.name, test.settle
			mustPut(t, q, name)
			d := mustTake(t, newQueue(follower), s, name)
			e.Isolate(follower)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := settle(ctx, d); !errors.Is(err, coord.ErrUnknownOutcome) {
				t.Errorf("%s at an isolated member = %v", name, err)
			}
			cancel()
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			if err := settle(cancelled, d); !errors.Is(err, context.Canceled) {
				t.Errorf("%s with a cancelled context = %v", name, err)
			}
			e.Heal()
			if name == "Ack" {
				if err := settle(t.Context(), d); err != nil {
					t.Errorf("%s again = %v", name, err)
				}
			} // else it goes on in the background
			eventually(t, "the delivery to be settled", func() bool { return errors.Is(d.Check(), recipes.ErrSettled) })
		}
		mustAck(t, mustTake(t, q, newSession(t, c), "Nack"))
		eventually(t, "the dead letter", func() bool {
			letters, err := q.DeadLetters(t.Context(), coord.Linearizable())
			return err == nil && len(letters) == 1
		})
		if data, _, err := c.Get(t.Context(), "/n"); err != nil || string(data) != "1" {
			t.Errorf("acknowledged %s times: %v", data, err)
		}
		mustLen(t, q, 0)
		noWatches(t, e)
	})
}
