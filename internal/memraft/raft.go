package memraft

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"coord/internal/replica"
)

// A role is what a replica is in its term.
type role uint8

const (
	follower     role = iota
	preCandidate      // asks whether it would be elected; becomes candidate, leader or follower
	candidate         // asks for votes; becomes leader or follower
	leader            // becomes follower only
)

// maxEntries bounds what one message carries.
const maxEntries = 64

// A raft is one replica of one group. All of it is guarded by Net.mu.
type raft struct {
	net     *Net
	host    *Host
	group   replica.GroupID
	id      replica.MemberID
	peers   []replica.MemberID // whom to send to: the others by the log
	disk    *disk
	machine replica.Machine

	role    role
	leader  replica.MemberID // 0: none known
	heard   time.Time        // of the leader
	due     time.Time        // a follower stands for election then, a leader sends heartbeats
	checkAt time.Time        // a leader counts then who is there
	timer   *time.Timer
	votes   map[replica.MemberID]bool
	peer    map[replica.MemberID]*progress // a leader's
	heir    replica.MemberID               // who is to lead next, if the leader was asked for that
	heirTil time.Time

	round uint64        // a leader's number of the last read
	reads []pendingRead // a leader's, not confirmed yet

	applier
	waiters map[proposalKey]*waiter
	asked   map[uint64]*waiter // reads of this member, by number
	lastAsk uint64
}

// progress is what a leader knows of another member.
type progress struct {
	next, match uint64
	active      bool   // heard of since the last check
	acked       bool   // answered since the last heartbeat
	round       uint64 // the last read that it has confirmed
}

// A pendingRead waits for a quorum to confirm that this leader still leads.
type pendingRead struct {
	round uint64
	index uint64
	from  replica.MemberID
	read  uint64
}

// newRaftLocked returns the replica as it is after a start: what is not on the disk is
// lost.
func newRaftLocked(h *Host, g replica.GroupID, m replica.Machine) *raft {
	r := &raft{
		net: h.net, host: h, group: g, id: h.cfg.Member, machine: m,
		disk:    h.net.diskLocked(place{h.cfg.Member, g}),
		waiters: map[proposalKey]*waiter{}, asked: map[uint64]*waiter{},
	}
	r.followMembersLocked()
	r.work = sync.NewCond(&h.net.mu)
	r.appliedMembers = r.disk.cutMembers
	r.stop, r.ended = make(chan struct{}), make(chan struct{})
	// How far it was committed is not needed for safety, so a disk may know less.
	r.commit = r.disk.snap.index
	if r.net.chanceLocked(0.5) {
		r.commit = r.disk.commit
	}
	return r
}

func (r *raft) quorum() int { return r.disk.members.quorum() }

// ---- time

// runTimerLocked starts the clock of the replica.
func (r *raft) runTimerLocked() {
	r.postponeLocked()
	r.timer = time.AfterFunc(time.Until(r.due), func() {
		r.net.mu.Lock()
		defer r.net.mu.Unlock()
		r.net.whenAwakeLocked(r.id, r.tickLocked)
	})
}

// postponeLocked puts the next election off. The timer finds that out itself.
func (r *raft) postponeLocked() {
	e := r.host.cfg.Election
	r.due = time.Now().Add(r.net.betweenLocked(e, 2*e))
}

func (r *raft) tickLocked() {
	if r.stopped {
		return
	}
	if now := time.Now(); !now.Before(r.due) {
		if r.role == leader {
			r.leaderTickLocked(now)
		} else {
			r.standLocked(false)
		}
	}
	r.timer.Reset(time.Until(r.due))
}

// leaderTickLocked sends heartbeats, and has a leader step down that has not heard of a
// quorum for an election timeout (Ongaro §6.2). A leader that was paused counts from
// when it goes on.
func (r *raft) leaderTickLocked(now time.Time) {
	r.due = now.Add(r.host.cfg.Heartbeat)
	if !now.Before(r.checkAt) {
		late := now.Sub(r.checkAt) > 2*r.host.cfg.Heartbeat
		active := r.countLocked(func(p *progress) bool { return p.active })
		for _, p := range r.peer {
			p.active = false
		}
		r.checkAt = now.Add(r.host.cfg.Election)
		if active < r.quorum() && !late {
			r.becomeFollowerLocked(r.disk.term, 0)
			return
		}
	}
	if r.heir != 0 && now.After(r.heirTil) {
		r.heir = 0
	}
	for _, id := range r.peers {
		p := r.peer[id]
		if !p.acked {
			p.next = p.match + 1 // what was sent may be lost
		}
		p.acked = false
		r.sendEntriesLocked(id)
	}
}

// ---- elections

func (r *raft) becomeFollowerLocked(term uint64, leads replica.MemberID) {
	if term > r.disk.term {
		r.disk.term, r.disk.vote = term, 0
	}
	r.role, r.peer, r.reads, r.heir = follower, nil, nil, 0
	r.postponeLocked()
	r.setLeaderLocked(leads)
}

func (r *raft) setLeaderLocked(id replica.MemberID) {
	r.leader = id
	r.host.roleLocked(r.group, replica.Role{Leader: id, Term: r.disk.term})
}

// standLocked asks the others whether they would elect this replica, or has the
// election at once if the leader has asked for it (Ongaro §9.6, §3.10).
func (r *raft) standLocked(force bool) {
	if !r.disk.members.votes(r.id) {
		r.postponeLocked()
		return
	}
	r.votes = map[replica.MemberID]bool{r.id: true}
	r.postponeLocked()
	ask := message{kind: askVote, term: r.disk.term + 1, pre: !force, force: force, index: r.disk.last(), logTerm: r.disk.lastTerm()}
	if force {
		r.role = candidate
		r.disk.term, r.disk.vote = r.disk.term+1, r.id
	} else {
		r.role = preCandidate
	}
	r.setLeaderLocked(0)
	for _, id := range r.peers {
		r.sendLocked(id, ask)
	}
	r.countVotesLocked()
}

func (r *raft) countVotesLocked() {
	granted := 0
	for id, yes := range r.votes {
		if yes && r.disk.members.votes(id) {
			granted++
		}
	}
	if granted < r.quorum() {
		return
	}
	if r.role == candidate {
		r.becomeLeaderLocked()
		return
	}
	r.role = candidate
	r.disk.term, r.disk.vote = r.disk.term+1, r.id
	r.votes = map[replica.MemberID]bool{r.id: true}
	r.setLeaderLocked(0)
	for _, id := range r.peers {
		r.sendLocked(id, message{kind: askVote, term: r.disk.term, index: r.disk.last(), logTerm: r.disk.lastTerm()})
	}
	if r.quorum() == 1 {
		r.becomeLeaderLocked()
	}
}

func (r *raft) becomeLeaderLocked() {
	now := time.Now()
	r.role = leader
	r.peer = map[replica.MemberID]*progress{}
	r.followMembersLocked()
	r.round, r.reads, r.heir = 0, nil, 0
	r.due, r.checkAt = now.Add(r.host.cfg.Heartbeat), now.Add(r.host.cfg.Election)
	r.timer.Reset(time.Until(r.due))
	r.net.stats.Elections++
	r.setLeaderLocked(r.id)
	r.appendLocked(proposalKey{}, nil, nil) // so that it learns what is committed (Ongaro §6.4)
}

// voteLocked answers a request for a vote.
func (r *raft) voteLocked(m *message) {
	upToDate := m.logTerm > r.disk.lastTerm() || m.logTerm == r.disk.lastTerm() && m.index >= r.disk.last()
	free := r.disk.vote == m.from || r.disk.vote == 0 && r.leader == 0
	answer := message{kind: vote, pre: m.pre, term: r.disk.term}
	switch {
	case m.pre && m.term > r.disk.term && upToDate:
		answer.term, answer.granted = m.term, true
	case !m.pre && free && upToDate:
		r.disk.vote = m.from
		answer.granted = true
		r.postponeLocked()
	}
	r.sendLocked(m.from, answer)
}

// hasLeaderLocked reports whether the leader was heard of so lately that nobody else is to
// be elected (Ongaro §4.2.3).
func (r *raft) hasLeaderLocked() bool {
	return r.leader != 0 && (r.role == leader || time.Since(r.heard) < r.host.cfg.Election)
}

// ---- messages

func (r *raft) sendLocked(to replica.MemberID, m message) {
	m.group, m.from, m.to = r.group, r.id, to
	r.net.sendLocked(&m, 0)
}

// stepLocked handles a message.
func (r *raft) stepLocked(m *message) {
	if r.stopped || !r.checkTermLocked(m) {
		return
	}
	switch m.kind {
	case askVote:
		r.voteLocked(m)
	case vote:
		if r.role == preCandidate && m.pre && (!m.granted || m.term == r.disk.term+1) || r.role == candidate && !m.pre {
			r.votes[m.from] = m.granted
			r.countVotesLocked()
		}
	case appendEntries, installSnapshot:
		r.followLocked(m)
	case appended:
		if p := r.peer[m.from]; r.role == leader && p != nil {
			r.appendedLocked(m, p)
		}
	case forwardPropose:
		r.proposeLocked(m, 0)
	case forwardRead:
		r.readLocked(m.from, m.read)
	case readAnswer:
		r.readableLocked(m.read, m.index)
	case forwardTransfer:
		r.transferLocked(m.who, m.hops)
	case standNow:
		if r.role == follower {
			r.standLocked(true)
		}
	}
}

// checkTermLocked applies the rules about terms (Ongaro §3.3) and reports whether the
// message is to be handled.
func (r *raft) checkTermLocked(m *message) bool {
	switch {
	case m.term == 0 || m.term == r.disk.term:
		return true
	case m.term > r.disk.term:
		if m.kind == askVote && !m.force && r.hasLeaderLocked() {
			return false
		}
		if m.pre && (m.kind == askVote || m.granted) {
			return true // nobody has that term yet
		}
		r.becomeFollowerLocked(m.term, 0)
		return true
	case m.kind == askVote:
		r.sendLocked(m.from, message{kind: vote, pre: m.pre, term: r.disk.term})
	case m.kind == appendEntries || m.kind == installSnapshot:
		// A leader of an old term learns of the new one.
		r.sendLocked(m.from, message{kind: appended, term: r.disk.term, rejected: m.index})
	}
	return false
}

// followLocked takes over what the leader of this term sends.
func (r *raft) followLocked(m *message) {
	if r.role == leader {
		panic(fmt.Sprintf("memraft: two leaders in term %d: %d and %d", m.term, r.id, m.from))
	}
	r.heard = time.Now()
	if r.role != follower {
		r.becomeFollowerLocked(m.term, m.from)
	}
	if r.leader != m.from {
		r.setLeaderLocked(m.from)
	}
	r.postponeLocked()
	answer := message{kind: appended, term: r.disk.term, round: m.round}
	if m.kind == installSnapshot {
		if m.snap.index > r.commit {
			r.disk.install(m.snap)
			r.followMembersLocked()
			r.commitLocked(m.snap.index)
		}
		answer.index = r.commit // logs agree up to there, whatever it is
		r.sendLocked(m.from, answer)
		return
	}
	if term, ok := r.disk.termOf(m.index); m.index > r.commit && (!ok || term != m.logTerm) {
		answer.rejected, answer.index = m.index, r.hintLocked(m.index)
		r.sendLocked(m.from, answer)
		return
	}
	before := r.disk.members
	r.disk.merge(m.entries)
	if r.disk.members != before {
		r.followMembersLocked()
	}
	answer.index = max(m.index+uint64(len(m.entries)), r.commit)
	r.commitLocked(min(m.commit, m.index+uint64(len(m.entries))))
	r.sendLocked(m.from, answer)
}

// hintLocked returns a place before index up to which the logs may agree: the term that
// does not match is left out as a whole.
func (r *raft) hintLocked(index uint64) uint64 {
	if index > r.disk.last() {
		return r.disk.last()
	}
	wrong, _ := r.disk.termOf(index)
	for index--; index > r.commit; index-- {
		if term, ok := r.disk.termOf(index); !ok || term != wrong {
			break
		}
	}
	return max(index, r.commit)
}

// ---- replication

// appendLocked puts an entry into a leader's log and sends it to the others.
func (r *raft) appendLocked(key proposalKey, cmd []byte, change *memberChange) {
	r.disk.append(entry{index: r.disk.last() + 1, term: r.disk.term, key: key, cmd: cmd, change: change})
	if change != nil {
		r.followMembersLocked()
	}
	r.net.stats.Entries++
	r.advanceLocked()
	for _, id := range r.peers {
		r.sendEntriesLocked(id)
	}
}

// sendEntriesLocked sends a member what it lacks, or a heartbeat.
func (r *raft) sendEntriesLocked(to replica.MemberID) {
	p := r.peer[to]
	if p == nil {
		return // it was removed while the others were sent to
	}
	before := p.next - 1
	term, ok := r.disk.termOf(before)
	if !ok || before < r.disk.cutAt {
		r.net.stats.Installs++
		r.sendLocked(to, message{kind: installSnapshot, term: r.disk.term, snap: r.disk.snap, round: r.round})
		p.next = r.disk.snap.index + 1
		return
	}
	entries := r.disk.from(p.next, maxEntries)
	p.next += uint64(len(entries))
	r.sendLocked(to, message{
		kind: appendEntries, term: r.disk.term, index: before, logTerm: term, entries: entries, commit: r.commit, round: r.round,
	})
}

// appendedLocked takes note of a member's answer.
func (r *raft) appendedLocked(m *message, p *progress) {
	p.active, p.acked = true, true
	p.round = max(p.round, m.round)
	r.confirmReadsLocked()
	if m.rejected != 0 {
		if m.rejected > p.match { // otherwise it was overtaken
			p.next = max(p.match+1, min(p.next, m.index+1))
			r.sendEntriesLocked(m.from)
		}
		return
	}
	p.match = max(p.match, m.index)
	p.next = max(p.next, p.match+1)
	committed := r.commit
	r.advanceLocked()
	if r.commit > committed {
		for _, id := range r.peers {
			r.sendEntriesLocked(id) // they wait for that, and so do their callers
		}
	} else if p.next <= r.disk.last() {
		r.sendEntriesLocked(m.from)
	}
	r.bequeathLocked()
}

// advanceLocked commits what a quorum has, if it is of this term (Ongaro §3.6.2).
func (r *raft) advanceLocked() {
	var matches []uint64
	if r.disk.members.votes(r.id) {
		matches = append(matches, r.disk.last())
	}
	for id, p := range r.peer {
		if r.disk.members.votes(id) {
			matches = append(matches, p.match)
		}
	}
	slices.Sort(matches)
	index := matches[len(matches)-r.quorum()]
	if term, ok := r.disk.termOf(index); ok && term == r.disk.term {
		r.commitLocked(index)
	}
}

// commitLocked has everything up to index applied.
func (r *raft) commitLocked(index uint64) {
	if index <= r.commit {
		return
	}
	changed := r.role == leader && r.disk.members.index > r.commit && r.disk.members.index <= index
	r.commit = index
	r.disk.commit = max(r.disk.commit, index)
	r.work.Broadcast()
	if changed {
		r.followMembersLocked()
		r.retireLocked()
	}
}

// ---- leadership transfer (Ongaro §3.10)

// transferLocked has to lead, if this is the leader, or passes the wish on to it.
func (r *raft) transferLocked(to replica.MemberID, hops int) {
	switch {
	case r.role == leader && r.peer[to] != nil && r.disk.members.votes(to):
		r.heir, r.heirTil = to, time.Now().Add(r.host.cfg.Election)
		r.bequeathLocked()
	case r.role != leader && r.leader != 0 && hops == 0:
		r.sendLocked(r.leader, message{kind: forwardTransfer, who: to, hops: 1})
	}
}

// bequeathLocked has the heir stand for election once it has the whole log.
func (r *raft) bequeathLocked() {
	if r.role == leader && r.heir != 0 && r.peer[r.heir].match == r.disk.last() {
		r.sendLocked(r.heir, message{kind: standNow, term: r.disk.term})
	}
}
