package crashtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
)

// A testimony is what holders, producers and recorders were told, and the tree: all
// of it true, for one lie to be told about it.
type testimony struct {
	t       testing.TB
	clock   time.Duration
	grants  *grants
	items   *items
	history *history
	o       *observation

	first, second *grant
	put, open     uint64 // items: acknowledged, and of unknown outcome
}

func newTestimony(tb testing.TB) *testimony {
	tb.Helper()
	s := &testimony{t: tb, o: &observation{zxid: 6, nodes: map[string]node{}}}
	now := func() time.Duration { s.clock++; return s.clock }
	s.grants, s.items, s.history = &grants{now: now}, &items{all: map[uint64]*item{}}, newHistory(now)

	s.first, s.second = &grant{place: 1, process: 1, fence: 3}, &grant{place: 1, process: 2, fence: 5}
	s.grants.enter(s.first, 0)
	s.grants.held(s.first, s.clock, "by Check")
	s.grants.wrote(s.first, 1)
	s.grants.enter(s.second, 3)
	s.grants.wrote(s.second, 2)
	s.node(guardPath(1), "b", 2)

	s.put, s.open = s.items.begin(), s.items.begin()
	s.items.end(s.put, acked)
	s.items.end(s.items.begin(), refused)
	s.node(doneDir+"/d-1", fmt.Sprint(s.put), 0)

	for id := range coord.MemberID(2) {
		s.say(id+1, eventRecording, 0)
		s.say(id+1, eventTold, 2, told{coord.NodeCreated, guardPath(1), "", 0})
		s.say(id+1, eventTold, 3, told{coord.NodeDataChanged, guardPath(1), "a", 1}, told{coord.NodeCreated, "/x", "", 0})
		if id == 1 { // it falls behind, and goes on with another watch
			s.say(id+1, eventRecording, 4)
		} else {
			s.say(id+1, eventTold, 4, told{coord.NodeDeleted, "/x", "", 0})
		}
		s.say(id+1, eventTold, 5, told{coord.NodeCreated, doneDir + "/d-1", "1", 0}, told{coord.NodeDataChanged, guardPath(1), "b", 2})
		s.say(id+1, eventTold, 6)
	}
	return s
}

func (s *testimony) node(path, data string, version int32) {
	s.o.nodes[path] = node{Path: path, Data: data, Stat: coord.Stat{Version: version}}
}

// say has the recorder of a member say something.
func (s *testimony) say(id coord.MemberID, event string, z coord.ZXID, events ...told) {
	s.t.Helper()
	s.history.hear(id, &reply{Event: event, Position: positionAt(z), Told: events})
}

// positionAt returns the text of a Position behind a write.
func positionAt(z coord.ZXID) string {
	if z == 0 {
		return coord.Position{}.String()
	}
	return fmt.Sprintf("p1-000000000000002a-1:%v", z)
}

func (s *testimony) check() error {
	return errors.Join(s.grants.check(s.o), s.items.check(s.o), s.history.check(s.o))
}

// TestWitnesses tells lies about what holders, takers and recorders were told, each
// of which must be named.
func TestWitnesses(t *testing.T) {
	s := newTestimony(t)
	for range 2 { // the second time, all of it is settled
		if err := s.check(); err != nil {
			t.Fatalf("check(the truth) = %v", err)
		}
	}
	s.node(doneDir+"/d-2", fmt.Sprint(s.open), 0)
	if err := s.items.check(s.o); err == nil || !strings.Contains(err.Error(), "item 2 was acknowledged, but its put was refused") {
		t.Errorf("an item that turns up when it cannot any more: %v", err)
	}
	for want, lie := range map[string]func(*testimony){
		"exclusivity: process 1 held lock 1": func(s *testimony) { s.grants.held(s.first, s.clock+1, "by Check") },
		"fence: process 3 was granted":       func(s *testimony) { s.grants.enter(&grant{place: 1, process: 3, fence: 4}, 5) },
		"fence: processes 1 and 3":           func(s *testimony) { s.grants.enter(&grant{place: 1, process: 3, fence: 3}, 0) },
		"guard: lock 1: version 2 was written with fence 0x5, version 3 with 0x3": func(s *testimony) {
			s.grants.wrote(s.first, 3)
			s.node(guardPath(1), "b", 3)
		},
		"version 2 was written with fence 0x5, version 2 with 0x5": func(s *testimony) { s.grants.wrote(s.second, 2) },
		"version 2 was acknowledged, but 1 is there":               func(s *testimony) { s.node(guardPath(1), "a", 1) },
		"item 1 is lost":                                   func(s *testimony) { delete(s.o.nodes, doneDir+"/d-1") },
		"item 1 was acknowledged 2 times":                  func(s *testimony) { s.node(doneDir+"/d-2", "1", 0) },
		"item 3 was acknowledged, but its put was refused": func(s *testimony) { s.node(doneDir+"/d-2", "3", 0) },
		"which nobody put":                                 func(s *testimony) { s.node(doneDir+"/d-2", "4", 0) },
		"item 1 was acknowledged in an earlier round": func(s *testimony) {
			s.items.all[s.put].put, s.items.all[s.put].done = unknown, true
			delete(s.o.nodes, doneDir+"/d-1")
		},
		"of member 2 was told of 1 writes of group 1 between 0x4 and 0x8, want 2: 0x7 (-1)": func(s *testimony) {
			s.say(1, eventTold, 7, told{coord.NodeCreated, "/y", "", 0})
			s.say(2, eventTold, 8)
		},
		"was told [{NodeCreated /y": func(s *testimony) { s.say(1, eventTold, 6, told{coord.NodeCreated, "/y", "", 0}) },
		"another one": func(s *testimony) { // two members differ
			s.say(1, eventTold, 7, told{coord.NodeCreated, "/y", "", 0})
			s.say(2, eventTold, 7, told{coord.NodeCreated, "/z", "", 0})
		},
		"NodeCreated of /guard/1 was told at 0x7; it was there: true": func(s *testimony) { s.both(told{coord.NodeCreated, guardPath(1), "", 0}) },
		"NodeDeleted of /none was told at 0x7; it was there: false":   func(s *testimony) { s.both(told{coord.NodeDeleted, "/none", "", 0}) },
		"went from version 2 to 2":                                    func(s *testimony) { s.both(told{coord.NodeDataChanged, guardPath(1), "c", 2}) },
		`/guard/1 is "z", version 2; by what was told it is "b"`:      func(s *testimony) { s.node(guardPath(1), "z", 2) },
		"/quiet is":            func(s *testimony) { s.node("/quiet", "", 0) },
		"nobody was told that": func(s *testimony) { delete(s.o.nodes, guardPath(1)) },
	} {
		t.Run(want, func(t *testing.T) {
			s := newTestimony(t)
			lie(s)
			if err := s.check(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("check = %v, want %q", err, want)
			}
		})
	}
}

// both has both recorders tell of one more write.
func (s *testimony) both(ev told) {
	s.t.Helper()
	s.o.zxid = 7
	s.say(1, eventTold, 7, ev)
	s.say(2, eventTold, 7, ev)
}

// TestPorcupineJudges tells porcupine what no register does.
func TestPorcupineJudges(t *testing.T) {
	const want = "porcupine finds no order"
	for name, lie := range map[string]func(*story){
		"a stale read": func(s *story) {
			stale := s.tell(&entry{Kind: regRead, Path: s.first.Path}, acked, reply{Data: s.first.data(), Stat: s.first.Reply.Stat})
			stale.Begin = s.second.End + 1
			stale.End = stale.Begin + 1
		},
		"a version that was skipped": func(s *story) { s.second.Reply.Stat.Version = 3 },
		"a value of nobody":          func(s *story) { s.read.Reply.Data = "?" },
		"a write seen before it was asked for": func(s *story) {
			s.read.Begin, s.read.End = s.second.Begin-2, s.second.Begin-1
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			lie(s)
			if err := s.l.check(s.o, newHistory(s.l.now)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("check = %v, want %q", err, want)
			}
		})
	}
	// What was not answered may have happened, and has if a recorder was told.
	s := newStory(t)
	h := newHistory(s.l.now)
	h.hear(1, &reply{Event: eventRecording, Position: positionAt(0)})
	h.hear(1, &reply{Event: eventTold, Position: positionAt(90), Told: []told{{coord.NodeDataChanged, s.lost.Path, s.lost.data(), 3}}})
	s.tell(&entry{Kind: regRead, Path: s.lost.Path}, acked, reply{Data: s.lost.data(), Stat: s.stat(3)})
	s.alter(s.lost.Path, func(n *node) { n.Data, n.Stat.Version = s.lost.data(), 3 })
	s.o.zxid += 2
	for id, v := range s.o.views {
		v.ZXID = s.o.zxid
		s.o.views[id] = v
	}
	if err := s.l.check(s.o, h); err != nil {
		t.Errorf("check(a write whose answer was lost, and a read of it) = %v", err)
	}
}
