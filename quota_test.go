package coord_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/private"
)

// recount returns what a view shows that the subtree at path uses.
func recount(t *testing.T, c *coord.Coordinator, path string) coord.Usage {
	t.Helper()
	v, err := c.View(t.Context(), coord.Linearizable())
	if err != nil {
		t.Fatal(err)
	}
	var u coord.Usage
	for n := range v.Walk(path) {
		u.Znodes++
		u.Bytes += int64(len(n.Data))
	}
	return u
}

// TestQuotaHolds has sessions of all members write into a subtree with hard limits at
// once: however they interleave, the limits are never exceeded, and what is free is
// not refused. Restarts and snapshots change no count.
func TestQuotaHolds(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	ctx := t.Context()
	c := e.Leader(ctx)
	mustCreate(t, c, "/app", "")
	want := coord.Quota{Znodes: 10, HardZnodes: 20, HardBytes: 150}
	if err := c.SetQuota(ctx, "/app", want); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var writers sync.WaitGroup
	for i, m := range e.Running() {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 150 {
				path := fmt.Sprintf("/app/%d", r.IntN(40))
				data := bytes.Repeat([]byte("x"), r.IntN(20))
				var err error
				switch r.IntN(4) {
				case 0, 1:
					_, _, err = m.Create(ctx, path, data)
				case 2:
					_, err = m.SetData(ctx, path, data)
				default:
					err = m.Delete(ctx, path)
				}
				switch {
				case err == nil, errors.Is(err, coord.ErrNoNode), errors.Is(err, coord.ErrNodeExists), errors.Is(err, coord.ErrQuotaExceeded):
				default:
					t.Errorf("%s: %v", path, err)
					return
				}
				if u := recount(t, m, "/app"); u.Znodes > want.HardZnodes || u.Bytes > want.HardBytes {
					t.Errorf("usage %+v is over %+v", u, want)
				}
			}
		})
	}
	writers.Wait()

	// What is free can be used.
	for i := range 40 {
		if err := c.Delete(ctx, fmt.Sprintf("/app/%d", i)); err != nil && !errors.Is(err, coord.ErrNoNode) {
			t.Fatal(err)
		}
	}
	for i := range want.HardZnodes - 1 {
		mustCreate(t, c, fmt.Sprintf("/app/%d", i), "seven77")
	}
	_, _, err := c.Create(ctx, "/app/more", nil)
	if !errors.Is(err, coord.ErrQuotaExceeded) || !strings.Contains(fmt.Sprint(err), "the quota of /app has 20 znodes, the limit is 20 and 133 bytes, the limit is 150") {
		t.Errorf("Create over the quota = %v", err)
	}
	_, err = c.Multi(ctx, coord.DeleteOp("/app/0"), coord.SetDataOp("/app/1", bytes.Repeat([]byte("y"), 32)))
	if !errors.Is(err, coord.ErrQuotaExceeded) || !strings.Contains(fmt.Sprint(err), "operation 1: setData /app/1") || !strings.Contains(fmt.Sprint(err), "the limit is 150") {
		t.Errorf("Multi over the quota = %v", err)
	}

	if err := private.Snapshot(c); err != nil {
		t.Fatal(err)
	}
	e.Stop(c)
	e.Restart(c)
	for _, m := range e.Running() {
		q, u, err := m.Quota(ctx, "/app", coord.Linearizable())
		if err != nil || q != want || u != recount(t, m, "/app") || u.Znodes != 20 {
			t.Errorf("Quota = %+v, %+v, %v", q, u, err)
		}
		stats, _, err := m.Get(ctx, "/zookeeper/quota/app/zookeeper_stats", coord.Linearizable())
		if text := fmt.Sprintf("count=%d,bytes=%d", u.Znodes, u.Bytes); err != nil || string(stats) != text {
			t.Errorf("the stats show %q, %v, want %q", stats, err, text)
		}
	}
}

// TestQuotaIsSetAndRemoved goes through the life of a quota.
func TestQuotaIsSetAndRemoved(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	ctx, c := t.Context(), e.Member(1)
	exists := func(path string) bool {
		_, ok, err := c.Exists(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if _, _, err := c.Quota(ctx, "/a/b"); !errors.Is(err, coord.ErrNoNode) {
		t.Errorf("Quota of a path without one = %v", err)
	}
	if err := c.RemoveQuota(ctx, "/a/b"); !errors.Is(err, coord.ErrNoNode) {
		t.Errorf("RemoveQuota of a path without one = %v", err)
	}
	for _, q := range []coord.Quota{{Znodes: 5}, {Bytes: 7, HardZnodes: 2}, {HardBytes: 9}, {}} {
		if err := c.SetQuota(ctx, "/a/b", q); err != nil {
			t.Fatalf("SetQuota(%+v) = %v", q, err)
		}
		if got, _, err := c.Quota(ctx, "/a/b"); got != q || err != nil {
			t.Errorf("Quota = %+v, %v, want %+v", got, err, q)
		}
	}
	data, stat, err := c.Get(ctx, "/zookeeper/quota/a/b/zookeeper_limits")
	if string(data) != "count=-1,bytes=-1" || stat.Version != 3 || err != nil {
		t.Errorf("limits %q at version %d, %v", data, stat.Version, err)
	}

	// A client of ZooKeeper may leave one of the znodes out, or set limits of zero.
	if err := c.Delete(ctx, "/zookeeper/quota/a/b/zookeeper_stats"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetData(ctx, "/zookeeper/quota/a/b/zookeeper_limits", []byte("count=3,bytes=-1=;byteHardLimit=0")); err != nil {
		t.Fatal(err)
	}
	if q, u, err := c.Quota(ctx, "/a/b"); q != (coord.Quota{Znodes: 3, HardBytes: -1}) || u != (coord.Usage{}) || err != nil {
		t.Errorf("Quota = %+v, %+v, %v", q, u, err)
	}
	_, err = c.SetData(ctx, "/zookeeper/quota/a/b/zookeeper_limits", []byte("zero"))
	if !errors.Is(err, coord.ErrBadArguments) || !strings.Contains(fmt.Sprint(err), `"zero" is not one of count`) {
		t.Errorf("SetData of nonsense = %v", err)
	}
	_, err = c.SetData(ctx, "/zookeeper/quota/a/b/zookeeper_limits", bytes.Repeat([]byte("x"), 1<<20))
	if text := fmt.Sprint(err); !errors.Is(err, coord.ErrBadArguments) || len(text) > 500 {
		t.Errorf("SetData of much nonsense = %.100s… of %d bytes", text, len(text))
	}
	if err := c.SetQuota(ctx, "/a/c", coord.Quota{Znodes: 1}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetQuota(ctx, "/a/b", coord.Quota{HardZnodes: 1}); err != nil || !exists("/zookeeper/quota/a/b/zookeeper_stats") {
		t.Errorf("SetQuota = %v, or did not bring back the stats", err)
	}

	// What led to the quota goes with it, and nothing else.
	if err := c.RemoveQuota(ctx, "/a/b"); err != nil || exists("/zookeeper/quota/a/b") || !exists("/zookeeper/quota/a") {
		t.Errorf("RemoveQuota = %v, or left or took too much", err)
	}
	if err := c.RemoveQuota(ctx, "/a/c"); err != nil || exists("/zookeeper/quota/a") {
		t.Errorf("RemoveQuota = %v, or left something", err)
	}
	odd := "/a/zookeeper_limits/x" // the znodes of which lie below the limits of /a
	if err := errors.Join(c.SetQuota(ctx, "/a", coord.Quota{Znodes: 5}), c.SetQuota(ctx, odd, coord.Quota{Znodes: 1}), c.RemoveQuota(ctx, odd)); err != nil {
		t.Error(err)
	}
	if q, _, err := c.Quota(ctx, "/a"); q != (coord.Quota{Znodes: 5}) || err != nil {
		t.Errorf("when another was removed below it, the quota is %+v, %v", q, err)
	}

	long := "/" + strings.Repeat("x", 4064)
	for path, q := range map[string]coord.Quota{"/": {}, "/zookeeper": {}, "/zookeeper/quota/a": {}, "a": {}, "/a/": {}, "": {}, long: {}, "/a": {Bytes: -1}} {
		if err := c.SetQuota(ctx, path, q); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("SetQuota(%.20q, %+v) = %v", path, q, err)
		}
	}
	if err := c.SetQuota(ctx, long[:4063], coord.Quota{}); err != nil {
		t.Errorf("SetQuota of the longest path = %v", err)
	}
}

// TestQuotaDetailIsForThoseWhoMayReadIt sees that a refusal tells nothing of a quota to
// somebody who may not read it.
func TestQuotaDetailIsForThoseWhoMayReadIt(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	ctx, c := t.Context(), e.Member(1)
	mustCreate(t, c, "/open", "", coord.WithACL(coord.OpenACL()...))
	if err := c.SetQuota(ctx, "/open", coord.Quota{HardZnodes: 1}); err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSession(ctx, coord.SessionOptions{External: true})
	if err != nil {
		t.Fatal(err)
	}
	refusal := func() *coord.OpError {
		_, _, err := s.Create(ctx, "/open/x", nil)
		op, ok := errors.AsType[*coord.OpError](err)
		if !ok || !errors.Is(err, coord.ErrQuotaExceeded) {
			t.Fatalf("Create over the quota = %v", err)
		}
		return op
	}
	if d := refusal().Detail; d != "" {
		t.Errorf("who may not read the quota is told %q", d)
	}
	if _, err := c.SetACL(ctx, "/zookeeper/quota/open/zookeeper_limits", coord.ReadOnlyACL()); err != nil {
		t.Fatal(err)
	}
	if d := refusal().Detail; d != "the quota of /open has 1 znodes, the limit is 1" {
		t.Errorf("who may read the quota is told %q", d)
	}
}

// A logBook keeps the messages of some members' logs.
type logBook struct {
	slog.Handler
	mu      sync.Mutex
	entries []string // guarded by mu
}

func newLogBook() *logBook { return &logBook{Handler: slog.NewTextHandler(nil, nil)} }

func (b *logBook) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, text)
	return nil
}

func (b *logBook) WithAttrs([]slog.Attr) slog.Handler { return b }

func (b *logBook) with(word string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for _, entry := range b.entries {
		if strings.Contains(entry, word) {
			found = append(found, entry)
		}
	}
	return found
}

// TestSoftQuotaWarns has all members warn of a quota, once a minute.
func TestSoftQuotaWarns(t *testing.T) {
	book := newLogBook()
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx := t.Context()
		c := e.Leader(ctx)
		mustCreate(t, c, "/soft", "")
		mustCreate(t, c, "/advisory", "")
		if err := errors.Join(c.SetQuota(ctx, "/soft", coord.Quota{Znodes: 2}), c.SetQuota(ctx, "/advisory", coord.Quota{HardBytes: 3})); err != nil {
			t.Fatal(err)
		}
		warned := func(want int) {
			t.Helper()
			e.Converged(ctx)
			if got := book.with("quota exceeded"); len(got) != want {
				t.Errorf("%d warnings, want %d: %q", len(got), want, got)
			}
		}
		mustCreate(t, c, "/soft/a", "")
		warned(0)
		for i := range 10 {
			mustCreate(t, c, fmt.Sprintf("/soft/b%d", i), "")
		}
		warned(3)
		if got := book.with("path=/soft znodes=3 bytes=0 limits=count=2,bytes=-1"); len(got) != 3 {
			t.Errorf("the warnings are %q", book.with("quota"))
		}
		mustCreate(t, c, "/advisory/a", "four")
		warned(6)
		time.Sleep(time.Minute)
		if err := c.Delete(ctx, "/soft/a"); err != nil {
			t.Fatal(err)
		}
		warned(6)
		mustCreate(t, c, "/soft/c", "")
		mustCreate(t, c, "/soft/d", "")
		warned(9)
	}, coordtest.WithConfig(func(c *coord.Config) {
		c.Logger, c.AdvisoryQuotas = slog.New(book), true
	}))
}
