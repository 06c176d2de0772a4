package raftnode_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lni/vfs"

	"coord/internal/raftnode"
)

// BenchmarkTransport compares package peernet with the library's own TCP
// transport, and TLS with plaintext: three members on the loopback interface,
// their logs in memory so that the network is what counts, and many callers who
// propose at the leader. All ensembles are open at once and take turns, so that
// a busy machine hurts them alike. Read the ratios: each is the median over the
// rounds, of which -benchtime=50x makes fifty.
func BenchmarkTransport(b *testing.B) {
	for _, load := range []struct{ callers, bytes int }{{1, 128}, {128, 128}, {1024, 128}, {128, 4 << 10}, {16, 64 << 10}} {
		b.Run(fmt.Sprintf("callers=%d/bytes=%d", load.callers, load.bytes), func(b *testing.B) {
			checkLeaks(b)
			certs := newCertificates(b)
			contenders := []*contender{
				newContender(b, "library", raftnode.UseLibraryTransport),
				newContender(b, "ours", func(*raftnode.Config) {}),
				newContender(b, "TLS", func(c *raftnode.Config) { c.TLS = certs.config() }),
			}
			cmd := make([]byte, load.bytes)
			for b.Loop() {
				for _, c := range contenders {
					c.round(load.callers, cmd)
				}
				slices.Reverse(contenders) // nobody is always the first or the last
			}
			if contenders[0].name != "library" {
				slices.Reverse(contenders)
			}
			library := contenders[0]
			b.ReportMetric(median(library.rates), library.name+"/s")
			for _, c := range contenders[1:] {
				b.ReportMetric(median(c.rates), c.name+"/s")
				ratios := make([]float64, len(c.rates))
				for i, r := range c.rates {
					ratios[i] = r / library.rates[i]
				}
				b.ReportMetric(median(ratios), c.name+"/library")
			}
		})
	}
}

// A contender is an ensemble whose transport is measured.
type contender struct {
	name  string
	e     *ensemble
	at    int       // the member that is asked: the leader, to which others only forward
	rates []float64 // proposals in a second, of each round
}

func newContender(b *testing.B, name string, change func(*raftnode.Config)) *contender {
	b.Helper()
	e := openAmong(b, onDisk(b, 3, func(_ int, c *raftnode.Config) {
		c.Tick, c.ElectionTicks, c.HeartbeatTicks = 20*time.Millisecond, 50, 5
		c.FS = vfs.NewMem()
		change(c)
	}), 1)
	at := e.leader(1)
	e.propose(at, 1, "x")
	return &contender{name: name, e: e, at: at}
}

// round has callers propose for a while, one after the other each.
func (c *contender) round(callers int, cmd []byte) {
	const each = 100 * time.Millisecond
	var wg sync.WaitGroup
	counts := make([]int, callers)
	start := time.Now()
	for i := range counts {
		wg.Go(func() {
			for time.Since(start) < each {
				if err := c.e.hosts[c.at].Propose(c.e.tb.Context(), 1, cmd); err != nil {
					c.e.tb.Errorf("%s: %v", c.name, err)
					return
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	c.rates = append(c.rates, float64(total)/time.Since(start).Seconds())
}

func median(v []float64) float64 {
	return slices.Sorted(slices.Values(v))[len(v)/2]
}
