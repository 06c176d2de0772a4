package coord

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"coord/internal/invariants"
)

var seedFlag = flag.Uint64("coord.seed", 0, "seed of the tests that draw random operations; 0 draws one, which they print")

// testSeed returns the seed of this run and prints it.
func testSeed(tb testing.TB) uint64 {
	tb.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	tb.Logf("repeat with -coord.seed=%d", seed)
	return seed
}

// TestModel draws random commands and compares what the core answers, tells and
// keeps with the model. At random points the state goes through a snapshot, the log
// is replayed from its beginning, and frozen copies are looked at again.
func TestModel(t *testing.T) {
	operations := 120_000
	if invariants.Enabled { // the race detector makes all this ten times slower
		operations = 12_000
	}
	g := newGenerator(t, testSeed(t))
	for g.count < operations {
		g.step()
	}
	g.compare()
	g.replay()
	g.checkFrozen()
	t.Logf("%d operations in %d commands; %d znodes and %d sessions at the end; codes %v", g.count, len(g.log), len(g.m.nodes), len(g.m.sessions), g.codes)
	for _, c := range []Code{
		codeOK, ErrUnimplemented, ErrBadArguments, ErrNoNode, ErrNoAuth, ErrBadVersion, ErrNoChildrenForEphemerals, ErrNodeExists,
		ErrNotEmpty, ErrSessionExpired, ErrInvalidACL, ErrSessionMoved, ErrAuthFailed, ErrTooLarge, ErrNotANumber, ErrNoSpace, ErrNoUser,
		ErrQuotaExceeded, ErrLimitExceeded,
	} {
		if g.codes[c] == 0 && c != ErrUnimplemented { // TTL znodes are switched off only now and then
			t.Errorf("code %v was never answered: the generator does not reach it", c)
		}
	}
}

// A generator draws commands and applies them to the core and to the model.
type generator struct {
	t     testing.TB
	r     *rand.Rand
	s     *state
	m     *model
	log   [][]byte
	count int
	codes map[Code]int

	clock  int64
	known  []string // paths that were created, in order; some are gone
	frozen []frozenCopy
}

type frozenCopy struct {
	s      *state
	digest Digest
}

func newGenerator(tb testing.TB, seed uint64) *generator {
	tb.Helper()
	g := &generator{t: tb, r: rand.New(rand.NewPCG(seed, 1)), s: newState(rootGroup), codes: map[Code]int{}, clock: 1_000_000}
	init := &initCommand{
		version: oldestFormat, ensemble: "model", timeMS: g.clock,
		settings: settings{
			maxDataBytes: 64, minSessionTimeoutMS: 1000, maxSessionTimeoutMS: 60_000, ttlNodes: true, defaultACL: OpenACL(),
			enforceQuotas: true, maxEphemerals: 3,
		},
		members: []memberRecord{{id: 1}, {id: 2}, {id: 3, role: Observer}},
	}
	g.apply(&command{kind: commandInit, group: rootGroup, member: 1, init: init})
	g.m = newModel(g.clock, 64, map[MemberID]*modelMember{1: {}, 2: {}, 3: {observer: true}})
	for id := range MemberID(3) {
		g.hello(id+1, 0)
	}
	return g
}

// one reports true once in n times.
func (g *generator) one(n int) bool { return g.r.IntN(n) == 0 }

func pick[T any](g *generator, choices ...T) T { return choices[g.r.IntN(len(choices))] }

func (g *generator) step() {
	g.t.Helper()
	g.clock += int64(g.r.IntN(200))
	switch {
	case g.one(400):
		id := MemberID(g.r.IntN(4))
		expected := uint64(g.r.IntN(3))
		if x := g.m.members[id]; x != nil && !g.one(4) {
			expected = x.incarnation
		}
		g.hello(id, expected)
	default:
		g.batch()
	}
	switch {
	case g.one(300):
		g.compare()
	case g.one(300):
		g.snapshot()
	case g.one(10_000):
		g.replay()
	case g.one(100):
		g.freeze()
	}
}

func (g *generator) apply(cmd *command) effects {
	g.t.Helper()
	version := FormatVersion(formatVersion)
	if cmd.init != nil {
		version = cmd.init.version
	}
	e := newEncoder()
	e.command(cmd, version)
	entry := bytes.Clone(e.buf.Bytes())
	g.log = append(g.log, entry)
	decoded, err := decodeCommand(entry)
	if err != nil {
		g.t.Fatalf("decodeCommand: %v", err)
	}
	return g.s.apply(decoded, digestOf(entry))
}

func (g *generator) hello(id MemberID, expected uint64) {
	g.t.Helper()
	h := &helloCommand{expected: expected, nonce: g.r.Uint64(), addr: "x:1"}
	g.apply(&command{kind: commandHello, group: rootGroup, member: id, hello: h})
	taken := g.m.hello(id, h)
	if m := g.s.members.get(id); m != nil && (m.nonce == h.nonce) != taken {
		g.t.Fatalf("hello of member %v at %d: taken = %v, want %v", id, expected, !taken, taken)
	}
}

func (g *generator) batch() {
	g.t.Helper()
	id := MemberID(1 + g.r.IntN(3))
	x := g.m.members[id]
	b := &batchCommand{incarnation: x.incarnation, number: x.number + 1, requests: []request{}}
	if g.one(50) {
		b.number = uint64(g.r.IntN(int(x.number) + 3))
	}
	if g.one(50) {
		b.incarnation = uint64(g.r.IntN(int(x.incarnation) + 2))
	}
	if g.one(30) {
		b.observed = g.m.zxid + ZXID(g.r.IntN(20)) - 10
	}
	if g.one(500) {
		b.observed = g.m.zxid + 1<<41 + ZXID(g.r.IntN(2))
	}
	if g.one(5) {
		b.touch = g.touch()
	}
	for range g.r.IntN(6) {
		b.requests = append(b.requests, g.request())
	}
	eff := g.apply(&command{kind: commandBatch, group: rootGroup, member: id, batch: b})
	want, taken := g.m.batch(id, b)
	if eff.panic != "" {
		g.t.Fatalf("command %d: panic: %s", len(g.log), eff.panic)
	}
	got := g.s.members.get(id)
	if !taken {
		if len(eff.changes)+len(eff.ended) > 0 || eff.touched || got.number != x.number {
			g.t.Fatalf("command %d is out of place but did %+v", len(g.log), eff)
		}
		return
	}
	if got.number != b.number || len(got.results) != len(want) {
		g.t.Fatalf("command %d: number %d with %d results, want %d with %d", len(g.log), got.number, len(got.results), b.number, len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got.results[i], want[i]) {
			g.t.Fatalf("command %d, request %+v\n got %+v\nwant %+v", len(g.log), b.requests[i], got.results[i], want[i])
		}
		g.codes[want[i].firstError()]++
	}
	g.compareEvents(eff)
}

// compareEvents compares the events; those of one session's end may come in any order.
func (g *generator) compareEvents(eff effects) {
	g.t.Helper()
	ended := map[ZXID]bool{}
	for _, ev := range g.m.events {
		ended[ev.ZXID] = true
	}
	for _, ev := range g.m.events {
		if ev.Type != NodeDeleted {
			ended[ev.ZXID] = false
		}
	}
	order := func(events []told) []told {
		out := slices.Clone(events)
		slices.SortStableFunc(out, func(a, b told) int {
			if a.ZXID == b.ZXID && ended[a.ZXID] && len(g.m.ended) > 0 {
				return cmp.Compare(a.Path, b.Path)
			}
			return cmp.Compare(a.ZXID, b.ZXID)
		})
		return out
	}
	if got, want := order(eff.told()), order(g.m.events); !slices.Equal(got, want) {
		g.t.Fatalf("command %d: events\n%v, want\n%v", len(g.log), got, want)
	}
	for _, ev := range eff.told() {
		if ev.Type == NodeCreated {
			g.known = append(g.known, ev.Path)
		}
	}
	if !slices.Equal(eff.ended, g.m.ended) || !slices.Equal(eff.moved, g.m.moved) {
		g.t.Fatalf("command %d: ended %v and moved %v, want %v and %v", len(g.log), eff.ended, eff.moved, g.m.ended, g.m.moved)
	}
}

func (g *generator) touch() *touch {
	t := &touch{lowOnSpace: g.one(30)}
	if g.one(3) {
		t.markMS, t.gapMS = g.clock, int64(g.r.IntN(70_000)-100)
	}
	for g.one(4) {
		t.silences = append(t.silences, g.silence())
	}
	return t
}

func (g *generator) silence() silence {
	c := silence{session: g.session(), silent: g.one(2)}
	c.generation = g.generation(c.session)
	return c
}

// generation returns that of a session, mostly.
func (g *generator) generation(id SessionID) uint64 {
	if s := g.m.sessions[id]; s != nil && !g.one(50) {
		return s.generation
	}
	return pick(g, 0, 1, 2, uint64(g.m.zxid))
}

// session returns the id of a session: mostly one that exists.
func (g *generator) session() SessionID {
	if g.one(30) || len(g.m.sessions) == 0 {
		return SessionID(g.r.Uint64N(uint64(g.m.zxid) + 2))
	}
	ids := make([]SessionID, 0, len(g.m.sessions))
	for id := range g.m.sessions {
		ids = append(ids, id)
	}
	slices.Sort(ids) // or the seed would not decide
	return pick(g, ids...)
}

func (g *generator) request() request {
	r := request{kind: requestWrite, timeMS: g.clock + int64(g.r.IntN(20_000)) - 10_000, identities: g.identities()}
	g.count++
	if g.one(2) {
		r.session = g.session()
		r.generation = g.generation(r.session)
	}
	switch n := g.r.IntN(100); {
	case n < 4 && len(g.m.sessions) < 12:
		r.kind, r.timeoutMS, r.password = requestOpenSession, int64(g.r.IntN(100_000)), [16]byte{byte(g.r.IntN(256))}
	case n < 5:
		r.kind, r.session, r.yield = pick(g, requestCloseSession, requestRelease), g.session(), g.one(2)
		r.generation = g.generation(r.session)
		if r.kind == requestRelease {
			r.yield = false
		}
	case n < 6:
		r.kind = requestExpire
		for range g.r.IntN(3) {
			r.expiries = append(r.expiries, g.expiry())
		}
	case n < 9:
		r.kind = requestReap
		for range g.r.IntN(4) {
			r.reaps = append(r.reaps, g.reap())
		}
	case n < 12:
		g.resumption(&r)
	case n < 13 && g.one(8):
		r.kind, r.version = requestActivate, FormatVersion(1+g.r.IntN(formatVersion))
		if !g.one(4) {
			r.identities = nil
		}
	case n < 13 && g.one(4):
		set := g.s.settings
		set.maxDataBytes = int64(64 - g.r.IntN(5)*g.r.IntN(2))
		r.kind, r.change = requestSettings, &settingsChange{g.s.settings, set}
		r.change.to.ttlNodes = !g.one(3)
		if g.one(4) {
			r.change.from.ttlNodes = !r.change.from.ttlNodes
		}
		if g.one(10) {
			r.change.to.maxDataBytes = 0
		}
		if !g.one(4) {
			r.identities = nil
		}
	case n < 13:
		r.kind, r.template = requestSetTemplate, &template{path: g.path(), list: g.acl(), enforced: g.one(2)}
		if !g.one(4) {
			r.identities = nil
		}
	case n < 15:
		r.kind, r.user = pick(g, requestSetUser, requestSetUser, requestRemoveUser), &user{name: pick(g, "eve", "bob")}
		if r.kind == requestSetUser {
			r.user.hash = conceal("hash")
		}
		if !g.one(4) {
			r.identities = nil
		}
	case n < 21:
		r.kind, r.ops = requestMulti, []op{}
		for range g.r.IntN(6) {
			r.ops = append(r.ops, g.op())
		}
		g.count += len(r.ops)
	default:
		r.ops = []op{g.op()}
	}
	return r
}

// resumption has a session resumed or a claim withdrawn.
func (g *generator) resumption(r *request) {
	r.kind, r.session, r.generation, r.timeoutMS = requestResume, g.session(), 0, int64(g.r.IntN(100_000))-1000
	s := g.m.sessions[r.session]
	if s != nil && !g.one(20) {
		r.password = s.password
	}
	if s != nil && !g.one(10) {
		r.identities = s.identities
	}
	if g.one(3) {
		r.kind, r.timeoutMS, r.password, r.claim = requestWithdraw, 0, [16]byte{}, uint64(g.m.zxid)
		if s != nil && len(s.claims) > 0 {
			r.claim = pick(g, s.claims...).generation
		}
	}
}

func (g *generator) expiry() expiry {
	e := expiry{session: g.session()}
	e.generation = g.generation(e.session)
	if s := g.m.sessions[e.session]; s != nil {
		e.touched = s.token
	}
	if g.one(4) {
		e.touched = uint64(g.r.IntN(3))
	}
	if g.one(10) {
		e.generation = 0
	}
	return e
}

func (g *generator) reap() reap {
	c := reap{path: g.path()}
	if n := g.m.nodes[c.path]; n != nil {
		c.czxid, c.mzxid, c.cversion = n.stat.Czxid, n.stat.Mzxid, n.visible().Cversion
	}
	switch g.r.IntN(12) {
	case 0:
		c.czxid++
	case 1:
		c.mzxid++
	case 2:
		c.cversion--
	}
	return c
}

func (g *generator) identities() []ID {
	switch g.r.IntN(8) {
	case 0:
		return []ID{{"digest", "u:h"}}
	case 1:
		return []ID{{"ip", "10.0.0.1"}, {"digest", "v:h"}, {"digest", "u:h"}}
	case 2:
		return []ID{{"super", ""}}
	case 3:
		return []ID{}
	case 4:
		return []ID{{"x509", "CN=a"}, {"ip", "10.0.0.1"}}
	case 5:
		name := pick(g, "eve", "bob")
		since := g.m.users[name]
		if g.one(5) {
			since = ZXID(g.r.IntN(1000))
		}
		return []ID{{"user", pick(g, name, name+":"+since.String())}, {"user", "eve:0x1"}}
	}
	return nil
}

func (g *generator) acl() []ACL {
	anyone := ID{"world", "anyone"}
	switch g.r.IntN(40) {
	case 0:
		return []ACL{}
	case 1:
		return []ACL{{PermAll, ID{"world", "bob"}}}
	case 2:
		return []ACL{{Perm(g.r.IntN(32)), anyone}}
	case 3, 4:
		return []ACL{{PermAll, ID{"auth", ""}}, {PermRead, anyone}, {PermRead, anyone}}
	case 5:
		return []ACL{{PermAll &^ PermRead, anyone}, {PermRead, ID{"digest", "u:h"}}}
	case 6, 7:
		return []ACL{{PermAll, anyone}, {PermAll, ID{"digest", "v:h"}}}
	case 8, 9:
		return []ACL{{PermRead | PermDelete, anyone}, {PermAll, ID{"user", "eve"}}, {PermWrite, ID{"user", "bob"}}}
	}
	return nil
}

// existing returns the path of a znode that was created and, mostly, is still there.
func (g *generator) existing() string {
	for len(g.known) > 0 {
		i := g.r.IntN(len(g.known))
		p := g.known[i]
		if g.m.nodes[p] != nil || g.one(20) {
			return p
		}
		g.known[i] = g.known[len(g.known)-1]
		g.known = g.known[:len(g.known)-1]
	}
	return "/"
}

func (g *generator) path() string {
	switch {
	case g.one(4):
		return g.existing()
	case g.one(20):
		return strings.TrimSuffix(g.existing(), "/") + "/x"
	}
	if g.one(60) {
		return pick(g, "", "a", "/", "/a/", "//", "/a//b", "/.", "/a/..", "a/b", "/a\x00", "/\x1f", "/\ufffd", "/a/\xff", "/\U0001f600",
			"/zookeeper", "/zookeeper/config", "/zookeeper/quota", "/zookeeper/x")
	}
	p := ""
	for range 1 + g.r.IntN(3) {
		p += "/" + pick(g, "a", "b", "c", "d!", "é", "s-")
	}
	if g.one(10) {
		p += fmt.Sprintf("%010d", g.r.IntN(12))
	}
	return p
}

func (g *generator) data() []byte {
	switch g.r.IntN(12) {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		return make([]byte, 60+g.r.IntN(8))
	case 3:
		return []byte("text")
	}
	return strconv.AppendInt(nil, int64(g.r.IntN(2000)-1000), 10)
}

func (g *generator) op() op {
	o := op{path: g.path(), version: AnyVersion}
	if g.one(4) {
		o.version = int32(g.r.IntN(4) - 2)
	}
	if n := g.m.nodes[o.path]; n != nil {
		if g.one(5) {
			o.version = n.stat.Version
		}
		if g.one(10) {
			o.czxid = n.stat.Czxid + ZXID(g.r.IntN(2))
		}
	}
	switch n := g.r.IntN(100); {
	case g.one(20):
		g.quota(&o)
	case n < 45 && len(g.m.nodes) < 150:
		g.create(&o)
	case n < 60:
		o.kind = opDelete
		if g.one(2) {
			o.path = g.existing()
		}
	case n < 75:
		o.kind, o.data = opSetData, g.data()
	case n < 80:
		o.kind, o.acl = opSetACL, g.acl()
		if g.one(2) {
			o.acl = OpenACL()
		}
	case n < 85:
		o.kind = opCheck
	case n < 88:
		o.kind = opCheckAbsent
	case n < 92:
		o.kind, o.count = pick(g, opCheckChildren, opCheckFewerChildren), int32(g.r.IntN(3))
	default:
		o.kind, o.delta = opAdd, int64(g.r.IntN(2000)-1000)
	}
	return o
}

func (g *generator) create(o *op) {
	o.kind, o.version, o.czxid = opCreate, AnyVersion, 0
	o.data, o.acl = g.data(), g.acl()
	o.mode = CreateMode(g.r.IntN(7))
	if g.one(2) {
		o.mode = pick(g, Persistent, Ephemeral)
	}
	if g.one(100) {
		o.mode = 7
	}
	if o.mode == PersistentTTL || o.mode == PersistentSequentialTTL || g.one(50) {
		o.ttlMS = pick(g, int64(1), 5000, 1<<40-1)
		if g.one(20) {
			o.ttlMS = pick(g, int64(0), -1, 1<<40)
		}
	}
	if g.one(10) {
		o.parents = pick(g, persistentParents, containerParents)
	}
}

func (g *generator) compare() {
	g.t.Helper()
	if d := g.m.difference(g.s); d != "" {
		g.t.Fatalf("after %d commands: %s", len(g.log), d)
	}
	if err := g.s.firstViolation(); err != nil {
		g.t.Fatalf("after %d commands: %v", len(g.log), err)
	}
}

// snapshot takes the state through a snapshot and goes on with one of the two.
func (g *generator) snapshot() {
	g.t.Helper()
	s, err := readSnapshot(rootGroup, bytes.NewReader(snapshotOf(g.t, g.s.freeze())), nil)
	if err != nil {
		g.t.Fatalf("readSnapshot: %v", err)
	}
	if err := s.firstViolation(); err != nil {
		g.t.Fatalf("after a snapshot at %d commands: %v", len(g.log), err)
	}
	if s.digest() != g.s.digest() {
		g.t.Fatalf("a snapshot at %d commands has another digest", len(g.log))
	}
	if g.one(2) {
		g.s = s
	}
}

func (g *generator) replay() {
	g.t.Helper()
	s := newState(rootGroup)
	for _, entry := range g.log {
		cmd, err := decodeCommand(entry)
		if err != nil {
			g.t.Fatalf("decodeCommand: %v", err)
		}
		s.apply(cmd, digestOf(entry))
		if g.one(1000) {
			s.freeze() // batches of another member have other boundaries
		}
	}
	if s.digest() != g.s.digest() || !bytes.Equal(snapshotOf(g.t, s.freeze()), snapshotOf(g.t, g.s.freeze())) {
		g.t.Fatalf("replaying %d commands gives another state", len(g.log))
	}
}

func (g *generator) freeze() {
	g.t.Helper()
	f := g.s.freeze()
	g.frozen = append(g.frozen, frozenCopy{f, f.digest()})
	if len(g.frozen) > 8 {
		g.checkFrozen()
		g.frozen = g.frozen[g.r.IntN(8):]
	}
}

func (g *generator) checkFrozen() {
	g.t.Helper()
	for _, f := range g.frozen {
		if f.s.digest() != f.digest {
			g.t.Fatalf("the copy frozen at %v changed", f.s.zxid)
		}
	}
}
