package jute

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Record is a request or an answer, without its header.
type Record interface {
	// AppendTo appends the record's bytes to b.
	AppendTo(b []byte) []byte
	// DecodeFrom sets the record from what d has left, or fails d.
	DecodeFrom(d *Decoder)
}

// ErrMalformed is what errors of decoding satisfy errors.Is for.
var ErrMalformed = errors.New("jute: malformed")

// Marshal returns the bytes of a record.
func Marshal(r Record) []byte { return r.AppendTo(nil) }

// Unmarshal sets a record from b. Bytes behind the record mean nothing. Buffers in
// the record share the memory of b.
func Unmarshal(b []byte, r Record) error {
	d := NewDecoder(b)
	r.DecodeFrom(d)
	return d.Err()
}

// A Decoder reads values from a slice, one after the other. After a fault it
// returns zero values, and Err says what was wrong.
type Decoder struct {
	rest []byte
	err  error
}

// NewDecoder returns a Decoder of what is in b.
func NewDecoder(b []byte) *Decoder { return &Decoder{rest: b} }

// Err returns the first fault, or nil. It satisfies errors.Is for ErrMalformed.
func (d *Decoder) Err() error { return d.err }

// Rest returns what was not read yet; it shares the memory of the input.
func (d *Decoder) Rest() []byte { return d.rest }

// Fail makes the Decoder fail, unless it has already.
func (d *Decoder) Fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	d.rest = nil
}

// take returns the next n bytes, or nil if there are fewer.
func (d *Decoder) take(n int, what string) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.rest) {
		d.Fail("%s of %d bytes, %d are left", what, n, len(d.rest))
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// Bool reads a bool: every byte but zero is true.
func (d *Decoder) Bool() bool {
	b := d.take(1, "bool")
	return b != nil && b[0] != 0
}

// Int reads an int32.
func (d *Decoder) Int() int32 {
	if b := d.take(4, "int"); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// Long reads an int64.
func (d *Decoder) Long() int64 {
	if b := d.take(8, "long"); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// Buffer reads a buffer: nil is null, and empty is not nil. It shares the memory
// of the input.
func (d *Decoder) Buffer() []byte {
	n := d.Int()
	switch {
	case d.err != nil || n == -1:
		return nil
	case n < 0:
		d.Fail("length %d", n)
		return nil
	}
	return d.take(int(n), "string or buffer")
}

// String reads a string that must not be null.
func (d *Decoder) String() string {
	b := d.Buffer()
	if b == nil && d.err == nil {
		d.Fail("null where a string is needed")
	}
	return string(b)
}

// atNull reports whether a null string or buffer comes next.
func (d *Decoder) atNull() bool {
	return len(d.rest) >= 4 && int32(binary.BigEndian.Uint32(d.rest)) == -1
}

// Text reads a string that may be null, which is the empty one then.
func (d *Decoder) Text() string { return string(d.Buffer()) }

// NullString reads a string, or nil for null.
func (d *Decoder) NullString() *string {
	b := d.Buffer()
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// count reads the number of elements of a vector, each of which takes at least
// size bytes; -1 is null. Other negative counts are empty vectors, as for ZooKeeper.
func (d *Decoder) count(size int) int {
	n := d.Int()
	switch {
	case d.err != nil || n == -1:
		return -1
	case n < 0:
		return 0
	case int(n) > len(d.rest)/size:
		d.Fail("vector of %d elements, %d bytes are left", n, len(d.rest))
		return -1
	}
	return int(n)
}

// vector reads a vector: nil is null, and empty is not nil.
func vector[T any](d *Decoder, size int, element func(*Decoder) T) []T {
	n := d.count(size)
	if n < 0 {
		return nil
	}
	all := make([]T, 0, n)
	for range n {
		if d.err != nil {
			return nil
		}
		all = append(all, element(d))
	}
	if d.err != nil {
		return nil
	}
	return all
}

// Strings reads a vector of strings. A null in it is an empty string.
func (d *Decoder) Strings() []string { return vector(d, 4, (*Decoder).Text) }

// AppendBool appends a bool.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendInt appends an int32.
func AppendInt(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }

// AppendLong appends an int64.
func AppendLong(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

// AppendBuffer appends a buffer; nil is null.
func AppendBuffer(b, v []byte) []byte {
	if v == nil {
		return AppendInt(b, -1)
	}
	return append(AppendInt(b, int32(len(v))), v...)
}

// AppendString appends a string.
func AppendString(b []byte, v string) []byte { return append(AppendInt(b, int32(len(v))), v...) }

// AppendNullString appends a string, or null for nil.
func AppendNullString(b []byte, v *string) []byte {
	if v == nil {
		return AppendInt(b, -1)
	}
	return AppendString(b, *v)
}

// AppendStrings appends a vector of strings; nil is null.
func AppendStrings(b []byte, v []string) []byte {
	return appendVector(b, v, AppendString)
}

func appendVector[T any](b []byte, v []T, element func([]byte, T) []byte) []byte {
	if v == nil {
		return AppendInt(b, -1)
	}
	b = AppendInt(b, int32(len(v)))
	for _, e := range v {
		b = element(b, e)
	}
	return b
}
