package coord

import (
	"fmt"

	"coord/internal/invariants"
)

// apply executes one entry of the log on s and tells what it did.
//
// It is a pure function of s, cmd and digest: no clock, no randomness, no map
// order, no I/O, no goroutine and nothing of this member, so that every member
// and every replay reaches the same state. A command that is out of place (an
// old incarnation, a number that is not the next) changes nothing; its proposer
// sees that in its own record.
//
// digest is that of cmd's bytes.
func (s *state) apply(cmd *command, digest uint64) effects { return s.applyKeeping(cmd, digest, nil) }

// applyKeeping is apply that also keeps the states right behind those requests of a batch
// for which keep says so. Nobody else can tell the difference.
func (s *state) applyKeeping(cmd *command, digest uint64, keep []bool) effects {
	var eff effects
	switch cmd.kind {
	case commandInit:
		eff.members = s.applyInit(cmd)
	case commandHello:
		eff.members = s.applyHello(cmd)
	case commandBatch:
		s.applyBatch(cmd, digest, keep, &eff)
	default:
		// The decoder knows the same kinds: skipping one would make members differ.
		panic(fmt.Sprintf("coord: unreachable: command kind %d", cmd.kind))
	}
	return eff
}

// applyInit gives an empty group its members and settings, and reports whether it was.
func (s *state) applyInit(cmd *command) bool {
	if s.started() {
		return false
	}
	in := cmd.init
	s.version = in.version
	s.ensemble, s.id = in.ensemble, in.id
	s.timeMS = min(max(in.timeMS, 0), maxTimeMS)
	s.setSettings(in.settings)
	for i := range in.members {
		m := &in.members[i]
		s.members = s.members.with(&memberRecord{id: m.id, addr: m.addr, role: m.role, clientAddr: m.clientAddr})
	}
	if in.seed != nil {
		s.plant(in.seed)
		return true
	}
	s.tree.seed(s.defaultACL, s.acls.intern(ReadOnlyACL()))
	if s.version >= membersChange && len(s.members) > 1 {
		k, n := s.configNode()
		m := *n
		m.data, m.version = []byte(s.members.text(0)), -1
		s.tree.replace(k, &m)
	}
	return true
}

// applyHello begins an incarnation, and reports whether the member has moved.
func (s *state) applyHello(cmd *command) bool {
	m := s.members.get(cmd.member)
	if m == nil || m.removed || m.incarnation != cmd.hello.expected {
		return false
	}
	n := *m
	n.incarnation++
	n.nonce = cmd.hello.nonce
	if s.serves.none() { // elsewhere it is decreed
		n.addr = cmd.hello.addr
	}
	n.number, n.digest, n.results = 0, 0, nil
	n.helloTouches = m.touches
	s.members = s.members.with(&n)
	if n.addr == m.addr {
		return false
	}
	s.decree()
	return true
}

// applyBatch executes a batch unless it is out of place. If that panics, the
// batch is recorded as answered with ErrSystemError, and nothing else of it
// remains: its neighbours in the log are not touched, whatever boundaries the
// calls of Update had.
func (s *state) applyBatch(cmd *command, digest uint64, keep []bool, eff *effects) {
	m := s.members.get(cmd.member)
	b := cmd.batch
	if m == nil || m.removed || m.incarnation == 0 || b.incarnation != m.incarnation || b.number != m.number+1 {
		return
	}
	before := s.freeze()
	results, fault := s.tryBatch(cmd, keep, eff)
	if fault != "" {
		*s = *before
		*eff = effects{panic: fault}
		results = make([]result, len(b.requests))
		for i := range results {
			s.zxid++
			results[i] = result{code: ErrSystemError, zxid: s.zxid}
		}
	}
	done := *s.members.get(cmd.member)
	done.number, done.digest, done.results = b.number, digest, results
	s.members = s.members.with(&done)
	invariants.Assert(s.zxid >= before.zxid && s.timeMS >= before.timeMS,
		"zxid or group time went back from %v, %d to %v, %d", before.zxid, before.timeMS, s.zxid, s.timeMS)
	invariants.Assert(len(results) == len(b.requests), "%d results for %d requests", len(results), len(b.requests))
}

func (s *state) tryBatch(cmd *command, keep []bool, eff *effects) (results []result, fault string) {
	defer func() {
		if v := recover(); v != nil {
			fault = fmt.Sprint(v)
		}
	}()
	b := cmd.batch
	if !s.advance(b.observed) {
		return refuseAll(b.requests, ErrBadArguments, s.zxid), ""
	}
	if b.touch != nil {
		s.applyTouch(cmd.member, b.touch, eff)
	}
	results = make([]result, len(b.requests))
	eff.changes = make([]change, 0, len(b.requests))
	x := execution{s: s, m: cmd.member, eff: eff, single: make([]opResult, 0, len(b.requests))}
	for i := range b.requests {
		x.r = &b.requests[i]
		results[i] = x.run()
		if keep != nil && keep[i] {
			eff.kept = append(eff.kept, keptState{i, s.freeze()})
		}
	}
	return results, ""
}

func refuseAll(requests []request, code Code, z ZXID) []result {
	results := make([]result, len(requests))
	for i := range results {
		results[i] = result{code: code, zxid: z}
	}
	return results
}

// advance moves the zxid up to one that the proposer has observed in another
// group, as a Lamport clock does. A jump that only a defect can cause is
// refused, because zxids that were skipped are lost for ever.
func (s *state) advance(observed ZXID) bool {
	if observed > s.zxid {
		if observed-s.zxid > maxZXIDJump {
			return false
		}
		s.zxid = observed
	}
	return true
}

// Bounds of group time.
const (
	maxTimeMS     = 1 << 53 // at the start: far from where sums overflow
	maxTimeStepMS = 60_000  // one mark moves it by at most this
	maxTimeLeadMS = 5_000   // a stat's time is at most this far ahead of it
)

// applyTouch records a sign of life. A mark moves group time forward to the
// leader's clock, by at most twice the time that passed since its last mark: a
// clock that jumps cannot take the group with it.
func (s *state) applyTouch(id MemberID, t *touch, eff *effects) {
	if t.markMS > s.timeMS && t.gapMS > 0 {
		step := min(t.markMS-s.timeMS, min(t.gapMS, maxTimeStepMS)*2, maxTimeStepMS)
		s.timeMS += step
		eff.marked = true
	}
	m := *s.members.get(id)
	m.touches++
	m.touchedMS = s.timeMS
	m.freeBytes = t.freeBytes
	m.lowOnSpace = t.lowOnSpace
	s.members = s.members.with(&m)
	for _, c := range t.silences {
		ses, ok := s.sessions.get(c.session)
		if !ok || ses.owner != id || ses.incarnation != m.incarnation || ses.generation != c.generation ||
			ses.silent == c.silent || ses.released {
			continue
		}
		n := *ses
		n.silent = c.silent
		n.touched = m.touches
		s.sessions.put(&n)
		if c.silent {
			eff.silenced = append(eff.silenced, n.id)
		}
	}
	eff.touched = true
}

// lowOnSpaceFor is how long a member's report that it is short of space counts,
// in milliseconds of group time: one that died full must not stop the others.
const lowOnSpaceFor = 30_000

// growthRefused reports whether a voter that is alive is short of space.
func (s *state) growthRefused() bool {
	for _, m := range s.members {
		if m.lowOnSpace && m.role == Voter && !m.removed && s.timeMS-m.touchedMS <= lowOnSpaceFor {
			return true
		}
	}
	return false
}

// An execution is one request being applied.
type execution struct {
	s   *state
	m   MemberID // the proposer
	r   *request
	eff *effects

	single []opResult // the results of single operations, all in one allocation
}

func (x *execution) run() result {
	if !x.s.available(x.r) {
		return x.refused(ErrUnimplemented) // no member proposes that, and none may apply it
	}
	if x.r.kind.counted() {
		x.s.zxid++
	}
	if x.r.kind.ofRoot() && !x.s.serves.none() {
		return x.refused(ErrWrongGroup)
	}
	switch x.r.kind {
	case requestWrite:
		n := len(x.single)
		x.single = append(x.single, x.op(&x.r.ops[0]))
		return result{zxid: x.s.zxid, ops: x.single[n : n+1 : n+1]}
	case requestMulti:
		return result{zxid: x.s.zxid, ops: x.multi()}
	case requestOpenSession:
		return x.openSession()
	case requestCloseSession:
		return x.closeSession()
	case requestExpire:
		return x.expire()
	case requestReap:
		return x.reap()
	case requestResume:
		return x.resume()
	case requestRelease:
		return x.release()
	case requestWithdraw:
		return x.withdraw()
	case requestSetUser, requestRemoveUser, requestSetTemplate, requestSettings, requestReconfigure, requestJoin, requestSettle, requestActivate,
		requestMountStep, requestAdopt, requestEnter, requestForget:
		return x.govern()
	}
	panic(fmt.Sprintf("coord: unreachable: request kind %d", x.r.kind))
}

// govern executes a request that concerns the ensemble as a whole.
func (x *execution) govern() result {
	switch x.r.kind { //nolint:exhaustive // run has the others
	case requestSetUser:
		return x.setUser()
	case requestRemoveUser:
		return x.removeUser()
	case requestSetTemplate:
		return x.setTemplate()
	case requestSettings:
		return x.changeSettings()
	case requestReconfigure:
		return x.reconfigure()
	case requestJoin:
		return x.join()
	case requestSettle:
		return x.settle()
	case requestActivate:
		return x.activate()
	case requestMountStep:
		return x.mountStep()
	case requestAdopt:
		return x.adopt()
	case requestEnter:
		return x.enterSession()
	case requestForget:
		return x.forget()
	}
	panic(fmt.Sprintf("coord: unreachable: request kind %d", x.r.kind))
}

// counted reports whether a request takes one zxid, whatever comes of it. The others take
// one for each thing that they do, or none, if nothing that clients can see comes of them.
func (k requestKind) counted() bool {
	switch k {
	case requestExpire, requestReap, requestSettings, requestSettle, requestMountStep, requestForget:
		return false
	case requestWrite, requestMulti, requestOpenSession, requestCloseSession, requestResume, requestRelease, requestWithdraw,
		requestSetUser, requestRemoveUser, requestSetTemplate, requestActivate, requestReconfigure, requestJoin,
		requestAdopt, requestEnter:
	}
	return true
}

// multi executes all operations or none. Each sees what the earlier ones did.
// After a failure the results are ZooKeeper's: no error before the operation
// that failed, ErrRuntimeInconsistency behind it.
func (x *execution) multi() []opResult {
	before, changes, exceeded := x.s.freeze(), len(x.eff.changes), len(x.eff.exceeded)
	results := make([]opResult, len(x.r.ops))
	for i := range x.r.ops {
		results[i] = x.op(&x.r.ops[i])
		if results[i].code == codeOK {
			continue
		}
		*x.s = *before
		x.eff.changes, x.eff.exceeded = x.eff.changes[:changes], x.eff.exceeded[:exceeded]
		for j := range results {
			switch {
			case j < i:
				results[j] = opResult{}
			case j > i:
				results[j] = opResult{code: ErrRuntimeInconsistency}
			}
		}
		break
	}
	return results
}

// nowMS is the time that a stat gets: the proposer's, kept near group time.
func (x *execution) nowMS() int64 {
	return min(max(x.r.timeMS, x.s.timeMS), x.s.timeMS+maxTimeLeadMS)
}

// publish tells a change. parent is the ACL of the parent if its children changed.
func (x *execution) publish(t EventType, path string, n *znode, parent *aclEntry) {
	c := change{typ: t, zxid: x.s.zxid, path: path, node: n, parent: parent}
	if last := len(x.eff.changes) - 1; last >= 0 && x.eff.changes[last].zxid == c.zxid {
		c.index = x.eff.changes[last].index + 1
	}
	x.eff.changes = append(x.eff.changes, c)
}

// reap deletes those znodes of the leader's list that are still as the leader
// saw them. Each has a zxid of its own.
func (x *execution) reap() result {
	for _, c := range x.r.reaps {
		k, ok := keyOf(c.path)
		if !ok {
			continue
		}
		n, ok := x.s.tree.lookup(k)
		if !ok || !reapableKind(n.kind) || n.children != 0 ||
			n.czxid != c.czxid || n.mzxid != c.mzxid || n.stat().Cversion != c.cversion {
			continue
		}
		x.s.zxid++
		x.remove(k, n)
	}
	return result{zxid: x.s.zxid}
}

// remove takes a znode without children out of the tree.
func (x *execution) remove(k treeKey, n *znode) {
	parent := x.s.tree.remove(k, n, x.s.zxid)
	if n.owner != 0 {
		x.s.sessions.disown(n.owner, k)
	}
	path := k.path()
	x.account(path, n, nil)
	x.publish(NodeDeleted, path, n, parent.acl)
}
