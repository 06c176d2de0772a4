package coord

// The root group opens sessions, decides who has them, and closes them last. In any
// other group a session lives from its first write there: it enters with what the root
// group has granted, is extended by that group's touches, and ends by itself. An id that
// has ended stays as a tombstone until the root group has closed the session, so that no
// late enter revives it.

// enterSession makes the caller's session one of this group's, or gives it to the
// process that has resumed it: the root group has decided that, and its generation says
// so.
func (x *execution) enterSession() result {
	ses, entered := x.s.sessions.get(x.r.session)
	m := x.s.members.get(x.m)
	switch {
	case x.s.serves.none():
		return x.refused(ErrWrongGroup)
	case x.r.identities != nil:
		return x.refused(ErrNoAuth)
	case x.s.serves.sealed != 0:
		return x.refused(codeSealed)
	case x.r.session == 0 || x.r.generation < firstGeneration:
		return x.refused(ErrBadArguments)
	case x.s.sessions.isTombstone(x.r.session):
		return x.refused(ErrSessionExpired)
	case entered && (ses.generation > x.r.generation ||
		ses.generation == x.r.generation && (ses.owner != x.m || ses.incarnation != m.incarnation)):
		return x.refused(ErrSessionMoved)
	case entered && ses.generation == x.r.generation:
		return result{zxid: x.s.zxid, session: ses.id, timeoutMS: ses.timeoutMS}
	}
	n := &session{
		id: x.r.session, timeoutMS: min(max(x.r.timeoutMS, leastSessionTimeoutMS), mostSessionTimeoutMS),
		owner: x.m, incarnation: m.incarnation, generation: x.r.generation, touched: m.touches,
	}
	x.s.sessions.put(n)
	if entered {
		x.eff.moved = append(x.eff.moved, n.id)
	}
	return result{zxid: x.s.zxid, session: n.id, timeoutMS: n.timeoutMS}
}

// forget drops the tombstones of sessions that the root group has closed. It has no
// zxid, because it changes no answer that anybody is still waiting for.
func (x *execution) forget() result {
	switch {
	case x.s.serves.none():
		return x.refused(ErrWrongGroup)
	case x.r.identities != nil:
		return x.refused(ErrNoAuth)
	}
	for _, id := range x.r.forgotten {
		x.s.sessions.tombstones.remove(id)
	}
	return result{zxid: x.s.zxid}
}

// closedIn reports whether a session was opened and has ended, as far as the root group
// knows. Its id is the zxid of its opening, which a state that is behind has not seen.
func (id SessionID) closedIn(root *state) bool {
	_, open := root.sessions.get(id)
	return !open && root.zxid >= ZXID(id)
}
