package recipes

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"coord"
)

// A Topic has messages that are published to all who are subscribed, in one persistent
// znode that holds the last one.
//
// Guarantee: a subscription yields every message behind its start, once and in the order
// in which they were published, or ends with an error. It goes on through changes of
// leader and without contact to a quorum, and another one goes on from the Position of
// any message, on whatever member.
// Cost: one write for each message. To subscribe is a watch at this member.
// Session loss: a topic belongs to no session. A subscription by a session ends with it.
// Pitfall: nothing keeps messages for those who are not subscribed. A position is good as
// long as the member knows what has changed since, in the whole tree and not only in the
// topic: [coord.Config.HistoryEvents] changes, 65536, of [coord.Config.HistoryBytes], 64
// MiB, but none from before it was started, or caught up by a snapshot. Who was away for
// longer is told so. What must reach somebody belongs into a [Queue].
//
// It may be used by any number of goroutines.
type Topic[T any] struct {
	c     coord.Client
	path  string
	codec coord.Codec[T]
	value *Value[T]
}

// NewTopic returns the topic at path, whose messages are written by codec. It does nothing
// yet.
func NewTopic[T any](c coord.Client, path string, codec coord.Codec[T]) *Topic[T] {
	return &Topic[T]{c: c, path: path, codec: codec, value: NewValue(c, path, codec)}
}

// Publish tells all who are subscribed. Missing parents are made, persistent. It fails
// with [ErrOtherRecipe] if the path is used by another recipe, with the codec's error, and
// as [coord.Coordinator.SetData] does: with [coord.ErrUnknownOutcome] the message may
// have been published, or may be soon.
func (t *Topic[T]) Publish(ctx context.Context, message T) error {
	if _, err := t.value.Set(ctx, message); err != nil {
		return fmt.Errorf("publish to topic %s: %w", t.path, err)
	}
	return nil
}

// A Message is what was published.
type Message[T any] struct {
	Value T
	Err   error      // a [*coord.DecodeError] if the data is not the codec's; then Value is zero
	Stat  coord.Stat // of the topic; its Mzxid is when the message was published

	// Position is the place of the message in the order of changes: a subscription that
	// starts [Behind] it yields the next one. It is zero for some that [WithLast] yields.
	Position coord.Position
}

// A SubscribeOption is an option of [Topic.Subscribe].
type SubscribeOption func(*subscribeOptions)

type subscribeOptions struct {
	from *coord.Position
	last bool
}

// Behind has a subscription start with what was published behind a Position, of a
// message or of a [coord.View].
func Behind(p coord.Position) SubscribeOption { return func(o *subscribeOptions) { o.from = &p } }

// WithLast has a subscription start with the last message that was published before it,
// if there is one.
func WithLast() SubscribeOption { return func(o *subscribeOptions) { o.last = true } }

// Subscribe yields the messages that are published from the call of the loop on, unless
// an option says otherwise. A message that does not decode says so, and ends nothing.
//
// The last pair has the reason why the subscription ended, if that was not the loop's own:
// a [*coord.CompactedError] if messages may have been published that this member does not
// know any more, because the loop is too slow, the position too old, or the member has
// caught up by a snapshot; [coord.ErrInvalidPosition]; [coord.ErrBadArguments] for both
// options at once; the cause of ctx, or of the end of the client; and what
// [coord.Coordinator.Watch] fails with.
func (t *Topic[T]) Subscribe(ctx context.Context, opts ...SubscribeOption) iter.Seq2[Message[T], error] {
	return func(yield func(Message[T], error) bool) {
		if err := t.subscribe(ctx, opts, yield); err != nil {
			yield(Message[T]{}, fmt.Errorf("subscribe to topic %s: %w", t.path, err))
		}
	}
}

// subscribe returns nil when yield has had enough.
func (t *Topic[T]) subscribe(ctx context.Context, opts []SubscribeOption, yield func(Message[T], error) bool) error {
	if err := present(ctx, t.c); err != nil {
		return err
	}
	var o subscribeOptions
	for _, opt := range opts {
		opt(&o)
	}
	start := []coord.WatchOption{coord.WithData()}
	switch {
	case o.last && o.from != nil:
		return fmt.Errorf("%w: both WithLast and Behind a position", coord.ErrBadArguments)
	case o.last:
		start = append(start, coord.WithInitial())
	case o.from != nil:
		start = append(start, coord.From(*o.from))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	life := lifeOf(t.c)
	defer context.AfterFunc(life, func() { cancel(context.Cause(life)) })()
	for {
		w, err := t.c.Watch(ctx, t.path, coord.Node, start...)
		if err != nil {
			return err
		}
		more, err := t.follow(w, yield)
		overrun, ok := errors.AsType[*coord.OverrunError](err)
		if !more || !ok {
			return err
		}
		// The watch holds less than the history, which may still have all of it.
		start = []coord.WatchOption{coord.WithData(), coord.From(overrun.Position)}
	}
}

// follow yields what a watch tells. It reports whether yield wants more.
func (t *Topic[T]) follow(w *coord.Watch, yield func(Message[T], error) bool) (more bool, err error) {
	for ev, err := range w.Events() {
		if err != nil {
			return true, err
		}
		if ev.Type != coord.NodeCreated && ev.Type != coord.NodeDataChanged {
			continue // somebody has deleted the topic
		}
		m := Message[T]{Stat: ev.Stat, Position: ev.Position}
		m.Value, m.Err = t.codec.Decode(ev.Data)
		if m.Err != nil {
			m.Value, m.Err = *new(T), &coord.DecodeError{Path: t.path, Stat: ev.Stat, Err: m.Err}
		}
		if !yield(m, nil) {
			return false, nil
		}
	}
	return true, nil
}
