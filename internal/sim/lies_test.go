package sim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/internal/bubble"
)

// A tale is a short run that was made up: all of it is true until somebody lies.
type tale struct {
	h        *history
	calls    []*call
	sessions []*session
	streams  []*stream
	sights   []*sight
	spies    []*spy
	rested   time.Duration
	held     map[coord.SessionID]bool
	last     coord.ZXID
	tick     uint64
	stats    map[string]coord.Stat
}

func newTale() *tale {
	t := &tale{h: newHistory(), held: map[coord.SessionID]bool{}, stats: map[string]coord.Stat{}}
	for _, dir := range []string{regDir, pairDir, seqDir, ctrDir, ephDir} {
		t.write(change{coord.NodeCreated, dir, ""})
	}
	for i := range nRegisters {
		t.write(change{coord.NodeCreated, register(i), "0"})
	}
	for i := range nPairs {
		a, b := pairOf(i)
		t.write(change{coord.NodeCreated, a, "0"})
		t.write(change{coord.NodeCreated, b, "0"})
	}
	for i := range nCounters {
		t.write(change{coord.NodeCreated, counter(i), "0"})
	}
	return t
}

// A change is what one event of a made up write does.
type change struct {
	typ  coord.EventType
	path string
	data string
}

// write makes up the next write.
func (t *tale) write(changes ...change) *write {
	t.last++
	w := &write{zxid: t.last, seen: time.Duration(t.last) * time.Second}
	for _, c := range changes {
		st := t.stats[c.path]
		switch c.typ {
		case coord.NodeCreated:
			st = coord.Stat{Czxid: t.last, Mzxid: t.last, Mtime: w.seen.Milliseconds()}
			if parent(c.path) == ephDir {
				st.EphemeralOwner = 7
			}
		case coord.NodeDataChanged:
			st.Mzxid, st.Mtime = t.last, w.seen.Milliseconds()
			st.Version++
		case coord.NodeDeleted, coord.NodeChildrenChanged, coord.Progress:
		}
		t.stats[c.path] = st
		w.events = append(w.events, event{c.typ, c.path, c.data, st})
	}
	t.h.add(w)
	return w
}

// say makes up a call that took effect as the last write, or read it.
func (t *tale) say(c call) *call {
	c.id = len(t.calls) + 1
	c.begin, c.end, c.outcome = t.tick+1, t.tick+2, acked
	t.tick += 2
	if c.zxid == 0 {
		c.zxid = t.last
	}
	c.stat = t.stats[c.path]
	t.calls = append(t.calls, &c)
	return &c
}

// next is the data of the call that is said next.
func (t *tale) next() string { return fmt.Sprint(len(t.calls) + 1) }

func (t *tale) set(path string) *call {
	t.write(change{coord.NodeDataChanged, path, t.next()})
	return t.say(call{kind: setRegister, path: path, version: coord.AnyVersion})
}

func (t *tale) get(path string, at coord.ZXID) *call {
	c := t.say(call{kind: getRegister, path: path, zxid: at})
	for _, e := range t.h.writes[at].events {
		if e.path == path {
			c.value, c.stat = e.data, e.stat
		}
	}
	return c
}

func (t *tale) multi() *call {
	a, b := pairOf(0)
	n := t.next()
	t.write(change{coord.NodeDataChanged, a, n}, change{coord.NodeDataChanged, b, "-" + n})
	return t.say(call{kind: movePair, path: a})
}

func (t *tale) create(dir string, k kind) *call {
	path := fmt.Sprintf("%s/n-%010d", dir, t.last)
	t.write(change{coord.NodeCreated, path, t.next()})
	return t.say(call{kind: k, path: path})
}

func (t *tale) add() *call {
	n := fmt.Sprint(t.stats[counter(0)].Version + 1)
	t.write(change{coord.NodeDataChanged, counter(0), n})
	return t.say(call{kind: addCounter, path: counter(0), value: n})
}

// check runs the checkers and returns what they say.
func (t *tale) check() []string {
	var said []string
	t.h.cover(0, t.last)
	c := &checker{
		calls: t.calls, past: t.h.past(t.last), sessions: t.sessions, streams: t.streams, held: t.held,
		start: time.UnixMilli(0), rested: t.rested, sights: t.sights, spies: t.spies,
		violate: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
	}
	c.run()
	return said
}

// plainTale is a tale in which all of it happens once.
func plainTale() *tale {
	t := newTale()
	t.set(register(0))
	t.multi()
	t.create(seqDir, createSeq)
	t.add()
	t.add()
	eph := t.create(ephDir, createEphemeral)
	s := &session{id: 7, timeout: time.Second}
	h := &handle{sess: s, p: &process{}}
	h.ended.Store(int64(time.Duration(t.last) * time.Second))
	s.handles, t.sessions = []*handle{h}, []*session{s}
	second := t.set(register(0))
	t.write(change{coord.NodeDeleted, eph.path, eph.data()})
	t.say(call{kind: syncAll, path: "/", level: linearizable, zxid: 1})
	t.get(register(0), second.zxid).level = linearizable
	t.streams = []*stream{{
		path: regDir, mode: coord.Subtree, end: t.last, events: t.told(func(e event) bool { return e.path == regDir || strings.HasPrefix(e.path, regDir+"/") }),
	}}
	return t
}

// told returns the events that a watcher of all that is chosen is told.
func (t *tale) told(chosen func(event) bool) []told {
	var all []told
	for z := coord.ZXID(1); z <= t.last; z++ {
		for _, e := range t.h.writes[z].events {
			if chosen(e) {
				all = append(all, told{z, e})
			}
		}
	}
	return all
}

// find returns the n-th call of a kind.
func (t *tale) find(k kind, n int) *call {
	for _, c := range t.calls {
		if c.kind == k {
			if n == 0 {
				return c
			}
			n--
		}
	}
	panic("no such call")
}

// TestTruthPasses has the checkers look at what is true.
func TestTruthPasses(t *testing.T) {
	if said := plainTale().check(); len(said) > 0 {
		t.Errorf("the truth is refused: %s", strings.Join(said, "\n"))
	}
}

// TestLiesAreFound has them look at one lie at a time.
func TestLiesAreFound(t *testing.T) {
	for _, lie := range []struct {
		name, want string
		tell       func(*tale)
	}{
		{"an acknowledged write is lost", "G1", func(t *tale) { t.h.writes[t.find(setRegister, 0).zxid].events = nil }},
		{"it has another stat", "G1", func(t *tale) { t.find(setRegister, 0).stat.Version = 9 }},
		{"a sequential znode is lost", "G1", func(t *tale) { t.h.writes[t.find(createSeq, 0).zxid].events = nil }},
		{"a deleted znode is there", "G1", func(t *tale) {
			t.say(call{kind: deleteSeq, path: t.find(createSeq, 0).path})
		}},
		{"nobody has deleted it", "G3", func(t *tale) {
			c := t.find(createSeq, 0)
			t.write(change{coord.NodeDeleted, c.path, c.data()})
		}},
		{"a sum is another", "G1", func(t *tale) { t.find(addCounter, 1).value = "1" }},
		{"a write happens twice", "G2", func(t *tale) {
			t.write(change{coord.NodeDataChanged, register(0), t.find(setRegister, 0).data()})
		}},
		{"a sequential znode is made twice", "G2", func(t *tale) {
			t.write(change{coord.NodeCreated, seqDir + "/n-0000009999", t.find(createSeq, 0).data()})
		}},
		{"a step is counted twice", "G2", func(t *tale) { t.write(change{coord.NodeDataChanged, counter(0), "3"}) }},
		{"a step is lost", "G2", func(t *tale) { t.find(addCounter, 0).path = counter(1) }},
		{"somebody else writes", "G2", func(t *tale) { t.write(change{coord.NodeDataChanged, register(1), "4711"}) }},
		{"what was refused has happened", "G3", func(t *tale) { t.find(setRegister, 0).outcome = refused }},
		{"what was refused late has happened", "G3", func(t *tale) {
			c := t.find(movePair, 0)
			c.outcome, c.late = refused, true
		}},
		{"a later write comes earlier", "G4", func(t *tale) {
			a, b := t.find(setRegister, 0), t.find(setRegister, 1)
			a.begin, a.end, b.begin, b.end = b.begin, b.end, a.begin, a.end
		}},
		{"a read shows the future", "G4", func(t *tale) {
			a := t.find(getRegister, 0)
			a.begin, a.end, a.level = 1, 1, plain
			t.find(setRegister, 0).begin = 2
		}},
		{"a read shows what nobody wrote", "G4", func(t *tale) { t.find(getRegister, 0).value = "x" }},
		{"a process goes back", "G5", func(t *tale) { t.get(register(0), t.find(setRegister, 0).zxid) }},
		{"it is less than it was to be", "G5", func(t *tale) {
			c := t.get(register(0), t.find(setRegister, 0).zxid)
			c.process, c.member, c.floor = 2, 2, t.last
		}},
		{"a linearizable read is old", "G6", func(t *tale) {
			c := t.get(register(0), t.find(setRegister, 0).zxid)
			c.process, c.member, c.level = 2, 2, linearizable
		}},
		{"a read behind a Sync is old", "G5", func(t *tale) {
			t.say(call{kind: syncAll, path: "/", process: 2, member: 2, level: linearizable, zxid: 1})
			c := t.get(register(0), t.find(setRegister, 0).zxid)
			c.process, c.member = 2, 2
		}},
		{"half a multi", "G7", func(t *tale) {
			w := t.h.writes[t.find(movePair, 0).zxid]
			w.events = w.events[:1]
		}},
		{"a multi with a false condition", "G7", func(t *tale) { t.find(movePair, 0).kind = badMulti }},
		{"ephemerals vanish one by one", "G9", func(t *tale) {
			t.write(change{coord.NodeCreated, ephDir + "/x", "x"})
			t.write(change{coord.NodeDeleted, ephDir + "/x", "x"})
		}},
		{"an ephemeral comes behind the end", "G9", func(t *tale) { t.write(change{coord.NodeCreated, ephDir + "/x", "x"}) }},
		{"those of a live session vanish", "G9", func(t *tale) { t.held[7] = true }},
		{"an ephemeral of nobody", "G9", func(t *tale) { t.sessions = nil; t.write(change{coord.NodeCreated, ephDir + "/x", "x"}) }},
		{"a handle ends late", "G10", func(t *tale) { t.sessions[0].handles[0].ended.Add(int64(time.Hour)) }},
		{"a session ends early", "G11", func(t *tale) {
			s := t.sessions[0]
			s.timeout = time.Hour
			s.handles[0].crashed = time.Second
		}},
		{"a handle never ends", "G10", func(t *tale) { t.sessions[0].handles[0].ended.Store(0) }},
		{"an event is missing", "G12", func(t *tale) { s := t.streams[0]; s.events = slices.Delete(s.events, 5, 6) }},
		{"the last event is missing", "G12", func(t *tale) { s := t.streams[0]; s.events = s.events[:len(s.events)-1] }},
		{"an event comes twice", "G12", func(t *tale) { s := t.streams[0]; s.events = slices.Insert(s.events, 3, s.events[3]) }},
		{"events come in another order", "G12", func(t *tale) { e := t.streams[0].events; e[2], e[3] = e[3], e[2] }},
		{"an event has other data", "G12", func(t *tale) { t.streams[0].events[2].data = "x" }},
		{"an event has not happened", "G12", func(t *tale) {
			s := t.streams[0]
			s.events = append(s.events, told{t.last, event{coord.NodeDeleted, regDir, "", coord.Stat{}}})
		}},
		{"a mark of progress is too early", "G12", func(t *tale) {
			s := t.streams[0]
			s.events = slices.Insert(s.events, 2, told{zxid: t.last, event: event{typ: coord.Progress}})
		}},
		{"the state told first is another", "G12", func(t *tale) {
			t.streams = append(t.streams, &stream{path: regDir, mode: coord.Children, start: t.last, end: t.last, initial: map[string]string{register(0): "x"}})
		}},
		{"an old handle writes", "G16", func(t *tale) {
			s := t.sessions[0]
			s.handles = append(s.handles, &handle{sess: s, number: 1, since: t.last, p: s.handles[0].p})
			s.handles[1].ended.Store(1)
			t.set(register(3)).sess = s
		}},
		{"a member goes back when it is restarted", "G5", func(t *tale) {
			t.get(register(0), t.find(setRegister, 0).zxid).process = 2
		}},
		{"a resumed session goes back", "G19", func(t *tale) {
			c := t.find(getRegister, 0)
			c.sess = t.sessions[0]
			c = t.get(register(0), t.find(setRegister, 0).zxid)
			c.process, c.member, c.sess, c.handle = 2, 2, t.sessions[0], 1
		}},
	} {
		findLie(t, lie.name, lie.want, plainTale(), lie.tell)
	}
}

// findLie has the checkers look at a tale in which there is one lie.
func findLie(t *testing.T, name, want string, tale *tale, tell func(*tale)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		tell(tale)
		said := tale.check()
		if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s[:min(len(s), 10)], want) }) {
			t.Errorf("want %s, the checkers say %q", want, said)
		}
	})
}

// TestLiesOnTheWay tells those lies that are found while a run goes on.
func TestLiesOnTheWay(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		w := newWorld(t, options{seed: 1})
		want := func(guarantee string) {
			t.Helper()
			errs := w.ledger.found()
			if len(errs) == 0 || !strings.Contains(errs[len(errs)-1].Error(), guarantee) {
				t.Errorf("want %s, found %v", guarantee, errs)
			}
			w.ledger.violations = nil
		}
		w.seeDigest(1, coord.Digest{1})
		w.seeDigest(1, coord.Digest{1})
		if errs := w.ledger.found(); len(errs) > 0 {
			t.Errorf("equal digests: %v", errs)
		}
		w.seeDigest(1, coord.Digest{2})
		want("G14")

		p := &process{seat: 1, member: 1}
		q := &call{kind: getRegister, path: register(0)}
		w.mu.Lock()
		w.reachLocked() // nobody runs
		w.mu.Unlock()
		time.Sleep(2 * w.election)
		w.checkReach(q, p, w.now())
		if errs := w.ledger.found(); len(errs) > 0 {
			t.Errorf("a read that may just be served: %v", errs)
		}
		time.Sleep(time.Nanosecond)
		w.checkReach(q, p, w.now())
		want("G15")
	})
}
