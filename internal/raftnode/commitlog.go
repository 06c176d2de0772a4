package raftnode

import (
	"sync"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// A commitLog is a log database that is not asked to sync what says nothing but how far a
// group has committed. Raft keeps that in memory (Raft thesis, figure 3.1: the commit index
// is volatile state); the library writes it down, at the price of a sync behind that of
// the entries, while which its worker does nothing else for any group. Here it is written
// with what is synced next.
//
// Invariants:
//
//	L1  terms, votes, entries and snapshots are on the disk when SaveRaftState returns
//	L2  the commit index on the disk is not behind a snapshot that is recorded there: the
//	    library does not start such a replica
//	L3  what was held back for a replica is forgotten when it is loaded again
type commitLog struct {
	raftio.ILogDB

	mu      sync.Mutex
	states  map[replicaKey]*commitState // guarded by mu
	workers map[uint64]*commitWorker    // guarded by mu
}

// A replicaKey names a replica in the library's log.
type replicaKey struct{ group, member uint64 }

// A commitState is what a commitLog knows of one replica's state.
type commitState struct {
	saved  pb.State // on the disk
	held   pb.State // differs from it by the commit index alone; empty: it does not
	worker uint64   // who saves it
}

// A commitWorker is one of those who save states. What the log database keeps for it is
// its own, so nobody else saves under its number at the same time.
type commitWorker struct {
	turn chan struct{} // holds 1 while somebody saves; a mutex would stop the virtual time of tests
	rest []pb.Update   // of whoever has the turn; reused
}

func (w *commitWorker) lock()   { w.turn <- struct{}{} }
func (w *commitWorker) unlock() { <-w.turn }

func newCommitLog(below raftio.ILogDB) *commitLog {
	return &commitLog{ILogDB: below, states: map[replicaKey]*commitState{}, workers: map[uint64]*commitWorker{}}
}

// SaveRaftState implements [raftio.ILogDB].
func (l *commitLog) SaveRaftState(updates []pb.Update, worker uint64) error {
	w := l.worker(worker)
	w.lock()
	defer w.unlock()
	defer func() { clear(w.rest) }() // let go of the entries
	w.rest = l.hold(updates, worker, w.rest[:0])
	if len(w.rest) == 0 {
		return nil
	}
	return l.ILogDB.SaveRaftState(w.rest, worker)
}

func (l *commitLog) worker(id uint64) *commitWorker {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.workers[id]
	if w == nil {
		w = &commitWorker{turn: make(chan struct{}, 1)}
		l.workers[id] = w
	}
	return w
}

// hold appends to rest what has to be on the disk now.
func (l *commitLog) hold(updates []pb.Update, worker uint64, rest []pb.Update) []pb.Update {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range updates {
		ud := updates[i] //nolint:gocritic // the library goes on using its own
		key := replicaKey{ud.ShardID, ud.ReplicaID}
		s := l.states[key]
		if s == nil {
			s = &commitState{}
			l.states[key] = s
		}
		s.worker = worker
		switch {
		case len(ud.EntriesToSave) > 0 || !pb.IsEmptySnapshot(ud.Snapshot):
			if pb.IsEmptyState(ud.State) {
				ud.State = s.held
			}
		case pb.IsEmptyState(ud.State):
			continue // nothing to save
		case ud.Term == s.saved.Term && ud.Vote == s.saved.Vote:
			s.held = ud.State
			continue
		}
		if !pb.IsEmptyState(ud.State) {
			s.saved, s.held = ud.State, pb.State{}
		}
		rest = append(rest, ud)
	}
	return rest
}

// SaveSnapshots implements [raftio.ILogDB]. What it records covers what was committed.
func (l *commitLog) SaveSnapshots(updates []pb.Update) error {
	for i := range updates {
		if err := l.flush(replicaKey{updates[i].ShardID, updates[i].ReplicaID}); err != nil {
			return err
		}
	}
	return l.ILogDB.SaveSnapshots(updates)
}

// flush saves what is held back for a replica, or waits until who does has done it.
func (l *commitLog) flush(key replicaKey) error {
	l.mu.Lock()
	s := l.states[key]
	if s == nil {
		l.mu.Unlock()
		return nil
	}
	worker := s.worker
	l.mu.Unlock()
	w := l.worker(worker)
	w.lock() // before mu, as in SaveRaftState
	defer w.unlock()
	l.mu.Lock()
	held := s.held
	if !pb.IsEmptyState(held) {
		s.saved, s.held = held, pb.State{}
	}
	l.mu.Unlock()
	if pb.IsEmptyState(held) {
		return nil
	}
	return l.ILogDB.SaveRaftState([]pb.Update{{ShardID: key.group, ReplicaID: key.member, State: held}}, worker)
}

// ReadRaftState implements [raftio.ILogDB]: a replica is loaded.
func (l *commitLog) ReadRaftState(group, member, snapshot uint64) (raftio.RaftState, error) {
	l.forget(replicaKey{group, member})
	return l.ILogDB.ReadRaftState(group, member, snapshot)
}

func (l *commitLog) forget(key replicaKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.states, key)
}

// RemoveNodeData implements [raftio.ILogDB].
func (l *commitLog) RemoveNodeData(group, member uint64) error {
	l.forget(replicaKey{group, member})
	return l.ILogDB.RemoveNodeData(group, member)
}

// Close implements [raftio.ILogDB]. Nobody saves anything any more.
func (l *commitLog) Close() error {
	l.mu.Lock()
	keys := make([]replicaKey, 0, len(l.states))
	for key := range l.states {
		keys = append(keys, key)
	}
	l.mu.Unlock()
	for _, key := range keys {
		if err := l.flush(key); err != nil {
			break // the index is not needed
		}
	}
	return l.ILogDB.Close()
}
