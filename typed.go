package coord

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// A Typed is a [Client] whose znodes hold values of one type, as a [Codec] writes
// them. It keeps nothing itself: any number of them may stand on one Client, and
// what another program writes is seen as ever. It is safe for concurrent use.
//
// Reads fail with a [*DecodeError] where the data is not the codec's. Writes fail
// with an [*OpError] that wraps the codec's own error where a value cannot be
// encoded; nothing was written then. All other errors are those of the Client.
type Typed[T any] struct {
	client Client
	codec  Codec[T]
}

// NewTyped returns the values that client keeps, as codec writes them. Ephemeral
// znodes are of the session that client stands for.
func NewTyped[T any](client Client, codec Codec[T]) *Typed[T] {
	return &Typed[T]{client: client, codec: codec}
}

// Get returns the value and stat of a znode. With a [*DecodeError] it returns the
// stat too, so that the znode can be repaired [WithVersion].
func (t *Typed[T]) Get(ctx context.Context, path string, opts ...ReadOption) (T, Stat, error) {
	data, stat, err := t.client.Get(ctx, path, opts...)
	if err != nil {
		return *new(T), Stat{}, err
	}
	value, err := decode(t.codec, path, data, stat)
	return value, stat, err
}

// Create makes a znode that holds value, as [Coordinator.Create] does.
func (t *Typed[T]) Create(ctx context.Context, path string, value T, opts ...CreateOption) (string, Stat, error) {
	data, err := t.encode("create", path, value)
	if err != nil {
		return "", Stat{}, err
	}
	return t.client.Create(ctx, path, data, opts...)
}

// SetData replaces the value of a znode, as [Coordinator.SetData] does.
func (t *Typed[T]) SetData(ctx context.Context, path string, value T, opts ...SetDataOption) (Stat, error) {
	data, err := t.encode("setData", path, value)
	if err != nil {
		return Stat{}, err
	}
	return t.client.SetData(ctx, path, data, opts...)
}

// Update replaces the value of a znode with what change makes of it, and returns
// the new value and stat. If the znode was changed meanwhile, or deleted and
// created anew, Update reads it again and starts over until it wins or ctx ends;
// nothing else bounds it. So change may be called several times, each time with a
// value of its own that it may modify and return, and should do nothing else.
//
// The first read is one of this member, as Get without options; every further
// one is [Linearizable], so that a member which is behind does not try in vain,
// and neither denies a znode that another has made. To have change decide on
// nothing older than the call, call [Coordinator.Sync] before.
//
// An error of change ends Update and is returned as it is, with nothing written.
// All errors of Get and SetData but [ErrBadVersion] end it as well. With one that
// satisfies errors.Is for [ErrUnknownOutcome] the change may have been made, which
// is why Update does not try again; [OutcomeError.Outcome] tells.
func (t *Typed[T]) Update(ctx context.Context, path string, change func(T) (T, error)) (T, Stat, error) {
	var opts []ReadOption
	for {
		value, stat, err := t.Get(ctx, path, opts...)
		if opts == nil && errors.Is(err, ErrNoNode) {
			opts = []ReadOption{Linearizable()}
			continue
		}
		if err != nil {
			return *new(T), Stat{}, err
		}
		value, err = change(value)
		if err != nil {
			return *new(T), Stat{}, err
		}
		data, err := t.encode("setData", path, value)
		if err != nil {
			return *new(T), Stat{}, err
		}
		stat, err = t.client.SetData(ctx, path, data, WithVersion(stat.Version), WithCzxid(stat.Czxid))
		if err == nil {
			return value, stat, nil
		}
		if errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrBadVersion) {
			return *new(T), Stat{}, err
		}
		opts = []ReadOption{Linearizable()}
	}
}

// A Value is one element of [Typed.Children].
type Value[T any] struct {
	Path  string // of the child
	Name  string // its last element
	Value T      // zero if there is an Err
	Stat  Stat   // zero if the child may not be read

	// Err is a [*DecodeError] if the data is not the codec's, and satisfies
	// errors.Is for [ErrNoAuth] if the child may not be read.
	Err error
}

// Children returns the children of a znode with their values, sorted by name, and
// the stat of the znode. All are of one zxid, as from a [View]. [After] and
// [Limit] make pages of it, each of its own zxid. A child whose value cannot be
// had says so in its Err.
func (t *Typed[T]) Children(ctx context.Context, path string, opts ...ListOption) ([]Value[T], Stat, error) {
	var o listOptions
	for _, opt := range opts {
		opt.applyList(&o)
	}
	if o.limit < 0 {
		return nil, Stat{}, &OpError{Op: "children", Path: path, Err: ErrBadArguments, Detail: fmt.Sprintf("Limit(%d)", o.limit)}
	}
	v, err := t.client.View(ctx, readFunc(func(r *readOptions) { *r = o.readOptions }))
	if err != nil {
		if e, ok := errors.AsType[*OpError](err); ok {
			err = &OpError{Op: "children", Path: path, Err: e.Err, Detail: e.Detail}
		}
		return nil, Stat{}, err
	}
	names, stat, code := v.s.children(path, o, v.identities)
	if code != codeOK {
		return nil, Stat{}, &OpError{Op: "children", Path: path, Err: code, Detail: pathDetail(path, code)}
	}
	values := make([]Value[T], len(names))
	for i, name := range names {
		values[i] = t.child(v, joinPath(path, name), name)
	}
	return values, stat, nil
}

// child reads one child.
func (t *Typed[T]) child(v *View, path, name string) Value[T] {
	child := Value[T]{Path: path, Name: name}
	data, stat, err := v.Get(path)
	if err != nil {
		child.Err = err
		return child
	}
	child.Stat = stat
	child.Value, child.Err = decode(t.codec, path, bytes.Clone(data), stat) // the tree keeps its own
	return child
}

// encode encodes a value for the operation op.
func (t *Typed[T]) encode(op, path string, value T) ([]byte, error) {
	data, err := t.codec.Encode(value)
	if err != nil {
		return nil, &OpError{Op: op, Path: path, Err: fmt.Errorf("encode: %w", err)}
	}
	return data, nil
}
