package coordtest

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"coord"
	"coord/internal/private"
)

// Add adds a member that votes, starts it with an empty directory, and waits until it
// does. Its id is one that no member of the ensemble ever had.
func (e *Ensemble) Add(ctx context.Context) *coord.Coordinator {
	e.t.Helper()
	at := e.Leader(ctx)
	id := coord.MemberID(1)
	for have := range e.everUsed() {
		if have < 1<<32 { // others are not for us to choose, see coord.MemberID
			id = max(id, have+1)
		}
	}
	addr := e.newAddress(fmt.Sprintf("member-%v", id))
	if err := at.AddMember(ctx, coord.Member{ID: id, Addr: addr}); err != nil {
		e.t.Fatalf("coordtest: add member %v: %v", id, err)
	}
	c := e.join(ctx, id, addr)
	if err := at.AwaitSettled(ctx); err != nil {
		e.t.Fatalf("coordtest: add member %v: %v", id, err)
	}
	return c
}

// Observe starts a member that joins by itself as an observer, and waits until it is
// ready.
func (e *Ensemble) Observe(ctx context.Context) *coord.Coordinator {
	e.t.Helper()
	e.observers++
	return e.join(ctx, 0, e.newAddress(fmt.Sprintf("observer-%d", e.observers)))
}

// Remove removes a member from the ensemble, waits until raft does without it, and ends
// its process. There is no such member any more then.
func (e *Ensemble) Remove(ctx context.Context, c *coord.Coordinator) {
	e.t.Helper()
	m, err := e.memberOf(c)
	e.must("remove", err)
	for _, at := range e.Running() {
		if at == c {
			continue
		}
		e.WaitFor(ctx, fmt.Sprintf("member %v to be removed", m.id), func() error { return remove(ctx, at, m.id) })
		e.must("remove", e.strike(m))
		return
	}
	e.t.Fatalf("coordtest: remove member %v: no other runs", m.id)
}

// remove removes a member, unless the test has done that itself. Those who would be left
// may not have been heard of yet, if the ensemble was just healed.
func remove(ctx context.Context, at *coord.Coordinator, id coord.MemberID) error {
	if isMember(at, id) {
		return at.RemoveMember(ctx, id)
	}
	return at.AwaitSettled(ctx)
}

// isMember reports whether a member is one as far as another knows.
func isMember(at *coord.Coordinator, id coord.MemberID) bool {
	return slices.ContainsFunc(at.Configuration().Members, func(m coord.Member) bool { return m.ID == id })
}

// strike ends a member that was removed, and forgets its place.
func (e *Ensemble) strike(m *member) error {
	e.acting.Lock()
	defer e.acting.Unlock()
	e.trace.add("member %v: removed", m.id)
	e.mu.Lock()
	running := m.running != nil
	e.mu.Unlock()
	if running {
		if err := e.end(m, private.Kill); err != nil {
			return err
		}
	}
	places := maps.Clone(*e.places.Load())
	delete(places, m.id)
	e.places.Store(&places)
	return nil
}

// everUsed returns the ids of all members that there are or were.
func (e *Ensemble) everUsed() map[coord.MemberID]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	ids := map[coord.MemberID]bool{}
	for _, id := range e.lives {
		ids[id] = true
	}
	return ids
}

// newAddress returns an address for one more member.
func (e *Ensemble) newAddress(name string) string {
	e.t.Helper()
	if e.o.onSockets {
		return e.addresses(1)[0]
	}
	return name + ":1"
}

// join starts a member that joins, with an id or without one, and waits until it is
// ready.
func (e *Ensemble) join(ctx context.Context, id coord.MemberID, addr string) *coord.Coordinator {
	e.t.Helper()
	m := &member{id: id, addr: addr}
	m.cfg = e.configure()
	m.cfg.Name, m.cfg.ID, m.cfg.Addr, m.cfg.Listen = "coordtest-"+e.label, id, addr, addr
	for _, c := range e.Running() {
		at, err := e.memberOf(c)
		e.must("join", err)
		m.cfg.Join = append(m.cfg.Join, at.addr)
	}
	m.cfg.Dir = filepath.Join("/coordtest", addr)
	if e.o.onDisk {
		m.cfg.Dir = e.t.TempDir()
	}
	e.equip(m)
	c, err := e.admit(m)
	e.must("join", err)
	if err := c.Ready(ctx); err != nil {
		e.t.Fatalf("coordtest: member %v has joined and is not ready: %v\n%s", m.id, err, e.describe())
	}
	return c
}

// admit starts a member that joins, and gives it a place.
func (e *Ensemble) admit(m *member) (*coord.Coordinator, error) {
	e.acting.Lock()
	defer e.acting.Unlock()
	c, err := e.open(m)
	if err != nil {
		return nil, err
	}
	m.id = c.Status().Member
	e.trace.add("member %v: joined", m.id)
	e.settle(m)
	return c, e.enter(m, c)
}
