package coord

import (
	"errors"
	"fmt"
	"io"

	"coord/internal/replica"
)

// A machine is the end of the log of one group on this member: it applies
// entries to the state and publishes what comes out. The host calls it from one
// goroutine at a time, but for Save.
//
// A machine that meets an entry or a snapshot it cannot read (one of a newer format, or
// one that no binary writes) does not skip it, because this member would then differ
// from the others for ever. It publishes nothing any more, aborts snapshots and
// has its group fail. Nor does one whose group has ended apply anything: nobody is
// told of it any more.
type machine struct {
	g       *group
	s       *state // private; what others see is frozen
	index   uint64 // of the last entry applied
	halted  error
	changes []change // of the call at hand
}

var _ replica.Machine = (*machine)(nil)

// Apply implements [replica.Machine].
func (m *machine) Apply(entries []replica.Entry) {
	m.g.clock.Await()
	if m.halted != nil || m.g.ctx.Err() != nil {
		return
	}
	m.changes = nil
	for _, e := range entries {
		cmd, err := decodeCommand(e.Cmd)
		if err == nil && cmd.group != m.g.id {
			err = fmt.Errorf("%w: command of group %v", errMalformed, cmd.group)
		}
		if err != nil {
			m.halted = fmt.Errorf("group %v: log entry %d: %w", m.g.id, e.Index, err)
			break
		}
		eff := m.s.applyKeeping(cmd, digestOf(e.Cmd), m.g.proposer.wanted(cmd))
		m.g.proposer.keepStates(eff.kept)
		m.index = e.Index
		if len(m.changes) == 0 {
			m.changes = eff.changes // nearly always: most calls bring one entry
		} else {
			m.changes = append(m.changes, eff.changes...)
		}
		m.g.observe(cmd, &eff, m.s)
	}
	m.g.publish(&published{state: m.s.freeze(), index: m.index}, m.changes)
	if m.halted != nil {
		m.g.fail(m.halted)
	}
}

// Prepare implements [replica.Machine].
func (m *machine) Prepare() any { return m.g.pub.Load().state }

// Save implements [replica.Machine].
func (m *machine) Save(point any, w io.Writer, stop <-chan struct{}) error {
	if m.g.ctx.Err() != nil { // entries may have been left out behind point
		return replica.ErrSnapshotAborted
	}
	err := writeSnapshot(point.(*state), w, stop)
	if errors.Is(err, errStopped) {
		return replica.ErrSnapshotStopped
	}
	return err
}

// Restore implements [replica.Machine]. It ends every watch that has not yet
// been told what the snapshot skips.
//
// It returns no error for a snapshot that cannot be read, for which the raft library would
// end the process: the machine halts, and its member stops. The library then believes that
// the state is that of the snapshot, but nothing asks for it any more; the snapshot is on
// the disk, for a process that can read it.
func (m *machine) Restore(r io.Reader, stop <-chan struct{}) error {
	if m.halted != nil {
		return nil //nolint:nilerr // the group has failed with it
	}
	s, err := readSnapshot(m.g.id, r, stop)
	if errors.Is(err, errStopped) {
		return replica.ErrSnapshotStopped
	}
	if err != nil {
		m.halted = fmt.Errorf("group %v: %w", m.g.id, err)
		m.g.fail(m.halted)
		return nil
	}
	m.s = s
	m.g.publishSnapshot(&published{state: s.freeze()})
	return nil
}
