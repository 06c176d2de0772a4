package peernet

import (
	"context"

	"github.com/lni/dragonboat/v4/raftio"
)

// An endpoint is the transport of one NodeHost. Its life is new, running,
// closed.
type endpoint struct {
	net     *Net
	onBatch raftio.MessageHandler
	onChunk raftio.ChunkHandler
}

var _ raftio.ITransport = (*endpoint)(nil)

func newEndpoint(n *Net, onBatch raftio.MessageHandler, onChunk raftio.ChunkHandler) *endpoint {
	return &endpoint{net: n, onBatch: onBatch, onChunk: onChunk}
}

func (ep *endpoint) Name() string { return "peernet" }
func (ep *endpoint) Start() error { return nil }
func (ep *endpoint) Close() error { return nil }

func (ep *endpoint) GetConnection(ctx context.Context, target string) (raftio.IConnection, error) {
	return nil, ErrClosed
}

func (ep *endpoint) GetSnapshotConnection(ctx context.Context, target string) (raftio.ISnapshotConnection, error) {
	return nil, ErrClosed
}
