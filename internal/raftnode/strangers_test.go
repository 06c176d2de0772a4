package raftnode_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"coord/internal/raftnode"
	"coord/internal/raftnode/peernet"
	"coord/internal/replica"
)

// refusedFor checks that err is the refusal of a peer, for a reason.
func refusedFor(tb testing.TB, what string, err error, reason string) {
	tb.Helper()
	r, ok := errors.AsType[*peernet.RefusedError](err)
	if !ok || !r.ByPeer || r.Reason != reason {
		tb.Errorf("%s = %v, want a refusal by the peer because %q", what, err, reason)
	}
}

// A process that knows one address becomes a member: it is heard before it is one, on
// every network alike.
func TestStrangers(t *testing.T) {
	places(t, func(t *testing.T, cfgs func(int, ...option) []raftnode.Config) {
		e := open(t, cfgs(2, func(i int, c *raftnode.Config) {
			if i == 0 {
				c.Strangers = func(_ context.Context, h peernet.Hello, method string, body []byte) ([]byte, error) {
					return fmt.Appendf(nil, "%s(%s) of %s in %s", method, body, h.Addr, h.Directory), nil
				}
			}
		}))
		me := raftnode.Config{Ensemble: "test", Directory: "00000000-0000-4000-8000-000000000077", Addr: "127.0.0.1:7077", Net: e.cfgs[0].Net}
		ask := func(at int, change func(*raftnode.Config), method string) (string, error) {
			t.Helper()
			c := me
			if change != nil {
				change(&c)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			answer, err := raftnode.Introduce(ctx, c, e.cfgs[at].Addr, method, []byte("me"))
			return string(answer), err
		}
		answer, err := ask(0, nil, peernet.JoinMethod)
		if want := "join(me) of 127.0.0.1:7077 in " + me.Directory; err != nil || answer != want {
			t.Errorf("Introduce = %q, %v, want %q", answer, err, want)
		}
		_, err = ask(1, nil, peernet.JoinMethod)
		refusedFor(t, "Introduce to one that lets nobody join", err, "member 2 lets nobody join")
		_, err = ask(0, func(c *raftnode.Config) { c.Ensemble = "best" }, peernet.JoinMethod)
		refusedFor(t, "Introduce to another ensemble", err, `it is of ensemble "best", member 1 is of "test"`)
		_, err = ask(0, nil, "status")
		if remote, ok := errors.AsType[*peernet.RemoteError](err); !ok || remote.Peer != 1 {
			t.Errorf("Introduce with another method = %v, want an error of member 1", err)
		}
		e.closeHost(0)
		if _, err = ask(0, nil, peernet.JoinMethod); err == nil {
			t.Error("Introduce to one that is closed succeeded")
		}
	})
}

// Members that are left out of what a host knows are neither heard nor spoken to, and
// are told why when they ask.
func TestLeftOut(t *testing.T) {
	places(t, func(t *testing.T, cfgs func(int, ...option) []raftnode.Config) {
		e := open(t, cfgs(3, func(_ int, c *raftnode.Config) {
			c.Unknown = func(id replica.MemberID) string {
				if id == 3 {
					return "member 3 was removed"
				}
				return ""
			}
			c.Serve = func(context.Context, replica.MemberID, string, []byte) ([]byte, error) { return []byte("ok"), nil }
		}), 1)
		e.propose(2, 1, "x")
		if _, err := e.hosts[2].Call(t.Context(), 1, "status", nil); err != nil {
			t.Errorf("Call of a member that is known = %v", err)
		}
		known := e.addrs()
		delete(known, 3)
		for i := range 2 {
			if err := e.hosts[i].SetMembers(known); err != nil {
				t.Fatal(err)
			}
		}
		e.eventually("member 3 to be cut off", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			return e.hosts[2].ReadIndex(ctx, 1) != nil && e.hosts[2].Role(1).Leader == 0
		})
		e.eventually("member 3 to be told why", func() bool {
			_, err := e.hosts[2].Call(t.Context(), 1, "status", nil)
			r, ok := errors.AsType[*peernet.RefusedError](err)
			return ok && r.ByPeer && r.Reason == "member 3 was removed"
		})
		if _, err := e.hosts[0].Call(t.Context(), 3, "status", nil); err == nil {
			t.Error("a member that is left out was called")
		}
		e.propose(0, 1, "y")

		e.introduce() // and back
		e.propose(2, 1, "z")
		e.converge(1)
	})
}
