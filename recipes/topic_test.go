package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// messages reads a subscription in the background.
type messages struct {
	got chan recipes.Message[string]
	end chan error
}

func subscribe(ctx context.Context, c coord.Client, opts ...recipes.SubscribeOption) *messages {
	m := &messages{make(chan recipes.Message[string], 1000), make(chan error, 1)}
	go func() {
		for msg, err := range recipes.NewTopic(c, "/topic", coord.JSON[string]()).Subscribe(ctx, opts...) {
			if err != nil {
				m.end <- err
				return
			}
			m.got <- msg
		}
	}()
	return m
}

func (m *messages) next(t *testing.T, want string) recipes.Message[string] {
	t.Helper()
	select {
	case msg := <-m.got:
		if msg.Err != nil || msg.Value != want {
			t.Fatalf("got %+v, want %q", msg, want)
		}
		return msg
	case err := <-m.end:
		t.Fatalf("ended with %v, want %q", err, want)
	case <-time.After(time.Minute):
		t.Fatalf("nothing comes, want %q", want)
	}
	panic("unreachable")
}

func (m *messages) ends(t *testing.T, want error) {
	t.Helper()
	select {
	case err := <-m.end:
		if !errors.Is(err, want) {
			t.Errorf("ended with %v, want %v", err, want)
		}
	case msg := <-m.got:
		t.Errorf("got %+v, want the end", msg)
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}

func mustPublish(t *testing.T, c coord.Client, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if err := recipes.NewTopic(c, "/topic", coord.JSON[string]()).Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// Every subscription yields every message behind its start, through crashes of the
// leader and isolation of its member, and another one goes on from any of them.
func TestTopic(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var all []*messages
		for i := range 3 {
			all = append(all, subscribe(ctx, e.Member(i+1)))
		}
		time.Sleep(time.Second)
		mustPublish(t, e.Member(1), "0", "1", "1") // the same again is a message
		var first coord.Position
		for _, m := range all {
			first = m.next(t, "0").Position
			m.next(t, "1")
			m.next(t, "1")
		}
		leader := e.Leader(t.Context())
		e.Kill(leader)
		c := e.Leader(t.Context())
		other := e.Follower(t.Context())
		e.Restart(leader)
		e.Converged(t.Context())
		e.Isolate(other)
		for i := range 20 {
			mustPublish(t, c, fmt.Sprint(i))
		}
		e.Heal()
		for i, m := range all {
			if e.Member(i+1) != c && e.Member(i+1) != other {
				m.ends(t, coord.ErrClosed)
				continue
			}
			for i := range 20 {
				m.next(t, fmt.Sprint(i))
			}
		}
		again := subscribe(ctx, other, recipes.Behind(first))
		for _, want := range []string{"1", "1", "0", "1", "2"} {
			again.next(t, want)
		}
		last := subscribe(ctx, c, recipes.WithLast())
		if m := last.next(t, "19"); m.Position.IsZero() {
			t.Error("the last message has no position")
		}
		mustPublish(t, other, "end")
		last.next(t, "end")
		why := errors.New("why")
		cancel(why)
		last.ends(t, why)
		noWatches(t, e)
	})
}

// A subscription that missed something ends and says so: there is no silent gap.
func TestTopicIsCompacted(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		mustPublish(t, c, "first")
		m := subscribe(t.Context(), c, recipes.WithLast())
		first := m.next(t, "first").Position
		for i := range 50 {
			mustPublish(t, c, fmt.Sprint(i))
			m.next(t, fmt.Sprint(i))
		}
		late := subscribe(t.Context(), c, recipes.Behind(first))
		select {
		case err := <-late.end:
			if _, ok := errors.AsType[*coord.CompactedError](err); !ok {
				t.Errorf("ended with %v", err)
			}
		case msg := <-late.got:
			t.Errorf("got %+v", msg)
		}

		// One whose loop is slow is told everything that the history has.
		slow := make(chan string)
		go func() {
			defer close(slow)
			for msg, err := range recipes.NewTopic(c, "/topic", coord.JSON[string]()).Subscribe(t.Context()) {
				if _, ok := errors.AsType[*coord.CompactedError](err); !ok && err != nil {
					t.Errorf("ended with %v", err)
				}
				if err != nil {
					return
				}
				slow <- msg.Value
			}
		}()
		time.Sleep(time.Second)
		for i := range 15 {
			mustPublish(t, c, fmt.Sprint("s", i))
		}
		for i := range 15 {
			if got := <-slow; got != fmt.Sprint("s", i) {
				t.Fatalf("got %q, want s%d", got, i)
			}
		}
		for i := range 100 {
			mustPublish(t, c, fmt.Sprint("t", i))
		}
		n := 0
		for got := range slow {
			if got != fmt.Sprint("t", n) {
				t.Fatalf("got %q, want t%d", got, n)
			}
			n++
		}
		if n == 100 {
			t.Error("nothing was lost, so this shows nothing")
		}
	}, coordtest.WithConfig(func(c *coord.Config) { c.HistoryEvents, c.WatchBuffer = 32, 4 }))
}

// What does not decode is a message like any other, and so is what comes behind a
// deletion of the topic.
func TestTopicDecodeErrors(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		m := subscribe(t.Context(), c)
		time.Sleep(time.Second)
		mustPublish(t, c, "a")
		if _, err := c.SetData(t.Context(), "/topic", []byte("{")); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "/topic"); err != nil {
			t.Fatal(err)
		}
		mustPublish(t, c, "b")
		m.next(t, "a")
		msg := <-m.got
		if bad, ok := errors.AsType[*coord.DecodeError](msg.Err); !ok || bad.Path != "/topic" || msg.Value != "" {
			t.Errorf("got %+v", msg)
		}
		m.next(t, "b")
	})
}

func TestTopicEndsAndFails(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		m := subscribe(t.Context(), s)
		time.Sleep(time.Second)
		mustPublish(t, s, "a")
		position := m.next(t, "a").Position
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		m.ends(t, coord.ErrClosed)
		subscribe(t.Context(), s).ends(t, coord.ErrClosed)
		subscribe(t.Context(), nil).ends(t, coord.ErrBadArguments)
		subscribe(t.Context(), c, recipes.WithLast(), recipes.Behind(position)).ends(t, coord.ErrBadArguments)
		var future coord.Position
		if err := future.UnmarshalText([]byte(strings.SplitN(position.String(), ":", 2)[0] + ":0xffffffffff")); err != nil {
			t.Fatal(err)
		}
		subscribe(t.Context(), c, recipes.Behind(future)).ends(t, coord.ErrInvalidPosition)
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		subscribe(cancelled, c).ends(t, context.Canceled)

		b := recipes.NewBarrier(c, "/barrier")
		if err := b.Set(t.Context()); err != nil {
			t.Fatal(err)
		}
		topic := recipes.NewTopic(c, "/barrier", coord.JSON[any]())
		if err := topic.Publish(t.Context(), 1); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Publish = %v", err)
		}
		if err := recipes.NewTopic(c, "/topic", coord.JSON[any]()).Publish(t.Context(), make(chan int)); err == nil || !strings.Contains(err.Error(), "encode") {
			t.Errorf("Publish = %v", err)
		}
		if err := recipes.NewTopic(c, "topic", coord.JSON[any]()).Publish(t.Context(), 1); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Publish = %v", err)
		}
		e.Stop(c)
		noWatches(t, e)
	})
}
