package raftnode_test

import (
	"context"
	"testing"
	"time"

	"coord/internal/bubble"
	"coord/internal/raftnode"
	"coord/internal/replica"
)

// production gives members the timing they have in production.
func production(_ int, c *raftnode.Config) {
	c.Tick, c.ElectionTicks, c.HeartbeatTicks = 0, 0, 0
}

// A whole ensemble lives in a bubble, with production timeouts and no real
// time: a leader is elected, lost, replaced, and comes back.
func TestBubble(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		start := time.Now()
		cfgs := inMemory(3, production)
		e := open(t, cfgs, 1)
		old := e.leader(1)
		e.propose(old, 1, "x")
		if d := time.Since(start); d < time.Second || d > 20*time.Second {
			t.Errorf("the first election took %v of the bubble's time, want a few seconds", d)
		}

		cfgs[0].Net.Isolate(cfgs[old].Addr)
		cut := time.Now()
		l := e.leader(1, old)
		e.propose(l, 1, "y")
		t.Logf("failover took %v", time.Since(cut))
		e.eventually("the old leader to notice", func() bool {
			return e.hosts[old].Role(1).Leader != replica.MemberID(old+1)
		})

		time.Sleep(5 * time.Minute)
		cfgs[0].Net.Heal()
		e.propose(old, 1, "z")
		e.converge(1)
		e.close()
	})
}

// A member that was cut off and comes back does not depose the leader: it may
// not raise its term while it hears nobody.
func TestReturningMemberDoesNotDepose(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		cfgs := inMemory(3, production)
		e := open(t, cfgs, 1)
		l := e.leader(1)
		e.propose(l, 1, "x")
		before := e.hosts[l].Role(1)
		away := (l + 1) % 3
		cfgs[0].Net.Isolate(cfgs[away].Addr)
		time.Sleep(time.Minute)
		cfgs[0].Net.Heal()
		e.read(away, 1)
		time.Sleep(time.Minute)
		if after := e.hosts[l].Role(1); after != before {
			t.Errorf("Role = %+v after a member came back, want %+v", after, before)
		}
		e.close()
	})
}

// Under loss, reads and writes may time out, but what is acknowledged is there
// and what is read is current.
func TestLossyNetwork(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		cfgs := inMemory(3, production)
		e := open(t, cfgs, 1)
		e.propose(e.leader(1), 1, "x")
		cfgs[0].Net.Lose(0.05, 1)
		acknowledged := uint64(0)
		for i := range 200 {
			at := i % 3
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if e.hosts[at].Propose(ctx, 1, []byte("y")) == nil {
				acknowledged++
			}
			if e.hosts[(at+1)%3].ReadIndex(ctx, 1) == nil {
				if n := e.machines[1][(at+1)%3].count(); n < acknowledged {
					t.Errorf("ReadIndex on member %d shows %d commands, %d are acknowledged", (at+1)%3+1, n, acknowledged)
				}
			}
			cancel()
		}
		cfgs[0].Net.Lose(0, 0)
		e.propose(0, 1, "z")
		for i := range e.hosts {
			e.read(i, 1)
		}
		e.converge(1)
		if acknowledged < 100 {
			t.Errorf("only %d of 200 proposals were acknowledged", acknowledged)
		}
		e.close()
	})
}
