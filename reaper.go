package coord

import (
	"context"
	"log/slog"
	"time"
)

// A reaper is the leader's duty of one group: it proposes the expiry of silent
// sessions and the deletion of containers and TTL znodes that are due. What it
// proposes names what it saw, and apply refuses it if that has moved, so two
// members that both believe to lead can do no harm.
type reaper struct {
	g              *group
	reapEvery      time.Duration
	containerGrace time.Duration

	term     uint64    // of the leadership at hand; 0 while not leading
	since    time.Time // when every session's timeout started anew
	lastTick time.Time
	lastReap time.Time

	expiring, reaping *pending // the last of each; another is proposed when it is done
	unfinished        bool     // expiring had no room for all that were due
}

// Bounds of what one command asks for.
const (
	maxExpiriesAtOnce = 8192
	maxReapsPerTick   = 1000
)

func newReaper(g *group, cfg *Config) *reaper {
	return &reaper{g: g, reapEvery: cfg.ReapInterval, containerGrace: cfg.ContainerGrace}
}

// run is the reaper's goroutine.
func (r *reaper) run() {
	ctx := r.g.ctx
	if err := r.g.awaitJoined(ctx); err != nil {
		return
	}
	tick := time.NewTicker(r.g.timing.expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.tick(ctx)
		case <-r.more():
			r.unfinished = false // until tick sees that it is so still
			r.tick(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (r *reaper) tick(ctx context.Context) {
	r.g.clock.Await()
	now := time.Now()
	gap := now.Sub(r.lastTick)
	r.lastTick = now
	role := r.g.currentRole()
	if MemberID(role.Leader) != r.g.member {
		r.term = 0
		return
	}
	if r.term != role.Term {
		// A new leader has not seen the touches that the old one applied last: it
		// catches up and gives every session its full timeout, which costs nothing
		// per session.
		attempt, cancel := context.WithTimeout(ctx, r.g.timing.barrierAttempt)
		defer cancel()
		if r.g.barrier(attempt) != nil {
			return
		}
		r.term = role.Term
		r.begin(time.Now())
	} else if gap > 4*r.g.timing.expireEvery {
		// This process was paused: touches may wait unread in its queues.
		r.g.log.Warn("leader was paused, session timeouts start anew", slog.Duration("gap", gap))
		r.begin(now)
	}
	r.expire(now)
	if now.Sub(r.lastReap) >= r.reapEvery {
		r.lastReap = now
		r.reap()
	}
}

// begin starts every session's timeout anew.
func (r *reaper) begin(now time.Time) {
	r.since = now
	r.g.forgetSigns()
}

// expire proposes the end of every session whose process was silent for longer
// than its timeout. The sessions of one process are in the order of their
// timeouts, so only those that are due are looked at.
func (r *reaper) expire(now time.Time) {
	if r.expiring != nil && !r.expiring.isDone() {
		return
	}
	s := r.g.state()
	due := r.due(s, now)
	r.unfinished = len(due) == maxExpiriesAtOnce
	if len(due) > 0 {
		r.g.log.Info("expiring sessions", slog.Int("count", len(due)))
		r.expiring = r.g.proposeForMember(request{kind: requestExpire, expiries: due})
	}
}

// more receives when the last expiry is answered and others are due beside: when a
// process dies that owned very many sessions, they end one full command after the
// other, and not one at a tick.
func (r *reaper) more() <-chan struct{} {
	if !r.unfinished || r.expiring == nil {
		return nil
	}
	return r.expiring.done
}

func (r *reaper) due(s *state, now time.Time) []expiry {
	var due []expiry
	at := sessionOwner{}
	for len(due) < maxExpiriesAtOnce {
		first, ok := s.sessions.firstOwned(at)
		if !ok {
			break
		}
		base := r.base(first)
		for o := range s.sessions.byOwner.from(first) {
			if o.owner != first.owner || o.incarnation != first.incarnation || o.silent != first.silent || len(due) == maxExpiriesAtOnce {
				break
			}
			from := base
			if o.silent {
				from = r.later(r.g.silentSince(o.id))
			}
			timeout := time.Duration(o.timeoutMS) * time.Millisecond
			if now.Sub(from) <= timeout {
				if o.silent {
					continue
				}
				break // the others of this process have longer ones
			}
			if ses, ok := s.sessions.get(o.id); ok && !r.g.spares(ses) {
				due = append(due, expiry{o.id, ses.generation, ses.lastTouch(s.members.get(o.owner))})
			}
		}
		at = first.nextGroup()
	}
	return due
}

// base returns when the process that owns o was last heard of.
func (r *reaper) base(o sessionOwner) time.Time {
	return r.later(r.g.lastSign(incarnationKey{o.owner, o.incarnation}))
}

func (r *reaper) later(t time.Time) time.Time {
	if t.Before(r.since) {
		return r.since
	}
	return t
}

// reap proposes the deletion of the containers and TTL znodes that are due, by
// ZooKeeper's rules: a container when it has no children but once had, or was
// never used for the grace period; a TTL znode when it has no children and was
// not modified for its time to live.
func (r *reaper) reap() {
	if r.reaping != nil && !r.reaping.isDone() {
		return
	}
	s := r.g.state()
	var due []reap
	for k := range s.tree.reapable.all() {
		n, ok := s.tree.lookup(k)
		if !ok || n.children != 0 {
			continue
		}
		age := s.timeMS - n.mtimeMS
		if n.kind == Container && n.creates == 0 && age <= r.containerGrace.Milliseconds() || n.kind == PersistentTTL && age <= n.ttlMS {
			continue
		}
		due = append(due, reap{k.path(), n.czxid, n.mzxid, n.stat().Cversion})
		if len(due) == maxReapsPerTick {
			break
		}
	}
	if len(due) > 0 {
		r.g.log.Info("reaping znodes", slog.Int("count", len(due)))
		r.reaping = r.g.proposeForMember(request{kind: requestReap, reaps: due})
	}
}

// proposeForMember proposes a request of the member's own that nobody waits for. It
// may be lost: the next tick finds the same again, a session that is silent runs
// out. It returns nil if the group has ended, or has too many of them.
func (g *group) proposeForMember(r request) *pending {
	r.timeMS = time.Now().UnixMilli()
	q, err := g.proposer.submitOwn(r)
	if err != nil {
		g.log.Debug("not proposed", slog.Int("request", int(r.kind)), slog.Any("err", err))
	}
	return q
}

// sign takes note that a process was heard of.
func (g *group) sign(m *memberRecord) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.signs[incarnationKey{m.id, m.incarnation}] = time.Now()
}

// lastSign returns when a process was last heard of, as far as this member knows.
func (g *group) lastSign(k incarnationKey) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.signs[k]
}

// silentSince returns when a session fell silent, as far as this member knows.
func (g *group) silentSince(id SessionID) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.silences[id]
}

// forgetSigns drops all but the newest process of each member.
func (g *group) forgetSigns() {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.state()
	for k := range g.signs {
		if m := s.members.get(k.member); m == nil || m.incarnation != k.incarnation {
			delete(g.signs, k)
		}
	}
}

// dropSigns drops what is known of processes that were followed by others and
// whose sessions are gone, so that members may be started again for ever.
func (g *group) dropSigns(s *state) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range g.signs {
		m := s.members.get(k.member)
		first, owns := s.sessions.firstOwned(sessionOwner{owner: k.member, incarnation: k.incarnation})
		owns = owns && first.owner == k.member && first.incarnation == k.incarnation
		if m == nil || m.incarnation != k.incarnation && !owns {
			delete(g.signs, k)
		}
	}
}

// firstOwned returns the first key of the owner index that is not below at.
func (t *sessionTable) firstOwned(at sessionOwner) (sessionOwner, bool) {
	for o := range t.byOwner.from(at) {
		return o, true
	}
	return sessionOwner{}, false
}

// nextGroup returns a key behind all keys of o's process and silence.
func (o sessionOwner) nextGroup() sessionOwner {
	if o.silent {
		return sessionOwner{owner: o.owner, incarnation: o.incarnation + 1}
	}
	return sessionOwner{owner: o.owner, incarnation: o.incarnation, silent: true}
}
