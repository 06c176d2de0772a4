package zkserver

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"coord"
	"coord/internal/jute"
)

// localBit is set in the ids of sessions that only one server knows. The ensemble's own
// ids are zxids, which do not get there.
const localBit = 1 << 62

// A local is a session that only this server knows: an id and a password, with which
// its client can come back. There is nothing else to it, because it owns nothing.
type local struct {
	password [jute.PasswordBytes]byte
	holder   *conn       // nil while its client is away
	gone     *time.Timer // ends it, while its client is away
}

// mostLocals bounds the local sessions that wait for their clients: while there are so
// many, others end with their connections.
const mostLocals = 1 << 16

// locals are the local sessions of a server.
type locals struct {
	mu  sync.Mutex
	all map[int64]*local // guarded by mu
}

// open makes a local session for a connection.
func (l *locals) open(c *conn) (id int64, password [jute.PasswordBytes]byte) {
	var b [8 + jute.PasswordBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	id = int64(binary.BigEndian.Uint64(b[:]))&(localBit-1) | localBit
	password = [jute.PasswordBytes]byte(b[8:])
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[int64]*local{}
	}
	l.all[id] = &local{password: password, holder: c}
	return id, password
}

// count returns how many there are.
func (l *locals) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

// resume gives a local session to another connection.
func (l *locals) resume(c *conn, id int64, password []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ses := l.all[id]
	switch {
	case ses == nil:
		return coord.ErrSessionExpired
	case subtle.ConstantTimeCompare(ses.password[:], password) == 0:
		return coord.ErrAuthFailed
	}
	if ses.holder != nil {
		ses.holder.end(coord.ErrSessionMoved)
	}
	if ses.gone != nil {
		ses.gone.Stop()
	}
	ses.holder, ses.gone = c, nil
	return nil
}

// leave has the session of a connection that ends wait for its client.
func (l *locals) leave(c *conn, id int64, timeout time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ses := l.all[id]
	if ses == nil || ses.holder != c {
		return
	}
	if timeout == 0 || len(l.all) > mostLocals {
		delete(l.all, id)
		return
	}
	ses.holder = nil
	ses.gone = time.AfterFunc(timeout, func() { l.expire(id) })
}

func (l *locals) expire(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ses := l.all[id]; ses != nil && ses.holder == nil {
		delete(l.all, id)
	}
}

// close forgets all of them.
func (l *locals) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ses := range l.all {
		if ses.gone != nil {
			ses.gone.Stop()
		}
	}
	l.all = nil
}

// localTimeout grants a timeout to a local session, by the bounds of the ensemble, which
// is not asked.
func (s *Server) localTimeout(askedMS int32) time.Duration {
	set := s.c.Settings()
	return min(max(s.grant(askedMS), set.MinSessionTimeout), set.MaxSessionTimeout)
}

// writes reports whether an operation is refused while this member has no contact with
// a quorum. Reads of whatever was known last are not.
func writes(o jute.Op) bool {
	switch o { //nolint:exhaustive // the others are not
	case jute.OpCreate, jute.OpCreate2, jute.OpCreateContainer, jute.OpCreateTTL, jute.OpDelete, jute.OpDeleteContainer,
		jute.OpSetData, jute.OpSetACL, jute.OpMulti, jute.OpReconfig, jute.OpSync:
		return true
	}
	return false
}

// createsEphemeral reports whether a request makes an ephemeral znode. In a multi, which
// is the first that does, otherwise 0.
func createsEphemeral(body jute.Record) (index int, does bool) {
	switch req := body.(type) {
	case *jute.CreateRequest:
		return 0, req.Flags == int32(coord.Ephemeral) || req.Flags == int32(coord.EphemeralSequential)
	case *jute.MultiRequest:
		for i, o := range req.Ops {
			if _, does := createsEphemeral(o.Request); does {
				return i, true
			}
		}
	}
	return 0, false
}

func (s *Server) isReadOnly() bool { return s.o.ReadOnly && !s.c.Status().HasQuorum }

var errBack = fmt.Errorf("%w: this member can write again", errRefused)
