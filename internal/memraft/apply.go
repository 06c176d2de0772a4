package memraft

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"coord/internal/replica"
)

// An applier takes what is committed to the machine of a replica. Its goroutine is
// the only one that calls the machine, but for Save.
type applier struct {
	commit  uint64
	applied uint64 // the machine reflects the log up to here
	loaded  bool   // the snapshot of the disk was restored

	appliedMembers *members // by the log up to applied
	stopped        bool
	work           *sync.Cond    // there is something to do
	stop           chan struct{} // closed with stopped
	ended          chan struct{} // closed when the machine is not called any more

	save   *saving // asked for, or under way
	saves  sync.WaitGroup
	busy   bool   // save is under way
	rested uint64 // index of the last snapshot made here
}

// A saving is one snapshot being made.
type saving struct {
	done  chan struct{}
	index uint64 // set before done is closed
	err   error  // set before done is closed
}

// load restores the snapshot of the disk into an empty machine.
func (r *raft) load() error {
	r.net.mu.Lock()
	snap := r.disk.snap
	r.net.mu.Unlock()
	if snap.index > 0 {
		if err := r.machine.Restore(bytes.NewReader(snap.data), r.stop); err != nil {
			return err
		}
	}
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	if snap.index > 0 {
		r.net.stats.Restores++
	}
	r.applied, r.rested, r.loaded = snap.index, snap.index, true
	if snap.index > 0 {
		r.appliedMembers = snap.members
	}
	return nil
}

// runApply is the goroutine that applies.
func (r *raft) runApply() {
	defer close(r.ended)
	defer r.saves.Wait()
	for {
		r.net.mu.Lock()
		for !r.stopped && !r.hasWorkLocked() {
			r.work.Wait()
		}
		if r.stopped {
			r.net.mu.Unlock()
			return
		}
		lag := r.net.betweenLocked(0, r.net.lags[r.id])
		most := 1 + r.net.rng.IntN(2*maxEntries)
		r.net.mu.Unlock()
		if lag > 0 {
			time.Sleep(lag)
		}
		r.applySome(most)
	}
}

func (r *raft) hasWorkLocked() bool {
	return !r.net.paused[r.id] && (r.applied < r.commit || r.save != nil && !r.busy)
}

// applySome restores a snapshot that was installed, or applies some entries, or has a
// snapshot saved.
func (r *raft) applySome(most int) {
	r.net.mu.Lock()
	snap, save := r.disk.snap, r.save
	var entries []entry
	switch {
	case r.stopped:
		r.net.mu.Unlock()
		return
	case r.applied < r.disk.cutAt: // what follows is in the snapshot only
		r.net.mu.Unlock()
		r.restore(snap)
		return
	case r.applied < r.commit:
		entries = r.disk.from(r.applied+1, int(min(uint64(most), r.commit-r.applied)))
	}
	due := r.host.cfg.SnapshotEntries > 0 && r.applied >= r.rested+r.host.cfg.SnapshotEntries
	if save == nil && due {
		save = &saving{done: make(chan struct{})}
		r.save = save
	}
	begin := save != nil && !r.busy
	if begin {
		r.busy = true
	}
	at := snapshot{index: r.applied, members: r.appliedMembers}
	r.net.mu.Unlock()
	if begin {
		point := r.machine.Prepare()
		r.saves.Go(func() { r.runSave(save, at, point) })
	}
	if len(entries) > 0 {
		r.apply(entries)
	}
}

func (r *raft) apply(entries []entry) {
	batch := make([]replica.Entry, 0, len(entries))
	for _, e := range entries {
		if e.cmd != nil {
			// A copy, so that a machine which keeps or changes it is found out here.
			batch = append(batch, replica.Entry{Index: e.index, Cmd: bytes.Clone(e.cmd)})
		}
	}
	if len(batch) > 0 {
		r.machine.Apply(batch)
	}
	for _, e := range batch {
		clear(e.Cmd) // it was valid only during Apply
	}
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	r.applied = entries[len(entries)-1].index
	for i := range entries {
		e := &entries[i]
		before := r.appliedMembers
		r.appliedMembers = before.with(e)
		if w := r.waiters[e.key]; w != nil {
			delete(r.waiters, e.key)
			w.rejected = e.change != nil && r.appliedMembers == before
			if !w.deaf {
				close(w.done)
			}
		}
	}
	r.answerReadsLocked()
	if r.appliedMembers.removed[r.id] && !r.stopped {
		r.host.removedLocked(r)
	}
}

func (r *raft) answerReadsLocked() {
	for read, w := range r.asked {
		if w.index != 0 && r.applied >= w.index {
			delete(r.asked, read)
			close(w.done)
		}
	}
}

func (r *raft) restore(snap snapshot) {
	err := r.machine.Restore(bytes.NewReader(snap.data), r.stop)
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	switch {
	case err == nil:
		r.applied, r.rested, r.appliedMembers = snap.index, snap.index, snap.members
		r.net.stats.Restores++
		r.answerReadsLocked()
	case !r.stopped || !errors.Is(err, replica.ErrSnapshotStopped):
		panic(fmt.Sprintf("memraft: member %d cannot restore a snapshot: %v", r.id, err))
	}
}

// runSave is the goroutine of one snapshot.
func (r *raft) runSave(s *saving, at snapshot, point any) {
	index := at.index
	var buf bytes.Buffer
	err := r.machine.Save(point, &buf, r.stop)
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	r.save, r.busy = nil, false
	r.rested = max(r.rested, index) // also if it failed: it is tried again later
	defer close(s.done)
	switch {
	case r.stopped:
		s.err = replica.ErrClosed
		return
	case err != nil:
		s.err = replica.ErrSnapshotAborted
		return
	}
	if term, ok := r.disk.termOf(index); ok && index > r.disk.snap.index {
		at.term, at.data = term, buf.Bytes()
		r.disk.snap = at
		keep := r.net.rng.Uint64N(r.host.cfg.CompactionOverhead + 1)
		r.disk.cut(index - min(keep, index))
	}
	s.index = r.disk.snap.index
	r.work.Broadcast()
}
