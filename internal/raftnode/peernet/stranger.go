package peernet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"coord/internal/replica"
)

// A stranger is a process that is no member yet. It may ask members to become one, and
// nothing else: its hello names member 0, and it makes one call of one method.
const (
	// JoinMethod is the only method that strangers may call.
	JoinMethod = "join"

	// MaxJoinBytes is the limit of a stranger's request.
	MaxJoinBytes = 64 << 10
)

// Introduce asks the member at the address at, whichever it is, and returns its
// answer. It is for a process that is no member yet: of cfg, only Ensemble, Directory,
// Addr, TLS and Logger count, and none of them is optional that is not in a [Net]. With
// TLS, its certificate has to be valid for the host of cfg.Addr, and that of the
// member for the host of at.
//
// The method is [JoinMethod] and the body at most [MaxJoinBytes] long. It waits no
// longer than ctx, and never longer than a minute. Errors are those of [Net.Call];
// members let only a few strangers in at a time.
func Introduce(ctx context.Context, cfg Config, at, method string, body []byte) ([]byte, error) {
	return introduce(ctx, cfg, defaultLimits, at, method, body)
}

func introduce(ctx context.Context, cfg Config, lim limits, at, method string, body []byte) ([]byte, error) {
	cfg.Member = 0
	if err := cfg.validateIdentity(); err != nil {
		return nil, err
	}
	if err := ValidAddress(at); err != nil {
		return nil, fmt.Errorf("peernet: %w", err)
	}
	if err := validRequest(method, body, MaxJoinBytes); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Net{cfg: cfg, log: cfg.Logger, tls: newTLSEnds(cfg.TLS), lim: lim}
	ep := newEndpoint(n, nil, nil)
	answer, err := ep.callWithin(ctx, 0, at, method, body)
	return answer, errors.Join(err, ep.Close())
}

// welcomes reports whether a stranger may ask this end to become a member. The error is
// the reason to refuse it.
func (n *Net) welcomes(conn net.Conn, h Hello) error {
	me := n.cfg.Member
	switch {
	case h.Ensemble != n.cfg.Ensemble:
		return fmt.Errorf("it is of ensemble %q, member %d is of %q", h.Ensemble, me, n.cfg.Ensemble)
	case h.Wanted != 0 && h.Wanted != me:
		return fmt.Errorf("it is looking for member %d, this is member %d", h.Wanted, me)
	case n.cfg.Strangers == nil:
		return fmt.Errorf("member %d lets nobody join", me)
	}
	host, err := splitAddress(h.Addr)
	if err != nil {
		return err
	}
	return n.certified(conn, 0, host)
}

// answers reports whether h is said by a member that a stranger can ask.
func (n *Net) answers(h Hello) error {
	switch {
	case h.Ensemble != n.cfg.Ensemble:
		return fmt.Errorf("it is member %d of ensemble %q, not of %q", h.Member, h.Ensemble, n.cfg.Ensemble)
	case h.Member == 0:
		return errors.New("it is no member either")
	case h.Wanted != 0:
		return fmt.Errorf("it takes this end for member %d, which is none", h.Wanted)
	}
	return nil
}

// nameOf returns how a text speaks of a peer.
func nameOf(id replica.MemberID) string {
	if id == 0 {
		return "one that is no member"
	}
	return fmt.Sprintf("member %d", id)
}

// whom returns how a text speaks of whom this end dials.
func whom(id replica.MemberID) string {
	if id == 0 {
		return "the member"
	}
	return nameOf(id)
}
