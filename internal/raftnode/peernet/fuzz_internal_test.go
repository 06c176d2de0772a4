package peernet

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lni/dragonboat/v4/raftpb"
)

// What is read as a hello is what its encoding gives, and a refusal is a line
// of text whatever was sent.
func FuzzHello(f *testing.F) {
	hello := Hello{
		Version: protocolVersion, Ensemble: "test", Member: 1, Directory: directoryOf(1),
		Addr: "a:7000", Purpose: ForCall, Wanted: 2,
	}
	f.Add(encodeOpening(helloOpening(hello)))
	stranger := hello
	stranger.Member, stranger.Wanted = 0, 0
	f.Add(encodeOpening(helloOpening(stranger)))
	longer := helloOpening(hello)
	longer.body = append(longer.body, 0)
	f.Add(encodeOpening(longer))
	f.Add(encodeOpening(refusalOpening("not today")))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := readOpening(bytes.NewReader(b))
		if err != nil {
			// A fuzzer does not find checksums: give it one.
			if len(b) < 4 || len(b) > maxOpeningPayload {
				return
			}
			o = opening{version: uint16(b[0]), kind: openingKind(b[1]), body: b[2:]}
			again, err := readOpening(bytes.NewReader(encodeOpening(o)))
			if err != nil || !reflect.DeepEqual(again, o) {
				t.Fatalf("%+v came back as %+v, %v", o, again, err)
			}
		}
		reason := cleanReason(string(o.body))
		if !utf8.ValidString(reason) || len(reason) > maxReasonBytes || bytes.ContainsAny([]byte(reason), "\n\r\x00") {
			t.Fatalf("reason %q", reason)
		}
		h, err := parseHello(o)
		if err != nil {
			return
		}
		if again := helloOpening(h); !bytes.Equal(again.body, o.body) || again.version != o.version {
			t.Fatalf("%+v is encoded as\n%q, came from\n%q", h, again.body, o.body)
		}
	})
}

// Whatever arrives, a reader returns frames whose sums fit and then an error,
// and holds no more memory than it has received.
func FuzzFrame(f *testing.F) {
	f.Add(aFrame(frameKept, nil))
	f.Add(append(aFrame(frameRequest, []byte("one")), aFrame(frameRefusal, []byte("two"))...))
	f.Add(aFrame(frameBatch, make([]byte, 100)))
	claim := aFrame(frameBatch, nil)
	putClaim(claim, maxBatchBytes)
	f.Add(claim)
	f.Fuzz(func(t *testing.T, b []byte) {
		// With a small buffer, small frames take the way of large ones, too.
		r := readFrames(bytes.NewReader(b), 64)
		left := len(b)
		for {
			kind, body, err := r.next(time.Second)
			if cap(r.buf) > len(b)+stepBytes {
				t.Fatalf("a buffer of %d bytes for %d received", cap(r.buf), len(b))
			}
			if err != nil {
				if errors.Is(err, io.EOF) != (left == 0) {
					t.Fatalf("%v with %d bytes left", err, left)
				}
				return
			}
			if !bytes.Equal(aFrame(kind, body), b[len(b)-left:][:frameHeadBytes+len(body)]) {
				t.Fatalf("frame of kind %d with %q is not what was there", kind, body)
			}
			left -= frameHeadBytes + len(body)
		}
	})
}

// What is read as a request is what its encoding gives.
func FuzzCall(f *testing.F) {
	f.Add(appendRequest(nil, request{timeout: time.Second, method: "status", body: []byte("body")}))
	f.Add(appendRequest(nil, request{method: "x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		if again := appendRequest(nil, r); !bytes.Equal(again, b) {
			t.Fatalf("%+v is encoded as %q, came from %q", r, again, b)
		}
	})
}

// Whatever a peer sends as a batch or a chunk, raft gets nothing but what that
// peer may send, and nothing panics.
func FuzzPayload(f *testing.F) {
	one, two := &node{cfg: Config{Member: 1}}, &node{cfg: Config{Member: 2}}
	good := batch(one, two, []byte("payload"))
	if b, err := good.Marshal(); err == nil {
		f.Add(b)
	}
	part := chunk(one, two, 0, 2, []byte("data"))
	if b, err := part.Marshal(); err == nil {
		f.Add(b)
	}
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := &Net{cfg: Config{Member: 2}, lim: defaultLimits}
		ep := newEndpoint(n, func(batch raftpb.MessageBatch) {
			for _, m := range batch.Requests {
				if m.From != 1 || m.To != 2 || m.Type == raftpb.InstallSnapshot || m.Type == raftpb.LocalTick {
					t.Fatalf("message %+v", m)
				}
			}
		}, func(c raftpb.Chunk) bool {
			if c.From != 1 || c.ReplicaID != 2 {
				t.Fatalf("chunk %+v", c)
			}
			return true
		})
		w := &wire{peer: Hello{Member: 1}, link: n.links.of(1, In)}
		_ = ep.handleBatch(w, b)
		_, _ = ep.handleChunk(w, b)
	})
}
