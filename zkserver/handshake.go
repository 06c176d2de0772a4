package zkserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"coord"
	"coord/internal/jute"
)

// maxHandshakeBytes limits the frame with which a client says which session it wants.
const maxHandshakeBytes = 1024

// handshake begins a connection: it answers a four-letter word, or gets the client the
// session that it wants. An error ends the connection.
func (c *conn) handshake() error {
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.s.o.HandshakeTimeout, coord.ErrTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := c.nc.SetDeadline(deadline); err != nil {
		return err
	}
	if c.isDraining() { // and its own deadline may be the one that was set before
		return errReplied
	}
	if err := c.upgrade(ctx); err != nil {
		err = fmt.Errorf("TLS: %w", err)
		// Who only looks whether somebody listens has nothing to complain of.
		if c.ctx.Err() == nil && !errors.Is(err, io.EOF) {
			c.s.complain(&c.s.noTLS, c.raw.RemoteAddr(), err)
		}
		return err
	}
	c.frames = newFrameReader(c.nc, c.draining)
	head, err := c.frames.head()
	if err != nil {
		return err
	}
	if isWord(head) {
		return c.answerWord(string(head))
	}
	frame, err := c.frames.next(maxHandshakeBytes)
	if err != nil {
		return err
	}
	var req jute.ConnectRequest
	if err := jute.Unmarshal(frame, &req); err != nil {
		return err
	}
	c.s.counts.received.Add(1)
	if err := c.connect(ctx, &req); err != nil {
		return err
	}
	return c.nc.SetDeadline(time.Time{})
}

// isWord reports whether a connection begins with a four-letter word: as a length these
// would be a gigabyte.
func isWord(head []byte) bool {
	for _, b := range head {
		if b < 'a' || b > 'z' {
			return false
		}
	}
	return true
}

// answerWord answers a four-letter word and closes the connection so that the answer
// arrives, whatever else the client has sent or still sends.
func (c *conn) answerWord(word string) error {
	told := c.counts.asked()
	answer, ok := c.s.fourLetterWord(word)
	if !ok {
		return fmt.Errorf("%w: no such word", errRefused)
	}
	if _, err := io.WriteString(c.nc, answer); err != nil {
		return err
	}
	told()
	c.linger()
	return errReplied
}

// linger ends what is written behind the last answer, which the client sees at once, and
// lets it close the connection first: what a closed one receives, or has not read, makes
// the other side forget what it has not read. Nobody else reads from the connection then.
func (c *conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
	}
}

// Bounds of linger.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// connect opens or resumes a session and tells the client.
func (c *conn) connect(ctx context.Context, req *jute.ConnectRequest) error {
	c.readOnly = c.s.isReadOnly()
	if c.readOnly && !req.ReadOnly {
		return fmt.Errorf("%w: this member can only be read from", errRefused)
	}
	ctx, cancel := c.s.whileServing(ctx)
	defer cancel()
	if err := c.reach(ctx, req.LastZxidSeen); err != nil {
		return err
	}
	password, err := c.open(ctx, req)
	if errors.Is(err, coord.ErrSessionExpired) || errors.Is(err, coord.ErrAuthFailed) {
		refused := c.accept(&jute.ConnectResponse{Password: make([]byte, jute.PasswordBytes), Short: req.Short})
		c.linger() // clients send more behind their first frame
		return errors.Join(refused, err)
	}
	if err != nil {
		return err
	}
	err = c.accept(&jute.ConnectResponse{
		TimeoutMS: int32(c.timeout.Milliseconds()), SessionID: int64(c.id), Password: password[:], ReadOnly: c.readOnly, Short: req.Short,
	})
	c.counts.connected(c.id, c.timeout)
	return err
}

// servingCheckEvery is how often a handshake that waits looks whether that is worth it.
const servingCheckEvery = 100 * time.Millisecond

// keepUpTries is how many times, servingCheckEvery apart, a handshake looks whether groups in
// which nothing happens have followed the others.
const keepUpTries = 30

// whileServing returns a context that ends with ctx, or when the member loses its quorum:
// a client that waits for a session finds another server then, or comes back.
func (s *Server) whileServing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.wg.Go(func() {
		ticks := time.NewTicker(servingCheckEvery)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				if s.c.Health() != nil && !s.isReadOnly() {
					cancel(errQuorumLost)
				}
			}
		}
	})
	return ctx, func() { cancel(nil) }
}

// reach refuses a client who has seen more than this member can show. A member that is a
// little behind catches up first.
func (c *conn) reach(ctx context.Context, lastSeen int64) error {
	var how []coord.ReadOption
	if c.readOnly {
		how = append(how, coord.AllowStale())
	}
	v, err := c.s.c.View(ctx, how...)
	if err == nil && lastSeen > int64(v.ZXID()) && !c.readOnly {
		v, err = c.s.c.View(ctx, coord.Linearizable())
	}
	// The least zxid of all groups is what counts, and a group where nothing happens, or
	// that is new, follows the others by the touches of members.
	for i := 0; i < keepUpTries && err == nil && lastSeen > int64(v.ZXID()) && !c.readOnly && c.s.mounted(); i++ {
		select {
		case <-time.After(servingCheckEvery):
			v, err = c.s.c.View(ctx)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return err
	}
	if lastSeen > int64(v.ZXID()) {
		return fmt.Errorf("%w: the client has seen zxid %#x, the last here is %v", errRefused, lastSeen, v.ZXID())
	}
	return nil
}

// open gets the client the session that it wants, or a new one, and returns its
// password.
func (c *conn) open(ctx context.Context, req *jute.ConnectRequest) (password [jute.PasswordBytes]byte, err error) {
	switch {
	case req.SessionID != 0 && len(req.Password) != jute.PasswordBytes:
		return password, coord.ErrAuthFailed
	case req.SessionID&localBit != 0 || req.SessionID == 0 && (c.readOnly || c.s.o.LocalSessions):
		return c.openLocal(ctx, req)
	case c.readOnly:
		return password, fmt.Errorf("%w: the session is the ensemble's, and this member has no contact with it", errRefused)
	}
	o := coord.SessionOptions{Timeout: c.s.grant(req.TimeoutMS), External: true, Identities: c.identities()}
	if req.SessionID == 0 {
		c.session, err = c.s.c.NewSession(ctx, o)
	} else {
		token := coord.NewToken(c.s.c.Status().EnsembleID, coord.SessionID(req.SessionID), [jute.PasswordBytes]byte(req.Password))
		c.session, err = c.s.c.Resume(ctx, token, o)
	}
	if err != nil {
		return password, err
	}
	c.id, c.timeout = c.session.ID(), c.session.Timeout()
	return c.session.Token().Password(), nil
}

// openLocal is open for sessions that only this server knows.
func (c *conn) openLocal(ctx context.Context, req *jute.ConnectRequest) (password [jute.PasswordBytes]byte, err error) {
	c.local, c.timeout = true, c.s.localTimeout(req.TimeoutMS)
	id := req.SessionID
	if id != 0 {
		password = [jute.PasswordBytes]byte(req.Password)
		if err := c.s.locals.resume(c, id, req.Password); err != nil {
			return password, err
		}
	} else {
		id, password = c.s.locals.open(c)
	}
	c.id = coord.SessionID(id)
	c.session, err = c.s.c.NewSession(ctx, coord.SessionOptions{Timeout: c.timeout, External: true, Detached: true, Identities: c.identities()})
	return password, err
}

// grant returns the timeout that a client gets who asks for one.
func (s *Server) grant(askedMS int32) time.Duration {
	t := max(time.Duration(askedMS)*time.Millisecond, time.Millisecond, s.o.MinSessionTimeout)
	if most := s.o.MaxSessionTimeout; most > 0 {
		t = min(t, most)
	}
	return t
}

// accept writes the answer to the handshake, which has no header.
func (c *conn) accept(resp *jute.ConnectResponse) error {
	b := resp.AppendTo(make([]byte, 4, 64))
	jute.AppendInt(b[:0], int32(len(b)-4))
	_, err := c.nc.Write(b)
	c.s.counts.sent.Add(1)
	return err
}

var _ net.Conn = (*unreadConn)(nil)
