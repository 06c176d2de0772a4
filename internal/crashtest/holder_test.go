package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord"
	"coord/recipes"
)

// recipe executes what goes through package recipes.
func (m *member) recipe(ctx context.Context, r *request, p *reply) error {
	switch r.Op {
	case opHold:
		h, err := recipes.Lock(ctx, m.session(r.Session), r.Path)
		if err == nil {
			p.Fence = h.Fence()
			keepAs(m, m.held, r.Key, h)
		}
		return err
	case opStill:
		return as(m, m.held, r.Key).Check()
	case opGuard:
		results, err := m.c.Multi(ctx, as(m, m.held, r.Key).Guard(), coord.SetDataOp(r.Path, []byte(r.Data)))
		if err == nil {
			p.Stat = &results[1].Stat
		}
		return err
	case opRelease:
		return as(m, m.held, r.Key).Release(ctx)
	}
	return m.queue(ctx, r, p)
}

// queue executes what goes through a queue.
func (m *member) queue(ctx context.Context, r *request, p *reply) (err error) {
	q := recipes.NewQueue(m.c, r.Path, coord.JSON[string]())
	switch r.Op {
	case opPut:
		return q.Put(ctx, r.Data)
	case opTake:
		d, err := q.Take(ctx, m.session(r.Session))
		if err == nil {
			p.Data, p.Fence = d.Value, d.Fence()
			keepAs(m, m.taken, r.Key, d)
		}
		return err
	case opAck:
		return as(m, m.taken, r.Key).Ack(ctx, coord.CreateOp(r.Path, []byte(r.Data), coord.PersistentSequential))
	case opNack:
		return as(m, m.taken, r.Key).Nack(ctx, 0)
	case opLen:
		n, err := q.Len(ctx, coord.Linearizable())
		p.Value = int64(n)
		return err
	}
	return m.inspect(ctx, r, p)
}

// keepAs keeps what the parent will ask for by a key; as returns it.
func keepAs[T any](m *member, all map[string]T, key string, v T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all[key] = v
}

func as[T any](m *member, all map[string]T, key string) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return all[key]
}

// record tells the parent of every change, until the process ends.
func (m *member) record(from coord.Position) {
	for m.c.Context().Err() == nil {
		watch, err := m.c.Watch(context.Background(), "/", coord.Subtree, coord.WithData(), coord.WithProgress(), coord.From(from))
		if err == nil {
			m.out <- reply{Event: eventRecording, Position: from.String()}
			from, err = m.tellAll(watch, from)
		}
		if compacted, ok := errors.AsType[*coord.CompactedError](err); ok {
			from = compacted.Oldest
		} else if err != nil {
			<-time.After(10 * time.Millisecond) // it fell behind, or the member is closing
		}
	}
}

// tellAll tells what a watch does, whole writes only, and returns where it has
// ended and why.
func (m *member) tellAll(watch *coord.Watch, from coord.Position) (coord.Position, error) {
	var write []told
	var group coord.GroupID // that wrote it
	for ev, err := range watch.Events() {
		if err != nil {
			return from, err
		}
		if ev.Type != coord.Progress {
			write = append(write, told{Type: ev.Type, Path: ev.Path, Data: string(ev.Data), Version: ev.Stat.Version})
			if group == 0 {
				group = m.writer(from, &ev)
			}
			ev.Position = watch.Position()
		}
		if !whole(ev.Position) {
			continue
		}
		from = ev.Position
		m.out <- reply{Event: eventTold, ZXID: zxidOf(from), Position: from.String(), Group: group, Told: write}
		write, group = nil, 0
	}
	return from, nil
}

// What follows reads Positions. They are opaque to users; this is a test.

// whole reports whether all of a write lies before a Position.
func whole(p coord.Position) bool { return !strings.Contains(p.String(), "+") }

// rootGroup is the group of what is not mounted.
const rootGroup coord.GroupID = 1

// placesOf returns which write a Position lies behind in each group.
func placesOf(p coord.Position) map[coord.GroupID]coord.ZXID {
	at := map[coord.GroupID]coord.ZXID{}
	if p.IsZero() {
		return at
	}
	parts := strings.SplitN(p.String(), "-", 3)
	for part := range strings.SplitSeq(parts[len(parts)-1], ",") {
		group, behind, _ := strings.Cut(part, ":")
		behind, _, _ = strings.Cut(behind, "+")
		g, err := strconv.ParseUint(group, 10, 64)
		z, errZXID := coord.ParseZXID(behind)
		if err = errors.Join(err, errZXID); err != nil {
			panic(fmt.Sprintf("position %v: %v", p, err)) // the parent shows how this process ended
		}
		at[coord.GroupID(g)] = z
	}
	return at
}

// zxidOf returns which write of the root group a Position lies behind.
func zxidOf(p coord.Position) coord.ZXID { return placesOf(p)[rootGroup] }

// writer returns the group whose write ev is the first told event of behind was: one in
// which that has brought the watch on. A mark that was not told yet can have brought others
// on, by chance to the same zxid; the one that serves the znode is meant then.
func (m *member) writer(was coord.Position, ev *coord.Event) coord.GroupID {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mount := range m.c.Mounts() {
		m.mounts[mount.Group] = mount.Path
	}
	return writer(placesOf(was), placesOf(ev.Position), ev, m.mounts)
}

func writer(was, at map[coord.GroupID]coord.ZXID, ev *coord.Event, mounts map[coord.GroupID]string) coord.GroupID {
	var may []coord.GroupID
	for g, z := range at {
		if z == ev.ZXID && was[g] != z {
			may = append(may, g)
		}
	}
	for _, g := range may {
		if path, known := mounts[g]; known && (ev.Path == path || strings.HasPrefix(ev.Path, path+"/")) {
			return g
		}
	}
	if slices.Contains(may, rootGroup) || len(may) == 0 {
		return rootGroup // if nothing fits, the parent says so
	}
	return slices.Min(may)
}
