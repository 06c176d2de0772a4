package coord

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/bubble"
	"coord/internal/replica"
)

// checkAttempts checks what holds of all attempts at batches, whatever became of
// them: the bytes of a number never change, and a number is attempted only when the
// one before it was applied.
func checkAttempts(tb testing.TB, h *scriptedHost) {
	tb.Helper()
	type name struct{ incarnation, number uint64 }
	frozen := map[name][]byte{}
	last := name{}
	for _, a := range h.batches() {
		n := name{a.cmd.batch.incarnation, a.cmd.batch.number}
		if have, ok := frozen[n]; ok && !bytes.Equal(have, a.bytes) {
			tb.Errorf("attempt %d has other bytes under number %d", a.n, n.number)
		}
		if n.incarnation == last.incarnation && n.number != last.number && n.number != last.number+1 {
			tb.Errorf("attempt %d has number %d behind %d", a.n, n.number, last.number)
		}
		frozen[n], last = a.bytes, n
	}
}

// Whatever becomes of attempts, and whenever the leader changes, every write is
// applied exactly once, and its caller is told what it did.
func TestRandomFatesOfAttemptsApplyEveryWriteOnce(t *testing.T) {
	seed := testSeed(t)
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		if _, _, err := s.Create(t.Context(), "/q", nil); err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(seed, 1))
		fates := []fate{
			applied, applied, appliedTwice, unanswered, lost, delayed,
			refusedWith(replica.ErrBusy), refusedWith(replica.ErrNotReady), refusedWith(errors.New("no idea")),
		}
		h.script(func(attempt) fate { return fates[rnd.IntN(len(fates))] }) // under the host's lock
		stop := make(chan struct{})
		var changing, writing sync.WaitGroup
		changing.Go(func() {
			own := rand.New(rand.NewPCG(seed, 2))
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(own.IntN(3000)) * time.Millisecond):
					h.lead(MemberID(1 + own.IntN(2)))
				}
			}
		})
		const writers, each = 5, 40
		made := make([][]string, writers)
		for i := range writers {
			writing.Go(func() {
				for j := range each {
					p, _, err := s.Create(context.WithoutCancel(t.Context()), "/q/n-", fmt.Appendf(nil, "%d-%d", i, j), PersistentSequential)
					for unknown, ok := errors.AsType[*OutcomeError](err); ok; unknown, ok = errors.AsType[*OutcomeError](err) {
						// The operation timeout has ended the wait, not the write.
						if err = unknown.Outcome(t.Context()); err == nil {
							p = unknown.p.result.ops[0].path
						}
					}
					if err != nil {
						t.Errorf("Create = %v", err)
						return
					}
					data, _, err := s.Get(t.Context(), p, AllowStale())
					if want := fmt.Sprintf("%d-%d", i, j); err != nil || string(data) != want {
						t.Errorf("%s holds %q, %v; its creator wrote %q", p, data, err, want)
					}
					made[i] = append(made[i], p)
				}
			})
		}
		writing.Wait()
		close(stop)
		changing.Wait()
		all := slices.Sorted(slices.Values(slices.Concat(made...)))
		names, stat, err := s.Children(t.Context(), "/q", AllowStale())
		if err != nil || len(names) != writers*each || len(slices.Compact(all)) != writers*each || stat.Cversion != writers*each {
			t.Errorf("%d znodes with cversion %d, %v; %d writes were answered", len(names), stat.Cversion, err, len(all))
		}
		checkAttempts(t, h)
	})
}

// An answer that was lost, or that came by a snapshot of another member, is found
// in the record: there is no second attempt that anything could go wrong with.
func TestAnswersAreFoundInTheRecord(t *testing.T) {
	for what, answer := range map[string]fate{
		"lost": func(_ context.Context, h *scriptedHost, b []byte) error {
			h.apply(b)
			return replica.ErrUnknownOutcome
		},
		"by snapshot": func(_ context.Context, h *scriptedHost, b []byte) error {
			h.install(b)
			return replica.ErrUnknownOutcome
		},
		"by snapshot behind its end": func(ctx context.Context, h *scriptedHost, b []byte) error {
			err := lost(ctx, h, b)
			h.install(b)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				c, h := scriptedMember(t)
				s := sessionOn(t, c)
				h.script(inTurn(answer))
				p, st, err := s.Create(t.Context(), "/n-", []byte("x"), PersistentSequential)
				if err != nil {
					t.Fatalf("Create = %v", err)
				}
				data, now, err := s.Get(t.Context(), p)
				if err != nil || string(data) != "x" || now != st {
					t.Errorf("Get(%s) = %q, %+v, %v; the create was answered %+v", p, data, now, err, st)
				}
				if names, _, err := s.Children(t.Context(), "/"); err != nil || len(names) != 2 {
					t.Errorf("Children = %v, %v", names, err)
				}
				writes := 0
				for _, a := range h.batches() {
					writes += len(slices.DeleteFunc(a.cmd.batch.requests, func(r request) bool { return r.kind != requestWrite }))
				}
				if writes != 1 {
					t.Errorf("%d attempts at a write that the record shows", writes)
				}
			})
		})
	}
}

// An attempt that went to a leader that is none any more is lost without a word: a
// change of leader is followed at once by the same bytes, not after the time that
// an attempt may take.
func TestChangeOfLeaderRepeatsTheBatchAtOnce(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		h.script(inTurn(lost))
		time.AfterFunc(300*time.Millisecond, func() { h.lead(1) })
		begin := time.Now()
		if _, _, err := s.Create(t.Context(), "/n", nil); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d > 301*time.Millisecond {
			t.Errorf("answered after %v, want at once behind the change of leader", d)
		}
		checkAttempts(t, h)
	})
}

// A process whose hello was lost on the way back, or that arrives twice, begins one
// incarnation; one that another process overtook begins the next.
func TestHelloBeginsOneIncarnation(t *testing.T) {
	overtaken := func(ctx context.Context, h *scriptedHost, b []byte) error {
		h.hello(1)
		return applied(ctx, h, b)
	}
	for what, test := range map[string]struct {
		hello fate
		want  uint64
	}{
		"applied": {applied, 1}, "unanswered": {unanswered, 1}, "twice": {appliedTwice, 1}, "lost": {lost, 1},
		"delayed": {delayed, 1}, "busy": {refusedWith(replica.ErrBusy), 1}, "overtaken": {overtaken, 2},
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				c, h := unstartedMember(t)
				first := true
				h.script(func(a attempt) fate {
					if a.cmd.kind == commandHello && first {
						first = false
						return test.hello
					}
					if a.cmd.kind == commandBatch && c.root.state().members.get(1).incarnation != a.cmd.batch.incarnation {
						t.Errorf("a batch of incarnation %d was attempted before that is the stored one", a.cmd.batch.incarnation)
					}
					return applied
				})
				c.root.start(&c.cfg)
				s := sessionOn(t, c)
				if _, _, err := s.Create(t.Context(), "/n", nil); err != nil {
					t.Fatal(err)
				}
				if m := c.root.state().members.get(1); m.incarnation != test.want {
					t.Errorf("incarnation %d, want %d", m.incarnation, test.want)
				}
			})
		})
	}
}

// Nothing is proposed but the hello, and nothing is read but what may be stale,
// before the hello is applied here.
func TestNothingHappensBeforeTheHello(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := unstartedMember(t)
		h.script(func(a attempt) fate {
			if a.cmd.kind == commandInit {
				return applied
			}
			return lost
		})
		c.root.start(&c.cfg)
		errs := make(chan error, 4)
		go func() {
			_, err := c.NewSession(t.Context(), SessionOptions{})
			errs <- err
		}()
		for _, opts := range [][]ReadOption{nil, {Linearizable()}, {AtLeast(Position{})}} {
			go func() {
				_, _, err := c.Get(t.Context(), "/", opts...)
				errs <- err
			}()
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if n := len(h.batches()); n != 0 || len(errs) != 0 {
			t.Errorf("%d batches were proposed and %d calls answered before the hello", n, len(errs))
		}
		if _, _, err := c.Get(t.Context(), "/", AllowStale()); err != nil {
			t.Errorf("stale Get before the hello = %v", err)
		}
		h.script(nil)
		for range 4 {
			if err := <-errs; err != nil {
				t.Errorf("behind the hello: %v", err)
			}
		}
	})
}

// What an earlier process of a member proposed and nobody heard of is refused once
// the next process has said hello, however late it arrives.
func TestLateBatchesOfAnEarlierProcessAreRefused(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		h.script(func(attempt) fate { return lost })
		if _, _, err := s.Create(ctx, "/late", nil); !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("Create = %v, want an unknown outcome", err)
		}
		batches := h.batches()
		late := batches[len(batches)-1]

		next, log := unstartedMember(t)
		if err := log.m.Restore(bytes.NewReader(snapshotOf(t, c.root.state())), nil); err != nil {
			t.Fatal(err)
		}
		log.script(func(a attempt) fate {
			if a.cmd.kind == commandHello {
				return func(ctx context.Context, h *scriptedHost, b []byte) error {
					h.apply(b)
					h.apply(late.bytes) // right behind
					return nil
				}
			}
			return applied
		})
		next.root.start(&next.cfg)
		own := sessionOn(t, next)
		if _, _, err := own.Create(t.Context(), "/own", nil); err != nil {
			t.Fatal(err)
		}
		before := next.root.state().digest()
		log.apply(late.bytes)
		if next.root.state().digest() != before {
			t.Error("a batch of the process before changed something")
		}
		if _, ok, err := own.Exists(t.Context(), "/late"); ok || err != nil {
			t.Errorf("Exists = %v, %v", ok, err)
		}
		if m := next.root.state().members.get(1); m.incarnation != late.cmd.batch.incarnation+1 {
			t.Errorf("incarnation %d behind %d", m.incarnation, late.cmd.batch.incarnation)
		}
	})
}

// Batch n of a process is applied once; n again, with the same bytes or others, and
// every number but n+1, changes nothing.
func TestOnlyTheNextNumberIsApplied(t *testing.T) {
	s := newTestState()
	batch := func(number uint64, path string) {
		cmd := &command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{
			incarnation: 1, number: number, touch: &touch{}, requests: []request{writeOf(op{kind: opCreate, path: path})},
		}}
		e := newEncoder()
		e.command(cmd, formatVersion)
		s.apply(cmd, digestOf(e.buf.Bytes()))
	}
	for n := range uint64(5) {
		batch(n+1, fmt.Sprintf("/%d", n+1))
		kept := s.members.get(1)
		before := snapshotOf(t, s.freeze())
		for number := range n + 5 {
			if number == n+2 {
				continue
			}
			batch(number, fmt.Sprintf("/%d", n+1))
			batch(number, "/other")
		}
		if !bytes.Equal(snapshotOf(t, s.freeze()), before) || s.members.get(1) != kept {
			t.Fatalf("a number beside %d changed something behind batch %d", n+2, n+1)
		}
	}
	if got := s.tree.nodes.len(); got != 4+5 {
		t.Errorf("%d znodes", got)
	}
}

// If another process has used this one's name and number, nothing here can be
// trusted any more: the member stops, and the caller is told that the outcome is
// not known.
func TestOtherBytesUnderOurNumberStopTheMember(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		h.script(func(attempt) fate {
			return func(_ context.Context, h *scriptedHost, _ []byte) error {
				h.applyFor(1, nil, writeOf(op{kind: opCreate, path: "/theirs"}))
				return replica.ErrUnknownOutcome
			}
		})
		_, _, err := s.Create(t.Context(), "/ours", nil)
		if !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("Create = %v, want an unknown outcome", err)
		}
		synctest.Wait()
		if err := c.Health(); !errors.Is(err, ErrFailed) {
			t.Errorf("Health = %v, want failed", err)
		}
	})
}

// withTombstone returns s with member id removed.
func withTombstone(s *state, id MemberID) *state {
	m := *s.members.get(id)
	m.removed = true
	s.members = s.members.with(&m)
	return s
}

// A member that was removed leaves a tombstone, also through a snapshot: neither
// its batches nor its hello, nor a group's init, bring it back.
func TestRemovedMembersAreRefused(t *testing.T) {
	s, err := readBytes(snapshotOf(t, withTombstone(newTestState(), 1).freeze()))
	if err != nil {
		t.Fatal(err)
	}
	before := snapshotOf(t, s.freeze())
	m := s.members.get(1)
	for _, cmd := range []*command{
		{kind: commandHello, hello: &helloCommand{expected: m.incarnation, nonce: 77}},
		{kind: commandHello, hello: &helloCommand{nonce: 77}},
		{kind: commandBatch, batch: &batchCommand{
			incarnation: m.incarnation, number: m.number + 1, touch: &touch{}, requests: []request{writeOf(op{kind: opCreate, path: "/a"})},
		}},
		{kind: commandInit, init: &initCommand{version: formatVersion, members: []memberRecord{{id: 1}}}},
	} {
		cmd.group, cmd.member = rootGroup, 1
		s.apply(cmd, 1)
		if !bytes.Equal(snapshotOf(t, s.freeze()), before) {
			t.Errorf("command of kind %d by a removed member changed something", cmd.kind)
		}
	}
}

// A process whose member is removed while a batch of it is under way proposes no more,
// and its callers are told that the outcome is not known. It goes on to vote until raft
// does without it, and stops then.
func TestRemovalStopsTheMember(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		h.script(func(attempt) fate {
			return func(_ context.Context, h *scriptedHost, _ []byte) error {
				h.mu.Lock()
				defer h.mu.Unlock()
				withTombstone(h.m.s, 1)
				h.m.g.publish(&published{state: h.m.s.freeze(), index: h.index}, nil)
				return replica.ErrUnknownOutcome
			}
		})
		if _, _, err := s.Create(t.Context(), "/n", nil); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("Create = %v, want an unknown outcome", err)
		}
		synctest.Wait()
		if err := c.Health(); errors.Is(err, ErrFailed) {
			t.Errorf("Health while raft counts on it = %v", err)
		}
		if _, _, err := s.Create(t.Context(), "/m", nil); !errors.Is(err, ErrNotMember) {
			t.Errorf("another Create = %v, want %v", err, ErrNotMember)
		}
		c.onRemoved(replica.GroupID(rootGroup))
		if err := c.Health(); !errors.Is(err, ErrFailed) || !errors.Is(err, ErrNotMember) {
			t.Errorf("Health = %v, want failed because it is no member", err)
		}

		again, log := unstartedMember(t)
		if err := log.m.Restore(bytes.NewReader(snapshotOf(t, c.root.state())), nil); err != nil {
			t.Fatal(err)
		}
		again.root.start(&again.cfg)
		synctest.Wait()
		again.onRemoved(replica.GroupID(rootGroup))
		if err := again.Health(); !errors.Is(err, ErrNotMember) {
			t.Errorf("Health of its next process = %v", err)
		}
		if n := len(log.batches()); n != 0 {
			t.Errorf("its next process proposed %d batches", n)
		}
	})
}

// Callers leave singly: who is in a batch under way is told that the outcome is not
// known, and can ask for it; who waits in the queue takes the write with it; the
// others of the batch are answered.
func TestCallersLeaveSingly(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		if _, _, err := s.Create(t.Context(), "/taken", nil); err != nil {
			t.Fatal(err)
		}
		gate := make(chan struct{}) // one passage for each attempt
		h.script(func(attempt) fate {
			return func(ctx context.Context, h *scriptedHost, b []byte) error {
				select {
				case <-gate:
					return applied(ctx, h, b)
				case <-ctx.Done():
					return replica.ErrUnknownOutcome
				}
			}
		})
		type answered struct {
			path string
			err  error
		}
		answers := make(chan answered, 10)
		create := func(ctx context.Context, path string) {
			go func() {
				_, _, err := s.Create(ctx, path, nil)
				answers <- answered{path, err}
			}()
		}
		create(t.Context(), "/under-way") // a batch alone
		synctest.Wait()
		leaving, cancel := context.WithCancel(t.Context())
		for _, path := range []string{"/stays", "/taken"} {
			create(t.Context(), path)
		}
		create(leaving, "/leaves-the-queue")
		synctest.Wait()
		cancel()
		if a := <-answers; a.path != "/leaves-the-queue" || !errors.Is(a.err, context.Canceled) || errors.Is(a.err, ErrUnknownOutcome) {
			t.Errorf("%s: %v, want a definite end", a.path, a.err)
		}
		gate <- struct{}{}
		gate <- struct{}{}
		for range 3 {
			a := <-answers
			if want := map[string]error{"/taken": ErrNodeExists}[a.path]; !errors.Is(a.err, want) {
				t.Errorf("%s: %v, want %v", a.path, a.err, want)
			}
		}

		// The next batch: one of three leaves while it is under way.
		leaving, cancel = context.WithCancel(t.Context())
		create(t.Context(), "/first")
		synctest.Wait()
		create(t.Context(), "/second")
		create(leaving, "/leaves-the-batch")
		create(leaving, "/taken")
		synctest.Wait()
		gate <- struct{}{} // the first alone
		synctest.Wait()
		if a := <-answers; a.path != "/first" || a.err != nil {
			t.Errorf("%s: %v", a.path, a.err)
		}
		cancel()
		unknown := map[string]*OutcomeError{}
		for range 2 {
			a := <-answers
			err, ok := errors.AsType[*OutcomeError](a.err)
			if !ok || !errors.Is(a.err, context.Canceled) {
				t.Fatalf("%s: %v, want an unknown outcome", a.path, a.err)
			}
			unknown[a.path] = err
		}
		gate <- struct{}{}
		if a := <-answers; a.path != "/second" || a.err != nil {
			t.Errorf("%s: %v", a.path, a.err)
		}
		if err := unknown["/leaves-the-batch"].Outcome(t.Context()); err != nil {
			t.Errorf("Outcome = %v, want applied", err)
		}
		if err := unknown["/taken"].Outcome(t.Context()); !errors.Is(err, ErrNodeExists) {
			t.Errorf("Outcome = %v, want node exists", err)
		}
		for _, a := range h.batches() {
			for _, r := range a.cmd.batch.requests {
				if len(r.ops) > 0 && r.ops[0].path == "/leaves-the-queue" {
					t.Error("a write that left the queue was proposed")
				}
			}
		}
		checkAttempts(t, h)
	})
}

// A process that is closed while a batch is under way says that its outcome is not
// known, and does so for ever.
func TestOutcomesOfAClosedProcessStayUnknown(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, h := scriptedMember(t)
		s := sessionOn(t, c)
		h.script(func(attempt) fate { return lost })
		failed := make(chan error, 1)
		go func() {
			_, _, err := s.Create(t.Context(), "/n", nil)
			failed <- err
		}()
		time.Sleep(time.Second)
		c.root.close(ErrClosed)
		err := <-failed
		unknown, ok := errors.AsType[*OutcomeError](err)
		if !ok || !errors.Is(err, ErrClosed) {
			t.Fatalf("Create = %v, want an unknown outcome because of the close", err)
		}
		for range 2 {
			if err := unknown.Outcome(t.Context()); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrClosed) {
				t.Errorf("Outcome = %v", err)
			}
		}
	})
}

// TestRequestsAreNotLargerThanCounted encodes requests with much of everything: a batch
// that is larger than was counted could be one that no log takes.
func TestRequestsAreNotLargerThanCounted(t *testing.T) {
	var ids []ID
	var acl []ACL
	for i := range maxIdentities {
		ids = append(ids, ID{strings.Repeat("s", maxSchemeBytes), strings.Repeat("i", maxIDBytes-i)})
		acl = append(acl, ACL{1<<32 - 1, ids[i]})
	}
	set := settings{superDigest: strings.Repeat("d", maxIDBytes), defaultACL: acl, maxDataBytes: 1 << 62, minSessionTimeoutMS: 1 << 62, maxSessionTimeoutMS: 1 << 62}
	for range maxSchemes {
		set.schemes = append(set.schemes, strings.Repeat("s", maxSchemeBytes))
	}
	requests := []request{
		{kind: requestSettings, change: &settingsChange{set, set}},
		{kind: requestSetTemplate, template: &template{path: strings.Repeat("/p", 2000), list: acl}},
		{kind: requestSetUser, user: &user{name: strings.Repeat("n", maxUserNameBytes), hash: conceal(strings.Repeat("h", maxHashBytes))}},
		writeOf(op{kind: opCreate, path: strings.Repeat("/p", 2000), data: make([]byte, 1000), acl: acl, czxid: 1 << 63, ttlMS: 1 << 62}),
	}
	for _, cmd := range goldenCommands(formatVersion) {
		if cmd.batch != nil {
			requests = append(requests, cmd.batch.requests...)
		}
	}
	for i := range requests {
		r := &requests[i]
		r.session, r.generation, r.timeMS, r.identities = 1<<63, 1<<63, 1<<62, ids
		e := newEncoder()
		e.request(r)
		if counted := requestBytes(r); counted < int64(e.buf.Len()) {
			t.Errorf("a request of kind %d has %d bytes, and %d are counted", r.kind, e.buf.Len(), counted)
		}
	}
}

// What waits in front of the log is bounded, and so is each batch of it, in requests
// and in bytes; one request that is larger than a batch goes alone.
func TestBatchesAreBounded(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c, _ := unstartedMember(t)
		p := c.root.proposer
		fill := func(size int) (n int) {
			t.Helper()
			for ; ; n++ {
				q, err := p.trySubmit(writeOf(op{kind: opSetData, path: "/n", data: make([]byte, size)}))
				if err != nil {
					t.Fatal(err)
				}
				if q == nil {
					return n
				}
			}
		}
		for _, test := range []struct{ size, most int }{{0, maxQueueBytes / minQueuedBytes}, {300 << 10, 64 << 20 / (300 << 10)}, {3 << 20, 21}} {
			n := fill(test.size)
			if n == 0 || n > test.most {
				t.Errorf("%d requests of %d bytes found a place, want at most %d", n, test.size, test.most)
			}
			for range 2 * maxOwnRequests {
				if _, err := p.submitOwn(request{kind: requestWithdraw}); err != nil {
					break
				}
				n++
			}
			for first := true; n > 0; first = false {
				batch := p.take()
				bytes := 0
				for _, q := range batch {
					bytes += len(q.req.ops)
					for _, o := range q.req.ops {
						bytes += len(o.data)
					}
				}
				if len(batch) == 0 || len(batch) > maxBatchRequests || bytes > maxBatchBytes && len(batch) > 1 {
					t.Fatalf("a batch of %d requests with %d bytes", len(batch), bytes)
				}
				if first && !batch[0].own {
					t.Error("a request of a caller goes before those of the member")
				}
				n -= len(batch)
			}
			if p.take() != nil || !p.space.TryAcquire(maxQueueBytes) {
				t.Fatal("an empty queue holds something")
			}
			p.space.Release(maxQueueBytes)
		}
	})
}
