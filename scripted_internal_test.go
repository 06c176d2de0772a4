package coord

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"coord/internal/replica"
)

// A scriptedHost is the log of one group as one member sees it, without raft: the
// test decides what becomes of each attempt at a proposal. It stands in where a
// real ensemble meets an interleaving too rarely. It must be made inside a bubble.
type scriptedHost struct {
	tb testing.TB
	m  *machine

	others sync.Mutex // held while another member's batch is made and applied

	mu       sync.Mutex
	index    uint64                          // guarded by mu
	attempts []attempt                       // guarded by mu; every call of Propose
	late     [][]byte                        // guarded by mu; attempts that are still on their way
	busy     bool                            // guarded by mu; an attempt is under way
	decide   func(a attempt) fate            // guarded by mu; nil: all are applied
	read     func(ctx context.Context) error // guarded by mu; what becomes of a ReadIndex; nil: answered
	transfer func(to MemberID)               // guarded by mu; what becomes of a request to hand leadership over; nil: nothing
}

var _ replica.Host = (*scriptedHost)(nil)

// An attempt is one call of Propose.
type attempt struct {
	n     int // counts all attempts, from 1
	at    time.Time
	bytes []byte
	cmd   *command
}

// A fate is what becomes of an attempt.
type fate func(ctx context.Context, h *scriptedHost, b []byte) error

func applied(_ context.Context, h *scriptedHost, b []byte) error {
	h.apply(b)
	return nil
}

func appliedTwice(ctx context.Context, h *scriptedHost, b []byte) error {
	h.apply(b)
	return applied(ctx, h, b)
}

// unanswered attempts are applied, and nobody hears of it.
func unanswered(ctx context.Context, h *scriptedHost, b []byte) error {
	h.apply(b)
	return lost(ctx, h, b)
}

func lost(ctx context.Context, _ *scriptedHost, _ []byte) error {
	<-ctx.Done()
	return fmt.Errorf("%w: %w", replica.ErrUnknownOutcome, ctx.Err())
}

// delayed attempts are applied at some time behind the next one.
func delayed(ctx context.Context, h *scriptedHost, b []byte) error {
	h.mu.Lock()
	h.late = append(h.late, b)
	h.mu.Unlock()
	return lost(ctx, h, b)
}

func refusedWith(err error) fate {
	return func(context.Context, *scriptedHost, []byte) error { return err }
}

// inTurn gives each attempt the next of these fates, and applies all behind them.
func inTurn(fates ...fate) func(attempt) fate {
	return func(attempt) fate {
		if len(fates) == 0 {
			return applied
		}
		next := fates[0]
		fates = fates[1:]
		return next
	}
}

func (h *scriptedHost) Propose(ctx context.Context, _ replica.GroupID, b []byte) error {
	b = bytes.Clone(b)
	cmd, err := decodeCommand(b)
	if err != nil {
		h.tb.Errorf("an attempt that nobody can read: %v", err)
		return err
	}
	h.mu.Lock()
	if h.busy {
		h.tb.Error("a second proposal while one is under way")
	}
	h.busy = true
	a := attempt{len(h.attempts) + 1, time.Now(), b, cmd}
	h.attempts = append(h.attempts, a)
	do := fate(applied)
	if h.decide != nil {
		do = h.decide(a)
	}
	late := h.late
	h.late = nil
	h.mu.Unlock()
	err = do(ctx, h, b)
	for _, b := range late {
		h.apply(b)
	}
	h.mu.Lock()
	h.busy = false
	h.mu.Unlock()
	return err
}

// apply applies one entry of the log.
func (h *scriptedHost) apply(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.index++
	h.m.Apply([]replica.Entry{{Index: h.index, Cmd: b}})
}

// applyFor applies a batch of another member.
func (h *scriptedHost) applyFor(id MemberID, t *touch, requests ...request) []result {
	h.tb.Helper()
	h.others.Lock() // or two batches would have one number
	defer h.others.Unlock()
	m := h.m.g.state().members.get(id)
	e := newEncoder()
	e.command(&command{kind: commandBatch, group: h.m.g.id, member: id, batch: &batchCommand{
		incarnation: m.incarnation, number: m.number + 1, touch: t, requests: append([]request{}, requests...),
	}}, formatVersion)
	h.apply(e.buf.Bytes())
	return h.m.g.state().members.get(id).results
}

// hello applies the hello of another process of a member.
func (h *scriptedHost) hello(id MemberID) {
	e := newEncoder()
	e.command(&command{kind: commandHello, group: h.m.g.id, member: id, hello: &helloCommand{
		expected: h.m.g.state().members.get(id).incarnation, nonce: randomUint64(),
	}}, formatVersion)
	h.apply(e.buf.Bytes())
}

// found gives the group its members, and has both say hello.
func (h *scriptedHost) found() {
	e := newEncoder()
	e.command(&command{kind: commandInit, group: h.m.g.id, member: 1, init: h.m.g.proposer.initial}, formatVersion)
	h.apply(e.buf.Bytes())
	h.hello(1)
	h.hello(2)
}

// install has b applied by some other member, whose snapshot is then installed here.
func (h *scriptedHost) install(b []byte) {
	s, err := readBytes(snapshotOf(h.tb, h.m.g.state()))
	if err != nil {
		h.tb.Fatal(err)
	}
	cmd, err := decodeCommand(b)
	if err != nil {
		h.tb.Fatal(err)
	}
	s.apply(cmd, digestOf(b))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.index++
	if err := h.m.Restore(bytes.NewReader(snapshotOf(h.tb, s.freeze())), nil); err != nil {
		h.tb.Error(err)
	}
}

// script decides what becomes of all attempts from now on.
func (h *scriptedHost) script(decide func(a attempt) fate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decide = decide
}

// reading decides what becomes of every ReadIndex from now on.
func (h *scriptedHost) reading(read func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read = read
}

// batches returns the attempts at batches so far.
func (h *scriptedHost) batches() []attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.attempts), func(a attempt) bool { return a.cmd.kind != commandBatch })
}

func (h *scriptedHost) ReadIndex(ctx context.Context, _ replica.GroupID) error {
	h.mu.Lock()
	read := h.read
	h.mu.Unlock()
	if read != nil {
		return read(ctx)
	}
	return nil
}

func (h *scriptedHost) SetMembers(map[replica.MemberID]string) error              { return nil }
func (h *scriptedHost) StopGroup(context.Context, replica.GroupID) error          { return nil }
func (h *scriptedHost) Stored() []replica.GroupID                                 { return nil }
func (h *scriptedHost) RemoveGroup(context.Context, replica.GroupID) error        { return nil }
func (h *scriptedHost) Role(replica.GroupID) replica.Role                         { return h.m.g.currentRole() }
func (h *scriptedHost) Snapshot(context.Context, replica.GroupID) (uint64, error) { return 0, nil }
func (h *scriptedHost) Close() error                                              { return nil }

func (h *scriptedHost) StartGroup(replica.GroupID, replica.Machine, replica.First) error { return nil }

func (h *scriptedHost) Membership(context.Context, replica.GroupID) (replica.Membership, error) {
	return replica.Membership{}, errors.ErrUnsupported
}

func (h *scriptedHost) ChangeMember(context.Context, replica.GroupID, uint64, replica.MemberID, replica.Standing) error {
	return errors.ErrUnsupported
}

func (h *scriptedHost) TransferLeadership(_ context.Context, _ replica.GroupID, to replica.MemberID) error {
	h.mu.Lock()
	transfer := h.transfer
	h.mu.Unlock()
	if transfer != nil {
		transfer(MemberID(to))
	}
	return nil
}

// transferring decides what becomes of every request to hand leadership over from now on.
func (h *scriptedHost) transferring(f func(to MemberID)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.transfer = f
}

// lead has a member lead in another term.
func (h *scriptedHost) lead(id MemberID) {
	role := h.m.g.currentRole()
	h.m.g.setRole(replica.Role{Leader: replica.MemberID(id), Term: role.Term + 1})
}

// scriptedGroup is the group that scripted hosts have the log of.
var scriptedGroup = rootGroup

// unstartedMember returns member 1 of an ensemble of two on a scripted host. Member
// 2 leads. Its goroutines do not run yet, so only what the test calls happens.
func unstartedMember(tb testing.TB) (*Coordinator, *scriptedHost) {
	tb.Helper()
	cfg := Config{
		ID: 1, Dir: "scripted", InitialMembers: []Member{{ID: 1, Addr: "one:1"}, {ID: 2, Addr: "two:1"}}, Insecure: true,
		Logger: slog.New(slog.DiscardHandler),
	}
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		tb.Fatal(err)
	}
	h := &scriptedHost{tb: tb}
	c := newCoordinator(cfg)
	c.host = h
	c.ctx, c.cancel = context.WithCancelCause(context.Background()) //nolint:usetesting // it must outlive the test's, as a Coordinator does
	c.root = newGroup(scriptedGroup, &c.cfg, c.log)
	c.root.onFail = c.fail
	c.root.onRole = func(r replica.Role) { c.roles.show(scriptedGroup, r) }
	c.root.host = h
	c.anonymous = &Session{c: c, g: c.root, ctx: c.ctx, cancel: func(error) {}}
	h.m = &machine{g: c.root, s: newState(scriptedGroup)}
	h.lead(2)
	tb.Cleanup(func() {
		c.cancel(ErrClosed)
		c.root.close(ErrClosed)
		c.wg.Wait()
	})
	return c, h
}

// scriptedMember is unstartedMember, running and joined, beside a member 2 that has
// said hello.
func scriptedMember(tb testing.TB) (*Coordinator, *scriptedHost) {
	tb.Helper()
	c, h := unstartedMember(tb)
	c.root.start(&c.cfg)
	if err := c.root.awaitJoined(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	h.hello(2)
	return c, h
}

// sessionOn opens a session that outlives whatever the test does, unless it says
// for how long it is to live.
func sessionOn(tb testing.TB, c *Coordinator, timeout ...time.Duration) *Session {
	tb.Helper()
	s, err := c.NewSession(tb.Context(), SessionOptions{Timeout: append(timeout, 24*time.Hour)[0]})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// openedBy opens a session of another member, with a touch, as members do.
func (h *scriptedHost) openedBy(id MemberID, timeout time.Duration) SessionID {
	h.tb.Helper()
	return h.applyFor(id, &touch{}, request{kind: requestOpenSession, timeoutMS: timeout.Milliseconds()})[0].session
}
