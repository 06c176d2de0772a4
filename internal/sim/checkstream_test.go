package sim_test

import (
	"slices"
	"strings"

	"coord"
)

// checkStream compares what a watcher was told with what has happened.
func (p *past) checkStream(s *stream, violate func(string, ...any)) {
	if s.initial != nil {
		p.checkInitial(s, violate)
	}
	i := 0
	at, _ := slices.BinarySearchFunc(p.writes, s.start+1, func(w *write, z coord.ZXID) int { return int(int64(w.zxid) - int64(z)) })
	for _, w := range p.writes[at:] {
		if w.zxid > s.end {
			break
		}
		for _, e := range w.events {
			want, ok := s.concerns(e)
			if !ok {
				continue
			}
			for i < len(s.events) && s.events[i].typ == coord.Progress {
				if s.events[i].zxid >= w.zxid {
					violate("G12: a %v watch of %s on members %v was told that it knows all up to %v, but not of %v %s at %v",
						s.mode, s.path, s.members, s.events[i].zxid, want.typ, want.path, w.zxid)
				}
				i++
			}
			if i == len(s.events) && s.partial && w.zxid == s.end {
				return
			}
			if i == len(s.events) || s.events[i].zxid != w.zxid || s.events[i].event != want {
				var got any = "nothing"
				if i < len(s.events) {
					got = s.events[i]
				}
				violate("G12: a %v watch of %s on members %v (%v to %v) was told %+v, want %+v at %v",
					s.mode, s.path, s.members, s.start, s.end, got, want, w.zxid)
				return
			}
			i++
		}
	}
	for ; i < len(s.events); i++ {
		if s.events[i].typ != coord.Progress {
			violate("G12: a %v watch of %s on members %v was told %+v, which has not happened", s.mode, s.path, s.members, s.events[i])
			return
		}
	}
}

// concerns returns how a watch is told of an event, and whether it is.
func (s *stream) concerns(e event) (event, bool) {
	switch s.mode {
	case coord.Node:
		return e, e.path == s.path
	case coord.Children:
		if e.typ == coord.NodeDataChanged || parent(e.path) != s.path {
			return e, false
		}
		return event{typ: coord.NodeChildrenChanged, path: s.path}, true
	case coord.Subtree:
	}
	return e, e.path == s.path || strings.HasPrefix(e.path, s.path+"/")
}

// checkInitial compares the state that a watch was told first with that of its start.
func (p *past) checkInitial(s *stream, violate func(string, ...any)) {
	n := 0
	for _, path := range p.paths {
		v, _ := p.at(path, s.start)
		in := path == s.path && s.mode != coord.Children || s.mode == coord.Children && parent(path) == s.path ||
			s.mode == coord.Subtree && strings.HasPrefix(path, s.path+"/")
		if v.deleted || !in {
			continue
		}
		n++
		if data, ok := s.initial[path]; !ok || data != v.data {
			violate("G12: a %v watch of %s on member %v was told first, as of %v, %s: %q, %v, want %q", s.mode, s.path, s.members, s.start, path, data, ok, v.data)
		}
	}
	if n != len(s.initial) {
		violate("G12: a %v watch of %s on member %v was told %d znodes first, want %d as of %v", s.mode, s.path, s.members, len(s.initial), n, s.start)
	}
}
