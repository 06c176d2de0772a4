package raftnode

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"coord/internal/bubble"
	"coord/internal/invariants"
)

// A recordingLog is a log database that keeps what is on the disk of each replica.
type recordingLog struct {
	raftio.ILogDB // nil: what is not here is not called
	disk          map[replicaKey]*recorded
	saves         int
	slow          chan struct{} // a save ends when it is closed
}

// A recorded is what the log knows of one replica.
type recorded struct {
	state    pb.State
	entries  []uint64 // their indexes
	snapshot uint64   // index
	worker   uint64   // who saved last
	atRecord uint64   // the commit index when the snapshot was recorded
}

func newRecordingLog() *recordingLog { return &recordingLog{disk: map[replicaKey]*recorded{}} }

func (l *recordingLog) of(key replicaKey) *recorded {
	if l.disk[key] == nil {
		l.disk[key] = &recorded{}
	}
	return l.disk[key]
}

func (l *recordingLog) SaveRaftState(updates []pb.Update, worker uint64) error {
	l.saves++
	if l.slow != nil {
		<-l.slow
	}
	for i := range updates {
		ud := &updates[i]
		r := l.of(replicaKey{ud.ShardID, ud.ReplicaID})
		r.worker = worker
		if !pb.IsEmptyState(ud.State) {
			r.state = ud.State
		}
		for _, e := range ud.EntriesToSave {
			r.entries = append(r.entries, e.Index)
		}
		if !pb.IsEmptySnapshot(ud.Snapshot) {
			r.snapshot, r.atRecord = ud.Snapshot.Index, r.state.Commit
		}
	}
	return nil
}

func (l *recordingLog) SaveSnapshots(updates []pb.Update) error {
	for i := range updates {
		r := l.of(replicaKey{updates[i].ShardID, updates[i].ReplicaID})
		r.snapshot, r.atRecord = updates[i].Snapshot.Index, r.state.Commit
	}
	return nil
}

func (l *recordingLog) ReadRaftState(group, member, _ uint64) (raftio.RaftState, error) {
	return raftio.RaftState{State: l.of(replicaKey{group, member}).state}, nil
}

func (l *recordingLog) RemoveNodeData(group, member uint64) error {
	delete(l.disk, replicaKey{group, member})
	return nil
}

func (l *recordingLog) Close() error { return nil }

func updateOf(key replicaKey, state pb.State, entries ...uint64) pb.Update {
	ud := pb.Update{ShardID: key.group, ReplicaID: key.member, State: state}
	for _, index := range entries {
		ud.EntriesToSave = append(ud.EntriesToSave, pb.Entry{Index: index, Term: state.Term})
	}
	return ud
}

func save(t *testing.T, l *commitLog, worker uint64, updates ...pb.Update) {
	t.Helper()
	given := slices.Clone(updates)
	if err := l.SaveRaftState(updates, worker); err != nil {
		t.Fatal(err)
	}
	for i := range given {
		if fmt.Sprint(given[i]) != fmt.Sprint(updates[i]) {
			t.Fatalf("the library's own update became %v, was %v", updates[i], given[i])
		}
	}
}

// L1: what is held back is a commit index, and nothing else ever.
func TestCommitLogHoldsBackNothingButTheCommitIndex(t *testing.T) {
	key := replicaKey{7, 1}
	below := newRecordingLog()
	l := newCommitLog(below)
	for _, step := range []struct {
		name  string
		give  pb.Update
		saves int // behind it
		state pb.State
	}{
		{"a vote", updateOf(key, pb.State{Term: 1, Vote: 2}), 1, pb.State{Term: 1, Vote: 2}},
		{"entries", updateOf(key, pb.State{Term: 1, Vote: 2}, 1, 2), 2, pb.State{Term: 1, Vote: 2}},
		{"a commit", updateOf(key, pb.State{Term: 1, Vote: 2, Commit: 1}), 2, pb.State{Term: 1, Vote: 2}},
		{"the next commit", updateOf(key, pb.State{Term: 1, Vote: 2, Commit: 2}), 2, pb.State{Term: 1, Vote: 2}},
		{"nothing", updateOf(key, pb.State{}), 2, pb.State{Term: 1, Vote: 2}},
		{"entries without a state", updateOf(key, pb.State{}, 3), 3, pb.State{Term: 1, Vote: 2, Commit: 2}},
		{"a commit with entries", updateOf(key, pb.State{Term: 1, Vote: 2, Commit: 3}, 4), 4, pb.State{Term: 1, Vote: 2, Commit: 3}},
		{"one more commit", updateOf(key, pb.State{Term: 1, Vote: 2, Commit: 4}), 4, pb.State{Term: 1, Vote: 2, Commit: 3}},
		{"a term with no vote", updateOf(key, pb.State{Term: 2, Commit: 4}), 5, pb.State{Term: 2, Commit: 4}},
		{"a vote in it", updateOf(key, pb.State{Term: 2, Vote: 3, Commit: 4}), 6, pb.State{Term: 2, Vote: 3, Commit: 4}},
	} {
		save(t, l, 1, step.give)
		if got := below.of(key).state; got != step.state || below.saves != step.saves {
			t.Fatalf("behind %s the disk has %v and was written to %d times; want %v, %d times", step.name, got, below.saves, step.state, step.saves)
		}
	}
	if got := below.of(key).entries; !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("entries on the disk: %d", got)
	}
}

// What a worker saves for one replica is not held up by what another has to say.
func TestCommitLogSavesOnlyWhoHasToBe(t *testing.T) {
	a, b := replicaKey{1, 1}, replicaKey{2, 1}
	below := newRecordingLog()
	l := newCommitLog(below)
	save(t, l, 1, updateOf(a, pb.State{Term: 1}, 1), updateOf(b, pb.State{Term: 1}, 1))
	save(t, l, 1, updateOf(a, pb.State{Term: 1, Commit: 1}), updateOf(b, pb.State{Term: 1, Commit: 1}, 2))
	if below.of(a).state.Commit != 0 || below.of(b).state.Commit != 1 || below.saves != 2 {
		t.Errorf("the disk has the commit indexes %d and %d behind %d writes", below.of(a).state.Commit, below.of(b).state.Commit, below.saves)
	}
}

// L2: the library does not start a replica whose snapshot is ahead of its commit index.
func TestCommitLogSavesTheIndexBeforeASnapshot(t *testing.T) {
	key := replicaKey{7, 1}
	below := newRecordingLog()
	l := newCommitLog(below)
	save(t, l, 3, updateOf(key, pb.State{Term: 1}, 1, 2, 3))
	save(t, l, 3, updateOf(key, pb.State{Term: 1, Commit: 3}))
	if err := l.SaveSnapshots([]pb.Update{{ShardID: 7, ReplicaID: 1, Snapshot: pb.Snapshot{Index: 3}}}); err != nil {
		t.Fatal(err)
	}
	if r := below.of(key); r.atRecord != 3 || r.worker != 3 {
		t.Errorf("when the snapshot of index 3 was recorded, the commit index on the disk was %d, saved by worker %d; want 3 by 3", r.atRecord, r.worker)
	}
}

// L2: nor while its worker saves it with something else.
func TestCommitLogSnapshotWaitsForTheIndex(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		key := replicaKey{7, 1}
		below := newRecordingLog()
		l := newCommitLog(below)
		save(t, l, 1, updateOf(key, pb.State{Term: 1}, 1, 2, 3))
		save(t, l, 1, updateOf(key, pb.State{Term: 1, Commit: 3}))
		below.slow = make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() { save(t, l, 1, updateOf(key, pb.State{}, 4)) })
		synctest.Wait() // it is under way
		both.Go(func() {
			if err := l.SaveSnapshots([]pb.Update{{ShardID: 7, ReplicaID: 1, Snapshot: pb.Snapshot{Index: 3}}}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if r := below.of(key); r.snapshot != 0 {
			t.Errorf("a snapshot of index %d is recorded, while the index on the disk is %d", r.snapshot, r.state.Commit)
		}
		close(below.slow)
		both.Wait()
		if r := below.of(key); r.snapshot != 3 || r.atRecord != 3 {
			t.Errorf("snapshot %d was recorded when the index on the disk was %d", r.snapshot, r.atRecord)
		}
	})
}

// At an orderly end, nothing is held back any more.
func TestCommitLogSavesTheIndexAtClose(t *testing.T) {
	key := replicaKey{7, 1}
	below := newRecordingLog()
	l := newCommitLog(below)
	save(t, l, 1, updateOf(key, pb.State{Term: 1}, 1))
	save(t, l, 1, updateOf(key, pb.State{Term: 1, Commit: 1}))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := below.of(key).state.Commit; got != 1 {
		t.Errorf("commit index on the disk: %d, want 1", got)
	}
}

// L3: a replica that is loaded begins with what was loaded, and one whose data were
// removed does not come back with a state.
func TestCommitLogForgets(t *testing.T) {
	key := replicaKey{7, 1}
	for _, c := range []struct {
		name string
		do   func(l *commitLog) error
	}{
		{"loaded", func(l *commitLog) error { _, err := l.ReadRaftState(7, 1, 0); return err }},
		{"removed", func(l *commitLog) error { return l.RemoveNodeData(7, 1) }},
	} {
		below := newRecordingLog()
		l := newCommitLog(below)
		save(t, l, 1, updateOf(key, pb.State{Term: 1}, 1))
		save(t, l, 1, updateOf(key, pb.State{Term: 1, Commit: 1}))
		if err := c.do(l); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := below.of(key).state.Commit; got != 0 {
			t.Errorf("%s: what was held back came to the disk: commit index %d", c.name, got)
		}
	}
}

// L1, L2: whatever the order of what several replicas do, at no moment does the disk
// lack a term, a vote or an entry, and a power cut finds no snapshot without its index.
func TestCommitLogKeepsItsInvariants(t *testing.T) {
	rounds := 300
	if invariants.Enabled {
		rounds = 60
	}
	for round := range rounds {
		seed := uint64(round)
		r := rand.New(rand.NewPCG(seed, 8))
		below := newRecordingLog()
		l := newCommitLog(below)
		truth := map[replicaKey]*recorded{}
		keys := []replicaKey{{1, 1}, {2, 1}, {3, 1}, {4, 1}}
		for _, key := range keys {
			truth[key] = &recorded{}
		}
		for range 200 {
			// As in the library, a group always has the same worker.
			worker := 1 + r.Uint64N(2)
			var updates []pb.Update
			for _, key := range keys {
				if key.group%2+1 == worker && r.IntN(3) > 0 {
					updates = append(updates, randomUpdate(r, key, truth[key]))
				}
			}
			save(t, l, worker, updates...)
			if key := keys[r.IntN(len(keys))]; r.IntN(8) == 0 && truth[key].state.Commit > truth[key].snapshot {
				truth[key].snapshot = truth[key].state.Commit
				ss := []pb.Update{{ShardID: key.group, ReplicaID: key.member, Snapshot: pb.Snapshot{Index: truth[key].snapshot}}}
				if err := l.SaveSnapshots(ss); err != nil {
					t.Fatal(err)
				}
			}
			for key, want := range truth {
				got := below.of(key)
				switch {
				case got.state.Term != want.state.Term || got.state.Vote != want.state.Vote || !slices.Equal(got.entries, want.entries):
					t.Fatalf("seed %d, replica %v: the disk has %v and entries %d; it was given %v and %d", seed, key, got.state, got.entries, want.state, want.entries)
				case got.state.Commit > want.state.Commit || got.state.Commit < got.snapshot || got.snapshot != want.snapshot:
					t.Fatalf("seed %d, replica %v: commit index %d and snapshot %d on the disk; committed %d, snapshot %d", seed, key, got.state.Commit, got.snapshot, want.state.Commit, want.snapshot)
				}
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for key, want := range truth {
			if got := below.of(key).state; got != want.state {
				t.Fatalf("seed %d, replica %v: behind Close the disk has %v, want %v", seed, key, got, want.state)
			}
		}
	}
}

// randomUpdate returns what a replica saves next, and notes it as the truth.
func randomUpdate(r *rand.Rand, key replicaKey, truth *recorded) pb.Update {
	was := truth.state
	if truth.state.Term == 0 || r.IntN(6) == 0 {
		truth.state.Term++
		truth.state.Vote = r.Uint64N(3)
	}
	last := uint64(len(truth.entries))
	var entries []uint64
	for range r.IntN(3) {
		last++
		entries = append(entries, last)
	}
	truth.entries = append(truth.entries, entries...)
	if room := last - truth.state.Commit; room > 0 {
		truth.state.Commit += r.Uint64N(room + 1)
	}
	state := truth.state
	if state == was {
		state = pb.State{} // the library says nothing of what has not changed
	}
	return updateOf(key, state, entries...)
}
