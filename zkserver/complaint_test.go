package zkserver_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"coord/internal/jute"
	"coord/zkserver"
)

// A lockedBuffer is written to by goroutines of a server and read by a test.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// count returns how many lines have all words, and the last of them.
func (b *lockedBuffer) count(words ...string) (n int, last string) {
	b.mu.Lock()
	defer b.mu.Unlock()
lines:
	for line := range strings.Lines(b.buf.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		n, last = n+1, line
	}
	return n, last
}

// TestClientsTurnedAway has an operator see that clients are turned away, and why, in a
// log that they cannot fill.
func TestClientsTurnedAway(t *testing.T) {
	log := new(lockedBuffer)
	o := zkserver.Options{MaxConnsPerAddr: 1, TLS: &tls.Config{}, PlaintextToo: true, Logger: slog.New(slog.NewTextHandler(log, nil))}
	inBubble(t, func(t *testing.T, w *world) {
		ln := w.listeners[w.Leader(t.Context()).Status().Member]
		dial := func(ip byte) net.Conn {
			nc, err := ln.dial(net.IPv4(10, 0, 0, ip))
			if err != nil {
				t.Fatal(err)
			}
			return nc
		}
		sayNothing := func(ip byte) { newClient(t, dial(ip)).wantClosed() }
		noTLS := func(ip byte) {
			nc := dial(ip)
			go func() { _, _ = io.Copy(io.Discard, nc) }()
			_, _ = nc.Write(append([]byte{0x16}, "nonsense that is no TLS"...))
		}
		first := newClient(t, dial(1))
		if first.handshake(&jute.ConnectRequest{TimeoutMS: 30000}) == nil {
			t.Fatal("no session")
		}
		for range 5 {
			sayNothing(1)
		}
		for i := range byte(5) {
			noTLS(10 + i)
		}
		_ = dial(20).Close() // who only looks whether somebody listens
		want := func(what string, lines int, times string, words ...string) {
			t.Helper()
			n, last := log.count(append(words, `msg="client turned away"`)...)
			if n != lines || !strings.Contains(last, times) {
				t.Errorf("%s: %d lines, the last %q; want %d, the last with %q", what, n, last, lines, times)
			}
		}
		time.Sleep(time.Second)
		want("too many", 1, "times=1", "1 connections from 10.0.0.1")
		want("no TLS", 1, "times=1", "TLS: ")
		first.keepAlive(time.Minute)
		sayNothing(1)
		noTLS(30)
		time.Sleep(time.Second)
		want("too many", 2, "times=5", "1 connections from 10.0.0.1")
		want("no TLS", 2, "times=5", "TLS: ")
	}, o)
}
