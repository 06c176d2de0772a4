package coord

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// limitPaths puts a quota that refuses nothing on each path, and shows its usage.
func limitPaths(tb testing.TB, s *state, paths ...string) {
	tb.Helper()
	for _, path := range paths {
		limits, stats := quotaPaths(path)
		results, _ := applyRequests(s,
			writeOf(op{kind: opCreate, path: limits, data: []byte("byteHardLimit=999999999"), parents: persistentParents}),
			writeOf(op{kind: opCreate, path: stats}))
		for _, r := range results {
			if code := r.firstError(); code != codeOK {
				tb.Fatal(code)
			}
		}
	}
}

// BenchmarkApplyQuotas is BenchmarkApply of 100,000 znodes with quotas: "unrelated" are
// on other paths than those written to; with "covering" each write has a quota above
// it, whose usage changes and is shown.
func BenchmarkApplyQuotas(b *testing.B) {
	for _, c := range []struct {
		name string
		path func(i int) string
	}{
		{"none", nil},
		{"1000 unrelated", func(i int) string { return fmt.Sprintf("/elsewhere/%d", i) }},
		{"1000 covering", func(i int) string { return fmt.Sprintf("/dir-%d", i) }}, // a tenth exists
	} {
		b.Run(c.name, func(b *testing.B) {
			start, paths := benchState(b, 100_000)
			start.settings.enforceQuotas = true
			for i := range 1000 {
				if c.path != nil {
					limitPaths(b, start, c.path(i))
				}
			}
			entries := ofManySizes(b, benchEntries(start, paths))
			first := start.freeze()
			s := first.freeze()
			batches := 0
			b.ReportAllocs()
			for b.Loop() {
				if batches%len(entries) == 0 {
					s = first.freeze()
				}
				cmd, err := decodeCommand(entries[batches%len(entries)])
				if err != nil {
					b.Fatal(err)
				}
				s.apply(cmd, 1)
				s.freeze()
				batches++
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(batches*benchBatch), "ns/write")
			for _, r := range s.members.get(1).results {
				if code := r.firstError(); code != codeOK {
					b.Fatalf("a write was refused: %v", code)
				}
			}
		})
	}
}

// ofManySizes returns batches whose writes change the size of what they write to.
func ofManySizes(b *testing.B, entries [][]byte) [][]byte {
	b.Helper()
	out := make([][]byte, len(entries))
	for i, entry := range entries {
		cmd, err := decodeCommand(entry)
		if err != nil {
			b.Fatal(err)
		}
		for j := range cmd.batch.requests {
			if o := &cmd.batch.requests[j].ops[0]; o.kind == opSetData {
				o.data = o.data[:20+(i+j)%70]
			}
		}
		e := newEncoder()
		e.command(cmd, formatVersion)
		out[i] = e.buf.Bytes()
	}
	return out
}

// BenchmarkQuotaFirst puts a quota on a subtree of a million znodes, which counts them.
func BenchmarkQuotaFirst(b *testing.B) {
	s, _ := benchState(b, 1_000_000)
	b.ResetTimer()
	for b.Loop() {
		znodes := int64(0)
		for i := range 1000 {
			znodes += s.countUsage(fmt.Sprintf("/dir-%d", i)).Znodes
		}
		if znodes != 1_001_000 {
			b.Fatal(znodes)
		}
	}
}

// TestNoQuotaCostsNothing sees that a write in an ensemble without quotas allocates
// nothing for them.
func TestNoQuotaCostsNothing(t *testing.T) {
	s, n := newTestState(), &znode{}
	s.settings.enforceQuotas = true
	if allocs := testing.AllocsPerRun(100, func() {
		if s.refusingQuota("/some/where", "/some/where/deep", 5) != nil || s.refusingBytes("/some/where", 5) != nil || s.account("/some/where", nil, n) != nil {
			t.Error("no quota refuses")
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestQuotaViolations sees that each invariant of the table is checked.
func TestQuotaViolations(t *testing.T) {
	for want, damage := range map[string]func(*state){
		"Q1: no quota for the limits of /a": func(s *state) { s.quotas = newQuotaTable() },
		"Q1: 1 limits znodes but 2 quotas": func(s *state) {
			s.quotas.byPath.put(quotaItem{"/b", &quota{path: "/b"}})
		},
		"Q1: the quota of /a is": func(s *state) {
			q := *s.quotas.get("/a")
			q.limits.znodes = 7
			s.quotas.byPath.put(quotaItem{"/a", &q})
		},
		"Q2": func(s *state) {
			q := *s.quotas.get("/a")
			q.usage.Znodes++
			s.putQuota(&q)
		},
		"Q3": func(s *state) {
			k, _ := keyOf("/zookeeper/quota/a/zookeeper_stats")
			n, _ := s.tree.lookup(k)
			m := *n
			m.data = []byte("count=1")
			s.tree.replace(k, &m)
		},
		"S7: session 0x0000000000000007 has 0 ephemerals counted as 3": func(s *state) { s.sessions.counts.put(ephemeralCount{7, 3}) },
		"S7: 1 ephemerals counted as 0": func(s *state) {
			k, _ := keyOf("/a/x")
			s.sessions.ephemerals.put(ephemeralRef{7, k})
		},
	} {
		s := newTestState()
		applyRequests(s, writeOf(op{kind: opCreate, path: "/a"}), writeOf(op{kind: opCreate, path: "/a/x"}))
		limitPaths(t, s, "/a")
		if err := s.firstViolation(); err != nil {
			t.Fatal(err)
		}
		damage(s)
		found := false
		for err := range s.violations() {
			found = found || strings.HasPrefix(err.Error(), want)
		}
		if !found {
			t.Errorf("nothing reports %q", want)
		}
	}
}

// TestQuotaTextIsZooKeepers compares the text with what ZooKeeper writes.
func TestQuotaTextIsZooKeepers(t *testing.T) {
	for want, q := range map[string]Quota{
		"count=-1,bytes=-1":                                  {},
		"count=5,bytes=-1":                                   {Znodes: 5},
		"count=-1,bytes=7":                                   {Bytes: 7},
		"count=-1,bytes=-1=;countHardLimit=6":                {HardZnodes: 6},
		"count=5,bytes=7=;byteHardLimit=8":                   {Znodes: 5, Bytes: 7, HardBytes: 8},
		"count=5,bytes=7=;byteHardLimit=8;countHardLimit=6":  {Znodes: 5, Bytes: 7, HardZnodes: 6, HardBytes: 8},
		"count=0,bytes=-1=;byteHardLimit=0;countHardLimit=9": {Znodes: -1, HardBytes: -1, HardZnodes: 9},
	} {
		l, err := parseQuotaLimits([]byte(want))
		if err != nil || l.public() != q || string(l.text()) != want {
			t.Errorf("%q reads as %+v, %v and is written as %q", want, l.public(), err, l.text())
		}
		if q.Znodes >= 0 && string(q.limits().text()) != want {
			t.Errorf("%+v is written as %q, want %q", q, q.limits().text(), want)
		}
	}
}

func FuzzQuotaLimits(f *testing.F) {
	for _, text := range []string{"", "count=5,bytes=7", "count=5,bytes=7=;byteHardLimit=8;countHardLimit=6", "bytes=,count=-3", "x", "count==", ";;", "count=1=2"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseQuotaLimits(text)
		if err != nil {
			if l != noLimits {
				t.Errorf("%q fails with %v but limits %+v", text, err, l)
			}
			return
		}
		if min(l.znodes, l.bytes, l.hardZnodes, l.hardBytes) < noLimit {
			t.Errorf("%q gives %+v", text, l)
		}
		if again, err := parseQuotaLimits(l.text()); err != nil || again != l {
			t.Errorf("%q gives %+v, and its text %q gives %+v, %v", text, l, l.text(), again, err)
		}
	})
}

// TestQuotaWarningsAreForgotten sees that the memory of warnings is bounded by those
// that still keep quiet.
func TestQuotaWarningsAreForgotten(t *testing.T) {
	w := newQuotaWarnings()
	log := slog.New(slog.DiscardHandler)
	for i := range 10_000 {
		w.warn(log, time.Duration(i)*time.Second, []*quota{{path: fmt.Sprintf("/%d", i)}})
	}
	if len(w.last) > quotaWarnMany {
		t.Errorf("%d warnings are remembered", len(w.last))
	}

	// A great many at once are not gone through for each of them.
	for i := range 10_000 {
		w.warn(log, 20_000*time.Second, []*quota{{path: fmt.Sprintf("/many/%d", i)}})
	}
	if w.sweepAt <= len(w.last) || len(w.last) != 10_000 {
		t.Errorf("%d warnings are remembered, and all are looked at from %d on", len(w.last), w.sweepAt)
	}
}

// TestLedgerForgetsTheIdle sees that accounts of identities that have gone are dropped,
// but not before a new one would let them do no more.
func TestLedgerForgetsTheIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		limits := Limits{WritesPerSecond: 0.01, WriteBurst: 1}
		led := newLedger(&Config{IdentityLimits: func(ID) (Limits, bool) { return limits, true }})
		open := func(i int) *meter {
			id := ID{schemeIP, fmt.Sprintf("10.0.%d.%d", i/256, i%256)}
			return led.newMeter(l.g, &SessionOptions{External: true}, []ID{id})
		}
		stays := open(0)
		for i := range 20_000 {
			m := open(1 + i%5000)
			_ = m.pay(t.Context(), 1, 0)
			m.leave()
			time.Sleep(time.Second)
		}
		if n := len(led.identities); n > leastLedgerSweep {
			t.Errorf("the ledger has %d accounts, those of %v at most matter", n, 100*time.Second)
		}
		if led.identities[ID{schemeIP, "10.0.0.0"}] != stays.accounts[0] {
			t.Error("the account of an open session was dropped")
		}
		// Who comes back soon finds what was used, who comes late does not.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for i := range leastLedgerSweep {
			open(6000 + i).leave()
		}
		if err := open(5000).pay(ctx, 1, 0); err == nil {
			t.Error("to connect again is a way around the rate")
		}
		if err := open(1000).pay(ctx, 1, 0); err != nil {
			t.Errorf("who was away for long is refused: %v", err)
		}
	})
}
