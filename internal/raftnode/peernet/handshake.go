package peernet

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"coord/internal/replica"
)

// hello returns what this end says to peer.
func (n *Net) hello(peer replica.MemberID, p Purpose) Hello {
	return Hello{
		Version:   protocolVersion,
		Ensemble:  n.cfg.Ensemble,
		Member:    n.cfg.Member,
		Directory: n.cfg.Directory,
		Addr:      n.cfg.Addr,
		Purpose:   p,
		Wanted:    peer,
	}
}

// introduced reports whether h is said by a member of this ensemble that means
// this end. The error is the reason to refuse it.
func (n *Net) introduced(h Hello) error {
	me := n.cfg.Member
	switch _, known := n.cfg.AddrOf(h.Member); {
	case h.Ensemble != n.cfg.Ensemble:
		return fmt.Errorf("it is of ensemble %q, member %d is of %q", h.Ensemble, me, n.cfg.Ensemble)
	case h.Member == me:
		return fmt.Errorf("both ends are member %d", me)
	case h.Wanted != me:
		return fmt.Errorf("it is looking for member %d, this is member %d", h.Wanted, me)
	case !known:
		return n.unknown(h.Member)
	}
	return nil
}

// unknown is the reason to refuse a member that AddrOf does not know.
func (n *Net) unknown(id replica.MemberID) error {
	if n.cfg.Unknown != nil {
		if why := n.cfg.Unknown(id); why != "" {
			return errors.New(why)
		}
	}
	return fmt.Errorf("member %d knows of no member %d", n.cfg.Member, id)
}

// certified reports whether the certificate of a connection is that of a member
// at host. Without TLS there is none to ask for.
func (n *Net) certified(conn net.Conn, member replica.MemberID, host string) error {
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := n.tls.checkHost(secured.ConnectionState(), host); err != nil {
		return fmt.Errorf("the certificate of %s does not fit its address: %w", nameOf(member), err)
	}
	return nil
}

// admitted asks Config.Admit.
func (n *Net) admitted(h Hello) (err error) {
	defer contain("admit", &err)
	if n.cfg.Admit == nil {
		return nil
	}
	return n.cfg.Admit(h)
}

// wrongVersion is the reason to refuse an end that speaks another version.
func (n *Net) wrongVersion(theirs uint16) error {
	return fmt.Errorf("it speaks version %d of the protocol between members, member %d speaks version %d",
		theirs, n.cfg.Member, protocolVersion)
}

// dial connects to a member and makes itself known. The connection is one of
// the endpoint's, and ctx bounds the dialling only.
func (ep *endpoint) dial(ctx context.Context, to replica.MemberID, addr string, p Purpose) (*wire, error) {
	l := ep.net.links.of(to, Out)
	w, err := ep.tryDial(ctx, l, to, addr, p)
	refused, ok := errors.AsType[*RefusedError](err)
	switch {
	case err == nil:
		l.succeed()
	case ep.ctx.Err() != nil:
		return nil, ErrClosed
	case ok:
		l.refuse(refused.Reason)
	case ctx.Err() == nil:
		l.fail(err)
	}
	return w, err
}

func (ep *endpoint) tryDial(ctx context.Context, l *link, to replica.MemberID, addr string, p Purpose) (*wire, error) {
	host, err := splitAddress(addr)
	if err != nil {
		return nil, fmt.Errorf("peernet: %s: %w", whom(to), err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ep.ctx, cancel)()
	dialer := net.Dialer{Timeout: ep.lim.dial, KeepAliveConfig: keepAlive, Control: setUserTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("peernet: dial %s at %s: %w", whom(to), addr, err)
	}
	raw := conn.(*net.TCPConn)
	if !ep.open(raw) {
		return nil, ErrClosed
	}
	w, err := ep.greet(ctx, raw, l, to, host, p)
	if err == nil && to != 0 && !ep.tie(raw, tie{peer: to, addr: addr}) {
		err = errMoved
	}
	if err != nil {
		ep.forget(raw)
		return nil, fmt.Errorf("peernet: %s at %s: %w", whom(to), addr, unaddressed(err))
	}
	return w, nil
}

// greet makes this end known on a connection that it has dialled.
func (ep *endpoint) greet(ctx context.Context, raw *net.TCPConn, l *link, to replica.MemberID, host string, p Purpose) (*wire, error) {
	n := ep.net
	if err := raw.SetDeadline(time.Now().Add(ep.lim.handshake)); err != nil {
		return nil, err
	}
	defer ep.closeOn(ctx, raw)()
	conn, err := n.secure(ctx, raw, to, host)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(encodeOpening(helloOpening(n.hello(to, p)))); err != nil {
		return nil, afterTLS(err, to)
	}
	r := bufio.NewReaderSize(conn, readBufferBytes)
	switch first, err := r.Peek(1); {
	case err != nil: // the next read would not say it again
		return nil, afterTLS(err, to)
	case n.tls == nil && first[0] != magic[0]:
		return nil, fmt.Errorf("%w; if it speaks TLS, this member has to as well", errNotPeer)
	}
	answer, err := readOpening(r)
	if err != nil {
		return nil, afterTLS(err, to)
	}
	if answer.kind == openRefusal {
		return nil, &RefusedError{Peer: to, ByPeer: true, Reason: cleanReason(string(answer.body))}
	}
	h, err := n.vetAnswer(conn, answer, to, host, p)
	w := newWire(raw, conn, r, h, l, &ep.lim)
	if err != nil {
		w.refuse(err.Error())
		return nil, &RefusedError{Peer: to, Reason: err.Error()}
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return w, nil
}

// secure makes the TLS handshake of a dialler, if there is one to make. Callbacks of
// Config.TLS, and what reads certificates, may panic.
func (n *Net) secure(ctx context.Context, raw net.Conn, to replica.MemberID, host string) (_ net.Conn, err error) {
	if n.tls == nil {
		return raw, nil
	}
	defer contain("TLS handshake", &err)
	conn := tls.Client(raw, n.tls.dialling(host))
	err = conn.HandshakeContext(ctx)
	if err == nil {
		return conn, nil
	}
	if odd, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(odd.RecordHeader[:]) == magic[:len(odd.RecordHeader)] {
		return nil, &RefusedError{Peer: to, ByPeer: true, Reason: "it does not speak TLS"}
	}
	return nil, afterTLS(err, to)
}

// afterTLS makes a refusal of an error that is one. With TLS 1.3 a dialler
// learns only from its first read that its certificate was refused.
func afterTLS(err error, peer replica.MemberID) error {
	if reason, byPeer, ok := tlsRefusal(err); ok {
		return &RefusedError{Peer: peer, ByPeer: byPeer, Reason: reason}
	}
	return err
}

// vetAnswer checks what the other end of a dialled connection says it is.
func (n *Net) vetAnswer(conn net.Conn, answer opening, to replica.MemberID, host string, p Purpose) (Hello, error) {
	if answer.version != protocolVersion {
		return Hello{}, n.wrongVersion(answer.version)
	}
	h, err := parseHello(answer)
	if err != nil {
		return Hello{}, err
	}
	if to == 0 {
		err = n.answers(h)
	} else {
		err = n.introduced(h)
	}
	if err != nil {
		return h, err
	}
	if to != 0 && h.Member != to || h.Purpose != p {
		return h, fmt.Errorf("member %d was dialled for %v and member %d answers for %v", to, p, h.Member, h.Purpose)
	}
	if err := n.certified(conn, to, host); err != nil {
		return h, err
	}
	return h, n.admitted(h)
}

// receive makes the handshake of an accepted connection. If it fails, that has
// been counted and the peer has been told what it may know.
func (ep *endpoint) receive(raw *net.TCPConn) (*wire, bool) {
	if err := raw.SetDeadline(time.Now().Add(ep.lim.handshake)); err != nil {
		return nil, false
	}
	conn, r, err := ep.net.unwrap(ep.ctx, raw)
	if err != nil {
		ep.turnAway(raw, conn, 0, err)
		return nil, false
	}
	h, l, err := ep.net.vet(conn, r)
	if err != nil {
		ep.turnAway(raw, conn, h.Member, err)
		return nil, false
	}
	w := newWire(raw, conn, r, h, l, &ep.lim)
	if err := ep.crowd.join(w); err != nil {
		ep.turnAway(raw, conn, h.Member, err)
		return nil, false
	}
	if h.Member == 0 {
		w.in.most = requestHeadBytes + len(JoinMethod) + MaxJoinBytes
	}
	answer := encodeOpening(helloOpening(ep.net.hello(h.Member, h.Purpose)))
	// What Admit has taken is not the network's fault.
	err = raw.SetDeadline(time.Now().Add(ep.lim.handshake))
	if err == nil {
		_, err = conn.Write(answer)
	}
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		ep.crowd.leave(w)
		ep.turnAway(raw, conn, h.Member, err)
		return nil, false
	}
	return w, true
}

// A refusal is a reason to refuse whoever dialled, which it is told.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// unwrap makes the TLS handshake of an acceptor, if there is one to make, and
// tells the two protocols apart, so that who speaks the wrong one is told. What it
// contains is as in secure.
func (n *Net) unwrap(ctx context.Context, raw *net.TCPConn) (_ net.Conn, _ *bufio.Reader, err error) {
	defer contain("TLS handshake", &err)
	r := bufio.NewReaderSize(raw, readBufferBytes)
	first, err := r.Peek(1)
	if err != nil {
		return raw, nil, err
	}
	switch speaksTLS := first[0] == tlsRecord; {
	case n.tls == nil && speaksTLS:
		return raw, nil, refuse("member %d does not speak TLS", n.cfg.Member)
	case n.tls == nil:
		return raw, r, nil
	case !speaksTLS:
		if _, err := readOpening(r); err != nil {
			return raw, nil, err
		}
		return raw, nil, refuse("member %d speaks TLS only", n.cfg.Member)
	}
	conn := tls.Server(&sniffed{raw, r}, n.tls.server)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	return conn, bufio.NewReaderSize(conn, readBufferBytes), nil
}

// A sniffed is a connection of which something has been read ahead.
type sniffed struct {
	*net.TCPConn
	r *bufio.Reader
}

func (s *sniffed) Read(b []byte) (int, error) { return s.r.Read(b) }

// vet reads what a dialler says and checks it. The Hello names a member only
// once it is known to be one.
func (n *Net) vet(conn net.Conn, r *bufio.Reader) (Hello, *link, error) {
	o, err := readOpening(r)
	if err != nil {
		return Hello{}, nil, err
	}
	if o.version != protocolVersion {
		return Hello{}, nil, &refusal{n.wrongVersion(o.version).Error()}
	}
	if o.kind != openHello {
		return Hello{}, nil, fmt.Errorf("a dialler began with an opening of kind %d", o.kind)
	}
	h, err := parseHello(o)
	if err != nil {
		return Hello{}, nil, &refusal{err.Error()}
	}
	if h.Member == 0 {
		if err := n.welcomes(conn, h); err != nil {
			return Hello{}, nil, &refusal{err.Error()}
		}
		return h, n.links.of(0, In), nil
	}
	if err := n.introduced(h); err != nil {
		return Hello{}, nil, &refusal{err.Error()}
	}
	addr, _ := n.cfg.AddrOf(h.Member)
	host, err := splitAddress(addr)
	if err == nil {
		err = n.certified(conn, h.Member, host)
	}
	if err != nil {
		return Hello{}, nil, &refusal{err.Error()}
	}
	if err := n.admitted(h); err != nil {
		return h, nil, &refusal{err.Error()}
	}
	return h, n.links.of(h.Member, In), nil
}

// turnAway ends an accepted connection whose handshake failed with err. It counts
// and logs a refusal, and then tells the peer, so that nobody learns of a refusal
// that is not in the log yet. A nil conn is one on which nothing can be said any more.
func (ep *endpoint) turnAway(raw *net.TCPConn, conn net.Conn, member replica.MemberID, err error) {
	if ep.ctx.Err() != nil {
		return
	}
	l := ep.net.links.of(member, In)
	reason, refused := reasonToRefuse(conn, err)
	if !refused {
		l.fail(err)
		return
	}
	l.refuse(reason)
	ep.net.logRefusal(l, raw.RemoteAddr(), reason)
	if conn == nil || raw.SetDeadline(time.Now().Add(ep.lim.farewell)) != nil {
		return
	}
	if _, err := conn.Write(encodeOpening(refusalOpening(reason))); err == nil {
		farewell(raw, ep.lim.farewell)
	}
}

// reasonToRefuse returns why the peer is refused whose handshake failed with err; ok
// is false if the connection merely broke.
func reasonToRefuse(conn net.Conn, err error) (reason string, ok bool) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return cleanReason(r.reason), true
	}
	if conn != nil {
		return "", false
	}
	// The TLS handshake failed, and has told the peer what it may know.
	_, byPeer, _ := tlsRefusal(err)
	_, broke := errors.AsType[*net.OpError](err)
	return cleanReason(err.Error()), byPeer || !broke && !isEnd(err)
}
