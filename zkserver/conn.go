package zkserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"coord"
	"coord/internal/jute"
)

// A conn is one connection.
//
//	accepted -> (four-letter word) -> closed
//	    \-> handshake -> serving -> closed
type conn struct {
	s    *Server
	raw  net.Conn   // as it was accepted
	nc   net.Conn   // raw, or what is spoken over it; set by the handshake
	addr netip.Addr // of the client; invalid if it has none

	ctx    context.Context // ends, with the reason, when the connection is to be closed
	cancel context.CancelCauseFunc

	frames  *frameReader
	backlog *backlog
	session *coord.Session // set by the handshake
	id      coord.SessionID
	timeout time.Duration
	unlink  func() bool // has the connection outlive the end of the session

	local    bool // session is none of the ensemble's
	readOnly bool // and this member has no contact with a quorum

	// Owned by the writer.
	out     []byte
	watches *coord.WatchSet            // nil before the first registration
	nowhere map[coord.WatcherType]bool // those on the empty path, see watch
	held    bool                       // there may be notifications that were held back by a request
	closing bool                       // the connection ends when out is written

	draining chan struct{} // closed by drain: no more requests are taken
	drainOne sync.Once

	counts connCounts
}

// Reasons for which a connection ends.
var (
	errReplied    = errors.New("closed behind the last reply")
	errQuorumLost = errors.New("no contact with a quorum")
	errRefused    = errors.New("refused")
	errViewLost   = errors.New("caught up by a snapshot while reads waited")
)

// flushBytes is how much is written at once at most, about.
const flushBytes = 64 << 10

// keptOutBytes is the memory for output that a connection keeps while it is idle.
const keptOutBytes = 4 << 10

func (s *Server) newConn(nc net.Conn) *conn {
	c := &conn{
		s: s, raw: nc, nc: nc, addr: addrOf(nc.RemoteAddr()),
		backlog:  newBacklog(s.o.MaxOutstanding, s.o.MaxOutstandingBytes),
		draining: make(chan struct{}),
	}
	c.counts.established, c.counts.server = time.Now(), &s.counts
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	return c
}

// addrOf returns the IP address of a remote end.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		addr, _ := netip.AddrFromSlice(tcp.IP)
		return addr.Unmap()
	}
	return netip.Addr{}
}

// run serves the connection until it ends.
func (c *conn) run() {
	// Whatever ends ctx ends reads and writes that are under way.
	unlink := context.AfterFunc(c.ctx, func() { _ = c.raw.Close() })
	c.end(c.serve())
	unlink()
	_ = c.raw.Close()
	c.s.log.Debug("connection closed", slog.String("remote", c.raw.RemoteAddr().String()), slog.String("session", c.id.String()),
		slog.Any("err", context.Cause(c.ctx)))
}

// end has the connection closed.
func (c *conn) end(err error) { c.cancel(err) }

// drain has no more requests read. The connection ends when those that it has are
// answered.
func (c *conn) drain() {
	c.drainOne.Do(func() {
		close(c.draining)
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	})
}

func (c *conn) isDraining() bool { return isClosed(c.draining) }

func (c *conn) serve() error {
	defer c.leave()
	defer c.contain()
	if err := c.handshake(); err != nil {
		return err
	}
	// The session may end by itself, or move away.
	c.unlink = context.AfterFunc(c.session.Context(), func() { c.end(context.Cause(c.session.Context())) })
	defer c.unlink()

	var writer sync.WaitGroup
	writer.Go(func() {
		defer c.contain()
		c.end(c.runWriter())
	})
	defer writer.Wait()
	defer c.contain() // before the writer is waited for, or nothing would end it
	if err := c.runReader(); err != nil {
		c.end(err)
	}
	c.backlog.finish()
	return nil
}

// contain has a defect end the connection on which it shows, and nothing else of the
// process that the server is a part of.
func (c *conn) contain() {
	if v := recover(); v != nil {
		c.s.log.Error("a request has brought a connection down", slog.String("remote", c.raw.RemoteAddr().String()),
			slog.String("session", c.id.String()), slog.String("panic", fmt.Sprint(v)), slog.String("stack", string(debug.Stack())))
		c.end(fmt.Errorf("%w: panic", errRefused))
	}
}

// leave lets go of what the connection has of the Coordinator's, if it has come so far
// (C5).
func (c *conn) leave() {
	silent := errors.Is(context.Cause(c.ctx), errSilent)
	if c.local && silent {
		c.s.locals.leave(c, int64(c.id), 0)
	} else if c.local {
		c.s.locals.leave(c, int64(c.id), c.timeout)
	}
	if c.session == nil {
		return
	}
	if silent && !c.local {
		_ = c.session.Close() // if it fails, the session runs out
	}
	c.session.Leave()
	if c.watches != nil {
		c.watches.Close()
	}
}

// upgrade begins TLS if the client does, or has to.
func (c *conn) upgrade(ctx context.Context) error {
	if t, ok := c.nc.(*tls.Conn); ok { // of a listener for TLS alone
		return t.HandshakeContext(ctx)
	}
	if c.s.o.TLS == nil {
		return nil
	}
	if c.s.o.PlaintextToo {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c.nc, first); err != nil {
			return err
		}
		c.nc = &unreadConn{Conn: c.nc, unread: first}
		if first[0] != tlsHandshakeRecord {
			return nil
		}
	}
	t := tls.Server(c.nc, c.s.o.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.nc = t
	return nil
}

// tlsHandshakeRecord is the first byte of a TLS connection. A frame whose length
// begins with it is longer than any.
const tlsHandshakeRecord = 0x16

// An unreadConn is a connection of which the first bytes were read already.
type unreadConn struct {
	net.Conn

	unread []byte
}

// Read implements [net.Conn].
func (u *unreadConn) Read(b []byte) (int, error) {
	if len(u.unread) > 0 {
		n := copy(b, u.unread)
		u.unread = u.unread[n:]
		return n, nil
	}
	return u.Conn.Read(b)
}

// CloseWrite ends what is written, for whoever reads to the end.
func (u *unreadConn) CloseWrite() error {
	if half, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// identities returns whom a client is known to be without having said anything.
func (c *conn) identities() []coord.ID {
	ids := []coord.ID{}
	if c.addr.IsValid() {
		ids = append(ids, coord.AddrID(c.addr))
	}
	if t, ok := c.nc.(*tls.Conn); ok {
		if state := t.ConnectionState(); len(state.VerifiedChains) > 0 {
			ids = append(ids, coord.CertificateID(state.PeerCertificates[0]))
		}
	}
	return ids
}

// now returns the tree as it is now, for this client.
func (c *conn) now() (*coord.View, error) {
	if !c.readOnly {
		return c.session.View(c.ctx)
	}
	if !c.s.isReadOnly() {
		return nil, errBack
	}
	return c.session.View(c.ctx, coord.AllowStale())
}

// runWriter answers requests in their order and tells notifications, until the
// connection ends.
func (c *conn) runWriter() error {
	for {
		r, ended := c.backlog.first()
		var ready <-chan struct{}
		if r != nil {
			ready = r.ready()
		}
		if r != nil && (ready == nil || isClosed(ready)) {
			if err := c.answer(r); err != nil {
				return err
			}
			c.backlog.drop()
			c.counts.answered(r)
			if c.closing {
				err := c.flush()
				c.linger() // the reader has taken its last request
				return errors.Join(err, errReplied)
			}
			if len(c.out) >= flushBytes {
				if err := c.flush(); err != nil {
					return err
				}
			}
			continue
		}
		if r == nil && c.held {
			if err := c.notifyIdle(); err != nil {
				return err
			}
		}
		if err := c.flush(); err != nil {
			return err
		}
		if ended {
			return errReplied
		}
		if err := c.await(ready); err != nil {
			return err
		}
	}
}

// await waits until there may be something to do: the first request is ready, if there
// is one, or else another comes, or none any more, or there are notifications.
func (c *conn) await(ready <-chan struct{}) error {
	if ready != nil {
		select {
		case <-ready:
			return nil
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
	select {
	case <-c.backlog.wake:
		return nil
	case <-c.changed():
		return c.notifyIdle()
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// flush writes what is ready.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	wait := c.s.o.WriteTimeout
	if wait == 0 {
		wait = c.timeout
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	n, err := c.nc.Write(c.out)
	c.s.counts.sentBytes.Add(int64(n))
	if cap(c.out) > keptOutBytes {
		c.out = nil
	}
	c.out = c.out[:0]
	return err
}

// reply appends an answer to what is to be written.
func (c *conn) reply(xid int32, zxid int64, code jute.Code, body jute.Record) {
	at := len(c.out)
	c.out = append(c.out, 0, 0, 0, 0)
	h := jute.ReplyHeader{Xid: xid, Zxid: zxid, Err: code}
	c.out = h.AppendTo(c.out)
	if body != nil {
		c.out = body.AppendTo(c.out)
	}
	jute.AppendInt(c.out[:at], int32(len(c.out)-at-4))
	c.counts.wrote(zxid)
	c.s.counts.sent.Add(1)
}
