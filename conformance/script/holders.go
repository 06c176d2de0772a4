package script

// holders knows, of a script that was not run, which connections may have which sessions.
// A server may refuse a resume, or close a connection, for reasons that the script does
// not show: so it errs on the side of those who may.
type holders struct {
	sessions map[string]map[int]bool // the sessions that a resume from a connection may mean
	of       map[int]map[string]bool // the connections that may have a session
}

func newHolders() *holders {
	return &holders{sessions: map[string]map[int]bool{}, of: map[int]map[string]bool{}}
}

// leave has a connection end.
func (h *holders) leave(conn string) {
	for _, conns := range h.of {
		delete(conns, conn)
	}
}

// connect has a connection begin with a session of its own.
func (h *holders) connect(conn string, session int) {
	h.leave(conn)
	h.sessions[conn] = map[int]bool{session: true}
	h.of[session] = map[string]bool{conn: true}
}

// resume has a connection begin with a session of another one, or be refused.
func (h *holders) resume(conn, from string) {
	h.leave(conn)
	if h.sessions[conn] == nil {
		h.sessions[conn] = map[int]bool{}
	}
	for session := range h.sessions[from] {
		h.sessions[conn][session] = true
		h.of[session][conn] = true
	}
}

// mayBeHeld says whether any connection may have a session that a resume from this one
// may mean.
func (h *holders) mayBeHeld(from string) bool {
	for session := range h.sessions[from] {
		if len(h.of[session]) > 0 {
			return true
		}
	}
	return false
}
