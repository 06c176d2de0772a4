package coord_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
)

type rollout struct {
	Version string         `json:"version" msgpack:"version"`
	Percent int            `json:"percent" msgpack:"percent"`
	Zones   []string       `json:"zones"   msgpack:"zones"`
	Limits  map[string]int `json:"limits"  msgpack:"limits"`
}

// decimal is a codec as a user would write one.
type decimal struct{}

func (decimal) Encode(n int) ([]byte, error) {
	if n < 0 {
		return nil, fmt.Errorf("%d: %w", n, errNegative)
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

func (decimal) Decode(data []byte) (int, error) { return strconv.Atoi(string(data)) }

var errNegative = errors.New("negative")

// isDecodeError fails the test unless err says that the znode at path, of that
// stat, is not what the codec understands.
func isDecodeError(t *testing.T, err error, path string, stat coord.Stat) {
	t.Helper()
	e, ok := errors.AsType[*coord.DecodeError](err)
	switch {
	case !ok:
		t.Errorf("%v is no DecodeError", err)
	case e.Path != path || e.Stat != stat:
		t.Errorf("the DecodeError is of %s, %+v; want %s, %+v", e.Path, e.Stat, path, stat)
	case !strings.Contains(err.Error(), path) || !errors.Is(err, e.Err):
		t.Errorf("%v does not name %s or not wrap %v", err, path, e.Err)
	}
}

func TestTypedCodecs(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	value := rollout{Version: "v2 <é>", Percent: math.MinInt32, Zones: []string{"a", ""}, Limits: map[string]int{"x": 1, "y": 2}}
	t.Run("json", func(t *testing.T) { roundTrip(t, c, coord.JSON[rollout](), value, rollout{}) })
	t.Run("json pointer", func(t *testing.T) { roundTrip(t, c, coord.JSON[*rollout](), &value, nil) })
	t.Run("msgpack", func(t *testing.T) { roundTrip(t, c, coord.Msgpack[rollout](), value, rollout{}) })
	t.Run("msgpack pointer", func(t *testing.T) { roundTrip(t, c, coord.Msgpack[*rollout](), &value, nil) })
	t.Run("msgpack time", func(t *testing.T) {
		roundTrip(t, c, coord.Msgpack[map[string]time.Time](), map[string]time.Time{
			"a": time.Unix(1, 0), "b": time.Unix(1, 0x22dddddd), "c": time.Unix(-1, 5),
		})
	})
	t.Run("raw", func(t *testing.T) { roundTrip(t, c, coord.Raw(), []byte{0, 0xff}, []byte{}, nil) })
	t.Run("own", func(t *testing.T) { roundTrip[int](t, c, decimal{}, 0, 42, math.MaxInt) })
}

// roundTrip writes and reads values in every way there is.
func roundTrip[T any](t *testing.T, c coord.Client, codec coord.Codec[T], values ...T) {
	typed := coord.NewTyped(c, codec)
	same := func(how string, got, want T, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, %v; want %#v", how, got, err, want)
		}
	}
	for _, value := range values {
		parent, _ := mustCreate(t, c, "/r-", "", coord.PersistentSequential)
		w, err := typed.Watch(t.Context(), parent, coord.Subtree)
		if err != nil {
			t.Fatal(err)
		}
		path, created, err := typed.Create(t.Context(), parent+"/n-", value, coord.PersistentSequential)
		if err != nil {
			t.Fatal(err)
		}
		got, stat, err := typed.Get(t.Context(), path, coord.Linearizable())
		same("Get", got, value, err)
		if stat != created {
			t.Errorf("Get: stat %+v, want %+v", stat, created)
		}
		if _, err := typed.SetData(t.Context(), path, value, coord.WithVersion(0)); err != nil {
			t.Errorf("SetData = %v", err)
		}
		if _, err := typed.SetData(t.Context(), path, value, coord.WithVersion(0)); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("SetData of another version = %v", err)
		}
		got, stat, err = typed.Update(t.Context(), path, func(v T) (T, error) { return v, nil })
		same("Update", got, value, err)
		children, _, err := typed.Children(t.Context(), parent)
		if err != nil || len(children) != 1 || children[0].Path != path || parent+"/"+children[0].Name != path || children[0].Stat != stat {
			t.Fatalf("Children = %+v, %v", children, err)
		}
		same("Children", children[0].Value, value, children[0].Err)
		n := 0
		for ev, err := range w.Events() {
			if err == nil {
				err = ev.DecodeErr
			}
			same(ev.String(), ev.Value, value, err)
			if n++; n == 3 {
				break
			}
		}
		if !errors.Is(w.Err(), coord.ErrClosed) || w.Path() != parent {
			t.Errorf("the watch of %s ended with %v", w.Path(), w.Err())
		}
	}
}

func TestTypedRawIsNotShared(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	typed := coord.NewTyped(c, coord.Raw())
	data := []byte("abc")
	if _, _, err := typed.Create(t.Context(), "/a/b", data, coord.WithParents()); err != nil {
		t.Fatal(err)
	}
	data[0] = 'x'
	children, _, err := typed.Children(t.Context(), "/a")
	if err != nil {
		t.Fatal(err)
	}
	children[0].Value[0] = 'y'
	if got, _ := mustGet(t, c, "/a/b"); got != "abc" {
		t.Errorf("the znode holds %q", got)
	}
}

func TestMsgpackRefuses(t *testing.T) {
	deep := func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n), 0xc0) }
	for name, data := range map[string][]byte{
		"nothing": nil, "an end in the head": {0xdd, 0, 0}, "an end in the body": {0xa3, 'a'}, "an end among elements": {0x92, 1},
		"bytes behind": {1, 2}, "no code": {0xc1}, "a huge length": {0xdf, 0xff, 0xff, 0xff, 0xff}, "a bottomless one": deep(16 << 20),
		"one too deep": deep(1001),
	} {
		if v, err := coord.Msgpack[any]().Decode(data); err == nil {
			t.Errorf("%s decodes to %v", name, v)
		}
	}
	for _, data := range [][]byte{
		deep(1000),
		{0xc4, 1, 0},
		{0xc5, 0, 1, 0},
		{0xc6, 0, 0, 0, 1, 0},
		{0xca, 0, 0, 0, 0},
		{0xcb, 0, 0, 0, 0, 0, 0, 0, 0},
		{0xcc, 1},
		{0xcd, 0, 1},
		{0xce, 0, 0, 0, 1},
		{0xcf, 0, 0, 0, 0, 0, 0, 0, 1},
		{0xd0, 1},
		{0xd1, 0, 1},
		{0xd2, 0, 0, 0, 1},
		{0xd3, 0, 0, 0, 0, 0, 0, 0, 1},
		{0xd6, 0xff, 0, 0, 0, 1},
		{0xd7, 0xff, 0, 0, 0, 0, 0, 0, 0, 1},
		{0xc7, 12, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
		{0xd9, 1, 'a'},
		{0xda, 0, 1, 'a'},
		{0xdb, 0, 0, 0, 1, 'a'},
		{0xdc, 0, 1, 1},
		{0xdd, 0, 0, 0, 1, 1},
		{0xde, 0, 1, 0xa1, 'a', 1},
		{0xdf, 0, 0, 0, 1, 0xa1, 'a', 1},
		{0x82, 0xa1, 'a', 0x91, 1, 0xa1, 'b', 0x80},
		{0x00},
		{0x7f},
		{0xe0},
		{0xff},
		{0xc2},
		{0xc3},
		{0xa0},
		{0x90},
	} {
		if _, err := coord.Msgpack[any]().Decode(data); err != nil {
			t.Errorf("% x: %v", data[:min(len(data), 16)], err)
		}
	}
}

// What is in an extension is no value, whatever the library makes of it.
func TestMsgpackExtensionInPlaceOfMap(t *testing.T) {
	data := []byte("\xd7\xff\x82\xa0\xdd\xff\xff\xff\xff\xff")
	if v, err := coord.Msgpack[map[string]any]().Decode(data); err == nil {
		t.Errorf("an extension decodes to %v", v)
	}
	if v, err := coord.Msgpack[map[any]any]().Decode([]byte{0x81, 0x91, 1, 1}); err == nil || v != nil {
		t.Errorf("a map with a list as key decodes to %v", v)
	}
}

// FuzzTypedMsgpack finds bytes that anybody may have written and that end a reader.
func FuzzTypedMsgpack(f *testing.F) {
	f.Add([]byte{0x82, 0xa1, 'a', 0x91, 1, 0xa1, 'b', 0x80})
	f.Add([]byte{0xd7, 0xff, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0x81, 0x91, 1, 1})
	f.Add([]byte("\xd70\x82\x9a\xdd\xdd\xdd\xdd\xdd\xdd"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = coord.Msgpack[any]().Decode(data)
		_, _ = coord.Msgpack[rollout]().Decode(data)
		_, _ = coord.Msgpack[map[any]any]().Decode(data)
	})
}

func TestTypedUpdateUnderContention(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const callers, each = 9, 20
		mustCreate(t, e.Member(1), "/n", "0")
		var wg sync.WaitGroup
		for i := range callers {
			typed := coord.NewTyped[int](e.Member(i%3+1), decimal{})
			wg.Go(func() {
				last := 0
				for range each {
					n, _, err := typed.Update(t.Context(), "/n", func(n int) (int, error) { return n + 1, nil })
					if err != nil || n <= last {
						t.Errorf("Update = %d, %v after %d", n, err, last)
						return
					}
					last = n
				}
			})
		}
		wg.Wait()
		got, stat := mustGet(t, e.Member(2), "/n", coord.Linearizable())
		if got != strconv.Itoa(callers*each) || stat.Version != callers*each {
			t.Errorf("%s after %d increments, version %d", got, callers*each, stat.Version)
		}
	})
}

func TestTypedUpdateEnds(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	typed := coord.NewTyped[int](c, decimal{})
	mustCreate(t, c, "/n", "1")
	_, bad := mustCreate(t, c, "/bad", "x")
	identity := func(n int) (int, error) { return n, nil }
	canceled, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	// Its own error ends it, even one that looks like a lost race.
	_, _, err := typed.Update(t.Context(), "/n", func(int) (int, error) { return 7, coord.ErrBadVersion })
	if err != error(coord.ErrBadVersion) { //nolint:errorlint // it is to be returned as it is
		t.Errorf("Update whose function fails = %v", err)
	}
	if n, stat, err := typed.Update(t.Context(), "/none", identity); !errors.Is(err, coord.ErrNoNode) || n != 0 || stat != (coord.Stat{}) {
		t.Errorf("Update of nothing = %d, %+v, %v", n, stat, err)
	}
	_, _, err = typed.Update(t.Context(), "/bad", identity)
	isDecodeError(t, err, "/bad", bad)
	if _, _, err = typed.Update(t.Context(), "/n", func(int) (int, error) { return -1, nil }); !errors.Is(err, errNegative) {
		t.Errorf("Update to what cannot be encoded = %v", err)
	}
	if _, _, err = typed.Update(canceled, "/n", identity); !errors.Is(err, why) {
		t.Errorf("Update with a context that has ended = %v", err)
	}
	if n, stat, err := typed.Get(t.Context(), "/n"); n != 1 || stat.Version != 0 || err != nil {
		t.Errorf("the znode holds %d, version %d, %v; nothing was to be written", n, stat.Version, err)
	}
	for what, err := range map[string]error{
		"create":  second(typed.Create(t.Context(), "/new", -1)),
		"setData": first(typed.SetData(t.Context(), "/n", -1)),
	} {
		op, ok := errors.AsType[*coord.OpError](err)
		if !ok || op.Op != what || !errors.Is(err, errNegative) {
			t.Errorf("%s of what cannot be encoded = %v", what, err)
		}
	}
}

func first[T any](_ T, err error) error          { return err }
func second[T, U any](_ T, _ U, err error) error { return err }

func TestTypedUpdateOfZnodeMadeAnew(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	typed := coord.NewTyped[int](c, decimal{})
	mustCreate(t, c, "/n", "1")
	var seen []int
	n, stat, err := typed.Update(t.Context(), "/n", func(n int) (int, error) {
		if seen = append(seen, n); len(seen) == 1 { // the version of the new znode is the same
			if err := c.Delete(t.Context(), "/n"); err != nil {
				t.Error(err)
			}
			mustCreate(t, c, "/n", "10")
		}
		return n + 1, nil
	})
	if n != 11 || stat.Version != 1 || err != nil || !slices.Equal(seen, []int{1, 10}) {
		t.Errorf("Update = %d, version %d, %v; it was given %v", n, stat.Version, err, seen)
	}
	_, _, err = typed.Update(t.Context(), "/n", func(n int) (int, error) { return n, c.Delete(t.Context(), "/n") })
	if !errors.Is(err, coord.ErrNoNode) {
		t.Errorf("Update of a znode deleted meanwhile = %v", err)
	}
}

// A behindClient answers reads without options from its past, and can lose the
// answers to writes.
type behindClient struct {
	coord.Client
	data   []byte
	stat   coord.Stat
	none   bool // there was no znode in the past
	reads  atomic.Int32
	writes atomic.Int32
	lose   error
}

func (c *behindClient) Get(ctx context.Context, path string, opts ...coord.ReadOption) ([]byte, coord.Stat, error) {
	c.reads.Add(1)
	if len(opts) == 0 && c.none {
		return nil, coord.Stat{}, &coord.OpError{Op: "get", Path: path, Err: coord.ErrNoNode}
	}
	if len(opts) == 0 && c.data != nil {
		return bytes.Clone(c.data), c.stat, nil
	}
	return c.Client.Get(ctx, path, opts...)
}

func (c *behindClient) SetData(ctx context.Context, path string, data []byte, opts ...coord.SetDataOption) (coord.Stat, error) {
	c.writes.Add(1)
	stat, err := c.Client.SetData(ctx, path, data, opts...)
	if c.lose != nil {
		return coord.Stat{}, c.lose
	}
	return stat, err
}

func TestTypedUpdateOnMemberBehind(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	_, old := mustCreate(t, c, "/n", "1")
	if _, err := c.SetData(t.Context(), "/n", []byte("5")); err != nil {
		t.Fatal(err)
	}
	for i, behind := range []*behindClient{{Client: c, data: []byte("1"), stat: old}, {Client: c, none: true}} {
		typed := coord.NewTyped[int](behind, decimal{})
		n, _, err := typed.Update(t.Context(), "/n", func(n int) (int, error) { return n + 1, nil })
		if n != 6+i || err != nil || behind.reads.Load() != 2 {
			t.Errorf("Update = %d, %v after %d reads", n, err, behind.reads.Load())
		}
	}
}

func TestTypedUpdateOfUnknownOutcome(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	mustCreate(t, c, "/n", "1")
	lossy := &behindClient{Client: c, lose: &coord.OpError{Op: "setData", Path: "/n", Err: errors.Join(coord.ErrUnknownOutcome, coord.ErrTimeout)}}
	_, _, err := coord.NewTyped[int](lossy, decimal{}).Update(t.Context(), "/n", func(n int) (int, error) { return n + 1, nil })
	if !errors.Is(err, coord.ErrUnknownOutcome) || lossy.writes.Load() != 1 {
		t.Errorf("Update = %v after %d writes", err, lossy.writes.Load())
	}
	if got, _ := mustGet(t, c, "/n"); got != "2" {
		t.Errorf("the znode holds %s", got)
	}
}

func TestTypedChildren(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	typed := coord.NewTyped[int](c, decimal{})
	_, parent := mustCreate(t, c, "/p", "not a number either")
	for i := range 5 {
		mustCreate(t, c, fmt.Sprintf("/p/c%d", 4-i), strconv.Itoa(4-i))
	}
	_, bad := mustCreate(t, c, "/p/c22", "x")
	mustCreate(t, c, "/p/c33", "33", coord.WithACL(coord.ACL{Perms: coord.PermWrite, ID: coord.ID{Scheme: "world", ID: "anyone"}}))
	all, stat, err := typed.Children(t.Context(), "/p", coord.Linearizable())
	if err != nil || stat.Czxid != parent.Czxid || stat.NumChildren != 7 {
		t.Fatalf("Children: %+v, %v", stat, err)
	}
	var got []string
	for _, v := range all {
		got = append(got, fmt.Sprintf("%s %s %d %v", v.Path, v.Name, v.Value, v.Err == nil))
	}
	want := []string{
		"/p/c0 c0 0 true", "/p/c1 c1 1 true", "/p/c2 c2 2 true", "/p/c22 c22 0 false", "/p/c3 c3 3 true", "/p/c33 c33 0 false", "/p/c4 c4 4 true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("Children: %q\nwant %q", got, want)
	}
	isDecodeError(t, all[3].Err, "/p/c22", bad)
	if !errors.Is(all[5].Err, coord.ErrNoAuth) || all[5].Stat != (coord.Stat{}) {
		t.Errorf("a child that may not be read: %+v", all[5])
	}
	page, _, err := typed.Children(t.Context(), "/p", coord.After("c1"), coord.Limit(2))
	if err != nil || !slices.EqualFunc(page, all[2:4], func(a, b coord.Value[int]) bool { return a.Path == b.Path && a.Stat == b.Stat }) {
		t.Errorf("a page: %+v, %v", page, err)
	}
	root, _, err := typed.Children(t.Context(), "/", coord.After("coord"), coord.Limit(1))
	if err != nil || len(root) != 1 || root[0].Path != "/p" {
		t.Errorf("the root: %+v, %v", root, err)
	}
	for path, want := range map[string]error{"/none": coord.ErrNoNode, "/p/c33": coord.ErrNoAuth, "p": coord.ErrBadArguments} {
		_, _, err := typed.Children(t.Context(), path)
		if op, ok := errors.AsType[*coord.OpError](err); !ok || op.Op != "children" || op.Path != path || !errors.Is(err, want) {
			t.Errorf("Children(%s) = %v", path, err)
		}
	}
	if _, _, err := typed.Children(t.Context(), "/p", coord.Limit(-1)); !errors.Is(err, coord.ErrBadArguments) {
		t.Errorf("Limit(-1): %v", err)
	}
	_ = c.Close()
	_, _, err = typed.Children(t.Context(), "/p")
	if op, ok := errors.AsType[*coord.OpError](err); !ok || op.Op != "children" || op.Path != "/p" || !errors.Is(err, coord.ErrClosed) {
		t.Errorf("Children after Close = %v", err)
	}
}

func TestTypedDecodeErrorOfGet(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	mustCreate(t, c, "/n", "")
	for _, data := range []string{"{", "{} {}", "[]", ""} {
		stat, _ := c.SetData(t.Context(), "/n", []byte(data))
		v, got, err := coord.NewTyped(c, coord.JSON[rollout]()).Get(t.Context(), "/n")
		isDecodeError(t, err, "/n", stat)
		if got != stat || !reflect.DeepEqual(v, rollout{}) {
			t.Errorf("%q: %+v, %+v", data, v, got)
		}
	}
	// A field that is no number: the part that was decoded is not returned.
	stat, _ := c.SetData(t.Context(), "/n", []byte(`{"version": "v1", "percent": "x", "zones": ["a"]}`))
	v, _, err := coord.NewTyped(c, coord.JSON[rollout]()).Get(t.Context(), "/n")
	isDecodeError(t, err, "/n", stat)
	if v.Version != "" || v.Zones != nil {
		t.Errorf("half of a value: %+v", v)
	}
}

func TestTypedWatch(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	typed := coord.NewTyped[int](c, decimal{})
	mustCreate(t, c, "/p", "1")
	_, bad := mustCreate(t, c, "/p/bad", "x")
	opts := make([]coord.WatchOption, 1, 2) // has room that is not ours
	opts[0] = coord.WithInitial()
	w, err := typed.Watch(t.Context(), "/p", coord.Subtree, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if opts[:2][1] != nil {
		t.Error("Watch wrote into the caller's options")
	}
	if _, err := typed.SetData(t.Context(), "/p/bad", 2); err != nil {
		t.Fatal(err)
	}
	broken, err := c.SetData(t.Context(), "/p/bad", []byte("y"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "/p/bad"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for ev, err := range w.Events() {
		if err != nil {
			if !errors.Is(err, coord.ErrClosed) || len(got) != 5 {
				t.Errorf("the watch ended with %v after %q", err, got)
			}
			break
		}
		got = append(got, fmt.Sprintf("%v %s %v %d", ev.Type, ev.Path, ev.Initial, ev.Value))
		switch len(got) {
		case 2:
			isDecodeError(t, ev.DecodeErr, "/p/bad", bad)
		case 4:
			isDecodeError(t, ev.DecodeErr, "/p/bad", broken)
		default:
			if ev.DecodeErr != nil {
				t.Errorf("%v: %v", ev, ev.DecodeErr)
			}
		}
		if len(got) == 5 {
			if !strings.HasPrefix(ev.Position.String(), w.Position().String()) { // which is behind the whole write
				t.Errorf("the watch is at %v, its event at %v", w.Position(), ev.Position)
			}
			w.Close() // the loop is told why it ends
		}
	}
	want := []string{
		"NodeCreated /p true 1", "NodeCreated /p/bad true 0", "NodeDataChanged /p/bad false 2", "NodeDataChanged /p/bad false 0", "NodeDeleted /p/bad false 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events: %q\nwant %q", got, want)
	}
}

func TestTypedWatchOfChildren(t *testing.T) {
	c := coordtest.NewEnsemble(t, 1).Member(1)
	typed := coord.NewTyped[int](c, decimal{})
	mustCreate(t, c, "/p", "")
	mustCreate(t, c, "/p/a", "1")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	w, err := typed.Watch(ctx, "/p", coord.Children, coord.WithInitial(), coord.WithProgress())
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, "/p/b", "2")
	why := errors.New("why")
	var got []string
	for ev, err := range w.Events() {
		if err != nil {
			if !errors.Is(err, why) || !errors.Is(w.Err(), why) || ev.Type != 0 {
				t.Errorf("the watch ended with %v, %v", ev, err)
			}
			break
		}
		got = append(got, fmt.Sprintf("%v %s %d %v", ev.Type, ev.Path, ev.Value, ev.DecodeErr))
		if len(got) == 3 {
			cancel(why)
		}
	}
	if want := []string{"NodeCreated /p/a 1 <nil>", "Progress  0 <nil>", "NodeChildrenChanged /p 0 <nil>"}; !slices.Equal(got, want) {
		t.Errorf("events: %q\nwant %q", got, want)
	}
	if _, err := typed.Watch(t.Context(), "p", coord.Node); !errors.Is(err, coord.ErrBadArguments) {
		t.Errorf("Watch of a malformed path = %v", err)
	}
}

func ExampleTyped_Update() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	type Rollout struct {
		Version string
		Percent int
	}
	rollouts := coord.NewTyped(c, coord.JSON[Rollout]())
	_, _, err := rollouts.Create(ctx, "/rollout", Rollout{Version: "v2"})
	fmt.Println(err)
	r, stat, err := rollouts.Update(ctx, "/rollout", func(r Rollout) (Rollout, error) {
		if r.Percent >= 100 {
			return r, errors.New("done already")
		}
		r.Percent += 25
		return r, nil
	})
	fmt.Println(r, stat.Version, err)
	data, _, err := c.Get(ctx, "/rollout")
	fmt.Println(string(data), err)
	// Output:
	// <nil>
	// {v2 25} 1 <nil>
	// {"Version":"v2","Percent":25} <nil>
}
