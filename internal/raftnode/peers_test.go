package raftnode_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"coord/internal/bubble"
	"coord/internal/raftnode"
	"coord/internal/raftnode/peernet"
	"coord/internal/replica"
)

// secured gives members directories and certificates.
func secured(tb testing.TB) option {
	tb.Helper()
	certs := newCertificates(tb)
	return func(_ int, c *raftnode.Config) { c.TLS = certs.config() }
}

// linkTo returns the counters of one link of a host.
func linkTo(h *raftnode.Host, peer int, dir peernet.Direction) peernet.Link {
	for _, l := range h.Links() {
		if l.Peer == replica.MemberID(peer+1) && l.Direction == dir {
			return l
		}
	}
	return peernet.Link{}
}

// Three members over mutual TLS: one ends, the others go on for longer than
// their logs reach back, it returns, gets a snapshot over TLS and catches up.
func TestMutualTLS(t *testing.T) {
	e := open(t, onDisk(t, 3, withLog(t), secured(t), func(_ int, c *raftnode.Config) {
		c.SnapshotEntries, c.CompactionOverhead = 50, 10
	}), 1)
	l := e.leader(1)
	away := (l + 1) % 3
	e.propose(away, 1, "before")
	e.closeHost(away)
	large := strings.Repeat("x", 10_000)
	for range 200 {
		e.propose(l, 1, large)
	}
	if _, err := snapshot(t, e.hosts[l], 1); err != nil {
		t.Fatal(err)
	}
	e.openHost(away)
	m := e.start(away, 1)
	e.propose(away, 1, "after")
	e.converge(1)
	if m.restored() == 0 {
		t.Error("the member caught up without a snapshot: the test proves nothing")
	}
	var chunks, batches uint64
	for _, link := range e.hosts[away].Links() {
		if link.Direction == peernet.In {
			chunks += link.Chunks
		} else {
			batches += link.Batches
		}
		if link.Refused != 0 {
			t.Errorf("link of member %d is %+v, want no refusal", away+1, link)
		}
	}
	if chunks == 0 || batches == 0 {
		t.Errorf("%d chunks in and %d batches out are counted, want some", chunks, batches)
	}
}

// A member moves to another address while the others run, which with TLS takes
// their word for who is there.
func TestAddressChangeOverTLS(t *testing.T) {
	e := open(t, onDisk(t, 3, withLog(t), secured(t)), 1)
	moved := (e.leader(1) + 1) % 3
	e.propose(moved, 1, "x")
	e.closeHost(moved)
	addr := freePorts(t, 1)[0]
	e.cfgs[moved].Addr, e.cfgs[moved].Listen = addr, addr
	e.openHost(moved)
	for i, h := range e.hosts {
		if err := h.SetMembers(e.addrs()); err != nil {
			t.Errorf("SetMembers on member %d: %v", i+1, err)
		}
	}
	e.start(moved, 1)
	e.propose(moved, 1, "y")
	e.converge(1)
	if err := e.hosts[0].SetMembers(map[replica.MemberID]string{1: "300.1.1.1:7000"}); err == nil {
		t.Error("SetMembers with one nowhere succeeded")
	}
}

// Members ask each other before any of them has started a group, on a network
// for tests as well, and when one is closed, that is the answer.
func TestHostCall(t *testing.T) {
	serve := func(i int, c *raftnode.Config) {
		c.Serve = func(_ context.Context, from replica.MemberID, method string, body []byte) ([]byte, error) {
			return fmt.Appendf(nil, "member %d: %s(%s) from %d", i+1, method, body, from), nil
		}
	}
	for name, cfgs := range map[string][]raftnode.Config{"sockets": onDisk(t, 2, serve), "memory": inMemory(2, serve)} {
		t.Run(name, func(t *testing.T) {
			e := open(t, cfgs)
			h := e.hosts[0]
			got, err := h.Call(t.Context(), 2, "status", []byte("x"))
			if want := "member 2: status(x) from 1"; string(got) != want || err != nil {
				t.Errorf("Call = %q, %v, want %q", got, err, want)
			}
			if _, err := h.Call(t.Context(), 9, "status", nil); err == nil {
				t.Error("a member that nobody knows has answered")
			}
			e.closeHost(1)
			if _, err := h.Call(t.Context(), 2, "status", nil); err == nil {
				t.Error("a member that is closed has answered")
			}
			e.closeHost(0)
			_, err = h.Call(t.Context(), 2, "status", nil)
			wantErr(t, "Call of a closed host", err, replica.ErrClosed)
		})
	}
}

// On a network for tests, a call over a cut link ends with its context.
func TestCallOverCutLink(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		cfgs := inMemory(2, func(_ int, c *raftnode.Config) {
			c.Serve = func(context.Context, replica.MemberID, string, []byte) ([]byte, error) { return nil, nil }
		})
		e := open(t, cfgs)
		cfgs[0].Net.CutOneWay("n2", "n1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := e.hosts[0].Call(ctx, 2, "status", nil)
		wantErr(t, "Call", err, context.DeadlineExceeded)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("Call took %v, want the minute of its context", d)
		}
		e.close()
	})
}

// Who is not admitted gets no message through, and both ends can tell why; the
// others elect a leader and work.
func TestRefusedMember(t *testing.T) {
	e := open(t, onDisk(t, 3, withLog(t), func(i int, c *raftnode.Config) {
		if i == 2 {
			return
		}
		c.Admit = func(h peernet.Hello) error {
			if h.Member == 3 {
				return errors.New("its directory was wiped")
			}
			return nil
		}
	}), 1)
	e.leader(1, 2)
	e.propose(0, 1, "x")
	e.eventually("both ends to know why", func() bool {
		const why = "its directory was wiped"
		return linkTo(e.hosts[2], 0, peernet.Out).LastRefusal == why && linkTo(e.hosts[0], 2, peernet.In).LastRefusal == why
	})
	if n := e.machines[1][2].count(); n != 0 {
		t.Errorf("the refused member has %d commands", n)
	}
}

// Whatever strangers send to the port, and how ever much they claim to send,
// the member lives on.
func TestStrangersAreHarmless(t *testing.T) {
	cfg := onDisk(t, 1)[0]
	e := open(t, []raftnode.Config{cfg}, 1)
	// The last is how the library's own transport begins: the number of a
	// message, its size of half the address space, and two checksums.
	for _, say := range []string{"", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00", "\xae\x7d\x00\x64\x7f\xff\xff\xff\xff\xff\xff\xff\x8d\x1d\x0c\x49\x00\x00\x00\x00"} {
		conn, err := net.Dial("tcp", cfg.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, say); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn) // until the member closes it
		conn.Close()
	}
	e.propose(0, 1, "x")
}
