package peernet

import (
	"bytes"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"
)

// A snapshot whose receiver rejects a chunk fails at its sender, with the
// reason, even if it was the last one.
func TestRejectedChunk(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		f := newFabric(t, 2, opts...)
		a, b := f.nodes[0], f.nodes[1]
		for _, rejected := range []uint64{0, 1, 2} {
			b.mu.Lock()
			b.onChunk = func(c raftpb.Chunk) bool { return c.ChunkId != rejected }
			b.mu.Unlock()
			c := a.mustSnapshot(b)
			var err error
			for i := uint64(0); i < 3 && err == nil; i++ {
				err = c.SendChunk(chunk(a, b, i, 3, make([]byte, 2<<20)))
			}
			mustContain(t, "SendChunk", err, "group 1", "index 10", "rejected", "chunk "+string('0'+byte(rejected)))
			refusedBy(t, err, 2, true)
		}
	})
}

// Who says nothing about the last chunk for too long has not kept the snapshot, as far
// as its sender knows.
func TestNoVerdict(t *testing.T) {
	f := newFabric(t, 2, func(_ int, nd *node) { nd.lim.verdict, nd.lim.farewell = 20*time.Millisecond, time.Millisecond })
	a, b := f.nodes[0], f.nodes[1]
	leave := make(chan struct{})
	defer close(leave)
	b.onChunk = func(raftpb.Chunk) bool { <-leave; return true }
	err := a.mustSnapshot(b).SendChunk(chunk(a, b, 0, 1, nil))
	mustContain(t, "SendChunk", err, "no answer", "member 2")
	if l := a.link(2, Out); l.Errors != 1 {
		t.Errorf("link is %+v, want one error", l)
	}
}

// A chunk that changed on its way, is not from this peer or not for this
// member, or names no file, is not handed on.
func TestForeignChunks(t *testing.T) {
	f := newFabric(t, 3)
	a, b, c := f.nodes[0], f.nodes[1], f.nodes[2]
	file := func(name string) raftpb.Chunk {
		ch := chunk(a, b, 0, 1, []byte("data"))
		ch.Filepath = name
		return ch
	}
	for name, ch := range map[string]raftpb.Chunk{
		"from another":   chunk(c, b, 0, 1, []byte("data")),
		"for another":    chunk(a, c, 0, 1, []byte("data")),
		"no file":        file(""),
		"the directory":  file("/"),
		"the one above":  file("/some/.."),
		"above, Windows": file(`C:\some\..`),
	} {
		t.Run(name, func(t *testing.T) {
			err := a.mustSnapshot(b).SendChunk(ch)
			refusedBy(t, err, 2, true)
		})
	}
	good := chunk(a, b, 0, 1, bytes.Repeat([]byte("data"), 1000))
	body, err := good.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	frame := aFrame(frameChunk, body)
	frame[frameHeadBytes+1000] ^= 0x10
	conn, _ := rawHandshake(t, a, b, ForSnapshot)
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, conn)
	if len(b.chunks) != 0 {
		t.Errorf("%d chunks were handed on, want none", len(b.chunks))
	}
}

// A receiver that cannot keep a chunk, which the library panics about, rejects
// the snapshot and lives on.
func TestPanicAboutChunk(t *testing.T) {
	f := newFabric(t, 2)
	a, b := f.nodes[0], f.nodes[1]
	b.onChunk = func(raftpb.Chunk) bool { panic("no space left on device") }
	err := a.mustSnapshot(b).SendChunk(chunk(a, b, 0, 1, nil))
	mustContain(t, "SendChunk", err, "no space left")
	refusedBy(t, err, 2, true)
	b.mu.Lock()
	b.onChunk = nil
	b.mu.Unlock()
	if err := a.mustSnapshot(b).SendChunk(chunk(a, b, 0, 1, nil)); err != nil {
		t.Error(err)
	}
}
