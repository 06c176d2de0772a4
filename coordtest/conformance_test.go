package coordtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"coord"
	"coord/coordtest"
)

type config struct {
	Name  string
	Ports []int
}

// coord's own codecs pass.
func TestOwnCodecs(t *testing.T) {
	values := []config{{}, {"a", []int{1, 2}}, {strings.Repeat("x", 1000), nil}}
	t.Run("JSON", func(t *testing.T) { coordtest.TestCodec(t, coord.JSON[config](), values...) })
	t.Run("Msgpack", func(t *testing.T) { coordtest.TestCodec(t, coord.Msgpack[config](), values...) })
	t.Run("Raw", func(t *testing.T) { coordtest.TestCodec(t, coord.Raw(), nil, []byte{}, []byte("abc")) })
}

// A codec is made of two functions.
type codec struct {
	encode func(string) ([]byte, error)
	decode func([]byte) (string, error)
}

func (c codec) Encode(value string) ([]byte, error) { return c.encode(value) }
func (c codec) Decode(data []byte) (string, error)  { return c.decode(data) }

func TestWrongCodecs(t *testing.T) {
	plain := func(value string) ([]byte, error) { return []byte(value), nil }
	text := func(data []byte) (string, error) { return string(data), nil }
	var buf bytes.Buffer
	for want, wrong := range map[string]codec{
		"Encode: it does not":      {func(string) ([]byte, error) { return nil, errors.New("it does not") }, text},
		`returns "ABC", want`:      {plain, func(data []byte) (string, error) { return strings.ToUpper(string(data)), nil }},
		"decoding data of another": {plain, func(data []byte) (string, error) { return string(data[0]) + string(data[1:]), nil }},
		"has changed with the": {func(value string) ([]byte, error) {
			buf.Reset()
			buf.WriteString(value)
			buf.WriteByte(byte('a' + n.Add(1)%20))
			return buf.Bytes(), nil
		}, text},
		"2000000 bytes of data": {func(string) ([]byte, error) { return make([]byte, 2_000_000), nil }, func([]byte) (string, error) { return "abc", nil }},
	} {
		wantFailure(t, func(tb testing.TB) { coordtest.TestCodec(tb, wrong, "abc") }, want)
	}
	wantFailure(t, func(tb testing.TB) { coordtest.TestCodec(tb, coord.Codec[string](codec{plain, text})) }, "0 were given")
}

var n atomic.Int64

// An auth is an authenticator of one function.
type auth func(ctx context.Context, credential string) ([]string, error)

func (a auth) Authenticate(ctx context.Context, credential []byte) ([]string, error) {
	return a(ctx, string(credential))
}

var credentials = coordtest.Credentials{
	Good: map[string][]string{"alice:wonderland": {"alice"}, "root:toor": {"root", "admins"}},
	Bad:  []string{"alice:looking-glass", "bob:"},
}

func check(_ context.Context, credential string) ([]string, error) {
	if ids := credentials.Good[credential]; ids != nil {
		return ids, nil
	}
	return nil, errors.New("wrong name or password")
}

func TestAuthenticators(t *testing.T) {
	coordtest.TestAuthenticator(t, auth(check), credentials)
	for want, wrong := range map[string]auth{
		"it is refused": func(context.Context, string) ([]string, error) { return nil, errors.New("no") },
		"it is accepted, and proves": func(ctx context.Context, credential string) ([]string, error) {
			name, _, _ := strings.Cut(credential, ":")
			return []string{name}, nil
		},
		`it proves ["root"], want ["admins" "root"]`: func(ctx context.Context, credential string) ([]string, error) {
			ids, err := check(ctx, credential)
			return ids[:min(len(ids), 1)], err
		},
		"the error holds it": func(ctx context.Context, credential string) ([]string, error) {
			ids, err := check(ctx, credential)
			if err != nil {
				err = fmt.Errorf("wrong: %s", credential)
			}
			return ids, err
		},
		"it panicked": func(ctx context.Context, credential string) ([]string, error) {
			if credential == "" {
				panic("no credential")
			}
			return check(ctx, credential)
		},
	} {
		wantFailure(t, func(tb testing.TB) { coordtest.TestAuthenticator(tb, wrong, credentials) }, want)
	}
	wantFailure(t, func(tb testing.TB) { coordtest.TestAuthenticator(tb, nil, credentials) }, "needs an authenticator")
}

// A wrapper changes one method of a client.
type wrapper struct {
	coord.Client
	get    func(data []byte, err error) ([]byte, error)
	create []coord.CreateOption
	ctx    context.Context
}

func (w wrapper) Get(ctx context.Context, path string, opts ...coord.ReadOption) ([]byte, coord.Stat, error) {
	data, stat, err := w.Client.Get(ctx, path, opts...)
	if w.get != nil {
		data, err = w.get(data, err)
	}
	return data, stat, err
}

func (w wrapper) Create(ctx context.Context, path string, data []byte, opts ...coord.CreateOption) (string, coord.Stat, error) {
	if w.ctx != nil {
		ctx = w.ctx
	}
	return w.Client.Create(ctx, path, data, append(opts, w.create...)...)
}

func TestClients(t *testing.T) {
	coordtest.TestClient(t, func(c coord.Client) coord.Client { return c })
	coordtest.TestClient(t, func(c coord.Client) coord.Client { return wrapper{Client: c} })
	kept := []byte("data")
	for want, wrong := range map[string]wrapper{
		"Get of nothing": {get: func(data []byte, err error) ([]byte, error) {
			if err != nil {
				err = fmt.Errorf("it failed: %v", err) //nolint:errorlint // what is wrong with it
			}
			return data, err
		}},
		"data of Get \"\"": {get: func([]byte, error) ([]byte, error) { return nil, nil }},
		"with both changed afterwards": {get: func(data []byte, err error) ([]byte, error) {
			if string(data) == "data" {
				data = kept
			}
			return data, err
		}},
		"znode already exists":           {create: []coord.CreateOption{coord.Persistent}},
		"Create with a context that was": {ctx: t.Context()},
	} {
		wantFailure(t, func(tb testing.TB) {
			coordtest.TestClient(tb, func(c coord.Client) coord.Client {
				wrong.Client = c
				return wrong
			})
		}, want)
	}
	wantFailure(t, func(tb testing.TB) { coordtest.TestClient(tb, nil) }, "TestClient(nil)")
}
