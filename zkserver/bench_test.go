package zkserver_test

import (
	"io"
	"log/slog"
	"net"
	"runtime"
	"testing"

	"coord"
	"coord/coordtest"
	"coord/zkserver"
)

// BenchmarkIdleConnections tells what a connection with a session costs that does nothing,
// by TCP; the client's end in the same process is included.
func BenchmarkIdleConnections(b *testing.B) {
	e := coordtest.NewEnsemble(b, 1, coordtest.WithConfig(func(cfg *coord.Config) { cfg.DefaultACL = coord.OpenACL() }))
	s, err := zkserver.New(e.Member(1), zkserver.Options{MaxConnsPerAddr: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(b.Context(), ln) }()
	const n = 2000
	for b.Loop() {
		before := inUse()
		conns := make([]net.Conn, 0, n)
		for range n {
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := nc.Write(connectFrame); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(nc, make([]byte, 40)); err != nil {
				b.Fatal(err)
			}
			conns = append(conns, nc)
		}
		b.ReportMetric(float64(inUse()-before)/n, "B/conn")
		for _, nc := range conns {
			_ = nc.Close()
		}
	}
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
