package sim_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"coord"
)

// record writes the history down as a process tells it, until that ends.
func (w *world) record(p *process) {
	from := w.recorded(p.member)
	for p.c.Context().Err() == nil {
		watch, err := p.c.Watch(context.Background(), "/", coord.Subtree, coord.WithData(), coord.WithProgress(), coord.From(from))
		if compacted, ok := errors.AsType[*coord.CompactedError](err); ok {
			from = compacted.Oldest
			continue
		}
		if err != nil {
			if p.c.Context().Err() == nil {
				sleep(50 * time.Millisecond)
			}
			continue
		}
		var end error
		from, end = w.recordStream(p, watch, from)
		if compacted, ok := errors.AsType[*coord.CompactedError](end); ok {
			from = compacted.Oldest
		}
	}
	w.setRecorded(p.member, from)
}

// recordStream writes one stream down, and returns where to go on and why it ended.
func (w *world) recordStream(p *process, watch *coord.Watch, from coord.Position) (reached coord.Position, end error) {
	start := zxidOf(from)
	reached = from
	next := &write{}
	defer func() { w.history.cover(start, zxidOf(reached)) }()
	for ev, err := range watch.Events() {
		if err != nil {
			return reached, err
		}
		if ev.ZXID < zxidOf(reached) || ev.ZXID == zxidOf(reached) && ev.Type != coord.Progress {
			w.violate("G12: the recorder of member %v was told %v behind %v", p.member, ev, reached)
		}
		if ev.Type == coord.Progress {
			reached = ev.Position
			continue
		}
		if next.zxid != ev.ZXID {
			if next.zxid != 0 {
				w.violate("G12: the recorder of member %v was told a part of %v", p.member, next.zxid)
			}
			next = &write{zxid: ev.ZXID, seen: w.now()}
		}
		next.events = append(next.events, event{ev.Type, ev.Path, string(ev.Data), ev.Stat})
		if pos := watch.Position(); whole(pos) {
			if !w.history.add(next) {
				w.violate("G4, G12: member %v tells %v otherwise than another: %+v", p.member, next.zxid, next.events)
			}
			reached = pos
			if next.zxid%64 == 0 {
				w.compare(p, next.zxid)
			}
			next = &write{}
		}
	}
	return reached, nil
}

// compare compares the digest of a member with that of others, if it is just at z.
// Most writes are seen so on several members, since most log entries are one write.
func (w *world) compare(p *process, z coord.ZXID) {
	if v, err := p.c.View(context.Background(), coord.AllowStale()); err == nil && v.ZXID() == z {
		w.see(v, false)
	}
}

// recorded returns how far the recorder of a member was.
func (w *world) recorded(id coord.MemberID) coord.Position {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	return w.history.reached[id]
}

func (w *world) setRecorded(id coord.MemberID, p coord.Position) {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	w.history.reached[id] = p
}

// zxidOf returns the zxid of a Position, and whole whether all of that write lies
// before it. A Position is opaque to users; this is a test.
func zxidOf(p coord.Position) coord.ZXID {
	text := p.String()
	_, at, ok := strings.Cut(text, ":")
	if !ok {
		return 0
	}
	at, _, _ = strings.Cut(at, "+")
	z, err := coord.ParseZXID(at)
	if err != nil {
		panic(err)
	}
	return z
}

func whole(p coord.Position) bool { return !strings.Contains(p.String(), "+") }

// A told is one event as a watcher was given it, or a mark of progress.
type told struct {
	zxid coord.ZXID
	event
}

// A stream is what one watcher was told, in one watch or in several that went on
// where the last had ended.
type stream struct {
	path    string
	mode    coord.WatchMode
	start   coord.ZXID // what is behind it was to be told
	initial map[string]string
	events  []told
	end     coord.ZXID // told up to here
	partial bool       // and of this zxid only a part
	members []coord.MemberID
}

// runWatcher watches this and that.
func (w *world) runWatcher(dice *rand.Rand) {
	for !w.stopping.Load() {
		p := w.any(dice)
		if p == nil {
			sleep(time.Second)
			continue
		}
		path, mode := somePath(dice)
		s := &stream{path: path, mode: mode}
		w.watch(p, s, dice, coord.Position{}, false)
		if s.end > 0 {
			w.mu.Lock()
			w.streams = append(w.streams, s)
			w.mu.Unlock()
		}
		sleep(between(dice, 0, time.Second))
	}
}

func somePath(dice *rand.Rand) (string, coord.WatchMode) {
	switch dice.IntN(6) {
	case 0:
		return register(dice.IntN(nRegisters)), coord.Node
	case 1:
		return seqDir, coord.Children
	case 2:
		return pairDir, coord.Subtree
	case 3:
		return ephDir, coord.Children
	case 4:
		return ephDir, coord.Subtree
	}
	return regDir, coord.Subtree
}

// watch follows a stream, on other members when it ends.
func (w *world) watch(p *process, s *stream, dice *rand.Rand, from coord.Position, resumed bool) {
	for p != nil {
		opts := []coord.WatchOption{coord.WithData()}
		initial := !resumed && dice.IntN(2) == 0
		switch {
		case resumed:
			opts = append(opts, coord.From(from))
		case initial:
			opts = append(opts, coord.WithInitial())
		}
		if initial || dice.IntN(2) == 0 {
			opts = append(opts, coord.WithProgress())
		}
		ctx, cancel := context.WithTimeout(context.Background(), between(dice, 0, 60*time.Second))
		watch, err := p.c.Watch(ctx, s.path, s.mode, opts...)
		if err != nil {
			cancel()
			if _, ok := errors.AsType[*coord.CompactedError](err); ok || w.stopping.Load() {
				return
			}
			sleep(between(dice, 0, time.Second))
			if !resumed {
				return
			}
			p = w.any(dice)
			continue
		}
		if !resumed {
			s.start = zxidOf(watch.Position())
			s.end = s.start
			if initial {
				s.initial = map[string]string{}
			}
		}
		s.members = append(s.members, p.member)
		w.follow(p, s, watch, dice)
		from, resumed = watch.Position(), true
		if from.IsZero() {
			s.initial = nil // it ended while the state was told: it goes on from the beginning of time
		}
		cancel()
		if w.stopping.Load() || dice.IntN(4) == 0 {
			return
		}
		sleep(between(dice, 0, time.Second))
		p = w.any(dice)
	}
}

// follow reads one watch to its end.
func (w *world) follow(p *process, s *stream, watch *coord.Watch, dice *rand.Rand) {
	toldState := s.initial == nil || s.start != 0
	for ev, err := range watch.Events() {
		if err != nil {
			return
		}
		if !toldState && !ev.Position.IsZero() {
			s.start, s.end, toldState = zxidOf(ev.Position), zxidOf(ev.Position), true // all of the state
		}
		if ev.Initial {
			s.initial[ev.Path] = string(ev.Data)
			continue
		}
		s.end, s.partial = ev.ZXID, !whole(watch.Position())
		s.events = append(s.events, told{ev.ZXID, event{ev.Type, ev.Path, string(ev.Data), ev.Stat}})
		if dice.IntN(8) != 0 {
			continue
		}
		if v, err := p.c.View(context.Background(), coord.AllowStale()); err == nil && v.ZXID() < ev.ZXID {
			w.violate("G13: member %v tells %v while its state is at %v", p.member, ev, v.ZXID())
		}
		if dice.IntN(4) == 0 {
			sleep(between(dice, 0, 3*time.Second)) // a slow reader
		}
	}
}
