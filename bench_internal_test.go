package coord

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
)

// benchBatch is the number of requests in one batch: what 64 callers make of a
// group commit.
const benchBatch = 64

// benchState returns a state with n znodes, a thousand in each directory.
func benchState(b *testing.B, n int) (s *state, paths []string) {
	b.Helper()
	s = newTestState()
	var requests []request
	flush := func() {
		if _, eff := applyRequests(s, requests...); eff.panic != "" {
			b.Fatal(eff.panic)
		}
		requests = requests[:0]
	}
	data := bytes.Repeat([]byte("x"), 100)
	for i := range n {
		if i%1000 == 0 {
			requests = append(requests, writeOf(op{kind: opCreate, path: fmt.Sprintf("/dir-%d", i/1000)}))
		}
		path := fmt.Sprintf("/dir-%d/node-%d", i/1000, i)
		paths = append(paths, path)
		requests = append(requests, writeOf(op{kind: opCreate, path: path, data: data}))
		if len(requests) > 2000 {
			flush()
		}
	}
	flush()
	return s, paths
}

// benchEntries returns batches as they are in the log: sets of random znodes, with
// every eighth request a create of a znode or its delete.
func benchEntries(s *state, paths []string) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	m := s.members.get(1)
	data := bytes.Repeat([]byte("y"), 100)
	entries := make([][]byte, 512)
	for i := range entries {
		b := &batchCommand{incarnation: m.incarnation, number: m.number + uint64(i) + 1, touch: &touch{}}
		for j := range benchBatch {
			path := paths[r.IntN(len(paths))]
			o := op{kind: opSetData, path: path, data: data}
			switch j % 16 {
			case 0:
				o = op{kind: opCreate, path: path + "/child-" + strconv.Itoa(i*benchBatch+j), data: data}
			case 8:
				o = op{kind: opDelete, path: b.requests[j-8].ops[0].path}
			}
			b.requests = append(b.requests, writeOf(o))
		}
		e := newEncoder()
		e.command(&command{kind: commandBatch, group: rootGroup, member: 1, batch: b}, formatVersion)
		entries[i] = e.buf.Bytes()
	}
	return entries
}

// BenchmarkApply decodes and applies batches and freezes the state behind each, as
// the machine does.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprintf("znodes=%d", n), func(b *testing.B) {
			start, paths := benchState(b, n)
			entries := benchEntries(start, paths)
			first := start.freeze()
			s := first.freeze()
			batches := 0
			b.ReportAllocs()
			for b.Loop() {
				if batches%len(entries) == 0 {
					s = first.freeze() // the numbers begin again
				}
				entry := entries[batches%len(entries)]
				cmd, err := decodeCommand(entry)
				if err != nil {
					b.Fatal(err)
				}
				s.apply(cmd, digestOf(entry))
				s.freeze()
				batches++
			}
			b.ReportMetric(float64(batches*benchBatch)/b.Elapsed().Seconds(), "writes/s")
			for _, r := range s.members.get(1).results {
				if code := r.firstError(); code != codeOK {
					b.Fatalf("a write was refused: %v", code)
				}
			}
		})
	}
}

// BenchmarkDecodeCommand decodes batches of 64 requests.
func BenchmarkDecodeCommand(b *testing.B) {
	s, paths := benchState(b, 1000)
	entries := benchEntries(s, paths)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeCommand(entries[n%len(entries)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n*benchBatch)/b.Elapsed().Seconds(), "requests/s")
}
