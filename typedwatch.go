package coord

import (
	"context"
	"iter"
	"slices"
)

// A TypedWatch is a [Watch] whose events carry values. It ends when a Watch does,
// and not because of data that cannot be decoded. One goroutine at a time may read
// from it.
type TypedWatch[T any] struct {
	w     *Watch
	codec Codec[T]
}

// A TypedEvent is an [Event] with the value of the znode.
type TypedEvent[T any] struct {
	Event // its Data may share memory with Value

	// Value is that of the znode after the change. It is zero for NodeDeleted,
	// NodeChildrenChanged and Progress, and if there is a DecodeErr.
	Value T

	// DecodeErr is a [*DecodeError] if the data is not the codec's. Data and Stat
	// are set then as well.
	DecodeErr error
}

// Watch opens a stream of the changes to path, as [Coordinator.Watch] does with
// the option [WithData].
func (t *Typed[T]) Watch(ctx context.Context, path string, mode WatchMode, opts ...WatchOption) (*TypedWatch[T], error) {
	w, err := t.client.Watch(ctx, path, mode, append(slices.Clip(opts), WithData())...)
	if err != nil {
		return nil, err
	}
	return &TypedWatch[T]{w: w, codec: t.codec}, nil
}

// Events yields events as they come. The last pair has no event and the reason
// why the watch ended. Leaving the loop closes the watch.
func (w *TypedWatch[T]) Events() iter.Seq2[TypedEvent[T], error] {
	return func(yield func(TypedEvent[T], error) bool) {
		for ev, err := range w.w.Events() {
			if !yield(w.event(ev), err) {
				return
			}
		}
	}
}

// event decodes what ev carries.
func (w *TypedWatch[T]) event(ev Event) TypedEvent[T] {
	out := TypedEvent[T]{Event: ev}
	if ev.Type == NodeCreated || ev.Type == NodeDataChanged {
		out.Value, out.DecodeErr = decode(w.codec, ev.Path, ev.Data, ev.Stat)
	}
	return out
}

// Path returns the path that is watched.
func (w *TypedWatch[T]) Path() string { return w.w.Path() }

// Position returns the place up to which the reader was told everything.
func (w *TypedWatch[T]) Position() Position { return w.w.Position() }

// Err says why the watch has ended, as [Watch.Err] does. It is nil while the watch
// goes on.
func (w *TypedWatch[T]) Err() error { return w.w.Err() }

// Close ends the watch and frees what it holds. Events that are queued are
// dropped. Further calls do nothing.
func (w *TypedWatch[T]) Close() { w.w.Close() }
