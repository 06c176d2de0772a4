package peernet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"coord/internal/replica"
)

// The limits of a call.
const (
	MaxMethodBytes = 128     // of a method's name
	MaxBodyBytes   = 4 << 20 // of a request's and of an answer's body

	requestHeadBytes = 4 + 1
)

// A RemoteError is the error with which another member answered a call.
type RemoteError struct {
	Peer   replica.MemberID
	Method string
	Text   string
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("peernet: call %q of member %d: %s", e.Method, e.Peer, e.Text)
}

// A request is what a caller sends.
type request struct {
	timeout time.Duration // whole milliseconds; 0 means none
	method  string
	body    []byte
}

func appendRequest(b []byte, r request) []byte {
	// A deadline that has nearly come is not the absence of one.
	ms := min(max(r.timeout.Milliseconds(), 1), 1<<32-1)
	if r.timeout == 0 {
		ms = 0
	}
	b = binary.BigEndian.AppendUint32(b, uint32(ms))
	b = append(b, byte(len(r.method)))
	b = append(b, r.method...)
	return append(b, r.body...)
}

// parseRequest undoes appendRequest. The result does not share memory with b.
func parseRequest(b []byte) (request, error) {
	if len(b) < requestHeadBytes {
		return request{}, fmt.Errorf("%w: a request of %d bytes", errBadFrame, len(b))
	}
	r := request{timeout: time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond}
	n, b := int(b[4]), b[requestHeadBytes:]
	if n == 0 || n > MaxMethodBytes || n > len(b) {
		return request{}, fmt.Errorf("%w: a request whose method has %d bytes", errBadFrame, n)
	}
	r.method, r.body = string(b[:n]), slices.Clone(b[n:])
	if len(r.body) > MaxBodyBytes {
		return request{}, fmt.Errorf("%w: a request of %d bytes", errBadFrame, len(r.body))
	}
	return r, nil
}

// validRequest reports what is wrong with a call before it is made.
func validRequest(method string, body []byte, most int) error {
	switch {
	case method == "" || len(method) > MaxMethodBytes:
		return fmt.Errorf("peernet: method %q is not 1 to %d bytes long", method, MaxMethodBytes)
	case len(body) > most:
		return fmt.Errorf("peernet: call %q: a body of %d bytes is longer than %d", method, len(body), most)
	}
	return nil
}

// call does what Net.Call says. Each call has a connection of its own, whose
// end is the end of the call on both sides.
func (ep *endpoint) call(ctx context.Context, to replica.MemberID, method string, body []byte) ([]byte, error) {
	if err := validRequest(method, body, MaxBodyBytes); err != nil {
		return nil, err
	}
	if to == ep.net.cfg.Member {
		return nil, fmt.Errorf("peernet: call %q: member %d is this one", method, to)
	}
	addr, known := ep.net.cfg.AddrOf(to)
	if !known {
		return nil, fmt.Errorf("peernet: call %q: no member %d is known", method, to)
	}
	return ep.callWithin(ctx, to, addr, method, body)
}

// callWithin makes a call for as long as ctx and the limit of calls allow. Member 0 is
// whichever is at addr.
func (ep *endpoint) callWithin(ctx context.Context, to replica.MemberID, addr, method string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ep.lim.call)
	defer cancel()
	answer, err := ep.callAt(ctx, to, addr, method, body)
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("peernet: call %q of %s: %w", method, whom(to), context.Cause(ctx))
	case ep.ctx.Err() != nil:
		return nil, ErrClosed
	}
	return nil, err
}

func (ep *endpoint) callAt(ctx context.Context, to replica.MemberID, addr, method string, body []byte) ([]byte, error) {
	w, err := ep.dial(ctx, to, addr, ForCall)
	if err != nil {
		return nil, err
	}
	defer ep.forget(w.raw)
	defer ep.closeOn(ctx, w.raw)()
	w.link.connections.Add(1)
	defer w.link.connections.Add(-1)
	w.link.calls.Add(1)
	answer, err := ep.exchange(ctx, w, method, body)
	if _, ok := errors.AsType[*RemoteError](err); err != nil && !ok && ctx.Err() == nil && ep.ctx.Err() == nil {
		w.link.fail(err)
	}
	return answer, err
}

// exchange sends the request and waits for its answer, for as long as the
// connection lives.
func (ep *endpoint) exchange(ctx context.Context, w *wire, method string, body []byte) ([]byte, error) {
	r := request{method: method, body: body}
	if deadline, ok := ctx.Deadline(); ok {
		r.timeout = time.Until(deadline)
	}
	to := w.peer.Member
	n, err := w.out.write(frameRequest, appendRequest(make([]byte, 0, requestHeadBytes+len(method)+len(body)), r))
	if err != nil {
		return nil, fmt.Errorf("peernet: call %q of member %d: %w", method, to, unaddressed(err))
	}
	w.link.bytes.Add(uint64(n))
	kind, answer, err := w.in.next(0)
	switch {
	case err != nil:
		return nil, fmt.Errorf("peernet: call %q of member %d: %w", method, to, unaddressed(err))
	case kind == frameAnswer:
		return slices.Clone(answer), nil
	case kind == frameError:
		return nil, &RemoteError{Peer: to, Method: method, Text: cleanReason(string(answer))}
	case kind == frameRefusal:
		return nil, &RefusedError{Peer: to, ByPeer: true, Reason: cleanReason(string(answer))}
	}
	return nil, fmt.Errorf("peernet: call %q of member %d: %w: kind %d in answer to a request", method, to, errBadFrame, kind)
}

// serveCall answers the one call of a connection.
func (ep *endpoint) serveCall(w *wire) error {
	frame, err := ep.expect(w, frameRequest)
	if err != nil {
		return err
	}
	r, err := parseRequest(frame)
	if err != nil {
		return err
	}
	w.link.calls.Add(1)
	timeout := ep.lim.call
	if r.timeout > 0 {
		timeout = min(timeout, r.timeout)
	}
	ctx, cancel := context.WithTimeout(ep.ctx, timeout)
	defer cancel()
	// The caller says nothing more until it has gone.
	if !ep.work(func() { defer cancel(); w.in.waitEnd() }) {
		return nil
	}
	answer, err := ep.answer(ctx, w.peer, r)
	kind := frameAnswer
	if err != nil {
		kind, answer = frameError, []byte(cleanReason(err.Error()))
	}
	_, err = w.out.write(kind, answer)
	return err
}

// answer asks Config.Serve, or Config.Strangers. What it does wrong is its caller's problem, not
// this member's.
func (ep *endpoint) answer(ctx context.Context, from Hello, r request) (answer []byte, err error) {
	cfg := &ep.net.cfg
	defer func() {
		if p := recover(); p != nil {
			ep.net.log.Error("call of a peer panicked", slog.Uint64("peer", uint64(from.Member)), slog.String("method", r.method), slog.Any("panic", p))
			answer, err = nil, fmt.Errorf("member %d panicked", cfg.Member)
		}
	}()
	switch {
	case from.Member == 0 && r.method != JoinMethod:
		return nil, fmt.Errorf("one that is no member may only call %q", JoinMethod)
	case from.Member == 0:
		answer, err = cfg.Strangers(ctx, from, r.method, r.body)
	case cfg.Serve == nil:
		return nil, fmt.Errorf("member %d answers no calls", cfg.Member)
	default:
		answer, err = cfg.Serve(ctx, from.Member, r.method, r.body)
	}
	if err == nil && len(answer) > MaxBodyBytes {
		return nil, fmt.Errorf("the answer of %d bytes is longer than %d", len(answer), MaxBodyBytes)
	}
	return answer, err
}
