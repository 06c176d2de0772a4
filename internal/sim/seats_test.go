package sim_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/lni/vfs"

	"coord"
	"coord/internal/memraft"
	"coord/internal/raftnode"
	"coord/internal/raftnode/peernet"
	"coord/internal/replica"
)

// A seat is where one member of the ensemble is, and is called by the id of the first that
// was there. When that is replaced another one takes the seat, with an id, an address, a
// log and a disk of its own: what is done to seats is done to whoever has them then. There
// are two more for guests, who are observers that have no id before they come.
const (
	firstGuest coord.MemberID = 1 << 20
	guests                    = 2
)

// seats yields those of the ensemble and those of guests.
func (w *world) seats() iter.Seq[coord.MemberID] {
	return func(yield func(coord.MemberID) bool) {
		for _, m := range w.members {
			if !yield(m.ID) {
				return
			}
		}
		for i := range coord.MemberID(guests) {
			if !yield(firstGuest + i) {
				return
			}
		}
	}
}

// sitting returns the id of the member that has a seat, and its disk. A guest that is away
// has the number of its seat.
func (w *world) sitting(seat coord.MemberID) (coord.MemberID, vfs.FS) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.sittingLocked(seat)
	if w.disks[id] == nil {
		w.disks[id] = vfs.NewMem()
	}
	return id, w.disks[id]
}

func (w *world) sittingLocked(seat coord.MemberID) coord.MemberID {
	return cmp.Or(w.seated[seat], seat)
}

// addrOf returns the address of the member of an id.
func addrOf(id coord.MemberID) string { return fmt.Sprintf("member-%d:1", id) }

// addrLocked returns the address of a seat. Guests come back to theirs, as containers do.
func (w *world) addrLocked(seat coord.MemberID) string {
	if seat >= firstGuest {
		return addrOf(seat)
	}
	return addrOf(w.sittingLocked(seat))
}

// addrsBeside returns where the members on all other seats are.
func (w *world) addrsBeside(seat coord.MemberID) (addrs []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.members {
		if m.ID != seat {
			addrs = append(addrs, addrOf(w.sittingLocked(m.ID)))
		}
	}
	return addrs
}

// beside returns what runs on other seats.
func (w *world) beside(seat coord.MemberID) (others []*process) {
	for _, m := range w.members {
		if p := w.process(m.ID); p != nil && m.ID != seat {
			others = append(others, p)
		}
	}
	return others
}

// replace gives a seat to a new member, in one change with the removal of the old one,
// which is down then, or has to find out. It may be refused, and its outcome be unknown.
func (w *world) replace(dice *rand.Rand, seat coord.MemberID) {
	others := w.beside(seat)
	if _, doubtful := w.doubt(seat); doubtful || len(others) == 0 {
		return
	}
	if dice.IntN(2) == 0 {
		w.down(seat, dice.IntN(2) == 0)
	}
	w.mu.Lock()
	w.newest++
	rc := coord.Reconfiguration{
		Members: []coord.Member{{ID: w.newest, Addr: addrOf(w.newest)}}, Remove: []coord.MemberID{w.sittingLocked(seat)},
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), between(dice, 0, 20*time.Second))
	defer cancel()
	_, err := others[dice.IntN(len(others))].c.Reconfigure(ctx, rc)
	w.trace.add("member %v for member %v: %v", rc.Members[0].ID, rc.Remove[0], err)
	switch {
	case err == nil:
		w.seat(dice, seat, rc)
	case errors.Is(err, coord.ErrUnknownOutcome):
		w.count("replace, unknown")
		w.mu.Lock()
		w.doubts[seat] = rc
		w.mu.Unlock()
		w.excuse(seat)
	default:
		w.count("replace, refused")
	}
}

// doubt returns the change of which it is not known whether it has given a seat away.
func (w *world) doubt(seat coord.MemberID) (coord.Reconfiguration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rc, is := w.doubts[seat]
	return rc, is
}

// excuse lets what runs on a seat fail, for its member may have been removed.
func (w *world) excuse(seat coord.MemberID) {
	if p := w.process(seat); p != nil {
		p.removed = true
	}
}

// seat gives a seat to the member that a change which was made has added. Who was there
// has a moment to find out, and ends.
func (w *world) seat(dice *rand.Rand, seat coord.MemberID, rc coord.Reconfiguration) {
	w.excuse(seat)
	w.nap(between(dice, 0, 5*time.Second))
	w.down(seat, dice.IntN(2) == 0)
	was, is := rc.Remove[0], rc.Members[0].ID
	w.mu.Lock()
	delete(w.doubts, seat)
	delete(w.paused, seat)
	w.reachLocked()
	w.seatLocked(seat, is)
	w.mu.Unlock()
	w.net.Resume(replica.MemberID(was))
	w.calls.Resume(addrOf(was))
	if dice.IntN(4) > 0 {
		w.open(seat)
	}
}

// seatLocked takes note who is on a seat now. The same links are cut.
func (w *world) seatLocked(seat, id coord.MemberID) {
	w.seated[seat] = id
	for l := range w.cut {
		if l[0] == seat || l[1] == seat {
			w.cutLocked(l[0], l[1])
		}
	}
}

// guest has an observer come, be cut off, or go: in good order, or without a word, so that
// the ensemble forgets it in time, or when it comes again.
func (w *world) guest(dice *rand.Rand) {
	seat := firstGuest + coord.MemberID(dice.IntN(guests))
	switch {
	case w.process(seat) == nil:
		w.open(seat)
	case dice.IntN(3) == 0:
		w.isolate(seat)
	default:
		w.down(seat, dice.IntN(2) == 0)
	}
}

// resolve finds out, in fine weather, what came of the changes of which that is not
// known: it asks for them again until somebody knows that they were made.
func (w *world) resolve(dice *rand.Rand) {
	for _, m := range w.members {
		rc, doubtful := w.doubt(m.ID)
		if !doubtful {
			continue
		}
		w.poll(fmt.Sprintf("member %v to take the seat of member %v", rc.Members[0].ID, rc.Remove[0]), func() bool {
			w.revive(dice)
			for _, p := range w.beside(m.ID) {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				_, err := p.c.Reconfigure(ctx, rc)
				cancel()
				added := func(o coord.Member) bool { return o.ID == rc.Members[0].ID }
				if err == nil || slices.ContainsFunc(p.c.Configuration().Members, added) {
					return true
				}
			}
			return false
		})
		w.seat(dice, m.ID, rc)
	}
}

// rest ends all faults, and has somebody on each seat, and no guests.
func (w *world) rest(dice *rand.Rand) {
	w.heal()
	for i := range coord.MemberID(guests) {
		w.down(firstGuest+i, dice.IntN(2) == 0)
	}
	w.poll("somebody to be on each seat", func() bool {
		w.revive(dice)
		w.resolve(dice)
		for _, m := range w.members {
			if w.process(m.ID) == nil {
				return false
			}
		}
		return true
	})
}

// checkMembers is called when all is at rest: the members are those on the seats, also for
// raft, and nothing is left of guests and of those who were replaced.
func (w *world) checkMembers() {
	want := map[coord.MemberID]bool{}
	for _, m := range w.members {
		id, _ := w.sitting(m.ID)
		want[id] = true
	}
	for _, m := range w.members {
		p := w.process(m.ID)
		conf := p.c.Configuration()
		foreign := slices.ContainsFunc(conf.Members, func(o coord.Member) bool { return !want[o.ID] })
		if foreign || !conf.Settled || len(conf.Members) != len(want) {
			w.violate("members: member %v has the configuration %+v, want %v, settled", p.member, conf, slices.Sorted(maps.Keys(want)))
		}
	}
}

// poll waits for what has to come about soon in fine weather.
func (w *world) poll(what string, done func() bool) {
	for until := w.now() + 10*time.Minute; !done(); sleep(time.Second) {
		if w.now() > until {
			panic(fmt.Sprintf("waited 10 minutes for %s:\n%v", what, w.trace)) // in whatever goroutine: nothing else ends a bubble
		}
	}
}

// A host is what a member has below coord: a raft, and calls beside it.
type host struct {
	*memraft.Host
	cfg  raftnode.Config
	stop func() error // ends its listening for calls

	mu    sync.Mutex
	addrs map[replica.MemberID]string // guarded by mu; replaced as a whole
}

func (w *world) openHost(c raftnode.Config) (replica.Host, error) {
	raft, err := w.net.Open(memraft.Config{
		Member: c.Member, Members: slices.Sorted(maps.Keys(c.Members)),
		Election: time.Duration(c.ElectionTicks) * c.Tick, Heartbeat: time.Duration(c.HeartbeatTicks) * c.Tick,
		SnapshotEntries: c.SnapshotEntries, CompactionOverhead: c.CompactionOverhead, OnRole: c.OnRole, OnRemoved: c.OnRemoved,
	})
	if err != nil {
		return nil, err
	}
	h := &host{Host: raft, cfg: c}
	if err = h.SetMembers(c.Members); err == nil {
		h.stop, err = w.calls.Listen(c.Addr)
	}
	if err != nil {
		return nil, errors.Join(err, raft.Close())
	}
	raftnode.ServeInMemory(&h.cfg, func(id replica.MemberID) bool { return h.addr(id) != "" })
	return h, nil
}

// addr returns where a member is, or "" if it is not known.
func (h *host) addr(id replica.MemberID) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addrs[id]
}

func (h *host) SetMembers(addrs map[replica.MemberID]string) error {
	h.mu.Lock()
	h.addrs = maps.Clone(addrs)
	h.mu.Unlock()
	return h.Host.SetMembers(addrs)
}

// Call has another member answer.
func (h *host) Call(ctx context.Context, to replica.MemberID, method string, body []byte) ([]byte, error) {
	addr := h.addr(to)
	if addr == "" {
		return nil, fmt.Errorf("member %d cannot be called", to)
	}
	return h.cfg.Net.Call(ctx, h.cfg.Addr, h.cfg.Member, addr, method, body)
}

func (h *host) Links() []peernet.Link { return nil }

func (h *host) Close() error { return errors.Join(h.stop(), h.Host.Close()) }
