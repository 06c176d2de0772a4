package peernet

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lni/dragonboat/v4/raftpb"

	"coord/internal/replica"
)

// expect returns the body of the next frame, which has to be of a kind and from
// somebody who is still a member. A refusal instead is counted: the dialler
// does not accept this end.
func (ep *endpoint) expect(w *wire, kind frameKind) ([]byte, error) {
	wait := ep.lim.idle
	if w.peer.Member == 0 {
		wait = ep.lim.handshake // who is no member says at once what it wants
	}
	got, body, err := w.in.next(wait)
	switch {
	case err != nil:
		return nil, err
	case got == frameRefusal:
		reason := cleanReason(string(body))
		w.link.refuse(reason)
		ep.net.logRefusal(w.link, w.raw.RemoteAddr(), reason)
		return nil, fmt.Errorf("%w: %s", errRefused, reason)
	case got != kind:
		return nil, fmt.Errorf("%w: kind %d on a connection for %v", errBadFrame, got, w.peer.Purpose)
	}
	if w.peer.Member != 0 {
		// A member that was removed meanwhile is not heard any more.
		if err := ep.net.introduced(w.peer); err != nil {
			w.refuse(err.Error())
			w.link.refuse(err.Error())
			return nil, fmt.Errorf("%w: %w", errRefused, err)
		}
	}
	w.link.bytes.Add(uint64(frameHeadBytes + len(body)))
	return body, nil
}

// serveRaft hands the batches of a connection to raft.
func (ep *endpoint) serveRaft(w *wire) error {
	for {
		body, err := ep.expect(w, frameBatch)
		if err != nil {
			return err
		}
		w.link.batches.Add(1)
		if err := ep.handleBatch(w, body); err != nil {
			return err
		}
	}
}

// handleBatch hands one batch to raft. The library's decoder and its handler
// may both panic on what they do not expect.
func (ep *endpoint) handleBatch(w *wire, body []byte) (err error) {
	defer contain("batch", &err)
	var batch raftpb.MessageBatch
	if err := batch.Unmarshal(body); err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	sent := len(batch.Requests)
	batch.Requests = slices.DeleteFunc(batch.Requests, func(m raftpb.Message) bool {
		return !ep.net.mayArrive(&m, w.peer.Member)
	})
	w.link.dropped.Add(uint64(sent - len(batch.Requests)))
	if len(batch.Requests) > 0 {
		ep.onBatch(batch)
	}
	return nil
}

// mayArrive reports whether a peer may send m to this member. Of the types of
// messages, the library takes many for its own, from itself: it panics on some
// of them, on goroutines where nobody can recover, and believes the others.
// Snapshots come by connections of their own.
func (n *Net) mayArrive(m *raftpb.Message, peer replica.MemberID) bool {
	if m.From != uint64(peer) || m.To != uint64(n.cfg.Member) {
		return false
	}
	switch m.Type {
	case raftpb.NoOP, raftpb.Propose,
		raftpb.Replicate, raftpb.ReplicateResp,
		raftpb.RequestVote, raftpb.RequestVoteResp,
		raftpb.RequestPreVote, raftpb.RequestPreVoteResp,
		raftpb.Heartbeat, raftpb.HeartbeatResp,
		raftpb.ReadIndex, raftpb.ReadIndexResp,
		raftpb.Quiesce, raftpb.SnapshotReceived,
		raftpb.LeaderTransfer, raftpb.TimeoutNow, raftpb.RateLimit:
		return true
	case raftpb.LocalTick, raftpb.Election, raftpb.LeaderHeartbeat, raftpb.ConfigChangeEvent,
		raftpb.Ping, raftpb.Pong, raftpb.SnapshotStatus, raftpb.Unreachable, raftpb.CheckQuorum,
		raftpb.BatchedReadIndex, raftpb.InstallSnapshot, raftpb.LogQuery:
		return false
	}
	return false
}

// serveSnapshot hands the chunks of a snapshot to the library and tells the
// dialler when it has kept the last one.
func (ep *endpoint) serveSnapshot(w *wire) error {
	for {
		body, err := ep.expect(w, frameChunk)
		if err != nil {
			return err
		}
		w.link.chunks.Add(1)
		last, err := ep.handleChunk(w, body)
		if err != nil {
			w.refuse(err.Error())
			return err
		}
		if last {
			_, err := w.out.write(frameKept, nil)
			return err
		}
	}
}

// handleChunk hands one chunk to the library and reports whether it was the
// last one of its snapshot. The library panics when it cannot write a chunk,
// which is no reason for a member to end: the snapshot is sent again.
func (ep *endpoint) handleChunk(w *wire, body []byte) (last bool, err error) {
	defer contain("snapshot chunk", &err)
	var chunk raftpb.Chunk
	if err := chunk.Unmarshal(body); err != nil {
		return false, fmt.Errorf("snapshot chunk: %w", err)
	}
	if chunk.From != uint64(w.peer.Member) || chunk.ReplicaID != uint64(ep.net.cfg.Member) {
		return false, fmt.Errorf("snapshot chunk from member %d to member %d on a connection from %d to %d",
			chunk.From, chunk.ReplicaID, w.peer.Member, ep.net.cfg.Member)
	}
	if !plainFile(chunk.Filepath) {
		return false, fmt.Errorf("snapshot chunk of file %q", chunk.Filepath)
	}
	if !ep.onChunk(chunk) {
		return false, fmt.Errorf("chunk %d of the snapshot of group %d at index %d was rejected", chunk.ChunkId, chunk.ShardID, chunk.Index)
	}
	return chunk.IsLastChunk(), nil
}

// plainFile reports whether the last element of a path, under which the library
// keeps the chunks of a file, stays in the directory that it is put into.
func plainFile(name string) bool {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	return base != "." && base != ".." && base != "/"
}

// contain makes an error of a panic. It is deferred.
func contain(what string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: panic: %v", what, r)
	}
}
