package coordtest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"coord"
)

// TestCodec tests a [coord.Codec] with values that it must be able to write, one at
// least: what it writes it reads again, equal by [reflect.DeepEqual]; what is written is
// not changed by a later call; it may be used concurrently (which only the race
// detector is sure to find); data that somebody else wrote, cut short, changed, empty or
// null, is an error or some value, and no panic; and a [coord.Typed] with it works in an
// ensemble. The name says what it does, and not that it is a test of coord's.
func TestCodec[T any](tb testing.TB, codec coord.Codec[T], values ...T) {
	tb.Helper()
	if codec == nil || len(values) == 0 {
		tb.Fatalf("coordtest: TestCodec needs a codec, and values to write: %d were given", len(values))
	}
	var written [][]byte
	wrong := false
	for i, value := range values {
		data, err := encode(codec, value)
		if err != nil {
			tb.Errorf("coordtest: codec: value %d: Encode: %v", i, err)
			return
		}
		written = append(written, bytes.Clone(data))
		again, err := encode(codec, value)
		if err != nil {
			wrong = true
			tb.Errorf("coordtest: codec: value %d: the second Encode: %v", i, err)
		}
		if !bytes.Equal(data, written[i]) {
			wrong = true
			tb.Errorf("coordtest: codec: value %d: what Encode returned has changed with the next call: %q was %q", i, data, written[i])
		}
		for _, data := range [][]byte{written[i], again} {
			if err := sameValue(codec, data, value); err != nil {
				wrong = true
				tb.Errorf("coordtest: codec: value %d: %v", i, err)
			}
		}
	}
	if wrong {
		return // concurrent use of it would only tell the same, by data races
	}
	if err := hostileData(codec, written); err != nil {
		tb.Errorf("coordtest: codec: %v", err)
	}
	if err := usedAtOnce(codec, written, values); err != nil {
		tb.Errorf("coordtest: codec: used concurrently: %v", err)
	}
	if err := throughTyped(tb, codec, values); err != nil {
		tb.Errorf("coordtest: codec: in an ensemble: %v", err)
	}
}

// encode is codec.Encode, with panics as errors.
func encode[T any](codec coord.Codec[T], value T) (data []byte, err error) {
	defer recovered(&err)
	return codec.Encode(value)
}

// decode is codec.Decode of a copy, as the contract has it, with panics as errors.
func decode[T any](codec coord.Codec[T], data []byte) (value T, err error) {
	defer recovered(&err)
	return codec.Decode(bytes.Clone(data))
}

// errPanic says that somebody panicked.
var errPanic = errors.New("it panicked")

// recovered makes a panic an error. It is to be deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", errPanic, p)
	}
}

func sameValue[T any](codec coord.Codec[T], data []byte, want T) error {
	got, err := decode(codec, data)
	if err != nil {
		return fmt.Errorf("decoding %q: %w", data, err)
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("decoding %q returns %#v, want %#v", data, got, want)
	}
	return nil
}

// hostileData has a codec read what it did not write.
func hostileData[T any](codec coord.Codec[T], written [][]byte) error {
	hostile := [][]byte{nil, {}, {0}, {0xff}, bytes.Repeat([]byte{0x91}, 1<<16), bytes.Repeat([]byte("["), 1<<16), {0xdf, 0xff, 0xff, 0xff, 0xff}}
	rng := dice(1, 1)
	for _, data := range written {
		for cut := range min(len(data), 100) {
			hostile = append(hostile, data[:cut])
		}
		for range 200 {
			if len(data) > 0 {
				changed := bytes.Clone(data)
				changed[rng.IntN(len(changed))] ^= byte(1 << rng.IntN(8))
				hostile = append(hostile, changed)
			}
		}
	}
	for _, data := range hostile {
		if _, err := decode(codec, data); errors.Is(err, errPanic) {
			return fmt.Errorf("decoding data of another: %w; the data: %q", err, cutData(data))
		}
	}
	return nil
}

func cutData(data []byte) []byte { return data[:min(len(data), 100)] }

// usedAtOnce has several goroutines use a codec.
func usedAtOnce[T any](codec coord.Codec[T], written [][]byte, values []T) error {
	var working sync.WaitGroup
	errs := make([]error, 4)
	for n := range errs {
		working.Go(func() {
			for range 25 {
				for i, value := range values {
					if _, err := encode(codec, value); err != nil {
						errs[n] = err
					}
					if err := sameValue(codec, written[i], value); err != nil {
						errs[n] = err
					}
				}
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}

// throughTyped writes and reads values in an ensemble.
func throughTyped[T any](tb testing.TB, codec coord.Codec[T], values []T) error {
	tb.Helper()
	typed := coord.NewTyped(New(tb), codec)
	for i, value := range values {
		path := fmt.Sprintf("/value-%d", i)
		if _, _, err := typed.Create(tb.Context(), path, value); err != nil {
			return err
		}
		got, _, err := typed.Get(tb.Context(), path)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(got, value) {
			return fmt.Errorf("Typed.Get returns %#v, want %#v", got, value)
		}
	}
	return nil
}
