package crashtest_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord"
)

// An observation is what is found after a round, when nothing is under way and
// every member is up.
type observation struct {
	nodes    map[string]node
	zxid     coord.ZXID                   // of the root group
	groups   map[coord.GroupID]coord.ZXID // of the mounts' groups
	place    string                       // of all
	views    map[coord.MemberID]reply     // zxid and digest of each member
	held     map[string]bool              // sessions whose handles were alive after the dump
	dead     map[string]bool              // sessions that ended long enough before for their ephemerals to vanish
	sessions int                          // that the ensemble has
	wantSess int                          // that live members hold
	missing  map[string]time.Duration     // ephemerals seen to be missing, and when
	suspend  time.Duration                // how old a sign of life can be of which "connected" is said
}

// A checker explains an observation by the ledger.
type checker struct {
	l *ledger
	o *observation
	findings
}

// Findings are what is wrong.
type findings struct{ errs []error }

func (f *findings) wrong(format string, args ...any) {
	if len(f.errs) < 30 { // more says no more
		f.errs = append(f.errs, fmt.Errorf(format, args...))
	}
}

// found returns what is wrong, and forgets it.
func (f *findings) found() error {
	err := errors.Join(f.errs...)
	f.errs = nil
	return err
}

// check returns everything that the ledger does not explain. If there is nothing,
// it settles what was unknown by what was found.
func (l *ledger) check(o *observation, h *history) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &checker{l: l, o: o, findings: findings{l.violations}}
	l.violations = nil
	c.refusals()
	c.sequential()
	c.counters()
	c.registers()
	c.reads()
	c.pairs()
	c.ephemerals()
	c.views()
	c.order()
	c.strays()
	c.linearizable(h)
	if err := c.found(); err != nil {
		return err
	}
	c.settle()
	return nil
}

// bounds returns how many of the entries must have taken effect and how many can
// have.
func bounds(es []*entry) (least, most int) {
	for _, e := range es {
		switch e.Outcome {
		case acked:
			least++
			most++
		case unknown:
			most++
		case refused, pending:
		}
	}
	return least, most
}

func (c *checker) of(k kind) []*entry {
	var es []*entry
	for _, e := range c.l.entries {
		if e.Kind == k {
			es = append(es, e)
		}
	}
	return es
}

// refusals checks that nothing was refused for a reason that cannot be, and that
// no request is still open.
func (c *checker) refusals() {
	for _, e := range c.l.entries {
		if e.Outcome == pending {
			c.wrong("entry %d (%s %s) was neither answered nor given up", e.ID, e.Kind, e.Path)
		}
		if e.Outcome != refused || e.Reply == nil || e.Late {
			continue
		}
		if environmental(e.Reply) && (c.l.noSpace || e.Reply.Code != coord.ErrNoSpace) {
			continue
		}
		if e.Reply.Code == coord.ErrBadVersion && (e.Kind == cas || e.Kind == badPair) {
			continue
		}
		c.wrong("entry %d (%s %s) was refused: %s", e.ID, e.Kind, e.Path, e.Reply.Error)
	}
	for _, e := range c.of(badPair) {
		if e.Outcome == acked {
			c.wrong("entry %d: a multi with a false condition was acknowledged", e.ID)
		}
	}
}

// sequential checks that no acknowledged znode is lost, none made twice, none
// made though it was refused, and none back after it was deleted; that numbers
// grow with czxids; and that the parent has counted them all.
func (c *checker) sequential() {
	made := map[uint64][]node{}
	for path, n := range c.o.nodes {
		if strings.HasPrefix(path, seqDir+"/") {
			id, err := strconv.ParseUint(n.Data, 10, 64)
			if err != nil {
				c.wrong("%s has data %q, which nobody wrote", path, n.Data)
			}
			made[id] = append(made[id], n)
		}
	}
	deletes := map[uint64]outcome{}
	dels := c.of(delSeq)
	for _, e := range dels {
		deletes[e.Target] = e.Outcome
	}
	creates := c.of(seqCreate)
	for _, e := range creates {
		c.oneSequential(e, made[e.ID], deletes[e.ID])
		delete(made, e.ID)
	}
	for id, ns := range made {
		c.wrong("%s was made by nobody: entry %d is no sequential create", ns[0].Path, id)
	}
	c.sequenceOrder()
	parent := c.o.nodes[seqDir].Stat
	least, most := bounds(creates)
	leastD, mostD := bounds(dels)
	if int(parent.Cversion) < least+leastD || int(parent.Cversion) > most+mostD {
		c.wrong("%s has cversion %d, want %d to %d creates and %d to %d deletes", seqDir, parent.Cversion, least, most, leastD, mostD)
	}
}

func (c *checker) oneSequential(e *entry, found []node, deleted outcome) {
	if len(found) > 1 {
		c.wrong("doubled znode: entry %d made %s and %s", e.ID, found[0].Path, found[1].Path)
	}
	if len(found) == 0 {
		if e.Outcome == acked && (deleted == pending || deleted == refused) {
			c.wrong("lost znode: entry %d was acknowledged as %v and is not there (its delete: %q)", e.ID, replyPath(e), deleted)
		}
		return
	}
	n := found[0]
	switch {
	case e.Outcome == refused:
		c.wrong("entry %d was refused and has made %s", e.ID, n.Path)
	case deleted == acked:
		c.wrong("resurrected znode: %s of entry %d was deleted", n.Path, e.ID)
	case e.Reply != nil && e.Reply.Stat != nil && (n.Path != e.Reply.Path || n.Stat != *e.Reply.Stat):
		c.wrong("entry %d was acknowledged as %s %+v and is %s %+v", e.ID, e.Reply.Path, *e.Reply.Stat, n.Path, n.Stat)
	case n.Stat.Version != 0 || n.Stat.Mzxid != n.Stat.Czxid || n.Stat.Pzxid != n.Stat.Czxid || int(n.Stat.DataLength) != len(n.Data) || n.Stat.EphemeralOwner != 0:
		c.wrong("%s was never modified and has %+v", n.Path, n.Stat)
	}
}

func replyPath(e *entry) string {
	if e.Reply == nil {
		return "(no answer)"
	}
	return e.Reply.Path
}

func (c *checker) sequenceOrder() {
	var ns []node
	for path, n := range c.o.nodes {
		if strings.HasPrefix(path, seqDir+"/") {
			ns = append(ns, n)
		}
	}
	slices.SortFunc(ns, func(a, b node) int { return cmp.Compare(a.Path, b.Path) })
	for i := 1; i < len(ns); i++ {
		if ns[i].Stat.Czxid <= ns[i-1].Stat.Czxid {
			c.wrong("%s was created at %v, but %s at %v", ns[i-1].Path, ns[i-1].Stat.Czxid, ns[i].Path, ns[i].Stat.Czxid)
		}
	}
}

// fresh returns the entries of a kind for a path that are not settled yet.
func (c *checker) fresh(path string, kinds ...kind) []*entry {
	var es []*entry
	for _, e := range c.l.entries {
		if e.Path == path && !e.Counted && slices.Contains(kinds, e.Kind) {
			es = append(es, e)
		}
	}
	return es
}

// below returns the children of dir in the order of their names.
func (c *checker) below(dir string) []node {
	var ns []node
	for path, n := range c.o.nodes {
		if strings.HasPrefix(path, dir+"/") {
			ns = append(ns, n)
		}
	}
	slices.SortFunc(ns, func(a, b node) int { return cmp.Compare(a.Path, b.Path) })
	return ns
}

// counters checks that each counter has what was acknowledged, and no more than
// what may have been added, once each; and that its version tells the same.
func (c *checker) counters() {
	for _, n := range c.below(ctrDir) {
		kinds := []kind{add, cas}
		if n.Path == pairCtr {
			kinds = []kind{pair}
		}
		es := c.fresh(n.Path, kinds...)
		if n.Path == pairCtr {
			es = c.freshPairs()
		}
		was := c.l.values[n.Path]
		value, err := strconv.ParseInt(n.Data, 10, 64)
		if err != nil && n.Data != "" {
			c.wrong("%s has data %q", n.Path, n.Data)
		}
		c.version(n, was, es)
		least, most := was.value, was.value
		for _, e := range es {
			switch e.Outcome {
			case acked:
				least += e.Delta
				most += e.Delta
			case unknown:
				most += e.Delta
			case refused, pending:
			}
		}
		if value < least || value > most {
			c.wrong("%s is %d, want %d to %d", n.Path, value, least, most)
		}
	}
}

func (c *checker) freshPairs() []*entry {
	return slices.DeleteFunc(c.of(pair), func(e *entry) bool { return e.Counted })
}

// version checks that a znode was modified as often as was acknowledged, at most
// as often as was asked, and that no two were told the same version.
func (c *checker) version(n node, was settled, es []*entry) {
	least, most := bounds(es)
	if v := n.Stat.Version - was.version; int(v) < least || int(v) > most {
		c.wrong("%s was modified %d times since the last round, want %d to %d", n.Path, v, least, most)
	}
	told := map[int32]*entry{}
	for _, e := range es {
		if e.Outcome != acked || e.Reply == nil || e.Reply.Stat == nil || e.Late {
			continue
		}
		v := e.Reply.Stat.Version
		if first := told[v]; first != nil {
			c.wrong("%s: entries %d and %d were both told version %d", n.Path, first.ID, e.ID, v)
		}
		told[v] = e
		if v <= was.version || v > n.Stat.Version {
			c.wrong("%s: entry %d was told version %d; the znode went from %d to %d", n.Path, e.ID, v, was.version, n.Stat.Version)
		}
		if e.Kind == cas && v != e.Version+1 {
			c.wrong("%s: entry %d was conditional on version %d and made version %d", n.Path, e.ID, e.Version, v)
		}
		if v == n.Stat.Version && e.Reply.Stat.Mzxid != n.Stat.Mzxid {
			c.wrong("%s: version %d was acknowledged at %v and is from %v", n.Path, v, e.Reply.Stat.Mzxid, n.Stat.Mzxid)
		}
	}
}

// registers checks that the last write that was acknowledged is there, unless one
// of unknown outcome came behind it.
func (c *checker) registers() {
	for _, n := range c.below(regDir) {
		es := c.fresh(n.Path, regWrite)
		was := c.l.values[n.Path]
		c.version(n, was, es)
		if n.Stat.Version == was.version && n.Data == was.data {
			continue
		}
		i := slices.IndexFunc(es, func(e *entry) bool { return e.data() == n.Data })
		switch {
		case i < 0:
			c.wrong("%s has %q at version %d, which nobody wrote in this round (it was %q at %d)", n.Path, n.Data, n.Stat.Version, was.data, was.version)
		case es[i].Outcome == refused:
			c.wrong("%s has the value of entry %d, which was refused", n.Path, es[i].ID)
		case es[i].Outcome == acked && !es[i].Late && es[i].Reply.Stat.Version != n.Stat.Version:
			c.wrong("%s has the value of entry %d, acknowledged as version %d, at version %d", n.Path, es[i].ID, es[i].Reply.Stat.Version, n.Stat.Version)
		}
	}
}

// reads checks that no linearizable read missed a write that was acknowledged
// before it began, and that all of them saw something that was written.
func (c *checker) reads() {
	type write struct {
		end     time.Duration
		version int32
	}
	acks := map[string][]write{}
	byData := map[string]*entry{}
	for _, e := range c.of(regWrite) {
		byData[e.data()] = e
		if e.Outcome == acked && !e.Late && e.Reply.Stat != nil {
			acks[e.Path] = append(acks[e.Path], write{e.End, e.Reply.Stat.Version})
		}
	}
	for _, ws := range acks { // by end, each with the highest version so far
		slices.SortFunc(ws, func(a, b write) int { return cmp.Compare(a.end, b.end) })
		for i := 1; i < len(ws); i++ {
			ws[i].version = max(ws[i].version, ws[i-1].version)
		}
	}
	for _, e := range c.of(regRead) {
		if e.Outcome != acked || e.Reply.Stat == nil {
			continue
		}
		ws := acks[e.Path]
		i, _ := slices.BinarySearchFunc(ws, e.Begin, func(w write, at time.Duration) int { return cmp.Compare(w.end, at) })
		if i > 0 && e.Reply.Stat.Version < ws[i-1].version {
			c.wrong("stale read: entry %d saw version %d of %s, %d was acknowledged before", e.ID, e.Reply.Stat.Version, e.Path, ws[i-1].version)
		}
		w := byData[e.Reply.Data]
		switch {
		case e.Reply.Data == "" && e.Reply.Stat.Version == 0:
		case w == nil || w.Path != e.Path || w.Begin > e.End || w.Outcome == refused:
			c.wrong("entry %d saw %q in %s, which nobody had written", e.ID, e.Reply.Data, e.Path)
		case w.Outcome == acked && !w.Late && w.Reply.Stat.Version != e.Reply.Stat.Version:
			c.wrong("entry %d saw version %d of entry %d, acknowledged as version %d", e.ID, e.Reply.Stat.Version, w.ID, w.Reply.Stat.Version)
		}
	}
}

func pairPaths(e *entry) (a, b string) {
	return fmt.Sprintf("%s/a-%d", pairDir, e.ID), fmt.Sprintf("%s/b-%d", pairDir, e.ID)
}

// pairs checks that a multi was executed as a whole, or not at all, as it was
// told; and that the count, which is part of each, agrees.
func (c *checker) pairs() {
	found := 0
	for _, e := range append(c.of(pair), c.of(badPair)...) {
		pa, pb := pairPaths(e)
		a, hasA := c.o.nodes[pa]
		b, hasB := c.o.nodes[pb]
		switch {
		case hasA != hasB:
			c.wrong("half a multi: entry %d: %s is there: %v, %s is there: %v", e.ID, pa, hasA, pb, hasB)
		case hasA && a.Stat.Czxid != b.Stat.Czxid:
			c.wrong("entry %d: %s was created at %v, %s at %v", e.ID, pa, a.Stat.Czxid, pb, b.Stat.Czxid)
		case hasA && (a.Data != e.data() || b.Data != e.data()):
			c.wrong("entry %d: data %q and %q", e.ID, a.Data, b.Data)
		case !hasA && e.Outcome == acked:
			c.wrong("lost multi: entry %d was acknowledged", e.ID)
		case hasA && (e.Outcome == refused || e.Kind == badPair):
			c.wrong("entry %d was refused and has made %s", e.ID, pa)
		}
		if hasA {
			found++
		}
	}
	if n := c.o.nodes[pairCtr].Data; n != fmt.Sprint(found) && (n != "" || found > 0) {
		c.wrong("%s is %q, but there are %d pairs", pairCtr, n, found)
	}
	if have := len(c.below(pairDir)); have != 2*found {
		c.wrong("%s has %d children, want %d of %d pairs", pairDir, have, 2*found, found)
	}
}

// ephemerals checks that the znodes of sessions that are held are there, that
// those of dead ones are gone in time, not too early, and for ever.
func (c *checker) ephemerals() {
	for _, e := range c.of(ephemeral) {
		s := c.l.sessions[e.Session]
		n, there := c.o.nodes[e.Path]
		if there && e.Outcome == refused {
			c.wrong("entry %d was refused and has made %s", e.ID, e.Path)
		}
		if there && n.Stat.EphemeralOwner != s.id {
			c.wrong("%s belongs to session %v, want %v", e.Path, n.Stat.EphemeralOwner, s.id)
		}
		switch {
		case c.o.held[e.Session] && e.Outcome == acked && !there:
			c.wrong("lost ephemeral: %s of session %s, whose handle is alive", e.Path, e.Session)
		case there && s.gone:
			c.wrong("resurrected ephemeral: %s of session %s was gone", e.Path, e.Session)
		case there && c.o.dead[e.Session]:
			c.wrong("%s is there, but session %s died %v before", e.Path, e.Session, c.l.now()-s.died)
		}
		c.tooEarly(e, s)
	}
	if c.o.sessions != c.o.wantSess {
		c.wrong("the ensemble has %d sessions, but %d are held", c.o.sessions, c.o.wantSess)
	}
}

// tooEarly checks that a session that was not closed lived for its timeout. What
// is known is when it was last connected, which is said for as long as the
// member's last sign of life is not too old. A handle ends a twentieth of the
// timeout early, and has its session closed if it can.
func (c *checker) tooEarly(e *entry, s *session) {
	at, ok := c.o.missing[e.Path]
	if !ok || e.Outcome != acked || s.farewell || s.excused {
		return
	}
	if until := s.lastConnected - c.o.suspend + s.timeout*19/20; at < until {
		c.wrong("%s was gone at %v, but session %s with a timeout of %v was connected at %v", e.Path, at, e.Session, s.timeout, s.lastConnected)
	}
}

// views checks that all members show the same, and nothing older than what
// anybody was told.
func (c *checker) views() {
	for id, v := range c.o.views {
		if was, ok := c.l.digests[placeOf(&v)]; ok && was != v.Digest {
			c.wrong("member %v has digest %.8s at %s, another one %.8s", id, v.Digest, placeOf(&v), was)
		}
		c.l.digests[placeOf(&v)] = v.Digest
		if v.ZXID != c.o.zxid {
			c.wrong("member %v is at %v, the dump at %v", id, v.ZXID, c.o.zxid)
		}
	}
	highest := c.o.zxid
	for _, z := range c.o.groups {
		highest = max(highest, z)
	}
	for domain, z := range c.l.maxZXID {
		if domain == theRest && c.o.zxid < z || highest < z {
			c.wrong("all members are at %v and %v, but %v was acknowledged", c.o.zxid, c.o.groups, z)
		}
	}
	for path, n := range c.o.nodes {
		if z := max(n.Stat.Czxid, n.Stat.Mzxid, n.Stat.Pzxid); z > highest {
			c.wrong("%s has zxid %v, the tree %v", path, z, highest)
		}
	}
}

// order checks that the writes of each domain are in the order of their zxids, which no
// two share, as far as real time tells: what was acknowledged before something else was
// asked for comes first.
func (c *checker) order() {
	domains := map[string][]*entry{}
	for _, e := range c.l.entries {
		if e.Kind != regRead && e.zxid() != 0 {
			domain := c.l.domainLocked(e)
			domains[domain] = append(domains[domain], e)
		}
	}
	for _, es := range domains {
		c.orderOf(es)
	}
}

func (c *checker) orderOf(es []*entry) {
	slices.SortFunc(es, func(a, b *entry) int { return cmp.Compare(a.zxid(), b.zxid()) })
	latest := &entry{Begin: math.MinInt64}
	for i, e := range es {
		if i > 0 && e.zxid() == es[i-1].zxid() {
			c.wrong("entries %d and %d were both given %v", es[i-1].ID, e.ID, e.zxid())
		}
		if e.End < latest.Begin {
			c.wrong("entry %d was acknowledged before entry %d was asked for, but has %v and not less than %v", e.ID, latest.ID, e.zxid(), latest.zxid())
		}
		if e.Begin > latest.Begin {
			latest = e
		}
	}
}

// strays checks that there is nothing else, and that parents count right.
func (c *checker) strays() {
	known := map[string]bool{"/": true, "/zookeeper": true, "/zookeeper/quota": true, "/zookeeper/config": true}
	for _, dir := range []string{seqDir, ctrDir, regDir, pairDir, ephDir, tickDir, lockDir, guardDir, doneDir, queuePath} {
		known[dir] = true
	}
	for _, e := range c.of(ephemeral) {
		known[e.Path] = true
	}
	children := map[string]int32{}
	for path := range c.o.nodes {
		parent := path[:max(strings.LastIndexByte(path, '/'), 1)]
		if path != "/" {
			children[parent]++
		}
		if parent == "/" || parent == ephDir || parent == "/zookeeper" {
			if !known[path] {
				c.wrong("stray znode %s", path)
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(c.o.nodes)) {
		if n := c.o.nodes[path]; n.Stat.NumChildren != children[path] {
			c.wrong("%s has %d children and says %d", path, children[path], n.Stat.NumChildren)
		}
	}
}

// settle decides what was unknown by what was found. It is called only when the
// processes that were asked have answered a later write, or were replaced.
func (c *checker) settle() {
	there := map[string]bool{}
	for path, n := range c.o.nodes {
		there[path] = true
		if strings.HasPrefix(path, seqDir+"/") {
			there[seqDir+n.Data] = true
		}
		if strings.HasPrefix(path, ctrDir+"/") || strings.HasPrefix(path, regDir+"/") {
			v, _ := strconv.ParseInt(n.Data, 10, 64)
			c.l.values[path] = settled{version: n.Stat.Version, value: v, data: n.Data}
		}
	}
	for _, e := range c.l.entries {
		e.Counted = true
		if e.Outcome != unknown {
			continue
		}
		found := false
		switch e.Kind {
		case seqCreate:
			found = there[seqDir+e.data()]
		case delSeq:
			found = !there[seqDir+fmt.Sprint(e.Target)]
		case pair, badPair:
			a, _ := pairPaths(e)
			found = there[a]
		case ephemeral, regRead, add, cas, regWrite:
			continue // sessions end; counters and registers are settled as a whole
		}
		e.Outcome = refused
		if found {
			e.Outcome = acked
		}
		e.Late = true
	}
	for key := range c.o.dead {
		c.l.sessions[key].gone = true
	}
}
