package coord

import (
	"crypto/subtle"
	"slices"
)

// checkSession refuses a request whose session has ended or whose handle was
// replaced. The member's own requests have no session.
func (x *execution) checkSession() Code {
	if x.r.session == 0 {
		return codeOK
	}
	ses, ok := x.s.sessions.find(x.r.session)
	switch {
	case !ok:
		return ErrSessionExpired
	case ses.generation != x.r.generation:
		return ErrSessionMoved
	}
	return codeOK
}

func (x *execution) openSession() result {
	m := x.s.members.get(x.m)
	timeout := x.s.settings.clampTimeout(x.r.timeoutMS)
	// The id is the zxid of the opening: unique in the ensemble for ever, because
	// only the root group opens sessions.
	ses := &session{
		id: SessionID(x.s.zxid), timeoutMS: timeout, password: x.r.password, identities: x.r.identities,
		owner: x.m, incarnation: m.incarnation, generation: firstGeneration, touched: m.touches,
	}
	x.s.sessions.put(ses)
	return result{zxid: x.s.zxid, session: ses.id, timeoutMS: timeout}
}

func (x *execution) closeSession() result {
	if code := x.checkSession(); code != codeOK {
		return result{code: code, zxid: x.s.zxid}
	}
	if ses, ok := x.s.sessions.get(x.r.session); ok {
		if x.r.yield {
			x.endOrMove(ses)
		} else {
			x.endSession(ses)
		}
	}
	return result{zxid: x.s.zxid}
}

// endSession removes a session and all its ephemerals under the zxid at hand.
func (x *execution) endSession(ses *session) {
	var keys []treeKey
	for k := range x.s.sessions.ephemeralsOf(ses.id) {
		keys = append(keys, k)
	}
	for _, k := range keys {
		n, ok := x.s.tree.lookup(k)
		if !ok {
			panic("coord: S2: listed ephemeral is not in the tree: " + k.path())
		}
		x.remove(k, n)
	}
	x.s.sessions.drop(ses)
	if !x.s.serves.none() {
		x.s.sessions.tombstones.put(ses.id)
	}
	x.eff.ended = append(x.eff.ended, ses.id)
}

// expire ends those sessions of the leader's list that nothing has extended
// since the leader looked, or moves them to whoever claims them. Each has a zxid
// of its own.
func (x *execution) expire() result {
	for _, e := range x.r.expiries {
		ses, ok := x.s.sessions.get(e.session)
		if !ok || ses.generation != e.generation || ses.lastTouch(x.s.members.get(ses.owner)) != e.touched {
			continue
		}
		x.s.zxid++
		x.endOrMove(ses)
	}
	return result{zxid: x.s.zxid}
}

// endOrMove does what the end of a session's timeout does: the session goes to
// whoever claims it, or ends.
func (x *execution) endOrMove(ses *session) {
	if c := ses.claim; c != nil && x.s.current(c) {
		x.moveTo(ses, c)
		return
	}
	x.endSession(ses)
}

// current reports whether the process that made a claim is still the one that
// runs as its member.
func (s *state) current(c *claim) bool {
	m := s.members.get(c.member)
	return m != nil && !m.removed && m.incarnation == c.incarnation
}

// moveTo gives a session and its ephemerals to the process that claims it. Older
// handles are void from here on.
func (x *execution) moveTo(ses *session, c *claim) {
	n := *ses
	n.owner, n.incarnation, n.generation = c.member, c.incarnation, c.generation
	n.touched = x.s.members.get(c.member).touches
	n.timeoutMS = ses.timeoutFor(c)
	n.silent, n.released, n.claim = false, false, nil
	x.s.sessions.put(&n)
	x.eff.moved = append(x.eff.moved, n.id)
}

// resume takes a session over for the proposer at once if nobody can use it any
// more: its process was followed by another of its member, has released it, or is
// the proposer's own; or if it is of a client outside, who has gone elsewhere with the
// token and relies on nothing but the new handle. Otherwise it notes the proposer's
// claim, and the result names no session.
//
// The generation of the new handle is the zxid of this request: higher than all
// before, and it tells the one claim from the other.
func (x *execution) resume() result {
	ses, ok := x.s.sessions.get(x.r.session)
	switch {
	case !ok:
		return result{code: ErrSessionExpired, zxid: x.s.zxid}
	case subtle.ConstantTimeCompare(ses.password[:], x.r.password[:]) == 0:
		return result{code: ErrAuthFailed, zxid: x.s.zxid}
	case !ses.mayBeResumedBy(x.r.identities):
		return result{code: ErrAuthFailed, zxid: x.s.zxid}
	}
	m := x.s.members.get(x.m)
	c := &claim{member: x.m, incarnation: m.incarnation, generation: uint64(x.s.zxid), timeoutMS: x.s.settings.clampTimeout(x.r.timeoutMS)}
	if ses.external() && x.r.timeoutMS == 0 { // none is asked for
		c.timeoutMS = max(c.timeoutMS, ses.timeoutMS)
	}
	if ses.released || ses.external() || x.s.superseded(ses) || ses.owner == c.member && ses.incarnation == c.incarnation {
		x.moveTo(ses, c)
		return result{zxid: x.s.zxid, session: ses.id, timeoutMS: ses.timeoutFor(c)}
	}
	n := *ses
	n.claim = c
	x.s.sessions.put(&n)
	x.eff.moved = append(x.eff.moved, n.id)
	return result{zxid: x.s.zxid}
}

// timeoutFor returns the timeout that a session has when it goes to whoever claims it.
// Its old process may count on no less than it has, unless it only served the session to
// somebody outside, who is whom that process counted for and has asked for another.
func (s *session) timeoutFor(c *claim) int64 {
	if s.external() {
		return c.timeoutMS
	}
	return max(s.timeoutMS, c.timeoutMS)
}

// external reports whether a session is of somebody outside the processes of the
// ensemble.
func (s *session) external() bool { return s.identities != nil }

// mayBeResumedBy reports whether somebody with these identities may have the session,
// if the password is right: the ensemble's own code and those outside do not get each
// other's, and who had certificates must show them again.
func (s *session) mayBeResumedBy(identities []ID) bool {
	if (s.identities == nil) != (identities == nil) {
		return false
	}
	for _, id := range s.identities {
		if id.Scheme == schemeX509 && !slices.Contains(identities, id) {
			return false
		}
	}
	return true
}

// superseded reports whether the process that owns a session is known to be dead,
// because another runs as its member.
func (s *state) superseded(ses *session) bool {
	m := s.members.get(ses.owner)
	return m != nil && m.incarnation > ses.incarnation
}

// release lets go of a session: whoever claims it, or resumes it before it
// expires, has it at once.
func (x *execution) release() result {
	if code := x.checkSession(); code != codeOK {
		return result{code: code, zxid: x.s.zxid}
	}
	ses, ok := x.s.sessions.get(x.r.session)
	if !ok || ses.released {
		return result{zxid: x.s.zxid}
	}
	if c := ses.claim; c != nil && x.s.current(c) {
		x.moveTo(ses, c)
		return result{zxid: x.s.zxid}
	}
	n := *ses
	n.touched = ses.lastTouch(x.s.members.get(ses.owner))
	n.released, n.silent = true, true
	x.s.sessions.put(&n)
	if !ses.silent {
		x.eff.silenced = append(x.eff.silenced, n.id)
	}
	return result{zxid: x.s.zxid}
}

// withdraw takes a claim back, unless another has followed it.
func (x *execution) withdraw() result {
	ses, ok := x.s.sessions.get(x.r.session)
	if ok && ses.claim != nil && ses.claim.generation == x.r.claim {
		n := *ses
		n.claim = nil
		x.s.sessions.put(&n)
		x.eff.moved = append(x.eff.moved, n.id)
	}
	return result{zxid: x.s.zxid}
}
