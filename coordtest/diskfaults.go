package coordtest

import (
	"errors"
	"fmt"
	"time"

	"coord"
	"coord/internal/faultfs"
	"coord/internal/private"
)

// SlowDisk has whatever a member syncs take so much longer from now on. Zero ends it. It
// needs a disk in memory.
func (e *Ensemble) SlowDisk(c *coord.Coordinator, by time.Duration) {
	e.t.Helper()
	e.must("slow disk", e.slowDisk(c, by))
}

// FillDisk leaves so many bytes on a member's disk and has the member look at it now.
// Less than [coord.Config.MinFreeBytes] (256 MiB) has the ensemble refuse growth with
// [coord.ErrNoSpace], as soon as the member's next touch has told it. Less than a quarter
// of that has the member stop itself, with [coord.ErrFailed]: then Kill it, and Restart
// it when there is room. See [Ensemble.FreeDisk]. It needs a disk in memory.
func (e *Ensemble) FillDisk(c *coord.Coordinator, bytesLeft uint64) {
	e.t.Helper()
	e.must("fill the disk", e.fillDisk(c, bytesLeft))
}

// FreeDisk ends FillDisk.
func (e *Ensemble) FreeDisk(c *coord.Coordinator) {
	e.t.Helper()
	e.must("free the disk", e.fillDisk(c, plenty))
}

// FailDisk has the next sync of a member's log fail with EIO. After that nobody knows
// what is durable, so the member stops itself, with [coord.ErrFailed], and the test has
// to end it: by Kill, which leaves what it wrote, or by PowerCut, which loses a part.
// It can be restarted: the disk is well again. It needs a disk in memory.
func (e *Ensemble) FailDisk(c *coord.Coordinator) {
	e.t.Helper()
	e.must("fail the disk", e.failDisk(c))
}

// plenty is as much as a disk can have: unlike no limit at all, the disk tells it.
const plenty = 1 << 60

func (e *Ensemble) mayHarmDisk(m *member) error {
	if m.disk == nil {
		return fmt.Errorf("member %v is OnDisk: leave that out", m.id)
	}
	return nil
}

func (e *Ensemble) slowDisk(c *coord.Coordinator, by time.Duration) error {
	m, err := e.memberOf(c)
	if err == nil {
		err = e.mayHarmDisk(m)
	}
	if err == nil && by < 0 {
		err = fmt.Errorf("by %v: it must not be negative", by)
	}
	if err != nil {
		return err
	}
	e.trace.add("member %v: a sync takes %v longer", m.id, by)
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.quicken != nil {
		m.quicken()
		m.quicken = nil
	}
	if by > 0 {
		m.quicken = m.disk.Inject(faultfs.Fault{Ops: faultfs.Sync | faultfs.SyncDir, Delay: by})
	}
	return nil
}

func (e *Ensemble) fillDisk(c *coord.Coordinator, left uint64) error {
	m, err := e.memberOf(c)
	if err == nil {
		err = e.mayHarmDisk(m)
	}
	if err != nil {
		return err
	}
	e.trace.add("member %v: %d bytes left on the disk", m.id, left)
	m.disk.SetSpace(int64(min(left, plenty)))
	e.mu.Lock()
	running, paused := m.running, m.paused
	stopped := running != nil && errors.Is(running.Health(), coord.ErrFailed)
	m.full = m.isFull() || m.full && stopped
	e.mu.Unlock()
	if running != nil && !paused {
		private.CheckDisk(running)
	}
	return nil
}

func (e *Ensemble) failDisk(c *coord.Coordinator) error {
	m, err := e.runningMember(c)
	if err == nil {
		err = e.mayCutPower(m)
	}
	if err != nil {
		return err
	}
	e.trace.add("member %v: the next sync of the log fails", m.id)
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.repair == nil {
		m.repair = m.disk.Inject(faultfs.Fault{Ops: faultfs.Sync, Path: "*.log", Count: 1})
	}
	return nil
}

// isFull reports whether the member's disk has a limit.
func (m *member) isFull() bool {
	if m.disk == nil {
		return false
	}
	usage, err := m.disk.GetDiskUsage("/")
	return err == nil && usage.AvailBytes < plenty/2
}

// mayFail reports whether the process that runs here may have stopped itself: its disk is
// full, or was then, or was to fail.
func (e *Ensemble) mayFail(id coord.MemberID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.place(id)
	return m.full || m.repair != nil
}
