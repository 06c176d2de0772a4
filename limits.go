package coord

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits bound what one session uses, or what all sessions of one identity on one
// member use together ([Config.SessionLimits], [Config.IdentityLimits],
// [SessionOptions].Limits). Zero, and less, is no limit. They are checked by the
// member that the session is connected to, before anything is proposed.
//
// Whoever is over a rate waits, in order of arrival, as callers of a full queue do. If
// its turn would come behind the end of its context, or behind
// [Config.OperationTimeout], it is refused at once. Refusals are [ErrLimitExceeded];
// they name the limit, its value, and whose it is. To close a session, or a watch, is
// never held up.
type Limits struct {
	// WritesPerSecond is the rate of operations: creates, deletes, changes of data and
	// ACLs, and each of a Multi. To open or resume a session counts as one for its
	// identities. WriteBurst may go at once after a pause; zero means those of one
	// second, at least 1. A Multi of more than that goes when the burst is there, and
	// the next write waits the longer.
	WritesPerSecond float64
	WriteBurst      int

	// BytesPerSecond is the rate of what is proposed, about: paths, data and ACLs, and
	// 200 bytes for each operation. ByteBurst may go at once after a pause; zero means
	// those of one second, at least 64 KiB.
	BytesPerSecond float64
	ByteBurst      int

	// DataBytes bounds the data of one write: of all operations of a Multi together.
	DataBytes int

	// Ephemerals bounds the ephemeral znodes that exist, and Watches what is open:
	// each [Watch], and each path in a [WatchSet].
	Ephemerals, Watches int
}

// leastByteBurst is the least burst of bytes that is not asked for.
const leastByteBurst = 64 << 10

// A bucket lets so much pass in a second, and so much at once. What is taken goes at
// its own time, so the level falls below zero while somebody waits.
type bucket struct {
	perSecond, burst, level float64
	at                      time.Time // when level was right
}

// newBucket returns a full bucket, or nil if there is no limit.
func newBucket(perSecond float64, burst int, least float64, now time.Time) *bucket {
	if !(perSecond > 0) { // nor NaN
		return nil
	}
	b := &bucket{perSecond: perSecond, burst: float64(burst), at: now}
	if burst <= 0 {
		b.burst = max(perSecond, least)
	}
	b.level = b.burst
	return b
}

// wait fills b up to now and returns how long n has to wait. More than the burst goes
// when that is there.
func (b *bucket) wait(n float64, now time.Time) time.Duration {
	b.level = min(b.burst, b.level+b.perSecond*now.Sub(b.at).Seconds())
	b.at = now
	seconds := (min(n, b.burst) - b.level) / b.perSecond
	if seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds*float64(time.Second), math.MaxInt64/2)) + 1
}

// An account is what one session may use, or one identity on this member, and what it
// uses.
type account struct {
	whose    string
	limits   Limits
	writes   *bucket             // nil is no limit
	bytes    *bucket             // nil is no limit
	sessions map[*meter]struct{} // that draw on it
	watches  int
	making   int           // ephemerals that are proposed: they may or may not be in the state yet
	made     chan struct{} // closed when making falls; nil if nobody waits
}

func newAccount(whose string, limits Limits) *account {
	a := &account{whose: whose, sessions: map[*meter]struct{}{}}
	a.set(limits)
	return a
}

func (a *account) set(limits Limits) {
	now := time.Now()
	a.limits = limits
	a.writes = newBucket(limits.WritesPerSecond, limits.WriteBurst, 1, now)
	a.bytes = newBucket(limits.BytesPerSecond, limits.ByteBurst, leastByteBurst, now)
}

// exceeded returns the error of whoever would go over a limit of a.
func (a *account) exceeded(limit string, value any, format string, args ...any) error {
	return fmt.Errorf("%w: Limits.%s is %v for %s: %s", ErrLimitExceeded, limit, value, a.whose, fmt.Sprintf(format, args...))
}

// ephemerals counts those of all sessions that draw on a.
func (a *account) ephemerals() int {
	n := int64(0)
	for m := range a.sessions {
		n += m.g.state().sessions.ephemeralCount(m.session)
	}
	return int(n)
}

// idle reports whether a new account would do as well.
func (a *account) idle(now time.Time) bool {
	full := func(b *bucket) bool { return b == nil || b.wait(b.burst, now) == 0 }
	return len(a.sessions) == 0 && a.watches == 0 && a.making == 0 && full(a.writes) && full(a.bytes)
}

// A ledger has the accounts of the identities on this member. Its lock is a leaf.
type ledger struct {
	cfg *Config

	mu         sync.Mutex
	identities map[ID]*account // guarded by mu
	sweepAt    int             // guarded by mu; the number of accounts that has idle ones dropped
}

// leastLedgerSweep is the least number of accounts that is worth a sweep.
const leastLedgerSweep = 1024

func newLedger(cfg *Config) *ledger {
	return &ledger{cfg: cfg, identities: map[ID]*account{}, sweepAt: leastLedgerSweep}
}

// accountLocked returns the account of an identity. That of somebody who has gone stays
// until its bucket is full, or to connect again would be a way around the rate.
func (l *ledger) accountLocked(id ID, limits Limits) *account {
	a := l.identities[id]
	if a == nil {
		if len(l.identities) >= l.sweepAt {
			l.sweepLocked()
		}
		a = newAccount("identity "+shownID(id), limits)
		l.identities[id] = a
	}
	if a.limits != limits {
		a.set(limits)
	}
	return a
}

// sweepLocked drops idle accounts. The next sweep is due when there are twice as many
// as it leaves, so its cost for each account is constant.
func (l *ledger) sweepLocked() {
	now := time.Now()
	for id, a := range l.identities {
		if a.idle(now) {
			delete(l.identities, id)
		}
	}
	l.sweepAt = max(2*len(l.identities), leastLedgerSweep)
}

// shownID returns an identity as messages may have it: without the hash of a password.
func shownID(id ID) string {
	if id.Scheme == schemeDigest {
		id.ID, _, _ = strings.Cut(id.ID, ":")
	}
	return id.Scheme + ":" + id.ID
}

// A meter has one session draw on its accounts: its own and, if it is external, those
// of its identities. Nil is that of a session without limits.
type meter struct {
	ledger   *ledger
	g        *group
	external bool
	own      Limits // of the session itself

	session  SessionID  // guarded by ledger.mu; 0 before it is open
	accounts []*account // guarded by ledger.mu; only appended to
	watches  int        // guarded by ledger.mu; of this session
	making   int        // guarded by ledger.mu; ephemerals of this session that are proposed
	left     bool       // guarded by ledger.mu; the session has ended
}

// newMeter returns what a session draws on that is opened in g.
func (l *ledger) newMeter(g *group, o *SessionOptions, ids []ID) *meter {
	own := o.Limits
	if own == (Limits{}) && o.External {
		own = l.cfg.SessionLimits
	}
	if own == (Limits{}) && (!o.External || l.cfg.IdentityLimits == nil) {
		return nil
	}
	m := &meter{ledger: l, g: g, external: o.External, own: own}
	m.join(ids)
	return m
}

// join has the session draw on the accounts of more identities, with all that it has.
// It keeps that if it is too much.
func (m *meter) join(ids []ID) {
	if m == nil || !m.external || m.ledger.cfg.IdentityLimits == nil {
		return
	}
	for _, id := range ids {
		id = id.inACL()                                    // a user stays one when it gets another password
		limits, limited := m.ledger.cfg.IdentityLimits(id) // the user's code: under no lock
		if limited {
			m.draw(id, limits)
		}
	}
}

func (m *meter) draw(id ID, limits Limits) {
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	a := m.ledger.accountLocked(id, limits)
	if m.left || slices.Contains(m.accounts, a) {
		return
	}
	a.sessions[m] = struct{}{}
	a.watches += m.watches
	a.making += m.making
	m.accounts = append(m.accounts, a)
}

// opened says which session m is of. Only now does that have an account: to open it was
// paid for by its identities.
func (m *meter) opened(id SessionID) {
	if m == nil {
		return
	}
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	m.session = id
	a := newAccount("session "+id.String(), m.own)
	a.sessions[m] = struct{}{}
	m.accounts = append(m.accounts, a)
}

// leave is called when the session has ended for this process. Watches may go on.
func (m *meter) leave() {
	if m == nil {
		return
	}
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	m.left = true
	for _, a := range m.accounts {
		delete(a.sessions, m)
	}
}

// pay waits until so many operations and bytes may be proposed. ctx bounds the wait,
// also if it has a deadline that is too early: then nothing is waited for.
func (m *meter) pay(ctx context.Context, operations, bytes float64) error {
	if m == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	wait, paid, err := m.charge(ctx, operations, bytes)
	if err != nil || wait == 0 {
		return err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		m.refund(paid, operations, bytes)
		return context.Cause(ctx)
	}
}

// charge takes from all accounts, or from none, and returns how long to wait then, and
// which accounts those were.
func (m *meter) charge(ctx context.Context, operations, bytes float64) (wait time.Duration, paid []*account, err error) {
	patience := time.Duration(math.MaxInt64)
	now := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		patience = deadline.Sub(now)
	}
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	for _, a := range m.accounts {
		for _, due := range []struct {
			b     *bucket
			n     float64
			limit string
			value float64
		}{{a.writes, operations, "WritesPerSecond", a.limits.WritesPerSecond}, {a.bytes, bytes, "BytesPerSecond", a.limits.BytesPerSecond}} {
			if due.b == nil {
				continue
			}
			turn := due.b.wait(due.n, now)
			if turn > max(patience, 0) { // ctx may just be ending
				return 0, nil, a.exceeded(due.limit, due.value, "the turn would come in %v, and the call ends in %v", turn, patience)
			}
			wait = max(wait, turn)
		}
	}
	takeLocked(m.accounts, operations, bytes)
	return wait, m.accounts, nil
}

// refund gives back what charge has taken.
func (m *meter) refund(paid []*account, operations, bytes float64) {
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	takeLocked(paid, -operations, -bytes)
}

func takeLocked(from []*account, operations, bytes float64) {
	for _, a := range from {
		if a.writes != nil {
			a.writes.level -= operations
		}
		if a.bytes != nil {
			a.bytes.level -= bytes
		}
	}
}

// admit waits until a write may be proposed, or refuses it. What it lets through is to
// be settled.
func (m *meter) admit(ctx context.Context, r *request) error {
	data, ephemerals := 0, ephemeralsIn(r)
	for i := range r.ops {
		data += len(r.ops[i].data)
	}
	if err := m.checkData(data); err != nil {
		return err
	}
	if err := m.reserve(ctx, ephemerals); err != nil {
		return err
	}
	err := m.pay(ctx, float64(max(len(r.ops), 1)), float64(requestBytes(r)))
	if err != nil {
		m.release(ephemerals)
	}
	return err
}

// settle takes note that a write was answered, or nobody waits for the answer.
func (m *meter) settle(r *request, err error) {
	ephemerals := ephemeralsIn(r)
	if m == nil || ephemerals == 0 {
		return
	}
	unknown, ok := errors.AsType[*OutcomeError](err)
	if ok && m.g.spawn(func() { m.settleLate(unknown.p, ephemerals) }) {
		return
	}
	m.release(ephemerals)
}

// settleLate waits for an answer that nobody else waits for.
func (m *meter) settleLate(p *pending, ephemerals int) {
	select {
	case <-p.done:
	case <-m.g.ctx.Done():
	}
	m.release(ephemerals)
}

// ephemeralsIn counts the ephemerals that a request would make.
func ephemeralsIn(r *request) int {
	n := 0
	for i := range r.ops {
		if r.ops[i].kind == opCreate && r.ops[i].mode.ephemeral() {
			n++
		}
	}
	return n
}

func (m *meter) checkData(bytes int) error {
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	for _, a := range m.accounts {
		if most := a.limits.DataBytes; most > 0 && bytes > most {
			return a.exceeded("DataBytes", most, "the write has %d", bytes)
		}
	}
	return nil
}

// reserve lets n more ephemerals be proposed. Those under way may or may not be counted
// in the state yet, so while they decide, it waits for them: none is refused for
// another that was counted twice, and none is let through that is one too many.
func (m *meter) reserve(ctx context.Context, n int) error {
	for n > 0 {
		made, err := m.tryReserve(n)
		if err != nil || made == nil {
			return err
		}
		select {
		case <-made:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// tryReserve is reserve without waiting: it returns what to wait for, or nil.
func (m *meter) tryReserve(n int) (made <-chan struct{}, err error) {
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	for _, a := range m.accounts {
		most := a.limits.Ephemerals
		if most <= 0 {
			continue
		}
		have := a.ephemerals()
		switch {
		case have+n > most:
			return nil, a.exceeded("Ephemerals", most, "there are %d, and the write makes %d", have, n)
		case have+a.making+n > most:
			if a.made == nil {
				a.made = make(chan struct{})
			}
			return a.made, nil
		}
	}
	m.making += n
	for _, a := range m.accounts {
		a.making += n
	}
	return nil, nil
}

// release undoes reserve when the state shows what was made.
func (m *meter) release(n int) {
	if n == 0 {
		return
	}
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	m.making -= n
	for _, a := range m.accounts {
		a.making -= n
		if a.made != nil {
			close(a.made)
			a.made = nil
		}
	}
}

// takeWatches counts n more watches, or refuses them.
func (m *meter) takeWatches(n int) error {
	if m == nil {
		return nil
	}
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	for _, a := range m.accounts {
		if most := a.limits.Watches; most > 0 && a.watches+n > most {
			return a.exceeded("Watches", most, "there are %d, and %d are wanted", a.watches, n)
		}
	}
	m.giveWatchesLocked(-n)
	return nil
}

// giveWatches counts n watches less.
func (m *meter) giveWatches(n int) {
	if m == nil {
		return
	}
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	m.giveWatchesLocked(n)
}

func (m *meter) giveWatchesLocked(n int) {
	m.watches -= n
	for _, a := range m.accounts {
		a.watches -= n
	}
}

// ephemeralsDetail says how the session stands in what the ensemble lets it have.
func (s *Session) ephemeralsDetail() string {
	st := s.g.state()
	return fmt.Sprintf("session %v has %d ephemerals, the ensemble's limit is %d", s.id, st.sessions.ephemeralCount(s.id), st.settings.maxEphemerals)
}

// fault says what is wrong with limits, or nothing.
func (l *Limits) fault() string {
	for _, rate := range []float64{l.WritesPerSecond, l.BytesPerSecond} {
		if rate < 0 || math.IsNaN(rate) {
			return fmt.Sprintf("a rate of %v", rate)
		}
	}
	if least := min(l.WriteBurst, l.ByteBurst, l.DataBytes, l.Ephemerals, l.Watches); least < 0 {
		return fmt.Sprintf("%d is negative", least)
	}
	return ""
}
