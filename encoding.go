package coord

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// An encoder writes msgpack into a buffer that never fails.
type encoder struct {
	buf    bytes.Buffer
	m      *msgpack.Encoder
	format FormatVersion // what is written has the fields of this version
}

// newEncoder returns an encoder of the newest version. Who writes for the log or a
// snapshot sets the one in force.
func newEncoder() *encoder {
	e := &encoder{format: formatVersion}
	e.m = msgpack.NewEncoder(&e.buf)
	return e
}

func must(err error) {
	if err != nil {
		panic("coord: unreachable: encoding into memory: " + err.Error())
	}
}

func (e *encoder) array(n int)       { must(e.m.EncodeArrayLen(n)) }
func (e *encoder) uint(v uint64)     { must(e.m.EncodeUint(v)) }
func (e *encoder) int(v int64)       { must(e.m.EncodeInt(v)) }
func (e *encoder) bool(v bool)       { must(e.m.EncodeBool(v)) }
func (e *encoder) string(s string)   { must(e.m.EncodeString(s)) }
func (e *encoder) bytes(b []byte)    { must(e.m.EncodeBytes(b)) } // nil stays nil
func (e *encoder) null()             { must(e.m.EncodeNil()) }
func (e *encoder) kind(v uint8)      { e.uint(uint64(v)) }
func (e *encoder) member(m MemberID) { e.uint(uint64(m)) }

// A decoder reads msgpack from memory. The first fault sticks; what is read
// behind it is zero. No length is believed that the remaining input cannot hold.
type decoder struct {
	in     *bytes.Reader
	m      *msgpack.Decoder
	err    error
	tmp    []byte
	format FormatVersion // what is read has the fields of this version
}

func newDecoder(b []byte) *decoder {
	in := bytes.NewReader(b)
	return &decoder{in: in, m: msgpack.NewDecoder(in), format: formatVersion}
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
	}
}

// done returns the first fault; input that is left over is one.
func (d *decoder) done() error {
	if d.err == nil && d.in.Len() != 0 {
		d.fail("%d bytes behind the end", d.in.Len())
	}
	return d.err
}

func (d *decoder) keep(err error) {
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("%w: %w", errMalformed, err)
	}
}

// newer reports a format version that this binary does not know.
func (d *decoder) newer(version uint64) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: version %d, this binary knows %d to %d: start this member with a newer one",
			errNewerFormat, version, oldestFormat, formatVersion)
	}
}

// versioned takes note of the version that a command or a snapshot names.
func (d *decoder) versioned(version uint64) {
	switch {
	case version > formatVersion:
		d.newer(version)
	case version < oldestFormat:
		d.fail("version %d, the oldest is %d", version, oldestFormat)
	default:
		d.format = FormatVersion(version)
	}
}

// arrayLen reads the length of an array of at most most elements, or -1 for nil.
// An element takes at least least bytes, so that what is allocated for them is a
// small multiple of the input that is really there.
func (d *decoder) arrayLen(most, least int) int {
	if d.err != nil {
		return 0
	}
	n, err := d.m.DecodeArrayLen()
	d.keep(err)
	if n > most || n > d.in.Len()/least {
		d.fail("array of %d elements, the limit is %d and %d bytes are left", n, most, d.in.Len())
	}
	if d.err != nil {
		return 0
	}
	return n
}

// array reads the head of an array that must have n elements.
func (d *decoder) array(n int) {
	if got := d.arrayLen(n, 1); d.err == nil && got != n {
		d.fail("array of %d elements, want %d", got, n)
	}
}

// list reads the head of an array of any length up to most, whose elements take
// at least least bytes each; nil is no list.
func (d *decoder) list(most, least int) int {
	n := d.arrayLen(most, least)
	if n < 0 {
		d.fail("nil, want an array")
		return 0
	}
	return n
}

func (d *decoder) uint() uint64 {
	if d.err != nil {
		return 0
	}
	v, err := d.m.DecodeUint64()
	d.keep(err)
	return v
}

func (d *decoder) int() int64 {
	if d.err != nil {
		return 0
	}
	v, err := d.m.DecodeInt64()
	d.keep(err)
	return v
}

func (d *decoder) int32() int32 {
	v := d.int()
	if int64(int32(v)) != v {
		d.fail("%d does not fit 32 bits", v)
		return 0
	}
	return int32(v)
}

// small reads a number of at most most.
func (d *decoder) small(most uint64) uint64 {
	v := d.uint()
	if v > most {
		d.fail("%d, the limit is %d", v, most)
		return 0
	}
	return v
}

func (d *decoder) bool() bool {
	if d.err != nil {
		return false
	}
	v, err := d.m.DecodeBool()
	d.keep(err)
	return v
}

// blobLen reads the length of a string or byte string, or -1 for nil.
func (d *decoder) blobLen() int {
	if d.err != nil {
		return -1
	}
	n, err := d.m.DecodeBytesLen()
	d.keep(err)
	if n > d.in.Len() {
		d.fail("%d bytes announced, %d left", n, d.in.Len())
	}
	if d.err != nil {
		return -1
	}
	return n
}

// bytes reads a byte string of its own memory; nil stays nil.
func (d *decoder) bytes() []byte {
	n := d.blobLen()
	if n < 0 {
		return nil
	}
	b := make([]byte, n)
	d.keep(d.m.ReadFull(b))
	return b
}

func (d *decoder) string() string {
	n := d.blobLen()
	if n < 0 {
		d.fail("nil, want a string")
		return ""
	}
	if cap(d.tmp) < n {
		d.tmp = make([]byte, n)
	}
	b := d.tmp[:n]
	d.keep(d.m.ReadFull(b))
	return string(b)
}

func (d *decoder) null() {
	if d.err == nil {
		d.keep(d.m.DecodeNil())
	}
}

// isNil reports whether a nil comes next, without reading it.
func (d *decoder) isNil() bool {
	if d.err != nil {
		return false
	}
	c, err := d.m.PeekCode()
	d.keep(err)
	return err == nil && c == 0xc0
}
