package recipes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"coord"
)

// A Value is one value that many read and replace, in one persistent znode.
//
// Guarantee: of several CompareAndSet with the same Stat one wins, and an Update is
// lost to none.
// Cost: one write for each change, and for each attempt of an Update that others
// were faster than. Get and Watch are reads of this member.
// Session loss: a value belongs to no session. A watch by a session ends with it.
// Pitfall: Get shows what the local member has; CompareAndSet and Update find out if
// that is old, [coord.Linearizable] has it read anew.
//
// It may be used by any number of goroutines.
type Value[T any] struct {
	c     coord.Client
	path  string
	codec coord.Codec[T]
	typed *coord.Typed[T]
}

// NewValue returns the value at path, as codec writes it. It does nothing yet.
func NewValue[T any](c coord.Client, path string, codec coord.Codec[T]) *Value[T] {
	return &Value[T]{c: c, path: path, codec: codec, typed: coord.NewTyped(c, codec)}
}

// Get returns the value and its stat. It fails as [coord.Typed.Get] does, so with
// [coord.ErrNoNode] if there is none.
func (v *Value[T]) Get(ctx context.Context, opts ...coord.ReadOption) (T, coord.Stat, error) {
	if err := present(ctx, v.c); err != nil {
		return *new(T), coord.Stat{}, fmt.Errorf("get value %s: %w", v.path, err)
	}
	return v.typed.Get(ctx, v.path, opts...)
}

// Set replaces the value, or makes it, with missing parents. It fails with
// [ErrOtherRecipe] if the path is used by a lock or an election, and as
// [coord.Typed.SetData] and [coord.Typed.Create] do.
func (v *Value[T]) Set(ctx context.Context, value T) (coord.Stat, error) {
	if err := v.check(ctx); err != nil {
		return coord.Stat{}, fmt.Errorf("set value %s: %w", v.path, err)
	}
	for {
		stat, err := v.typed.SetData(ctx, v.path, value)
		if !errors.Is(err, coord.ErrNoNode) {
			return stat, err
		}
		stat, err = v.create(ctx, value)
		if !errors.Is(err, coord.ErrNodeExists) {
			return stat, err
		}
	}
}

// CompareAndSet replaces the value if it is still the one that was had with this Stat;
// with the zero Stat, if there is none. It fails with [coord.ErrBadVersion] if it is
// not, also if it was deleted and made anew, and else as Set does.
func (v *Value[T]) CompareAndSet(ctx context.Context, was coord.Stat, value T) (coord.Stat, error) {
	err := v.check(ctx)
	var stat coord.Stat
	switch {
	case err != nil:
	case was.Czxid == 0:
		stat, err = v.create(ctx, value)
	default:
		stat, err = v.typed.SetData(ctx, v.path, value, coord.WithVersion(was.Version), coord.WithCzxid(was.Czxid))
	}
	if errors.Is(err, coord.ErrNodeExists) || was.Czxid != 0 && errors.Is(err, coord.ErrNoNode) {
		err = fmt.Errorf("%w: %w", coord.ErrBadVersion, err)
	}
	if err != nil {
		return coord.Stat{}, fmt.Errorf("compare and set value %s: %w", v.path, err)
	}
	return stat, nil
}

// Update replaces the value with what change makes of it, of the zero T if there is
// none, and returns the new one and its stat. change may be called several times, and
// an error of it ends Update and is returned as it is. See [coord.Typed.Update].
func (v *Value[T]) Update(ctx context.Context, change func(T) (T, error)) (T, coord.Stat, error) {
	if err := v.check(ctx); err != nil {
		return *new(T), coord.Stat{}, fmt.Errorf("update value %s: %w", v.path, err)
	}
	for {
		var refused error // by change, whatever else it may look like
		value, stat, err := v.typed.Update(ctx, v.path, func(old T) (value T, err error) {
			value, refused = change(old)
			return value, refused
		})
		if refused != nil || !errors.Is(err, coord.ErrNoNode) {
			return value, stat, err
		}
		value, err = change(*new(T))
		if err != nil {
			return *new(T), coord.Stat{}, err
		}
		stat, err = v.create(ctx, value)
		if err == nil {
			return value, stat, nil
		}
		if !errors.Is(err, coord.ErrNodeExists) {
			return *new(T), coord.Stat{}, err
		}
	}
}

func (v *Value[T]) create(ctx context.Context, value T) (coord.Stat, error) {
	_, stat, err := v.typed.Create(ctx, v.path, value, coord.WithParents())
	return stat, err
}

// A Version is what a value was at a time.
type Version[T any] struct {
	Value T          // zero if there is none, or an Err
	Stat  coord.Stat // zero if there is no value
	Err   error      // a [*coord.DecodeError] if the data is not the codec's
}

// Exists reports whether there was a value.
func (v Version[T]) Exists() bool { return v.Stat.Czxid != 0 }

// Watch yields the value, now and whenever it has changed, also to none. Who is slow
// may miss versions in between, never the latest. Data that does not decode ends
// nothing. The last pair has the reason why it ended, if that was not the loop's own:
// the cause of ctx, that of the end of the client, or what a read fails with. It goes on
// without a quorum.
func (v *Value[T]) Watch(ctx context.Context) iter.Seq2[Version[T], error] {
	return func(yield func(Version[T], error) bool) {
		if err := v.watch(ctx, yield); err != nil {
			yield(Version[T]{}, fmt.Errorf("watch value %s: %w", v.path, err))
		}
	}
}

// watch returns nil when yield has had enough.
func (v *Value[T]) watch(ctx context.Context, yield func(Version[T], error) bool) error {
	if err := present(ctx, v.c); err != nil {
		return err
	}
	l := &lookout{c: v.c}
	defer l.close()
	var last coord.Stat
	for first := true; ; first = false {
		var now Version[T]
		_, err := l.next(ctx, coord.AllowStale(), func(view *coord.View) (_ []coord.Registration, err error) {
			now, err = v.look(view)
			return []coord.Registration{{Path: v.path, Type: coord.DataWatcher}}, err
		})
		if err != nil {
			return err
		}
		if (first || now.Stat.Mzxid != last.Mzxid || now.Stat.Czxid != last.Czxid) && !yield(now, nil) {
			return nil
		}
		last = now.Stat
		if err := l.wait(ctx); err != nil {
			return err
		}
	}
}

// look returns what a view shows.
func (v *Value[T]) look(view *coord.View) (Version[T], error) {
	data, stat, err := view.Get(v.path)
	if errors.Is(err, coord.ErrNoNode) {
		return Version[T]{}, nil
	}
	if err != nil {
		return Version[T]{}, err
	}
	now := Version[T]{Stat: stat}
	now.Value, err = v.codec.Decode(bytes.Clone(data)) // the tree keeps its own
	if err != nil {
		now.Value, now.Err = *new(T), &coord.DecodeError{Path: v.path, Stat: stat, Err: err}
	}
	return now, nil
}

// check fails if the path has the znodes of another recipe.
func (v *Value[T]) check(ctx context.Context) error {
	if err := present(ctx, v.c); err != nil {
		return err
	}
	view, err := v.c.View(ctx, coord.AllowStale())
	if err != nil {
		return err
	}
	data, stat, err := view.Get(v.path)
	if err == nil && data == nil && stat.Cversion > 0 {
		return fmt.Errorf("%w: it has had children and no value, and may be a container, which vanishes", ErrOtherRecipe)
	}
	if errors.Is(err, coord.ErrBadArguments) {
		return err
	}
	err = checkDirectory(view, v.path, &family{recipe: "value"})
	if errors.Is(err, coord.ErrNoAuth) {
		return nil // one may write what one may not read
	}
	return err
}
