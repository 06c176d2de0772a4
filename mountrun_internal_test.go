package coord

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"coord/internal/invariants"
)

// TestMountsAreOneTree has random operations done by an ensemble whose subtrees are
// mounted and unmounted meanwhile, and by a single group that has no mounts. Both must
// answer alike, and the znodes of all groups together must be those of the single one.
// Callers route by states of the root group that are behind; steps of mounts are taken
// at random times, in the wrong order, and again long after.
func TestMountsAreOneTree(t *testing.T) {
	operations, most := 40_000, 400_000
	if invariants.Enabled { // the race detector makes all this ten times slower
		operations, most = 4_000, 40_000
	}
	m := newMountRun(t, testSeed(t))
	for n := 0; n < operations || n < most && len(m.unreached()) > 0; n++ {
		m.step()
	}
	m.compare()
	t.Logf("%d mounts, %d unmounts and %d cancelled; %d operations were routed anew, %d waited; codes %v",
		m.mounted, m.unmounted, m.cancelled, m.rerouted, m.waited, m.codes)
	for _, what := range m.unreached() {
		t.Errorf("%s never happened: the test does not reach it", what)
	}
}

// unreached returns what has yet to happen for a run to mean anything.
func (m *mountRun) unreached() (out []string) {
	for what, n := range map[string]int{
		"a mount": m.mounted, "an unmount": m.unmounted, "a cancelled mount": m.cancelled, "a wrong group": m.rerouted, "a sealed znode": m.waited,
		"a repeated step": m.repeated, "a sequential child of a mount": m.sequences, "an ephemeral in a mount": m.ephemerals, "a multi": m.multis,
	} {
		if n == 0 {
			out = append(out, what)
		}
	}
	return out
}

// A mountRun is an ensemble of groups beside one that has no mounts.
type mountRun struct {
	tb     testing.TB
	r      *rand.Rand
	groups map[GroupID]*state
	single *state
	views  []*state // of the root group, the newest last
	taken  []takenStep
	clock  int64

	sessions [][2]SessionID // in the ensemble and in the single group
	latest   map[string]ZXID

	codes                                                     map[Code]int
	mounted, unmounted, cancelled, rerouted, waited, repeated int
	sequences, ephemerals, multis                             int
}

// A takenStep is a step that somebody may try again.
type takenStep struct {
	group GroupID
	step  mountStep
}

func newMountRun(tb testing.TB, seed uint64) *mountRun {
	tb.Helper()
	m := &mountRun{
		tb: tb, r: rand.New(rand.NewPCG(seed, 3)), groups: map[GroupID]*state{}, single: newState(rootGroup), clock: 1_000_000,
		latest: map[string]ZXID{}, codes: map[Code]int{},
	}
	m.groups[rootGroup] = newState(rootGroup)
	for _, s := range []*state{m.groups[rootGroup], m.single} {
		m.begin(s, &initCommand{settings: settings{
			maxDataBytes: 64, minSessionTimeoutMS: 1000, maxSessionTimeoutMS: 60_000, ttlNodes: true, defaultACL: OpenACL(),
		}, members: []memberRecord{{id: 1}}})
	}
	m.look()
	return m
}

// begin applies the first commands of a group.
func (m *mountRun) begin(s *state, in *initCommand) {
	m.tb.Helper()
	in.version, in.ensemble, in.timeMS = formatVersion, "mounts", m.clock
	m.apply(s, &command{kind: commandInit, member: 1, init: in})
	m.apply(s, &command{kind: commandHello, member: 1, hello: &helloCommand{nonce: 1}})
}

func (m *mountRun) apply(s *state, cmd *command) effects {
	m.tb.Helper()
	cmd.group = s.group
	e := newEncoder()
	e.command(cmd, formatVersion)
	entry := bytes.Clone(e.buf.Bytes())
	decoded, err := decodeCommand(entry)
	if err != nil {
		m.tb.Fatalf("decodeCommand: %v", err)
	}
	eff := s.apply(decoded, digestOf(entry))
	if eff.panic != "" {
		m.tb.Fatalf("group %v: panic: %s", s.group, eff.panic)
	}
	return eff
}

// ask applies one request to a group, with what its proposer has observed elsewhere.
func (m *mountRun) ask(s *state, r request) result { //nolint:gocritic // it is kept
	m.tb.Helper()
	member := s.members.get(1)
	b := &batchCommand{incarnation: member.incarnation, number: member.number + 1, requests: []request{r}}
	if s != m.single && m.one(4) {
		for _, g := range m.groups {
			b.observed = max(b.observed, g.zxid)
		}
	}
	m.apply(s, &command{kind: commandBatch, member: 1, batch: b})
	return s.members.get(1).results[0]
}

func (m *mountRun) one(n int) bool { return m.r.IntN(n) == 0 }

func (m *mountRun) root() *state { return m.groups[rootGroup] }

// look keeps the root group's state as it is now, for callers who will be behind.
func (m *mountRun) look() {
	m.views = append(m.views, m.root().freeze())
	if len(m.views) > 5 {
		m.views = m.views[1:]
	}
}

func (m *mountRun) step() {
	m.tb.Helper()
	m.clock += int64(m.r.IntN(50))
	switch {
	case m.one(12):
		m.mountStep()
	case m.one(40):
		m.repeat()
	case m.one(60):
		m.openOrClose()
	case m.one(15):
		m.multi()
	default:
		m.operation()
	}
	switch {
	case m.one(100):
		m.compare()
	case m.one(200):
		m.snapshots()
	}
}

func (m *mountRun) path() string {
	names := []string{"/a", "/b", "/ab", "/a/b", "/a/c", "/a/b/c", "/b/a", "/b/a/d", "/a/b/c/d", "/c"}
	return names[m.r.IntN(len(names))]
}

// op draws an operation. None is of a session yet.
func (m *mountRun) op() op {
	o := op{path: m.path(), version: AnyVersion}
	switch m.r.IntN(12) {
	case 0, 1, 2:
		o.kind, o.data = opCreate, []byte("new")
		o.mode = []CreateMode{Persistent, Persistent, PersistentSequential, Container}[m.r.IntN(4)]
		if m.one(3) {
			o.parents = persistentParents
		}
		if o.mode.sequential() {
			o.path += "/n-"
		}
	case 3, 4, 9, 10, 11:
		o.kind = opDelete
		if !m.one(4) {
			o.path = m.leaf(o.path)
		}
	case 5:
		o.kind, o.data = opSetData, fmt.Append(nil, m.r.IntN(100))
	case 6:
		o.kind, o.delta = opAdd, 1
	case 7:
		o.kind, o.acl = opSetACL, []ACL{{PermAll, ID{schemeWorld, "anyone"}}, {Perm(1 + m.r.IntN(7)), ID{schemeEnsemble, "member"}}}
	case 8:
		o.kind = []opKind{opCheck, opCheckAbsent, opCheckChildren, opCheckFewerChildren}[m.r.IntN(4)]
		o.count = int32(m.r.IntN(3))
	}
	if m.one(5) && (o.kind == opDelete || o.kind == opSetData || o.kind == opCheck) {
		o.version = int32(m.r.IntN(3))
	}
	return o
}

// leaf returns a path below path that has no children, so that deletes keep the tree
// small.
func (m *mountRun) leaf(path string) string {
	k, _ := keyOf(path)
	var names []string
	for name := range m.single.tree.childrenAfter(k, "") {
		names = append(names, name)
	}
	if len(names) == 0 {
		return path
	}
	return m.leaf(joinPath(path, names[m.r.IntN(len(names))]))
}

// keptName reports whether an operation would delete what mounts keep.
func (m *mountRun) keptName(o *op) bool {
	return o.kind == opDelete && m.root().mounts.at(o.path) != nil
}

func (m *mountRun) operation() {
	m.tb.Helper()
	o := m.op()
	if m.keptName(&o) {
		if res := m.ask(m.root(), m.write(o)); res.ops[0].code != codeSealed && res.ops[0].code != ErrMounted {
			m.tb.Fatalf("delete of the mount point %s = %v", o.path, res.ops[0].code)
		}
		return
	}
	own, single := m.write(o), m.write(o)
	if o.kind == opCreate && len(m.sessions) > 0 && m.one(3) {
		ids := m.sessions[m.r.IntN(len(m.sessions))]
		own.session, single.session = ids[0], ids[1]
		own.generation, single.generation = firstGeneration, firstGeneration
		for _, r := range []*request{&own, &single} {
			if o.mode == PersistentSequential {
				r.ops[0].mode = EphemeralSequential
			} else {
				r.ops[0].mode = Ephemeral
			}
		}
	}
	server, got := m.route(own)
	want := m.ask(m.single, single)
	m.hold(own.ops, got.ops, want.ops)
	if got.ops[0].code == codeOK && server != m.root() {
		if own.session != 0 {
			m.ephemerals++
		} else if o.mode.sequential() {
			m.sequences++
		}
	}
}

func (m *mountRun) write(o op) request { //nolint:gocritic // it is kept
	return request{kind: requestWrite, ops: []op{o}, timeMS: m.clock}
}

// multi draws a multi whose operations are all of one group.
func (m *mountRun) multi() {
	m.tb.Helper()
	r := request{kind: requestMulti, timeMS: m.clock}
	for range 2 + m.r.IntN(2) {
		o := m.op()
		server, _ := m.root().serverOf(o.place())
		if len(r.ops) > 0 {
			if first, _ := m.root().serverOf(r.ops[0].place()); first != server {
				continue
			}
		}
		if !m.keptName(&o) {
			r.ops = append(r.ops, o)
		}
	}
	if len(r.ops) == 0 {
		return
	}
	twin := r
	twin.ops = slices.Clone(r.ops)
	server, got := m.route(r)
	if server == nil {
		return // it crosses a mount by now
	}
	m.hold(r.ops, got.ops, m.ask(m.single, twin).ops)
	m.multis++
}

// route has a request executed as a caller does whose root group is behind. It returns
// nil if there is a mount between the operations.
func (m *mountRun) route(r request) (*state, result) { //nolint:gocritic // it is kept
	m.tb.Helper()
	view := m.views[m.r.IntN(len(m.views))]
	for range 20 {
		id, _ := view.serverOf(r.ops[0].place())
		s := m.groups[id]
		var res result
		if r.session != 0 && !s.serves.none() {
			res = m.ask(s, request{kind: requestEnter, session: r.session, generation: r.generation, timeoutMS: 5000})
		}
		if res.code == codeOK {
			res = m.ask(s, r)
		}
		switch res.firstError() {
		case ErrWrongGroup:
			m.rerouted++
		case codeSealed:
			m.waited++
			m.settle()
		default:
			return s, res
		}
		view = m.root()
		first, _ := view.serverOf(r.ops[0].place())
		for i := range r.ops {
			if server, _ := view.serverOf(r.ops[i].place()); server != first {
				return nil, result{}
			}
		}
	}
	m.tb.Fatalf("%+v is nobody's", r.ops)
	return nil, result{}
}

// hold compares answers. zxids and times are each group's own.
func (m *mountRun) hold(ops []op, got, want []opResult) {
	m.tb.Helper()
	if len(got) != len(want) {
		m.tb.Fatalf("%+v: %d results, want %d", ops, len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		g.stat, w.stat = ofAll(g.stat), ofAll(w.stat)
		if g != w {
			m.tb.Fatalf("%+v\n got %+v\nwant %+v", ops[i], g, w)
		}
		m.codes[g.code]++
	}
}

// ofAll returns what two groups have in common of a stat.
func ofAll(s Stat) Stat {
	s.Czxid, s.Mzxid, s.Pzxid, s.Ctime, s.Mtime, s.EphemeralOwner = 0, 0, 0, 0, 0, 0
	return s
}

// openOrClose opens a session, or closes one in every group, the root group's last.
func (m *mountRun) openOrClose() {
	m.tb.Helper()
	if len(m.sessions) < 3 {
		open := request{kind: requestOpenSession, timeoutMS: 5000}
		m.sessions = append(m.sessions, [2]SessionID{m.ask(m.root(), open).session, m.ask(m.single, open).session})
		return
	}
	ids := m.sessions[0]
	m.sessions = m.sessions[1:]
	for id, s := range m.groups {
		if _, entered := s.sessions.get(ids[0]); entered && id != rootGroup {
			m.ask(s, request{kind: requestCloseSession, session: ids[0], generation: firstGeneration})
		}
	}
	m.ask(m.root(), request{kind: requestCloseSession, session: ids[0], generation: firstGeneration})
	m.ask(m.single, request{kind: requestCloseSession, session: ids[1], generation: firstGeneration})
	for id, s := range m.groups {
		if id == rootGroup || !s.sessions.isTombstone(ids[0]) || !ids[0].closedIn(m.root()) {
			continue
		}
		if res := m.ask(s, request{kind: requestForget, forgotten: []SessionID{ids[0]}}); res.code != codeOK || s.sessions.isTombstone(ids[0]) {
			m.tb.Fatalf("forgetting %v: %v", ids[0], res.code)
		}
	}
}

// take takes a step in a group.
func (m *mountRun) take(g GroupID, st mountStep) Code { //nolint:gocritic // it is kept
	m.tb.Helper()
	code := m.ask(m.groups[g], request{kind: requestMountStep, step: &st, timeMS: m.clock}).code
	m.taken = append(m.taken, takenStep{g, st})
	m.look()
	return code
}

// repeat takes a step again that was taken at some time.
func (m *mountRun) repeat() {
	m.tb.Helper()
	if len(m.taken) == 0 {
		return
	}
	again := m.taken[m.r.IntN(len(m.taken))]
	if again.step.kind == stepSeal {
		return // it is no compare-and-set: it may begin another mount
	}
	m.repeated++
	if code := m.ask(m.groups[again.group], request{kind: requestMountStep, step: &again.step}).code; code == codeOK {
		m.note(again.step.kind)
	}
	m.look()
}

func (m *mountRun) note(kind mountStepKind) {
	switch kind {
	case stepFlip:
		m.mounted++
	case stepCancel:
		m.cancelled++
	case stepTakeBack:
		m.unmounted++
	case stepSeal, stepSealGroup:
	}
}

// mountStep begins a mount or an unmount, or goes on with one.
func (m *mountRun) mountStep() {
	m.tb.Helper()
	if m.one(3) {
		path := m.path()
		empty := false
		if n, ok := m.root().tree.find(path); ok && m.root().mounts.overlapping(path) == nil {
			empty = n.kind == Persistent && n.children == 0
		}
		if code := m.take(rootGroup, mountStep{kind: stepSeal, path: path}); (code == codeOK) != empty {
			m.tb.Fatalf("seal %s = %v, want success %v", path, code, empty)
		}
		return
	}
	for mt := range m.root().mounts.all() {
		if m.one(2) {
			m.goOn(mt)
			return
		}
	}
}

// goOn takes the next step of a mount.
func (m *mountRun) goOn(mt *mount) {
	m.tb.Helper()
	step := mountStep{path: mt.path, group: mt.group}
	s := m.groups[mt.group]
	switch {
	case mt.phase == mountSealed && s == nil:
		seed, _, ok := m.root().seedOf(mt.group)
		if !ok {
			m.tb.Fatalf("no seed for the sealed %s", mt.path)
		}
		m.groups[mt.group] = newState(mt.group)
		m.begin(m.groups[mt.group], &initCommand{settings: m.root().settings, members: mt.members, seed: seed})
		return
	case mt.phase == mountSealed && m.one(4):
		step.kind = stepCancel
	case mt.phase == mountSealed:
		step.kind = stepFlip
	case s.serves.sealed == 0:
		step.kind = stepSealGroup
		empty := s.tree.nodes.len() == 2
		if code := m.take(mt.group, step); (code == codeOK) != empty {
			m.tb.Fatalf("seal of the group of %s = %v, want success %v", mt.path, code, empty)
		}
		return
	default:
		step.kind, step.zxid = stepTakeBack, s.serves.sealed
		step.back, _ = s.imageAt(mt.path)
	}
	if code := m.take(rootGroup, step); code != codeOK {
		m.tb.Fatalf("step %d of %s = %v", step.kind, mt.path, code)
	}
	m.note(step.kind)
}

// settle takes a step with which something sealed goes on. If nothing is, whoever waits
// has asked a group whose znode was taken back.
func (m *mountRun) settle() {
	m.tb.Helper()
	for mt := range m.root().mounts.all() {
		if mt.phase == mountSealed || m.groups[mt.group].serves.sealed != 0 {
			m.goOn(mt)
			return
		}
	}
}

// compare holds the znodes of all groups beside those of the single one, and looks for
// broken invariants.
func (m *mountRun) compare() {
	m.tb.Helper()
	for id, s := range m.groups {
		if err := s.firstViolation(); err != nil {
			m.tb.Fatalf("group %v: %v", id, err)
		}
	}
	znodes := map[string]bool{}
	for it := range m.single.tree.nodes.all() {
		path := it.key.path()
		if path == pathSystem || strings.HasPrefix(path, pathSystem+"/") {
			continue
		}
		znodes[path] = true
		id, _ := m.root().serverOf(path)
		n, ok := m.groups[id].tree.find(path)
		if !ok {
			m.tb.Fatalf("group %v has no %s", id, path)
		}
		if string(n.data) != string(it.node.data) || (n.data == nil) != (it.node.data == nil) || n.kind != it.node.kind ||
			n.acl.canonical != it.node.acl.canonical || n.creates != it.node.creates || ofAll(n.stat()) != ofAll(it.node.stat()) {
			m.tb.Fatalf("group %v has %s as %+v, want %+v", id, path, n, it.node)
		}
		if last := max(n.mzxid, n.pzxid); last < m.latest[path] {
			m.tb.Fatalf("the zxid of %s fell from %v to %v", path, m.latest[path], last)
		} else {
			m.latest[path] = last
		}
	}
	for id, s := range m.groups {
		for it := range s.tree.nodes.all() {
			path := it.key.path()
			server, _ := m.root().serverOf(path)
			if server == id && !znodes[path] && path != pathSystem && !strings.HasPrefix(path, pathSystem+"/") {
				m.tb.Fatalf("group %v has %s, which should not be", id, path)
			}
		}
	}
	for path := range m.latest {
		if !znodes[path] {
			delete(m.latest, path) // the next one of the name may be of a group that is behind
		}
	}
}

// snapshots takes every group through a snapshot.
func (m *mountRun) snapshots() {
	m.tb.Helper()
	for id, s := range m.groups {
		image := snapshotOf(m.tb, s.freeze())
		read, err := readSnapshot(id, bytes.NewReader(image), nil)
		if err != nil {
			m.tb.Fatalf("group %v: readSnapshot: %v", id, err)
		}
		if !bytes.Equal(snapshotOf(m.tb, read.freeze()), image) || read.digest() != s.digest() {
			m.tb.Fatalf("group %v: the snapshot gives another state", id)
		}
		m.groups[id] = read
	}
	m.look()
}
