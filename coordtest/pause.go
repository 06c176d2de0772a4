package coordtest

import (
	"fmt"

	"coord"
	"coord/internal/private"
)

// Pause freezes a member, as SIGSTOP, a long garbage collection or the migration of a
// virtual machine does, until [Ensemble.Resume]. Time goes on meanwhile. It needs the
// network in memory.
//
// What others see is a process that stands still: it sends nothing, and what it is
// sent waits for it. What its own users see is that whatever they ask it waits for
// Resume, also past the end of its context: reads (but for AllowStale), writes, and
// what a session or its context is asked; that nothing new is applied or told to watches;
// and that its sessions do not end before they look. The test's own goroutine would
// wait for ever: [Ensemble.Running] and the methods of Ensemble leave the member out.
//
// What differs from a real pause, since it is one process: the goroutines of the
// service under test run until they ask the member something; calls that only return
// what the member had at hand (Watch events that were queued, AllowStale reads, Views)
// return; and the raft below goes on by itself, unheard, so that a leader that is
// resumed has mostly found out that it is none any more.
func (e *Ensemble) Pause(c *coord.Coordinator) {
	e.t.Helper()
	e.must("pause", e.pause(c))
}

// Resume has a member that was paused go on. The first thing that it sees is by how
// much its clock is ahead.
func (e *Ensemble) Resume(c *coord.Coordinator) {
	e.t.Helper()
	e.must("resume", e.resume(c))
}

func (e *Ensemble) pause(c *coord.Coordinator) error {
	e.acting.Lock()
	defer e.acting.Unlock()
	m, err := e.runningMember(c)
	switch {
	case err != nil:
		return err
	case e.net == nil:
		return fmt.Errorf("member %v is OnSockets, where nothing can hold what it sends; leave OnSockets out", m.id)
	case m.paused:
		return fmt.Errorf("member %v is paused already", m.id)
	}
	e.trace.add("member %v: paused", m.id)
	e.setPaused(m, true)
	m.serving.hold()
	e.net.Pause(m.addr)
	m.thaw = private.Freeze(c)
	return nil
}

func (e *Ensemble) resume(c *coord.Coordinator) error {
	e.acting.Lock()
	defer e.acting.Unlock()
	m, err := e.memberOf(c)
	switch {
	case err != nil:
		return err
	case m.running != c || !m.paused:
		return fmt.Errorf("member %v is not paused", m.id)
	}
	e.trace.add("member %v: resumed", m.id)
	m.thaw()
	e.net.Resume(m.addr)
	m.serving.letGo()
	e.setPaused(m, false)
	return nil
}

func (e *Ensemble) setPaused(m *member, paused bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.paused = paused
}
