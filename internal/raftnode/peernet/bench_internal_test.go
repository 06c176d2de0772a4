package peernet

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftpb"
)

// BenchmarkSend is what it costs to bring a batch of one message to a handler
// at the other end, sender and receiver together.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{128, 16 << 10, 1 << 20} {
		for _, name := range []string{"plaintext", "TLS"} {
			b.Run(fmt.Sprintf("%s/bytes=%d", name, size), func(b *testing.B) {
				var opts []option
				if name == "TLS" {
					opts = append(opts, newAuthority(b).secured)
				}
				f := newFabric(b, 2, opts...)
				from, to := f.nodes[0], f.nodes[1]
				// Nothing of what arrives is kept.
				var n atomic.Int64
				to.stop()
				to.tr = to.net.Create(config.NodeHostConfig{}, func(raftpb.MessageBatch) { n.Add(1) }, nil)
				if err := to.tr.Start(); err != nil {
					b.Fatal(err)
				}
				c := from.mustConnect(to)
				m := batch(from, to, make([]byte, size))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				sent := int64(0)
				for b.Loop() {
					if err := c.SendMessageBatch(m); err != nil {
						b.Fatal(err)
					}
					sent++
				}
				eventually(b, "all batches", func() bool { return n.Load() == sent })
			})
		}
	}
}
