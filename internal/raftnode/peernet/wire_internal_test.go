package peernet

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"coord/internal/replica"
)

// inBoth runs a test in plaintext and with TLS.
func inBoth(t *testing.T, test func(t *testing.T, opts ...option)) {
	t.Helper()
	t.Run("plaintext", func(t *testing.T) { test(t) })
	t.Run("TLS", func(t *testing.T) { test(t, newAuthority(t).secured) })
}

// Batches of all sizes arrive as they were sent, in order, and are counted on
// both ends.
func TestBatchesArrive(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, opts...)
		a, b := f.nodes[0], f.nodes[1]
		c := a.mustConnect(b)
		sizes := []int{0, 1, 100, readBufferBytes - 200, readBufferBytes, readBufferBytes + 1, stepBytes, 3*stepBytes + 7, keptBytes + 1, 10}
		var want [][]byte
		for i, size := range sizes {
			payload := bytes.Repeat([]byte{byte(i + 1)}, size)
			want = append(want, payload)
			if err := c.SendMessageBatch(batch(a, b, payload)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all batches", func() bool { return b.received() == len(sizes) })
		for i, got := range b.batches {
			if !bytes.Equal(got.Requests[0].Entries[0].Cmd, want[i]) || got.DeploymentId != 7 {
				t.Errorf("batch %d has changed on its way", i)
			}
		}
		out, in := a.link(2, Out), b.link(1, In)
		if out.Batches != uint64(len(sizes)) || in.Batches != out.Batches || in.Bytes != out.Bytes || out.Bytes < keptBytes {
			t.Errorf("links are\n%+v\n%+v, want %d batches and the same bytes", out, in, len(sizes))
		}
		if out.Connections != 1 || in.Connections != 1 || out.Handshakes != 1 || in.Handshakes != 1 {
			t.Errorf("links are\n%+v\n%+v, want one connection", out, in)
		}
		c.Close()
		eventually(t, "the end of the connection", func() bool { return b.link(1, In).Connections == 0 })
		if out, in := a.link(2, Out), b.link(1, In); out.Connections != 0 || out.Errors+in.Errors+out.Refused+in.Refused != 0 {
			t.Errorf("after Close links are\n%+v\n%+v", out, in)
		}
	})
}

// SendChunk of the last chunk returns when it was handled.
func TestSnapshotArrives(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, opts...)
		a, b := f.nodes[0], f.nodes[1]
		c := a.mustSnapshot(b)
		data := bytes.Repeat([]byte("chunk"), 400_000)
		for i := range uint64(3) {
			if err := c.SendChunk(chunk(a, b, i, 3, data)); err != nil {
				t.Fatal(err)
			}
		}
		if len(b.chunks) != 3 {
			t.Fatalf("%d chunks were handled when the last one was acknowledged, want 3", len(b.chunks))
		}
		for i, got := range b.chunks {
			if got.ChunkId != uint64(i) || !bytes.Equal(got.Data, data) {
				t.Errorf("chunk %d has changed on its way", i)
			}
		}
		if out, in := a.link(2, Out), b.link(1, In); out.Chunks != 3 || in.Chunks != 3 || out.Bytes != in.Bytes {
			t.Errorf("links are\n%+v\n%+v, want 3 chunks", out, in)
		}
	})
}

// A call reaches Serve with who calls, and its answer comes back.
func TestCall(t *testing.T) {
	serve := func(_ int, nd *node) {
		nd.cfg.Serve = func(_ context.Context, from replica.MemberID, method string, body []byte) ([]byte, error) {
			if method == "echo" {
				return body, nil
			}
			return fmt.Appendf(nil, "%d %s %d", from, method, len(body)), nil
		}
	}
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, append(opts, serve)...)
		for _, size := range []int{0, 1, readBufferBytes, MaxBodyBytes} {
			got, err := f.nodes[1].net.Call(t.Context(), 1, "status", make([]byte, size))
			if want := fmt.Sprintf("2 status %d", size); string(got) != want || err != nil {
				t.Errorf("Call = %q, %v, want %q", got, err, want)
			}
			body := bytes.Repeat([]byte{7}, size)
			if got, err := f.nodes[1].net.Call(t.Context(), 1, "echo", body); !bytes.Equal(got, body) || err != nil {
				t.Errorf("Call = %d bytes, %v, want the %d that were sent", len(got), err, size)
			}
		}
	})
}

// Members at IPv6 addresses, which certificates name without brackets.
func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	l.Close()
	ca := newAuthority(t)
	f := newFabric(t, 2, func(_ int, nd *node) {
		_, port, _ := net.SplitHostPort(nd.cfg.Addr)
		nd.cfg.Addr = net.JoinHostPort("::1", port)
		nd.f.setAddr(nd.cfg.Member, nd.cfg.Addr)
		nd.cfg.TLS = &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(nil, "::1")}}
	})
	a, b := f.nodes[0], f.nodes[1]
	if err := a.mustConnect(b).SendMessageBatch(batch(a, b, nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the batch", func() bool { return b.received() == 1 })
	f.setAddr(1, "[::2]:1")
	_, err = a.connect(b)
	mustContain(t, "GetConnection", err, "member 1", "::2")
	refusedBy(t, err, 2, true)
}
