package coord

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"coord/internal/replica"
)

// Drain prepares this member for its end: leadership of every group goes to another
// voter that has kept up, if there is one to a voter that is not drained, and whenever
// this member is elected again it gives leadership away again. It refuses nothing
// otherwise, so clients and sessions can leave meanwhile. When Drain returns nil, Close
// costs the others no election.
//
// Drain waits until no group is led by this member, at most until ctx ends or for
// [Config.OperationTimeout]. A hand-over under load holds writes up for some tenths
// of the ElectionTimeout; they fail for nobody. The error says of each group what is in
// the way. It satisfies errors.Is for [ErrNoSuccessor] if no other voter can lead, and
// then for the cause of ctx or [ErrTimeout] too if one might have come back; if there
// is no other voter at all, Drain returns at once. It satisfies errors.Is for
// [ErrClosed] and [ErrFailed] when the Coordinator has ended.
//
// Whatever Drain returns, the member stays drained until [Coordinator.Undrain] is
// called, or it ends. Drain may be called again, to wait again, and concurrently.
func (c *Coordinator) Drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	c.beginDrain()
	for {
		_, changed := c.roles.look()
		waits, err := c.leads()
		if c.ctx.Err() != nil {
			return &OpError{Op: "drain", Err: context.Cause(c.ctx)}
		}
		if !waits {
			return err
		}
		// Whether the others have touched, and this member has contact, shows in no
		// role: it is looked at again now and then.
		again := time.NewTimer(c.root.timing.touchEvery)
		select {
		case <-changed:
		case <-again.C:
		case <-c.ctx.Done():
		case <-ctx.Done():
			if waits, err = c.leads(); waits {
				err = &OpError{Op: "drain", Err: errors.Join(context.Cause(ctx), err)}
			}
			again.Stop()
			return err
		}
		again.Stop()
	}
}

// Undrain ends what [Coordinator.Drain] has begun: the member may lead again. It does
// nothing if the member is not drained.
func (c *Coordinator) Undrain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.undrain != nil {
		c.undrain()
		c.undrain = nil
		c.log.Info("not drained any more")
	}
}

// beginDrain has this member give leadership away until Undrain or the end.
func (c *Coordinator) beginDrain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.undrain != nil || c.stopped != nil || c.ctx.Err() != nil {
		return
	}
	var ctx context.Context
	ctx, c.undrain = context.WithCancel(c.ctx)
	c.log.Info("drained from now on")
	c.wg.Go(func() { c.runDrain(ctx) })
}

// runDrain gives leadership of every group away, each time that this member has it.
func (c *Coordinator) runDrain(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	seen := map[*group]bool{}
	for ctx.Err() == nil {
		_, changed := c.roles.look()
		maps.DeleteFunc(seen, func(g *group, _ bool) bool { return g.ctx.Err() != nil })
		for _, g := range c.groups() {
			if !seen[g] {
				seen[g] = true
				working.Go(func() { c.giveAway(ctx, g) })
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// giveAway hands leadership of one group over, each time that this member has it,
// until ctx or the group ends.
func (c *Coordinator) giveAway(ctx context.Context, g *group) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()
	for ctx.Err() == nil {
		_, changed := c.roles.look()
		if g.leading() {
			c.handOver(ctx, g, drainPatience)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// leads reports whether some group keeps Drain waiting, and what is in the way. An
// error without waiting is final.
func (c *Coordinator) leads() (waits bool, err error) {
	var errs []error
	final := false
	for _, g := range c.groups() {
		leader := MemberID(g.currentRole().Leader)
		switch {
		case leader == g.member:
			_, err := g.successors()
			if err == nil {
				err = errors.New("leadership was not taken yet")
			}
			errs = append(errs, fmt.Errorf("group %v: %w", g.id, err))
			final = final || errors.Is(err, errOnlyVoter)
		case leader == 0 && !g.suspended():
			// There is an election, which this member may win.
			errs = append(errs, fmt.Errorf("group %v: no leader is known", g.id))
		}
	}
	if final {
		return false, &OpError{Op: "drain", Err: errors.Join(errs...)}
	}
	return errs != nil, errors.Join(errs...)
}

// handOverAll is handOver of all groups at the end of this member.
func (c *Coordinator) handOverAll(ctx context.Context) {
	var working sync.WaitGroup
	for _, g := range c.groups() {
		working.Go(func() { c.handOver(ctx, g, farewellPatience) })
	}
	working.Wait()
}

// How long a hand-over goes on: in the end of a member, and while it is drained.
const (
	farewellPatience = 3
	drainPatience    = 0 // for as long as it takes
)

// handOver has another voter lead g, if this member does. It makes so many attempts,
// or as many as it takes until ctx ends. In an attempt that failed the leader takes
// nothing for an election timeout, so those that follow come after pauses in which
// the ensemble can work.
func (c *Coordinator) handOver(ctx context.Context, g *group, attempts int) {
	wait := g.timing.touchEvery
	for n := 0; g.leading() && ctx.Err() == nil && (attempts == 0 || n < attempts); {
		to, err := g.successors()
		if err == nil && !g.suspended() {
			c.offer(ctx, g, to, n)
			n++
		} else if attempts > 0 {
			return
		}
		if g.leading() {
			pause(ctx, wait)
			wait = min(2*wait, 8*g.timing.touchEvery)
		}
	}
}

// offer asks one of the members to lead g, another in each attempt, and waits until it
// does, or does not. The raft library has the successor refuse while there is something
// for it to apply, and nobody is told; so all members are asked to propose nothing
// meanwhile. Who answers that it is drained itself is taken if there is no other.
func (c *Coordinator) offer(ctx context.Context, g *group, to []MemberID, attempt int) {
	heartbeats := 2 * g.timing.tick * time.Duration(g.timing.heartbeatTicks)
	election := g.timing.tick * time.Duration(g.timing.electionTicks)
	most := 2*heartbeats + election
	quieting, cancel := context.WithTimeout(ctx, heartbeats)
	var (
		asking  sync.WaitGroup
		mu      sync.Mutex
		drained = map[MemberID]bool{}
	)
	for _, m := range g.touchedLately() {
		asking.Go(func() {
			is := c.askForQuiet(quieting, g, m.id, most)
			mu.Lock()
			defer mu.Unlock()
			drained[m.id] = is
		})
	}
	release := g.proposer.holdBack(quieting, most)
	defer release()
	asking.Wait()
	cancel()
	pause(ctx, heartbeats) // until all have applied what is committed
	if !g.leading() || ctx.Err() != nil {
		return
	}
	if free := slices.DeleteFunc(slices.Clone(to), func(id MemberID) bool { return drained[id] }); len(free) > 0 {
		to = free
	}
	if err := g.host.TransferLeadership(ctx, replica.GroupID(g.id), replica.MemberID(to[attempt%len(to)])); err != nil {
		c.log.Debug("leadership not handed over", slog.Uint64("group", uint64(g.id)), slog.Any("err", err))
		return
	}
	waiting, cancel := context.WithTimeout(ctx, election+2*g.timing.tick)
	defer cancel()
	for g.leading() && waiting.Err() == nil {
		_, changed := c.roles.look()
		if !g.leading() {
			return
		}
		select {
		case <-changed:
		case <-waiting.Done():
		}
	}
}

// askForQuiet has another member propose nothing in g for a moment, and reports whether
// it has said that it is drained. It is a courtesy: a member that cannot be asked, or
// does not know the question, makes a hand-over less likely, not wrong.
func (c *Coordinator) askForQuiet(ctx context.Context, g *group, id MemberID, most time.Duration) (drained bool) {
	e := newEncoder()
	e.quiet(g.id, most)
	answer, err := c.call(ctx, id, methodQuiet, e.buf.Bytes())
	if err == nil {
		drained, err = decodeQuietAnswer(answer)
	}
	if err != nil {
		c.log.Debug("member not asked for quiet", slog.Uint64("peer", uint64(id)), slog.Any("err", err))
	}
	return drained
}

// answerQuiet has this member propose nothing for as long as the caller asks, but no
// longer than an attempt at a hand-over takes.
func (c *Coordinator) answerQuiet(ctx context.Context, body []byte) ([]byte, error) {
	id, most, err := decodeQuiet(body)
	if err != nil {
		return nil, err
	}
	for _, g := range c.groups() {
		if g.id == id {
			// Nobody releases it: it ends with the leader, or with its time.
			g.proposer.holdBack(ctx, min(most, maxQuiet(&g.timing)))
			e := newEncoder()
			e.quietAnswer(c.isDrained())
			return e.buf.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("group %v: %w", id, replica.ErrNoGroup)
}

// isDrained reports whether this member gives leadership away.
func (c *Coordinator) isDrained() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.undrain != nil
}

// maxQuiet is the longest hold that another member may ask for.
func maxQuiet(t *timing) time.Duration {
	return t.tick * time.Duration(4*t.heartbeatTicks+t.electionTicks)
}

// errOnlyVoter says that leadership can go nowhere.
var errOnlyVoter = fmt.Errorf("%w: this member is the only voter", ErrNoSuccessor)

// successors returns the voters that may lead instead of this member: those that were
// heard of lately, the one that was heard of last first. A touch is proposed when
// everything before it is applied, so they have kept up. There is at least one, or an
// error.
func (g *group) successors() ([]MemberID, error) {
	var others []MemberID
	for _, m := range g.state().members {
		if m.id != g.member && m.role == Voter && !m.removed {
			others = append(others, m.id)
		}
	}
	if others == nil {
		return nil, errOnlyVoter
	}
	lately := g.touchedLately()
	slices.SortStableFunc(lately, func(a, b *memberRecord) int { return cmp.Compare(b.touchedMS, a.touchedMS) })
	var to []MemberID
	for _, m := range lately {
		if m.role == Voter && !m.removed && !m.unsettled {
			to = append(to, m.id)
		}
	}
	if to == nil {
		return nil, fmt.Errorf("%w: none of the voters %s has been heard of in %v", ErrNoSuccessor, listed(others), g.timing.suspendAfter)
	}
	return to, nil
}

// touchedLately returns the other members whose last touch is not older than what
// suspends a member, in group time.
func (g *group) touchedLately() []*memberRecord {
	s := g.state()
	var found []*memberRecord
	for _, m := range s.members {
		if m.id != g.member && !m.removed && m.touches > 0 && s.timeMS-m.touchedMS <= g.timing.suspendAfter.Milliseconds() {
			found = append(found, m)
		}
	}
	return found
}

func listed(ids []MemberID) string {
	var texts []string
	for _, id := range ids {
		texts = append(texts, id.String())
	}
	return strings.Join(texts, ", ")
}

// quietVersion is that of the question for quiet.
const quietVersion = 1

// quiet writes what a member is asked that is to propose nothing for a moment.
func (e *encoder) quiet(id GroupID, most time.Duration) {
	e.array(3)
	e.uint(quietVersion)
	e.uint(uint64(id))
	e.uint(uint64(most.Milliseconds()))
}

// decodeQuiet reads what encoder.quiet has written.
func decodeQuiet(b []byte) (id GroupID, most time.Duration, err error) {
	d := newDecoder(b)
	d.record("quiet", 3)
	id = GroupID(d.uint())
	most = time.Duration(d.small(uint64(maxElectionTimeout.Milliseconds()))) * time.Millisecond
	return id, most, d.done()
}

// quietAnswer writes what is answered to a question for quiet.
func (e *encoder) quietAnswer(drained bool) {
	e.array(2)
	e.uint(quietVersion)
	e.bool(drained)
}

// decodeQuietAnswer reads what encoder.quietAnswer has written, or the nothing that
// was answered before there was something to say.
func decodeQuietAnswer(b []byte) (drained bool, err error) {
	if len(b) == 0 {
		return false, nil
	}
	d := newDecoder(b)
	d.record("quiet answer", 2)
	drained = d.bool()
	return drained, d.done()
}
