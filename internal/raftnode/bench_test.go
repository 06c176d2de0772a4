package raftnode_test

import (
	"fmt"
	"testing"
	"time"

	"coord/internal/raftnode"
)

// A lone write is the latency that everything above adds to.
func BenchmarkLoneWrite(b *testing.B) {
	quiet := func(_ int, c *raftnode.Config) {
		c.Tick, c.ElectionTicks, c.HeartbeatTicks = 20*time.Millisecond, 50, 5
	}
	for _, at := range []string{"leader", "follower"} {
		for _, where := range []string{"memory", "disk"} {
			b.Run(fmt.Sprintf("%s/%s", where, at), func(b *testing.B) {
				cfgs := inMemory(3, quiet)
				if where == "disk" {
					cfgs = onDisk(b, 3, quiet)
				}
				e := open(b, cfgs, 1)
				i := e.leader(1)
				if at == "follower" {
					i = (i + 1) % 3
				}
				e.propose(i, 1, "x")
				cmd := make([]byte, 128)
				b.ReportAllocs()
				for b.Loop() {
					if err := e.hosts[i].Propose(b.Context(), 1, cmd); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkReadIndex(b *testing.B) {
	e := open(b, inMemory(3), 1)
	i := e.leader(1)
	e.propose(i, 1, "x")
	b.ReportAllocs()
	for b.Loop() {
		if err := e.hosts[i].ReadIndex(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
	}
}
