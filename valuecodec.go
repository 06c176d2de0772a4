package coord

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// A Codec turns values into the data of znodes and back, for a [Typed]. [JSON],
// [Msgpack] and [Raw] make one; a program may bring its own. It must be safe for
// concurrent use.
//
// Encode's bytes are not modified and not kept. Decode is given bytes that are its
// own: it may keep and modify them. They are nil for a znode with null data.
type Codec[T any] interface {
	Encode(value T) ([]byte, error)
	Decode(data []byte) (T, error)
}

// A DecodeError says that the data of a znode is not what the [Codec] of a [Typed]
// understands.
type DecodeError struct {
	Path string
	Stat Stat  // of the znode, when the data was read
	Err  error // the codec's
}

// Error returns for example "coord: decode /a, version 3: unexpected end of JSON input".
func (e *DecodeError) Error() string {
	return fmt.Sprintf("coord: decode %s, version %d: %v", quotePath(e.Path), e.Stat.Version, e.Err)
}

// Unwrap returns e.Err.
func (e *DecodeError) Unwrap() error { return e.Err }

// JSON returns a Codec that writes values as package encoding/json does. Fields
// that T does not have are ignored when decoding, so that versions of a program
// which differ in them can read each other; null and empty data does not decode.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Encode(value T) ([]byte, error) { return json.Marshal(value) }

func (jsonCodec[T]) Decode(data []byte) (T, error) {
	var value T
	if err := json.Unmarshal(data, &value); err != nil {
		return *new(T), err
	}
	return value, nil
}

// Msgpack returns a Codec that writes values as MessagePack, in the way of
// github.com/vmihailenco/msgpack/v5, whose struct tags it knows. Fields that T
// does not have are ignored when decoding; null and empty data does not decode,
// nor does what has bytes behind the value or nests more than 1000 deep. Interned
// strings are not supported. A panic while decoding becomes an error.
func Msgpack[T any]() Codec[T] { return msgpackCodec[T]{} }

type msgpackCodec[T any] struct{}

func (msgpackCodec[T]) Encode(value T) ([]byte, error) { return msgpack.Marshal(value) }

func (msgpackCodec[T]) Decode(data []byte) (value T, err error) {
	r, err := newMsgpackReader(data)
	if err != nil {
		return value, err
	}
	defer func() {
		if p := recover(); p != nil { // for one, the library makes lists the keys of maps
			value, err = *new(T), fmt.Errorf("msgpack: panic: %v", p)
		}
	}()
	if err := msgpack.NewDecoder(r).Decode(&value); err != nil {
		return *new(T), err
	}
	return value, nil
}

// Raw returns the Codec of programs that want bytes as they are. Null data (nil)
// and empty data stay different.
func Raw() Codec[[]byte] { return rawCodec{} }

type rawCodec struct{}

func (rawCodec) Encode(value []byte) ([]byte, error) { return value, nil }
func (rawCodec) Decode(data []byte) ([]byte, error)  { return data, nil }

const maxMsgpackDepth = 1000

var (
	errMsgpackShort = errors.New("msgpack: unexpected end")
	errMsgpackDeep  = fmt.Errorf("msgpack: nested more than %d deep", maxMsgpackDepth)
)

// A msgpackReader stands between the library and data that anybody may have
// written. The library recurses without a bound and allocates what a length says
// before it has seen the elements, so that a few bytes could end whoever reads
// them; nothing recovers from a stack or heap that overflows. The data is checked
// for that first. What remains is that the library, where it wants a map and finds
// an extension, goes on inside of that, where everything can be: the reader gives
// the body of an extension only as a whole.
type msgpackReader struct {
	*bytes.Reader
	extensions map[int]struct{} // the places where a body starts, from the end
}

var errMsgpackExtension = errors.New("msgpack: extension in place of another value")

// ReadByte reads what is to be a code.
func (r *msgpackReader) ReadByte() (byte, error) {
	if _, inside := r.extensions[r.Len()]; inside {
		return 0, errMsgpackExtension
	}
	return r.Reader.ReadByte()
}

// newMsgpackReader returns a reader of data, or says what is wrong with its form,
// which must be that of one value.
func newMsgpackReader(data []byte) (*msgpackReader, error) {
	r := &msgpackReader{Reader: bytes.NewReader(data)}
	rest := data
	open := []uint64{1} // how many elements are to come at each depth
	for len(open) > 0 {
		last := len(open) - 1
		if open[last] == 0 {
			open = open[:last]
			continue
		}
		open[last]--
		if len(rest) == 0 {
			return nil, errMsgpackShort
		}
		head, body, elements := msgpackForm(rest)
		if n := uint64(len(rest)); head > n || body > n-head {
			return nil, errMsgpackShort
		}
		if code := rest[0]; body > 0 && (code >= 0xc7 && code <= 0xc9 || code >= 0xd4 && code <= 0xd8) {
			if r.extensions == nil {
				r.extensions = make(map[int]struct{})
			}
			r.extensions[len(rest)-int(head)] = struct{}{}
		}
		rest = rest[head+body:]
		if elements > 0 {
			if len(open) > maxMsgpackDepth {
				return nil, errMsgpackDeep
			}
			if elements > uint64(len(rest)) {
				return nil, errMsgpackShort
			}
			open = append(open, elements)
		}
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("msgpack: %d bytes behind the value", len(rest))
	}
	return r, nil
}

// msgpackForm returns the size of the head of the value at the start of b, that of
// the bytes that follow it, and how many values it contains. What b lacks of the
// head counts as zero.
func msgpackForm(b []byte) (head, body, elements uint64) {
	count := func(size int) uint64 {
		var be [8]byte
		copy(be[8-size:], b[1:])
		return binary.BigEndian.Uint64(be[:])
	}
	code := b[0]
	low := uint64(code)
	switch {
	case code < 0x80, code >= 0xe0, code >= 0xc0 && code <= 0xc3: // small integer, nil, bool
		return 1, 0, 0
	case code < 0x90: // small map
		return 1, 0, 2 * (low & 0x0f)
	case code < 0xa0: // small array
		return 1, 0, low & 0x0f
	case code < 0xc0: // small string
		return 1, low & 0x1f, 0
	case code <= 0xc6: // binary
		size := 1 << (code - 0xc4)
		return uint64(1 + size), count(size), 0
	case code <= 0xc9: // extension
		size := 1 << (code - 0xc7)
		return uint64(2 + size), count(size), 0
	case code <= 0xcb: // float
		return 1, 4 << (code - 0xca), 0
	case code <= 0xcf: // unsigned integer
		return 1, 1 << (code - 0xcc), 0
	case code <= 0xd3: // integer
		return 1, 1 << (code - 0xd0), 0
	case code <= 0xd8: // extension of a fixed size
		return 2, 1 << (code - 0xd4), 0
	case code <= 0xdb: // string
		size := 1 << (code - 0xd9)
		return uint64(1 + size), count(size), 0
	case code <= 0xdd: // array
		size := 2 << (code - 0xdc)
		return uint64(1 + size), 0, count(size)
	default: // map
		size := 2 << (code - 0xde)
		return uint64(1 + size), 0, 2 * count(size)
	}
}

// decode decodes the data of a znode, which then belongs to the codec.
func decode[T any](codec Codec[T], path string, data []byte, stat Stat) (T, error) {
	value, err := codec.Decode(data)
	if err != nil {
		return *new(T), &DecodeError{Path: path, Stat: stat, Err: err}
	}
	return value, nil
}
