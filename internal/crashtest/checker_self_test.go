package crashtest_test

import (
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"coord"
)

// A story is a ledger with an observation that it explains, for one lie to be
// told about it.
type story struct {
	t testing.TB
	l *ledger
	o *observation

	seq                *entry // acknowledged
	maybe, maybeNot    *entry // sequential creates of unknown outcome, one of which is there
	denied             *entry // a sequential create that was refused
	deleted, del       *entry
	sum, casE          *entry
	first, second      *entry // acknowledged writes to one register
	lost               *entry // a write of unknown outcome
	read               *entry
	whole, part        *entry // a multi, and one with a false condition
	mine, theirs, none *entry // ephemerals of a held session, of a dead one, and one that was refused
	zxid               coord.ZXID
	cversion           int32 // of seqDir
	extra              int32 // that tickDir counts too many
}

// tell records an entry with its outcome at the next zxid.
func (s *story) tell(en *entry, out outcome, r reply) *entry {
	s.t.Helper()
	s.l.begin(en)
	if out == unknown {
		s.l.end(en, 0, reply{}, false, 0)
		s.zxid++
		return en
	}
	s.zxid++
	r.Outcome = out
	r.ZXID = s.zxid
	s.l.end(en, en.ID, r, true, 0)
	return en
}

func (s *story) stat(version int32) *coord.Stat {
	return &coord.Stat{Czxid: s.zxid + 1, Mzxid: s.zxid + 1, Pzxid: s.zxid + 1, Version: version, DataLength: 1}
}

func (s *story) put(path, data string, st coord.Stat) {
	s.o.nodes[path] = node{Path: path, Data: data, Stat: st}
}

// sequential tells of a sequential create.
func (s *story) sequential(out outcome) *entry {
	path := fmt.Sprintf("%s/n-%010d", seqDir, s.zxid)
	st := s.stat(0)
	en := &entry{Kind: seqCreate, Path: seqDir + "/n-"}
	s.tell(en, out, reply{Path: path, Stat: st})
	if out == acked {
		st.DataLength = int32(len(en.data()))
		s.put(path, en.data(), *st)
	}
	return en
}

func newStory(tb testing.TB) *story {
	tb.Helper()
	s := &story{t: tb, cversion: 4, l: newLedger(io.Discard), o: &observation{
		nodes: map[string]node{}, held: map[string]bool{"p1/s1": true}, dead: map[string]bool{"p2/s1": true}, sessions: 4, wantSess: 4,
		missing: map[string]time.Duration{}, suspend: suspendAfter,
	}}
	for _, dir := range []string{"/", seqDir, ctrDir, regDir, pairDir, ephDir, tickDir} {
		s.put(dir, "", coord.Stat{})
	}
	s.seq = s.sequential(acked)
	s.maybe, s.maybeNot = s.sequential(unknown), s.sequential(unknown)
	s.put(seqDir+"/n-0000000050", s.maybe.data(), coord.Stat{Czxid: 5, Mzxid: 5, Pzxid: 5, DataLength: int32(len(s.maybe.data()))})
	s.denied = s.tell(&entry{Kind: seqCreate, Path: seqDir + "/n-"}, refused, reply{Code: coord.ErrSessionExpired})
	s.deleted = s.sequential(acked)
	s.del = s.tell(&entry{Kind: delSeq, Path: s.deleted.Reply.Path, Target: s.deleted.ID}, acked, reply{})
	delete(s.o.nodes, s.deleted.Reply.Path)
	s.numbers()
	s.multis()
	s.ephemerals()
	s.recount()
	s.o.zxid = s.zxid
	s.o.views = map[coord.MemberID]reply{}
	for id := range coord.MemberID(3) {
		s.o.views[id+1] = reply{ZXID: s.zxid, Digest: "digest"}
	}
	return s
}

func (s *story) numbers() {
	s.sum = s.tell(&entry{Kind: add, Path: ctrDir + "/0", Delta: 3}, acked, reply{Value: 3, Stat: s.stat(1)})
	s.tell(&entry{Kind: add, Path: ctrDir + "/0", Delta: 2}, unknown, reply{})
	st := *s.stat(2)
	s.casE = s.tell(&entry{Kind: cas, Path: ctrDir + "/0", Delta: 1, Version: 1}, acked, reply{Stat: &st})
	s.put(ctrDir+"/0", "4", st)
	s.first = s.tell(&entry{Kind: regWrite, Path: regDir + "/0"}, acked, reply{Stat: s.stat(1)})
	now := *s.stat(2)
	s.second = s.tell(&entry{Kind: regWrite, Path: regDir + "/0"}, acked, reply{Stat: &now})
	seen := now
	s.read = s.tell(&entry{Kind: regRead, Path: regDir + "/0"}, acked, reply{Data: s.second.data(), Stat: &seen})
	s.lost = s.tell(&entry{Kind: regWrite, Path: regDir + "/0"}, unknown, reply{})
	s.put(regDir+"/0", s.second.data(), now)
}

func (s *story) multis() {
	st := *s.stat(0)
	s.whole = s.tell(&entry{Kind: pair, Path: pairDir, Delta: 1}, acked, reply{Results: []coord.OpResult{{Stat: st}}})
	a, b := pairPaths(s.whole)
	s.put(a, s.whole.data(), st)
	s.put(b, s.whole.data(), st)
	s.put(pairCtr, "1", coord.Stat{Version: 1})
	s.part = s.tell(&entry{Kind: badPair, Path: pairDir}, refused, reply{Code: coord.ErrBadVersion})
}

func (s *story) ephemerals() {
	s.l.openSession("p1/s1", 1, sessionTimeout)
	s.l.openSession("p2/s1", 2, sessionTimeout)
	for _, key := range []string{"p1/s1", "p2/s1"} {
		st := *s.stat(0)
		st.EphemeralOwner = s.l.sessions[key].id
		en := s.tell(&entry{Kind: ephemeral, Session: key, Path: fmt.Sprint(ephDir, "/", key[:2])}, acked, reply{Stat: &st})
		if key == "p1/s1" {
			s.mine = en
			s.put(en.Path, "", st)
		} else {
			s.theirs = en
		}
	}
	s.none = s.tell(&entry{Kind: ephemeral, Session: "p1/s1", Path: ephDir + "/none"}, refused, reply{Code: coord.ErrSessionExpired})
	s.l.sessions["p2/s1"].died = 1
}

// recount makes the parents count right.
func (s *story) recount() {
	for _, dir := range []string{"/", seqDir, ctrDir, regDir, pairDir, ephDir, tickDir} {
		n := s.o.nodes[dir]
		n.Stat.NumChildren = 0
		for path := range s.o.nodes {
			if path != "/" && path[:max(strings.LastIndexByte(path, '/'), 1)] == dir {
				n.Stat.NumChildren++
			}
		}
		if dir == seqDir {
			n.Stat.Cversion = s.cversion
		}
		if dir == tickDir {
			n.Stat.NumChildren += s.extra
		}
		s.o.nodes[dir] = n
	}
}

// alter changes a znode.
func (s *story) alter(path string, change func(*node)) {
	s.t.Helper()
	n, ok := s.o.nodes[path]
	if !ok {
		s.t.Fatalf("the story has no %s", path)
	}
	change(&n)
	s.o.nodes[path] = n
}

// TestChecker tells the checker lies, each of which it must name.
func TestChecker(t *testing.T) {
	s := newStory(t)
	if err := s.l.check(s.o, newHistory(s.l.now)); err != nil {
		t.Fatalf("check(the truth) = %v", err)
	}
	if s.maybe.Outcome != acked || s.maybeNot.Outcome != refused {
		t.Errorf("unknown outcomes were settled as %q and %q, want acked and refused", s.maybe.Outcome, s.maybeNot.Outcome)
	}
	if err := s.l.check(s.o, newHistory(s.l.now)); err != nil {
		t.Fatalf("check(the truth again) = %v", err)
	}
	for want, lie := range lies() {
		t.Run(want, func(t *testing.T) {
			s := newStory(t)
			lie(s)
			s.recount()
			err := s.l.check(s.o, newHistory(s.l.now))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("check = %v, want %q", err, want)
			}
		})
	}
}

// TestCheckerBelievesFarewell has a session be seen closed before its process has
// answered the request to close: its ephemerals may vanish at once.
func TestCheckerBelievesFarewell(t *testing.T) {
	s := newStory(t)
	theirs := s.l.sessions["p2/s1"]
	theirs.died, theirs.lastConnected = 0, 4*time.Second
	s.o.missing[s.theirs.Path] = 5 * time.Second
	s.l.connected("p2/s1", coord.Closed, 5*time.Second)
	s.l.dead("p2/", true)
	if err := s.l.check(s.o, newHistory(s.l.now)); err != nil {
		t.Errorf("check = %v", err)
	}
}

// lies returns what can be wrong, by a part of what the checker must say.
func lies() map[string]func(*story) {
	m := map[string]func(*story){
		"lost znode":        func(s *story) { delete(s.o.nodes, s.seq.Reply.Path) },
		"doubled znode":     func(s *story) { s.put(seqDir+"/n-0000000099", s.seq.data(), coord.Stat{Czxid: 9}) },
		"resurrected znode": func(s *story) { s.put(s.deleted.Reply.Path, s.deleted.data(), *s.deleted.Reply.Stat) },
		"was refused and has made " + seqDir: func(s *story) {
			s.put(seqDir+"/n-0000000060", s.denied.data(), coord.Stat{Czxid: 6})
		},
		"was made by nobody": func(s *story) { s.put(seqDir+"/n-0000000070", "70", coord.Stat{Czxid: 7}) },
		"was acknowledged as " + seqDir: func(s *story) {
			s.alter(s.seq.Reply.Path, func(n *node) { n.Stat.Mtime++ })
		},
		"was never modified": func(s *story) { s.alter(seqDir+"/n-0000000050", func(n *node) { n.Stat.Version = 1 }) },
		"was created at": func(s *story) {
			s.alter(seqDir+"/n-0000000050", func(n *node) { n.Stat.Czxid, n.Stat.Mzxid, n.Stat.Pzxid = 0, 0, 0 })
		},
		"has cversion":           func(s *story) { s.cversion = 9 },
		"want 4 to 6":            func(s *story) { s.alter(ctrDir+"/0", func(n *node) { n.Data = "3" }) },
		"is 7, want":             func(s *story) { s.alter(ctrDir+"/0", func(n *node) { n.Data = "7" }) },
		"were both told":         func(s *story) { s.casE.Reply.Stat.Version = 1 },
		"conditional on version": func(s *story) { s.casE.Version = 0 },
		"was modified 5 times":   func(s *story) { s.alter(ctrDir+"/0", func(n *node) { n.Stat.Version = 5 }) },
		"at version 2":           func(s *story) { s.alter(regDir+"/0", func(n *node) { n.Data = s.first.data() }) },
		"which nobody wrote":     func(s *story) { s.alter(regDir+"/0", func(n *node) { n.Data = "900" }) },
		"which was refused": func(s *story) {
			s.alter(regDir+"/0", func(n *node) { n.Data = s.lost.data() })
			s.lost.Outcome = refused
		},
		"stale read":              func(s *story) { s.read.Reply.Stat = s.first.Reply.Stat; s.read.Reply.Data = s.first.data() },
		"which nobody had":        func(s *story) { s.read.Reply.Data = "900" },
		"half a multi":            func(s *story) { _, b := pairPaths(s.whole); delete(s.o.nodes, b) },
		"lost multi":              func(s *story) { s.halves(s.whole, false) },
		"and has made " + pairDir: func(s *story) { s.halves(s.part, true) },
		"pairs":                   func(s *story) { s.alter(pairCtr, func(n *node) { n.Data = "2" }) },
		"false condition":         func(s *story) { s.part.Outcome = acked },
		"lost ephemeral":          func(s *story) { delete(s.o.nodes, s.mine.Path) },
		"session p2/s1 died":      func(s *story) { s.put(s.theirs.Path, "", *s.theirs.Reply.Stat) },
		"resurrected ephemeral":   func(s *story) { s.put(s.theirs.Path, "", *s.theirs.Reply.Stat); s.l.sessions["p2/s1"].gone = true },
		"was refused and has made " + ephDir: func(s *story) {
			s.put(s.none.Path, "", coord.Stat{EphemeralOwner: 1})
		},
		"belongs to session": func(s *story) { s.alter(s.mine.Path, func(n *node) { n.Stat.EphemeralOwner = 7 }) },
		"with a timeout of": func(s *story) {
			s.l.sessions["p2/s1"].lastConnected = 4 * time.Second
			s.o.missing[s.theirs.Path] = 5 * time.Second
		},
		"the ensemble has 5 sessions": func(s *story) { s.o.sessions = 5 },
		"stray znode":                 func(s *story) { s.put("/x", "", coord.Stat{}) },
		"was neither answered":        func(s *story) { s.l.begin(&entry{Kind: regRead}) },
		"was refused: ":               func(s *story) { s.none.Reply.Code = coord.ErrNodeExists },
		"was refused: no space":       func(s *story) { s.none.Reply.Code, s.none.Reply.Error = coord.ErrNoSpace, "no space" },
	}
	maps.Copy(m, liesOfZXID())
	return m
}

// liesOfZXID returns those about views and the order of things.
func liesOfZXID() map[string]func(*story) {
	return map[string]func(*story){
		"has digest": func(s *story) { s.o.views[2] = reply{ZXID: s.zxid, Digest: "other"} },
		"another one": func(s *story) {
			s.l.saw("member 1", &reply{ZXID: s.zxid, Digest: "before the crash"})
		},
		"where digest was seen": func(s *story) {
			s.l.saw("member 1", &reply{ZXID: 3, Digest: "digest"})
			s.l.saw("member 2", &reply{ZXID: 3, Digest: "other"})
		},
		"the dump at":           func(s *story) { s.o.views[2] = reply{ZXID: s.zxid - 1, Digest: "older"} },
		"all members are at":    func(s *story) { s.o.zxid = 2 },
		"the tree 0x":           func(s *story) { s.alter(regDir, func(n *node) { n.Stat.Pzxid = s.zxid + 1 }) },
		"were both given":       func(s *story) { s.first.Reply.Stat.Mzxid = s.sum.Reply.Stat.Mzxid },
		"and not less than":     func(s *story) { s.first.Reply.Stat.Mzxid = 1000 },
		"went back in time":     func(s *story) { s.l.end(s.l.begin(&entry{Kind: regRead}), 0, reply{Outcome: acked, ZXID: 5}, true, 6) },
		"before it was sent":    func(s *story) { s.l.end(s.l.begin(&entry{Kind: regRead}), 0, reply{Outcome: acked, ZXID: 2}, true, 0) },
		"but Outcome says":      func(s *story) { s.outcomeSays(refused) },
		"0 children and says 3": func(s *story) { s.extra = 3 },
	}
}

// halves makes or removes both halves of a multi, and counts.
func (s *story) halves(en *entry, there bool) {
	a, b := pairPaths(en)
	for _, path := range []string{a, b} {
		if there {
			s.put(path, en.data(), coord.Stat{})
		} else {
			delete(s.o.nodes, path)
		}
	}
	n := map[bool]string{true: "2", false: "0"}[there]
	s.alter(pairCtr, func(z *node) { z.Data = n })
}

// outcomeSays has a process follow up an unknown outcome that was settled.
func (s *story) outcomeSays(out outcome) {
	s.l.open[[2]uint64{9, 9}] = s.maybe
	if err := s.l.check(s.o, newHistory(s.l.now)); err != nil {
		s.t.Fatal(err)
	}
	s.l.late(9, &reply{Seq: 9, Outcome: out})
}
