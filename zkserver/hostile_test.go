package zkserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/internal/jute"
	"coord/zkserver"
)

// TestLimits has clients go over each limit: they are disconnected, and others notice
// nothing.
func TestLimits(t *testing.T) {
	o := zkserver.Options{MaxFrame: 10_000, MaxConnsPerAddr: 3, MaxConns: 5, HandshakeTimeout: 10 * time.Second}
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Follower(t.Context())
		honest := w.connect(c, 30*time.Second)
		ln := w.listeners[c.Status().Member]
		from := func(ip byte) *client {
			nc, err := ln.dial(net.IPv4(10, 0, 0, ip))
			if err != nil {
				t.Fatal(err)
			}
			return newClient(t, nc)
		}
		length := func(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
		for _, n := range []int32{10_001, 1 << 30, -1, -1 << 31} {
			cl := w.connect(c, 30*time.Second)
			_, _ = cl.nc.Write(length(n))
			cl.wantClosed()
		}
		cl := w.connect(c, 30*time.Second)
		full := create("/full", "")
		full.Data = make([]byte, 10_000-8-len(jute.Marshal(full)))
		cl.must(jute.OpCreate, full, &jute.CreateResponse{}) // exactly the limit
		_ = cl.nc.Close()

		for name, b := range map[string][]byte{
			"a long handshake":  append(length(5000), make([]byte, 5000)...),
			"a short handshake": append(length(3), 0, 0, 0),
			"an empty frame":    length(0),
			"a wild password":   append(length(28), bytes.Repeat([]byte{0x7f}, 28)...),
		} {
			cl := from(2)
			_, _ = cl.nc.Write(b)
			if _, ok := <-cl.frames; ok {
				t.Errorf("%s is answered", name)
			}
		}
		// A header that is cut off.
		short := w.connect(c, 30*time.Second)
		_, _ = short.nc.Write(append(length(3), 0, 0, 0))
		short.wantClosed()

		// Who says nothing, or little, is not waited for.
		silent, slow := from(2), from(2)
		_, _ = slow.nc.Write([]byte{0, 0})
		begun := time.Now()
		silent.wantClosed()
		slow.wantClosed()
		if took := time.Since(begun); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("silence in a handshake was suffered for %v", took)
		}
		trickle := w.connect(c, 4*time.Second)
		_, _ = trickle.nc.Write([]byte{0, 0, 0, 100, 1, 2, 3})
		trickle.wantClosed()

		// Connections.
		eventually(t, "the others to be gone", func() bool {
			cl := from(1)
			return cl.handshake(&jute.ConnectRequest{TimeoutMS: 5000}) != nil
		})
		_ = from(1)
		from(1).wantClosed() // the fourth of its address
		_, _ = from(3), from(4)
		from(5).wantClosed() // the sixth in all
		honest.keepAlive(time.Minute)
	}, o)
}

// TestSlowReader has a client ask for more than it reads: it is disconnected, and until
// then holds no more than its limits.
func TestSlowReader(t *testing.T) {
	o := zkserver.Options{MaxOutstanding: 50, WriteTimeout: 5 * time.Second}
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		if _, _, err := c.Create(t.Context(), "/big", make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		nc, err := w.listeners[c.Status().Member].dial(net.IPv4(10, 0, 0, 1))
		if err != nil {
			t.Fatal(err)
		}
		cl := &client{t: t, nc: nc}
		cl.write(&jute.ConnectRequest{TimeoutMS: 30000, Password: make([]byte, 16)})
		if _, err := io.ReadFull(nc, make([]byte, 41)); err != nil {
			t.Fatal(err)
		}
		sent := 0
		_ = nc.SetWriteDeadline(time.Now().Add(4 * time.Second))
		for range 1000 {
			frame := append([]byte{0, 0, 0, 17}, jute.Marshal(&jute.RequestHeader{Xid: 1, Op: jute.OpGetData})...)
			if _, err := nc.Write(append(frame, jute.Marshal(get("/big", false))...)); err != nil {
				break
			}
			sent++
		}
		if sent > 600 { // what fits into a buffer of 4 KiB, and the limit
			t.Errorf("%d requests were taken", sent)
		}
		time.Sleep(6 * time.Second)
		_ = nc.SetReadDeadline(time.Now().Add(time.Second))
		n, _ := io.Copy(io.Discard, nc)
		if n > 2<<20 {
			t.Errorf("%d bytes were written to who does not read", n)
		}
		_ = nc.SetDeadline(time.Time{})
		if _, err := nc.Write([]byte{0}); err == nil {
			t.Error("the connection is open")
		}
		honest := w.connect(c, 30*time.Second)
		honest.must(jute.OpPing, nil, nil)
	}, o)
}

// TestAnswersAreBounded asks for the same data many times in one request: whoever sends
// little does not have the server make much of it. What fits is answered.
func TestAnswersAreBounded(t *testing.T) {
	o := zkserver.Options{MaxOutstandingBytes: 1 << 20}
	inBubble(t, func(t *testing.T, w *world) {
		cl := w.connect(w.Leader(t.Context()), 30*time.Second)
		big := create("/big", strings.Repeat("x", 300_000))
		cl.must(jute.OpCreate, big, &jute.CreateResponse{})
		for i := range 1000 {
			cl.must(jute.OpCreate, create(fmt.Sprintf("/%0200d", i), ""), &jute.CreateResponse{})
		}
		reads := func(o jute.Op, path string, n int) *jute.MultiRequest {
			return &jute.MultiRequest{Ops: slices.Repeat([]jute.MultiOp{{Op: o, Request: get(path, false)}}, n)}
		}
		for _, c := range []struct {
			req  *jute.MultiRequest
			want jute.Code
		}{
			{reads(jute.OpGetData, "/big", 3), jute.OK},
			{reads(jute.OpGetData, "/big", 200), jute.BadArguments},
			{reads(jute.OpGetChildren, "/", 5), jute.OK},
			{reads(jute.OpGetChildren, "/", 200), jute.BadArguments},
			{reads(jute.OpGetData, "/", 10_000), jute.OK},
		} {
			if h := cl.call(jute.OpMultiRead, c.req, &jute.MultiResponse{}); h.Err != c.want {
				t.Errorf("%d times %v %s: %v, want %v", len(c.req.Ops), c.req.Ops[0].Op, c.req.Ops[0].Request, h.Err, c.want)
			}
		}
		// By itself, what is larger than that can be read, as it was written.
		huge := create("/huge", strings.Repeat("x", 1<<20-100))
		if _, _, err := w.Leader(t.Context()).Create(t.Context(), huge.Path, huge.Data); err != nil {
			t.Fatal(err)
		}
		cl.must(jute.OpMultiRead, reads(jute.OpGetData, "/huge", 1), &jute.MultiResponse{})
	}, o)
}

// TestBombs sends requests that are small for what they ask for, or name what is none: they
// are refused, and the session goes on.
func TestBombs(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cl := w.connect(w.Follower(t.Context()), 30*time.Second)
		checks := func(n int) *jute.MultiRequest {
			return &jute.MultiRequest{Ops: slices.Repeat([]jute.MultiOp{{Op: jute.OpCheck, Request: &jute.VersionRequest{Path: "/", Version: -1}}}, n)}
		}
		cl.must(jute.OpMulti, checks(10_000), &jute.MultiResponse{})
		if h := cl.call(jute.OpMulti, checks(10_001), nil); h.Err != jute.BadArguments {
			t.Errorf("a multi of 10001 operations: %v", h.Err)
		}
		if h := cl.call(jute.OpCreate, &jute.CreateRequest{Path: "/x", ACL: slices.Repeat(open, 1025)}, nil); h.Err != jute.InvalidACL {
			t.Errorf("an ACL of 1025 entries: %v", h.Err)
		}
		for _, path := range []string{
			"/" + strings.Repeat("x", 4096), strings.Repeat("/x", 2049), "//x", "/.", "/..", "/x\x00", "/\x01", "/\x7f",
			"/\xff", "/\xed\xa0\x80", "/\ufff0", "/\ue000", "/\u0085",
		} {
			if h := cl.call(jute.OpCreate, create(path, ""), nil); h.Err != jute.BadArguments {
				t.Errorf("create %.20q of %d bytes: %v", path, len(path), h.Err)
			}
		}
		composed, decomposed := "/\u00e9", "/e\u0301" // one letter to the eye, two names
		cl.must(jute.OpCreate, create(composed, ""), &jute.CreateResponse{})
		cl.must(jute.OpCreate, create(decomposed, ""), &jute.CreateResponse{})
	})
}

// TestLimitsOfClients has clients of one server go over the limits of [coord.Config]: each
// is told so, and the other is not concerned.
func TestLimitsOfClients(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		greedy, other := w.connect(c, 30*time.Second), w.connect(c, 30*time.Second)
		for i := range 100 {
			greedy.must(jute.OpAddWatch, &jute.WatchRequest{Path: fmt.Sprint("/w", i), Type: jute.ModePersistent}, &jute.IntResponse{})
		}
		if h := greedy.call(jute.OpAddWatch, &jute.WatchRequest{Path: "/w", Type: jute.ModePersistent}, nil); h.Err != jute.QuotaExceeded {
			t.Errorf("a watch too many: %v", h.Err)
		}
		if h := greedy.call(jute.OpGetData, get("/", true), nil); h.Err != jute.QuotaExceeded {
			t.Errorf("a watch too many with a read: %v", h.Err)
		}
		for i := range 10 {
			greedy.must(jute.OpCreate, ephemeral(fmt.Sprint("/e", i)), &jute.CreateResponse{})
		}
		if h := greedy.call(jute.OpCreate, ephemeral("/e"), nil); h.Err != jute.QuotaExceeded {
			t.Errorf("an ephemeral too many: %v", h.Err)
		}
		other.must(jute.OpAddWatch, &jute.WatchRequest{Path: "/w", Type: jute.ModePersistent}, &jute.IntResponse{})
		other.must(jute.OpCreate, ephemeral("/e"), &jute.CreateResponse{})
	}, zkserver.Options{MaxConns: 3})
}

// TestGuessesAreSlowed tries passwords, each on a connection of its own: they take longer and
// longer. Somebody with another address is not held up.
func TestGuessesAreSlowed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		super := func(cl *client, password string) {
			cl.must(jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("super:" + password)}, nil)
		}
		began := time.Now()
		for range 8 {
			super(w.connect(c, 30*time.Second), "wrong")
		}
		if took, want := time.Since(began), 12700*time.Millisecond; took < want { // 100 ms, doubled 6 times
			t.Errorf("8 guesses in %v, want %v", took, want)
		}
		nc, err := w.listeners[c.Status().Member].dial(net.IPv4(10, 0, 0, 2))
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := newClient(t, nc)
		elsewhere.handshake(&jute.ConnectRequest{TimeoutMS: 30_000})
		began = time.Now()
		super(elsewhere, "secret")
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("another address waits %v", took)
		}
	})
}

// TestServe ends with its context, and with the Coordinator.
func TestServe(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Follower(t.Context())
		if _, err := zkserver.New(c, zkserver.Options{MaxFrame: -1, FourLetterWords: []string{"x"}}); err == nil || !strings.Contains(err.Error(), "MaxFrame") || !strings.Contains(err.Error(), "FourLetterWords") {
			t.Errorf("wrong options: %v", err)
		}
		quiet := zkserver.Options{Logger: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		ln := newPipeListener()
		done := make(chan error, 1)
		go func() { done <- zkserver.Serve(ctx, ln, c, quiet) }()
		nc, err := ln.dial(net.IPv4(10, 0, 0, 9))
		if err != nil {
			t.Fatal(err)
		}
		cl := newClient(t, nc)
		cl.handshake(&jute.ConnectRequest{TimeoutMS: 5000})
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
		cl.wantClosed()

		ln = newPipeListener()
		go func() { done <- zkserver.Serve(t.Context(), ln, c, quiet) }()
		if _, err := ln.dial(net.IPv4(10, 0, 0, 9)); err != nil {
			t.Fatal(err)
		}
		w.Stop(c)
		if err := <-done; err == nil {
			t.Error("Serve goes on without a Coordinator")
		}
	})
}
