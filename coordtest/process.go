package coordtest

import (
	"context"
	"fmt"
	"runtime/pprof"

	"coord"
	"coord/internal/private"
)

// Kill ends a member as a crash of its process would: nothing is closed in good order,
// its sessions run out unless it is restarted and resumes them, and calls under way
// fail with [coord.ErrClosed]. What it has written to its disk stays, synced or not.
func (e *Ensemble) Kill(c *coord.Coordinator) {
	e.t.Helper()
	e.must("kill", e.kill(c))
}

// PowerCut ends a member as a crash of its machine does: of what it has not synced a
// part is lost, chosen by the seed, and maybe torn. It needs a disk in memory.
func (e *Ensemble) PowerCut(c *coord.Coordinator) {
	e.t.Helper()
	e.must("cut the power", e.powerCut(c))
}

// Stop closes a member in good order.
func (e *Ensemble) Stop(c *coord.Coordinator) {
	e.t.Helper()
	e.must("stop", e.stop(c))
}

// Restart starts the member at the place of c, which is down, and returns it
// without waiting until it is ready.
func (e *Ensemble) Restart(c *coord.Coordinator) *coord.Coordinator {
	e.t.Helper()
	again, err := e.restart(c)
	e.must("restart", err)
	return again
}

func (e *Ensemble) kill(c *coord.Coordinator) error {
	e.acting.Lock()
	defer e.acting.Unlock()
	m, err := e.runningMember(c)
	if err != nil {
		return err
	}
	e.trace.add("member %v: killed", m.id)
	return e.end(m, private.Kill)
}

func (e *Ensemble) stop(c *coord.Coordinator) error {
	e.acting.Lock()
	defer e.acting.Unlock()
	m, err := e.runningMember(c)
	if err != nil {
		return err
	}
	if m.paused {
		return fmt.Errorf("member %v is paused: it cannot close itself", m.id)
	}
	e.trace.add("member %v: stopped", m.id)
	m.serving.drain()
	return e.end(m, func(any) error { return c.Close() })
}

func (e *Ensemble) powerCut(c *coord.Coordinator) error {
	e.acting.Lock()
	defer e.acting.Unlock()
	m, err := e.runningMember(c)
	if err != nil {
		return err
	}
	if err := e.mayCutPower(m); err != nil {
		return err
	}
	e.silence(m, c)
	m.disk.Die()
	return e.endInTheDark(m)
}

func (e *Ensemble) mayCutPower(m *member) error {
	switch {
	case m.disk == nil:
		return fmt.Errorf("member %v is OnDisk: what a real disk would lose is not known; leave OnDisk out, or use Kill", m.id)
	case e.net == nil:
		return fmt.Errorf("member %v is OnSockets: what it has sent cannot be told from what it would send; leave OnSockets out, or use Kill", m.id)
	}
	return nil
}

// silence has nobody hear of what a member still does whose disk is about to die, for
// its goroutines do not know: neither its own users nor other members may be told of a
// write that is lost.
func (e *Ensemble) silence(m *member, c *coord.Coordinator) {
	m.serving.hold()
	private.Freeze(c)
	e.net.Pause(m.addr)
}

// endInTheDark ends a member whose power is cut, and loses what was not synced.
func (e *Ensemble) endInTheDark(m *member) error {
	err := e.end(m, private.Kill)
	m.cuts++
	loss, lost := m.disk.PowerOn(dice(e.o.seed, forPowerCuts+uint64(m.id)<<32+m.cuts<<48).Uint64())
	e.trace.add("member %v: power cut, %v", m.id, loss)
	if err == nil {
		err = lost
	}
	return err
}

// end ends the process of a member by how. One that is paused does not run again
// before.
func (e *Ensemble) end(m *member, how func(any) error) error {
	e.mu.Lock()
	c := m.running
	m.running, m.paused = nil, false
	e.mu.Unlock()
	m.serving.hold() // clients hear nothing of how it ends, but that it has
	err := how(c)
	m.serving.close()
	m.serving = nil
	if e.net != nil {
		e.net.Resume(m.addr) // nobody is there any more
	}
	e.mu.Lock()
	if m.repair != nil {
		m.repair()
		m.repair = nil
	}
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("member %v: %w", m.id, err)
	}
	return nil
}

func (e *Ensemble) restart(c *coord.Coordinator) (*coord.Coordinator, error) {
	e.acting.Lock()
	defer e.acting.Unlock()
	m, err := e.memberOf(c)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	up, closed := m.up(), m.running
	e.mu.Unlock()
	if up {
		return nil, fmt.Errorf("member %v is running", m.id)
	}
	if closed != nil { // by the test itself, which may not have waited for the end
		if err := e.end(m, private.Kill); err != nil {
			return nil, err
		}
	}
	e.trace.add("member %v: started again", m.id)
	again, err := e.start(m.id)
	if err == nil && e.Size() == 1 {
		e.hasten() // there is nobody whom that could disturb
	}
	return again, err
}

// start starts a member that is down.
func (e *Ensemble) start(id coord.MemberID) (*coord.Coordinator, error) {
	m := e.place(id)
	c, err := e.open(m)
	if err != nil {
		return nil, err
	}
	return c, e.enter(m, c)
}

// open opens a process of a member.
func (e *Ensemble) open(m *member) (c *coord.Coordinator, err error) {
	cfg := m.cfg
	if m.memory != nil {
		private.SetMemory(&cfg, m.memory)
	}
	// Every goroutine that starts from here carries the label, so that finish can
	// tell this ensemble's from others.
	pprof.Do(context.Background(), pprof.Labels("coordtest", e.label), func(ctx context.Context) {
		c, err = coord.Open(ctx, cfg)
	})
	if err != nil {
		return nil, fmt.Errorf("member %v: %w", m.id, err)
	}
	return c, nil
}

// enter takes note of a process that was opened.
func (e *Ensemble) enter(m *member, c *coord.Coordinator) error {
	e.mu.Lock()
	m.running, m.last, m.full = c, c, m.isFull()
	e.lives[c] = m.id
	e.mu.Unlock()
	return e.serve(m, c)
}
