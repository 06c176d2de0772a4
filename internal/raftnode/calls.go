package raftnode

import (
	"context"
	"fmt"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"coord/internal/raftnode/memnet"
	"coord/internal/raftnode/peernet"
	"coord/internal/replica"
)

// Introduce asks the member at the address at, whichever it is, on behalf of a process
// that is no member yet, and returns the answer of its Config.Strangers. Of cfg,
// Ensemble, Directory, Addr, TLS, Logger and Net count. See peernet.Introduce for
// the method, limits and errors.
func Introduce(ctx context.Context, cfg Config, at, method string, body []byte) ([]byte, error) {
	if cfg.Net != nil {
		me := memnet.Stranger{Ensemble: cfg.Ensemble, Directory: cfg.Directory, Addr: cfg.Addr}
		return cfg.Net.Introduce(ctx, me, at, method, body)
	}
	return peernet.Introduce(ctx, peernet.Config{
		Ensemble: cfg.Ensemble, Directory: cfg.Directory, Addr: cfg.Addr, TLS: cfg.TLS, Logger: cfg.Logger,
	}, at, method, body)
}

func (h *Host) serveInMemory() {
	if h.cfg.Net == nil {
		return
	}
	ServeInMemory(&h.cfg, func(id replica.MemberID) bool {
		_, known := h.book.addrOf(id)
		return known
	})
}

// ServeInMemory answers the calls of members that are known, and of strangers, at cfg.Addr
// on the network for tests that cfg has, and refuses those whom package peernet would
// refuse by what it is told of members.
func ServeInMemory(cfg *Config, known func(replica.MemberID) bool) {
	n := cfg.Net
	refuse := func(format string, args ...any) error {
		return &peernet.RefusedError{Peer: cfg.Member, ByPeer: true, Reason: fmt.Sprintf(format, args...)}
	}
	if cfg.Serve != nil {
		n.Serve(cfg.Addr, func(ctx context.Context, from replica.MemberID, method string, body []byte) ([]byte, error) {
			if known(from) {
				return cfg.Serve(ctx, from, method, body)
			}
			if cfg.Unknown != nil {
				if why := cfg.Unknown(from); why != "" {
					return nil, refuse("%s", why)
				}
			}
			return nil, refuse("member %d knows of no member %d", cfg.Member, from)
		})
	}
	n.Welcome(cfg.Addr, func(ctx context.Context, s memnet.Stranger, method string, body []byte) ([]byte, error) {
		switch {
		case s.Ensemble != cfg.Ensemble:
			return nil, refuse("it is of ensemble %q, member %d is of %q", s.Ensemble, cfg.Member, cfg.Ensemble)
		case cfg.Strangers == nil:
			return nil, refuse("member %d lets nobody join", cfg.Member)
		case method != peernet.JoinMethod:
			return nil, &peernet.RemoteError{
				Peer: cfg.Member, Method: method, Text: fmt.Sprintf("one that is no member may only call %q", peernet.JoinMethod),
			}
		}
		return cfg.Strangers(ctx, peernet.Hello{
			Ensemble: s.Ensemble, Directory: s.Directory, Addr: s.Addr, Purpose: peernet.ForCall,
		}, method, body)
	})
}

// callInMemory does what Call says on a network for tests, where calls end with
// ctx and have no limits.
func (h *Host) callInMemory(ctx context.Context, member replica.MemberID, method string, body []byte) ([]byte, error) {
	addr, known := h.book.addrOf(member)
	if !known || h.cfg.Net == nil {
		return nil, fmt.Errorf("raftnode: call %q: member %d cannot be called", method, member)
	}
	return h.cfg.Net.Call(ctx, h.cfg.Addr, h.cfg.Member, addr, method, body)
}

// A knownOnly is a network for tests whose members hear only whom they know. Package
// peernet sees to that itself.
type knownOnly struct {
	*memnet.Net
	book *addressBook
}

var _ config.TransportFactory = knownOnly{}

// Create returns the transport of one member.
func (k knownOnly) Create(c config.NodeHostConfig, onBatch raftio.MessageHandler, onChunk raftio.ChunkHandler) raftio.ITransport {
	hear := func(batch raftpb.MessageBatch) {
		heard := batch.Requests[:0]
		for _, m := range batch.Requests {
			if _, known := k.book.addrOf(replica.MemberID(m.From)); known || m.From == 0 {
				heard = append(heard, m)
			}
		}
		if batch.Requests = heard; len(heard) > 0 {
			onBatch(batch)
		}
	}
	take := func(chunk raftpb.Chunk) bool {
		_, known := k.book.addrOf(replica.MemberID(chunk.From))
		return known && onChunk(chunk)
	}
	return k.Net.Create(c, hear, take)
}
