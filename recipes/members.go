package recipes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"coord"
)

// A Member is one ephemeral child of a znode: somebody who is there.
type Member[T any] struct {
	Path  string
	Name  string     // the last element of Path
	Value T          // zero if there is an Err
	Stat  coord.Stat // zero if the znode may not be read

	// Err is a [*coord.DecodeError] if the data is not the codec's, and satisfies
	// errors.Is for [coord.ErrNoAuth] if the znode may not be read.
	Err error
}

// memberPrefix is what the names of those that Join starts with, and partyMark what
// kazoo's Party knows its own by.
const (
	memberPrefix = "member-"
	partyMark    = "__party__"
)

// Join makes this process one of the [Members] at path, under a name that the ensemble
// chooses, until the Registration is unregistered. It is [Register] of a sequential
// child: who wants to choose the name registers path/name itself. With [JoinLayout] the
// name is one of another library's.
func Join[T any](ctx context.Context, c *coord.Coordinator, path string, value T, codec coord.Codec[T], opts ...RegisterOption) (*Registration[T], error) {
	name, opts := asMember(opts)
	r, err := register(ctx, c, join(path, name), value, codec, opts)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", path, err)
	}
	return r, nil
}

// asMember returns what a member is to be called, and the options for its znode.
func asMember(opts []RegisterOption) (string, []RegisterOption) {
	var o registerOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.layout == KazooParty {
		return digits() + partyMark, append(slices.Clip(opts), func(o *registerOptions) {
			o.layout, o.sequential, o.lasting = Coord, false, true
		})
	}
	return memberPrefix, append(slices.Clip(opts), Sequential())
}

// Members yields who is registered below path, sorted by name, now and whenever that
// has changed, a value included. Only ephemeral znodes are members. Each list shows one
// moment. Who is slow may miss versions in between, never the latest. What has not
// changed is decoded once, so lists share their values; the lists belong to the caller.
//
// Guarantee: each list is the state at one zxid, and the lists are in order.
// Cost: no writes. Each change costs this process a look at all members.
// Session loss: of the reader's, ends Members if c is a Session; that of a member shows
// as its absence.
// Pitfall: a member that is listed may be gone, and one whose session is about to end
// is still listed.
//
// The last pair has the reason why it ended, if that was not the loop's own: the cause
// of ctx, that of the end of the client, or what a read fails with. A value that does
// not decode is its member's Err. Members shows what this member of the ensemble knows,
// also without a quorum.
func Members[T any](ctx context.Context, c coord.Client, path string, codec coord.Codec[T]) iter.Seq2[[]Member[T], error] {
	return func(yield func([]Member[T], error) bool) {
		if err := watchMembers(ctx, c, path, codec, yield); err != nil {
			yield(nil, fmt.Errorf("members of %s: %w", path, err))
		}
	}
}

// watchMembers returns nil when yield has had enough.
func watchMembers[T any](ctx context.Context, c coord.Client, path string, codec coord.Codec[T], yield func([]Member[T], error) bool) error {
	if err := present(ctx, c); err != nil {
		return err
	}
	if codec == nil {
		return fmt.Errorf("%w: no codec", coord.ErrBadArguments)
	}
	l := &lookout{c: c}
	defer l.close()
	var last []Member[T]
	for first := true; ; first = false {
		var now []Member[T]
		_, err := l.next(ctx, coord.AllowStale(), func(v *coord.View) (_ []coord.Registration, err error) {
			now, err = membersOf(v, path, codec, last)
			return []coord.Registration{{Path: path, Type: coord.PersistentRecursiveWatcher}}, err
		})
		if err != nil {
			return err
		}
		if (first || !slices.EqualFunc(now, last, Member[T].same)) && !yield(slices.Clone(now), nil) {
			return nil
		}
		last = now
		if err := l.wait(ctx); err != nil {
			return err
		}
	}
}

// same reports whether two members are the same znode with the same value.
func (m Member[T]) same(o Member[T]) bool {
	return m.Name == o.Name && m.Stat.Czxid == o.Stat.Czxid && m.Stat.Mzxid == o.Stat.Mzxid
}

// membersOf returns the members that a view shows. Those of last that have not changed
// are not decoded again.
func membersOf[T any](v *coord.View, path string, codec coord.Codec[T], last []Member[T]) ([]Member[T], error) {
	names, _, err := v.Children(path)
	if errors.Is(err, coord.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if last == nil {
		if err := checkDirectory(v, path, &family{recipe: "members"}); err != nil {
			return nil, err
		}
	}
	members := make([]Member[T], 0, len(names))
	for _, name := range names {
		m := Member[T]{Path: join(path, name), Name: name}
		data, stat, err := v.Get(m.Path)
		if err == nil && stat.EphemeralOwner == 0 {
			continue
		}
		m.Stat, m.Err = stat, err
		for len(last) > 0 && last[0].Name < name {
			last = last[1:]
		}
		switch {
		case err != nil:
		case len(last) > 0 && last[0].same(m):
			m.Value, m.Err = last[0].Value, last[0].Err
		default:
			m.Value, m.Err = decode(codec, m.Path, data, stat)
		}
		members = append(members, m)
	}
	return members, nil
}

// decode decodes the data of a znode. What a codec says, or panics with, is a
// [*coord.DecodeError].
func decode[T any](codec coord.Codec[T], path string, data []byte, stat coord.Stat) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		if err != nil {
			value, err = *new(T), &coord.DecodeError{Path: path, Stat: stat, Err: err}
		}
	}()
	return codec.Decode(bytes.Clone(data)) // the tree keeps its own
}
